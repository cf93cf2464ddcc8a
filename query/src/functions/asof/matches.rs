//! The output: rows of the left beside those of the right that they got.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array, RecordBatch, RecordBatchOptions, new_null_array},
    compute::interleave,
    datatypes::SchemaRef,
};
use datafusion::error::Result;

/// Which columns there are: those of the left, then those of the right.
#[derive(Debug, Clone)]
pub(super) struct Output {
    pub(super) schema: SchemaRef,
    /// Of both sides, for each column of `schema`.
    pub(super) columns: Vec<usize>,
}

/// For each row of a batch of the left a row of the right or none.
#[derive(Default)]
pub(super) struct Matches {
    batches: Vec<RecordBatch>,
    /// Where in `batches` one is, by its number.
    places: HashMap<usize, usize>,
    last: Option<(usize, usize)>,
    /// Place in `batches` plus one, and row; place 0 is none.
    rows: Vec<(usize, usize)>,
}

impl Matches {
    pub(super) fn with_capacity(row_count: usize) -> Self {
        Self { rows: Vec::with_capacity(row_count), ..Self::default() }
    }

    pub(super) fn push_none(&mut self) {
        self.rows.push((0, 0));
    }

    /// `number` says which batch of the right `batch` is.
    pub(super) fn push(&mut self, number: usize, batch: &RecordBatch, row: usize) {
        let place = match self.last {
            // Mostly the same as for the row before.
            Some((last, place)) if last == number => place,
            _ => *self.places.entry(number).or_insert_with(|| {
                self.batches.push(batch.clone());
                self.batches.len()
            }),
        };
        self.last = Some((number, place));
        self.rows.push((place, row));
    }

    pub(super) fn joined(self, left: &RecordBatch, output: &Output) -> Result<RecordBatch> {
        let of_left = left.num_columns();
        let columns = output.columns.iter().zip(output.schema.fields()).map(|(column, field)| {
            let Some(of_right) = column.checked_sub(of_left) else { return Ok(Arc::clone(left.column(*column))) };
            let nothing = new_null_array(field.data_type(), 1);
            let sources = self.batches.iter().map(|batch| batch.column(of_right).as_ref());
            let sources: Vec<&dyn Array> = std::iter::once(nothing.as_ref()).chain(sources).collect();
            Ok(interleave(&sources, &self.rows)?)
        });
        let columns = columns.collect::<Result<_>>()?;
        let rows = RecordBatchOptions::new().with_row_count(Some(left.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&output.schema), columns, &rows)?)
    }
}
