//! Questions that take longer than a client waits: submitted, looked at, and their results fetched as files.
//!
//! Everything is bounded: how many jobs are kept, how many run at once, how long each runs and is kept, how large results
//! are. A job that is removed stops, and its file goes with it.

mod job;
mod spool;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use datafusion::common::runtime::SpawnedTask;
use futures::StreamExt;
use serde_json::Value;
use tokio::{sync::Semaphore, time::Instant};

pub(crate) use self::job::{Job, JobQuestion, State};
use self::spool::{Spool, SpoolFile};
use crate::{
    batch_writer::BatchWriter,
    error::{Error, Result},
    question_log::Surface,
    questions::{Asked, Question, Questions},
    run,
};

/// Of the slots of all questions, jobs hold at most one in so many, so that short questions find one.
const SLOTS_PER_JOB: usize = 4;
/// Pause before a job asks again for a place in a full queue.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// The jobs of a server. Clones share everything.
#[derive(Clone)]
pub(crate) struct Jobs {
    shared: Arc<Shared>,
}

struct Shared {
    questions: Questions,
    spool: Arc<Spool>,
    /// Of jobs that run at once.
    slots: Arc<Semaphore>,
    /// In the order in which they came.
    entries: Mutex<Vec<Entry>>,
}

struct Entry {
    job: Arc<Job>,
    /// Held: dropping it stops the job.
    _task: SpawnedTask<()>,
}

impl Jobs {
    /// No jobs yet; results of an earlier process are deleted.
    pub(crate) fn new(questions: Questions) -> Self {
        let config = questions.config();
        let spool = Arc::new(Spool::new(config));
        let slots = Arc::new(Semaphore::new((config.concurrency_max / SLOTS_PER_JOB).max(1)));
        Self { shared: Arc::new(Shared { questions, spool, slots, entries: Mutex::default() }) }
    }

    /// Starts a job on the runtime of the caller.
    ///
    /// # Errors
    /// [`Error::Jobs`] if too many are kept already.
    pub(crate) fn submit(&self, question: JobQuestion) -> Result<Arc<Job>> {
        let mut entries = self.shared.entries();
        let count_max = self.shared.questions.config().jobs_max;
        if entries.len() >= count_max {
            return Err(Error::Jobs { count_max });
        }
        let job = Arc::new(Job::new(question.format));
        let worker = Worker {
            job: Arc::clone(&job),
            questions: self.shared.questions.clone(),
            spool: Arc::clone(&self.shared.spool),
            slots: Arc::clone(&self.shared.slots),
        };
        let task = SpawnedTask::spawn(live(worker, question, Arc::downgrade(&self.shared)));
        entries.push(Entry { job: Arc::clone(&job), _task: task });
        Ok(job)
    }

    /// The job with this id.
    pub(crate) fn job(&self, id: &str) -> Option<Arc<Job>> {
        let entries = self.shared.entries();
        entries.iter().find(|entry| entry.job.id() == id).map(|entry| Arc::clone(&entry.job))
    }

    /// Every job as clients see it, in the order in which they came.
    pub(crate) fn all(&self) -> Vec<Value> {
        let jobs: Vec<_> = self.shared.entries().iter().map(|entry| Arc::clone(&entry.job)).collect();
        jobs.iter().map(|job| self.describe(job)).collect()
    }

    /// `job` as clients see it.
    pub(crate) fn describe(&self, job: &Job) -> Value {
        let entries = self.shared.entries();
        let before = entries.iter().take_while(|entry| entry.job.id() != job.id());
        let position = 1 + before.filter(|entry| entry.job.waits()).count();
        job.describe(position, self.shared.questions.config().job_keep)
    }

    /// Stops a job and forgets it with its result; false if there is none of this id.
    pub(crate) fn remove(&self, id: &str) -> bool {
        self.shared.remove(id)
    }
}

impl Shared {
    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        // Nothing in here is left half done by a panic.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(&self, id: &str) -> bool {
        let mut entries = self.entries();
        let place = entries.iter().position(|entry| entry.job.id() == id);
        // Dropping the task stops the job; this says that it was meant.
        place.map(|place| entries.remove(place)).inspect(|entry| entry.job.stop.cancel()).is_some()
    }
}

/// What a running job needs.
struct Worker {
    job: Arc<Job>,
    questions: Questions,
    spool: Arc<Spool>,
    slots: Arc<Semaphore>,
}

/// Runs a job, and forgets it some time after its end.
async fn live(worker: Worker, question: JobQuestion, jobs: Weak<Shared>) {
    match worker.run(&question).await {
        Ok(file) => worker.job.done(file),
        Err(error) => worker.job.failed(error),
    }
    tokio::time::sleep(worker.questions.config().job_keep).await;
    if let Some(jobs) = jobs.upgrade() {
        jobs.remove(worker.job.id());
    }
}

impl Worker {
    async fn run(&self, question: &JobQuestion) -> Result<SpoolFile> {
        let slot = self.slots.acquire().await;
        // Only closing the semaphore fails here, which nobody does.
        let _slot = slot.map_err(|_closed| Error::invalid("the server takes no more jobs"))?;
        let slot = self.ask(question).await?;
        self.job.runs();
        let session = self.questions.session();
        let mut answer = slot.answer(run::start(session, &question.query, &question.params)).await?;
        let of = |error: arrow::error::ArrowError| Error::of("", error.into());
        let mut writer = BatchWriter::new(question.format, answer.schema(), answer.started()).map_err(of)?;
        let mut file = self.spool.create(self.job.id()).await?;
        while let Some(batch) = answer.next().await.transpose()? {
            file.write(&writer.write(&batch).map_err(of)?).await?;
            self.job.wrote(batch.num_rows(), file.size_bytes());
        }
        file.write(&writer.finish().map_err(of)?).await?;
        let file = file.close().await?;
        self.job.wrote(0, file.size_bytes());
        Ok(file)
    }

    /// Waits for a slot, also while the queue is full.
    async fn ask(&self, question: &JobQuestion) -> Result<Question> {
        let begun = Instant::now();
        let limit = self.questions.config().job_timeout;
        let limit = question.timeout.map_or(limit, |timeout| timeout.min(limit));
        loop {
            let timeout = Some(limit.saturating_sub(begun.elapsed()));
            let stop = self.job.stop.clone();
            let asked = Asked { surface: Surface::Job, user: None, text: &question.query, timeout, stop };
            match self.questions.ask(asked).await {
                Err(Error::Busy { .. }) if begun.elapsed() < limit => tokio::time::sleep(BUSY_PAUSE).await,
                asked => return asked,
            }
        }
    }
}
