//! Values as text, as PostgreSQL writes them with `DateStyle` ISO, `IntervalStyle` postgres and time zone UTC.

use std::{fmt::Write as _, ops::Range};

use bytes::{BufMut, BytesMut};

use super::columns::{Column, Value};

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Writes one value.
pub(crate) fn write(value: Value<'_>, out: &mut BytesMut) {
    match value {
        Value::Bool(value) => out.put_u8(if value { b't' } else { b'f' }),
        Value::Integer(value, _) => put(out, format_args!("{value}")),
        Value::Float4(value) => write_float(out, f64::from(value), &format!("{value:e}")),
        Value::Float8(value) => write_float(out, value, &format!("{value:e}")),
        Value::Numeric(text) | Value::Text(text) => out.put_slice(text.as_bytes()),
        Value::Bytes(bytes) => {
            out.put_slice(b"\\x");
            bytes.iter().for_each(|byte| put(out, format_args!("{byte:02x}")));
        }
        Value::Date(days) => write_date(out, i64::from(days)),
        Value::Time(micros) => write_time(out, micros),
        Value::Timestamp(micros) => write_timestamp(out, micros, ""),
        Value::Timestamptz(micros) => write_timestamp(out, micros, "+00"),
        Value::Interval { months, days, micros } => write_interval(out, months, days, micros),
    }
}

fn put(out: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    let _always_ok = out.write_fmt(text);
}

/// The shortest digits that are read back as the same value, with an exponent below 1e-4 and from 1e15 on.
fn write_float(out: &mut BytesMut, value: f64, shortest: &str) {
    if value.is_nan() {
        return out.put_slice(b"NaN");
    }
    if value.is_infinite() {
        return out.put_slice(if value > 0.0 { b"Infinity" } else { b"-Infinity" });
    }
    let (digits, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..15).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return put(out, format_args!("{digits}e{sign}{:02}", exponent.abs()));
    }
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let digits: String = digits.chars().filter(char::is_ascii_digit).collect();
    out.put_slice(sign.as_bytes());
    match usize::try_from(exponent) {
        Ok(exponent) if digits.len() <= exponent + 1 => {
            put(out, format_args!("{digits:0<width$}", width = exponent + 1))
        }
        Ok(exponent) => put(out, format_args!("{}.{}", &digits[..=exponent], &digits[exponent + 1..])),
        Err(_negative) => {
            put(out, format_args!("0.{digits:0>width$}", width = digits.len() + exponent.unsigned_abs() as usize - 1))
        }
    }
}

/// Year, month and day of a day since 1970, in the proleptic Gregorian calendar.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn write_date(out: &mut BytesMut, days: i64) {
    let (year, month, day) = civil(days);
    // There is no year 0.
    let shown = if year > 0 { year } else { 1 - year };
    put(out, format_args!("{shown:04}-{month:02}-{day:02}{}", if year > 0 { "" } else { " BC" }));
}

fn write_time(out: &mut BytesMut, micros: i64) {
    let seconds = micros / 1_000_000;
    put(out, format_args!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60));
    let fraction = micros % 1_000_000;
    if fraction > 0 {
        put(out, format_args!(".{}", format!("{fraction:06}").trim_end_matches('0')));
    }
}

fn write_timestamp(out: &mut BytesMut, micros: i64, zone: &str) {
    let (days, rest) = (micros.div_euclid(MICROS_PER_DAY), micros.rem_euclid(MICROS_PER_DAY));
    let (year, month, day) = civil(days);
    let shown = if year > 0 { year } else { 1 - year };
    put(out, format_args!("{shown:04}-{month:02}-{day:02} "));
    write_time(out, rest);
    put(out, format_args!("{zone}{}", if year > 0 { "" } else { " BC" }));
}

fn write_interval(out: &mut BytesMut, months: i32, days: i32, micros: i64) {
    let start = out.len();
    let part = |out: &mut BytesMut, count: i32, unit: &str| {
        if count != 0 {
            let space = if out.len() > start { " " } else { "" };
            put(out, format_args!("{space}{count} {unit}{}", if count == 1 { "" } else { "s" }));
        }
    };
    part(out, months / 12, "year");
    part(out, months % 12, "mon");
    part(out, days, "day");
    if micros != 0 || out.len() == start {
        let space = if out.len() > start { " " } else { "" };
        put(out, format_args!("{space}{}", if micros < 0 { "-" } else { "" }));
        write_time(out, micros.checked_abs().unwrap_or(i64::MAX));
    }
}

/// Writes an array: `{1,NULL,"a b"}`.
pub(crate) fn write_array(items: &Column, rows: Range<usize>, out: &mut BytesMut) {
    out.put_u8(b'{');
    let first = rows.start;
    for row in rows {
        if row > first {
            out.put_u8(b',');
        }
        let Some(value) = items.value(row) else {
            out.put_slice(b"NULL");
            continue;
        };
        let start = out.len();
        write(value, out);
        let written = &out[start..];
        let special = |byte: &u8| matches!(byte, b'{' | b'}' | b',' | b'"' | b'\\') || byte.is_ascii_whitespace();
        if written.is_empty() || written.iter().any(special) || written.eq_ignore_ascii_case(b"null") {
            let plain = out.split_off(start);
            out.put_u8(b'"');
            for byte in plain {
                if matches!(byte, b'"' | b'\\') {
                    out.put_u8(b'\\');
                }
                out.put_u8(byte);
            }
            out.put_u8(b'"');
        }
    }
    out.put_u8(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: Value<'_>) -> String {
        let mut out = BytesMut::new();
        write(value, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    /// As `SELECT value::float8` of PostgreSQL 15 shows them.
    #[test]
    fn floats_are_written_as_postgresql_writes_them() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.5, "0.5"),
            (-12.25, "-12.25"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.000_012, "1.2e-05"),
            (100.0, "100"),
            (123_456_789_012_345.0, "123456789012345"),
            (1e15, "1e+15"),
            (1.5e300, "1.5e+300"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(text(Value::Float8(value)), expected);
        }
        assert_eq!(text(Value::Float4(0.1)), "0.1");
    }

    #[test]
    fn times_are_written_as_postgresql_writes_them() {
        assert_eq!(text(Value::Timestamptz(1_795_000_000_123_400)), "2026-11-18 11:06:40.1234+00");
        assert_eq!(text(Value::Timestamp(-1)), "1969-12-31 23:59:59.999999");
        assert_eq!(text(Value::Date(-719_528)), "0001-01-01 BC");
        assert_eq!(text(Value::Date(11_016)), "2000-02-29");
        assert_eq!(
            text(Value::Interval { months: 14, days: -3, micros: 3_600_000_000 }),
            "1 year 2 mons -3 days 01:00:00"
        );
        assert_eq!(text(Value::Interval { months: 0, days: 0, micros: -1_500_000 }), "-00:00:01.5");
        assert_eq!(text(Value::Interval { months: 0, days: 0, micros: 0 }), "00:00:00");
        assert_eq!(text(Value::Bytes(&[0, 255])), "\\x00ff");
    }
}
