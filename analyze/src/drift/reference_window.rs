//! What a window is compared with; it is never part of it itself.

use serde::Serialize;

use crate::window::{HOUR_US, Window};

/// Microseconds of a week.
const WEEK_US: i64 = 168 * HOUR_US;
/// Weeks that a seasonal reference reaches back.
pub const SEASONAL_WEEKS: i64 = 4;
/// Weeks that must have data for a seasonal reference.
pub const SEASONAL_WEEKS_MIN: usize = 2;

/// The seven days before `current`.
pub fn trailing_window(current: Window) -> Window {
    Window { start_us: current.start_us - WEEK_US, end_us: current.start_us }
}

/// The same times of the last [`SEASONAL_WEEKS`] weeks, oldest first.
///
/// A window longer than a week steps back by whole weeks of its own length, so that it never meets itself.
pub fn seasonal_windows(current: Window) -> Vec<Window> {
    let step_us = season_step_weeks(current) * WEEK_US;
    let back =
        |steps| Window { start_us: current.start_us - steps * step_us, end_us: current.end_us - steps * step_us };
    (1..=SEASONAL_WEEKS).rev().map(back).collect()
}

/// Those windows in words: `the same hours 1, 2, 3 and 4 weeks before`.
pub(crate) fn season_text(current: Window) -> String {
    let step = season_step_weeks(current);
    let weeks: Vec<String> = (1..=SEASONAL_WEEKS).map(|steps| (steps * step).to_string()).collect();
    let (last, others) = weeks.split_last().map_or(("", &[][..]), |(last, others)| (last.as_str(), others));
    format!("the same hours {} and {last} weeks before", others.join(", "))
}

/// Weeks that a window is long, begun ones counted whole.
fn season_step_weeks(current: Window) -> i64 {
    let length_us = current.end_us - current.start_us;
    ((length_us + WEEK_US - 1) / WEEK_US).max(1)
}

/// How a reference was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReferenceKind {
    /// A named window, as of a release: did the world change since?
    Pinned,
    /// The same hours of the week in the last four weeks, pooled: is this unusual for now?
    Seasonal,
    /// The last seven days.
    Trailing,
}

impl ReferenceKind {
    /// Its name in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Seasonal => "seasonal",
            Self::Trailing => "trailing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reference_holds_the_window_under_test() {
        for hours in [1, 6, 24, 168, 200] {
            let current = Window { start_us: 1_700 * HOUR_US, end_us: (1_700 + hours) * HOUR_US };
            let references = [seasonal_windows(current), vec![trailing_window(current)]].concat();
            assert!(references.iter().all(|window| window.end_us <= current.start_us), "{references:?}");
        }
    }

    #[test]
    fn seasons_step_back_by_weeks_and_say_so() {
        let current = Window { start_us: 1_000 * HOUR_US, end_us: 1_001 * HOUR_US };
        let windows = seasonal_windows(current);
        assert_eq!(windows.iter().map(|window| window.start_us / HOUR_US).collect::<Vec<_>>(), [328, 496, 664, 832]);
        assert_eq!(season_text(current), "the same hours 1, 2, 3 and 4 weeks before");
        let long = Window { start_us: 0, end_us: 200 * HOUR_US };
        assert_eq!(seasonal_windows(long)[3].start_us, -336 * HOUR_US);
        assert_eq!(season_text(long), "the same hours 2, 4, 6 and 8 weeks before");
    }
}
