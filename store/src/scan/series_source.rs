//! The days of `series` that have unflushed rows, read and merged while a query asks for them.

use std::{fmt, sync::Arc};

use datafusion::{
    arrow::datatypes::SchemaRef,
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_plan::{
        ExecutionPlan,
        stream::RecordBatchReceiverStreamBuilder,
        streaming::{PartitionStream, StreamingTableExec},
    },
};

use crate::{delta_log::TableSnapshot, rows::SeriesRow, schema::series_schema, series_day::SeriesDay};

/// Batches made before they are asked for.
const BATCHES_AHEAD: usize = 1;

/// One day: its files, and the rows beside them.
pub(super) struct SeriesSource {
    schema: SchemaRef,
    snapshot: Arc<TableSnapshot>,
    unflushed: Arc<[SeriesRow]>,
    day: i32,
}

impl SeriesSource {
    pub(super) fn new(snapshot: &Arc<TableSnapshot>, unflushed: Vec<SeriesRow>, day: i32) -> Self {
        Self { schema: series_schema(), snapshot: Arc::clone(snapshot), unflushed: unflushed.into(), day }
    }
}

impl fmt::Debug for SeriesSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SeriesSource(day {}, {} unflushed)", self.day, self.unflushed.len())
    }
}

impl PartitionStream for SeriesSource {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut stream = RecordBatchReceiverStreamBuilder::new(Arc::clone(&self.schema), BATCHES_AHEAD);
        let (snapshot, unflushed, day) = (Arc::clone(&self.snapshot), Arc::clone(&self.unflushed), self.day);
        let batches = stream.tx();
        stream.spawn_blocking(move || {
            for batch in SeriesDay::new(&snapshot, unflushed, day)? {
                if batches.blocking_send(batch.map_err(Into::into)).is_err() {
                    // The query is over.
                    break;
                }
            }
            Ok(())
        });
        stream.build()
    }
}

/// A scan of `days`, one partition each.
pub(super) fn series_scan(
    days: Vec<SeriesSource>,
    projection: Option<&Vec<usize>>,
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let days = days.into_iter().map(|day| Arc::new(day) as Arc<dyn PartitionStream>).collect();
    Ok(Arc::new(StreamingTableExec::try_new(series_schema(), days, projection, [], false, limit)?))
}
