//! `ASOF JOIN`: to each row on the left the one row on the right that is next to it in time.
//!
//! The parser knows Snowflake's syntax; the engine plans everything in parentheses after `FROM` by [`PlanAsof`].
//! Rows of the right are found by key in memory, whatever the order of either side; only where they do not fit both sides are
//! sorted.

mod exec;
mod keys;
mod matches;
mod merge;
mod node;
mod planner;
mod syntax;
mod time_index;

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

impl Nearest {
    /// Whether a row on the right is passed on the way to a time on the left: the last one passed is the nearest behind, the
    /// first one that is not is the nearest ahead.
    fn is_passed(self, right: i64, left: i64) -> bool {
        match self {
            Self::AtOrBefore | Self::After => right <= left,
            Self::Before | Self::AtOrAfter => right < left,
        }
    }

    fn is_behind(self) -> bool {
        matches!(self, Self::AtOrBefore | Self::Before)
    }

    /// Which row in order it is, of which `passed` are passed.
    fn index(self, passed: usize) -> Option<usize> {
        if self.is_behind() { passed.checked_sub(1) } else { Some(passed) }
    }
}

#[cfg(test)]
mod tests;
