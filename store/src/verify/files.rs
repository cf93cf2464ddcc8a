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
    delta_log::is_log_file,
    error::{Error, Result},
    live_file::parse_date,
    quarantine::QUARANTINE,
};

/// Names that Driftwatt uses directly below a data directory.
const OWN_NAMES: [&str; 5] = ["LOCK", "FORMAT", "tables", "wal", QUARANTINE];

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

/// Everything in the folder of a table that its newest version does not refer to, and live files without a checksum.
pub(super) fn notes(table: &FoundTable) -> Result<Vec<Note>> {
    let mut notes: Vec<_> =
        table.log.unsealed_checkpoints.iter().map(|path| Note::new(NoteKind::NoChecksum, path.clone())).collect();
    let unsealed = table.log.table.files.values().filter(|file| file.checksum.crc32c.is_none());
    notes.extend(unsealed.map(|file| Note::new(NoteKind::NoChecksum, table.dir.join(&file.path))));
    for path in list(&table.dir)? {
        let folder = name(&path);
        let is_day = folder.strip_prefix("date=").and_then(parse_date).is_some();
        if !path.is_dir() || !(is_day || folder == "_delta_log") {
            notes.push(stray(path));
            continue;
        }
        for file in list(&path)? {
            let file_name = name(&file);
            let known = if is_day {
                table.log.table.files.contains_key(&format!("{folder}/{file_name}"))
            } else {
                is_log_file(&file_name)
            };
            if known {
                continue;
            }
            let own = is_day && file_name.starts_with("part-") && file_name.ends_with(".parquet");
            notes.push(if own { Note::new(NoteKind::Orphan, file) } else { stray(file) });
        }
    }
    Ok(notes)
}

/// What is beside the tables and the log.
pub(super) fn top_notes(data_dir: &Path) -> Result<Vec<Note>> {
    let mut notes = Vec::new();
    for path in list(data_dir)?.into_iter().filter(|path| !OWN_NAMES.contains(&name(path).as_str())) {
        notes.push(stray(path));
    }
    for path in list(&data_dir.join("tables"))?.into_iter().filter(|path| !path.join("_delta_log").is_dir()) {
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
