//! One batch of a file as times, numbers and texts.

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::{CastOptions, cast, cast_with_options},
    datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType},
};

use super::columns::{Columns, EpochUnit, FileColumn};
use crate::error::Result;

/// A number of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell {
    /// Nothing is there.
    Missing,
    /// A whole number.
    Integer(i64),
    /// Any other.
    Double(f64),
}

/// Rows in their order; each list of columns is as long as the choice of columns, each column as long as the rows.
#[derive(Debug, Clone, PartialEq)]
pub struct DatedRows {
    /// Number of the first row in the file, from 0.
    pub first_row: u64,
    /// UTC microseconds; none where a row has no time that can be read.
    pub times_us: Vec<Option<i64>>,
    /// Numbers by column.
    pub values: Vec<Vec<Cell>>,
    /// Texts of the columns that are counted.
    pub categories: Vec<Vec<Option<String>>>,
    /// Texts of the columns that name the series.
    pub labels: Vec<Vec<Option<String>>>,
}

impl DatedRows {
    /// Every row as many microseconds later as its number says, modulo `apart_us`, if that is given.
    pub(super) fn set_apart(mut self, apart_us: Option<i64>) -> Self {
        if let Some(apart_us) = apart_us {
            for (row, time_us) in self.times_us.iter_mut().enumerate() {
                let number = self.first_row as i64 + row as i64;
                *time_us = time_us.and_then(|time_us| time_us.checked_add(number % apart_us));
            }
        }
        self
    }
}

/// The chosen columns of `batch`.
pub(super) fn read_batch(columns: &Columns, batch: &RecordBatch, first_row: u64) -> Result<DatedRows> {
    let column = |column: &FileColumn| batch.column(column.index);
    let texts = |columns: &[FileColumn]| columns.iter().map(|own| texts(column(own))).collect::<Result<Vec<_>>>();
    Ok(DatedRows {
        first_row,
        times_us: times(column(&columns.time), columns.epoch_unit)?,
        values: columns.values.iter().map(|own| cells(column(own))).collect::<Result<_>>()?,
        categories: texts(&columns.categories)?,
        labels: texts(&columns.labels)?,
    })
}

fn times(column: &ArrayRef, unit: Option<EpochUnit>) -> Result<Vec<Option<i64>>> {
    if let Some(unit) = unit {
        let numbers = cast(column, &DataType::Int64)?;
        let time = |number: i64| match unit {
            EpochUnit::Seconds => number.checked_mul(1_000_000),
            EpochUnit::Milliseconds => number.checked_mul(1_000),
            EpochUnit::Microseconds => Some(number),
            EpochUnit::Nanoseconds => Some(number.div_euclid(1_000)),
        };
        return Ok(numbers.as_primitive::<Int64Type>().iter().map(|number| number.and_then(time)).collect());
    }
    // Times without a zone are UTC; a text that is no time is null, and its row is refused by itself.
    let zone = match column.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some("UTC".into()),
        _ => None,
    };
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let times = cast_with_options(column, &DataType::Timestamp(TimeUnit::Microsecond, zone), &options)?;
    Ok(times.as_primitive::<TimestampMicrosecondType>().iter().collect())
}

fn cells(column: &ArrayRef) -> Result<Vec<Cell>> {
    // An unsigned number past the range of signed ones is a double.
    if column.data_type().is_integer() && *column.data_type() != DataType::UInt64 {
        let numbers = cast(column, &DataType::Int64)?;
        return Ok(numbers
            .as_primitive::<Int64Type>()
            .iter()
            .map(|cell| cell.map_or(Cell::Missing, Cell::Integer))
            .collect());
    }
    let numbers = cast(column, &DataType::Float64)?;
    Ok(numbers.as_primitive::<Float64Type>().iter().map(|cell| cell.map_or(Cell::Missing, Cell::Double)).collect())
}

fn texts(column: &ArrayRef) -> Result<Vec<Option<String>>> {
    let texts = cast(column, &DataType::Utf8)?;
    Ok(texts.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect())
}
