//! Events of our own jobs on their way to a receiver of OpenLineage: a bounded queue, so that a receiver which is away holds up no job.

use std::{sync::Arc, time::Duration};

use driftwatt_analyze::{
    delivery::{Clock, LineagePost, Outcome, RawOpenLineage},
    diagnosis, drift, gates, idle,
    lineage::open_lineage::{Dataset, JobRun, RunState, run_event, run_uuid},
    recommend, report,
};
use driftwatt_store::Store;
use opentelemetry::{KeyValue, global, metrics::Counter};
use serde_json::Value;
use tokio::sync::mpsc;

/// Events that wait for the receiver; beyond it the newest are dropped and counted.
const QUEUE_MAX: usize = 1_000;
/// Longest that what waits at the end of the server is still sent.
const LAST_WAIT: Duration = Duration::from_secs(2);
/// Tables that jobs read.
const TELEMETRY: [&str; 3] = ["samples", "histograms", "series"];
/// Who sends the events.
const PRODUCER: &str = concat!("urn:driftwatt:", env!("CARGO_PKG_VERSION"));

/// Takes events in.
#[derive(Clone)]
pub(crate) struct LineageOutlet {
    queue: mpsc::Sender<Value>,
    namespace: String,
    events: Counter<u64>,
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
}

/// Sends them.
pub(crate) struct LineageSender {
    queue: mpsc::Receiver<Value>,
    post: LineagePost,
    events: Counter<u64>,
    clock: Arc<dyn Clock>,
}

/// A run between its first and its last event. Dropped in between, as where whoever asked goes away, it was aborted.
struct OpenRun {
    outlet: LineageOutlet,
    run: JobRun,
    output: Option<&'static str>,
    is_open: bool,
}

/// The table that a job writes, by the job's name.
fn output(job: &str) -> Option<&'static str> {
    Some(match job {
        "weekly-report" => report::TABLE,
        "recommend" => recommend::TABLE,
        "idle" => idle::TABLE,
        "idle-alert" => idle::alert::TABLE,
        "drift" => drift::TABLE,
        "check" => gates::TABLE,
        "diagnose" => diagnosis::report::TABLE,
        _ => return None,
    })
}

impl LineageOutlet {
    /// The outlet of `[lineage.openlineage]`, and what sends its events.
    ///
    /// # Errors
    /// Settings that cannot be used, a token that cannot be read.
    pub(crate) fn new(
        raw: &RawOpenLineage,
        store: &Arc<Store>,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<(Self, LineageSender)> {
        let post = raw.clone().validate(&|name| std::env::var(name).ok())?;
        let events = global::meter("driftwatt.server")
            .u64_counter("driftwatt_server_openlineage_events")
            .with_description(
                "Events of OpenLineage of our own jobs, by what became of them: sent, refused or dropped.",
            )
            .build();
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let outlet = Self {
            queue: sender,
            namespace: post.namespace.clone(),
            events: events.clone(),
            store: Arc::clone(store),
            clock: Arc::clone(&clock),
        };
        Ok((outlet, LineageSender { queue, post, events, clock }))
    }

    /// Does `work`, the job `job`, of which the receiver, if there is one, is told as it begins and as it ends: of a schedule with its name
    /// and the time it was meant for, or asked for by a person.
    pub(crate) async fn around<T>(
        outlet: Option<&Self>,
        job: &str,
        schedule: Option<(&str, i64)>,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let open = outlet.map(|outlet| outlet.begin(job, schedule));
        let done = work.await;
        if let Some(open) = open {
            open.end(done.as_ref().err().map(|error| format!("{error:#}")).as_deref());
        }
        done
    }

    fn begin(&self, job: &str, schedule: Option<(&str, i64)>) -> OpenRun {
        let now_us = self.clock.unix_us();
        let (name, nominal_us) = match schedule {
            Some((schedule, nominal_us)) => (format!("{job}.{schedule}"), Some(nominal_us)),
            None => (job.to_owned(), None),
        };
        let run = JobRun {
            run_id: run_uuid(&format!("{}/{name}@{now_us}", self.namespace)),
            namespace: self.namespace.clone(),
            job: name,
            producer: PRODUCER.to_owned(),
            nominal_us,
            inputs: self.datasets(&TELEMETRY),
            outputs: Vec::new(),
        };
        self.emit(run_event(&run, RunState::Start, now_us, None));
        OpenRun { outlet: self.clone(), run, output: output(job), is_open: true }
    }

    /// Tables at their versions now.
    fn datasets(&self, names: &[&str]) -> Vec<Dataset> {
        let tables = self.store.tables().into_iter().filter(|table| names.contains(&table.name.as_str()));
        let dataset = |table: driftwatt_store::TableSummary| Dataset {
            namespace: self.namespace.clone(),
            name: table.name,
            version: Some(table.version.to_string()),
            row_count: Some(table.row_count),
            size_bytes: Some(table.size_bytes),
            ..Dataset::default()
        };
        tables.map(dataset).collect()
    }

    fn emit(&self, event: Option<Value>) {
        let Some(event) = event else { return };
        if self.queue.try_send(event).is_err() {
            self.events.add(1, &[KeyValue::new("outcome", "dropped")]);
        }
    }
}

impl OpenRun {
    /// Tells how it ended, with the error of one that failed.
    fn end(mut self, error: Option<&str>) {
        let state = if error.is_some() { RunState::Fail } else { RunState::Complete };
        if let (None, Some(table)) = (error, self.output) {
            self.run.outputs = self.outlet.datasets(&[table]);
        }
        self.tell(state, error);
    }

    fn tell(&mut self, state: RunState, error: Option<&str>) {
        if std::mem::take(&mut self.is_open) {
            self.outlet.emit(run_event(&self.run, state, self.outlet.clock.unix_us(), error));
        }
    }
}

impl Drop for OpenRun {
    fn drop(&mut self) {
        self.tell(RunState::Abort, None);
    }
}

impl LineageSender {
    /// Sends what comes until `stop` ends, then what waits, for a moment.
    pub(crate) async fn send(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut last_failure = None;
        loop {
            let event = tokio::select! {
                () = &mut stop => break,
                event = self.queue.recv() => event,
            };
            let Some(event) = event else { return };
            tokio::select! {
                () = &mut stop => {
                    // It was being tried again.
                    self.events.add(1, &[KeyValue::new("outcome", "dropped")]);
                    break;
                }
                failure = self.one(&event) => self.told(&mut last_failure, failure),
            }
        }
        self.queue.close();
        let rest = async {
            while let Some(event) = self.queue.recv().await {
                let failure = self.one(&event).await;
                self.told(&mut last_failure, failure);
            }
        };
        if tokio::time::timeout(LAST_WAIT, rest).await.is_err() {
            tracing::warn!("events of OpenLineage were not sent before the server ended");
        }
    }

    /// Why one came to nothing, after all tries; none where it was taken.
    async fn one(&self, event: &Value) -> Option<String> {
        let attempts = self.post.send(event, &*self.clock).await;
        let last = attempts.last()?;
        let taken = last.outcome == Outcome::Delivered;
        self.events.add(1, &[KeyValue::new("outcome", if taken { "sent" } else { "refused" })]);
        if taken { None } else { Some(last.error.clone().unwrap_or_else(|| "unknown".to_owned())) }
    }

    /// A receiver that is away for a day says so once.
    fn told(&self, last: &mut Option<String>, failure: Option<String>) {
        if let Some(reason) = failure.as_ref().filter(|reason| last.as_ref() != Some(*reason)) {
            tracing::warn!(reason, "an event of OpenLineage was not taken");
        }
        *last = failure;
    }
}
