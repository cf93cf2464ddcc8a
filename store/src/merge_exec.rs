//! The plan node that shows each point of overlapping sources once.

use std::{fmt, sync::Arc};

use datafusion::{
    arrow::compute::SortOptions,
    common::{config::ConfigOptions, tree_node::TreeNodeRecursion},
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{Distribution, EquivalenceProperties, PhysicalExpr, PhysicalSortExpr, expressions::Column},
    physical_expr_common::physical_expr::is_volatile,
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
        distribution_requirements::InputDistributionRequirements,
        execution_plan::{Boundedness, EmissionType},
        filter_pushdown::{ChildFilterDescription, FilterDescription, FilterPushdownPhase},
        metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, stream};

use crate::merge::{KEY_COLUMNS, Merge, Step};

/// The order of the rows, as far as a planner can use it: a start time that is missing sorts as 0.
const ORDER: [&str; 3] = ["metric", "series_id", "time"];

/// Merges sorted inputs of one partition each, oldest first; of rows of one identity the newest input's stays.
#[derive(Debug)]
pub(crate) struct MergeExec {
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl MergeExec {
    /// `inputs` have one schema, with all of [`KEY_COLUMNS`].
    pub(crate) fn new(inputs: Vec<Arc<dyn ExecutionPlan>>) -> Self {
        let schema = inputs[0].schema();
        let columns = ORDER.iter().filter_map(|name| Some(Column::new(name, schema.index_of(name).ok()?)));
        let ascending = SortOptions { descending: false, nulls_first: false };
        let order = columns.map(|column| PhysicalSortExpr::new(Arc::new(column), ascending));
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(Arc::clone(&schema), [order]),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { inputs, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl DisplayAs for MergeExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MergeExec: inputs={}, newest of each point stays", self.inputs.len())
    }
}

impl ExecutionPlan for MergeExec {
    fn name(&self) -> &'static str {
        "MergeExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        // Also tells the optimizer to leave the inputs whole and in their order.
        InputDistributionRequirements::new(vec![Distribution::SinglePartition; self.inputs.len()])
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(children)))
    }

    /// Filters on key columns go below: they keep or drop all copies of a point. One on any other column could drop the
    /// newest copy and keep an older one, so it stays above.
    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        if parent_filters.iter().any(is_volatile) {
            return Ok(FilterDescription::all_unsupported(&parent_filters, &self.children()));
        }
        let schema = self.schema();
        let keys = KEY_COLUMNS.iter().chain(&["date"]).filter_map(|name| schema.index_of(name).ok()).collect();
        let mut description = FilterDescription::new();
        for input in &self.inputs {
            let child =
                ChildFilterDescription::from_child_with_allowed_indices(&parent_filters, Clone::clone(&keys), input);
            description = description.with_child(child?);
        }
        Ok(description)
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let merge = Merge::new(self.schema(), self.inputs.len(), context.session_config().batch_size());
        let inputs = self.inputs.iter().map(|input| input.execute(0, Arc::clone(&context)));
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let metrics = BaselineMetrics::new(&self.metrics, 0);
        let merged = stream::try_unfold((merge, inputs, metrics), async |(mut merge, mut inputs, metrics)| {
            loop {
                let timer = metrics.elapsed_compute().timer();
                let step = merge.step()?;
                timer.done();
                match step {
                    Step::Need(input) => merge.push(input, inputs[input].next().await.transpose()?)?,
                    Step::Batch(batch) => {
                        metrics.record_output(batch.num_rows());
                        return Ok(Some((batch, (merge, inputs, metrics))));
                    }
                    Step::Done => return Ok(None),
                }
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), merged)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
