//! The query surface's own metrics, on the global meter.

use opentelemetry::{
    KeyValue, global,
    metrics::{Histogram, UpDownCounter},
};
use tokio::time::Instant;

use crate::error::{Error, ErrorKind};

/// Seconds; a dashboard's query takes milliseconds, a report's minutes.
const DURATION_BOUNDS: [f64; 12] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];

/// Instruments of one surface. Create it after the global meter provider is set: the instruments bind here.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    duration: Histogram<f64>,
    running: UpDownCounter<i64>,
}

/// A query that is counted as running until it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    metrics: Metrics,
    started: Instant,
    outcome: &'static str,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let meter = global::meter("driftwatt_query");
        Self {
            duration: meter
                .f64_histogram("driftwatt_query_duration_seconds")
                .with_description("Time of a query, from its arrival to its last row or its end, by outcome")
                .with_boundaries(DURATION_BOUNDS.to_vec())
                .build(),
            running: meter
                .i64_up_down_counter("driftwatt_query_running")
                .with_description("Queries that hold a slot")
                .build(),
        }
    }

    /// Counts a query that begins now.
    pub(crate) fn begin(&self) -> Running {
        self.running.add(1, &[]);
        // What is dropped without an end was given up by its client.
        Running { metrics: self.clone(), started: Instant::now(), outcome: "abandoned" }
    }

    /// Counts a query that got no slot.
    pub(crate) fn refused(&self) {
        self.duration.record(0.0, &[KeyValue::new("outcome", "refused")]);
    }
}

impl Running {
    /// When the query arrived.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// The query answered in full.
    pub(crate) fn answered(mut self) {
        self.outcome = "answered";
    }

    /// The query failed with `error`.
    pub(crate) fn failed(mut self, error: &Error) {
        self.outcome = match error.kind() {
            ErrorKind::Invalid => "invalid",
            ErrorKind::Denied => "denied",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Limit => "limit",
            ErrorKind::Internal => "internal",
        };
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.metrics.running.add(-1, &[]);
        let outcome = KeyValue::new("outcome", self.outcome);
        self.metrics.duration.record(self.started.elapsed().as_secs_f64(), &[outcome]);
    }
}
