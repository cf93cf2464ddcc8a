//! Rows that no file holds yet, made into batches while a query asks for them: the columns it wants, one batch at a time.

use std::{fmt, sync::Arc};

use datafusion::{
    arrow::{
        array::{RecordBatch, RecordBatchOptions},
        datatypes::{Schema, SchemaRef},
    },
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext, memory_pool::MemoryConsumer},
    physical_plan::{
        ExecutionPlan,
        stream::RecordBatchStreamAdapter,
        streaming::{PartitionStream, StreamingTableExec},
    },
};
use futures::stream;

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

    /// Batches with the columns of `schema`, of up to `row_count_max` rows, made when they are asked for.
    fn batches(self, schema: SchemaRef, row_count_max: usize) -> Box<dyn Iterator<Item = Result<RecordBatch>> + Send> {
        let mut cursor = PointCursor::default();
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

/// The columns of `batch` that `schema` names.
fn columns_of(batch: RecordBatch, schema: &Schema) -> Result<RecordBatch> {
    let indices = schema.fields().iter().map(|field| batch.schema_ref().index_of(field.name()));
    let projected = batch.schema_ref().project(&indices.collect::<Result<Vec<_>, _>>()?)?;
    let columns = projected.fields().iter().map(|field| Arc::clone(&batch[field.name().as_str()])).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(projected), columns, &options)?)
}

/// The rows of one memtable as a partition of a scan.
struct UnflushedSource {
    /// Of the columns that the query wants.
    schema: SchemaRef,
    rows: SharedRows,
}

impl fmt::Debug for UnflushedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnflushedSource").finish_non_exhaustive()
    }
}

impl PartitionStream for UnflushedSource {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = self.rows.clone().batches(Arc::clone(&self.schema), context.session_config().batch_size());
        // The batch that was given away last counts as ours until the next is made: whoever keeps it longer charges it.
        let charged = MemoryConsumer::new("unflushed rows").register(context.memory_pool());
        let batches = batches.inspect(move |batch| {
            charged.resize(batch.as_ref().map_or(0, RecordBatch::get_array_memory_size));
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream::iter(batches)))
    }
}

/// A scan of `memtables`, one partition each.
pub(super) fn unflushed_scan(
    memtables: impl Iterator<Item = SharedRows>,
    schema: &SchemaRef,
    projection: Option<&Vec<usize>>,
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = match projection {
        Some(columns) => Arc::new(schema.project(columns)?),
        None => Arc::clone(schema),
    };
    let sources = memtables.map(|rows| Arc::new(UnflushedSource { schema: Arc::clone(&schema), rows }) as _);
    let sources: Vec<Arc<dyn PartitionStream>> = sources.collect();
    Ok(Arc::new(StreamingTableExec::try_new(schema, sources, None, [], false, limit)?))
}
