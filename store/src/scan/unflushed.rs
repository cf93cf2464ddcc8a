//! Rows that no file holds yet, shared with their memtable, and the batches that are made of them.

use std::{fmt, ops::Range, sync::Arc};

use datafusion::{
    arrow::{
        array::{RecordBatch, RecordBatchOptions},
        datatypes::{Schema, SchemaRef},
    },
    error::Result,
    physical_expr::PhysicalExpr,
};

use super::key_filter::KeyFilter;
use crate::{
    memtable::SeriesPoints,
    point_cursor::PointCursor,
    rows::{histogram_batch, rejection_batch},
    sample_rows::sample_batch,
    write_batch::Rejection,
};

/// A row of `histograms` is as large as several of `samples`.
const ROWS_PER_HISTOGRAM: usize = 8;

/// Rows of one memtable in table order, shared with it.
#[derive(Clone)]
pub(super) enum SharedRows {
    Samples(Arc<[Arc<SeriesPoints>]>),
    Histograms(Arc<[Arc<SeriesPoints>]>),
    /// The lists of some records.
    Rejections(Arc<[Arc<[Rejection]>]>),
}

impl SharedRows {
    /// Whether there are none for sure.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Samples(series) | Self::Histograms(series) => series.is_empty(),
            Self::Rejections(lists) => lists.is_empty(),
        }
    }

    /// Batches with the columns of `schema`, of up to `row_count_max` rows, made when they are asked for; of the rows that
    /// `filters` rule out those that are left out at no cost.
    pub(super) fn batches(
        self,
        filters: &[Arc<dyn PhysicalExpr>],
        schema: SchemaRef,
        row_count_max: usize,
    ) -> Box<dyn Iterator<Item = Result<RecordBatch>> + Send> {
        match self.narrowed(filters) {
            Ok((rows, times)) => rows.batches_within(times, schema, row_count_max),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }

    /// The rows of series that `filters` leave, and the times that they leave.
    fn narrowed(self, filters: &[Arc<dyn PhysicalExpr>]) -> Result<(Self, Range<i64>)> {
        let filter = KeyFilter::new(filters)?;
        let rows = match self {
            Self::Samples(series) => Self::Samples(filter.keep(&series, |points| points.samples.times())?),
            Self::Histograms(series) => Self::Histograms(filter.keep(&series, |points| points.histograms.times())?),
            rejections @ Self::Rejections(_) => rejections,
        };
        Ok((rows, filter.times()))
    }

    fn batches_within(
        self,
        times: Range<i64>,
        schema: SchemaRef,
        row_count_max: usize,
    ) -> Box<dyn Iterator<Item = Result<RecordBatch>> + Send> {
        let mut cursor = PointCursor::within(times);
        match self {
            Self::Samples(series) => Box::new(std::iter::from_fn(move || {
                let runs = cursor.next_runs(&series, |points| &points.samples, row_count_max);
                (!runs.is_empty()).then(|| Ok(sample_batch(&runs, &schema)?))
            })),
            Self::Histograms(series) => Box::new(std::iter::from_fn(move || {
                let row_count_max = (row_count_max / ROWS_PER_HISTOGRAM).max(1);
                let runs = cursor.next_runs(&series, |points| &points.histograms, row_count_max);
                (!runs.is_empty()).then(|| columns_of(histogram_batch(&runs)?, &schema))
            })),
            Self::Rejections(lists) => {
                let mut taken = 0;
                Box::new(std::iter::from_fn(move || {
                    let rest = lists.iter().flat_map(|list| list.iter()).skip(taken);
                    let rows: Vec<_> = rest.take(row_count_max).collect();
                    taken += rows.len();
                    (!rows.is_empty()).then(|| columns_of(rejection_batch(&rows)?, &schema))
                }))
            }
        }
    }
}

impl fmt::Debug for SharedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRows").finish_non_exhaustive()
    }
}

/// The columns of `batch` that `schema` names.
fn columns_of(batch: RecordBatch, schema: &Schema) -> Result<RecordBatch> {
    let indices = schema.fields().iter().map(|field| batch.schema_ref().index_of(field.name()));
    let projected = batch.schema_ref().project(&indices.collect::<Result<Vec<_>, _>>()?)?;
    let columns = projected.fields().iter().map(|field| Arc::clone(&batch[field.name().as_str()])).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(projected), columns, &options)?)
}
