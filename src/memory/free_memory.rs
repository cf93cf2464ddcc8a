//! Gives what is free in the pools of the allocator back to the system while the process comes near its limit.
//!
//! Under load the pools keep as much that is free, in pieces between what is used, as the parts of the ledger use together.
//! Far from the limit it stays with the process, which takes it again sooner or later: a page that came back from the system
//! costs a fault and is filled with zeros.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::machine::resident_bytes;
use crate::allocator;

/// Between two looks at the memory of the process.
const INTERVAL: Duration = Duration::from_millis(100);
/// Of each hundred bytes of the limit. The rest is room for what the process takes between two looks.
const NEAR_PERCENT: u64 = 75;
/// Near the limit it is done again after this time, because what was used may be free by now,
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// or sooner, when the process has grown by this part of its limit.
const GROWTH_PARTS: u64 = 16;

/// Watches the memory of the process for ever; ends at once on systems that do not tell it.
pub(crate) async fn return_near(limit_bytes: u64) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let near_bytes = limit_bytes / 100 * NEAR_PERCENT;
    let (mut left_bytes, mut done_at) = (0, Instant::now());
    while let Some(taken_bytes) = resident_bytes() {
        let is_due = done_at.elapsed() >= AGAIN_AFTER || taken_bytes > left_bytes + limit_bytes / GROWTH_PARTS;
        if taken_bytes > near_bytes && is_due {
            if tokio::task::spawn_blocking(allocator::return_free).await.is_err() {
                return;
            }
            (left_bytes, done_at) = (resident_bytes().unwrap_or(taken_bytes), Instant::now());
            tracing::debug!(taken_bytes, left_bytes, "free memory was given back to the system");
        }
        interval.tick().await;
    }
}
