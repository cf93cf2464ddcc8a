//! Arrow values as JSON.

use arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::{DataType, Float32Type, Float64Type, Schema, TimeUnit},
    error::ArrowError,
    util::display::{ArrayFormatter, FormatOptions},
};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

/// The columns of an answer.
pub(crate) fn columns(schema: &Schema) -> Value {
    let column = |name: &str, data_type: &DataType| json!({ "name": name, "type": type_name(data_type) });
    Value::Array(schema.fields().iter().map(|field| column(field.name(), field.data_type())).collect())
}

/// Milliseconds since `started`, to the microsecond.
pub(crate) fn elapsed_ms(started: Instant) -> f64 {
    (started.elapsed().as_secs_f64() * 1e6).round() / 1e3
}

/// The name of a type as answers show it.
pub(crate) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Timestamp(..) => "timestamp".into(),
        DataType::Date32 | DataType::Date64 => "date".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "utf8".into(),
        DataType::List(_) | DataType::LargeList(_) => "list".into(),
        DataType::Map(..) => "map".into(),
        DataType::Struct(_) => "struct".into(),
        DataType::Decimal128(..) | DataType::Decimal256(..) => "decimal".into(),
        DataType::Dictionary(_, value) => type_name(value),
        other => other.to_string().to_lowercase(),
    }
}

/// One value: integers and finite doubles as numbers, NaN and infinities as null, times as RFC 3339 UTC text, lists as
/// arrays, maps and structs as objects, everything else as text.
pub(crate) fn value(array: &ArrayRef, row: usize) -> Result<Value, ArrowError> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match array.data_type() {
        DataType::Boolean => json!(array.as_boolean().value(row)),
        DataType::Float64 => json!(array.as_primitive::<Float64Type>().value(row)),
        DataType::Float32 => json!(array.as_primitive::<Float32Type>().value(row)),
        kind if kind.is_integer() => text(array, row)?.parse::<i128>().map_or(Value::Null, integer),
        DataType::Timestamp(
            TimeUnit::Microsecond | TimeUnit::Nanosecond | TimeUnit::Millisecond | TimeUnit::Second,
            _,
        ) => {
            let options = FormatOptions::default().with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.6fZ"));
            let options = options.with_timestamp_format(Some("%Y-%m-%dT%H:%M:%S%.6f"));
            json!(ArrayFormatter::try_new(array.as_ref(), &options)?.value(row).to_string())
        }
        DataType::List(_) => list(&array.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => list(&array.as_list::<i64>().value(row))?,
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            let mut object = Map::new();
            for entry in 0..entries.len() {
                object.insert(text(keys, entry)?, value(values, entry)?);
            }
            Value::Object(object)
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let pairs = fields.iter().zip(columns);
            Value::Object(
                pairs
                    .map(|(field, column)| Ok((field.name().clone(), value(column, row)?)))
                    .collect::<Result<_, ArrowError>>()?,
            )
        }
        _ => json!(text(array, row)?),
    })
}

fn integer(value: i128) -> Value {
    i64::try_from(value).map(Value::from).or_else(|_| u64::try_from(value).map(Value::from)).unwrap_or(Value::Null)
}

fn list(values: &ArrayRef) -> Result<Value, ArrowError> {
    Ok(Value::Array((0..values.len()).map(|row| value(values, row)).collect::<Result<_, _>>()?))
}

fn text(array: &ArrayRef, row: usize) -> Result<String, ArrowError> {
    let options = FormatOptions::default();
    Ok(ArrayFormatter::try_new(array.as_ref(), &options)?.value(row).to_string())
}
