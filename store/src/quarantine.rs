//! Damaged data files at start: taken out of their table by a commit and kept aside, so that the rest stays readable.
//!
//! ```text
//! DIR/quarantine/<table>/<file>         the file, unless it was missing
//! DIR/quarantine/<table>/<file>.json    why, when, and how many rows it held
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
    sync::Arc,
};

use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::{
    delta_log::{DeltaLog, TableSnapshot},
    error::{Error, Result},
    failpoint::{self, Failpoint},
    live_file::{LiveFile, date_text},
    parquet_file::sync_dir,
    partial_file::write_synced,
    state::WalTable,
    table_storage::TableStorage,
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

/// Takes damaged files out of `logs`. Looks at existence, size, magic and footer length of every live file (of one on S3 at
/// existence and size), and reads the `series` files of `days` whole: the next flush builds on them.
///
/// # Errors
/// [`Error::Io`] or [`Error::Storage`] for a file that cannot be looked at (it may be intact), or if a removal cannot be
/// made durable.
pub(crate) async fn quarantine_damaged(
    data_dir: &Path,
    logs: &mut BTreeMap<String, DeltaLog>,
    days: &BTreeSet<i32>,
) -> Result<()> {
    for (name, log) in logs {
        let snapshot = log.snapshot();
        let sizes = if snapshot.storage.is_remote() { Some(sizes(&snapshot.storage).await?) } else { None };
        let days = if name == WalTable::Series.name() { days.clone() } else { BTreeSet::new() };
        let (folder, table) = (data_dir.join(QUARANTINE).join(name), name.clone());
        let look = move || put_damaged_aside(&snapshot, sizes.as_ref(), &days, &folder, &table);
        let damaged = tokio::task::spawn_blocking(look).await.map_err(|error| Error::Task(error.to_string()))??;
        if damaged.is_empty() {
            continue;
        }
        log.quarantine(&damaged).await?;
        // Only now: until the commit the table refers to the file where it was.
        for file in &damaged {
            failpoint::hit(Failpoint::QuarantineBeforeDelete, &log.storage().dir().join(&file.path))?;
            log.storage().delete(std::slice::from_ref(&file.path)).await;
        }
    }
    Ok(())
}

/// Sizes of what is in a bucket.
async fn sizes(storage: &TableStorage) -> Result<HashMap<String, u64>> {
    Ok(storage.list_data().await?.into_iter().map(|listed| (listed.path, listed.size_bytes)).collect())
}

/// Keeps the damaged files of a table below `folder` and returns them. Blocks.
fn put_damaged_aside(
    snapshot: &TableSnapshot,
    sizes: Option<&HashMap<String, u64>>,
    read_days: &BTreeSet<i32>,
    folder: &Path,
    table: &str,
) -> Result<Vec<Arc<LiveFile>>> {
    let storage = &snapshot.storage;
    let mut damaged = Vec::new();
    for file in &snapshot.files {
        let found = match sizes {
            Some(sizes) => size_damage(sizes.get(&file.path).copied(), file),
            None => outer_damage(storage.dir(), file).map_err(Error::io("read", storage.dir().join(&file.path)))?,
        };
        let found = match found {
            None if read_days.contains(&file.date) => storage.damage(file)?,
            found => found,
        };
        if let Some(reason) = found {
            damaged.push((file, reason));
        }
    }
    if let (false, Some(all)) = (damaged.is_empty(), folder.parent()) {
        fs::create_dir_all(folder).map_err(Error::io("create directory", folder))?;
        sync_dir(all)?;
        all.parent().map_or(Ok(()), sync_dir)?;
    }
    for (file, reason) in &damaged {
        keep(folder, storage, table, file, reason)?;
    }
    Ok(damaged.into_iter().map(|(file, _)| Arc::clone(file)).collect())
}

fn size_damage(found: Option<u64>, file: &LiveFile) -> Option<String> {
    match found {
        None => Some("it does not exist".into()),
        Some(size) if size != file.size_bytes => {
            Some(format!("it has {size} bytes, the table says {}", file.size_bytes))
        }
        Some(_) => None,
    }
}

/// Damage that is seen without reading the file.
fn outer_damage(table_dir: &Path, file: &LiveFile) -> io::Result<Option<String>> {
    let mut opened = match File::open(table_dir.join(&file.path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(size_damage(None, file)),
        opened => opened?,
    };
    let size_bytes = opened.metadata()?.len();
    if let Some(reason) = size_damage(Some(size_bytes), file) {
        return Ok(Some(reason));
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
fn keep(folder: &Path, storage: &TableStorage, table: &str, file: &LiveFile, reason: &str) -> Result<()> {
    let path = storage.dir().join(&file.path);
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let copy = folder.join(&name);
    failpoint::hit(Failpoint::QuarantineBeforeLink, &path)?;
    let linked = if storage.is_remote() { Err(io::ErrorKind::Unsupported.into()) } else { fs::hard_link(&path, &copy) };
    match linked {
        Err(error) if ![io::ErrorKind::NotFound, io::ErrorKind::AlreadyExists].contains(&error.kind()) => {
            // Not every file system links, and from a bucket it is fetched.
            if let Some(mut damaged) = storage.open_unchecked(file)? {
                let mut kept = File::create(&copy).map_err(Error::io("create", &copy))?;
                io::copy(&mut damaged, &mut kept).map_err(Error::io("copy to quarantine", &path))?;
                kept.sync_all().map_err(Error::io("sync", &copy))?;
            }
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
        table, path = %format!("{}/{}", storage.location(), file.path), rows = file.row_count, reason, quarantine = %folder.display(),
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
