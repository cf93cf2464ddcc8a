//! Values in binary, as PostgreSQL sends them.
//!
//! Source: the `*_send` functions of PostgreSQL; for `numeric`, `src/backend/utils/adt/numeric.c`.

use std::ops::Range;

use bytes::{BufMut, BytesMut};

use super::{
    columns::{Column, Value},
    types::{PgType, Scalar},
};

/// Times count from 2000-01-01.
pub(crate) const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// Days from 1970 to 2000.
pub(crate) const EPOCH_DAYS: i32 = 10_957;

/// Writes one value.
pub(crate) fn write(value: Value<'_>, out: &mut BytesMut) {
    match value {
        Value::Bool(value) => out.put_u8(u8::from(value)),
        // What does not fit was of another type when the statement was described, which a cast has refused.
        Value::Integer(value, Scalar::Int2) => out.put_i16(i16::try_from(value).unwrap_or_default()),
        Value::Integer(value, Scalar::Int4) => out.put_i32(i32::try_from(value).unwrap_or_default()),
        Value::Integer(value, Scalar::Oid) => out.put_u32(value as u32),
        Value::Integer(value, _) => out.put_i64(value),
        Value::Float4(value) => out.put_f32(value),
        Value::Float8(value) => out.put_f64(value),
        Value::Numeric(text) => write_numeric(text, out),
        Value::Text(text) => out.put_slice(text.as_bytes()),
        Value::Bytes(bytes) => out.put_slice(bytes),
        Value::Date(days) => out.put_i32(days.saturating_sub(EPOCH_DAYS)),
        Value::Time(micros) => out.put_i64(micros),
        Value::Timestamp(micros) | Value::Timestamptz(micros) => out.put_i64(micros.saturating_sub(EPOCH_MICROS)),
        Value::Interval { months, days, micros } => {
            out.put_i64(micros);
            out.put_i32(days);
            out.put_i32(months);
        }
    }
}

/// Digits to the base of 10 000: their count, the weight of the first, sign, digits after the point, the digits.
fn write_numeric(text: &str, out: &mut BytesMut) {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.trim_start_matches('0');
    // Groups of four are counted from the point.
    let padding = (4 - whole.len() % 4) % 4;
    let mut padded = "0".repeat(padding) + whole + fraction;
    padded += &"0".repeat((4 - fraction.len() % 4) % 4);
    let mut groups: Vec<i16> = padded.as_bytes().chunks(4).map(group).collect();
    let mut weight = (padding + whole.len()) as i16 / 4 - 1;
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let leading = groups.iter().take_while(|group| **group == 0).count();
    groups.drain(..leading);
    weight -= leading as i16;
    out.put_i16(groups.len() as i16);
    out.put_i16(if groups.is_empty() { 0 } else { weight });
    out.put_u16(if negative && !groups.is_empty() { 0x4000 } else { 0 });
    out.put_u16(fraction.len() as u16);
    groups.into_iter().for_each(|group| out.put_i16(group));
}

fn group(digits: &[u8]) -> i16 {
    digits.iter().fold(0, |sum, digit| sum * 10 + i16::from(digit.saturating_sub(b'0')))
}

/// Writes an array of one dimension, or of none if it is empty.
pub(crate) fn write_array(items: &Column, rows: Range<usize>, out: &mut BytesMut) {
    out.put_i32(i32::from(!rows.is_empty()));
    out.put_i32(i32::from(rows.clone().any(|row| items.is_null(row))));
    out.put_u32(PgType::scalar(items.scalar).oid());
    if rows.is_empty() {
        return;
    }
    out.put_i32(i32::try_from(rows.len()).unwrap_or(i32::MAX));
    // The index of the first item.
    out.put_i32(1);
    for row in rows {
        let Some(value) = items.value(row) else {
            out.put_i32(-1);
            continue;
        };
        let start = out.len();
        out.put_i32(0);
        write(value, out);
        let length = i32::try_from(out.len() - start - 4).unwrap_or(i32::MAX);
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `numeric_send` of PostgreSQL gives them.
    #[test]
    fn numerics_are_digits_to_the_base_of_ten_thousand() {
        let check = |text: &str, expected: &[u16]| {
            let mut out = BytesMut::new();
            write_numeric(text, &mut out);
            let words: Vec<u16> = out.chunks(2).map(|word| u16::from_be_bytes([word[0], word[1]])).collect();
            assert_eq!(words, expected, "{text}");
        };
        check("0", &[0, 0, 0, 0]);
        check("1", &[1, 0, 0, 0, 1]);
        check("-12345.678", &[3, 1, 0x4000, 3, 1, 2345, 6780]);
        check("0.00012", &[2, 0xffff, 0, 5, 1, 2000]);
        check("18446744073709551615", &[5, 4, 0, 0, 1844, 6744, 737, 955, 1615]);
        check("10000", &[1, 1, 0, 0, 1]);
        check("1.50", &[2, 0, 0, 2, 1, 5000]);
    }
}
