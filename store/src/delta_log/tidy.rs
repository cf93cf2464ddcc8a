//! What may be deleted below a table's directory: files of ours that no version needs, and old entries of the log.

use std::{
    collections::HashSet,
    fs::{self, DirEntry},
    path::Path,
    sync::Weak,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use super::{Replaced, checkpoint_seal::LAST_CHECKPOINT};
use crate::{
    error::{Error, Result},
    failpoint::{self, Failpoint},
    file_name::FileName,
    live_file::{now_ms, parse_date},
    partial_file::remove_unused,
};

/// Checkpoints that stay, with all entries after the oldest of them.
const CHECKPOINTS_KEPT: usize = 2;

/// Deletes `path`; a failure is logged, as the next start tries again.
pub(super) fn delete(path: &Path) {
    match failpoint::hit(Failpoint::DeltaBeforeDelete, path) {
        Ok(()) => remove_unused(path),
        Err(error) => tracing::warn!(%error, path = %path.display(), "superfluous file not deleted"),
    }
}

fn entries(dir: &Path) -> Result<Vec<DirEntry>> {
    let listed = fs::read_dir(dir).and_then(Iterator::collect);
    listed.map_err(Error::io("list", dir))
}

fn age(entry: &DirEntry) -> Duration {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    // A clock that was set back makes files of the future; they are young.
    modified.ok().and_then(|time| SystemTime::now().duration_since(time).ok()).unwrap_or_default()
}

/// Files that entries of the last `grace` removed: readers outside this process may be at the version before.
pub(super) fn replaced_lately(log_dir: &Path, grace: Duration) -> Result<Vec<Replaced>> {
    let oldest_ms = now_ms() - grace.as_millis() as i64;
    let mut replaced = Vec::new();
    for entry in entries(log_dir)? {
        if entry.path().extension().is_none_or(|extension| extension != "json") || age(&entry) > grace {
            continue;
        }
        let text = fs::read_to_string(entry.path()).map_err(Error::io("read", entry.path()))?;
        for action in text.lines().filter(|line| line.contains("\"remove\"")) {
            let action: Value = serde_json::from_str(action).unwrap_or_default();
            let (path, at_ms) = (&action["remove"]["path"], &action["remove"]["deletionTimestamp"]);
            if let (Some(path), Some(at_ms)) = (path.as_str(), at_ms.as_i64())
                && at_ms > oldest_ms
            {
                replaced.push(Replaced { path: path.to_owned(), at_ms, readers: Weak::new() });
            }
        }
    }
    Ok(replaced)
}

/// Deletes files of our own naming in day folders that are not `known`: their commit never came, or they were replaced
/// before the grace period. Also entries, checkpoints and checksums of the log that were never finished, and folders of
/// days that are empty then. What is younger than `age_min` stays, and so does everything else.
pub(super) fn delete_unknown(table_dir: &Path, known: &HashSet<String>, age_min: Duration) -> Result<()> {
    for folder in entries(table_dir)? {
        let folder_name = folder.file_name().to_string_lossy().into_owned();
        let of_day = folder_name.strip_prefix("date=").and_then(parse_date).is_some();
        if !of_day || !folder.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        for file in entries(&folder.path())? {
            let name = file.file_name().to_string_lossy().into_owned();
            let ours = FileName::parse(&name).is_some() && file.file_type().is_ok_and(|kind| kind.is_file());
            if ours && age(&file) >= age_min && !known.contains(&format!("{folder_name}/{name}")) {
                tracing::info!(path = %file.path().display(), "deleting a file that no version refers to");
                delete(&file.path());
            }
        }
        // Fails if anything is left in it, as it should.
        if fs::remove_dir(folder.path()).is_ok() {
            tracing::debug!(path = %folder.path().display(), "deleted the folder of a day without files");
        }
    }
    for entry in entries(&table_dir.join("_delta_log"))? {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_unfinished(&name) && age(&entry) >= age_min {
            delete(&entry.path());
        }
    }
    Ok(())
}

/// Whether a file of `_delta_log` is one that a kill kept from getting its own name: an entry, the checksums of a
/// checkpoint, or a file of the checkpoint, which the `object_store` crate writes as `<name>#<number>` first.
fn is_unfinished(name: &str) -> bool {
    if let Some((name, number)) = name.split_once('#') {
        let checkpoint = name == LAST_CHECKPOINT || version_of(name, ".checkpoint.parquet").is_some();
        return checkpoint && number.parse::<u32>().is_ok();
    }
    let own = name.strip_prefix('.').and_then(|name| name.strip_suffix(".tmp"));
    own.is_some_and(|own| uuid::Uuid::try_parse(own).is_ok() || version_of(own, ".checkpoint.crc32c").is_some())
}

/// The version of a checkpoint or of an entry of the log.
fn version_of(name: &str, suffix: &str) -> Option<i64> {
    let digits = name.strip_suffix(suffix)?;
    if digits.len() == 20 { digits.parse().ok() } else { None }
}

/// Deletes entries and checkpoints before the second newest checkpoint that are older than `retention`, oldest first, so
/// that an interruption leaves no gap.
pub(super) fn shorten_log(log_dir: &Path, retention: Duration) -> Result<()> {
    let mut checkpoints = Vec::new();
    let mut files = Vec::new();
    for entry in entries(log_dir)? {
        let name = entry.file_name().to_string_lossy().into_owned();
        let checkpoint = version_of(&name, ".checkpoint.parquet");
        checkpoints.extend(checkpoint);
        let other = || version_of(&name, ".json").or_else(|| version_of(&name, ".checkpoint.crc32c"));
        if let Some(version) = checkpoint.or_else(other) {
            files.push((version, entry));
        }
    }
    checkpoints.sort_unstable();
    let Some(oldest_kept) = checkpoints.iter().rev().nth(CHECKPOINTS_KEPT - 1) else { return Ok(()) };
    files.retain(|(version, _)| version < oldest_kept);
    files.sort_unstable_by_key(|(version, _)| *version);
    for (_, entry) in files {
        if age(&entry) < retention {
            break;
        }
        failpoint::hit(Failpoint::DeltaBeforeShorten, &entry.path())?;
        fs::remove_file(entry.path()).map_err(Error::io("remove", entry.path()))?;
    }
    Ok(())
}
