//! The width of a bucket of time, or the length of a window.

use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit};
use datafusion::{
    common::{ScalarValue, exec_datafusion_err, exec_err},
    error::Result,
};

pub(crate) const MICROS_OF_SECOND: i64 = 1_000_000;
pub(crate) const MICROS_OF_DAY: i64 = 86_400 * MICROS_OF_SECOND;

/// Calendar months, or days and microseconds; positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Width {
    pub(crate) months: i32,
    pub(crate) days: i32,
    pub(crate) micros: i64,
}

impl Width {
    /// The width that `value` says, an interval or a text such as `5m`, `300.000s`, `1 day` or `1h30m`; `None` for null.
    ///
    /// # Errors
    /// For what is no width, and for months together with days.
    pub(crate) fn of(value: &ScalarValue) -> Result<Option<Self>> {
        let width = Self::signed(value)?;
        match width {
            Some(width) if width.months != 0 && (width.days != 0 || width.micros != 0) => {
                exec_err!("a width is months or days and shorter units, not both")
            }
            Some(width) if width.months < 0 || width.fixed_micros() < 0 || width.is_zero() => {
                exec_err!("a width must be more than zero")
            }
            width => Ok(width),
        }
    }

    /// The same for what may be zero or negative, as an offset.
    pub(crate) fn signed(value: &ScalarValue) -> Result<Option<Self>> {
        let no_width = || {
            exec_datafusion_err!(
                "{value} is no width of time: use an interval or a text such as '5m', '1 day' or '1 month'"
            )
        };
        let interval = match value {
            value if value.is_null() => return Ok(None),
            ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => {
                return parsed(text).map(Some).ok_or_else(no_width);
            }
            value => value.cast_to(&DataType::Interval(IntervalUnit::MonthDayNano)),
        };
        match interval {
            Ok(ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano { months, days, nanoseconds }))) => {
                Ok(Some(Self { months, days, micros: nanoseconds / 1000 }))
            }
            _ => Err(no_width()),
        }
    }

    fn is_zero(&self) -> bool {
        self.months == 0 && self.fixed_micros() == 0
    }

    /// Days and shorter units, with days of 24 hours.
    pub(crate) fn fixed_micros(&self) -> i64 {
        i64::from(self.days).saturating_mul(MICROS_OF_DAY).saturating_add(self.micros)
    }
}

/// Numbers with units, as in `1h30m` and `300.000s`; `None` for any other text.
fn parsed(text: &str) -> Option<Width> {
    let mut width = Width { months: 0, days: 0, micros: 0 };
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '-')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        let unit = rest[..letters].to_lowercase();
        rest = rest[letters..].trim_start();
        let (months, micros) = match unit.as_str() {
            "us" | "µs" | "microsecond" | "microseconds" => (0, 1),
            "ms" | "millisecond" | "milliseconds" => (0, 1000),
            "s" | "sec" | "secs" | "second" | "seconds" => (0, MICROS_OF_SECOND),
            "m" | "min" | "mins" | "minute" | "minutes" => (0, 60 * MICROS_OF_SECOND),
            "h" | "hr" | "hour" | "hours" => (0, 3600 * MICROS_OF_SECOND),
            "d" | "day" | "days" => (0, MICROS_OF_DAY),
            "w" | "week" | "weeks" => (0, 7 * MICROS_OF_DAY),
            "mon" | "month" | "months" => (1, 0),
            "quarter" | "quarters" => (3, 0),
            "y" | "year" | "years" => (12, 0),
            _ => return None,
        };
        let (months, micros) = (number * f64::from(months), (number * micros as f64).round());
        if months.fract() != 0.0 || months.abs() > 1e6 || micros.abs() > 9e18 {
            return None;
        }
        width.months = width.months.checked_add(months as i32)?;
        width.micros = width.micros.checked_add(micros as i64)?;
    }
    width.days = i32::try_from(width.micros / MICROS_OF_DAY).ok()?;
    width.micros %= MICROS_OF_DAY;
    Some(width)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, months: i32, days: i32, micros: i64) {
        let width = Width::of(&ScalarValue::from(text)).unwrap();
        assert_eq!(width, Some(Width { months, days, micros }), "{text}");
    }

    #[test]
    fn texts_of_people_and_of_grafana_are_widths() {
        check("300.000s", 0, 0, 300 * MICROS_OF_SECOND);
        check("5m", 0, 0, 300 * MICROS_OF_SECOND);
        check("5 minutes", 0, 0, 300 * MICROS_OF_SECOND);
        check("1h30m", 0, 0, 5400 * MICROS_OF_SECOND);
        check("0.5s", 0, 0, 500_000);
        check("1 day", 0, 1, 0);
        check("2w", 0, 14, 0);
        check("1 month", 1, 0, 0);
        check("1 year", 12, 0, 0);
    }

    #[test]
    fn what_is_no_width_is_refused() {
        for text in ["", "5", "five minutes", "0s", "-5m", "1 month 1 day", "0.5 month", "01:30:00"] {
            assert!(Width::of(&ScalarValue::from(text)).is_err(), "{text}");
        }
        assert_eq!(Width::of(&ScalarValue::Utf8(None)).unwrap(), None);
    }
}
