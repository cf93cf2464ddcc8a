//! What a run came to: for whoever asked for it, and for the own metrics.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use driftwatt_analyze::{
    delivery::DeliveryAttempt,
    runs::{Run, Step},
};
use opentelemetry::{KeyValue, global, metrics::Counter};
use serde::{Deserialize, Serialize};

/// A run for people and scripts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunReport {
    pub(crate) run_id: String,
    pub(crate) job: String,
    /// `succeeded`, `failed` or `interrupted`.
    pub(crate) outcome: String,
    pub(crate) summary: Option<String>,
    pub(crate) note: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) deliveries: Vec<Delivery>,
}

/// One try to tell somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delivery {
    pub(crate) channel: String,
    /// Masked.
    pub(crate) recipient: String,
    pub(crate) attempt: u32,
    pub(crate) outcome: String,
    pub(crate) error: Option<String>,
}

impl RunReport {
    pub(super) fn new(run: &Run, step: Step, attempts: &[DeliveryAttempt]) -> Self {
        let deliveries = attempts.iter().map(|attempt| Delivery {
            channel: attempt.channel.to_owned(),
            recipient: attempt.masked_recipient(),
            attempt: attempt.attempt,
            outcome: attempt.outcome.as_str().to_owned(),
            error: attempt.masked_error(),
        });
        Self {
            run_id: run.id.clone(),
            job: run.job.to_owned(),
            outcome: step.as_str().to_owned(),
            summary: run.summary.clone(),
            note: run.note.clone(),
            error: run.error.clone(),
            deliveries: deliveries.collect(),
        }
    }

    pub(crate) fn succeeded(&self) -> bool {
        self.outcome == Step::Succeeded.as_str()
    }
}

/// Counters of runs and deliveries, and when each schedule last succeeded.
pub(super) struct RunCounters {
    runs: Counter<u64>,
    deliveries: Counter<u64>,
    succeeded_us: Arc<Mutex<HashMap<String, i64>>>,
}

impl RunCounters {
    pub(super) fn new() -> Self {
        let meter = global::meter("driftwatt.server");
        let succeeded_us: Arc<Mutex<HashMap<String, i64>>> = Arc::default();
        let shown = Arc::clone(&succeeded_us);
        let _gauge = meter
            .f64_observable_gauge("driftwatt_server_schedule_last_success_timestamp_seconds")
            .with_description("When a schedule last succeeded, since this process started.")
            .with_callback(move |observer| {
                for (schedule, time_us) in shown.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                    observer.observe(*time_us as f64 / 1e6, &[KeyValue::new("schedule", schedule.clone())]);
                }
            })
            .build();
        Self {
            runs: meter
                .u64_counter("driftwatt_server_scheduled_runs")
                .with_description("Runs of schedules that ended, by schedule and outcome.")
                .build(),
            deliveries: meter
                .u64_counter("driftwatt_server_delivery_attempts")
                .with_description("Tries to deliver, by channel and outcome.")
                .build(),
            succeeded_us,
        }
    }

    pub(super) fn count(&self, run: &Run, step: Step, attempts: &[DeliveryAttempt], now_us: i64) {
        let schedule = run.name.clone().unwrap_or_default();
        self.runs.add(1, &[KeyValue::new("schedule", schedule.clone()), KeyValue::new("outcome", step.as_str())]);
        for attempt in attempts {
            let labels =
                [KeyValue::new("channel", attempt.channel), KeyValue::new("outcome", attempt.outcome.as_str())];
            self.deliveries.add(1, &labels);
        }
        if step == Step::Succeeded {
            self.succeeded_us.lock().unwrap_or_else(PoisonError::into_inner).insert(schedule, now_us);
        }
    }
}
