//! From the logical node to the physical one.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    catalog::Session,
    common::DFSchemaRef,
    error::Result,
    logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode, physical_planning_context::PhysicalPlanningContext},
    physical_expr::PhysicalExpr,
    physical_plan::ExecutionPlan,
    physical_planner::{ExtensionPlanner, PhysicalPlanner},
};

use super::{exec::AsofJoinExec, node::AsofJoin};

pub(crate) struct AsofPlanner;

#[async_trait]
impl ExtensionPlanner for AsofPlanner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(join) = node.as_any().downcast_ref::<AsofJoin>() else { return Ok(None) };
        let [left, right] = join.schemas();
        let physical = |keys: &[Expr], schema: &DFSchemaRef| -> Result<Vec<Arc<dyn PhysicalExpr>>> {
            keys.iter().map(|key| session.create_physical_expr(key.clone(), schema)).collect()
        };
        let keys = [physical(&join.left_keys, left)?, physical(&join.right_keys, right)?];
        let inputs = [Arc::clone(&inputs[0]), Arc::clone(&inputs[1])];
        let schema = Arc::clone(node.schema().inner());
        Ok(Some(Arc::new(AsofJoinExec::new(inputs, keys, join.nearest, schema)?)))
    }
}
