//! Reading a Delta log without the `deltalake` crate: what verification compares, entry by entry.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use datafusion::arrow::array::{Array, AsArray, MapArray, RecordBatch, StructArray};
use datafusion::arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use super::{
    WAL_APP_ID,
    checkpoint_seal::checksum_line,
    names::{LAST_CHECKPOINT, LOG_DIR, LogFile, checkpoint_name, checksum_name, entry_name, parse},
    seal::{Seal, check_seal},
};
use crate::{
    checksum::{CHECKSUM_TAG, Checksum},
    error::{Error, Result},
    fault::{Fault, FaultKind},
    live_file::{LiveFile, parse_date},
};

/// What the log of a table says, and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    /// The newest version; -1 if there is none.
    pub(crate) version: i64,
    pub(crate) table: TableState,
    pub(crate) faults: Vec<Fault>,
    /// Checkpoints that cannot be compared because their checksum file is missing.
    pub(crate) unsealed_checkpoints: Vec<PathBuf>,
}

/// A table at one version.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct TableState {
    /// Live files by their path below the table's directory.
    pub(crate) files: BTreeMap<String, LiveFile>,
    /// The fields of `schemaString`, with the partition column.
    pub(crate) fields: Vec<Value>,
    pub(crate) wal_position: u64,
}

/// The files of a log folder that have a meaning there.
#[derive(Debug, Default)]
struct Listing {
    entries: BTreeMap<i64, PathBuf>,
    checkpoints: BTreeMap<i64, PathBuf>,
}

impl Listing {
    fn read(log_dir: &Path) -> Result<Self> {
        let mut listing = Self::default();
        for entry in fs::read_dir(log_dir).map_err(Error::io("list", log_dir))? {
            let path = entry.map_err(Error::io("list", log_dir))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match parse(&name) {
                Some((version, LogFile::Entry)) => listing.entries.insert(version, path),
                Some((version, LogFile::Checkpoint)) => listing.checkpoints.insert(version, path),
                _ => None,
            };
        }
        Ok(listing)
    }

    fn newest_checkpoint(&self) -> Option<(i64, &PathBuf)> {
        self.checkpoints.last_key_value().map(|(version, path)| (*version, path))
    }
}

/// Refuses a log with a damaged part among those that opening the table reads: the server must not act on what a damaged
/// entry seems to say. An entry without a checksum passes.
///
/// # Errors
/// [`Error::DamagedFile`] naming the part.
pub(super) fn check_seals(log_dir: &Path) -> Result<()> {
    let listing = Listing::read(log_dir)?;
    let damaged = |path: PathBuf| Error::DamagedFile { path, reason: "its checksum does not match".into() };
    let mut first = 0;
    if let Some((version, path)) = listing.newest_checkpoint() {
        first = version + 1;
        let sums = fs::read_to_string(log_dir.join(checksum_name(version))).unwrap_or_default();
        if !sums.is_empty()
            && sums.lines().next() != Some(checksum_line(log_dir, &checkpoint_name(version))?.trim_end())
        {
            return Err(damaged(path.clone()));
        }
    }
    for path in listing.entries.range(first..).map(|(_, path)| path) {
        if check_seal(&fs::read(path).map_err(Error::io("read", path))?) == Seal::Broken {
            return Err(damaged(path.clone()));
        }
    }
    Ok(())
}

/// Replays the log of the table at `table_dir`: from version 0 if every entry is there, else from the newest checkpoint.
///
/// # Errors
/// [`Error::Io`] if the folder cannot be listed; whatever is wrong inside the files is a fault.
pub(crate) fn replay(table_dir: &Path) -> Result<Replayed> {
    let dir = table_dir.join(LOG_DIR);
    let listing = Listing::read(&dir)?;
    let newest_entry = listing.entries.last_key_value().map_or(-1, |(version, _)| *version);
    let newest_checkpoint = listing.newest_checkpoint().map_or(-1, |(version, _)| version);
    let mut replayed = Replayed { version: newest_entry.max(newest_checkpoint), ..Replayed::default() };
    if replayed.version < 0 {
        replayed.faults.push(Fault::new(FaultKind::LogHole, &dir, "the log has no entry"));
    }
    replayed.check_checkpoint_seals(&dir, &listing);
    let mut checkpoint = None;
    if let Some((version, path)) = listing.newest_checkpoint() {
        match read_checkpoint(path) {
            Ok(state) => checkpoint = Some((version, path, state)),
            Err(error) => replayed.faults.push(Fault::new(FaultKind::Checkpoint, path, error.to_string())),
        }
    }
    let mut first = 0;
    let whole = (0..=newest_checkpoint).all(|version| listing.entries.contains_key(&version));
    if !whole && let Some((version, _, state)) = &checkpoint {
        first = version + 1;
        replayed.table = state.clone();
    }
    for version in first..=replayed.version {
        match listing.entries.get(&version) {
            Some(path) => replayed.apply_entry(path)?,
            None => {
                let path = dir.join(entry_name(version));
                replayed.faults.push(Fault::new(FaultKind::LogHole, path, "the entry of this version does not exist"));
            }
        }
        if let Some((checkpointed, path, state)) = &checkpoint
            && *checkpointed == version
            && *state != replayed.table
        {
            let message = "it says something else than the entries that it sums up";
            replayed.faults.push(Fault::new(FaultKind::Checkpoint, *path, message));
        }
    }
    Ok(replayed)
}

impl Replayed {
    fn check_checkpoint_seals(&mut self, log_dir: &Path, listing: &Listing) {
        let newest = listing.newest_checkpoint().map(|(version, _)| version);
        for (version, path) in &listing.checkpoints {
            let sums_path = log_dir.join(checksum_name(*version));
            let Ok(sums) = fs::read(&sums_path) else {
                self.unsealed_checkpoints.push(path.clone());
                continue;
            };
            let mut rest = sums.as_slice();
            let mut names = vec![checkpoint_name(*version), LAST_CHECKPOINT.to_owned()];
            // The pointer is written anew with every checkpoint.
            if newest != Some(*version) {
                names.pop();
            }
            for name in names {
                let Ok(line) = checksum_line(log_dir, &name) else {
                    self.faults.push(Fault::new(FaultKind::Checkpoint, log_dir.join(name), "it cannot be read"));
                    continue;
                };
                let (recorded, after) = rest.split_at(line.len().min(rest.len()));
                rest = after;
                if recorded != line.as_bytes() {
                    let message = format!("it or its checksum in {} is damaged", checksum_name(*version));
                    self.faults.push(Fault::new(FaultKind::Checkpoint, log_dir.join(name), message));
                }
            }
            if newest == Some(*version) && !rest.is_empty() {
                self.faults.push(Fault::new(FaultKind::Checkpoint, sums_path, "there are bytes after its end"));
            }
        }
    }

    fn apply_entry(&mut self, path: &Path) -> Result<()> {
        let bytes = fs::read(path).map_err(Error::io("read", path))?;
        let mut fault = |kind, message: String| self.faults.push(Fault::new(kind, path, message));
        match check_seal(&bytes) {
            Seal::Intact => {}
            Seal::Broken => fault(FaultKind::LogEntry, "its checksum does not match".into()),
            Seal::Absent => fault(FaultKind::LogEntryUnsealed, "it has no checksum".into()),
        }
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let applied = match serde_json::from_slice(line) {
                Ok(action) => self.table.apply(&action),
                Err(error) => Err((FaultKind::LogEntry, format!("it is not JSON: {error}"))),
            };
            if let Err((kind, message)) = applied {
                fault(kind, format!("line {}: {message}", index + 1));
            }
        }
        Ok(())
    }
}

type Applied = Result<(), (FaultKind, String)>;

impl TableState {
    fn apply(&mut self, action: &Value) -> Applied {
        if let Some(add) = action.get("add") {
            let text = |name: &str| add[name].as_str().unwrap_or_default();
            let date = add["partitionValues"]["date"].as_str();
            let tag = add["tags"][CHECKSUM_TAG].as_str();
            return self.add(text("path"), add["size"].as_u64(), date, text("stats"), tag);
        }
        if let Some(path) = action.get("remove").map(|remove| remove["path"].as_str().unwrap_or_default()) {
            let removed = self.files.remove(path);
            let message = || (FaultKind::LogConflict, format!("removes {path}, which is not in the table"));
            return removed.map(|_| ()).ok_or_else(message);
        }
        if let Some(metadata) = action.get("metaData") {
            return self.set_fields(metadata["schemaString"].as_str().unwrap_or_default());
        }
        match action.get("txn") {
            Some(txn) if txn["appId"] == WAL_APP_ID => self.advance(txn["version"].as_u64().unwrap_or(0)),
            _ => Ok(()),
        }
    }

    fn add(&mut self, path: &str, size: Option<u64>, date: Option<&str>, stats: &str, tag: Option<&str>) -> Applied {
        let Some(((size, date), false)) = size.zip(date.and_then(parse_date)).map(|pair| (pair, path.is_empty()))
        else {
            return Err((FaultKind::LogEntry, format!("the file {path:?} has no path, size or date")));
        };
        let file = LiveFile::from_stats(path.to_owned(), size, date, 0, stats, Checksum::recorded(tag));
        match self.files.insert(path.to_owned(), file) {
            Some(_) => Err((FaultKind::LogConflict, format!("adds {path}, which is in the table already"))),
            None => Ok(()),
        }
    }

    fn set_fields(&mut self, schema: &str) -> Applied {
        let parsed: Value = serde_json::from_str(schema).unwrap_or_default();
        let fields = parsed["fields"].as_array().cloned();
        self.fields = fields.ok_or_else(|| (FaultKind::LogEntry, "the schema cannot be read".to_owned()))?;
        Ok(())
    }

    fn advance(&mut self, position: u64) -> Applied {
        let before = std::mem::replace(&mut self.wal_position, position);
        if position < before {
            let message = format!("the log position goes back from {before} to {position}");
            return Err((FaultKind::LogConflict, message));
        }
        Ok(())
    }
}

fn read_checkpoint(path: &Path) -> Result<TableState> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?.build()?;
    let mut state = TableState::default();
    for batch in reader {
        apply_checkpoint(&mut state, &batch?)
            .map_err(|(_, reason)| Error::DamagedFile { path: path.to_owned(), reason })?;
    }
    Ok(state)
}

fn apply_checkpoint(state: &mut TableState, batch: &RecordBatch) -> Applied {
    let action = |name: &str| batch.column_by_name(name).and_then(|column| column.as_struct_opt());
    for row in 0..batch.num_rows() {
        if let Some(add) = action("add").filter(|add| add.is_valid(row)) {
            let date = map_value(add, "partitionValues", row, "date");
            let tag = map_value(add, "tags", row, CHECKSUM_TAG);
            let size = integer(add, "size", row);
            let stats = text(add, "stats", row).unwrap_or_default();
            state.add(text(add, "path", row).unwrap_or_default(), size, date.as_deref(), stats, tag.as_deref())?;
        }
        if let Some(metadata) = action("metaData").filter(|metadata| metadata.is_valid(row)) {
            state.set_fields(text(metadata, "schemaString", row).unwrap_or_default())?;
        }
        if let Some(txn) = action("txn").filter(|txn| txn.is_valid(row))
            && text(txn, "appId", row) == Some(WAL_APP_ID)
        {
            state.advance(integer(txn, "version", row).unwrap_or(0))?;
        }
    }
    Ok(())
}

fn text<'a>(action: &'a StructArray, name: &str, row: usize) -> Option<&'a str> {
    let column = action.column_by_name(name)?.as_string_opt::<i32>()?;
    column.is_valid(row).then(|| column.value(row))
}

fn integer(action: &StructArray, name: &str, row: usize) -> Option<u64> {
    let column = action.column_by_name(name)?.as_primitive_opt::<Int64Type>()?;
    column.is_valid(row).then(|| column.value(row).cast_unsigned())
}

fn map_value(action: &StructArray, name: &str, row: usize, key: &str) -> Option<String> {
    let map: &MapArray = action.column_by_name(name)?.as_map_opt()?;
    if map.is_null(row) {
        return None;
    }
    let pairs = map.value(row);
    let (keys, values) = (pairs.column(0).as_string_opt::<i32>()?, pairs.column(1).as_string_opt::<i32>()?);
    let at = (0..keys.len()).find(|at| keys.value(*at) == key)?;
    values.is_valid(at).then(|| values.value(at).to_owned())
}
