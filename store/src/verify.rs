//! Checking a data directory without changing it: the log, the Delta logs, every live file and every row.
//!
//! Bounded memory: one log segment, the file lists, one batch of rows, and the series of one day at a time.

mod data_file;
mod files;
mod report;
mod series_day;
mod statistics;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs::{File, TryLockError},
    path::Path,
    sync::Arc,
};

use crate::{
    config::Config,
    data_dir::{FORMAT_FILE, read_format},
    delta_log::{Replayed, replay},
    error::{Error, Result},
    fault::{Fault, FaultKind},
    live_file::LiveFile,
    state::WalTable,
    table_storage::{TableStorage, Tables},
    wal,
};

use data_file::DataFile;
pub use report::{Note, NoteKind, TableReport, VerifyReport, WalReport};
use series_day::SeriesDay;

/// Checks the data directory that `config` names and its tables, wherever they are; no server may have it open. Tables on S3
/// are fetched file by file. `progress` is told bytes checked and bytes in all. Blocks.
///
/// What is wrong with the data is in the report. What is checked: `docs/reliability.md`.
///
/// # Errors
/// What keeps the check from being made: [`Error::Locked`], [`Error::Io`], [`Error::Storage`], a log of a newer format
/// version.
pub fn verify(config: &Config, progress: &mut dyn FnMut(u64, u64)) -> Result<VerifyReport> {
    let data_dir = config.data_dir.as_path();
    let _lock = lock_shared(data_dir)?;
    let root = Tables::open_to_read(config)?;
    let tables = replay_tables(&root)?;
    let wal_dir = data_dir.join("wal");
    let file_bytes = tables.values().flat_map(|table| table.log.table.files.values()).map(|file| file.size_bytes);
    let total = file_bytes.sum::<u64>() + files::size_of_folder(&wal_dir);
    let mut done = 0;
    progress(0, total);
    let mut advance = |bytes: u64| {
        done += bytes;
        progress(done, total);
    };
    let position = |table: WalTable| tables.get(table.name()).map_or(0, |table| table.log.table.wal_position);
    let checked = wal::check(&wal_dir, position(WalTable::LAST), &mut advance)?;
    let mut report = VerifyReport {
        wal: WalReport {
            segment_count: checked.segment_count,
            record_count: checked.record_count,
            size_bytes: checked.size_bytes,
            fault_count: checked.faults.len() as u64,
        },
        ..VerifyReport::default()
    };
    if let Err(error @ (Error::Corrupt { .. } | Error::NewerFormat { .. })) = read_format(data_dir) {
        report.faults.push(Fault::new(FaultKind::Format, data_dir.join(FORMAT_FILE), error.to_string()));
    }
    report.faults.extend(checked.faults);
    let mut rows = RowCheck { tables: &tables, unflushed_series: &checked.unflushed_series, faults: BTreeMap::new() };
    rows.check_days(&mut advance);
    let row_faults = rows.faults;
    for (name, table) in tables {
        report.notes.extend(files::notes(&root, &table)?);
        let mut faults = table.log.faults;
        faults.extend(row_faults.get(&name).into_iter().flatten().cloned());
        report.tables.push(TableReport::new(name, table.log.version, &table.log.table.files, faults.len()));
        report.faults.append(&mut faults);
    }
    report.notes.extend(files::top_notes(data_dir)?);
    report.faults = report.faults.into_iter().map(|fault| fault.shown(&root, data_dir)).collect();
    report.notes = report.notes.into_iter().map(|note| note.shown(&root, data_dir)).collect();
    Ok(report)
}

/// One table and where it is.
pub(crate) struct FoundTable {
    pub(crate) storage: Arc<TableStorage>,
    pub(crate) log: Replayed,
}

/// Replays the Delta log of every table.
pub(crate) fn replay_tables(tables: &Tables) -> Result<BTreeMap<String, FoundTable>> {
    let found = tables.found()?.into_iter().map(|(name, storage)| {
        let log = replay(storage.dir())?;
        Ok((name, FoundTable { storage, log }))
    });
    found.collect()
}

/// Keeps a server from starting meanwhile; several checks may run at once. The lock file is not created: a copy of a
/// directory need not have one.
pub(crate) fn lock_shared(data_dir: &Path) -> Result<Option<File>> {
    let path = data_dir.join("LOCK");
    let Ok(file) = File::open(&path) else { return Ok(None) };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { path: data_dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(Error::Io { action: "lock", path, source }),
    }
}

/// Checks the rows of every table day by day, `series` first.
struct RowCheck<'a> {
    tables: &'a BTreeMap<String, FoundTable>,
    unflushed_series: &'a HashSet<i64>,
    faults: BTreeMap<String, Vec<Fault>>,
}

impl RowCheck<'_> {
    fn check_days(&mut self, advance: &mut dyn FnMut(u64)) {
        let files = self.tables.values().flat_map(|table| table.log.table.files.values());
        let days: BTreeSet<i32> = files.map(|file| file.date).collect();
        for day in days {
            let mut series = SeriesDay::default();
            let names = self.tables.keys().filter(|name| *name != WalTable::Series.name());
            for name in std::iter::once(WalTable::Series.name()).chain(names.map(String::as_str)) {
                let Some(table) = self.tables.get(name) else { continue };
                for file in table.log.table.files.values().filter(|file| file.date == day) {
                    self.check_file(name, table, file, &mut series);
                    advance(file.size_bytes);
                }
            }
        }
    }

    fn check_file(&mut self, name: &str, table: &FoundTable, file: &LiveFile, series: &mut SeriesDay) {
        let path = table.storage.dir().join(&file.path);
        let data_file = DataFile { storage: &table.storage, file, fields: &table.log.table.fields };
        let faults = self.faults.entry(name.to_owned()).or_default();
        let before = faults.len();
        if name == WalTable::Series.name() {
            data_file.check(faults, &mut |first_row, batch| series.add_rows(first_row, batch));
            // A series file that was not read to its end leaves all that refers to it in doubt.
            series.complete &= faults[before..].iter().all(|fault| !fault.kind.hides_rows());
            faults.extend(series.take_faults(&path));
        } else if [WalTable::Samples, WalTable::Histograms].map(WalTable::name).contains(&name) {
            let mut missing = (0, None);
            data_file.check(faults, &mut |first_row, batch| {
                series.look_up(first_row, batch, self.unflushed_series, &mut missing);
            });
            if let (rows, Some((row, id))) = missing
                && series.complete
            {
                let message = format!("{rows} rows, the first of series {id}, have no row in series on their day");
                faults.push(Fault::new(FaultKind::SeriesMissing, &path, message).at_row(row));
            }
        } else {
            data_file.check(faults, &mut |_, _| {});
        }
    }
}

impl FaultKind {
    /// Whether rows of the file were not seen because of it.
    fn hides_rows(self) -> bool {
        matches!(self, Self::FileMissing | Self::FileSize | Self::FileChecksum | Self::FileUnreadable)
    }
}

#[cfg(test)]
mod tests;
