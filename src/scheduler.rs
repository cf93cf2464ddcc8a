//! Jobs at their times, or when their data came: each schedule and each watched folder has a loop of its own, so that a mail server
//! which is away holds up no other.
//! What each run came to is in the tables `runs` and `deliveries` (`analyze::runs`), the log and the own metrics.

#[cfg(test)]
mod arrival_tests;
mod arrivals;
mod compose;
mod diagnose;
#[cfg(test)]
mod folder_tests;
mod folders;
mod outcome;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use anyhow::Context as _;
use chrono::{DateTime, NaiveDate, Utc};
use datafusion::prelude::SessionContext;
use driftwatt_analyze::{
    PriceBook,
    delivery::{Clock, DeliveryAttempt, Letter, Outbox, Outcome},
    gates::WatchedFolder,
    runs::{LastRun, Run, Step, Trigger, last_runs},
    schedule::{DriftJob, Job, Schedule},
};
use driftwatt_ingest::Ingest;
use driftwatt_store::{ErrorKind, Store};
use futures::FutureExt as _;
use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
};

pub(crate) use self::outcome::RunReport;
use self::{
    compose::{Composed, Sources, time_text},
    outcome::RunCounters,
};
use crate::{
    answers::{DriftSettings, read_prices},
    config::Config,
    lineage_outlet::LineageOutlet,
};

/// No sleep is longer, so that a clock that was set or a machine that slept is noticed.
const LOOK_MAX: Duration = Duration::from_secs(60);
/// Tries of a job that fails for now, and the pause after the first; it doubles.
const TRIES_MAX: u32 = 3;
const PAUSE: Duration = Duration::from_secs(60);
/// Requests of people that wait for the scheduler to take them.
const ASKED_MAX: usize = 16;

/// Runs schedules.
pub(crate) struct Scheduler {
    store: Arc<Store>,
    session: SessionContext,
    prices: Option<PriceBook>,
    drift: DriftSettings,
    holidays: Vec<NaiveDate>,
    schedules: Vec<Schedule>,
    folders: Vec<WatchedFolder>,
    outbox: Outbox,
    clock: Arc<dyn Clock>,
    /// One job reads at a time: together they would need more memory, and be no sooner done.
    reading: Semaphore,
    /// By name: one run of a schedule at a time, whoever starts it.
    alone: HashMap<String, Semaphore>,
    /// What stores the scores of drift as metrics; none where no server runs.
    ingest: Option<Arc<Ingest>>,
    /// Who is told of runs; none is nobody.
    outlet: Option<LineageOutlet>,
    counters: RunCounters,
}

/// Somebody wants a run now.
struct Asked {
    name: String,
    answer: oneshot::Sender<anyhow::Result<RunReport>>,
}

/// What the web asks of a running scheduler.
#[derive(Clone)]
pub(crate) struct SchedulerHandle {
    scheduler: Arc<Scheduler>,
    asked: mpsc::Sender<Asked>,
}

impl SchedulerHandle {
    /// Runs `name` now and waits for its end; whoever stops waiting stops nothing.
    ///
    /// # Errors
    /// No schedule of this name, a server that stops.
    pub(crate) async fn run_now(&self, name: &str) -> anyhow::Result<RunReport> {
        self.scheduler.find(name)?;
        let (answer, answered) = oneshot::channel();
        let asked = Asked { name: name.to_owned(), answer };
        self.asked.send(asked).await.ok().context("the server is stopping")?;
        answered.await.context("the server is stopping")?
    }

    /// See [`Scheduler::list`].
    ///
    /// # Errors
    /// Those of the query.
    pub(crate) async fn list(&self) -> anyhow::Result<Vec<Value>> {
        self.scheduler.list().await
    }
}

impl Scheduler {
    /// The schedules of `config`.
    ///
    /// # Errors
    /// Settings that cannot be used, secrets that cannot be read, a price book that is none.
    pub(crate) fn new(
        config: &Config,
        store: &Arc<Store>,
        session: &SessionContext,
        clock: Arc<dyn Clock>,
        ingest: Option<Arc<Ingest>>,
    ) -> anyhow::Result<Self> {
        let now = DateTime::from_timestamp_micros(clock.unix_us()).context("the clock is out of range")?;
        // Only here: who asks a question with the same file need not be able to read the secrets.
        let outbox = Outbox::new(config.delivery.clone().validate(&|name| std::env::var(name).ok())?)?;
        let schedules = Schedule::all(&config.schedules, now)?;
        for schedule in &schedules {
            let setting = format!("schedule {:?}", schedule.name);
            outbox.check(&setting, schedule.to.as_deref().unwrap_or_default(), &schedule.webhooks)?;
            if let Job::Drift(DriftJob { reference: Some(reference), .. }) = &schedule.job
                && !["trailing", "seasonal"].contains(&reference.as_str())
            {
                config
                    .drift
                    .reference(reference)
                    .with_context(|| format!("setting schedule.reference of {setting}"))?;
            }
        }
        let names: Vec<&str> = schedules.iter().map(|schedule| schedule.name.as_str()).collect();
        let folders = WatchedFolder::all(&config.watched_folders, &names)?;
        for folder in &folders {
            let setting = format!("gates.watch {:?}", folder.name);
            outbox.check(&setting, folder.to.as_deref().unwrap_or_default(), &folder.webhooks)?;
            folders::rules(folder).with_context(|| format!("setting {setting}"))?;
        }
        Ok(Self {
            store: Arc::clone(store),
            session: session.clone(),
            prices: read_prices(config.prices.as_ref())?,
            drift: config.drift.clone(),
            holidays: config.holidays.clone(),
            alone: schedules.iter().map(|schedule| (schedule.name.clone(), Semaphore::new(1))).collect(),
            schedules,
            folders,
            outbox,
            clock,
            ingest,
            outlet: None,
            reading: Semaphore::new(1),
            counters: RunCounters::new(),
        })
    }

    /// Tells `outlet` of every run.
    pub(crate) fn telling(self, outlet: Option<LineageOutlet>) -> Self {
        Self { outlet, ..self }
    }

    /// A handle, and the work behind it, which never ends by itself.
    pub(crate) fn start(self) -> (SchedulerHandle, impl Future<Output = ()> + Send + use<>) {
        let (asked, asks) = mpsc::channel(ASKED_MAX);
        let scheduler = Arc::new(self);
        (SchedulerHandle { scheduler: Arc::clone(&scheduler), asked }, scheduler.serve(asks))
    }

    async fn serve(self: Arc<Self>, mut asks: mpsc::Receiver<Asked>) {
        let mut tasks = JoinSet::new();
        for index in 0..self.schedules.len() {
            let scheduler = Arc::clone(&self);
            tasks.spawn(async move {
                let schedule = &scheduler.schedules[index];
                match schedule.arrival() {
                    Some(quiet) => scheduler.keep_arrivals(schedule, quiet).await,
                    None => scheduler.keep(schedule).await,
                }
            });
        }
        for index in 0..self.folders.len() {
            let scheduler = Arc::clone(&self);
            tasks.spawn(async move { scheduler.keep_folder(&scheduler.folders[index]).await });
        }
        loop {
            tokio::select! {
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a scheduled job broke off");
                    }
                }
                Some(Asked { name, answer }) = asks.recv() => {
                    let scheduler = Arc::clone(&self);
                    tasks.spawn(async move {
                        // Whoever asked may have left; the tables have the outcome.
                        let _left = answer.send(scheduler.run_now(&name).await);
                    });
                }
                else => std::future::pending::<()>().await,
            }
        }
    }

    fn find(&self, name: &str) -> anyhow::Result<&Schedule> {
        let names = || self.schedules.iter().map(|schedule| schedule.name.as_str()).collect::<Vec<_>>().join(", ");
        self.schedules.iter().find(|schedule| schedule.name == name).with_context(|| match self.schedules.is_empty() {
            true => "no [[schedule]] is configured (docs/delivery.md)".to_owned(),
            false => format!("there is no schedule {name:?}; there are {}", names()),
        })
    }

    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.clock.unix_us()).unwrap_or_default()
    }

    /// Runs `name` now, as of now.
    ///
    /// # Errors
    /// No schedule of this name, or the run cannot be recorded.
    pub(crate) async fn run_now(&self, name: &str) -> anyhow::Result<RunReport> {
        let schedule = self.find(name)?;
        self.execute(schedule, Run::new(schedule, self.now(), Trigger::Hand)).await
    }

    /// Each schedule and each watched folder with its next time and its last outcome.
    ///
    /// # Errors
    /// Those of the query.
    pub(crate) async fn list(&self) -> anyhow::Result<Vec<Value>> {
        let last = last_runs(&self.session).await?;
        let now = self.now();
        let with_last = |name: &str, mut listed: Value| {
            let last = last.get(name).filter(|last| last.step != Step::Registered);
            listed["last"] = json!(last.map(|last| time_text(last.scheduled)));
            listed["outcome"] = json!(last.map(|last| last.step.as_str()));
            listed["error"] = json!(last.and_then(|last| last.error.clone()));
            listed
        };
        let schedules = self.schedules.iter().map(|schedule| {
            let listed = json!({
                "name": schedule.name, "job": schedule.job.as_str(), "cron": schedule.cron(),
                "time_zone": schedule.time_zone().name(), "next": schedule.next_after(now).map(time_text),
                "arrival_seconds": schedule.arrival().map(|quiet| quiet.as_secs()),
                "to": self.recipients(schedule).len(), "webhooks": schedule.webhooks,
            });
            with_last(&schedule.name, listed)
        });
        let folders = self.folders.iter().map(|folder| {
            let to = folder.to.as_ref().map_or_else(|| self.outbox.usual_recipients(), |to| Outbox::addresses(to));
            let listed = json!({
                "name": folder.name, "job": "check", "folder": folder.folder.join(&folder.pattern).display().to_string(),
                "to": to.len(), "webhooks": folder.webhooks,
            });
            with_last(&folder.name, listed)
        });
        Ok(schedules.chain(folders).collect())
    }

    fn recipients(&self, schedule: &Schedule) -> Vec<String> {
        schedule.to.as_ref().map_or_else(|| self.outbox.usual_recipients(), |to| Outbox::addresses(to))
    }

    /// Runs `schedule` whenever it is due.
    async fn keep(&self, schedule: &Schedule) {
        let mut last = self.taken_up(schedule).await;
        loop {
            let now = self.now();
            if let Some(due) = schedule.due(last, now) {
                let run = Run { note: due.note(), ..Run::new(schedule, due.scheduled, Trigger::Clock) };
                last = match self.execute(schedule, run).await {
                    Ok(_report) => due.scheduled,
                    // A step is missing: the table says whether somebody may have been told.
                    Err(error) => {
                        self.wait_after(&schedule.name, &error).await;
                        self.taken_up(schedule).await
                    }
                };
                continue;
            }
            let next = schedule.next_after(now.max(last)).and_then(|next| (next - now).to_std().ok());
            self.clock.sleep(next.unwrap_or(LOOK_MAX).min(LOOK_MAX)).await;
        }
    }

    /// See [`Self::take_up`], until it succeeds.
    async fn taken_up(&self, schedule: &Schedule) -> DateTime<Utc> {
        loop {
            match self.take_up(schedule).await {
                Ok(last) => return last,
                Err(error) => self.wait_after(&schedule.name, &error).await,
            }
        }
    }

    async fn wait_after(&self, schedule: &str, error: &anyhow::Error) {
        tracing::error!(schedule, error = format!("{error:#}"), "a schedule could not be run");
        self.clock.sleep(PAUSE).await;
    }

    /// Where `schedule` goes on: the time of its last run, or now for one that is new.
    async fn take_up(&self, schedule: &Schedule) -> anyhow::Result<DateTime<Utc>> {
        let last = last_runs(&self.session).await?.remove(&schedule.name);
        let is_same = |last: &LastRun| {
            Some(last.cron.as_str()) == schedule.cron() && last.time_zone == schedule.time_zone().name()
        };
        let Some(last) = last.filter(is_same) else {
            let now = self.now();
            Run::new(schedule, now, Trigger::Clock).record(&self.store, Step::Registered, self.clock.unix_us()).await?;
            return Ok(now);
        };
        if last.step.is_final() {
            return Ok(last.scheduled);
        }
        let note = "the run before broke off in the middle".to_owned();
        let mut run = Run { note: Some(note), ..Run::new(schedule, last.scheduled, Trigger::Clock) };
        // A run that ends the process each time must not be begun for ever.
        if last.step == Step::Started && last.start_count < 2 {
            self.execute(schedule, run).await?;
            return Ok(last.scheduled);
        }
        run.error = Some(Self::why_left(last.step).to_owned());
        self.end(&run, Step::Interrupted, vec![]).await?;
        Ok(last.scheduled)
    }

    /// Why a run whose last step is this one is not begun again.
    fn why_left(step: Step) -> &'static str {
        match step {
            Step::Delivering => "the run broke off while the result was on its way: somebody may not have got it",
            _ => "the run broke off twice while the job read",
        }
    }

    /// Runs and records it, step by step. What goes wrong in the run is in the report.
    ///
    /// # Errors
    /// A step cannot be recorded: before the first nothing is done.
    async fn execute(&self, schedule: &Schedule, mut run: Run) -> anyhow::Result<RunReport> {
        let alone = self.alone.get(&schedule.name).context("a schedule of another configuration")?;
        let _alone = alone.acquire().await.context("the scheduler ends")?;
        self.begin(&mut run).await?;
        let composed =
            self.told(schedule.job.as_str(), &schedule.name, run.scheduled, self.composed(schedule, &run)).await;
        let composed = match composed {
            Ok(composed) => composed,
            Err(error) => {
                run.error = Some(format!("{error:#}"));
                return self.end(&run, Step::Failed, vec![]).await;
            }
        };
        let arrived = run.parameters.get("arrived").cloned();
        run.parameters = composed.parameters.clone();
        if let Some(arrived) = arrived {
            run.parameters["arrived"] = arrived;
        }
        run.summary = Some(composed.summary.clone());
        let attempts = self.deliver(&mut run, &composed.letters).await?;
        if let Err(error) = compose::remember(&self.sources(schedule, &run), &composed, &attempts).await {
            let error = format!("{error:#}");
            tracing::error!(error, "what was told is not remembered, so it may be told again");
        }
        self.end(&run, run.last_step(), attempts).await
    }

    /// Does `work`, of which whoever collects lineage is told as it begins and as it ends.
    async fn told<T>(
        &self,
        job: &str,
        name: &str,
        scheduled: DateTime<Utc>,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let nominal = Some((name, scheduled.timestamp_micros()));
        LineageOutlet::around(self.outlet.as_ref(), job, nominal, work).await
    }

    /// Records that `run` begins, and what it may read.
    async fn begin(&self, run: &mut Run) -> anyhow::Result<()> {
        run.begin(&self.store, self.clock.unix_us());
        run.record(&self.store, Step::Started, self.clock.unix_us()).await.context("record the start of the run")
    }

    /// Sends what there is to tell, after it is recorded that somebody may have got it. Who was not reached is added to the error of `run`.
    async fn deliver(&self, run: &mut Run, letters: &[Letter]) -> anyhow::Result<Vec<DeliveryAttempt>> {
        let mut attempts = Vec::new();
        if letters.iter().any(|letter| !letter.to.is_empty() || !letter.webhooks.is_empty()) {
            run.record(&self.store, Step::Delivering, self.clock.unix_us()).await.context("record the delivery")?;
            for letter in letters {
                attempts.extend(self.outbox.send(letter, &*self.clock).await);
            }
        }
        let failures: Vec<_> = attempts.iter().filter(|attempt| attempt.outcome == Outcome::Failed).collect();
        if let Some(last) = failures.last() {
            let why = last.masked_error().unwrap_or_else(|| "unknown".into());
            let text = format!("{} recipients were not reached; last: {why}", failures.len());
            run.error = Some(run.error.take().map_or_else(|| text.clone(), |before| format!("{before}; {text}")));
        }
        Ok(attempts)
    }

    /// The result, tried again where the failure may pass.
    async fn composed(&self, schedule: &Schedule, run: &Run) -> anyhow::Result<Composed> {
        let (mut pause, mut attempt) = (PAUSE, 1);
        loop {
            let found = {
                let _reading = self.reading.acquire().await.context("the scheduler ends")?;
                // A panic that came through would end the schedule until the next start.
                let made = AssertUnwindSafe(compose::compose(&self.sources(schedule, run))).catch_unwind().await;
                made.unwrap_or_else(|_| Err(anyhow::anyhow!("the job panicked: the log says where")))
            };
            let error = match found {
                Ok(composed) => return Ok(composed),
                Err(error) => error,
            };
            if attempt == TRIES_MAX || !may_pass(&error) {
                return Err(error);
            }
            tracing::warn!(
                schedule = schedule.name,
                error = format!("{error:#}"),
                attempt,
                "a job failed and is tried again"
            );
            self.clock.sleep(pause).await;
            (pause, attempt) = (pause * 2, attempt + 1);
        }
    }

    fn sources<'a>(&'a self, schedule: &'a Schedule, run: &'a Run) -> Sources<'a> {
        Sources {
            session: &self.session,
            store: &self.store,
            prices: self.prices.clone(),
            drift: &self.drift,
            holidays: &self.holidays,
            outbox: &self.outbox,
            ingest: self.ingest.as_deref(),
            schedule,
            to: self.recipients(schedule),
            scheduled: run.scheduled,
            note: run.note.as_deref(),
        }
    }

    async fn end(&self, run: &Run, step: Step, attempts: Vec<DeliveryAttempt>) -> anyhow::Result<RunReport> {
        self.counters.count(run, step, &attempts, self.clock.unix_us());
        let (schedule, id) = (&run.name, &run.id);
        match &run.error {
            Some(error) => tracing::error!(schedule, run = id, outcome = step.as_str(), error, "scheduled run"),
            None => tracing::info!(schedule, run = id, outcome = step.as_str(), summary = run.summary, "scheduled run"),
        }
        run.record_deliveries(&self.store, &attempts, self.clock.unix_us()).await.context("record the deliveries")?;
        run.record(&self.store, step, self.clock.unix_us()).await.context("record the end of the run")?;
        Ok(RunReport::new(run, step, &attempts))
    }
}

/// Whether the same may succeed later.
fn may_pass(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<driftwatt_analyze::Error>().map(driftwatt_analyze::Error::kind);
    matches!(kind, Some(ErrorKind::Overloaded | ErrorKind::Unavailable | ErrorKind::Internal))
}
