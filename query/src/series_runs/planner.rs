//! From the logical node to the physical one.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    catalog::Session,
    error::Result,
    execution::context::QueryPlanner,
    logical_expr::{LogicalPlan, UserDefinedLogicalNode, physical_planning_context::PhysicalPlanningContext},
    physical_plan::ExecutionPlan,
    physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner},
};

use super::{exec::SeriesRunsExec, node::SeriesRuns};
use crate::functions::{AsofPlanner, GapFillPlanner};

/// DataFusion's planner, which also knows the runs of series, the filling of gaps and `ASOF JOIN`.
#[derive(Debug)]
pub(crate) struct RunsQueryPlanner;

#[async_trait]
impl QueryPlanner for RunsQueryPlanner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, state: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![
            Arc::new(RunsPlanner),
            Arc::new(GapFillPlanner),
            Arc::new(AsofPlanner),
        ]);
        planner.create_physical_plan(plan, state).await
    }
}

struct RunsPlanner;

#[async_trait]
impl ExtensionPlanner for RunsPlanner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        _: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(runs) = node.as_any().downcast_ref::<SeriesRuns>() else { return Ok(None) };
        let schema = Arc::clone(node.schema().inner());
        let exec = SeriesRunsExec::new(Arc::clone(&inputs[0]), schema, runs.key_count, runs.partials.clone());
        Ok(Some(Arc::new(exec)))
    }
}
