//! The transaction log of one Delta table, written by its one committer.
//!
//! The committer keeps the live file list in memory and writes each commit as the next JSON entry with an atomic
//! create, so a commit costs the same at ten files and at ten thousand. Opening replays the log through the `deltalake`
//! crate, which also writes the checkpoints. The log position of the data travels in the same entry (`STORE-1`). Every
//! entry carries its own checksum, every `add` that of its file, and every checkpoint has one beside it.

mod checkpoint_seal;
mod quarantine;
mod replay;
mod seal;

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use deltalake::{DeltaTable, ensure_table_uri, kernel::LogicalFileView, open_table};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    checksum::{CHECKSUM_TAG, Checksum},
    error::{Error, Result},
    failpoint::{self, Failpoint},
    live_file::{LiveFile, date_text, parse_date},
    parquet_file::sync_dir,
    partial_file::{PartialFile, remove_unused},
};

pub(crate) use replay::{Replayed, is_log_file, replay};

/// Application id of the `txn` action that carries the log position.
const WAL_APP_ID: &str = "driftwatt-wal";
const CHECKPOINT_INTERVAL: i64 = 100;
/// How long a replaced file stays for queries that still read it.
const REPLACED_GRACE: Duration = Duration::from_secs(600);

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
    replaced: Vec<(Instant, PathBuf)>,
    /// The last commit failed after it took its version, so the log is, or after a crash may be, ahead of `snapshot`.
    in_doubt: bool,
}

fn log_dir(dir: &Path) -> PathBuf {
    dir.join("_delta_log")
}

/// Whether a version was committed. Temporary files of a creation that was cut short are none.
fn has_entries(log_dir: &Path) -> bool {
    let is_entry = |entry: fs::DirEntry| entry.path().extension().is_some_and(|extension| extension == "json");
    fs::read_dir(log_dir).is_ok_and(|entries| entries.flatten().any(is_entry))
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as i64)
}

impl DeltaLog {
    /// Opens the table at `dir`; creates it with `schema` if there is none.
    ///
    /// # Errors
    /// [`Error::Delta`] if the log cannot be read, [`Error::Io`] if the table cannot be created,
    /// [`Error::ResultSchema`] if there is neither a table nor a schema.
    pub(crate) async fn open(dir: PathBuf, schema: Option<SchemaRef>) -> Result<Self> {
        let exists = has_entries(&log_dir(&dir));
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
        if !exists {
            fs::create_dir_all(log_dir(log.dir())).map_err(Error::io("create directory", log_dir(log.dir())))?;
            sync_dir(log.dir())?;
            log.write_entry(&creation(&log.snapshot.schema)?)?;
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

    /// The version to plan the next commit on: the one in memory, or, after a commit that failed late, the one on disk.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Delta`] if that cannot be read yet.
    pub(crate) async fn settle(&mut self) -> Result<Arc<TableSnapshot>> {
        if self.in_doubt {
            sync_dir(&log_dir(self.dir()))?;
            let settled = load(self.dir().to_owned(), Some(Arc::clone(&self.snapshot.schema))).await?;
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
        added: Vec<LiveFile>,
        removed: &[Arc<LiveFile>],
        wal_position: Option<u64>,
    ) -> Result<Arc<TableSnapshot>> {
        let now = now_ms();
        let mut actions = vec![json!({ "commitInfo": {
            "timestamp": now, "operation": "WRITE", "isBlindAppend": removed.is_empty(),
            "engineInfo": concat!("driftwatt/", env!("CARGO_PKG_VERSION")),
        }})];
        if let Some(position) = wal_position {
            actions.push(json!({ "txn": { "appId": WAL_APP_ID, "version": position, "lastUpdated": now } }));
        }
        actions.extend(removed.iter().map(|file| remove_action(file, now)));
        actions.extend(added.iter().map(|file| add_action(file, now)));
        if let Err(error) = self.write_entry(&actions) {
            self.in_doubt = self.next_entry().try_exists().unwrap_or(true);
            if !self.in_doubt {
                // The next attempt writes new files; on a full disk these would pile up.
                added.iter().for_each(|file| remove_unused(&self.dir().join(&file.path)));
            }
            return Err(error);
        }
        let snapshot = Arc::make_mut(&mut self.snapshot);
        snapshot.version += 1;
        snapshot.files.retain(|file| !removed.iter().any(|gone| gone.path == file.path));
        snapshot.files.extend(added.into_iter().map(Arc::new));
        snapshot.wal_position = wal_position.unwrap_or(snapshot.wal_position);
        let table_dir = Arc::clone(&snapshot.dir);
        self.replaced.extend(removed.iter().map(|file| (Instant::now(), table_dir.join(&file.path))));
        self.tidy().await;
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

    /// Checkpoints on schedule and deletes files replaced long enough ago. Neither decides whether a commit holds, so
    /// failures are only logged.
    async fn tidy(&mut self) {
        let version = self.snapshot.version;
        if version > 0
            && version % failpoint::checkpoint_interval().unwrap_or(CHECKPOINT_INTERVAL) == 0
            && let Err(error) = checkpoint(self.dir()).await
        {
            tracing::warn!(%error, version, table = %self.dir().display(), "checkpoint failed; the log stays longer");
        }
        self.replaced.retain(|(since, path)| {
            let keep = since.elapsed() < REPLACED_GRACE;
            if !keep && let Err(error) = remove_replaced(path) {
                tracing::warn!(%error, path = %path.display(), "replaced file not deleted");
            }
            keep
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

fn remove_replaced(path: &Path) -> Result<()> {
    failpoint::hit(Failpoint::DeltaBeforeDelete, path)?;
    fs::remove_file(path).map_err(Error::io("remove", path))
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
        let stats = view.stats().unwrap_or_default();
        let checksum = checksum_of(&view);
        files.push(Arc::new(LiveFile::from_stats(path, view.size().cast_unsigned(), date, &stats, checksum)));
    }
    let schema = schema.unwrap_or_else(|| date_last(&state.snapshot().arrow_schema()));
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

fn date_last(schema: &Schema) -> SchemaRef {
    let (mut fields, date): (Vec<_>, Vec<_>) =
        schema.fields().iter().cloned().partition(|field| field.name() != "date");
    fields.extend(date);
    Arc::new(Schema::new(fields))
}

fn add_action(file: &LiveFile, now: i64) -> Value {
    json!({ "add": {
        "path": file.path, "partitionValues": { "date": date_text(file.date) }, "size": file.size_bytes,
        "modificationTime": now, "dataChange": true, "stats": file.stats(),
        "tags": file.checksum.tag().map(|tag| json!({ CHECKSUM_TAG: tag })),
    }})
}

fn remove_action(file: &LiveFile, now: i64) -> Value {
    json!({ "remove": {
        "path": file.path, "deletionTimestamp": now, "dataChange": true, "extendedFileMetadata": true,
        "partitionValues": { "date": date_text(file.date) }, "size": file.size_bytes,
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
