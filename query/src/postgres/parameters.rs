//! Values of parameters: their types, and what clients send for them.

use std::{collections::BTreeMap, str, sync::Arc};

use arrow::datatypes::Field;
use bytes::{Buf, Bytes};
use datafusion::{
    common::{
        ScalarValue,
        tree_node::{Transformed, TreeNode},
    },
    error::DataFusionError,
    logical_expr::{Expr, LogicalPlan},
};

use super::{
    binary_format::{EPOCH_DAYS, EPOCH_MICROS},
    failure::Failure,
    types::{PgType, Scalar},
};
use crate::{error::Error, parameter_places::parameter_places};

/// Items of an array: each takes many times the bytes that it is sent in.
const ARRAY_ITEMS_MAX: usize = 100_000;
/// Of a longer value an error shows the beginning.
const SHOWN_SIZE_BYTES_MAX: usize = 200;

/// The types of `$1`, `$2`, …: as the client declared them, else as the plan needs them, else text.
pub(crate) fn parameter_types(plan: &LogicalPlan, declared: &[u32]) -> Result<Vec<PgType>, Error> {
    let found = plan.get_parameter_types().map_err(|error| Error::of("", error))?;
    let mut needed: BTreeMap<usize, Option<PgType>> = BTreeMap::new();
    for (name, data_type) in found {
        let number = name.trim_start_matches('$').parse::<usize>().ok().filter(|number| (1..=65_535).contains(number));
        let number = number.ok_or_else(|| Error::invalid(format!("there is no parameter {name}")))?;
        needed.insert(number, data_type.filter(|found| !found.is_null()).map(|found| PgType::of_arrow(&found)));
    }
    for (name, field) in parameter_places(plan) {
        if let Ok(number) = name.trim_start_matches('$').parse() {
            needed.entry(number).or_insert(None).get_or_insert(PgType::of(&field));
        }
    }
    let count = needed.keys().next_back().copied().unwrap_or(0).max(declared.len());
    (1..=count)
        .map(|number| match declared.get(number - 1) {
            Some(oid) if is_said(*oid) => PgType::with_oid(*oid)
                .ok_or_else(|| Error::invalid(format!("the type with the OID {oid} of ${number} is not known"))),
            _ => Ok(needed.get(&number).copied().flatten().unwrap_or(PgType::TEXT)),
        })
        .collect()
}

/// Whether a client that declares this type says anything; 705 is `unknown`.
fn is_said(oid: u32) -> bool {
    !matches!(oid, 0 | 705)
}

/// What a client is told of its parameters: what it declared itself, to the letter. JDBC breaks off where a varchar comes back as text.
pub(crate) fn oids(types: &[PgType], declared: &[u32]) -> Vec<u32> {
    let own = |index: usize| declared.get(index).copied().filter(|oid| is_said(*oid));
    types.iter().enumerate().map(|(index, pg_type)| own(index).unwrap_or(pg_type.oid())).collect()
}

/// Gives the parameters of `plan` that have no type yet that of `types`, so that its columns have theirs.
pub(crate) fn with_types(plan: LogicalPlan, types: &[PgType]) -> Result<LogicalPlan, DataFusionError> {
    let typed = plan.transform_up_with_subqueries(|plan| {
        let plan = plan.map_expressions(|expr| {
            expr.transform(|expr| match expr {
                Expr::Placeholder(mut placeholder)
                    if placeholder.field.as_ref().is_none_or(|field| field.data_type().is_null()) =>
                {
                    let number: usize = placeholder.id.trim_start_matches('$').parse().unwrap_or(0);
                    let Some(pg_type) = number.checked_sub(1).and_then(|index| types.get(index)) else {
                        return Ok(Transformed::no(Expr::Placeholder(placeholder)));
                    };
                    placeholder.field = Some(Arc::new(Field::new("", pg_type.arrow(), true)));
                    Ok(Transformed::yes(Expr::Placeholder(placeholder)))
                }
                other => Ok(Transformed::no(other)),
            })
        })?;
        if plan.transformed { plan.map_data(LogicalPlan::recompute_schema) } else { Ok(plan) }
    })?;
    Ok(typed.data)
}

/// The value of parameter `number` that was sent as `bytes`.
///
/// # Errors
/// Bytes that are none of the type.
pub(crate) fn value(
    number: usize,
    pg_type: PgType,
    binary: bool,
    bytes: Option<&Bytes>,
) -> Result<ScalarValue, Failure> {
    let wanted = pg_type.arrow();
    let Some(bytes) = bytes else {
        return ScalarValue::try_from(&wanted).map_err(|error| Failure::new("XX000", error.to_string()));
    };
    let wrong = |code, message: String| Failure::new(code, format!("parameter ${number}: {message}"));
    let read = match (binary, pg_type.is_array) {
        (true, true) => binary_array(bytes.clone(), pg_type.scalar),
        (true, false) => binary_value(bytes.clone(), pg_type.scalar),
        (false, true) => text_array(bytes, pg_type.scalar),
        (false, false) => str::from_utf8(bytes).ok().and_then(|text| text_value(text, pg_type.scalar)),
    };
    let read = read.ok_or_else(|| {
        let code = if binary { "22P03" } else { "22P02" };
        let shown = if binary { "the bytes sent".to_owned() } else { beginning(bytes) };
        wrong(code, format!("invalid input for type {}: {shown}", pg_type.name()))
    })?;
    read.cast_to(&wanted).map_err(|error| wrong("22003", error.strip_backtrace()))
}

/// As much of a text as an error shows.
fn beginning(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_SIZE_BYTES_MAX)]);
    format!("{text:?}{}", if bytes.len() > SHOWN_SIZE_BYTES_MAX { "…" } else { "" })
}

fn text_value(text: &str, scalar: Scalar) -> Option<ScalarValue> {
    let trimmed = text.trim();
    Some(match scalar {
        Scalar::Text | Scalar::Json => ScalarValue::from(text),
        Scalar::Bool => match trimmed.to_lowercase().as_str() {
            "t" | "true" | "y" | "yes" | "on" | "1" => ScalarValue::from(true),
            "f" | "false" | "n" | "no" | "off" | "0" => ScalarValue::from(false),
            _ => return None,
        },
        Scalar::Int2 | Scalar::Int4 | Scalar::Int8 | Scalar::Oid => ScalarValue::from(trimmed.parse::<i64>().ok()?),
        Scalar::Float4 | Scalar::Float8 | Scalar::Numeric => ScalarValue::from(trimmed.parse::<f64>().ok()?),
        Scalar::Bytea => ScalarValue::Binary(Some(hexadecimal(trimmed.strip_prefix("\\x")?)?)),
        // The engine reads what it writes, and what people write.
        Scalar::Date | Scalar::Time | Scalar::Timestamp | Scalar::Timestamptz | Scalar::Interval => {
            ScalarValue::from(trimmed).cast_to(&scalar.arrow()).ok()?
        }
    })
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || text.len() % 2 == 1 {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

fn binary_value(mut bytes: Bytes, scalar: Scalar) -> Option<ScalarValue> {
    let bytes = &mut bytes;
    let value = match scalar {
        Scalar::Bool => ScalarValue::from(bytes.try_get_u8().ok()? != 0),
        Scalar::Int2 => ScalarValue::from(bytes.try_get_i16().ok()?),
        Scalar::Int4 => ScalarValue::from(bytes.try_get_i32().ok()?),
        Scalar::Oid => ScalarValue::from(i64::from(bytes.try_get_u32().ok()?)),
        Scalar::Int8 => ScalarValue::from(bytes.try_get_i64().ok()?),
        Scalar::Float4 => ScalarValue::from(bytes.try_get_f32().ok()?),
        Scalar::Float8 => ScalarValue::from(bytes.try_get_f64().ok()?),
        Scalar::Numeric => ScalarValue::from(binary_numeric(bytes)?),
        Scalar::Text => ScalarValue::from(str::from_utf8(&bytes.split_to(bytes.len())).ok()?),
        Scalar::Json => {
            // A jsonb has its version before it, which no JSON begins with.
            let sent = bytes.split_to(bytes.len());
            ScalarValue::from(str::from_utf8(sent.strip_prefix(&[1]).unwrap_or(&sent)).ok()?)
        }
        Scalar::Bytea => ScalarValue::Binary(Some(bytes.split_to(bytes.len()).to_vec())),
        Scalar::Date => ScalarValue::Date32(Some(bytes.try_get_i32().ok()?.checked_add(EPOCH_DAYS)?)),
        Scalar::Time => ScalarValue::Time64Microsecond(Some(bytes.try_get_i64().ok()?)),
        Scalar::Timestamp => ScalarValue::TimestampMicrosecond(Some(micros(bytes)?), None),
        Scalar::Timestamptz => ScalarValue::TimestampMicrosecond(Some(micros(bytes)?), Some("UTC".into())),
        Scalar::Interval => {
            let nanos = bytes.try_get_i64().ok()?.checked_mul(1000)?;
            let (days, months) = (bytes.try_get_i32().ok()?, bytes.try_get_i32().ok()?);
            ScalarValue::new_interval_mdn(months, days, nanos)
        }
    };
    bytes.is_empty().then_some(value)
}

fn micros(bytes: &mut Bytes) -> Option<i64> {
    bytes.try_get_i64().ok()?.checked_add(EPOCH_MICROS)
}

fn binary_numeric(bytes: &mut Bytes) -> Option<f64> {
    let (count, weight) = (bytes.try_get_u16().ok()?, bytes.try_get_i16().ok()?);
    let (sign, _scale) = (bytes.try_get_u16().ok()?, bytes.try_get_u16().ok()?);
    let mut digits = String::new();
    for _ in 0..count {
        digits += &format!("{:04}", bytes.try_get_u16().ok()?);
    }
    let exponent = (i32::from(weight) + 1 - i32::from(count)) * 4;
    let value: f64 = if digits.is_empty() { 0.0 } else { format!("{digits}e{exponent}").parse().ok()? };
    match sign {
        0 => Some(value),
        0x4000 => Some(-value),
        0xC000 => Some(f64::NAN),
        0xD000 => Some(f64::INFINITY),
        0xF000 => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn list(values: Vec<Option<ScalarValue>>, scalar: Scalar) -> Option<ScalarValue> {
    let item = PgType::scalar(scalar).arrow();
    let values: Option<Vec<_>> = values
        .into_iter()
        .map(|value| match value {
            Some(value) => value.cast_to(&item).ok(),
            None => ScalarValue::try_from(&item).ok(),
        })
        .collect();
    Some(ScalarValue::List(ScalarValue::new_list_nullable(&values?, &item)))
}

fn binary_array(mut bytes: Bytes, scalar: Scalar) -> Option<ScalarValue> {
    let bytes = &mut bytes;
    let dimensions = bytes.try_get_i32().ok()?;
    let (_has_null, _item_oid) = (bytes.try_get_i32().ok()?, bytes.try_get_u32().ok()?);
    let mut values = Vec::new();
    match dimensions {
        0 => {}
        1 => {
            let (count, _first) = (bytes.try_get_i32().ok()?, bytes.try_get_i32().ok()?);
            let count = usize::try_from(count).ok().filter(|count| *count <= ARRAY_ITEMS_MAX)?;
            for _ in 0..count {
                let length = bytes.try_get_i32().ok()?;
                if length == -1 {
                    values.push(None);
                    continue;
                }
                let length = usize::try_from(length).ok().filter(|length| *length <= bytes.len())?;
                values.push(Some(binary_value(bytes.split_to(length), scalar)?));
            }
        }
        _ => return None,
    }
    if bytes.is_empty() { list(values, scalar) } else { None }
}

/// Reads `{1,NULL,"a \"b\""}`.
fn text_array(bytes: &[u8], scalar: Scalar) -> Option<ScalarValue> {
    let text = str::from_utf8(bytes).ok()?.trim();
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    let mut values = Vec::new();
    let mut rest = inner.chars();
    if inner.trim().is_empty() {
        return list(values, scalar);
    }
    loop {
        let (mut item, mut quoted, mut inside) = (String::new(), false, false);
        loop {
            match rest.next() {
                Some('"') => {
                    inside = !inside;
                    quoted = true;
                }
                Some('\\') => item.push(rest.next()?),
                Some(',') if !inside => break,
                Some('{') if !inside => return None,
                Some(c) => item.push(c),
                None if inside => return None,
                None => {
                    values.push(array_item(&item, quoted, scalar)?);
                    return list(values, scalar);
                }
            }
        }
        values.push(array_item(&item, quoted, scalar)?);
        if values.len() == ARRAY_ITEMS_MAX {
            return None;
        }
    }
}

fn array_item(item: &str, quoted: bool, scalar: Scalar) -> Option<Option<ScalarValue>> {
    let item = if quoted { item } else { item.trim() };
    if !quoted && item.eq_ignore_ascii_case("null") {
        return Some(None);
    }
    text_value(item, scalar).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pg_type: PgType, text: &'static str) -> Result<String, &'static str> {
        value(1, pg_type, false, Some(&Bytes::from_static(text.as_bytes())))
            .map(|value| value.to_string())
            .map_err(|failure| failure.code)
    }

    #[test]
    fn text_is_read_as_its_type_or_refused() {
        let scalar = PgType::scalar;
        assert_eq!(text(scalar(Scalar::Int4), " 7 "), Ok("7".into()));
        assert_eq!(text(scalar(Scalar::Int2), "70000"), Err("22003"));
        assert_eq!(text(scalar(Scalar::Int8), "x"), Err("22P02"));
        assert_eq!(text(scalar(Scalar::Bool), "on"), Ok("true".into()));
        assert_eq!(text(scalar(Scalar::Timestamptz), "2026-11-18 11:06:40+00"), Ok("1795000000000000".into()));
        let array = PgType { scalar: Scalar::Text, is_array: true };
        assert_eq!(text(array, r#"{a,"b, c",NULL}"#), Ok("[a, b, c, ]".into()));
        assert_eq!(text(array, "{a"), Err("22P02"));
    }

    #[test]
    fn an_array_has_as_many_items_as_it_says_and_not_too_many() {
        let array = PgType { scalar: Scalar::Int4, is_array: true };
        let binary = |count: i32, items: usize| {
            let head = [1, 0, 23, count, 1].into_iter().flat_map(i32::to_be_bytes);
            let bytes: Vec<u8> = head.chain((0..items).flat_map(|_| (-1_i32).to_be_bytes())).collect();
            value(1, array, true, Some(&bytes.into())).map(|_| ()).map_err(|failure| failure.code)
        };
        assert_eq!(binary(2, 2), Ok(()));
        assert_eq!(binary(i32::MAX, 2), Err("22P03"));
        assert_eq!(binary(-1, 0), Err("22P03"), "no count");
        assert_eq!(binary(100_000, 100_000), Ok(()));
        assert_eq!(binary(100_001, 100_001), Err("22P03"));
        let text = |items: usize| {
            let text = format!("{{{}NULL}}", "NULL,".repeat(items - 1));
            value(1, array, false, Some(&text.into())).map(|_| ()).map_err(|failure| failure.code)
        };
        assert_eq!((text(100_000), text(100_001)), (Ok(()), Err("22P02")));
    }

    #[test]
    fn binary_values_must_have_the_length_of_their_type() {
        let binary = |scalar, bytes: &'static [u8]| {
            value(1, PgType::scalar(scalar), true, Some(&Bytes::from_static(bytes))).map(|value| value.to_string())
        };
        assert_eq!(binary(Scalar::Int4, &[0, 0, 0, 7]).unwrap(), "7");
        assert_eq!(binary(Scalar::Int4, &[0, 0, 7]).unwrap_err().code, "22P03");
        assert_eq!(binary(Scalar::Int4, &[0, 0, 0, 7, 0]).unwrap_err().code, "22P03");
        assert_eq!(binary(Scalar::Numeric, &[0, 2, 0, 0, 0x40, 0, 0, 2, 0, 1, 0x13, 0x88]).unwrap(), "-1.5");
    }
}
