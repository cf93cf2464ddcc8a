//! Gives what is free in the pools of the allocator back to the system while the process is above its limit.
//!
//! Under load the pools keep as much that is free, in pieces between what is used, as the parts of the ledger use together.
//! Below the limit it stays with the process, which takes it again sooner or later: a page that came back from the system
//! costs a fault and is filled with zeros.

use std::time::Duration;

use super::machine::resident_bytes;
use crate::allocator;

/// Between two looks at the memory of the process.
const INTERVAL: Duration = Duration::from_millis(100);
/// The process grows by this part of its limit before it is done again: what is used stays, however often it is asked for.
const GROWTH_PARTS: u64 = 16;

/// Watches the memory of the process for ever; ends at once on systems that do not tell it.
pub(crate) async fn return_above(limit_bytes: u64) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut allowed_bytes = limit_bytes;
    while let Some(taken_bytes) = resident_bytes() {
        if taken_bytes > allowed_bytes {
            if tokio::task::spawn_blocking(allocator::return_free).await.is_err() {
                return;
            }
            let Some(left_bytes) = resident_bytes() else { return };
            allowed_bytes = limit_bytes.max(left_bytes + limit_bytes / GROWTH_PARTS);
            tracing::debug!(taken_bytes, left_bytes, "free memory was given back to the system");
        }
        interval.tick().await;
    }
}
