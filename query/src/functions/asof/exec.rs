//! The physical node: rows of the left as they come, each beside one of the right.

use std::{fmt, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    common::{internal_err, tree_node::TreeNodeRecursion},
    error::Result,
    execution::{
        SendableRecordBatchStream, TaskContext,
        memory_pool::{MemoryConsumer, MemoryLimit},
    },
    physical_expr::{EquivalenceProperties, PhysicalExpr, expressions::Column, projection::ProjectionMapping},
    physical_plan::{
        DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
        distribution_requirements::InputDistributionRequirements,
        execution_plan::{Boundedness, EmissionType},
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, SpillMetrics},
        projection::{ProjectionExec, ProjectionExpr},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};

use super::{
    Nearest,
    keys::{Exprs, Keys},
    matches::Output,
    merge::{Merge, merged, sorted, spilled},
    time_index::{Read, TimeIndex},
};

/// Holds the rows of the right in memory and streams the left. Where the right does not fit, both are sorted and merged.
#[derive(Debug)]
pub(crate) struct AsofJoinExec {
    inputs: [Arc<dyn ExecutionPlan>; 2],
    exprs: [Exprs; 2],
    nearest: Nearest,
    /// All columns of the left, then those of the right.
    schema: SchemaRef,
    output: Output,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl AsofJoinExec {
    /// `exprs` are what must be equal, then the time, of each side; `schema` has all columns of both.
    pub(crate) fn new(
        inputs: [Arc<dyn ExecutionPlan>; 2],
        exprs: [Exprs; 2],
        nearest: Nearest,
        schema: SchemaRef,
    ) -> Result<Self> {
        let output = Output { columns: (0..schema.fields().len()).collect(), schema: Arc::clone(&schema) };
        Self::with_output(inputs, exprs, nearest, schema, output)
    }

    fn with_output(
        inputs: [Arc<dyn ExecutionPlan>; 2],
        exprs: [Exprs; 2],
        nearest: Nearest,
        schema: SchemaRef,
        output: Output,
    ) -> Result<Self> {
        let columns = output.columns.iter().zip(output.schema.fields()).map(|(index, field)| {
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(schema.field(*index).name(), *index));
            (column, field.name().clone())
        });
        let mapping = ProjectionMapping::try_new(columns, &schema)?;
        let joined = EquivalenceProperties::new(Arc::clone(&schema));
        let properties = PlanProperties::new(
            joined.project(&mapping, Arc::clone(&output.schema)),
            inputs[0].output_partitioning().project(&mapping, &joined),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(Self { inputs, exprs, nearest, schema, output, properties: Arc::new(properties), metrics })
    }

    fn with_inputs(&self, inputs: [Arc<dyn ExecutionPlan>; 2], output: Output) -> Result<Arc<dyn ExecutionPlan>> {
        let join = Self::with_output(inputs, self.exprs.clone(), self.nearest, Arc::clone(&self.schema), output)?;
        Ok(Arc::new(join))
    }
}

impl DisplayAs for AsofJoinExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsofJoinExec: {:?}", self.nearest)?;
        for (left, right) in self.exprs[0].iter().zip(&self.exprs[1]) {
            write!(f, ", {left} ~ {right}")?;
        }
        if self.output.columns.len() < self.schema.fields().len() {
            let names: Vec<_> =
                self.output.columns.iter().map(|index| self.schema.field(*index).name().as_str()).collect();
            write!(f, ", projection=[{}]", names.join(", "))?;
        }
        Ok(())
    }
}

impl ExecutionPlan for AsofJoinExec {
    fn name(&self) -> &'static str {
        "AsofJoinExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        let equal = self.exprs.each_ref().map(|exprs| exprs[..exprs.len() - 1].to_vec());
        if equal[0].is_empty() {
            return InputDistributionRequirements::new(vec![Distribution::SinglePartition; 2]);
        }
        // Equal keys must be in the partitions of one number.
        InputDistributionRequirements::co_partitioned(equal.map(Distribution::KeyPartitioned).to_vec())
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for expr in self.exprs.iter().flatten() {
            visit(expr)?;
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let Ok(inputs) = <[_; 2]>::try_from(children) else { return internal_err!("an ASOF JOIN has two inputs") };
        self.with_inputs(inputs, self.output.clone())
    }

    /// Columns of the right that nobody asks for are not gathered.
    fn try_swapping_with_projection(&self, projection: &ProjectionExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let column = |asked: &ProjectionExpr| {
            asked.expr.downcast_ref::<Column>().map(|column| self.output.columns[column.index()])
        };
        let Some(columns) = projection.expr().iter().map(column).collect() else { return Ok(None) };
        self.with_inputs(self.inputs.clone(), Output { schema: projection.schema(), columns }).map(Some)
    }

    fn execute(&self, index: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let [left, right] = self.inputs.each_ref().map(|input| input.execute(index, Arc::clone(&context)));
        let keys = |side: usize| Keys::new(&self.exprs[side], &self.inputs[side].schema());
        let bytes_max = memory_share(&context, self.inputs[1].output_partitioning().partition_count());
        let (keys, exprs) = ([keys(0)?, keys(1)?], self.exprs.clone());
        let sides = Sides { left: left?, right: right?, keys, exprs, bytes_max };
        let spills = SpillMetrics::new(&self.metrics, index);
        let joined = stream::once(sides.joined(self.nearest, self.output.clone(), spills, context)).try_flatten();
        let metrics = BaselineMetrics::new(&self.metrics, index);
        let joined = joined.inspect_ok(move |batch| metrics.record_output(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), joined)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// What the right of each of `partitions` may take of the memory of queries: a third of it for all of them.
fn memory_share(context: &TaskContext, partitions: usize) -> usize {
    match context.memory_pool().memory_limit() {
        MemoryLimit::Finite(bytes) => bytes / 3 / partitions,
        _ => usize::MAX,
    }
}

/// The rows of one partition.
struct Sides {
    left: SendableRecordBatchStream,
    right: SendableRecordBatchStream,
    keys: [Keys; 2],
    exprs: [Exprs; 2],
    /// What the right may take of the memory.
    bytes_max: usize,
}

impl Sides {
    async fn joined(
        self,
        nearest: Nearest,
        output: Output,
        spills: SpillMetrics,
        context: Arc<TaskContext>,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let Self { left, right, keys: [left_keys, right_keys], exprs, bytes_max } = self;
        let reservation = MemoryConsumer::new("AsofJoinExec").register(context.memory_pool());
        Ok(match TimeIndex::read(right, &right_keys, &reservation, bytes_max).await? {
            Read::Whole(index) => {
                let joined = move |batch: Result<_>| {
                    // Held as long as the index is.
                    let _held = &reservation;
                    index.joined(&batch?, &left_keys, nearest, &output)
                };
                left.map(joined).boxed()
            }
            Read::TooLarge { batches, rest } => {
                let right = spilled(batches, rest, spills, &context)?;
                drop(reservation);
                let right = Merge::new(sorted(right, &exprs[1], Arc::clone(&context))?, right_keys);
                let left = sorted(left, &exprs[0], context)?;
                merged(left, right, left_keys, nearest, output).boxed()
            }
        })
    }
}
