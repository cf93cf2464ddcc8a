//! The plan node that goes through points in table order and makes one row of each series.

use std::{fmt, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, Date32Builder, Float64Builder, Int64Array, Int64Builder, RecordBatch, StringArray,
        StringBuilder, TimestampMicrosecondArray, TimestampMicrosecondBuilder,
    },
    compute::cast,
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType},
};
use datafusion::{
    common::{internal_datafusion_err, tree_node::TreeNodeRecursion},
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{Distribution, EquivalenceProperties, OrderingRequirements, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
        distribution_requirements::InputDistributionRequirements,
        execution_plan::{Boundedness, EmissionType},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, stream};

use super::series_gaps::{SeriesCoverage, SeriesGaps};
use crate::table_order::{TABLE_ORDER, required_table_order};

const DAY_US: i64 = 86_400_000_000;

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// One row of each series; `date` is the day of its last point.
pub(super) fn coverage_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("metric", DataType::Utf8, false),
        Field::new("series_id", DataType::Int64, false),
        Field::new("first_time", time(), false),
        Field::new("last_time", time(), false),
        Field::new("ended_time", time(), true),
        Field::new("interval_seconds", DataType::Float64, true),
        Field::new("received", DataType::Int64, false),
        Field::new("expected", DataType::Int64, true),
        Field::new("share", DataType::Float64, true),
        Field::new("gap_count", DataType::Int64, true),
        Field::new("gap_longest_seconds", DataType::Float64, true),
        Field::new("date", DataType::Date32, false),
    ]))
}

/// The coverage of each series of `input`, up to `end_us`. Its columns are those of the table order, then one in which null
/// is a marker and anything else a point.
#[derive(Debug)]
pub(super) struct CoverageExec {
    input: Arc<dyn ExecutionPlan>,
    end_us: i64,
    properties: Arc<PlanProperties>,
}

impl CoverageExec {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, end_us: i64) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(coverage_schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { input, end_us, properties: Arc::new(properties) }
    }
}

impl DisplayAs for CoverageExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CoverageExec: one row per series")
    }
}

impl ExecutionPlan for CoverageExec {
    fn name(&self) -> &'static str {
        "CoverageExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition])
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        required_table_order(&self.input.schema())
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(children.swap_remove(0), self.end_us)))
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = Rows::new(self.end_us, context.session_config().batch_size());
        let input = Some(self.input.execute(0, context)?);
        let covered = stream::try_unfold((rows, input), async |(mut rows, mut input)| {
            while let Some(points) = &mut input {
                match points.next().await.transpose()? {
                    Some(batch) => rows.take(&batch)?,
                    None => {
                        rows.end_series();
                        input = None;
                    }
                }
                if rows.is_full() || input.is_none() && rows.row_count > 0 {
                    let batch = rows.finish()?;
                    return Ok(Some((batch, (rows, input))));
                }
            }
            Ok(None)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(coverage_schema(), covered)))
    }
}

/// The series under way, and the rows of those before it.
struct Rows {
    end_us: i64,
    row_count_max: usize,
    current: Option<((String, i64), SeriesGaps)>,
    metric: StringBuilder,
    series_id: Int64Builder,
    times: [TimestampMicrosecondBuilder; 3],
    interval_seconds: Float64Builder,
    received: Int64Builder,
    expected: Int64Builder,
    share: Float64Builder,
    gap_count: Int64Builder,
    gap_longest_seconds: Float64Builder,
    date: Date32Builder,
    row_count: usize,
}

impl Rows {
    fn new(end_us: i64, row_count_max: usize) -> Self {
        Self {
            end_us,
            row_count_max,
            current: None,
            metric: StringBuilder::new(),
            series_id: Int64Builder::new(),
            times: std::array::from_fn(|_| TimestampMicrosecondBuilder::new().with_timezone("UTC")),
            interval_seconds: Float64Builder::new(),
            received: Int64Builder::new(),
            expected: Int64Builder::new(),
            share: Float64Builder::new(),
            gap_count: Int64Builder::new(),
            gap_longest_seconds: Float64Builder::new(),
            date: Date32Builder::new(),
            row_count: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.row_count >= self.row_count_max
    }

    /// Takes points that come after all before them.
    fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        let column = |name: &str| {
            batch.column_by_name(name).ok_or_else(|| internal_datafusion_err!("coverage needs the column {name}"))
        };
        let metric: StringArray = cast(column("metric")?, &DataType::Utf8)?.as_string::<i32>().clone();
        let ids: &Int64Array = column("series_id")?.as_primitive::<Int64Type>();
        let times: &TimestampMicrosecondArray = column("time")?.as_primitive::<TimestampMicrosecondType>();
        let value = batch.column(TABLE_ORDER.len());
        for row in 0..batch.num_rows() {
            let (name, id) = (metric.value(row), ids.value(row));
            if !self.current.as_ref().is_some_and(|((known, known_id), _)| *known_id == id && known == name) {
                self.end_series();
                self.current = Some(((name.to_owned(), id), SeriesGaps::default()));
            }
            if let Some((_, gaps)) = &mut self.current {
                gaps.push(times.value(row), value.is_valid(row));
            }
        }
        Ok(())
    }

    fn end_series(&mut self) {
        let Some(((metric, id), gaps)) = self.current.take() else { return };
        let Some(coverage) = gaps.finish(self.end_us) else { return };
        let SeriesCoverage { first_us, last_us, ended_us, received, paced } = coverage;
        self.metric.append_value(metric);
        self.series_id.append_value(id);
        for (builder, time) in self.times.iter_mut().zip([Some(first_us), Some(last_us), ended_us]) {
            builder.append_option(time);
        }
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.interval_seconds.append_option(paced.map(|paced| paced.interval_seconds));
        self.received.append_value(count(received));
        self.expected.append_option(paced.map(|paced| count(paced.expected)));
        self.share.append_option(paced.map(|paced| paced.share));
        self.gap_count.append_option(paced.map(|paced| count(paced.gap_count)));
        self.gap_longest_seconds.append_option(paced.map(|paced| paced.gap_longest_seconds));
        self.date.append_value(last_us.div_euclid(DAY_US) as i32);
        self.row_count += 1;
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        self.row_count = 0;
        let [first, last, ended] = &mut self.times;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.metric.finish()),
            Arc::new(self.series_id.finish()),
            Arc::new(first.finish()),
            Arc::new(last.finish()),
            Arc::new(ended.finish()),
            Arc::new(self.interval_seconds.finish()),
            Arc::new(self.received.finish()),
            Arc::new(self.expected.finish()),
            Arc::new(self.share.finish()),
            Arc::new(self.gap_count.finish()),
            Arc::new(self.gap_longest_seconds.finish()),
            Arc::new(self.date.finish()),
        ];
        Ok(RecordBatch::try_new(coverage_schema(), columns)?)
    }
}
