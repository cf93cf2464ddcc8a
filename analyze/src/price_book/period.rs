//! Periods of validity and values that hold for them.

use std::fmt;

use chrono::{DateTime, NaiveDate, SecondsFormat};

use super::PriceBookError;

/// Microseconds of one hour.
const HOUR_US: f64 = 3.6e9;

/// `[start_us, end_us)` in UTC microseconds since the epoch; `i64::MIN` and `i64::MAX` stand for an open side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period {
    /// First microsecond.
    pub start_us: i64,
    /// First microsecond after.
    pub end_us: i64,
}

impl Period {
    /// All times.
    pub const ALWAYS: Self = Self { start_us: i64::MIN, end_us: i64::MAX };

    /// The period of two optional dates (`2026-01-01`, midnight UTC) or times (RFC 3339); a missing side is open.
    ///
    /// # Errors
    /// [`PriceBookError::Time`] if one is neither, [`PriceBookError::EmptyPeriod`] unless it ends after it starts.
    pub fn parse(from: Option<&str>, until: Option<&str>) -> Result<Self, PriceBookError> {
        let start_us = from.map_or(Ok(i64::MIN), |text| time_us("from", text))?;
        let end_us = until.map_or(Ok(i64::MAX), |text| time_us("until", text))?;
        let period = Self { start_us, end_us };
        if end_us > start_us { Ok(period) } else { Err(PriceBookError::EmptyPeriod { period }) }
    }

    /// Length in hours.
    pub fn hours(self) -> f64 {
        (self.end_us as f64 - self.start_us as f64) / HOUR_US
    }

    /// What both have in common.
    #[must_use]
    pub fn intersect(self, other: Self) -> Option<Self> {
        let both = Self { start_us: self.start_us.max(other.start_us), end_us: self.end_us.min(other.end_us) };
        (both.end_us > both.start_us).then_some(both)
    }

    /// Whether `time_us` is inside.
    pub fn contains(self, time_us: i64) -> bool {
        (self.start_us..self.end_us).contains(&time_us)
    }
}

impl fmt::Display for Period {
    /// `2026-01-01 .. 2026-07-01`, with the time of day where it is not midnight, `..` alone where a side is open.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALWAYS {
            return f.write_str("always");
        }
        let start = if self.start_us == i64::MIN { String::new() } else { format!("{} ", time_text(self.start_us)) };
        let end = if self.end_us == i64::MAX { String::new() } else { format!(" {}", time_text(self.end_us)) };
        write!(f, "{start}..{end}")
    }
}

fn time_us(key: &'static str, text: &str) -> Result<i64, PriceBookError> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().and_then(|date| date.and_hms_opt(0, 0, 0));
    let time =
        date.map(|midnight| midnight.and_utc()).or_else(|| DateTime::parse_from_rfc3339(text).ok().map(Into::into));
    time.map(|time| time.timestamp_micros()).ok_or_else(|| PriceBookError::Time { key, text: text.to_owned() })
}

/// A date where it is midnight UTC, otherwise RFC 3339.
fn time_text(time_us: i64) -> String {
    let Some(time) = DateTime::from_timestamp_micros(time_us) else { return format!("{time_us} us") };
    let text = time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    text.strip_suffix("T00:00:00Z").map(str::to_owned).unwrap_or(text)
}

/// Values that hold for periods which do not overlap, in order of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline<T> {
    spans: Vec<(Period, T)>,
}

impl<T: Copy> Timeline<T> {
    /// No value at any time.
    pub const EMPTY: Self = Self { spans: Vec::new() };

    /// Adds `value` for `period`.
    ///
    /// # Errors
    /// [`PriceBookError::Overlap`] naming both periods where another value of `key` holds in a part of it.
    pub(super) fn insert(&mut self, key: &str, period: Period, value: T) -> Result<(), PriceBookError> {
        if let Some((other, _)) = self.spans.iter().find(|(other, _)| other.intersect(period).is_some()) {
            return Err(PriceBookError::Overlap { key: key.to_owned(), first: *other, second: period });
        }
        let at = self.spans.partition_point(|(other, _)| other.start_us < period.start_us);
        self.spans.insert(at, (period, value));
        Ok(())
    }

    /// The value at `time_us`.
    pub fn at(&self, time_us: i64) -> Option<T> {
        self.spans.iter().find(|(period, _)| period.contains(time_us)).map(|(_, value)| *value)
    }

    /// The value that holds at all times; none where it changes or is unknown at some.
    pub fn constant(&self) -> Option<T> {
        match self.spans.as_slice() {
            [(period, value)] if *period == Period::ALWAYS => Some(*value),
            _ => None,
        }
    }

    /// `period` cut where the value changes; a part without a value is unknown, not left out.
    pub fn over(&self, period: Period) -> Vec<(Period, Option<T>)> {
        let mut parts = Vec::new();
        let mut from_us = period.start_us;
        for (span, value) in &self.spans {
            let Some(part) = span.intersect(period) else { continue };
            if part.start_us > from_us {
                parts.push((Period { start_us: from_us, end_us: part.start_us }, None));
            }
            parts.push((part, Some(*value)));
            from_us = part.end_us;
        }
        if from_us < period.end_us {
            parts.push((Period { start_us: from_us, end_us: period.end_us }, None));
        }
        parts
    }
}

impl<T> Default for Timeline<T> {
    fn default() -> Self {
        Self { spans: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period(start_us: i64, end_us: i64) -> Period {
        Period { start_us, end_us }
    }

    #[test]
    fn a_gap_is_a_part_without_a_value() {
        let mut line = Timeline::default();
        line.insert("x", period(20, 30), 2).unwrap();
        line.insert("x", period(0, 10), 1).unwrap();
        let expected =
            [(period(5, 10), Some(1)), (period(10, 20), None), (period(20, 30), Some(2)), (period(30, 31), None)];
        assert_eq!(line.over(period(5, 31)), expected);
        assert_eq!((line.at(9), line.at(10), line.at(29), line.constant()), (Some(1), None, Some(2), None));
    }

    #[test]
    fn touching_periods_do_not_overlap_and_others_are_named() {
        let mut line = Timeline::default();
        let half = |from, until| Period::parse(Some(from), Some(until)).unwrap();
        line.insert("vcpu_hour", half("2026-01-01", "2026-07-01"), 1).unwrap();
        line.insert("vcpu_hour", half("2026-07-01", "2027-01-01"), 2).unwrap();
        let error =
            line.insert("vcpu_hour", half("2026-06-30T12:00:00+02:00", "2026-07-02"), 3).unwrap_err().to_string();
        assert!(
            error.contains("2026-01-01 .. 2026-07-01") && error.contains("2026-06-30T10:00:00Z .. 2026-07-02"),
            "{error}"
        );
        assert!(Period::parse(Some("2026-07-01"), Some("2026-07-01")).is_err());
        assert!(Period::parse(Some("1.7.2026"), None).unwrap_err().to_string().contains("2026-01-31"));
    }
}
