//! Which days go. Pure: the policy, the days that hold points, and the clock in, the first day to keep out.

use std::collections::BTreeSet;

use super::policy::Keep;
use crate::memtable::{DAY_US, day_of};

/// The clock is believed as long as it is at most this far after the end of the trusted day.
const CLOCK_AHEAD_US: i64 = 7 * DAY_US;
/// So many days, from the newest one, must hold points: what a wrong clock writes itself, such as the server's own
/// metrics, is one more day, not three.
const DAYS_TRUSTED: usize = 3;

/// The time that ages are counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Now {
    /// The clock.
    Clock(i64),
    /// The end of the trusted day: the clock is far ahead of what is stored.
    HeldBack(i64),
    /// Too few days hold points to tell whether the clock is right.
    Unknown,
}

impl Now {
    /// What is believed of the clock `now_us`, when `days` hold points.
    pub(super) fn trusted(now_us: i64, days: &BTreeSet<i32>) -> Self {
        let Some(day) = days.iter().rev().nth(DAYS_TRUSTED - 1) else { return Self::Unknown };
        let end = (i64::from(*day) + 1) * DAY_US;
        if now_us <= end + CLOCK_AHEAD_US { Self::Clock(now_us) } else { Self::HeldBack(end) }
    }

    /// UTC microseconds.
    pub(super) fn time(self) -> Option<i64> {
        match self {
            Self::Clock(time) | Self::HeldBack(time) => Some(time),
            Self::Unknown => None,
        }
    }

    /// Days before this one are older than `keep` with their last microsecond. `None`: nothing is.
    pub(super) fn first_kept_day(self, keep: Keep) -> Option<i32> {
        match keep {
            Keep::Forever => None,
            Keep::For(_) => Some(day_of(self.time()?.saturating_sub(keep.as_micros()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TODAY: i32 = 20_781;
    const NOON: i64 = TODAY as i64 * DAY_US + DAY_US / 2;

    fn keep(days: u64) -> Keep {
        Keep::For(Duration::from_secs(days * 86_400))
    }

    #[test]
    fn a_day_goes_when_its_last_moment_is_past_the_horizon() {
        let days: BTreeSet<i32> = (TODAY - 20..=TODAY).collect();
        let first_kept = |now: i64| Now::trusted(now, &days).first_kept_day(keep(7)).unwrap();
        assert_eq!(first_kept(NOON), TODAY - 7);
        assert_eq!(first_kept(i64::from(TODAY) * DAY_US), TODAY - 7);
        // The last moment before midnight.
        assert_eq!(first_kept(i64::from(TODAY) * DAY_US - 1), TODAY - 8);
        assert_eq!(Now::trusted(NOON, &days).first_kept_day(Keep::Forever), None);
    }

    #[test]
    fn a_clock_that_jumps_ahead_takes_no_stored_day_along() {
        let mut days: BTreeSet<i32> = (TODAY - 20..=TODAY).collect();
        let jumped = NOON + 3650 * DAY_US;
        assert_eq!(Now::trusted(jumped, &days), Now::HeldBack((i64::from(TODAY) - 1) * DAY_US));
        for kept in [1, 30] {
            let first_kept = Now::trusted(jumped, &days).first_kept_day(keep(kept));
            assert_eq!(first_kept, Some(TODAY - 1 - kept as i32), "less than by the right clock");
        }
        // What the server itself writes under the wrong clock, over a midnight.
        days.extend([TODAY + 3650, TODAY + 3651]);
        assert_eq!(Now::trusted(jumped + DAY_US, &days).first_kept_day(keep(30)), Some(TODAY + 1 - 30));
    }

    #[test]
    fn a_clock_that_is_set_back_or_right_is_believed() {
        let days: BTreeSet<i32> = (TODAY - 20..=TODAY).collect();
        assert_eq!(Now::trusted(NOON, &days), Now::Clock(NOON));
        assert_eq!(Now::trusted(NOON - 400 * DAY_US, &days), Now::Clock(NOON - 400 * DAY_US));
        // Silent since four days: still believed.
        assert_eq!(Now::trusted(NOON + 4 * DAY_US, &days), Now::Clock(NOON + 4 * DAY_US));
    }

    #[test]
    fn with_fewer_than_three_days_nothing_goes() {
        for days in [vec![], vec![TODAY], vec![TODAY - 500, TODAY]] {
            let now = Now::trusted(NOON, &days.into_iter().collect());
            assert_eq!(now, Now::Unknown);
            assert_eq!(now.first_kept_day(keep(1)), None);
        }
    }
}
