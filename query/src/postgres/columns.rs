//! Columns of a batch as values of PostgreSQL: brought to one Arrow type each, then written row by row.

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::cast,
    datatypes::{
        DataType, Date32Type, Float32Type, Float64Type, Int64Type, IntervalMonthDayNanoType, Time64MicrosecondType,
        TimestampMicrosecondType,
    },
    error::ArrowError,
};
use bytes::{BufMut, BytesMut};

use super::{
    binary_format, text_format,
    types::{PgType, Scalar},
};
use crate::json;

/// A value to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Bool(bool),
    /// With its bytes in binary.
    Integer(i64, Scalar),
    Float4(f32),
    Float8(f64),
    /// Digits with sign, point and exponent.
    Numeric(&'a str),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// Days since 1970.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since 1970.
    Timestamp(i64),
    /// The same, in UTC.
    Timestamptz(i64),
    Interval {
        months: i32,
        days: i32,
        micros: i64,
    },
}

/// One column, ready to be written.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) scalar: Scalar,
    values: ArrayRef,
    /// Of an array: where the items of each row begin, in a column of items.
    items: Option<Box<Column>>,
}

impl Column {
    /// Brings `array` to what `pg_type` is written from.
    pub(crate) fn new(array: &ArrayRef, pg_type: PgType) -> Result<Self, ArrowError> {
        if pg_type.is_array {
            let item = PgType::scalar(pg_type.scalar);
            let list = cast(array, &DataType::new_list(item_type(array.data_type(), pg_type), true))?;
            let items = Self::new(list.as_list::<i32>().values(), item)?;
            return Ok(Self { scalar: pg_type.scalar, values: list, items: Some(Box::new(items)) });
        }
        let wanted = pg_type.scalar.arrow();
        let values = match pg_type.scalar {
            Scalar::Json if !array.data_type().is_string() => {
                let texts = (0..array.len())
                    .map(|row| Ok(if array.is_null(row) { None } else { Some(json::value(array, row)?.to_string()) }));
                std::sync::Arc::new(texts.collect::<Result<arrow::array::StringArray, ArrowError>>()?) as ArrayRef
            }
            // Through UTC and back is no change, and the unit is all that is to be changed.
            Scalar::Timestamptz | Scalar::Timestamp => match array.data_type() {
                DataType::Timestamp(_, zone) => {
                    cast(array, &DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, zone.clone()))?
                }
                _ => cast(array, &wanted)?,
            },
            _ if *array.data_type() == wanted => std::sync::Arc::clone(array),
            _ => cast(array, &wanted)?,
        };
        Ok(Self { scalar: pg_type.scalar, values, items: None })
    }

    /// The value of `row` that is no array; `None` for null.
    pub(crate) fn value(&self, row: usize) -> Option<Value<'_>> {
        let values = self.values.as_ref();
        if values.is_null(row) {
            return None;
        }
        Some(match self.scalar {
            Scalar::Bool => Value::Bool(values.as_boolean().value(row)),
            Scalar::Bytea => Value::Bytes(values.as_binary::<i32>().value(row)),
            Scalar::Int2 | Scalar::Int4 | Scalar::Int8 | Scalar::Oid => {
                Value::Integer(values.as_primitive::<Int64Type>().value(row), self.scalar)
            }
            Scalar::Text | Scalar::Json => Value::Text(values.as_string::<i32>().value(row)),
            Scalar::Numeric => Value::Numeric(values.as_string::<i32>().value(row)),
            Scalar::Float4 => Value::Float4(values.as_primitive::<Float32Type>().value(row)),
            Scalar::Float8 => Value::Float8(values.as_primitive::<Float64Type>().value(row)),
            Scalar::Date => Value::Date(values.as_primitive::<Date32Type>().value(row)),
            Scalar::Time => Value::Time(values.as_primitive::<Time64MicrosecondType>().value(row)),
            Scalar::Timestamp => Value::Timestamp(values.as_primitive::<TimestampMicrosecondType>().value(row)),
            Scalar::Timestamptz => Value::Timestamptz(values.as_primitive::<TimestampMicrosecondType>().value(row)),
            Scalar::Interval => {
                let interval = values.as_primitive::<IntervalMonthDayNanoType>().value(row);
                let micros = interval.nanoseconds / 1000;
                Value::Interval { months: interval.months, days: interval.days, micros }
            }
        })
    }

    /// The items of the array in `row`; `None` if it is null or no array.
    pub(crate) fn items(&self, row: usize) -> Option<(&Self, std::ops::Range<usize>)> {
        let items = self.items.as_deref()?;
        let offsets = self.values.as_list::<i32>().value_offsets();
        let [from, to] = [offsets[row], offsets[row + 1]].map(|offset| usize::try_from(offset).unwrap_or(0));
        Some((items, from..to))
    }

    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.values.is_null(row)
    }

    /// Writes `row` as text; nothing for null.
    pub(crate) fn write_text(&self, row: usize, out: &mut BytesMut) {
        match self.items(row) {
            _ if self.is_null(row) => {}
            Some((items, rows)) => text_format::write_array(items, rows, out),
            None => {
                if let Some(value) = self.value(row) {
                    text_format::write(value, out);
                }
            }
        }
    }

    /// Writes `row` with its length before it, as `DataRow` has it.
    fn write_field(&self, row: usize, binary: bool, out: &mut BytesMut) {
        if self.is_null(row) {
            return out.put_i32(-1);
        }
        let start = out.len();
        out.put_i32(0);
        match (binary, self.items(row)) {
            (false, _) => self.write_text(row, out),
            (true, Some((items, rows))) => binary_format::write_array(items, rows, out),
            (true, None) => {
                if let Some(value) = self.value(row) {
                    binary_format::write(value, out);
                }
            }
        }
        put_length(out, start);
    }
}

/// The item type to which a list is cast: that of its values where they are brought to their own type later.
fn item_type(list: &DataType, pg_type: PgType) -> DataType {
    match list {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => item.data_type().clone(),
        _ => pg_type.scalar.arrow(),
    }
}

/// Fills in the length of what was written from `start` on, the four bytes of the length not counted.
fn put_length(out: &mut BytesMut, start: usize) {
    let length = i32::try_from(out.len() - start - 4).unwrap_or(i32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// The columns of `batch` as `types`.
///
/// # Errors
/// A value that is none of the type that was described.
pub(crate) fn columns(batch: &RecordBatch, types: impl Iterator<Item = PgType>) -> Result<Vec<Column>, ArrowError> {
    batch.columns().iter().zip(types).map(|(array, pg_type)| Column::new(array, pg_type)).collect()
}

/// Writes one `DataRow` message.
pub(crate) fn write_row(columns: &[Column], row: usize, is_binary: impl Fn(usize) -> bool, out: &mut BytesMut) {
    out.put_u8(b'D');
    let start = out.len();
    out.put_i32(0);
    out.put_u16(u16::try_from(columns.len()).unwrap_or(u16::MAX));
    for (index, column) in columns.iter().enumerate() {
        column.write_field(row, is_binary(index), out);
    }
    // The length of a message counts itself.
    let length = i32::try_from(out.len() - start).unwrap_or(i32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}
