//! The days of `series` that have unflushed rows, read and merged while a query asks for them.

use std::{collections::BTreeSet, fmt, sync::Arc};

use datafusion::{
    arrow::datatypes::SchemaRef,
    common::{Statistics, stats::Precision, tree_node::TreeNodeRecursion},
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::PhysicalExpr,
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
        metrics::MetricsSet,
        statistics::StatisticsArgs,
        stream::RecordBatchReceiverStreamBuilder,
        streaming::{PartitionStream, StreamingTableExec},
    },
};

use crate::{
    delta_log::TableSnapshot, parquet_file::MetricMask, rows::SeriesRow, schema::series_schema, series_day::SeriesDay,
};

/// Batches made before they are asked for.
const BATCHES_AHEAD: usize = 1;

/// One day: its files, and the rows beside them.
pub(super) struct SeriesSource {
    /// The columns to read, the key always.
    schema: SchemaRef,
    snapshot: Arc<TableSnapshot>,
    unflushed: Arc<[SeriesRow]>,
    day: i32,
    /// The metrics to read; none for all.
    wanted: Option<MetricMask>,
}

impl SeriesSource {
    pub(super) fn new(
        snapshot: &Arc<TableSnapshot>,
        unflushed: Vec<SeriesRow>,
        day: i32,
        wanted: Option<MetricMask>,
    ) -> Self {
        Self { schema: series_schema(), snapshot: Arc::clone(snapshot), unflushed: unflushed.into(), day, wanted }
    }

    fn row_count(&self) -> usize {
        let files = self.snapshot.files.iter().filter(|file| file.date == self.day);
        files.map(|file| file.row_count as usize).sum::<usize>() + self.unflushed.len()
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
        let (wanted, schema) = (self.wanted.clone(), Arc::clone(&self.schema));
        let batches = stream.tx();
        stream.spawn_blocking(move || {
            for batch in SeriesDay::new(&snapshot, unflushed, day, wanted.as_ref(), schema)? {
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
    mut days: Vec<SeriesSource>,
    projection: Option<&Vec<usize>>,
    limit: Option<usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let row_count = days.iter().map(SeriesSource::row_count).sum();
    let table = series_schema();
    let (schema, places) = match projection {
        Some(wanted) => {
            let key = [table.index_of("metric")?, table.index_of("series_id")?];
            let read: BTreeSet<usize> = wanted.iter().copied().chain(key).collect();
            let read: Vec<usize> = read.into_iter().collect();
            let places = wanted.iter().map(|column| read.partition_point(|read| read < column)).collect();
            (Arc::new(table.project(&read)?), Some(places))
        }
        None => (table, None),
    };
    days.iter_mut().for_each(|day| day.schema = Arc::clone(&schema));
    let days = days.into_iter().map(|day| Arc::new(day) as Arc<dyn PartitionStream>).collect();
    let days = StreamingTableExec::try_new(schema, days, places.as_ref(), [], false, limit)?;
    Ok(Arc::new(SeriesDaysExec { days: Arc::new(days), row_count }))
}

/// The scan, which says how many rows it has.
#[derive(Debug)]
struct SeriesDaysExec {
    days: Arc<StreamingTableExec>,
    /// About: a series in a file and beside it counts twice, and those of other metrics count.
    row_count: usize,
}

impl DisplayAs for SeriesDaysExec {
    fn fmt_as(&self, display: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.days.fmt_as(display, f)
    }
}

impl ExecutionPlan for SeriesDaysExec {
    fn name(&self) -> &'static str {
        "SeriesDaysExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.days.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.days.apply_expressions(visit)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let unknown = Statistics::new_unknown(&self.schema());
        Ok(Arc::new(match args.partition() {
            Some(_) => unknown,
            None => unknown.with_num_rows(Precision::Inexact(self.row_count)),
        }))
    }

    fn execute(&self, index: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.days.execute(index, context)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.days.metrics()
    }
}
