//! The questions of every surface: they share slots, a bounded queue, a time limit and metrics.
//!
//! A surface asks for a slot with [`Questions::ask`], which waits in the queue, and then runs its work with
//! [`Question::answer`]. Whatever the client does, the slot is given back at the time limit at the latest.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arrow::array::{Array as _, RecordBatch};
use datafusion::{execution::SendableRecordBatchStream, prelude::SessionContext};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    answer::Answer,
    config::Config,
    error::{Error, ErrorKind, Result},
    metrics::Metrics,
    question_log::{Entry, QuestionLog, Surface},
    user_turns::{UserTurns, Waiting},
};

/// A statement that arrives.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// The way it came.
    pub surface: Surface,
    /// Who asks, if that is known.
    pub user: Option<String>,
    /// The statement as it was sent.
    pub text: &'a str,
    /// Time it may take, the queue included: shorter than the limit of the surface, never longer.
    pub timeout: Option<Duration>,
    /// What stops it, waiting or running; a request to stop it by its id cancels this, too.
    pub stop: CancellationToken,
}

/// All questions of a session factory. Clones share everything.
#[derive(Clone)]
pub struct Questions {
    shared: Arc<Shared>,
}

struct Shared {
    ctx: SessionContext,
    config: Config,
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    users: UserTurns,
    metrics: Metrics,
    log: Arc<QuestionLog>,
}

impl fmt::Debug for Questions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Questions").field("free_slots", &self.shared.slots.available_permits()).finish_non_exhaustive()
    }
}

impl Questions {
    /// Questions to `ctx`, which [`crate::session`] made. Create it after the global meter provider is set.
    pub fn new(ctx: SessionContext, config: Config) -> Self {
        let slots = Arc::new(Semaphore::new(config.concurrency_max));
        // A session of another make has no `system.queries` to show them in.
        let log = ctx.state().config().get_extension().unwrap_or_default();
        let (waiting, users, metrics) = (AtomicUsize::new(0), UserTurns::new(&config), Metrics::new());
        Self { shared: Arc::new(Shared { ctx, config, slots, waiting, users, metrics, log }) }
    }

    /// The session that answers.
    pub fn session(&self) -> &SessionContext {
        &self.shared.ctx
    }

    /// The limits that hold.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Waits for a slot.
    ///
    /// # Errors
    /// [`Error::Busy`] or [`Error::UserBusy`] if the queue is full, [`Error::Timeout`] if no slot came free in time,
    /// [`Error::Cancelled`].
    pub async fn ask(&self, asked: Asked<'_>) -> Result<Question> {
        let shared = &self.shared;
        let limit = match asked.surface {
            Surface::Job => shared.config.job_timeout,
            Surface::Http | Surface::Postgres | Surface::Flight => shared.config.timeout,
        };
        let limits = asked.user.as_ref().and_then(|user| shared.config.user_limits.get(user));
        let limit = limits.and_then(|limits| limits.timeout).map_or(limit, |own| own.min(limit));
        let timeout = asked.timeout.map_or(limit, |timeout| timeout.min(limit));
        let (rows_max, bytes_max) = limits.map_or((None, None), |limits| (limits.rows_max, limits.bytes_max));
        // The user's own turn comes first: whoever waits for it takes no place from others.
        let refused = |_full: &Error| shared.metrics.refused(asked.surface);
        let mut waiting = None;
        let own = match shared.users.of(asked.user.as_deref()) {
            Some(turn) => match turn.try_acquire() {
                Some(slot) => Some(slot),
                None => {
                    let turn = turn.wait().inspect_err(refused)?;
                    waiting = Some(turn);
                    None
                }
            },
            None => None,
        };
        let slot = if waiting.is_none() { Arc::clone(&shared.slots).try_acquire_owned().ok() } else { None };
        let place = if waiting.is_none() && slot.is_none() { Some(self.place().inspect_err(refused)?) } else { None };
        shared.metrics.begin(asked.surface);
        let entry = shared.log.begin(asked.surface, asked.user, asked.text, asked.stop);
        let slots = Slots { own, shared: slot };
        let mut question = Question {
            shared: Arc::clone(shared),
            entry,
            timeout,
            rows_max,
            bytes_max,
            bytes: AtomicU64::new(0),
            slots,
            outcome: ABANDONED,
        };
        if question.slots.shared.is_none() {
            let slots = question.within_limits(self.slots(waiting, place)).await;
            let Slots { own, shared } = slots.inspect_err(|error| question.failed(error))?;
            question.slots.own = question.slots.own.take().or(own);
            question.slots.shared = shared;
        }
        question.entry.run();
        Ok(question)
    }

    /// Stops the question with this id of `system.queries`; false if it neither waits nor runs.
    pub fn cancel(&self, id: u64) -> bool {
        self.shared.log.stop(id)
    }

    /// Waits for the user's own turn, if there is one to wait for, and then for a slot of all.
    async fn slots(&self, waiting: Option<Waiting>, place: Option<Place>) -> Result<Slots> {
        let own = match waiting {
            Some(waiting) => Some(waiting.acquire().await?),
            None => None,
        };
        let free = Arc::clone(&self.shared.slots).try_acquire_owned().ok();
        let shared = match free {
            Some(slot) => slot,
            None => {
                let _place = if place.is_none() { Some(self.place()?) } else { place };
                let slot = Arc::clone(&self.shared.slots).acquire_owned().await;
                // Only closing the semaphore fails here, which nobody does.
                slot.map_err(|_closed| Error::invalid("the server takes no more questions"))?
            }
        };
        Ok(Slots { own, shared: Some(shared) })
    }

    /// A place in the queue.
    fn place(&self) -> Result<Place> {
        let Shared { waiting, config, .. } = &*self.shared;
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        let place = Place { shared: Arc::clone(&self.shared) };
        if before < config.queue_max {
            return Ok(place);
        }
        Err(Error::Busy { running: config.concurrency_max, waiting: config.queue_max })
    }
}

/// Counted as waiting until it is dropped.
struct Place {
    shared: Arc<Shared>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A question with its slot, both given up when this is dropped.
pub struct Question {
    shared: Arc<Shared>,
    entry: Arc<Entry>,
    timeout: Duration,
    /// Rows that the user may read.
    rows_max: Option<u64>,
    /// Bytes that the user may read, and those on their way so far, as Arrow columns.
    bytes_max: Option<u64>,
    bytes: AtomicU64,
    slots: Slots,
    /// What is dropped without an end was given up by its client.
    outcome: &'static str,
}

/// What a question holds while it runs.
struct Slots {
    /// Of the user, where there is a limit.
    own: Option<OwnedSemaphorePermit>,
    /// Of all; `None` only while it waits.
    shared: Option<OwnedSemaphorePermit>,
}

/// Of a question whose client left.
const ABANDONED: &str = "abandoned";

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").field("id", &self.entry.id).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Question {
    /// Its id in `system.queries`, to cancel it by.
    pub fn id(&self) -> u64 {
        self.entry.id
    }

    /// When it arrived.
    pub fn started(&self) -> Instant {
        self.entry.started
    }

    /// Lets `begin` plan and start the query, and gives its batches.
    ///
    /// # Errors
    /// Those of `begin`, [`Error::Timeout`], [`Error::Cancelled`].
    pub async fn answer(mut self, begin: impl Future<Output = Result<SendableRecordBatchStream>>) -> Result<Answer> {
        match self.within_limits(begin).await {
            Ok(batches) => Ok(Answer::new(self, batches)),
            Err(error) => {
                self.failed(&error);
                Err(error)
            }
        }
    }

    /// `work`, unless the time is over or somebody stops the question before it ends.
    pub(crate) async fn within_limits<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let timeout = self.timeout;
        tokio::select! {
            // A question that is stopped does not go on because its next batch is there too.
            biased;
            () = self.entry.stop.cancelled() => Err(Error::Cancelled),
            () = tokio::time::sleep_until(self.entry.started + timeout) => Err(Error::Timeout { timeout }),
            done = work => done,
        }
    }

    /// Counts what is on its way to the client.
    ///
    /// # Errors
    /// [`Error::UserRows`], [`Error::UserBytes`] if it is more than the user may read.
    pub(crate) fn add(&self, batch: &RecordBatch) -> Result<()> {
        let rows = self.entry.add_rows(batch.num_rows());
        let Some(user) = &self.entry.user else { return Ok(()) };
        if let Some(rows_max) = self.rows_max.filter(|rows_max| rows > *rows_max) {
            return Err(Error::UserRows { user: user.clone(), rows_max });
        }
        if let Some(bytes_max) = self.bytes_max {
            let sizes = batch.columns().iter().map(|column| column.to_data().get_slice_memory_size());
            let size = sizes.sum::<std::result::Result<usize, _>>().map_err(|error| Error::of("", error.into()))?;
            if self.bytes.fetch_add(size as u64, Ordering::Relaxed) + size as u64 > bytes_max {
                return Err(Error::UserBytes { user: user.clone(), bytes_max });
            }
        }
        Ok(())
    }

    /// What stops it.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.entry.stop
    }

    pub(crate) fn answered(&mut self) {
        self.outcome = "answered";
    }

    pub(crate) fn failed(&mut self, error: &Error) {
        self.outcome = error.kind().name();
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        let Self { shared, entry, outcome, .. } = self;
        if *outcome == ABANDONED && entry.stop.is_cancelled() {
            // Whoever stopped it did not wait for it to notice.
            *outcome = ErrorKind::Cancelled.name();
        }
        shared.log.end(entry, outcome);
        shared.metrics.end(entry.surface, entry.started.elapsed(), outcome);
    }
}
