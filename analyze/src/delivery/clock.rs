//! Time as a component: what it is, and how to wait.

use std::{future::Future, pin::Pin, time::Duration};

/// Tells the time and waits, so that a test of an hour of retries takes no hour.
pub trait Clock: Send + Sync {
    /// Microseconds since 1970 in UTC.
    fn unix_us(&self) -> i64;
    /// Resolves after `duration`.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// A clock that stands still but for its sleeps, which it notes down.
#[cfg(test)]
#[derive(Debug)]
pub(super) struct TestClock {
    start_us: i64,
    pub(super) slept: std::sync::Mutex<Vec<Duration>>,
}

#[cfg(test)]
impl TestClock {
    pub(super) fn at(start_us: i64) -> Self {
        Self { start_us, slept: std::sync::Mutex::default() }
    }

    pub(super) fn slept_s(&self) -> Vec<u64> {
        self.slept.lock().unwrap().iter().map(Duration::as_secs).collect()
    }
}

#[cfg(test)]
impl Clock for TestClock {
    fn unix_us(&self) -> i64 {
        let slept: Duration = self.slept.lock().unwrap().iter().sum();
        self.start_us + slept.as_micros() as i64
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.slept.lock().unwrap().push(duration);
        Box::pin(std::future::ready(()))
    }
}
