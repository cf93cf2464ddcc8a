//! What is asked of a diagnosis, as times.

use crate::{
    diagnosis::{
        Question,
        reader::{Reading, Subject},
    },
    error::Result,
    window::{HOUR_US, MINUTE_US, Window},
};

/// Before a moment at which latency was not as usual: what is looked at, and what of it is taken for normal.
const BEFORE_US: i64 = 3 * HOUR_US;
/// After that moment, as far as it is not the future.
const AFTER_US: i64 = 2 * HOUR_US;
/// Hours up to now where no time is given.
const LATEST_US: i64 = 6 * HOUR_US;
/// Share of the window that is taken for normal.
const REFERENCE_SHARE: f64 = 1.0 / 3.0;

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct DiagnoseRequest {
    /// Whose telemetry.
    pub subject: Subject,
    /// When.
    pub window: Window,
    /// Minute of the change, UTC microseconds, where it is known; else it is searched for.
    pub changed_us: Option<i64>,
    /// Present, UTC microseconds.
    pub now_us: i64,
}

impl DiagnoseRequest {
    /// A question about `between`, or the time around `at_us`, or the last six hours. With both, the change is taken to be at
    /// `at_us`; with `at_us` alone it is searched for in the hours around it.
    ///
    /// # Errors
    /// [`crate::Error::EmptyWindow`] where the time has not begun yet.
    pub fn new(subject: Subject, between: Option<Window>, at_us: Option<i64>, now_us: i64) -> Result<Self> {
        let (window, changed_us) = match (between, at_us) {
            (Some(window), at_us) => (window, at_us),
            (None, Some(at_us)) => (Window::new(at_us - BEFORE_US, (at_us + AFTER_US).min(now_us))?, None),
            (None, None) => (Window::new(now_us - LATEST_US, now_us)?, None),
        };
        Ok(Self { subject, window, changed_us, now_us })
    }

    /// The question in minutes of what was read: its first third is taken for normal.
    pub(super) fn question(&self, reading: &Reading) -> Question {
        let minute_count = reading.window.minute_count;
        let reference = (minute_count as f64 * REFERENCE_SHARE) as usize;
        let minute = |time_us: i64| (time_us - reading.span.start_us).div_euclid(MINUTE_US);
        // A time outside of the window is refused by the diagnosis.
        let at = self.changed_us.map(|time_us| usize::try_from(minute(time_us)).unwrap_or(usize::MAX));
        Question { reference: 0..at.map_or(reference, |at| at.min(reference)), to: minute_count, at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_looked_at_from_both_sides_but_not_from_the_future() {
        let subject = || Subject { service: "chat".into(), filters: vec![] };
        let now_us = 100 * HOUR_US;
        let past = DiagnoseRequest::new(subject(), None, Some(50 * HOUR_US), now_us).unwrap();
        assert_eq!((past.window.start_us, past.window.end_us), (47 * HOUR_US, 52 * HOUR_US));
        assert_eq!(past.changed_us, None);
        let just_now = DiagnoseRequest::new(subject(), None, Some(now_us - MINUTE_US), now_us).unwrap();
        assert_eq!(just_now.window.end_us, now_us);
        let latest = DiagnoseRequest::new(subject(), None, None, now_us).unwrap();
        assert_eq!(latest.window.start_us, 94 * HOUR_US);
        assert!(DiagnoseRequest::new(subject(), None, Some(now_us + 9 * HOUR_US), now_us).is_err());
    }
}
