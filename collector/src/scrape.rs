//! Scraping exporters: targets, their pages, and what of them is sent over OTLP.
//!
//! Each target has a task of its own: get the page, put families together, give counters their start, mark what is gone,
//! send. A page that is late, too large, half or no page at all makes `up` 0 and marks every series of the target; a line
//! that cannot be read costs that line. How many targets are worked on at once is bounded.

mod discovery;
mod exposition;
mod fetch;
mod history;
mod otlp;
mod owner;
mod points;
mod target_task;
mod unit;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::MissedTickBehavior,
};

use self::{
    discovery::{Discovery, Target},
    target_task::TargetTask,
};
use crate::{
    config::Config,
    delivery::Delivery,
    error::{Error, Result, in_words},
    export::ExportState,
};

/// Targets worked on at once.
const IN_FLIGHT_MAX: usize = 8;
/// How often files of targets are looked at.
const DISCOVERY_INTERVAL: Duration = Duration::from_secs(5);

/// Whether the server took what was scraped, or why not.
type Outcome = Result<(), String>;

/// Scrapes until it is dropped.
#[derive(Debug)]
pub(crate) struct Scraper {
    _task: JoinSet<()>,
    /// Set once every target of the start was scraped once.
    first: watch::Receiver<Option<Outcome>>,
}

/// What the tasks share.
#[derive(Debug)]
struct Shared {
    client: reqwest::Client,
    delivery: Delivery,
    extra: Vec<(String, String)>,
    places: Semaphore,
    export: Arc<ExportState>,
}

impl Scraper {
    /// Starts scraping the jobs of `config`. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::Scrape`] if there is no client for the targets.
    pub(crate) fn start(config: &Config, delivery: Delivery, export: Arc<ExportState>) -> Result<Self> {
        let client = reqwest::Client::builder().user_agent("driftwatt-collector").build();
        let client = client.map_err(|error| Error::Scrape { reason: in_words(&error) })?;
        // What describes this host says nothing about a target.
        let is_general = |key: &str| !key.starts_with("service.") && key != "host.name";
        let extra = config.resource.iter().filter(|(key, _)| is_general(key));
        let extra = extra.map(|(key, value)| (key.clone(), value.clone())).collect();
        let places = Semaphore::new(IN_FLIGHT_MAX);
        let shared = Arc::new(Shared { client, delivery, extra, places, export });
        let jobs = config.scrape.iter().cloned().map(Discovery::new).collect();
        let manager = Manager { jobs, shared, tasks: JoinSet::new(), running: BTreeMap::new() };
        let (first_tx, first) = watch::channel(None);
        let mut task = JoinSet::new();
        task.spawn(manager.run(first_tx));
        Ok(Self { _task: task, first })
    }

    /// Waits until every target of the start was scraped and its points were sent.
    ///
    /// # Errors
    /// [`Error::Export`] if the server did not accept them. A target that is down is no error: that is what `up` says.
    pub(crate) async fn first_done(&self) -> Result<()> {
        let mut first = self.first.clone();
        let done = first.wait_for(Option::is_some).await;
        match done.ok().and_then(|done| done.clone()) {
            Some(Err(reason)) => Err(Error::Export { reason }),
            _ => Ok(()),
        }
    }
}

/// Keeps one task for each target there is.
#[derive(Debug)]
struct Manager {
    jobs: Vec<Discovery>,
    shared: Arc<Shared>,
    /// By job and target; a task whose sender is dropped marks its series and ends. Before `tasks`, which end first.
    tasks: JoinSet<()>,
    running: BTreeMap<(usize, Target), watch::Sender<()>>,
}

impl Manager {
    async fn run(mut self, first: watch::Sender<Option<Outcome>>) {
        let mut ticks = tokio::time::interval(DISCOVERY_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let started = self.reconcile().await;
        self.tasks.spawn(async move {
            first.send_replace(Some(all_done(started).await));
        });
        loop {
            ticks.tick().await;
            self.reconcile().await;
            while self.tasks.try_join_next().is_some() {}
        }
    }

    /// Starts what is new and ends what is gone; what was started.
    async fn reconcile(&mut self) -> Vec<watch::Receiver<Option<Outcome>>> {
        let mut jobs = std::mem::take(&mut self.jobs);
        let read = tokio::task::spawn_blocking(move || {
            let targets: Vec<BTreeSet<Target>> = jobs.iter_mut().map(Discovery::targets).collect();
            (jobs, targets)
        });
        let Ok((jobs, targets)) = read.await else { return Vec::new() };
        self.jobs = jobs;
        self.running.retain(|(job, target), _| targets.get(*job).is_some_and(|targets| targets.contains(target)));
        let mut started = Vec::new();
        for (index, (discovery, targets)) in self.jobs.iter().zip(targets).enumerate() {
            for target in targets {
                let Entry::Vacant(place) = self.running.entry((index, target.clone())) else { continue };
                let (wanted_tx, wanted) = watch::channel(());
                let (done_tx, done) = watch::channel(None);
                place.insert(wanted_tx);
                started.push(done);
                let task = TargetTask::new(target, discovery.job().clone(), Arc::clone(&self.shared));
                self.tasks.spawn(task.run(wanted, done_tx));
            }
        }
        started
    }
}

async fn all_done(started: Vec<watch::Receiver<Option<Outcome>>>) -> Outcome {
    let mut outcome = Ok(());
    for mut done in started {
        // One that ended before is gone from the files.
        let done = done.wait_for(Option::is_some).await.ok().and_then(|done| done.clone());
        outcome = outcome.and(done.unwrap_or(Ok(())));
    }
    outcome
}
