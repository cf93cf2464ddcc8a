//! Own metrics of ingest, through whatever meter provider the process has set.

use cpu_time::ThreadTime;
use driftwatt_store::Rejection;
use opentelemetry::{KeyValue, global, metrics::Counter};

/// Counters of the pipeline. `STORE-2`: received = stored + duplicate + rejected.
#[derive(Debug)]
pub(crate) struct Metrics {
    points: Counter<u64>,
    rejected_points: Counter<u64>,
    duplicate_points: Counter<u64>,
    requests: Counter<u64>,
    duplicate_attribute_keys: Counter<u64>,
    exemplars_skipped: Counter<u64>,
    stage_cpu: StageCpu,
}

/// CPU time by stage of the pipeline.
#[derive(Debug, Clone)]
pub(crate) struct StageCpu(Counter<f64>);

impl StageCpu {
    /// Runs `work`, which does not wait for other threads, and counts the CPU time of this one meanwhile.
    pub(crate) fn run<R>(&self, stage: &'static str, work: impl FnOnce() -> R) -> R {
        let started = ThreadTime::now();
        let result = work();
        self.0.add(started.elapsed().as_secs_f64(), &[KeyValue::new("stage", stage)]);
        result
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let meter = global::meter("driftwatt_ingest");
        let counter = |name: &'static str, description: &'static str| {
            meter.u64_counter(name).with_description(description).build()
        };
        Self {
            points: counter("driftwatt_ingest_points", "points received, by signal and result"),
            rejected_points: counter("driftwatt_ingest_rejected_points", "points refused, by reason"),
            duplicate_points: counter(
                "driftwatt_ingest_duplicate_points",
                "stored points that replaced an unflushed point of the same identity",
            ),
            requests: counter("driftwatt_ingest_requests", "requests, by transport and status"),
            duplicate_attribute_keys: counter(
                "driftwatt_ingest_duplicate_attribute_keys",
                "attribute keys given more than once in a new series",
            ),
            exemplars_skipped: counter("driftwatt_ingest_exemplars_skipped", "exemplars received; none is stored"),
            stage_cpu: StageCpu(
                meter
                    .f64_counter("driftwatt_ingest_stage_cpu_seconds")
                    .with_description("CPU time of the pipeline before the store, by stage")
                    .build(),
            ),
        }
    }

    pub(crate) fn stored(&self, count: u64, duplicate_count: u64) {
        self.points.add(count, &[KeyValue::new("signal", "metrics"), KeyValue::new("result", "stored")]);
        self.duplicate_points.add(duplicate_count, &[]);
    }

    pub(crate) fn rejected(&self, reason: &'static str, count: u64) {
        self.rejected_points.add(count, &[KeyValue::new("reason", reason)]);
        self.points.add(count, &[KeyValue::new("signal", "metrics"), KeyValue::new("result", "rejected")]);
    }

    pub(crate) fn duplicate_attribute_keys(&self, count: u64) {
        self.duplicate_attribute_keys.add(count, &[]);
    }

    pub(crate) fn exemplars_skipped(&self, count: u64) {
        self.exemplars_skipped.add(count, &[]);
    }

    pub(crate) fn stage_cpu(&self) -> StageCpu {
        self.stage_cpu.clone()
    }

    pub(crate) fn request(&self, transport: &'static str, status: i64) {
        self.requests.add(1, &[KeyValue::new("transport", transport), KeyValue::new("status", status)]);
    }
}

/// Refused points by reason.
pub(crate) fn by_reason(rejections: &[Rejection]) -> Vec<(&'static str, u64)> {
    let count = |code: &str| rejections.iter().filter(|row| row.reason == code).map(|row| row.count).sum();
    crate::reason::Reason::ALL
        .iter()
        .map(|reason| (reason.code, count(reason.code)))
        .filter(|(_, count)| *count > 0)
        .collect()
}
