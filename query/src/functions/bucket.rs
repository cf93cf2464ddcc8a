//! Buckets of time: which one a moment is in, and which one comes next. Times are UTC microseconds.

use arrow::array::timezone::Tz;
use chrono::{DateTime, Datelike, MappedLocalTime, Months, NaiveDateTime, Offset, TimeZone};
use datafusion::{common::exec_datafusion_err, error::Result};

use super::width::{MICROS_OF_DAY, MICROS_OF_SECOND, Width};

/// 2000-01-03, a Monday: weeks begin on Mondays.
const MONDAY: i64 = 946_857_600 * MICROS_OF_SECOND;
/// 2000-01-01: months and years begin on their first day.
const FIRST_OF_JANUARY: i64 = 946_684_800 * MICROS_OF_SECOND;

/// Buckets of one width, aligned to an origin, on the clock of a time zone if one is given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Buckets {
    width: Width,
    zone: Option<Tz>,
    /// On the clock of the zone.
    origin: i64,
}

impl Buckets {
    /// Source of the default origins: TimescaleDB.
    pub(crate) fn new(width: Width, zone: Option<Tz>, origin: Option<i64>, offset: Option<Width>) -> Result<Self> {
        let default = if width.months > 0 { FIRST_OF_JANUARY } else { MONDAY };
        let origin = match (origin, zone) {
            (Some(origin), Some(zone)) => origin.checked_add(zone_offset(zone, origin)?),
            (Some(origin), None) => Some(origin),
            (None, _) => Some(default),
        };
        let shifted = match offset {
            Some(offset) => origin.and_then(|origin| add(origin, offset)),
            None => origin,
        };
        let origin = shifted.ok_or_else(|| exec_datafusion_err!("the origin of the buckets is out of range"))?;
        Ok(Self { width, zone, origin })
    }

    /// When the bucket of `time` begins.
    ///
    /// # Errors
    /// Past the years that a clock can show.
    pub(crate) fn start(&self, time: i64) -> Result<i64> {
        let Some(zone) = self.zone else { return self.floor(time) };
        let local = time + zone_offset(zone, time)?;
        instant(zone, self.floor(local)?, time)
    }

    /// When the bucket after the one that begins at `start` begins.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn next(&self, start: i64) -> Result<i64> {
        let next = match self.zone {
            Some(zone) if self.width.months > 0 || self.width.fixed_micros() >= MICROS_OF_DAY => {
                let local = add(start + zone_offset(zone, start)?, self.width).ok_or_else(out_of_range)?;
                instant(zone, local, i64::MAX)?
            }
            // Where clocks are set back, an hour comes twice and has buckets twice.
            _ => self.start(add(start, self.width).ok_or_else(out_of_range)?)?,
        };
        if next > start { Ok(next) } else { Err(out_of_range()) }
    }

    fn floor(&self, local: i64) -> Result<i64> {
        if self.width.months == 0 {
            let width = self.width.fixed_micros();
            let since = i128::from(local) - i128::from(self.origin);
            return i64::try_from(i128::from(local) - since.rem_euclid(i128::from(width))).map_err(|_| out_of_range());
        }
        let (at, origin) = (date_time(local)?, date_time(self.origin)?);
        let months = (at.year() - origin.year()) * 12 + at.month() as i32 - origin.month() as i32;
        let mut bucket = months.div_euclid(self.width.months) * self.width.months;
        let mut start = add_months(origin, bucket).ok_or_else(out_of_range)?;
        if start > at {
            bucket -= self.width.months;
            start = add_months(origin, bucket).ok_or_else(out_of_range)?;
        }
        Ok(start.and_utc().timestamp_micros())
    }
}

/// `time` and `width` later, on one clock.
pub(crate) fn add(time: i64, width: Width) -> Option<i64> {
    let moved = match width.months {
        0 => time,
        months => add_months(date_time(time).ok()?, months)?.and_utc().timestamp_micros(),
    };
    moved.checked_add(width.fixed_micros())
}

fn add_months(time: NaiveDateTime, months: i32) -> Option<NaiveDateTime> {
    let count = Months::new(months.unsigned_abs());
    if months < 0 { time.checked_sub_months(count) } else { time.checked_add_months(count) }
}

fn out_of_range() -> datafusion::error::DataFusionError {
    exec_datafusion_err!("a time is out of the range of calendars")
}

fn date_time(micros: i64) -> Result<NaiveDateTime> {
    DateTime::from_timestamp_micros(micros).map(|time| time.naive_utc()).ok_or_else(out_of_range)
}

/// What the clock of `zone` shows more than UTC at `time`, in microseconds.
fn zone_offset(zone: Tz, time: i64) -> Result<i64> {
    let seconds = zone.offset_from_utc_datetime(&date_time(time)?).fix().local_minus_utc();
    Ok(i64::from(seconds) * MICROS_OF_SECOND)
}

/// When the clock of `zone` shows `local`. If it does so twice, the later moment that is not after `time`; if it never
/// does, when it was set forward over it.
fn instant(zone: Tz, local: i64, time: i64) -> Result<i64> {
    let shown = date_time(local)?;
    let at = |offset: i32| local - i64::from(offset) * MICROS_OF_SECOND;
    Ok(match zone.offset_from_local_datetime(&shown) {
        MappedLocalTime::Single(offset) => at(offset.fix().local_minus_utc()),
        MappedLocalTime::Ambiguous(one, other) => {
            let (one, other) = (at(one.fix().local_minus_utc()), at(other.fix().local_minus_utc()));
            // Asked for no moment in particular, the first.
            let limit = if time == i64::MAX { one.min(other) } else { time };
            if one.max(other) <= limit { one.max(other) } else { one.min(other) }
        }
        MappedLocalTime::None => {
            let (mut before, mut after) = (local - 2 * MICROS_OF_DAY, local + 2 * MICROS_OF_DAY);
            let offset = zone_offset(zone, before)?;
            while after - before > 1 {
                let middle = before + (after - before) / 2;
                if zone_offset(zone, middle)? == offset { before = middle } else { after = middle }
            }
            after
        }
    })
}

#[cfg(test)]
mod tests {
    use datafusion::common::ScalarValue;

    use super::*;

    fn micros(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
    }

    fn buckets(width: &str, zone: Option<&str>) -> Buckets {
        let width = Width::of(&ScalarValue::from(width)).unwrap().unwrap();
        Buckets::new(width, zone.map(|zone| zone.parse().unwrap()), None, None).unwrap()
    }

    fn check(width: &str, zone: Option<&str>, time: &str, start: &str) {
        let found = buckets(width, zone).start(micros(time)).unwrap();
        assert_eq!(found, micros(start), "{width} {zone:?} {time}: {}", date_time(found).unwrap());
    }

    #[test]
    fn fixed_widths_align_to_a_monday_and_months_to_the_first() {
        check("5m", None, "2026-11-24T10:07:59Z", "2026-11-24T10:05:00Z");
        check("1 day", None, "2026-11-24T10:07:59Z", "2026-11-24T00:00:00Z");
        check("1 week", None, "2026-11-25T10:00:00Z", "2026-11-23T00:00:00Z");
        check("1 month", None, "2026-11-25T10:00:00Z", "2026-11-01T00:00:00Z");
        check("1 quarter", None, "2026-11-25T10:00:00Z", "2026-10-01T00:00:00Z");
        check("1 year", None, "1969-12-31T23:59:59Z", "1969-01-01T00:00:00Z");
    }

    #[test]
    fn a_day_of_berlin_has_23_to_25_hours() {
        let berlin = Some("Europe/Berlin");
        check("1 day", berlin, "2026-11-24T23:30:00Z", "2026-11-24T23:00:00Z");
        check("1 day", berlin, "2026-10-25T22:59:00Z", "2026-10-24T22:00:00Z");
        check("1 day", berlin, "2026-03-29T21:59:00Z", "2026-03-28T23:00:00Z");
        check("1 month", berlin, "2026-10-31T23:30:00Z", "2026-10-31T23:00:00Z");
        // 02:30 comes twice on the 25th of October.
        check("1 hour", berlin, "2026-10-25T00:30:00Z", "2026-10-25T00:00:00Z");
        check("1 hour", berlin, "2026-10-25T01:30:00Z", "2026-10-25T01:00:00Z");
    }

    #[test]
    fn midnight_that_a_clock_skips_is_when_it_was_set() {
        // Beirut sets its clocks from midnight to one.
        check("1 day", Some("Asia/Beirut"), "2026-03-29T05:00:00Z", "2026-03-28T22:00:00Z");
    }

    #[test]
    fn the_next_bucket_begins_where_this_one_ends() {
        for (width, zone, count) in [("1 hour", Some("Europe/Berlin"), 25), ("1 hour", None, 24), ("6h", None, 4)] {
            let buckets = buckets(width, zone);
            let end = if zone.is_some() { "2026-10-25T23:00:00Z" } else { "2026-10-25T22:00:00Z" };
            let mut start = micros("2026-10-24T22:00:00Z");
            let mut seen = 0;
            if width == "6h" {
                start = micros("2026-10-25T00:00:00Z");
            }
            let end = if width == "6h" { micros("2026-10-26T00:00:00Z") } else { micros(end) };
            while start < end {
                assert_eq!(buckets.start(start).unwrap(), start);
                start = buckets.next(start).unwrap();
                seen += 1;
            }
            assert_eq!((seen, start), (count, end), "{width} {zone:?}");
        }
        let day = buckets("1 day", Some("Europe/Berlin"));
        assert_eq!(day.next(micros("2026-10-24T22:00:00Z")).unwrap(), micros("2026-10-25T23:00:00Z"));
    }
}
