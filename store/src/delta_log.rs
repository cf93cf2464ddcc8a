//! The transaction log of one Delta table, written by its one committer.
//!
//! The committer keeps the live file list in memory and writes each commit as the next JSON entry with an atomic
//! create, so a commit costs the same at ten files and at ten thousand. Opening replays the log through the `deltalake`
//! crate, which also writes the checkpoints. The log position of the data travels in the same entry (`STORE-1`). Every
//! entry carries its own checksum, every `add` that of its file, and every checkpoint has one beside it. A replaced file
//! stays for the grace period, and longer while a snapshot or a scan of this process refers to it.

mod checkpoint_seal;
mod expiry;
mod quarantine;
mod replay;
mod seal;
mod tidy;

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use deltalake::{DeltaTable, ensure_table_uri, kernel::LogicalFileView, open_table};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    checksum::{CHECKSUM_TAG, Checksum},
    error::{Error, Result},
    failpoint::{self, Failpoint},
    live_file::{LiveFile, date_text, now_ms, parse_date},
    parquet_file::{NewFile, sync_dir},
    partial_file::PartialFile,
};

pub(crate) use replay::{Replayed, is_log_file, replay};

/// Application id of the `txn` action that carries the log position.
const WAL_APP_ID: &str = "driftwatt-wal";
const CHECKPOINT_INTERVAL: i64 = 100;
/// How long a replaced file stays at least, for readers outside this process.
const REPLACED_GRACE: Duration = Duration::from_secs(600);
/// How long entries and checkpoints of the log stay at least after newer checkpoints made them superfluous.
const LOG_RETENTION: Duration = Duration::from_secs(3600);

/// One version of a table.
#[derive(Debug, Clone)]
pub(crate) struct TableSnapshot {
    pub(crate) dir: Arc<PathBuf>,
    /// With the partition column `date` last.
    pub(crate) schema: SchemaRef,
    pub(crate) version: i64,
    pub(crate) files: Vec<Arc<LiveFile>>,
    /// Log records up to this sequence number are in the files.
    pub(crate) wal_position: u64,
}

/// The committer of one table.
#[derive(Debug)]
pub(crate) struct DeltaLog {
    snapshot: Arc<TableSnapshot>,
    replaced: Vec<Replaced>,
    /// The last commit failed after it took its version, so the log is, or after a crash may be, ahead of `snapshot`.
    in_doubt: bool,
}

/// A file that the current version does not refer to any more.
#[derive(Debug)]
struct Replaced {
    /// Below the table's directory.
    path: String,
    at_ms: i64,
    /// Alive while a snapshot or a scan may read it.
    readers: Weak<LiveFile>,
}

impl Replaced {
    fn new(file: &Arc<LiveFile>, at_ms: i64) -> Self {
        Self { path: file.path.clone(), at_ms, readers: Arc::downgrade(file) }
    }
}

/// What a commit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// New rows, or rows with new contents.
    Data,
    /// The same rows in other files: readers that follow changes skip it.
    Layout,
}

fn log_dir(dir: &Path) -> PathBuf {
    dir.join("_delta_log")
}

impl DeltaLog {
    /// Opens the table at `dir`; creates it with `schema` if there is none.
    ///
    /// # Errors
    /// [`Error::Delta`] if the log cannot be read, [`Error::Io`] if the table cannot be created,
    /// [`Error::ResultSchema`] if there is neither a table nor a schema.
    pub(crate) async fn open(dir: PathBuf, schema: Option<SchemaRef>) -> Result<Self> {
        // A kill during the very first entry leaves a temporary file, which is no table yet.
        let exists = fs::read_dir(log_dir(&dir))
            .is_ok_and(|entries| entries.flatten().any(|entry| !entry.file_name().to_string_lossy().ends_with(".tmp")));
        let snapshot = match (exists, schema) {
            (true, schema) => load(dir, schema).await?,
            (false, Some(schema)) => {
                TableSnapshot { dir: Arc::new(dir), schema, version: -1, files: vec![], wal_position: 0 }
            }
            (false, None) => {
                return Err(Error::ResultSchema {
                    table: dir.display().to_string(),
                    reason: "is not a Delta table".into(),
                });
            }
        };
        let mut log = Self { snapshot: Arc::new(snapshot), replaced: vec![], in_doubt: false };
        if exists {
            log.replaced = tidy::replaced_lately(&log_dir(log.dir()), REPLACED_GRACE)?;
            // Nothing writes yet, so what nothing refers to is left over however young it is.
            tidy::delete_unknown(log.dir(), &log.known_paths(), Duration::ZERO)?;
        } else {
            fs::create_dir_all(log_dir(log.dir())).map_err(Error::io("create directory", log_dir(log.dir())))?;
            sync_dir(log.dir())?;
            let actions = creation(&log.snapshot.schema)?;
            log.write_entry(&actions)?;
            Arc::make_mut(&mut log.snapshot).version = 0;
        }
        Ok(log)
    }

    fn dir(&self) -> &Path {
        &self.snapshot.dir
    }

    pub(crate) fn snapshot(&self) -> Arc<TableSnapshot> {
        Arc::clone(&self.snapshot)
    }

    /// Below the table's directory: files of this version, and replaced ones that are still there.
    fn known_paths(&self) -> HashSet<String> {
        let live = self.snapshot.files.iter().map(|file| &file.path);
        live.chain(self.replaced.iter().map(|replaced| &replaced.path)).cloned().collect()
    }

    /// Deletes replaced files whose grace is over, files that never came into a version, unfinished entries and folders
    /// of days without files. No merge of the table may run meanwhile.
    ///
    /// # Errors
    /// [`Error::Io`] if a folder cannot be listed. A file that cannot be deleted is only logged.
    pub(crate) async fn tidy(&mut self) -> Result<()> {
        self.delete_replaced();
        // A commit that failed after its entry got its name, or one of another writer: the next start will find it, so
        // the files that it adds are not left over.
        if self.in_doubt || self.next_entry().exists() {
            return Ok(());
        }
        let (dir, known) = (Arc::clone(&self.snapshot.dir), self.known_paths());
        let work = tokio::task::spawn_blocking(move || tidy::delete_unknown(&dir, &known, REPLACED_GRACE));
        work.await.map_err(|error| Error::Task(error.to_string()))?
    }

    /// The version to plan the next commit on: the one in memory, or, after a commit that failed late, the one on disk.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Delta`] if that cannot be read yet.
    pub(crate) async fn settle(&mut self) -> Result<Arc<TableSnapshot>> {
        if self.in_doubt {
            sync_dir(&log_dir(self.dir()))?;
            let mut settled = load(self.dir().to_owned(), Some(Arc::clone(&self.snapshot.schema))).await?;
            let mut before: HashMap<_, _> = self.snapshot.files.iter().map(|file| (&file.path, file)).collect();
            for file in &mut settled.files {
                // Scans hold the file as it was known before, which keeps it from being deleted.
                if let Some(known) = before.remove(&file.path) {
                    *file = Arc::clone(known);
                }
            }
            let now = now_ms();
            self.replaced.extend(before.into_values().map(|file| Replaced::new(file, now)));
            self.snapshot = Arc::new(settled);
            self.in_doubt = false;
        }
        Ok(self.snapshot())
    }

    /// Commits `added` files in place of `removed` ones, with the log position they bring the table to. Plan it on what
    /// [`DeltaLog::settle`] returns.
    ///
    /// # Errors
    /// [`Error::Io`] if the entry could not be made durable. Either the table stays at its version and `added` is deleted,
    /// or the commit may hold after all: the next [`DeltaLog::settle`] says.
    pub(crate) async fn commit(
        &mut self,
        added: Vec<NewFile>,
        removed: &[Arc<LiveFile>],
        wal_position: Option<u64>,
    ) -> Result<Arc<TableSnapshot>> {
        self.write_version(Change::Data, added, removed, wal_position).await
    }

    /// Commits `added` files that hold the rows of the `removed` ones; `None` if one of these is not live any more.
    ///
    /// # Errors
    /// As [`DeltaLog::commit`].
    pub(crate) async fn rewrite(
        &mut self,
        added: Vec<NewFile>,
        removed: &[Arc<LiveFile>],
    ) -> Result<Option<Arc<TableSnapshot>>> {
        let live: HashSet<&str> = self.snapshot.files.iter().map(|file| file.path.as_str()).collect();
        if !removed.iter().all(|file| live.contains(file.path.as_str())) {
            return Ok(None);
        }
        self.write_version(Change::Layout, added, removed, None).await.map(Some)
    }

    async fn write_version(
        &mut self,
        change: Change,
        added: Vec<NewFile>,
        removed: &[Arc<LiveFile>],
        wal_position: Option<u64>,
    ) -> Result<Arc<TableSnapshot>> {
        let now = now_ms();
        let operation = if change == Change::Data { "WRITE" } else { "OPTIMIZE" };
        let mut actions = vec![json!({ "commitInfo": {
            "timestamp": now, "operation": operation, "isBlindAppend": removed.is_empty(),
            "engineInfo": concat!("driftwatt/", env!("CARGO_PKG_VERSION")),
        }})];
        if let Some(position) = wal_position {
            actions.push(json!({ "txn": { "appId": WAL_APP_ID, "version": position, "lastUpdated": now } }));
        }
        actions.extend(removed.iter().map(|file| remove_action(file, now, change)));
        actions.extend(added.iter().map(|new| add_action(&new.file, change)));
        if let Err(error) = self.write_entry(&actions) {
            // An entry that is there may hold, whatever failed after its link, so its files stay; else they are dropped.
            self.in_doubt = self.next_entry().try_exists().unwrap_or(true);
            if self.in_doubt {
                added.into_iter().for_each(|new| new.uncommitted.keep());
            }
            return Err(error);
        }
        let keep = |new: NewFile| {
            new.uncommitted.keep();
            new.file
        };
        let added: Vec<_> = added.into_iter().map(keep).collect();
        let gone: HashSet<&str> = removed.iter().map(|file| file.path.as_str()).collect();
        let snapshot = Arc::make_mut(&mut self.snapshot);
        snapshot.version += 1;
        snapshot.files.retain(|file| !gone.contains(file.path.as_str()));
        snapshot.files.extend(added.into_iter().map(Arc::new));
        snapshot.wal_position = wal_position.unwrap_or(snapshot.wal_position);
        self.delete_later(removed, now);
        self.checkpoint_when_due().await;
        self.delete_replaced();
        Ok(self.snapshot())
    }

    /// Where the next commit goes; if it failed and nothing is there, it did not happen.
    fn next_entry(&self) -> PathBuf {
        log_dir(self.dir()).join(format!("{:020}.json", self.snapshot.version + 1))
    }

    /// Writes the next entry: synced under a temporary name, then linked to its own, which fails if it exists.
    fn write_entry(&self, actions: &[Value]) -> Result<()> {
        let dir = log_dir(self.dir());
        let path = self.next_entry();
        let temporary = dir.join(format!(".{}.tmp", Uuid::new_v4()));
        let text = seal::seal(&actions.iter().map(|action| format!("{action}\n")).collect::<String>());
        let removed_at_the_end = PartialFile::new(&temporary);
        write_temporary(&temporary, &text)?;
        failpoint::hit(Failpoint::DeltaBeforeLink, &path)?;
        fs::hard_link(&temporary, &path).map_err(Error::io("commit", &path))?;
        failpoint::hit(Failpoint::DeltaAfterLink, &path)?;
        drop(removed_at_the_end);
        failpoint::hit(Failpoint::DeltaBeforeSync, &path)?;
        sync_dir(&dir)?;
        failpoint::hit(Failpoint::DeltaAfterSync, &path)
    }

    /// Checkpoints every hundred versions and drops the part of the log that this makes superfluous. Neither decides
    /// whether a commit holds, so failures are only logged.
    async fn checkpoint_when_due(&self) {
        let version = self.snapshot.version;
        if version == 0 || version % failpoint::checkpoint_interval().unwrap_or(CHECKPOINT_INTERVAL) != 0 {
            return;
        }
        // A test that has checkpoints come soon has them shorten the log at once too.
        let retention = failpoint::checkpoint_interval().map_or(LOG_RETENTION, |_| Duration::ZERO);
        let table = self.dir().display();
        if let Err(error) = checkpoint(self.dir()).await {
            tracing::warn!(%error, version, %table, "checkpoint failed; the log stays longer");
        } else if let Err(error) = tidy::shorten_log(&log_dir(self.dir()), retention) {
            tracing::warn!(%error, version, %table, "old entries of the log not deleted");
        }
    }

    /// Notes files that the current version does not refer to any more.
    fn delete_later(&mut self, removed: &[Arc<LiveFile>], now: i64) {
        self.replaced.extend(removed.iter().map(|file| Replaced::new(file, now)));
    }

    /// Deletes files replaced long enough ago that nothing reads.
    pub(crate) fn delete_replaced(&mut self) {
        let (dir, now) = (Arc::clone(&self.snapshot.dir), now_ms());
        self.replaced.retain(|replaced| {
            let young = now - replaced.at_ms < REPLACED_GRACE.as_millis() as i64;
            if young || replaced.readers.strong_count() > 0 {
                return true;
            }
            tidy::delete(&dir.join(&replaced.path));
            false
        });
    }
}

fn write_temporary(path: &Path, text: &str) -> Result<()> {
    failpoint::hit(Failpoint::DeltaBeforeCreate, path)?;
    let mut file = File::create_new(path).map_err(Error::io("create", path))?;
    file.write_all(text.as_bytes()).map_err(Error::io("write", path))?;
    failpoint::hit(Failpoint::DeltaTemporaryWritten, path)?;
    file.sync_all().map_err(Error::io("sync", path))
}

async fn open_delta(dir: &Path) -> Result<DeltaTable> {
    let url = ensure_table_uri(dir.to_string_lossy())?;
    Ok(open_table(url).await?)
}

async fn checkpoint(dir: &Path) -> Result<()> {
    failpoint::hit(Failpoint::DeltaBeforeCheckpoint, dir)?;
    let table = open_delta(dir).await?;
    deltalake::checkpoints::create_checkpoint(&table, None).await?;
    let version = table.snapshot()?.version();
    let path = log_dir(dir).join(format!("{version:020}.checkpoint.parquet"));
    failpoint::hit(Failpoint::DeltaCheckpointWritten, &path)?;
    File::open(&path).and_then(|file| file.sync_all()).map_err(Error::io("sync", &path))?;
    sync_dir(&log_dir(dir))?;
    failpoint::hit(Failpoint::DeltaCheckpointSynced, &path)?;
    checkpoint_seal::seal_checkpoint(&log_dir(dir), i64::try_from(version).unwrap_or(i64::MAX))
}

async fn load(dir: PathBuf, schema: Option<SchemaRef>) -> Result<TableSnapshot> {
    replay::check_seals(&log_dir(&dir))?;
    let table = open_delta(&dir).await?;
    let state = table.snapshot()?;
    let position = state.transaction_version(table.log_store().as_ref(), WAL_APP_ID).await?;
    let mut files = Vec::new();
    for view in state.log_data().iter() {
        let date = view.partition_values_map().get("date").cloned().flatten();
        let path = view.path().into_owned();
        let Some(date) = date.as_deref().and_then(parse_date) else {
            let reason = format!("file {path} has no date partition");
            return Err(Error::Corrupt { path: log_dir(&dir), offset: 0, reason });
        };
        let (stats, added_ms) = (view.stats().unwrap_or_default(), view.modification_time());
        let (size_bytes, checksum) = (view.size().cast_unsigned(), checksum_of(&view));
        files.push(Arc::new(LiveFile::from_stats(path, size_bytes, date, added_ms, &stats, checksum)));
    }
    let stored = date_last(&state.snapshot().arrow_schema());
    if let Some(schema) = schema.as_ref().filter(|schema| names(schema) != names(&stored)) {
        let reason = format!(
            "the columns are {}, this version stores {}; open it with the version that wrote it, or choose another directory",
            names(&stored).join(", "),
            names(schema).join(", "),
        );
        return Err(Error::Corrupt { path: log_dir(&dir), offset: 0, reason });
    }
    let schema = schema.unwrap_or(stored);
    Ok(TableSnapshot {
        dir: Arc::new(dir),
        schema,
        version: i64::try_from(state.version()).unwrap_or(i64::MAX),
        files,
        wal_position: position.map_or(0, i64::cast_unsigned),
    })
}

#[expect(deprecated, reason = "the view has no other way to the tags of a file")]
fn checksum_of(view: &LogicalFileView) -> Checksum {
    let tags = view.add_action().tags.unwrap_or_default();
    Checksum::recorded(tags.get(CHECKSUM_TAG).and_then(Option::as_deref))
}

fn names(schema: &Schema) -> Vec<&str> {
    schema.fields().iter().map(|field| field.name().as_str()).collect()
}

fn date_last(schema: &Schema) -> SchemaRef {
    let (mut fields, date): (Vec<_>, Vec<_>) =
        schema.fields().iter().cloned().partition(|field| field.name() != "date");
    fields.extend(date);
    Arc::new(Schema::new(fields))
}

fn add_action(file: &LiveFile, change: Change) -> Value {
    json!({ "add": {
        "path": file.path, "partitionValues": { "date": date_text(file.date) }, "size": file.size_bytes,
        "modificationTime": file.added_ms, "dataChange": change == Change::Data, "stats": file.stats(),
        "tags": file.checksum.tag().map(|tag| json!({ CHECKSUM_TAG: tag })),
    }})
}

fn remove_action(file: &LiveFile, now: i64, change: Change) -> Value {
    json!({ "remove": {
        "path": file.path, "deletionTimestamp": now, "dataChange": change == Change::Data,
        "extendedFileMetadata": true, "partitionValues": { "date": date_text(file.date) }, "size": file.size_bytes,
    }})
}

fn creation(schema: &Schema) -> Result<Vec<Value>> {
    let fields = schema.fields().iter().map(|field| delta_field(field)).collect::<Result<Vec<_>>>()?;
    let schema = json!({ "type": "struct", "fields": fields }).to_string();
    Ok(vec![
        json!({ "commitInfo": {
            "timestamp": now_ms(), "operation": "CREATE TABLE",
            "engineInfo": concat!("driftwatt/", env!("CARGO_PKG_VERSION")),
        }}),
        json!({ "protocol": { "minReaderVersion": 1, "minWriterVersion": 2 } }),
        json!({ "metaData": {
            "id": Uuid::new_v4().to_string(), "format": { "provider": "parquet", "options": {} },
            "schemaString": schema, "partitionColumns": ["date"], "configuration": {}, "createdTime": now_ms(),
        }}),
    ])
}

/// `field` as in the `schemaString` of a Delta table.
pub(crate) fn delta_field(field: &Field) -> Result<Value> {
    let data_type = delta_type(field.data_type()).ok_or_else(|| Error::ResultSchema {
        table: field.name().clone(),
        reason: format!("columns of type {} are not supported", field.data_type()),
    })?;
    Ok(json!({ "name": field.name(), "type": data_type, "nullable": field.is_nullable(), "metadata": {} }))
}

fn delta_type(data_type: &DataType) -> Option<Value> {
    Some(match data_type {
        DataType::Utf8 => json!("string"),
        DataType::Int64 => json!("long"),
        DataType::Int32 => json!("integer"),
        DataType::Float64 => json!("double"),
        DataType::Boolean => json!("boolean"),
        DataType::Date32 => json!("date"),
        DataType::Timestamp(_, Some(_)) => json!("timestamp"),
        DataType::List(item) => {
            json!({ "type": "array", "elementType": delta_type(item.data_type())?, "containsNull": item.is_nullable() })
        }
        DataType::Map(entry, _) => {
            let DataType::Struct(pair) = entry.data_type() else { return None };
            json!({
                "type": "map", "keyType": delta_type(pair[0].data_type())?,
                "valueType": delta_type(pair[1].data_type())?, "valueContainsNull": pair[1].is_nullable(),
            })
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
