//! One job: what it was asked, how far it is, how it ended.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::spool::SpoolFile;
use crate::{
    error::{Error, ErrorKind},
    format::Format,
};

/// What a job is to answer.
#[derive(Debug)]
pub(crate) struct JobQuestion {
    pub(crate) query: String,
    pub(crate) params: Vec<Value>,
    pub(crate) format: Format,
    /// Shorter than the limit of jobs, never longer.
    pub(crate) timeout: Option<Duration>,
}

/// A job, by an id that cannot be guessed.
#[derive(Debug)]
pub(crate) struct Job {
    id: String,
    format: Format,
    submitted: Instant,
    rows: AtomicU64,
    size_bytes: AtomicU64,
    stage: Mutex<Stage>,
    /// What stops its question.
    pub(super) stop: CancellationToken,
}

#[derive(Debug)]
struct Stage {
    state: State,
    ended: Option<Instant>,
}

/// How far a job is.
#[derive(Debug, Clone)]
pub(crate) enum State {
    /// For a slot.
    Waiting,
    Running,
    Done(Arc<SpoolFile>),
    Failed(Arc<Error>),
}

impl State {
    fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done(_) => "done",
            Self::Failed(error) if error.kind() == ErrorKind::Cancelled => "cancelled",
            Self::Failed(_) => "failed",
        }
    }
}

impl Job {
    pub(super) fn new(format: Format) -> Self {
        Self {
            id: Uuid::new_v4().to_string(),
            format,
            submitted: Instant::now(),
            rows: AtomicU64::new(0),
            size_bytes: AtomicU64::new(0),
            stage: Mutex::new(Stage { state: State::Waiting, ended: None }),
            stop: CancellationToken::new(),
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn state(&self) -> State {
        self.stage().state.clone()
    }

    pub(super) fn waits(&self) -> bool {
        matches!(self.stage().state, State::Waiting)
    }

    pub(super) fn runs(&self) {
        self.stage().state = State::Running;
    }

    /// More rows are in the file, which is so large now.
    pub(super) fn wrote(&self, rows: usize, size_bytes: u64) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.size_bytes.store(size_bytes, Ordering::Relaxed);
    }

    pub(super) fn done(&self, file: SpoolFile) {
        self.end(State::Done(Arc::new(file)));
    }

    pub(super) fn failed(&self, error: Error) {
        if error.kind() == ErrorKind::Internal {
            tracing::error!(%error, job = self.id, "job failed");
        }
        self.end(State::Failed(Arc::new(error)));
    }

    fn end(&self, state: State) {
        *self.stage() = Stage { state, ended: Some(Instant::now()) };
    }

    /// As clients see it; `position` counts from 1 in the queue, `keep` is how long it stays after its end.
    pub(super) fn describe(&self, position: usize, keep: Duration) -> Value {
        let stage = self.stage();
        let elapsed = stage.ended.unwrap_or_else(Instant::now).duration_since(self.submitted);
        let kept = stage.ended.map(|ended| keep.saturating_sub(ended.elapsed()).as_secs());
        let (error, result) = match &stage.state {
            State::Failed(error) => (Some(error.to_json()), None),
            State::Done(_) => (None, Some(format!("/api/v1/sql/jobs/{}/result", self.id))),
            State::Waiting | State::Running => (None, None),
        };
        json!({
            "id": self.id,
            "state": stage.state.name(),
            "format": self.format.name(),
            "queue_position": matches!(stage.state, State::Waiting).then_some(position),
            "rows": self.rows.load(Ordering::Relaxed),
            "size_bytes": self.size_bytes.load(Ordering::Relaxed),
            "elapsed_ms": (elapsed.as_secs_f64() * 1e6).round() / 1e3,
            "expires_in_seconds": kept,
            "error": error,
            "result": result,
        })
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        // Nothing in here is left half done by a panic.
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
