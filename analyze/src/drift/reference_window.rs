//! Which hours a window is compared with. Hours are counted from the Unix epoch, UTC; the window under test is never in them.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::window::{HOUR_US, Window};

/// Hours of a week.
const WEEK_HOURS: i64 = 168;
/// Weeks that a seasonal reference reaches back.
pub const SEASONAL_WEEKS: i64 = 4;
/// Weeks that must have data for a seasonal reference.
pub const SEASONAL_WEEKS_MIN: usize = 2;
/// Hours that a trailing reference reaches back.
pub const TRAILING_HOURS: i64 = WEEK_HOURS;

/// The window of [`TRAILING_HOURS`] before `current`.
pub fn trailing_window(current: Window) -> Window {
    Window { start_us: current.start_us - TRAILING_HOURS * HOUR_US, end_us: current.start_us }
}

/// The same times of the last [`SEASONAL_WEEKS`] weeks, oldest first.
///
/// A window longer than a week steps back by whole weeks of its own length, so that it never meets itself.
pub fn seasonal_windows(current: Window) -> Vec<Window> {
    let week_us = WEEK_HOURS * HOUR_US;
    let length_us = current.end_us - current.start_us;
    let step_us = week_us * ((length_us + week_us - 1) / week_us).max(1);
    let back =
        |weeks| Window { start_us: current.start_us - weeks * step_us, end_us: current.end_us - weeks * step_us };
    (1..=SEASONAL_WEEKS).rev().map(back).collect()
}

/// Hours `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HourRange {
    /// First hour.
    pub start: i64,
    /// One past the last hour.
    pub end: i64,
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

/// A chosen reference; stored with every score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// How it was chosen.
    pub kind: ReferenceKind,
    /// Its windows, oldest first; each as long as the window under test where that is possible.
    pub windows: Vec<HourRange>,
}

/// No reference of that kind.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReferenceError {
    /// The window holds no hour.
    #[error("the window {start}..{end} holds no hour")]
    EmptyWindow {
        /// First hour.
        start: i64,
        /// End.
        end: i64,
    },
    /// A pinned reference has no data outside the window under test.
    #[error("the pinned reference has no data outside the window under test: pin an earlier window")]
    PinnedEmpty,
    /// Too few weeks for the season.
    #[error("{found} of the last {SEASONAL_WEEKS} weeks have data at this hour, {SEASONAL_WEEKS_MIN} are needed")]
    TooFewWeeks {
        /// Weeks found.
        found: usize,
    },
    /// Nothing in the last week.
    #[error("no data in the {TRAILING_HOURS} hours before the window")]
    TrailingEmpty,
}

impl HourRange {
    fn checked(self) -> Result<Self, ReferenceError> {
        if self.start < self.end {
            Ok(self)
        } else {
            Err(ReferenceError::EmptyWindow { start: self.start, end: self.end })
        }
    }

    fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    fn has_data(self, hours: &BTreeSet<i64>) -> bool {
        hours.range(self.start..self.end).next().is_some()
    }
}

/// The named window cut into windows of the tested length, without those that touch the window under test.
///
/// # Errors
/// [`ReferenceError::PinnedEmpty`] where nothing is left.
pub fn pinned(pin: HourRange, current: HourRange, hours: &BTreeSet<i64>) -> Result<Reference, ReferenceError> {
    let (pin, current) = (pin.checked()?, current.checked()?);
    let windows = cut(pin, current, hours);
    if windows.is_empty() {
        return Err(ReferenceError::PinnedEmpty);
    }
    Ok(Reference { kind: ReferenceKind::Pinned, windows })
}

/// The same hours of the week in the last [`SEASONAL_WEEKS`] weeks.
///
/// A window longer than a week steps back by whole weeks of its own length, so that it never meets itself.
///
/// # Errors
/// [`ReferenceError::TooFewWeeks`] below [`SEASONAL_WEEKS_MIN`] with data.
pub fn seasonal(current: HourRange, hours: &BTreeSet<i64>) -> Result<Reference, ReferenceError> {
    let current = current.checked()?;
    let step = WEEK_HOURS * ((current.end - current.start + WEEK_HOURS - 1) / WEEK_HOURS);
    let back = |weeks: i64| HourRange { start: current.start - weeks * step, end: current.end - weeks * step };
    let windows: Vec<HourRange> =
        (1..=SEASONAL_WEEKS).rev().map(back).filter(|window| window.has_data(hours)).collect();
    if windows.len() < SEASONAL_WEEKS_MIN {
        return Err(ReferenceError::TooFewWeeks { found: windows.len() });
    }
    Ok(Reference { kind: ReferenceKind::Seasonal, windows })
}

/// The [`TRAILING_HOURS`] before the window, cut into windows of its length that end where it starts.
///
/// # Errors
/// [`ReferenceError::TrailingEmpty`] where they have no data.
pub fn trailing(current: HourRange, hours: &BTreeSet<i64>) -> Result<Reference, ReferenceError> {
    let current = current.checked()?;
    let length = (current.end - current.start).min(TRAILING_HOURS);
    let count = TRAILING_HOURS / length;
    let past = HourRange { start: current.start - count * length, end: current.start };
    let windows = cut(past, HourRange { start: current.start, end: current.start + length }, hours);
    if windows.is_empty() {
        return Err(ReferenceError::TrailingEmpty);
    }
    Ok(Reference { kind: ReferenceKind::Trailing, windows })
}

/// The reference for alarms: seasonal, or trailing where there are too few weeks.
///
/// # Errors
/// [`ReferenceError::TrailingEmpty`] where neither has data.
pub fn for_alarm(current: HourRange, hours: &BTreeSet<i64>) -> Result<Reference, ReferenceError> {
    seasonal(current, hours).or_else(|_| trailing(current, hours))
}

fn cut(range: HourRange, current: HourRange, hours: &BTreeSet<i64>) -> Vec<HourRange> {
    let length = (current.end - current.start).max(1);
    let mut windows = vec![];
    let mut start = range.start;
    while start < range.end {
        let window = HourRange { start, end: (start + length).min(range.end) };
        if !window.overlaps(current) && window.has_data(hours) {
            windows.push(window);
        }
        start = window.end;
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(start: i64) -> HourRange {
        HourRange { start, end: start + 1 }
    }

    #[test]
    fn no_reference_holds_the_window_under_test() {
        let hours: BTreeSet<i64> = (0..2_000).collect();
        for length in [1, 6, 24, 168, 200] {
            let current = HourRange { start: 1_700, end: 1_700 + length };
            let pin = HourRange { start: 1_690, end: 1_990 };
            let all = [seasonal(current, &hours), trailing(current, &hours), pinned(pin, current, &hours)];
            for reference in all.into_iter().flatten() {
                assert!(!reference.windows.is_empty());
                assert!(reference.windows.iter().all(|window| !window.overlaps(current)), "{reference:?}");
            }
        }
    }

    #[test]
    fn seasons_step_back_by_weeks_and_never_meet_the_window() {
        let hour_us = |hour: i64| hour * HOUR_US;
        let current = Window { start_us: hour_us(1_000), end_us: hour_us(1_001) };
        let windows = seasonal_windows(current);
        assert_eq!(windows.iter().map(|window| window.start_us / HOUR_US).collect::<Vec<_>>(), [328, 496, 664, 832]);
        let long = Window { start_us: 0, end_us: hour_us(200) };
        assert!(seasonal_windows(long).iter().all(|window| window.end_us <= 0));
    }

    #[test]
    fn seasons_need_two_weeks_with_data() {
        let current = hour(1_000);
        let weeks = BTreeSet::from([1_000 - 168, 1_000 - 3 * 168, 999]);
        let reference = seasonal(current, &weeks).unwrap();
        assert_eq!(reference.windows, [hour(1_000 - 3 * 168), hour(1_000 - 168)]);
        let one = BTreeSet::from([1_000 - 168, 999]);
        assert_eq!(seasonal(current, &one), Err(ReferenceError::TooFewWeeks { found: 1 }));
        assert_eq!(for_alarm(current, &one).unwrap().kind, ReferenceKind::Trailing);
        assert_eq!(for_alarm(current, &BTreeSet::from([1_000])), Err(ReferenceError::TrailingEmpty));
        assert!(pinned(current, current, &BTreeSet::from([1_000])).is_err());
        assert!(trailing(HourRange { start: 5, end: 5 }, &one).is_err());
    }
}
