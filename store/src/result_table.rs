//! Result batches of jobs, checked and split by the day of their `time`.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::arrow::{
    array::{Array, AsArray, Date32Array, RecordBatch, UInt32Array},
    compute::take_record_batch,
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType},
};

use crate::{
    error::{Error, Result},
    flush::Day,
    memtable::day_of,
};

/// A result batch by day, with the partition column `date` added last.
pub(crate) struct ResultDays {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<Day>,
}

pub(crate) fn split_by_day(table: &str, batch: &RecordBatch) -> Result<ResultDays> {
    let refuse = |reason: &str| Error::ResultSchema { table: table.to_owned(), reason: reason.to_owned() };
    let plain = !table.is_empty() && table.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !plain {
        return Err(refuse("the name must be lower-case letters, digits and underscores"));
    }
    let schema = batch.schema();
    let is_time = matches!(
        schema.fields().first(),
        Some(field) if field.name() == "time"
            && matches!(field.data_type(), DataType::Timestamp(TimeUnit::Microsecond, Some(_)))
    );
    if !is_time || batch.column(0).null_count() > 0 || schema.field_with_name("date").is_ok() {
        return Err(refuse("the first column must be time, a non-null UTC timestamp in microseconds; date is added"));
    }
    let mut rows: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
    for (row, time) in batch.column(0).as_primitive::<TimestampMicrosecondType>().values().iter().enumerate() {
        rows.entry(day_of(*time)).or_default().push(row as u32);
    }
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("date", DataType::Date32, false)));
    let schema = Arc::new(Schema::new(fields));
    let mut batches = Vec::new();
    for (day, rows) in rows {
        let part = take_record_batch(batch, &UInt32Array::from(rows))?;
        let mut columns = part.columns().to_vec();
        columns.push(Arc::new(Date32Array::from_value(day, part.num_rows())));
        batches.push((day, vec![RecordBatch::try_new(Arc::clone(&schema), columns)?]));
    }
    Ok(ResultDays { schema, batches })
}
