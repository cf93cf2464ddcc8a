//! Which questions are asked now, and which slow ones ended lately: what `system.queries` shows and what is stopped by id.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arrow::{
    array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, TimeUnit},
};
use datafusion::{
    catalog::{MemTable, TableProvider},
    error::Result,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Of a longer statement only the beginning is shown.
const TEXT_SIZE_BYTES_MAX: usize = 4096;
/// A question that took at least this long is shown for a while after its end.
const SLOW: Duration = Duration::from_secs(1);
/// Ended slow questions that are shown; the oldest make room.
const ENDED_COUNT_MAX: usize = 100;

/// The way a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// `/api/v1/sql`.
    Http,
    /// PostgreSQL wire.
    Postgres,
    /// Arrow Flight SQL.
    Flight,
    /// A job over HTTP.
    Job,
}

impl Surface {
    /// As metrics and tables show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Postgres => "postgres",
            Self::Flight => "flight",
            Self::Job => "job",
        }
    }
}

/// One question from its arrival to its end.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) surface: Surface,
    pub(crate) started: Instant,
    pub(crate) user: Option<String>,
    text: String,
    arrived: SystemTime,
    runs: AtomicBool,
    rows: AtomicU64,
    /// What stops the question, whoever does.
    pub(crate) stop: CancellationToken,
}

#[derive(Debug)]
struct Ended {
    entry: Arc<Entry>,
    elapsed: Duration,
    outcome: &'static str,
}

#[derive(Debug, Default)]
struct Entries {
    last_id: u64,
    open: BTreeMap<u64, Arc<Entry>>,
    ended: VecDeque<Ended>,
}

/// The questions of one session factory.
#[derive(Debug, Default)]
pub(crate) struct QuestionLog {
    entries: Mutex<Entries>,
}

impl QuestionLog {
    /// Writes down a question that arrives now.
    pub(crate) fn begin(
        &self,
        surface: Surface,
        user: Option<String>,
        text: &str,
        stop: CancellationToken,
    ) -> Arc<Entry> {
        let mut entries = self.entries();
        entries.last_id += 1;
        let entry = Arc::new(Entry {
            id: entries.last_id,
            surface,
            started: Instant::now(),
            user,
            text: text[..text.floor_char_boundary(TEXT_SIZE_BYTES_MAX)].to_owned(),
            arrived: SystemTime::now(),
            runs: AtomicBool::new(false),
            rows: AtomicU64::new(0),
            stop,
        });
        entries.open.insert(entry.id, Arc::clone(&entry));
        entry
    }

    /// Strikes a question off.
    pub(crate) fn end(&self, entry: &Arc<Entry>, outcome: &'static str) {
        let elapsed = entry.started.elapsed();
        let mut entries = self.entries();
        entries.open.remove(&entry.id);
        if elapsed >= SLOW {
            if entries.ended.len() == ENDED_COUNT_MAX {
                entries.ended.pop_front();
            }
            entries.ended.push_back(Ended { entry: Arc::clone(entry), elapsed, outcome });
        }
    }

    /// Stops a question that waits or runs; false if there is none of this id.
    pub(crate) fn stop(&self, id: u64) -> bool {
        let found = self.entries().open.get(&id).map(Arc::clone);
        found.inspect(|entry| entry.stop.cancel()).is_some()
    }

    /// `system.queries` as of now: those that wait or run, then the slow ones that ended, newest first.
    pub(crate) fn table(&self) -> Result<Arc<dyn TableProvider>> {
        let entries = self.entries();
        let open = entries.open.values().map(|entry| (entry, entry.state(), entry.started.elapsed()));
        let ended = entries.ended.iter().rev().map(|ended| (&ended.entry, ended.outcome, ended.elapsed));
        let rows: Vec<_> = open.chain(ended).collect();
        let text = |pick: &dyn Fn(&Entry) -> Option<&str>| -> ArrayRef {
            Arc::new(rows.iter().map(|(entry, ..)| pick(entry)).collect::<StringArray>())
        };
        let number = |pick: &dyn Fn(&Entry) -> u64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(entry, ..)| pick(entry).cast_signed())))
        };
        let started = rows.iter().map(|(entry, ..)| entry.arrived_us());
        let elapsed = rows.iter().map(|(.., elapsed)| elapsed.as_secs_f64() * 1e3);
        let columns: Vec<ArrayRef> = vec![
            number(&|entry| entry.id),
            text(&|entry| Some(entry.surface.name())),
            text(&|entry| entry.user.as_deref()),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, state, _)| state))),
            Arc::new(TimestampMicrosecondArray::from_iter_values(started).with_timezone("UTC")),
            Arc::new(Float64Array::from_iter_values(elapsed)),
            number(&|entry| entry.rows.load(Ordering::Relaxed)),
            text(&|entry| Some(&entry.text)),
        ];
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("surface", DataType::Utf8, false),
            Field::new("user_name", DataType::Utf8, true),
            Field::new("state", DataType::Utf8, false),
            Field::new("started", time, false),
            Field::new("elapsed_ms", DataType::Float64, false),
            Field::new("rows", DataType::Int64, false),
            Field::new("statement", DataType::Utf8, false),
        ]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // Nothing in here is left half done by a panic.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// The question has its slot.
    pub(crate) fn run(&self) {
        self.runs.store(true, Ordering::Relaxed);
    }

    /// Counts rows on their way to the client, and gives how many they are.
    pub(crate) fn add_rows(&self, count: usize) -> u64 {
        let count = count as u64;
        self.rows.fetch_add(count, Ordering::Relaxed) + count
    }

    fn state(&self) -> &'static str {
        if self.runs.load(Ordering::Relaxed) { "running" } else { "waiting" }
    }

    fn arrived_us(&self) -> i64 {
        let since = self.arrived.duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    }
}
