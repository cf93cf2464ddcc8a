//! Hourly states: what each feature looked like in each hour of each segment, kept in the table `drift_states`.
//!
//! They are derived: whatever is missing or older than its points is built again from them. A state says up to which log
//! sequence its points were read; the store says up to which one points of the hour may have been written since
//! ([`Store::last_writes`](driftwatt_store::Store::last_writes)). Hours without points any more keep the state they had.

mod build;
mod shelf;
mod table;

use std::collections::BTreeMap;

use super::{
    feature_state::{FeatureState, StateKey},
    request::{Filter, Subject},
};
use crate::{
    error::{Error, Result},
    window::{HOUR_US, MINUTE_US, Window, time_text},
};

pub(crate) use shelf::{SideStates, StateShelf, days_sql};
pub(crate) use table::STATES;

/// Hours of one side at most: about a quarter.
const HOURS_MAX: usize = 24 * 92;

/// What the points of a feature are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum PointKind {
    /// Number data points.
    Samples,
    /// Explicit or exponential histogram data points.
    Histograms,
    /// Counts by the values of an attribute.
    Categories,
}

/// One hour of one feature in one segment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct HourlyState {
    /// Rows read: samples, histogram points or points of counters.
    pub(crate) row_count: u64,
    /// Those marked as simulated.
    pub(crate) simulated_count: u64,
    /// The minutes of the hour that have a row, the first as the lowest bit.
    pub(crate) minutes: u64,
    pub(crate) state: FeatureState,
}

/// Which states: of one feature, for the series that the filters leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StateQuery {
    pub(crate) subject: Subject,
    pub(crate) kind: PointKind,
    pub(crate) filters: Vec<Filter>,
}

impl PointKind {
    /// Its name in the table.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Samples => "samples",
            Self::Histograms => "histograms",
            Self::Categories => "categories",
        }
    }
}

impl HourlyState {
    /// Counts one row at `time_us`.
    pub(crate) fn count_row(&mut self, time_us: i64, simulated: bool) {
        self.row_count += 1;
        self.simulated_count += u64::from(simulated);
        self.see_minute(time_us);
    }

    /// Notes that the minute of `time_us` has a row.
    pub(crate) fn see_minute(&mut self, time_us: i64) {
        self.minutes |= 1 << (time_us.rem_euclid(HOUR_US) / MINUTE_US);
    }
}

impl StateQuery {
    /// The feature and segment of the key; a comma in a value cannot be taken for the next filter.
    pub(crate) fn key(&self, hour_us: i64) -> StateKey {
        StateKey {
            feature: self.subject.label(),
            segment: segment_text(&self.filters),
            hour: hour_us.div_euclid(HOUR_US),
        }
    }
}

/// `region=eu,service.name=chat`, in order, with commas and backslashes of values marked by a backslash; empty without filters.
pub(crate) fn segment_text(filters: &[Filter]) -> String {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace(',', "\\,");
    let mut texts: Vec<String> = filters.iter().map(|filter| escaped(&filter.text())).collect();
    texts.sort_unstable();
    texts.dedup();
    texts.join(",")
}

/// The texts of the filters in what [`segment_text`] wrote, still marked.
pub(crate) fn segment_filters(segment: &str) -> Vec<String> {
    let (mut filters, mut one, mut is_marked) = (vec![], String::new(), false);
    for c in segment.chars() {
        match c {
            ',' if !is_marked => filters.push(std::mem::take(&mut one)),
            c => one.push(c),
        }
        is_marked = c == '\\' && !is_marked;
    }
    filters.extend((!one.is_empty()).then_some(one));
    filters
}

/// The starts of the hours of `windows`.
///
/// # Errors
/// [`Error::NotWholeHours`]; [`Error::TooManyHours`].
pub(crate) fn hours_of(windows: &[Window]) -> Result<Vec<i64>> {
    let mut hours = vec![];
    for window in windows {
        if window.start_us.rem_euclid(HOUR_US) != 0 || window.end_us.rem_euclid(HOUR_US) != 0 {
            return Err(Error::NotWholeHours { from: time_text(window.start_us), to: time_text(window.end_us) });
        }
        let count = ((window.end_us - window.start_us) / HOUR_US).unsigned_abs() as usize;
        if hours.len() + count > HOURS_MAX {
            return Err(Error::TooManyHours { hours: hours.len() + count, hours_max: HOURS_MAX });
        }
        hours.extend((0..count as i64).map(|hour| window.start_us + hour * HOUR_US));
    }
    hours.sort_unstable();
    hours.dedup();
    Ok(hours)
}

/// Empty states of the hours of `window`, by their start.
fn empty_hours(window: Window) -> BTreeMap<i64, HourlyState> {
    let count = (window.end_us - window.start_us) / HOUR_US;
    (0..count).map(|hour| (window.start_us + hour * HOUR_US, HourlyState::default())).collect()
}

/// The start of the hour of `time_us`.
fn hour_of(time_us: i64) -> i64 {
    time_us.div_euclid(HOUR_US) * HOUR_US
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_has_one_name_whatever_its_values() {
        let text = |filters: &[(&str, &str)]| {
            let of = |(key, value): &(&str, &str)| Filter { key: (*key).into(), value: (*value).into() };
            segment_text(&filters.iter().map(of).collect::<Vec<_>>())
        };
        assert_eq!(text(&[]), "");
        assert_eq!(text(&[("b", "2"), ("a", "1"), ("b", "2")]), "a=1,b=2");
        assert_eq!(text(&[("a", "1,b=2")]), "a=1\\,b=2");
        assert_ne!(text(&[("a", "1\\"), ("b", "2")]), text(&[("a", "1\\,b=2")]));
        assert_eq!(segment_filters(&text(&[("a", "1,\\"), ("b", "2")])), ["a=1\\,\\\\", "b=2"]);
        assert!(segment_filters("").is_empty());
    }

    #[test]
    fn windows_are_whole_hours_and_not_too_many() {
        let window = |from: i64, to: i64| Window { start_us: from, end_us: to };
        let hours = hours_of(&[window(0, 2 * HOUR_US), window(168 * HOUR_US, 169 * HOUR_US)]).unwrap();
        assert_eq!(hours, [0, HOUR_US, 168 * HOUR_US]);
        assert!(hours_of(&[window(0, HOUR_US + 1)]).unwrap_err().to_string().contains("--source auto"));
        assert!(hours_of(&[window(1, HOUR_US)]).is_err());
        assert!(hours_of(&[window(0, 3_000 * HOUR_US)]).unwrap_err().to_string().contains("more than 2208"));
    }

    #[test]
    fn minutes_are_bits() {
        let mut state = HourlyState::default();
        for time_us in [0, 59 * MINUTE_US, 61 * MINUTE_US] {
            state.count_row(time_us, false);
        }
        assert_eq!((state.row_count, state.minutes), (3, (1 << 59) | 0b11));
    }
}
