//! What a source hands over after one look at the machine.

use std::time::{Duration, Instant};

use opentelemetry::KeyValue;

/// One value of one series.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(crate) metric: &'static str,
    pub(crate) value: f64,
    pub(crate) attributes: Vec<KeyValue>,
}

/// A reading that failed: both parts are from fixed lists, so that they can be attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Failure {
    pub(crate) reading: &'static str,
    pub(crate) error_type: &'static str,
}

/// The result of one look.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    pub(crate) readings: Vec<Reading>,
    pub(crate) failures: Vec<Failure>,
    /// How old the values were already when they were handed over: zero, but for a source that repeats its last good ones.
    pub(crate) held: Duration,
}

impl Sample {
    pub(crate) fn push(&mut self, metric: &'static str, value: f64, attributes: &[KeyValue]) {
        self.readings.push(Reading { metric, value, attributes: attributes.to_vec() });
    }

    pub(crate) fn fail(&mut self, reading: &'static str, error_type: &'static str) {
        self.failures.push(Failure { reading, error_type });
    }
}

/// The newest sample of a source.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) taken_at: Instant,
    pub(crate) took: Duration,
    /// Age of the values at `taken_at`.
    pub(crate) held: Duration,
    pub(crate) readings: Vec<Reading>,
}

/// Questions for samples, and where the answers go.
pub(crate) trait Questions {
    /// Waits for the next question; false when there are no more.
    fn next(&mut self) -> bool;

    /// Answers the question before.
    fn answer(&mut self, sample: Sample);
}

/// Something that can be looked at. Lives on its own thread, so it may block.
pub(crate) trait Source {
    /// Answers one question after the other until there are no more.
    fn serve(self, questions: &mut impl Questions);
}

/// A look that needs nothing to stay open from one to the next.
impl<F: FnMut() -> Sample> Source for F {
    fn serve(mut self, questions: &mut impl Questions) {
        while questions.next() {
            questions.answer(self());
        }
    }
}
