//! Files that no table refers to: orphans, temporary files, what was put aside, and what is not ours.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    FoundTable,
    report::{Note, NoteKind},
};
use crate::{
    data_dir::FORMAT_FILE,
    delta_log::names::{LOG_DIR, is_log_file},
    error::{Error, Result},
    live_file::parse_date,
    quarantine::QUARANTINE,
    table_storage::{CACHE, TABLES_FILE, Tables},
};

/// Names that Driftwatt uses directly below a data directory.
const OWN_NAMES: [&str; 7] = ["LOCK", FORMAT_FILE, "tables", "wal", QUARANTINE, TABLES_FILE, CACHE];

fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).map_err(Error::io("list", dir))?;
    let mut paths: Vec<_> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(Error::io("list", dir))?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Bytes of the files directly in `dir`; 0 if there is no such folder.
pub(super) fn size_of_folder(dir: &Path) -> u64 {
    let paths = list(dir).unwrap_or_default();
    paths.iter().filter_map(|path| path.metadata().ok()).filter(fs::Metadata::is_file).map(|file| file.len()).sum()
}

/// Everything in the place of a table that its newest version does not refer to, and live files without a checksum. Blocks.
pub(super) fn notes(tables: &Tables, table: &FoundTable) -> Result<Vec<Note>> {
    let dir = table.storage.dir();
    let mut notes: Vec<_> =
        table.log.unsealed_checkpoints.iter().map(|path| Note::new(NoteKind::NoChecksum, path.clone())).collect();
    let unsealed = table.log.table.files.values().filter(|file| file.checksum.crc32c.is_none());
    notes.extend(unsealed.map(|file| Note::new(NoteKind::NoChecksum, dir.join(&file.path))));
    if let Tables::S3(_) = tables {
        let (data, log) = tables.list(&table.storage)?;
        let unknown = data.iter().filter(|listed| !table.log.table.files.contains_key(&listed.path));
        notes.extend(unknown.map(|listed| unknown_data(&listed.name, dir.join(&listed.path))));
        let unknown = log.iter().filter(|listed| !is_log_file(&listed.name));
        notes.extend(unknown.map(|listed| stray(dir.join(&listed.path))));
        return Ok(notes);
    }
    for path in list(dir)? {
        let folder = name(&path);
        let is_day = folder.strip_prefix("date=").and_then(parse_date).is_some();
        if !path.is_dir() || !(is_day || folder == LOG_DIR) {
            notes.push(stray(path));
            continue;
        }
        for file in list(&path)? {
            let file_name = name(&file);
            if !is_day {
                notes.extend((!is_log_file(&file_name)).then(|| stray(file)));
            } else if !table.log.table.files.contains_key(&format!("{folder}/{file_name}")) {
                notes.push(unknown_data(&file_name, file));
            }
        }
    }
    Ok(notes)
}

/// A file in the folder of a day that the table does not refer to.
fn unknown_data(name: &str, path: PathBuf) -> Note {
    let own = name.starts_with("part-") && name.ends_with(".parquet");
    if own { Note::new(NoteKind::Orphan, path) } else { stray(path) }
}

/// What is beside the tables and the log.
pub(super) fn top_notes(data_dir: &Path) -> Result<Vec<Note>> {
    let mut notes = Vec::new();
    for path in list(data_dir)?.into_iter().filter(|path| !OWN_NAMES.contains(&name(path).as_str())) {
        notes.push(stray(path));
    }
    for path in list(&data_dir.join("tables"))?.into_iter().filter(|path| !path.join(LOG_DIR).is_dir()) {
        notes.push(stray(path));
    }
    let wal = data_dir.join("wal");
    for path in if wal.is_dir() { list(&wal)? } else { vec![] } {
        let own = name(&path) == QUARANTINE || path.extension().is_some_and(|extension| extension == "wal");
        if !own {
            notes.push(stray(path));
        }
    }
    for folder in [wal.join(QUARANTINE), data_dir.join(QUARANTINE)] {
        notes.extend(files_below(&folder)?.into_iter().map(|path| Note::new(NoteKind::Quarantined, path)));
    }
    Ok(notes)
}

fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in if dir.is_dir() { list(dir)? } else { vec![] } {
        if path.is_dir() {
            files.extend(list(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

fn stray(path: PathBuf) -> Note {
    let temporary = path.extension().is_some_and(|extension| extension == "tmp");
    Note::new(if temporary { NoteKind::Temporary } else { NoteKind::Foreign }, path)
}
