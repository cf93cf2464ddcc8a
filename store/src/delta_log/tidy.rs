//! What may be deleted of a table: files of ours that no version needs, and old entries of the log.

use std::{collections::HashSet, fs, sync::Weak, time::Duration};

use serde_json::Value;

use super::{
    Replaced,
    names::{LogFile, is_unfinished, parse},
};
use crate::{
    error::{Error, Result},
    failpoint::{self, Failpoint},
    file_name::FileName,
    live_file::now_ms,
    table_storage::TableStorage,
};

/// Checkpoints that stay, with all entries after the oldest of them.
const CHECKPOINTS_KEPT: usize = 2;

/// Files that entries of the last `grace` removed: readers outside this process may be at the version before.
pub(super) async fn replaced_lately(storage: &TableStorage, grace: Duration) -> Result<Vec<Replaced>> {
    let oldest_ms = now_ms() - grace.as_millis() as i64;
    let mut replaced = Vec::new();
    for listed in storage.list_log().await? {
        if !matches!(parse(&listed.name), Some((_, LogFile::Entry))) || listed.age > grace {
            continue;
        }
        let path = storage.log_dir().join(&listed.name);
        let text = fs::read_to_string(&path).map_err(Error::io("read", path))?;
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
pub(super) async fn delete_unknown(storage: &TableStorage, known: &HashSet<String>, age_min: Duration) -> Result<()> {
    let unknown = storage.list_data().await?.into_iter().filter(|listed| {
        FileName::parse(&listed.name).is_some() && listed.age >= age_min && !known.contains(&listed.path)
    });
    let unknown: Vec<_> = unknown.map(|listed| listed.path).collect();
    if !unknown.is_empty() {
        tracing::info!(table = storage.location(), files = ?unknown, "deleting files that no version refers to");
        storage.delete(&unknown).await;
    }
    storage.delete_empty_days()?;
    let unfinished = storage.list_log().await?.into_iter();
    let unfinished = unfinished.filter(|listed| is_unfinished(&listed.name) && listed.age >= age_min);
    storage.delete(&unfinished.map(|listed| listed.path).collect::<Vec<_>>()).await;
    Ok(())
}

/// Deletes entries and checkpoints before the second newest checkpoint that are older than `retention`, oldest first, so
/// that an interruption leaves no gap.
pub(crate) async fn shorten_log(storage: &TableStorage, retention: Duration) -> Result<()> {
    let listed = storage.list_log().await?.into_iter();
    let mut files: Vec<_> = listed.filter_map(|listed| Some((parse(&listed.name)?, listed))).collect();
    let checkpoints = files.iter().filter(|((_, kind), _)| *kind == LogFile::Checkpoint);
    let mut checkpoints: Vec<i64> = checkpoints.map(|((version, _), _)| *version).collect();
    checkpoints.sort_unstable();
    let Some(oldest_kept) = checkpoints.iter().rev().nth(CHECKPOINTS_KEPT - 1) else { return Ok(()) };
    files.retain(|((version, _), _)| version < oldest_kept);
    files.sort_unstable_by_key(|((version, _), _)| *version);
    for (_, listed) in files {
        if listed.age < retention {
            break;
        }
        failpoint::hit(Failpoint::DeltaBeforeShorten, &storage.log_dir().join(&listed.name))?;
        storage.delete_log_file(&listed.name).await?;
    }
    Ok(())
}
