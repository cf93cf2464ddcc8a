//! The plan node that goes through points in table order and says of each what its counter gained.

use std::{collections::HashSet, fmt, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanBuilder, Float64Array, Float64Builder, Int64Array, RecordBatch,
        TimestampMicrosecondArray, TimestampMicrosecondBuilder,
    },
    compute::cast,
    datatypes::{DataType, Float64Type, Int64Type, Schema, SchemaRef, TimestampMicrosecondType},
};
use datafusion::{
    common::{config::ConfigOptions, internal_datafusion_err, tree_node::TreeNodeRecursion},
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{Distribution, EquivalenceProperties, OrderingRequirements, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
        distribution_requirements::InputDistributionRequirements,
        execution_plan::{Boundedness, EmissionType},
        filter_pushdown::{ChildFilterDescription, FilterDescription, FilterPushdownPhase},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::StreamExt;

use super::{
    Points,
    counter::{Amounts, Counter},
};
use crate::table_order::required_table_order;

/// A filter on these keeps or drops points of a series together with those before them.
const KEYS: [&str; 2] = ["metric", "series_id"];

/// The points of `input`, each with its increase.
#[derive(Debug)]
pub(super) struct IncreasesExec {
    input: Arc<dyn ExecutionPlan>,
    points: Points,
    properties: Arc<PlanProperties>,
}

impl IncreasesExec {
    /// `input` has the columns of `points`.
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, points: Points) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(points.schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { input, points, properties: Arc::new(properties) }
    }
}

impl DisplayAs for IncreasesExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IncreasesExec: {}", self.points.table())
    }
}

impl ExecutionPlan for IncreasesExec {
    fn name(&self) -> &'static str {
        "IncreasesExec"
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
        Ok(Arc::new(Self::new(children.swap_remove(0), self.points)))
    }

    /// The filter of a join, which comes last, brings the series it found, and their days: `day_of_time` sees to it that the
    /// day of the point before is among them. A day that the query itself asks for may not go below.
    fn gather_filters_for_pushdown(
        &self,
        phase: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        let schema = self.points.schema();
        let day = (phase == FilterPushdownPhase::Post).then_some("date");
        let keys: HashSet<usize> = KEYS.into_iter().chain(day).filter_map(|name| schema.index_of(name).ok()).collect();
        let input = ChildFilterDescription::from_child_with_allowed_indices(&parent_filters, keys, &self.input)?;
        Ok(FilterDescription::new().with_child(input))
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(0, context)?;
        let mut run = Run { points: self.points, series: None, counter: Counter::default() };
        let increases = input.map(move |batch| run.take(&batch?));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.points.schema(), increases)))
    }
}

/// The series under way.
struct Run {
    points: Points,
    series: Option<i64>,
    counter: Counter,
}

impl Run {
    /// `batch`, whose points come after all before them, with what they gained.
    fn take(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let column = |name: &str| {
            batch.column_by_name(name).ok_or_else(|| internal_datafusion_err!("increases need the column {name}"))
        };
        let ids: &Int64Array = column("series_id")?.as_primitive::<Int64Type>();
        let times: &TimestampMicrosecondArray = column("time")?.as_primitive::<TimestampMicrosecondType>();
        let starts: &TimestampMicrosecondArray = column("start_time")?.as_primitive::<TimestampMicrosecondType>();
        let amounts = self.points.amounts().iter().map(|name| -> Result<Float64Array> {
            Ok(cast(column(name)?, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
        });
        let amounts = amounts.collect::<Result<Vec<_>>>()?;
        let mut gained = Gained::default();
        for row in 0..batch.num_rows() {
            if self.series != Some(ids.value(row)) {
                (self.series, self.counter) = (Some(ids.value(row)), Counter::default());
            }
            let of = |index: usize| amounts.get(index).filter(|a| a.is_valid(row)).map(|a| a.value(row));
            let said: Option<Amounts> = of(0).map(|first| [first, of(1).unwrap_or(f64::NAN)]);
            let start = starts.is_valid(row).then(|| starts.value(row));
            let found = self.counter.push(times.value(row), start, said);
            gained.since.append_option(found.since_us);
            gained.begun.append_value(found.begun);
            gained.reset.append_value(found.reset);
            for (index, builder) in gained.amounts.iter_mut().enumerate() {
                builder.append_option(found.amounts.map(|all| all[index]).filter(|amount| amount.is_finite()));
            }
        }
        gained.beside(batch, &self.points.schema())
    }
}

/// The columns that are added.
struct Gained {
    since: TimestampMicrosecondBuilder,
    begun: BooleanBuilder,
    reset: BooleanBuilder,
    amounts: [Float64Builder; 2],
}

impl Default for Gained {
    fn default() -> Self {
        Self {
            since: TimestampMicrosecondBuilder::new().with_timezone("UTC"),
            begun: BooleanBuilder::new(),
            reset: BooleanBuilder::new(),
            amounts: [Float64Builder::new(), Float64Builder::new()],
        }
    }
}

impl Gained {
    fn beside(mut self, batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        columns.push(Arc::new(self.since.finish()));
        columns.push(Arc::new(self.begun.finish()));
        columns.push(Arc::new(self.reset.finish()));
        let [first, second] = self.amounts.map(|mut amounts| Arc::new(amounts.finish()) as ArrayRef);
        columns.extend([first, second].into_iter().take(schema.fields().len() - columns.len()));
        // Counts are whole numbers.
        let typed = columns.iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()));
        let columns = typed.collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(RecordBatch::try_new(Arc::new(Schema::clone(schema)), columns)?)
    }
}
