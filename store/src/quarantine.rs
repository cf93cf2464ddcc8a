//! Damaged data files at start: taken out of their table by a commit and kept aside, so that the rest stays readable.
//!
//! ```text
//! DIR/quarantine/<table>/<file>         the file, unless it was missing
//! DIR/quarantine/<table>/<file>.json    why, when, and how many rows it held
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
    sync::Arc,
};

use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::{
    checksum::damage,
    delta_log::DeltaLog,
    error::{Error, Result},
    failpoint::{self, Failpoint},
    live_file::{LiveFile, date_text},
    parquet_file::sync_dir,
    partial_file::{remove_unused, write_synced},
    state::WalTable,
};

/// The folder below the data directory.
pub(crate) const QUARANTINE: &str = "quarantine";

const MAGIC: &[u8; 4] = b"PAR1";
/// Footer length and magic.
const TAIL_SIZE: u64 = 8;

/// What the quarantine of one table holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Quarantined {
    pub(crate) file_count: u64,
    pub(crate) row_count: u64,
}

/// Takes damaged files out of `logs`. Looks at existence, size, magic and footer length of every live file, and reads the
/// `series` files of `days` whole: the next flush builds on them.
///
/// # Errors
/// [`Error::Io`] for a file that cannot be looked at (it may be intact), or if a removal cannot be made durable.
pub(crate) fn quarantine_damaged(
    data_dir: &Path,
    logs: &mut BTreeMap<String, DeltaLog>,
    days: &BTreeSet<i32>,
) -> Result<()> {
    for (name, log) in logs {
        let snapshot = log.snapshot();
        let read_whole = |file: &LiveFile| name == WalTable::Series.name() && days.contains(&file.date);
        let mut damaged = Vec::new();
        for file in &snapshot.files {
            let found = match outer_damage(&snapshot.dir, file) {
                Ok(None) if read_whole(file) => damage(&snapshot.dir, file),
                found => found,
            };
            if let Some(reason) = found.map_err(Error::io("read", snapshot.dir.join(&file.path)))? {
                damaged.push((Arc::clone(file), reason));
            }
        }
        if damaged.is_empty() {
            continue;
        }
        let folder = data_dir.join(QUARANTINE).join(name);
        fs::create_dir_all(&folder).map_err(Error::io("create directory", &folder))?;
        sync_dir(&data_dir.join(QUARANTINE))?;
        sync_dir(data_dir)?;
        for (file, reason) in &damaged {
            keep(&folder, &snapshot.dir, name, file, reason)?;
        }
        let files: Vec<_> = damaged.into_iter().map(|(file, _)| file).collect();
        log.quarantine(&files)?;
        // Only now: until the commit the table refers to the file where it was.
        for path in files.iter().map(|file| snapshot.dir.join(&file.path)) {
            failpoint::hit(Failpoint::QuarantineBeforeDelete, &path)?;
            remove_unused(&path);
        }
    }
    Ok(())
}

/// Damage that is seen without reading the file.
fn outer_damage(table_dir: &Path, file: &LiveFile) -> io::Result<Option<String>> {
    let mut opened = match File::open(table_dir.join(&file.path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some("it does not exist".into())),
        opened => opened?,
    };
    let size_bytes = opened.metadata()?.len();
    if size_bytes != file.size_bytes {
        return Ok(Some(format!("it has {size_bytes} bytes, the table says {}", file.size_bytes)));
    }
    if size_bytes < TAIL_SIZE + MAGIC.len() as u64 {
        return Ok(Some("it is too short for a Parquet file".into()));
    }
    let mut head = [0; 4];
    opened.read_exact(&mut head)?;
    opened.seek(SeekFrom::End(-TAIL_SIZE.cast_signed()))?;
    let (mut length, mut tail) = ([0; 4], [0; 4]);
    opened.read_exact(&mut length)?;
    opened.read_exact(&mut tail)?;
    if head != *MAGIC || tail != *MAGIC {
        return Ok(Some("it does not begin and end like a Parquet file".into()));
    }
    let footer_too_long = u64::from(u32::from_le_bytes(length)) > size_bytes - TAIL_SIZE - MAGIC.len() as u64;
    Ok(footer_too_long.then(|| "its footer is longer than the file".into()))
}

/// Keeps the file and the reason below `folder`, durably. Done again after a crash it does no harm.
fn keep(folder: &Path, table_dir: &Path, table: &str, file: &LiveFile, reason: &str) -> Result<()> {
    let path = table_dir.join(&file.path);
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let copy = folder.join(&name);
    failpoint::hit(Failpoint::QuarantineBeforeLink, &path)?;
    match fs::hard_link(&path, &copy) {
        Err(error) if ![io::ErrorKind::NotFound, io::ErrorKind::AlreadyExists].contains(&error.kind()) => {
            // Not every file system links.
            tracing::debug!(%error, "copying to quarantine instead");
            fs::copy(&path, &copy).map_err(Error::io("copy to quarantine", &path))?;
            File::open(&copy).and_then(|copy| copy.sync_all()).map_err(Error::io("sync", &copy))?;
        }
        _ => {}
    }
    failpoint::hit(Failpoint::QuarantineAfterLink, &path)?;
    let note = json!({
        "table": table, "path": file.path, "date": date_text(file.date), "reason": reason, "rows": file.row_count,
        "size_bytes": file.size_bytes, "quarantined_at": Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
    });
    write_synced(folder, &format!("{name}.json"), format!("{note}\n").as_bytes())?;
    failpoint::hit(Failpoint::QuarantineNoteWritten, &path)?;
    tracing::warn!(
        table, path = %path.display(), rows = file.row_count, reason, quarantine = %folder.display(),
        "a data file is damaged and was taken out of its table; restore it from a backup if there is one"
    );
    Ok(())
}

/// What earlier starts and this one have put aside, by table.
pub(crate) fn quarantined(data_dir: &Path) -> BTreeMap<String, Quarantined> {
    let mut tables = BTreeMap::new();
    for folder in fs::read_dir(data_dir.join(QUARANTINE)).into_iter().flatten().flatten() {
        let mut held = Quarantined::default();
        for entry in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "json")
                && let Ok(bytes) = fs::read(entry.path())
            {
                let note: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                held.file_count += 1;
                held.row_count += note["rows"].as_u64().unwrap_or(0);
            }
        }
        tables.insert(folder.file_name().to_string_lossy().into_owned(), held);
    }
    tables
}

#[cfg(test)]
mod tests;
