//! The physical node: batches in, one row for each run out.

use std::{fmt, ops::Range, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, ArrowPrimitiveType, AsArray, Float64Array, Int64Array, PrimitiveArray, RecordBatch,
        UInt32Array,
    },
    compute::{partition, take},
    datatypes::{DataType, Float64Type, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType},
};
use datafusion::{
    common::{config::ConfigOptions, tree_node::TreeNodeRecursion},
    error::{DataFusionError, Result},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
        execution_plan::{Boundedness, EmissionType},
        filter_pushdown::{ChildFilterDescription, FilterDescription, FilterPushdownPhase},
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::StreamExt;

use super::node::{Kept, Partial};
use crate::functions::histogram;

/// One row for each run of rows with equal keys within a batch: the keys, then what is kept of the run.
#[derive(Debug)]
pub(crate) struct SeriesRunsExec {
    input: Arc<dyn ExecutionPlan>,
    key_count: usize,
    partials: Vec<Partial>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl SeriesRunsExec {
    /// `schema` has the first `key_count` columns of `input`, then one column for each of `partials`.
    pub(crate) fn new(
        input: Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
        key_count: usize,
        partials: Vec<Partial>,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let metrics = ExecutionPlanMetricsSet::new();
        Self { input, key_count, partials, properties: Arc::new(properties), metrics }
    }

    fn with_input(&self, input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self::new(input, self.schema(), self.key_count, self.partials.clone()))
    }
}

impl DisplayAs for SeriesRunsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SeriesRunsExec: keys={}, kept={:?}", self.key_count, self.partials)
    }
}

impl ExecutionPlan for SeriesRunsExec {
    fn name(&self) -> &'static str {
        "SeriesRunsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        // Rows dealt out one batch here, one batch there would only cost their way.
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self.with_input(children.swap_remove(0)))
    }

    /// A filter on keys keeps or drops whole runs, so it goes below; that of a join brings the series it found.
    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        let keys = (0..self.key_count).collect();
        let input = ChildFilterDescription::from_child_with_allowed_indices(&parent_filters, keys, &self.input)?;
        Ok(FilterDescription::new().with_child(input))
    }

    fn execute(&self, index: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(index, context)?;
        let metrics = BaselineMetrics::new(&self.metrics, index);
        let (schema, key_count, partials) = (self.schema(), self.key_count, self.partials.clone());
        let runs = input.map(move |batch| {
            let _timer = metrics.elapsed_compute().timer();
            let runs = runs(&batch?, &schema, key_count, &partials)?;
            metrics.record_output(runs.num_rows());
            Ok(runs)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), runs)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The runs of `batch`.
fn runs(batch: &RecordBatch, schema: &SchemaRef, key_count: usize, partials: &[Partial]) -> Result<RecordBatch> {
    let keys = &batch.columns()[..key_count];
    let mut same = keys.to_vec();
    let histograms = partials.iter().filter(|partial| partial.kept == Kept::Histogram);
    same.extend(histograms.map(|partial| histogram::layouts(batch.column(partial.column))));
    let runs = partition(&same)?.ranges();
    let first: UInt32Array = runs.iter().map(|run| run.start as u32).collect();
    let mut columns = keys.iter().map(|key| take(key, &first, None)).collect::<Result<Vec<_>, _>>()?;
    for partial in partials {
        columns.push(kept(batch.column(partial.column), partial.kept, &runs)?);
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

fn kept(column: &ArrayRef, kept: Kept, runs: &[Range<usize>]) -> Result<ArrayRef> {
    Ok(match kept {
        Kept::Rows => Arc::new(runs.iter().map(|run| Some(run.len() as i64)).collect::<Int64Array>()),
        Kept::Count => Arc::new(runs.iter().map(|run| Some(valid_count(column, run))).collect::<Int64Array>()),
        Kept::Sum => {
            let values = column.as_primitive::<Float64Type>();
            let sum = |run: &Range<usize>| reduce(values, run, |a, b| a + b);
            Arc::new(runs.iter().map(sum).collect::<Float64Array>())
        }
        Kept::Histogram => histogram::sums(column, runs)?,
        Kept::Min | Kept::Max => match column.data_type() {
            DataType::Float64 => extreme::<Float64Type>(column, kept, runs, |a, b| a.total_cmp(&b).is_lt()),
            DataType::Int64 => extreme::<Int64Type>(column, kept, runs, |a, b| a < b),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                extreme::<TimestampMicrosecondType>(column, kept, runs, |a, b| a < b)
            }
            other => return Err(DataFusionError::Internal(format!("runs do not order {other}"))),
        },
    })
}

fn valid_count(column: &ArrayRef, run: &Range<usize>) -> i64 {
    let null_count = column.nulls().map_or(0, |nulls| nulls.slice(run.start, run.len()).null_count());
    (run.len() - null_count) as i64
}

/// The values of a run that are not null, combined; `None` if all are.
fn reduce<T: ArrowPrimitiveType>(
    values: &PrimitiveArray<T>,
    run: &Range<usize>,
    combine: impl Fn(T::Native, T::Native) -> T::Native,
) -> Option<T::Native> {
    let slice = &values.values()[run.clone()];
    match values.nulls() {
        Some(nulls) if values.null_count() > 0 => {
            let valid = run.clone().filter(|row| nulls.is_valid(*row));
            valid.map(|row| values.value(row)).reduce(combine)
        }
        _ => slice.iter().copied().reduce(combine),
    }
}

fn extreme<T: ArrowPrimitiveType>(
    column: &ArrayRef,
    kept: Kept,
    runs: &[Range<usize>],
    less: impl Fn(T::Native, T::Native) -> bool,
) -> ArrayRef {
    let values = column.as_primitive::<T>();
    let pick = |a, b| if less(b, a) == (kept == Kept::Min) { b } else { a };
    let picked: PrimitiveArray<T> = runs.iter().map(|run| reduce(values, run, pick)).collect();
    Arc::new(picked.with_data_type(column.data_type().clone()))
}
