//! `ASOF JOIN`: to each row on the left the one row on the right that is next to it in time.
//!
//! The parser knows Snowflake's syntax; the engine plans everything in parentheses after `FROM` by [`PlanAsof`].

mod exec;
mod node;
mod planner;
mod syntax;

pub(crate) use planner::AsofPlanner;
pub(crate) use syntax::PlanAsof;

/// Which row on the right is next to one on the left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd)]
pub(crate) enum Nearest {
    /// The last with a time at or before (`>=`).
    AtOrBefore,
    /// The last with a time before (`>`).
    Before,
    /// The first with a time at or after (`<=`).
    AtOrAfter,
    /// The first with a time after (`<`).
    After,
}
