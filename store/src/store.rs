//! The store: one data directory, opened by one process.

use std::{
    collections::BTreeMap,
    fs::File,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use datafusion::{
    arrow::{array::RecordBatch, datatypes::SchemaRef},
    catalog::TableProvider,
};
use tokio::{sync::Notify, task::JoinHandle};

use crate::{
    active_series::ActiveSeries,
    compaction::{Compaction, CompactionSummary, compact, compact_when_due},
    config::Config,
    data_dir,
    delta_log::DeltaLog,
    disk_space::DiskSpace,
    error::{Error, Result},
    failpoint,
    file_memory::FileMemory,
    flush,
    metrics::Metrics,
    quarantine::{Quarantined, quarantine_damaged, quarantined},
    replay::Replayer,
    result_table::split_by_day,
    retention::{Expiry, Retention, RetentionReport, RowCounts, expire},
    scan::StoreTable,
    schema::{histograms_schema, public_schema, rejections_schema, samples_file_schema, series_schema},
    stage::Stage,
    stored_times::StoredTimes,
    table_storage::Tables,
    wal::{Definitions, Sink, Wal, encode},
    write_batch::WriteBatch,
};

pub(crate) use crate::state::{State, WalTable};

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Position of the record in the log.
    pub sequence: u64,
    /// Points that replaced an unflushed point of the same identity.
    pub duplicate_count: u64,
}

/// What a flush wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FlushSummary {
    /// Rows written to all tables.
    pub row_count: u64,
    /// Files written.
    pub file_count: u64,
    /// Bytes written.
    pub size_bytes: u64,
}

/// Shape of one durable table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSummary {
    /// Table name.
    pub name: String,
    /// Delta version; -1 before the first commit.
    pub version: i64,
    /// Live files.
    pub file_count: u64,
    /// Rows in live files.
    pub row_count: u64,
    /// Bytes of live files.
    pub size_bytes: u64,
    /// Damaged files that a start has taken out of the table.
    pub quarantined_file_count: u64,
    /// Rows that these files held.
    pub quarantined_row_count: u64,
}

/// An open data directory.
#[derive(Debug)]
pub struct Store {
    inner: Arc<Inner>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// Time until a failed flush is tried again: what it failed for, often a full disk, rarely passes sooner.
const FLUSH_RETRY: Duration = Duration::from_secs(5);

/// One committer for each table.
type Committer = Arc<tokio::sync::Mutex<DeltaLog>>;

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Config,
    state: Arc<RwLock<State>>,
    committers: Mutex<BTreeMap<String, Committer>>,
    /// Taken for a whole flush, so that memtables reach the tables in log order.
    pub(crate) flushing: tokio::sync::Mutex<()>,
    /// Taken for a whole compaction, so that no two merge the same files.
    pub(crate) compacting: tokio::sync::Mutex<()>,
    /// Set once: long work in the background gives up.
    pub(crate) stopping: Arc<AtomicBool>,
    pub(crate) wal: Wal<WriteBatch>,
    flush_wanted: Arc<Notify>,
    /// An append found no space: a flush is due however little there is to flush.
    space_wanted: AtomicBool,
    pub(crate) compaction_wanted: Arc<Notify>,
    pub(crate) metrics: Metrics,
    disk_space: Arc<DiskSpace>,
    pub(crate) tables: Tables,
    pub(crate) file_memory: FileMemory,
    /// Of files that retention has looked at.
    pub(crate) row_counts: RowCounts,
    active_series: Arc<ActiveSeries>,
    /// By table, as found at start.
    quarantined: BTreeMap<String, Quarantined>,
    /// Held, not read: the operating system releases the lock when the process ends, however it ends.
    _lock: File,
}

/// Receives synced records on the log's thread.
struct Applier {
    definitions: Definitions,
    state: Arc<RwLock<State>>,
    flush_size_bytes: usize,
    flush_wanted: Arc<Notify>,
}

pub(crate) fn read_state(state: &RwLock<State>) -> RwLockReadGuard<'_, State> {
    state.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write_state(state: &RwLock<State>) -> RwLockWriteGuard<'_, State> {
    // A panic while holding the lock leaves whole rows or none, so the state stays usable.
    state.write().unwrap_or_else(PoisonError::into_inner)
}

impl Sink for Applier {
    type Item = WriteBatch;

    fn preface(&mut self, batch: &WriteBatch, starts_segment: bool, out: &mut Vec<u8>) {
        if starts_segment {
            self.definitions.clear();
        }
        self.definitions.put(&batch.series, out);
    }

    fn apply(&mut self, sequence: u64, batch: WriteBatch) -> u64 {
        let mut state = write_state(&self.state);
        let duplicate_count = Stage::Memtable.run(|| state.insert(sequence, batch));
        if state.active().size_bytes >= self.flush_size_bytes {
            self.flush_wanted.notify_one();
        }
        duplicate_count
    }

    fn seal(&mut self, _last_sequence: u64) {
        write_state(&self.state).seal();
    }
}

impl Inner {
    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        read_state(&self.state)
    }

    pub(crate) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        write_state(&self.state)
    }

    pub(crate) fn committer(&self, name: &str) -> Option<Committer> {
        self.committers.lock().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone)
    }

    pub(crate) fn all_committers(&self) -> Vec<Committer> {
        let committers = self.committers.lock().unwrap_or_else(PoisonError::into_inner);
        committers.values().map(Arc::clone).collect()
    }

    fn add_committer(&self, name: &str, log: DeltaLog) -> Committer {
        self.state_mut().publish(name, log.snapshot());
        let committer = Arc::new(tokio::sync::Mutex::new(log));
        let mut committers = self.committers.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(committers.entry(name.to_owned()).or_insert(committer))
    }

    fn flush_due(&self) -> bool {
        let state = self.state();
        let old = state.active().first_append.is_some_and(|since| since.elapsed() >= self.config.flush_interval);
        let for_space = self.space_wanted.swap(false, Ordering::Relaxed) && !state.active().is_empty();
        old || for_space || state.active().size_bytes >= self.config.flush_size_bytes || state.oldest_sealed().is_some()
    }
}

impl Store {
    /// Opens or creates the data directory, replays the log, takes damaged files out of the tables, and starts the flush
    /// task.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has it open; [`Error::NotADirectory`], [`Error::Unwritable`],
    /// [`Error::NewerFormat`]; [`Error::TablesElsewhere`], [`Error::TablesTaken`]; [`Error::Storage`] if the tables are on
    /// S3 and it does not answer; [`Error::Corrupt`] if the log or a table is damaged.
    pub async fn open(config: Config) -> Result<Arc<Self>> {
        failpoint::read_environment()?;
        let lock = data_dir::open(&config.data_dir)?;
        let tables = Tables::open(&config).await?;
        let mut logs = open_tables(&tables).await?;
        let mut state = State::new(stored_times(&logs).await?);
        let position = |table: WalTable| logs.get(table.name()).map_or(0, |log| log.snapshot().wal_position);
        // The last table of a flush says what every table holds; records beyond it may have reached some tables.
        let flushed_through = position(WalTable::LAST);
        let partial_through = WalTable::ALL.into_iter().map(position).max().unwrap_or(0);
        for (name, log) in &logs {
            state.publish(name, log.snapshot());
        }
        let state = Arc::new(RwLock::new(state));
        let flush_wanted = Arc::new(Notify::new());
        let applier = Applier {
            definitions: Definitions::default(),
            state: Arc::clone(&state),
            flush_size_bytes: config.flush_size_bytes,
            flush_wanted: Arc::clone(&flush_wanted),
        };
        let (wal_dir, durability) = (config.data_dir.join("wal"), config.durability);
        let segment_size = config.wal_segment_size_bytes;
        let active_series = Arc::new(ActiveSeries::new());
        let (replayed, seeded) = (Arc::clone(&state), Arc::clone(&active_series));
        let opened = tokio::task::spawn_blocking(move || {
            let now_us = chrono::Utc::now().timestamp_micros();
            Replayer::new(replayed, seeded, partial_through, now_us).run_beside(|replay| {
                Wal::open(wal_dir, durability, segment_size, flushed_through, partial_through, replay, applier)
            })
        });
        let (wal, replay) = opened.await.map_err(|error| Error::Task(error.to_string()))??;
        write_state(&state).seal_partial(partial_through);
        let days = read_state(&state).unflushed_days();
        quarantine_damaged(&config.data_dir, &mut logs, &days).await?;
        let quarantined = quarantined(&config.data_dir);
        for (name, log) in &logs {
            write_state(&state).publish(name, log.snapshot());
        }
        tracing::info!(records = replay.records, truncated_bytes = replay.truncated_bytes, "log replayed");
        let committers = logs.into_iter().map(|(name, log)| (name, Arc::new(tokio::sync::Mutex::new(log))));
        let disk_space = Arc::new(DiskSpace::new(config.data_dir.clone(), config.disk_free_bytes_min));
        let metrics = Metrics::new(&state, &active_series, &disk_space);
        metrics.quarantined(quarantined.values().map(|held| held.file_count).sum());
        let inner = Arc::new(Inner {
            committers: Mutex::new(committers.collect()),
            state,
            flushing: tokio::sync::Mutex::new(()),
            compacting: tokio::sync::Mutex::new(()),
            stopping: Arc::new(AtomicBool::new(false)),
            wal,
            flush_wanted,
            space_wanted: AtomicBool::new(false),
            compaction_wanted: Arc::new(Notify::new()),
            metrics,
            disk_space,
            active_series,
            quarantined,
            tables,
            file_memory: config.file_memory(),
            row_counts: RowCounts::default(),
            config,
            _lock: lock,
        });
        let flusher = tokio::spawn(flush_when_due(Arc::downgrade(&inner), Arc::clone(&inner.flush_wanted)));
        let wanted = Arc::clone(&inner.compaction_wanted);
        let compactor = tokio::spawn(compact_when_due(Arc::downgrade(&inner), wanted));
        Ok(Arc::new(Self { inner, tasks: Mutex::new(vec![flusher, compactor]) }))
    }

    /// Makes `batch` durable and visible to queries.
    ///
    /// # Cancel safety
    /// Dropping the future does not undo the append: the batch may still become durable.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when unflushed data is at its limit; [`Error::DiskFull`] and [`Error::WalFull`] while there
    /// is no space; [`Error::WalPoisoned`] after a failed write or sync.
    pub async fn append(&self, batch: WriteBatch) -> Result<Appended> {
        let (size_bytes, limit_bytes) = (self.inner.state().size_bytes(), self.inner.config.memtable_size_bytes_max);
        if size_bytes >= limit_bytes {
            self.inner.flush_wanted.notify_one();
            return Err(Error::Overloaded { size_bytes, limit_bytes });
        }
        // In the tables the points take a third of their memory or less.
        self.inner.disk_space.check(size_bytes as u64 / 2).inspect_err(|_full| self.want_space())?;
        let payload = Stage::Record.run(|| encode(&batch));
        self.inner.disk_space.charge(payload.len() as u64);
        let applied = self.inner.wal.append(payload, batch).await.inspect_err(|error| {
            if matches!(error, Error::WalFull { .. }) {
                self.want_space();
            }
        })?;
        Ok(Appended { sequence: applied.sequence, duplicate_count: applied.duplicate_count })
    }

    /// Asks for a flush, after which the log takes less space.
    fn want_space(&self) {
        self.inner.space_wanted.store(true, Ordering::Relaxed);
        self.inner.flush_wanted.notify_one();
    }

    /// Writes everything acknowledged so far to the tables and returns when it is committed.
    ///
    /// # Errors
    /// Any failure to write files or commit; nothing is lost, the data stays in the log and in memory.
    pub async fn flush(&self) -> Result<FlushSummary> {
        flush::flush(&self.inner).await
    }

    /// Merges files of all tables: what is due, or every day fully. Repeated points are dropped for good. Ingest and
    /// queries go on meanwhile.
    ///
    /// # Errors
    /// [`Error::Closing`] when the store closes meanwhile; any failure to read, write or commit. What was merged until
    /// then stays merged, and no row is lost.
    pub async fn compact(&self, compaction: Compaction) -> Result<CompactionSummary> {
        compact(&self.inner, compaction).await
    }

    /// Removes, or counts, whole days that are older than `retention` keeps their table, and rows of metrics that a rule
    /// keeps shorter. Replaced files are deleted ten minutes later. Ingest and queries go on meanwhile, and queries under
    /// way keep what they see.
    ///
    /// # Errors
    /// [`Error::Closing`] when the store closes meanwhile; any failure to read or write files that are rewritten;
    /// [`Error::Io`] if a commit could not be made durable. What was committed until then stays so.
    pub async fn expire(&self, retention: &Retention, expiry: Expiry) -> Result<RetentionReport> {
        expire(&self.inner, retention, chrono::Utc::now().timestamp_micros(), expiry).await
    }

    /// The table `name` as a DataFusion provider: unflushed rows and live files of the moment of the scan.
    /// Names: `samples`, `histograms`, `series`, `rejections` and every result table written so far.
    pub fn table(self: &Arc<Self>, name: &str) -> Option<Arc<dyn TableProvider>> {
        let snapshot = self.inner.state().snapshot(name)?;
        Some(Arc::new(StoreTable::new(&self.inner, name, public_schema(name, &snapshot.schema))))
    }

    /// The table of points `name` (`samples`, `histograms`) in the order `(metric, series_id, time)`, which the provider
    /// declares: what goes through series one by one needs no sort and no memory for more than one. For few days at a
    /// time: all files that a scan reads are open at once.
    pub fn table_in_order(self: &Arc<Self>, name: &str) -> Option<Arc<dyn TableProvider>> {
        WalTable::from_name(name).filter(|table| table.holds_points())?;
        let snapshot = self.inner.state().snapshot(name)?;
        Some(Arc::new(StoreTable::new(&self.inner, name, public_schema(name, &snapshot.schema)).in_order()))
    }

    /// Tables that [`Store::table`] knows, with their size.
    pub fn tables(&self) -> Vec<TableSummary> {
        let state = self.inner.state();
        let summaries = state.tables().map(|(name, snapshot)| {
            let quarantined = self.inner.quarantined.get(name).copied().unwrap_or_default();
            TableSummary {
                name: name.clone(),
                version: snapshot.version,
                file_count: snapshot.files.len() as u64,
                row_count: snapshot.files.iter().map(|file| file.row_count).sum(),
                size_bytes: snapshot.files.iter().map(|file| file.size_bytes).sum(),
                quarantined_file_count: quarantined.file_count,
                quarantined_row_count: quarantined.row_count,
            }
        });
        summaries.collect()
    }

    /// The register of active series, which whoever appends asks before it lets a new series in.
    pub fn active_series(&self) -> Arc<ActiveSeries> {
        Arc::clone(&self.inner.active_series)
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Bytes of acknowledged points that no file holds yet.
    pub fn unflushed_size_bytes(&self) -> usize {
        self.inner.state().size_bytes()
    }

    /// Appends `batch` to the result table `name` (created on first use) and returns the Delta version.
    /// The first column must be `time`, a non-null UTC timestamp in microseconds; the partition `date` is derived from it.
    ///
    /// # Errors
    /// [`Error::ResultSchema`] if the batch does not fit the table.
    pub async fn write_result(&self, name: &str, batch: RecordBatch) -> Result<i64> {
        let days = split_by_day(name, &batch)?;
        let schema: SchemaRef = days.schema;
        let committer = match self.inner.committer(name) {
            Some(committer) => committer,
            None => {
                let log = DeltaLog::open(self.inner.tables.table(name), Some(Arc::clone(&schema))).await?;
                self.inner.add_committer(name, log)
            }
        };
        let mut log = committer.lock().await;
        let known = Arc::clone(&log.settle().await?.schema);
        if !same_columns(&known, &schema) {
            let reason = format!(
                "has columns {}, the batch has {}: another version wrote the table; with the server stopped, move its folder away, \
                 and it is made anew",
                column_list(&known),
                column_list(&schema)
            );
            return Err(Error::ResultSchema { table: name.to_owned(), reason });
        }
        let storage = Arc::clone(log.storage());
        let files = flush::write_days(storage, days.batches, self.inner.file_memory.row_group_size_bytes).await?;
        let snapshot = log.commit(files, &[], None).await?;
        let version = snapshot.version;
        self.inner.state_mut().publish(name, snapshot);
        Ok(version)
    }

    /// Flushes, stops the background work and releases the directory.
    ///
    /// # Errors
    /// What [`Store::flush`] returns; the log keeps what was not flushed.
    pub async fn close(&self) -> Result<()> {
        self.inner.stopping.store(true, Ordering::Relaxed);
        // A merge under way gives up within a batch and deletes what it wrote; none starts while this is held.
        let _no_merge = self.inner.compacting.lock().await;
        // A flush that runs is let end: cut short it would leave a file that no table refers to.
        let between_flushes = self.inner.flushing.lock().await;
        self.abort_tasks();
        drop(between_flushes);
        self.flush().await?;
        self.inner.wal.close().await
    }

    fn abort_tasks(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.into_iter().for_each(|task| task.abort());
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.inner.stopping.store(true, Ordering::Relaxed);
        self.abort_tasks();
    }
}

async fn stored_times(logs: &BTreeMap<String, DeltaLog>) -> Result<StoredTimes> {
    let series = logs.get(WalTable::Series.name()).map(DeltaLog::snapshot);
    let load = move || series.map_or_else(StoredTimes::new, |series| StoredTimes::load(&series));
    tokio::task::spawn_blocking(load).await.map_err(|error| Error::Task(error.to_string()))
}

fn same_columns(known: &SchemaRef, batch: &SchemaRef) -> bool {
    let columns = |schema: &SchemaRef| -> Vec<_> {
        schema.fields().iter().map(|field| (field.name().clone(), field.data_type().to_string())).collect()
    };
    columns(known) == columns(batch)
}

fn column_list(schema: &SchemaRef) -> String {
    let columns = schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type()));
    columns.collect::<Vec<_>>().join(", ")
}

async fn open_tables(tables: &Tables) -> Result<BTreeMap<String, DeltaLog>> {
    let mut logs = BTreeMap::new();
    let own = [samples_file_schema(), histograms_schema(), rejections_schema(), series_schema()];
    for (table, schema) in WalTable::ALL.into_iter().zip(own) {
        let name = table.name();
        logs.insert(name.to_owned(), DeltaLog::open(tables.table(name), Some(schema)).await?);
    }
    // The tables of results.
    for name in tables.names().await?.into_iter().filter(|name| WalTable::from_name(name).is_none()) {
        let log = DeltaLog::open(tables.table(&name), None).await?;
        logs.insert(name, log);
    }
    Ok(logs)
}

/// Flushes when the memtable is full or old; ends when the store is gone.
async fn flush_when_due(store: Weak<Inner>, wanted: Arc<Notify>) {
    loop {
        // The timeout is only the resolution of `flush_interval`.
        let _woken_or_due = tokio::time::timeout(Duration::from_secs(1), wanted.notified()).await;
        let Some(store) = store.upgrade() else { return };
        if store.flush_due()
            && let Err(error) = flush::flush(&store).await
        {
            tracing::error!(%error, "flush failed; the data stays in the log and in memory and is tried again");
            drop(store);
            tokio::time::sleep(FLUSH_RETRY).await;
        }
    }
}

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
pub(crate) mod tests;
