//! Smallest and largest values of a column, against what a file or the Delta log says of it.

use std::cmp::Ordering;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch},
        compute::{max, max_boolean, max_string, min, min_boolean, min_string, nullif},
        datatypes::{
            ArrowPrimitiveType, DataType, Date32Type, Float64Type, Int32Type, Int64Type, SchemaRef, TimeUnit,
            TimestampMicrosecondType,
        },
    },
    common::ScalarValue,
};
use parquet::{
    arrow::arrow_reader::statistics::StatisticsConverter, errors::Result as ParquetResult,
    file::metadata::RowGroupMetaData, schema::types::SchemaDescriptor,
};

/// Smallest and largest value and the number of nulls of one column of one row group.
#[derive(Debug, Clone, Default)]
struct Extent {
    ends: Option<(ScalarValue, ScalarValue)>,
    null_count: u64,
}

/// The extents of all columns of one row group, from its rows.
#[derive(Debug)]
pub(super) struct Extents {
    schema: SchemaRef,
    columns: Vec<Extent>,
}

impl Extents {
    pub(super) fn new(schema: &SchemaRef) -> Self {
        Self { schema: SchemaRef::clone(schema), columns: vec![Extent::default(); schema.fields().len()] }
    }

    /// Widens by the rows of `batch`.
    pub(super) fn extend(&mut self, batch: &RecordBatch) -> Result<(), datafusion::arrow::error::ArrowError> {
        for (extent, column) in self.columns.iter_mut().zip(batch.columns()) {
            extent.null_count += column.null_count() as u64;
            let Some((low, high)) = ends(column)? else { continue };
            extent.ends = Some(match extent.ends.take() {
                Some((from, to)) => (lower(from, low), higher(to, high)),
                None => (low, high),
            });
        }
        Ok(())
    }

    /// Columns whose rows lie outside the statistics that the file gives for the row group.
    pub(super) fn outside(&self, group: &RowGroupMetaData, parquet: &SchemaDescriptor) -> ParquetResult<Vec<String>> {
        let mut outside = Vec::new();
        for (field, extent) in self.schema.fields().iter().zip(&self.columns) {
            if field.data_type().is_nested() {
                continue;
            }
            let converter = StatisticsConverter::try_new(field.name(), &self.schema, parquet)?;
            let scalar = |array: ArrayRef| ScalarValue::try_from_array(&array, 0).ok().filter(|end| !end.is_null());
            let low = scalar(converter.row_group_mins([group])?);
            let high = scalar(converter.row_group_maxes([group])?);
            let nulls = converter.row_group_null_counts([group])?;
            let ends_fit = extent.ends.as_ref().is_none_or(|(from, to)| {
                let below = low.as_ref().is_some_and(|low| from.partial_cmp(low) == Some(Ordering::Less));
                let above = high.as_ref().is_some_and(|high| to.partial_cmp(high) == Some(Ordering::Greater));
                !below && !above
            });
            if !ends_fit || (nulls.is_valid(0) && nulls.value(0) != extent.null_count) {
                outside.push(field.name().clone());
            }
        }
        Ok(outside)
    }
}

fn lower(a: ScalarValue, b: ScalarValue) -> ScalarValue {
    if b.partial_cmp(&a) == Some(Ordering::Less) { b } else { a }
}

fn higher(a: ScalarValue, b: ScalarValue) -> ScalarValue {
    if b.partial_cmp(&a) == Some(Ordering::Greater) { b } else { a }
}

/// Smallest and largest value that is neither null nor NaN; `None` if there is none, or for a type without statistics.
fn ends(column: &ArrayRef) -> Result<Option<(ScalarValue, ScalarValue)>, datafusion::arrow::error::ArrowError> {
    fn primitive<T: ArrowPrimitiveType>(column: &ArrayRef) -> Option<(T::Native, T::Native)> {
        let column = column.as_primitive::<T>();
        min(column).zip(max(column))
    }
    Ok(match column.data_type() {
        DataType::Utf8 => {
            let column = column.as_string::<i32>();
            min_string(column).zip(max_string(column)).map(|(low, high)| (low.into(), high.into()))
        }
        DataType::Int64 => primitive::<Int64Type>(column).map(|(low, high)| (low.into(), high.into())),
        DataType::Int32 => primitive::<Int32Type>(column).map(|(low, high)| (low.into(), high.into())),
        DataType::Date32 => {
            let day = |day| ScalarValue::Date32(Some(day));
            primitive::<Date32Type>(column).map(|(low, high)| (day(low), day(high)))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let time = |time| ScalarValue::TimestampMicrosecond(Some(time), zone.clone());
            primitive::<TimestampMicrosecondType>(column).map(|(low, high)| (time(low), time(high)))
        }
        DataType::Float64 => {
            let is_nan = BooleanArray::from_unary(column.as_primitive::<Float64Type>(), f64::is_nan);
            let numbers = nullif(column, &is_nan)?;
            primitive::<Float64Type>(&numbers).map(|(low, high)| (low.into(), high.into()))
        }
        DataType::Boolean => {
            let column = column.as_boolean();
            min_boolean(column).zip(max_boolean(column)).map(|(low, high)| (low.into(), high.into()))
        }
        _ => None,
    })
}
