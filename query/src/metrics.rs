//! The metrics of questions, on the global meter.

use std::time::Duration;

use opentelemetry::{
    KeyValue, global,
    metrics::{Histogram, UpDownCounter},
};

use crate::question_log::Surface;

/// Seconds; a dashboard's query takes milliseconds, a report's minutes.
const DURATION_BOUNDS: [f64; 12] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];

/// Instruments of all surfaces. Create it after the global meter provider is set: the instruments bind here.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    duration: Histogram<f64>,
    running: UpDownCounter<i64>,
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
                .with_description("Queries that hold a slot or wait for one")
                .build(),
        }
    }

    /// Counts a question that begins now.
    pub(crate) fn begin(&self, surface: Surface) {
        self.running.add(1, &[KeyValue::new("surface", surface.name())]);
    }

    /// Counts a question that ended.
    pub(crate) fn end(&self, surface: Surface, elapsed: Duration, outcome: &'static str) {
        let surface = KeyValue::new("surface", surface.name());
        self.running.add(-1, std::slice::from_ref(&surface));
        self.duration.record(elapsed.as_secs_f64(), &[surface, KeyValue::new("outcome", outcome)]);
    }

    /// Counts a question that found the queue full.
    pub(crate) fn refused(&self, surface: Surface) {
        self.duration.record(0.0, &[KeyValue::new("surface", surface.name()), KeyValue::new("outcome", "refused")]);
    }
}
