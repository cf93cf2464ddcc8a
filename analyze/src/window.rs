//! A half-open period of UTC time in microseconds.

use chrono::{DateTime, Datelike, Days, NaiveDate, TimeZone as _, Timelike, Weekday};
use chrono_tz::Tz;
use serde::{Serialize, Serializer};

use crate::error::{Error, Result};

/// Microseconds of one millisecond.
pub(crate) const MILLISECOND_US: i64 = 1_000;
/// Microseconds of one minute.
pub(crate) const MINUTE_US: i64 = 60_000_000;
/// Microseconds of one hour.
pub(crate) const HOUR_US: i64 = 3_600_000_000;
/// Microseconds of one day.
pub(crate) const DAY_US: i64 = 24 * HOUR_US;

/// `[start_us, end_us)`, UTC microseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Window {
    /// First microsecond.
    pub start_us: i64,
    /// First microsecond after.
    pub end_us: i64,
}

impl Window {
    /// The window from `start_us` to `end_us`.
    ///
    /// # Errors
    /// [`Error::EmptyWindow`] unless it ends after it starts.
    pub fn new(start_us: i64, end_us: i64) -> Result<Self> {
        if end_us > start_us { Ok(Self { start_us, end_us }) } else { Err(Error::EmptyWindow) }
    }

    /// The ISO 8601 week written as `2026-W47`, Monday to Monday, UTC.
    ///
    /// # Errors
    /// [`Error::Week`] if there is no such week.
    pub fn parse_week(text: &str) -> Result<Self> {
        Self::parse_week_in(text, Tz::UTC)
    }

    /// The same from local midnight to local midnight in `zone`, which is 167 or 169 hours where the clocks change.
    ///
    /// # Errors
    /// [`Error::Week`] if there is no such week.
    pub fn parse_week_in(text: &str, zone: Tz) -> Result<Self> {
        let unreadable = || Error::Week { text: text.to_owned() };
        let (year, week) = text.split_once("-W").ok_or_else(unreadable)?;
        let (year, week) = (year.parse().map_err(|_| unreadable())?, week.parse().map_err(|_| unreadable())?);
        let monday = NaiveDate::from_isoywd_opt(year, week, Weekday::Mon).ok_or_else(unreadable)?;
        Self::week_of(monday, zone).ok_or_else(unreadable)
    }

    /// The last ISO week that ended at or before `now_us`, UTC.
    pub fn last_complete_week(now_us: i64) -> Self {
        // 1970-01-05 was the first Monday after the epoch.
        let (monday_us, week_us) = (4 * DAY_US, 7 * DAY_US);
        let end_us = (now_us - monday_us).div_euclid(week_us) * week_us + monday_us;
        Self { start_us: end_us - week_us, end_us }
    }

    /// The same in `zone`.
    pub fn last_complete_week_in(now_us: i64, zone: Tz) -> Self {
        let last = || {
            let today = DateTime::from_timestamp_micros(now_us)?.with_timezone(&zone).date_naive();
            Self::week_of(today.checked_sub_days(Days::new(7))?, zone)
        };
        last().unwrap_or_else(|| Self::last_complete_week(now_us))
    }

    /// The week of `day` in `zone`, Monday to Monday.
    pub(crate) fn week_of(day: NaiveDate, zone: Tz) -> Option<Self> {
        let monday = day.checked_sub_days(Days::new(u64::from(day.weekday().num_days_from_monday())))?;
        let midnight = |day: NaiveDate| {
            // Where the clocks skip midnight the day begins at the first hour that there is.
            let hours = (0..24).filter_map(|hour| zone.from_local_datetime(&day.and_hms_opt(hour, 0, 0)?).earliest());
            hours.map(|time| time.timestamp_micros()).next()
        };
        let week = Self { start_us: midnight(monday)?, end_us: midnight(monday.checked_add_days(Days::new(7))?)? };
        Some(week)
    }

    /// The week before a week of `zone`; before any other window the one of the same length.
    pub fn week_before(self, zone: Tz) -> Self {
        let before = || {
            let day = |time_us| Some(DateTime::from_timestamp_micros(time_us)?.with_timezone(&zone).date_naive());
            let is_week = Self::week_of(day(self.start_us)?, zone) == Some(self);
            Self::week_of(day(self.start_us)?.checked_sub_days(Days::new(7))?, zone).filter(|_| is_week)
        };
        before().unwrap_or_else(|| self.before())
    }

    /// The window of the same length that ends where this one starts.
    pub fn before(self) -> Self {
        Self { start_us: self.start_us - (self.end_us - self.start_us), end_us: self.start_us }
    }

    /// The minutes that are wholly inside.
    ///
    /// # Errors
    /// [`Error::EmptyWindow`] if there is none.
    pub(crate) fn whole_minutes(self) -> Result<Self> {
        let start_us = (self.start_us + MINUTE_US - 1).div_euclid(MINUTE_US) * MINUTE_US;
        Self::new(start_us, self.end_us.div_euclid(MINUTE_US) * MINUTE_US)
    }

    /// Length in hours.
    pub fn hours(self) -> f64 {
        (self.end_us - self.start_us) as f64 / HOUR_US as f64
    }

    /// `2026-W47` where the window is an ISO week, else its start and end.
    pub fn label(self) -> String {
        self.label_in(Tz::UTC)
    }

    /// The same for a week of `zone`, which it names where it is not UTC.
    pub fn label_in(self, zone: Tz) -> String {
        let start = DateTime::from_timestamp_micros(self.start_us).map(|start| start.with_timezone(&zone));
        if let Some(start) = start.filter(|start| Self::week_of(start.date_naive(), zone) == Some(self)) {
            let mark = if zone == Tz::UTC { String::new() } else { format!(" {}", zone.name()) };
            return format!("{}-W{:02}{mark}", start.iso_week().year(), start.iso_week().week());
        }
        format!("{} to {}", time_text(self.start_us), time_text(self.end_us))
    }

    /// SQL condition for rows of `raw.series` that have a point in the window; the days keep other partitions unread.
    pub(crate) fn series_condition(self) -> String {
        let (start, end) = (time_literal(self.start_us), time_literal(self.end_us));
        format!(
            "last_time >= {start} AND first_time < {end} AND date >= CAST({start} AS DATE) AND date <= CAST({end} AS DATE)"
        )
    }

    /// SQL condition on `column` that holds inside the window.
    pub(crate) fn condition(self, column: &str) -> String {
        format!("{column} >= {} AND {column} < {}", time_literal(self.start_us), time_literal(self.end_us))
    }
}

/// A timestamp constant of the type of the `time` columns, so that no cast stands between it and file statistics.
pub(crate) fn time_literal(time_us: i64) -> String {
    format!("arrow_cast({time_us}, 'Timestamp(Microsecond, Some(\"UTC\"))')")
}

/// Hour of the week of `time_us` in `zone`, 0 = Monday 00:00; none past the calendar's end.
pub(crate) fn local_hour_of_week(time_us: i64, zone: Tz) -> Option<usize> {
    let local = DateTime::from_timestamp_micros(time_us)?.with_timezone(&zone);
    Some((local.weekday().num_days_from_monday() * 24 + local.hour()) as usize)
}

/// A time zone by its IANA name.
pub(crate) fn serialize_zone<S: Serializer>(zone: &Tz, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(zone.name())
}

/// `2026-11-16 00:00 UTC`.
pub(crate) fn time_text(time_us: i64) -> String {
    DateTime::from_timestamp_micros(time_us)
        .map_or_else(|| format!("{time_us} us"), |time| time.format("%Y-%m-%d %H:%M UTC").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iso_weeks_are_parsed_and_named() {
        let week = Window::parse_week("2026-W47").unwrap();
        assert_eq!(time_text(week.start_us), "2026-11-16 00:00 UTC");
        assert_eq!(week.label(), "2026-W47");
        assert_eq!(Window::parse_week("2026-W01").unwrap().label(), "2026-W01");
        assert_eq!(week.before().label(), "2026-W46");
        for text in ["2026-W54", "2025-W53", "2026W47", "W47", "2026-W", ""] {
            assert!(Window::parse_week(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_last_complete_week_ends_at_or_before_now() {
        let week = Window::parse_week("2026-W47").unwrap();
        assert_eq!(Window::last_complete_week(week.end_us), week);
        assert_eq!(Window::last_complete_week(week.end_us + 7 * DAY_US - 1), week);
        assert_eq!(Window::last_complete_week(week.end_us - 1), week.before());
    }

    #[test]
    fn a_week_in_which_the_clocks_change_has_another_length() {
        let zone: Tz = "Europe/Berlin".parse().unwrap();
        // Summer time ended on Sunday 2026-10-25.
        let week = Window::parse_week_in("2026-W43", zone).unwrap();
        assert_eq!((time_text(week.start_us).as_str(), week.hours()), ("2026-10-18 22:00 UTC", 169.0));
        assert_eq!((week.week_before(zone).hours(), week.label_in(zone).as_str()), (168.0, "2026-W43 Europe/Berlin"));
        let after = Window::parse_week_in("2026-W44", zone).unwrap();
        assert_eq!(after.week_before(zone), week);
        assert_eq!(Window::last_complete_week_in(week.end_us, zone), week);
        assert_eq!(Window::last_complete_week_in(week.end_us - 1, zone), week.week_before(zone));
        // Beirut's clocks jump from midnight to one o'clock.
        assert!(Window::parse_week_in("2026-W13", "Asia/Beirut".parse().unwrap()).is_ok());
        let other = Window::new(5, 7).unwrap();
        assert_eq!(other.week_before(zone), Window::new(3, 5).unwrap());
    }

    #[test]
    fn a_window_must_not_be_empty() {
        assert!(Window::new(5, 5).is_err());
    }

    #[test]
    fn whole_minutes_are_those_inside() {
        let minutes = |from, to| Window::new(from, to).unwrap().whole_minutes();
        assert_eq!(minutes(-1, 2 * MINUTE_US + 1).unwrap(), Window::new(0, 2 * MINUTE_US).unwrap());
        assert_eq!(minutes(0, MINUTE_US).unwrap(), Window::new(0, MINUTE_US).unwrap());
        assert!(minutes(1, MINUTE_US + 1).is_err());
    }
}
