//! The clock of this machine, for what is told the time.

use std::{future::Future, pin::Pin, time::Duration};

use chrono::Utc;
use driftwatt_analyze::delivery::Clock;

/// Time as the operating system has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn unix_us(&self) -> i64 {
        Utc::now().timestamp_micros()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(tokio::time::sleep(duration))
    }
}
