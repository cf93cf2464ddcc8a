//! Before and after a version move: latency, cost, drift, errors and accuracy, with how sure each difference is.
//!
//! Everything is computed from sums over minutes, which add up across hosts and hours. Requests of one minute resemble
//! each other, so the spread is taken between minutes and not between requests.

mod card;
mod estimate;
mod sums;
#[cfg(test)]
mod tests;

pub use card::{Between, CardRules, DriftReading, Measure, Row, SideAggregates, Verdict, VersionCard, version_card};
pub use estimate::{Estimate, difference};
pub use sums::{LatencyBuckets, MinuteSums};
