//! Batches for result tables: `time` first, then one column per name.

use std::sync::Arc;

use datafusion::arrow::{
    array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, TimeUnit},
};

use crate::error::Result;

/// Collects columns of equal length.
pub(crate) struct ResultTable {
    fields: Vec<Field>,
    columns: Vec<ArrayRef>,
    row_count: usize,
}

impl ResultTable {
    /// A table of `row_count` rows computed at `now_us`.
    pub(crate) fn new(now_us: i64, row_count: usize) -> Self {
        let mut table = Self { fields: vec![], columns: vec![], row_count };
        table.times("time", now_us, false);
        table
    }

    /// A table of rows with a time of their own each, UTC microseconds.
    pub(crate) fn timed(times_us: Vec<i64>) -> Self {
        let mut table = Self { fields: vec![], columns: vec![], row_count: times_us.len() };
        let column = TimestampMicrosecondArray::from(times_us).with_timezone("UTC");
        let data_type = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        table.push("time", data_type, false, Arc::new(column));
        table
    }

    fn push(&mut self, name: &str, data_type: DataType, nullable: bool, column: ArrayRef) {
        self.fields.push(Field::new(name, data_type, nullable));
        self.columns.push(column);
    }

    fn times(&mut self, name: &str, time_us: i64, nullable: bool) {
        let column = TimestampMicrosecondArray::from_value(time_us, self.row_count).with_timezone("UTC");
        self.push(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), nullable, Arc::new(column));
    }

    /// The same time in every row.
    pub(crate) fn time(&mut self, name: &str, time_us: i64) -> &mut Self {
        self.times(name, time_us, true);
        self
    }

    /// A time per row, UTC microseconds.
    pub(crate) fn moments(&mut self, name: &str, values: impl IntoIterator<Item = Option<i64>>) -> &mut Self {
        let column = values.into_iter().collect::<TimestampMicrosecondArray>().with_timezone("UTC");
        let data_type = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        self.push(name, data_type, true, Arc::new(column));
        self
    }

    /// A text per row.
    pub(crate) fn texts(&mut self, name: &str, values: impl IntoIterator<Item = Option<String>>) -> &mut Self {
        self.push(name, DataType::Utf8, true, Arc::new(values.into_iter().collect::<StringArray>()));
        self
    }

    /// The same text in every row.
    pub(crate) fn text(&mut self, name: &str, value: &str) -> &mut Self {
        let values = vec![Some(value.to_owned()); self.row_count];
        self.texts(name, values)
    }

    /// A number per row.
    pub(crate) fn numbers(&mut self, name: &str, values: impl IntoIterator<Item = Option<f64>>) -> &mut Self {
        self.push(name, DataType::Float64, true, Arc::new(values.into_iter().collect::<Float64Array>()));
        self
    }

    /// An integer per row.
    pub(crate) fn integers(&mut self, name: &str, values: impl IntoIterator<Item = Option<i64>>) -> &mut Self {
        self.push(name, DataType::Int64, true, Arc::new(values.into_iter().collect::<Int64Array>()));
        self
    }

    /// A boolean per row.
    pub(crate) fn flags(&mut self, name: &str, values: impl IntoIterator<Item = bool>) -> &mut Self {
        let column = values.into_iter().map(Some).collect::<BooleanArray>();
        self.push(name, DataType::Boolean, true, Arc::new(column));
        self
    }

    /// The batch.
    pub(crate) fn finish(self) -> Result<RecordBatch> {
        Ok(RecordBatch::try_new(Arc::new(Schema::new(self.fields)), self.columns)?)
    }
}
