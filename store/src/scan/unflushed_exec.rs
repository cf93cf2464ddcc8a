//! The plan node of rows that no file holds yet.

use std::{fmt, sync::Arc};

use datafusion::{
    arrow::datatypes::SchemaRef,
    common::{config::ConfigOptions, tree_node::TreeNodeRecursion},
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext, memory_pool::MemoryConsumer},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
        coop::make_cooperative,
        execution_plan::{Boundedness, EmissionType, SchedulingType},
        filter_pushdown::{ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation, PushedDown},
        limit::LimitStream,
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, stream};

use super::unflushed::SharedRows;

/// The rows of some memtables, a partition each, made into batches while a query asks for them.
#[derive(Debug, Clone)]
pub(super) struct UnflushedExec {
    memtables: Vec<SharedRows>,
    /// Of the columns that the query wants.
    schema: SchemaRef,
    /// Predicates from above, by which series and times are left out. They are applied above all the same.
    filters: Vec<Arc<dyn PhysicalExpr>>,
    limit: Option<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl UnflushedExec {
    pub(super) fn new(memtables: Vec<SharedRows>, schema: SchemaRef, limit: Option<usize>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(memtables.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let properties = Arc::new(properties.with_scheduling_type(SchedulingType::Cooperative));
        Self { memtables, schema, filters: vec![], limit, properties, metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl DisplayAs for UnflushedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filters = self.filters.iter().map(ToString::to_string).collect::<Vec<_>>();
        write!(f, "UnflushedExec: memtables={}, filters=[{}]", self.memtables.len(), filters.join(", "))?;
        self.limit.map_or(Ok(()), |limit| write!(f, ", limit={limit}"))
    }
}

impl ExecutionPlan for UnflushedExec {
    fn name(&self) -> &'static str {
        "UnflushedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for filter in &self.filters {
            if f(filter)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn handle_child_pushdown_result(
        &self,
        _: FilterPushdownPhase,
        child_pushdown_result: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let filters: Vec<_> = child_pushdown_result.parent_filters.into_iter().map(|result| result.filter).collect();
        let answer = FilterPushdownPropagation::with_parent_pushdown_result(vec![PushedDown::No; filters.len()]);
        let mut node = self.clone();
        node.filters.extend(filters);
        Ok(answer.with_updated_node(Arc::new(node)))
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(Self { limit, ..self.clone() }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (rows, schema, filters) =
            (self.memtables[partition].clone(), Arc::clone(&self.schema), self.filters.clone());
        let row_count_max = context.session_config().batch_size();
        // A join knows what it wants of these rows when it asks for the first of them.
        let batches = std::iter::once_with(move || rows.batches(&filters, schema, row_count_max)).flatten();
        // The batch that was given away last counts as ours until the next is made: whoever keeps it longer charges it.
        let charged = MemoryConsumer::new("unflushed rows").register(context.memory_pool());
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let batches = batches.inspect(move |batch| {
            if let Ok(batch) = batch {
                charged.resize(batch.get_array_memory_size());
                metrics.record_output(batch.num_rows());
            }
        });
        let stream = RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream::iter(batches).boxed());
        let stream = make_cooperative(Box::pin(stream));
        let Some(limit) = self.limit else { return Ok(stream) };
        let metrics = BaselineMetrics::new(&ExecutionPlanMetricsSet::new(), partition);
        Ok(Box::pin(LimitStream::new(stream, 0, Some(limit), metrics)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
