//! The transaction log of one Delta table, written by its one committer.
//!
//! The committer keeps the live file list in memory and writes each commit as the next JSON entry with an atomic
//! create, so a commit costs the same at ten files and at ten thousand. Opening replays the log through the `deltalake`
//! crate, which also writes the checkpoints. The log position of the data travels in the same entry (`STORE-1`). Every
//! entry carries its own checksum, every `add` that of its file, and every checkpoint has one beside it. A replaced file
//! stays for the grace period, and longer while a snapshot or a scan of this process refers to it.

mod checkpoint_seal;
mod commit;
pub(crate) mod names;
mod replay;
mod seal;
pub(crate) mod tidy;

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    path::Path,
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
    live_file::{LiveFile, now_ms, parse_date},
    parquet_file::sync_dir,
    table_storage::{NotWritten, TableStorage},
};

use commit::{ENGINE, entry};
use names::checkpoint_name;
pub(crate) use replay::{Replayed, replay};

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
    pub(crate) storage: Arc<TableStorage>,
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

impl DeltaLog {
    /// Opens the table in `storage`; creates it with `schema` if there is none.
    ///
    /// # Errors
    /// [`Error::Delta`] if the log cannot be read, [`Error::Io`] or [`Error::Storage`] if the table cannot be created,
    /// [`Error::ResultSchema`] if there is neither a table nor a schema.
    pub(crate) async fn open(storage: Arc<TableStorage>, schema: Option<SchemaRef>) -> Result<Self> {
        if storage.exists().await? {
            storage.create_dirs()?;
            storage.settle_log().await?;
            let snapshot = Arc::new(load(storage, schema).await?);
            let mut log = Self { snapshot, replaced: vec![], in_doubt: false };
            log.fence().await?;
            log.replaced = tidy::replaced_lately(log.storage(), REPLACED_GRACE).await?;
            // Nothing writes yet, so what nothing refers to is left over however young it is.
            tidy::delete_unknown(log.storage(), &log.known_paths(), Duration::ZERO).await?;
            return Ok(log);
        }
        let Some(schema) = schema else {
            return Err(Error::ResultSchema { table: storage.location(), reason: "is not a Delta table".into() });
        };
        storage.create_dirs()?;
        storage.put_entry(0, &entry(&creation(&schema)?)).await?;
        let snapshot = TableSnapshot { storage, schema, version: 0, files: vec![], wal_position: 0 };
        Ok(Self { snapshot: Arc::new(snapshot), replaced: vec![], in_doubt: false })
    }

    pub(crate) fn storage(&self) -> &Arc<TableStorage> {
        &self.snapshot.storage
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
    /// [`Error::Io`] or [`Error::Storage`] if a folder cannot be listed. A file that cannot be deleted is only logged.
    pub(crate) async fn tidy(&mut self) -> Result<()> {
        self.delete_replaced().await;
        // A commit that failed after its entry got its name, or one of another writer: the next start will find it, so
        // the files that it adds are not left over.
        if self.in_doubt || self.storage().may_have_entry(self.snapshot.version + 1).await {
            return Ok(());
        }
        tidy::delete_unknown(self.storage(), &self.known_paths(), REPLACED_GRACE).await
    }

    /// The version to plan the next commit on: the one in memory, or, after a commit that failed late, the one on disk.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Storage`] and [`Error::Delta`] if that cannot be read yet.
    pub(crate) async fn settle(&mut self) -> Result<Arc<TableSnapshot>> {
        if self.in_doubt {
            self.storage().settle_log().await?;
            let schema = Some(Arc::clone(&self.snapshot.schema));
            let mut settled = load(Arc::clone(self.storage()), schema).await?;
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

    /// Checkpoints every hundred versions and drops the part of the log that this makes superfluous. Neither decides
    /// whether a commit holds, so failures are only logged.
    async fn checkpoint_when_due(&self) {
        let version = self.snapshot.version;
        if version == 0 || version % failpoint::checkpoint_interval().unwrap_or(CHECKPOINT_INTERVAL) != 0 {
            return;
        }
        // A test that has checkpoints come soon has them shorten the log at once too.
        let retention = failpoint::checkpoint_interval().map_or(LOG_RETENTION, |_| Duration::ZERO);
        let table = self.storage().location();
        if let Err(error) = checkpoint(self.storage()).await {
            tracing::warn!(%error, version, %table, "checkpoint failed; the log stays longer");
        } else if let Err(error) = tidy::shorten_log(self.storage(), retention).await {
            tracing::warn!(%error, version, %table, "old entries of the log not deleted");
        }
    }

    /// Notes files that the current version does not refer to any more.
    fn delete_later(&mut self, removed: &[Arc<LiveFile>], now: i64) {
        self.replaced.extend(removed.iter().map(|file| Replaced::new(file, now)));
    }

    /// Deletes files replaced long enough ago that nothing reads.
    pub(crate) async fn delete_replaced(&mut self) {
        let now = now_ms();
        let needed = |replaced: &Replaced| {
            let young = now - replaced.at_ms < REPLACED_GRACE.as_millis() as i64;
            young || replaced.readers.strong_count() > 0
        };
        let (needed, gone) = std::mem::take(&mut self.replaced).into_iter().partition::<Vec<_>, _>(needed);
        self.replaced = needed;
        let gone: Vec<_> = gone.into_iter().map(|replaced| replaced.path).collect();
        if !gone.is_empty() {
            self.storage().delete(&gone).await;
        }
        self.storage().delete_discarded().await;
    }
}

async fn open_delta(dir: &Path) -> Result<DeltaTable> {
    let url = ensure_table_uri(dir.to_string_lossy())?;
    Ok(open_table(url).await?)
}

pub(crate) async fn checkpoint(storage: &TableStorage) -> Result<()> {
    let (dir, log_dir) = (storage.dir(), storage.log_dir());
    failpoint::hit(Failpoint::DeltaBeforeCheckpoint, dir)?;
    let table = open_delta(dir).await?;
    deltalake::checkpoints::create_checkpoint(&table, None).await?;
    let version = i64::try_from(table.snapshot()?.version()).unwrap_or(i64::MAX);
    let path = log_dir.join(checkpoint_name(version));
    failpoint::hit(Failpoint::DeltaCheckpointWritten, &path)?;
    File::open(&path).and_then(|file| file.sync_all()).map_err(Error::io("sync", &path))?;
    sync_dir(&log_dir)?;
    failpoint::hit(Failpoint::DeltaCheckpointSynced, &path)?;
    checkpoint_seal::seal_checkpoint(&log_dir, version)?;
    storage.publish_checkpoint(version).await
}

/// Reads the newest version of what the log folder of `storage` shows.
async fn load(storage: Arc<TableStorage>, schema: Option<SchemaRef>) -> Result<TableSnapshot> {
    replay::check_seals(&storage.log_dir())?;
    let table = open_delta(storage.dir()).await?;
    let state = table.snapshot()?;
    let position = state.transaction_version(table.log_store().as_ref(), WAL_APP_ID).await?;
    let mut files = Vec::new();
    for view in state.log_data().iter() {
        let date = view.partition_values_map().get("date").cloned().flatten();
        let path = view.path().into_owned();
        let Some(date) = date.as_deref().and_then(parse_date) else {
            return Err(Error::NoDay { table: storage.location(), file: path });
        };
        let (stats, added_ms) = (view.stats().unwrap_or_default(), view.modification_time());
        let (size_bytes, checksum) = (view.size().cast_unsigned(), checksum_of(&view));
        files.push(Arc::new(LiveFile::from_stats(path, size_bytes, date, added_ms, &stats, checksum)));
    }
    let stored = date_last(&state.snapshot().arrow_schema());
    if let Some(schema) = schema.as_ref().filter(|schema| names(schema) != names(&stored)) {
        let (found, expected) = (names(&stored).join(", "), names(schema).join(", "));
        return Err(Error::OtherColumns { table: storage.location(), found, expected });
    }
    Ok(TableSnapshot {
        storage,
        schema: schema.unwrap_or(stored),
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

fn creation(schema: &Schema) -> Result<Vec<Value>> {
    let fields = schema.fields().iter().map(|field| delta_field(field)).collect::<Result<Vec<_>>>()?;
    let schema = json!({ "type": "struct", "fields": fields }).to_string();
    Ok(vec![
        json!({ "commitInfo": {
            "timestamp": now_ms(), "operation": "CREATE TABLE",
            "engineInfo": ENGINE,
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
        DataType::Binary => json!("binary"),
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
