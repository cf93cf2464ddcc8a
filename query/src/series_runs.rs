//! Aggregates of points by labels of their series, computed in two steps: first each run of points of one series, then the
//! runs by label.
//!
//! Files are sorted by series, so a run is thousands of points long. Only its result is joined with the labels, not every
//! point. Nothing depends on the order: points in any other order make more and shorter runs with the same result.

mod exec;
mod node;
mod planner;
mod rule;

pub(crate) use planner::RunsQueryPlanner;
pub(crate) use rule::AggregateRunsFirst;

#[cfg(test)]
mod tests;
