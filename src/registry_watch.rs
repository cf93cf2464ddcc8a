//! The model registry, read again and again while the server runs. A registry that is away stops nothing: each poll is counted, and why
//! it came to nothing is in the log and in the table `events`.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use datafusion::prelude::SessionContext;
use driftwatt_analyze::{
    delivery::Clock,
    registry::{MlflowConfig, PollReport, RawMlflow, RegistryPoller},
};
use driftwatt_store::Store;
use opentelemetry::{KeyValue, global, metrics::Counter};

/// Longest pause after polls that failed, unless the interval is longer.
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// Reads one registry.
pub(crate) struct RegistryWatch {
    poller: RegistryPoller,
    interval: Duration,
    counters: PollCounters,
}

impl RegistryWatch {
    /// The watch of `[lineage.mlflow]`.
    ///
    /// # Errors
    /// Settings that cannot be used, a token that cannot be read.
    pub(crate) fn new(raw: &RawMlflow) -> anyhow::Result<Self> {
        let config: MlflowConfig = raw.clone().validate(&|name| std::env::var(name).ok())?;
        let interval = config.interval;
        Ok(Self { poller: RegistryPoller::new(config)?, interval, counters: PollCounters::new() })
    }

    /// Polls at the interval, after failures with growing pauses. Never ends by itself.
    pub(crate) async fn watch(mut self, ctx: &SessionContext, store: &Store, clock: &dyn Clock) {
        let (mut pause, mut last_failure, mut last_missing) = (self.interval, String::new(), Vec::new());
        loop {
            match self.poller.poll(ctx, store, clock).await {
                Ok(report) => {
                    if !last_failure.is_empty() {
                        tracing::info!(versions = report.versions, "the model registry is read again");
                    }
                    if report.aliases_missing != last_missing && !report.aliases_missing.is_empty() {
                        let aliases = report.aliases_missing.join(", ");
                        tracing::warn!(aliases, "the model registry does not have an alias that a service follows");
                    }
                    (pause, last_missing) = (self.interval, report.aliases_missing.clone());
                    self.counters.succeeded(report, clock.unix_us());
                    last_failure.clear();
                }
                Err(error) => {
                    self.counters.polls.add(1, &[KeyValue::new("outcome", error.outcome())]);
                    let failure = error.to_string();
                    // Once for each reason; a registry that is away for a day says so once.
                    if failure != last_failure {
                        tracing::warn!(error = failure, "the model registry could not be read");
                    }
                    last_failure = failure;
                    pause = (pause * 2).min(PAUSE_MAX.max(self.interval));
                }
            }
            clock.sleep(pause).await;
        }
    }
}

/// How polls end, and what the last good one found.
struct PollCounters {
    polls: Counter<u64>,
    /// When it was, UTC microseconds, and what it found; none before the first.
    last: Arc<Mutex<Option<(i64, PollReport)>>>,
}

impl PollCounters {
    fn new() -> Self {
        let meter = global::meter("driftwatt.server");
        let last: Arc<Mutex<Option<(i64, PollReport)>>> = Arc::default();
        let gauge = |name: &'static str, description: &'static str, value: fn(i64, &PollReport) -> f64| {
            let last = Arc::clone(&last);
            let _gauge = meter
                .f64_observable_gauge(name)
                .with_description(description)
                .with_callback(move |observer| {
                    // Before the first there is nothing to show, which is not 0.
                    if let Some((time_us, report)) = &*last.lock().unwrap_or_else(PoisonError::into_inner) {
                        observer.observe(value(*time_us, report), &[]);
                    }
                })
                .build();
        };
        gauge(
            "driftwatt_server_registry_last_success_timestamp_seconds",
            "When the model registry was last read, since this process started.",
            |time_us, _| time_us as f64 / 1e6,
        );
        gauge(
            "driftwatt_server_registry_versions",
            "Versions in the model registry when it was last read.",
            |_, report| report.versions as f64,
        );
        gauge(
            "driftwatt_server_registry_runs_pending",
            "Versions whose run is yet to be read from the model registry.",
            |_, report| report.runs_pending as f64,
        );
        let polls = meter
            .u64_counter("driftwatt_server_registry_polls")
            .with_description("Polls of the model registry, by outcome.")
            .build();
        Self { polls, last }
    }

    fn succeeded(&self, report: PollReport, now_us: i64) {
        self.polls.add(1, &[KeyValue::new("outcome", "succeeded")]);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((now_us, report));
    }
}
