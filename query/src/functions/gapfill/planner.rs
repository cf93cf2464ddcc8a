//! From the logical node to the physical one.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use async_trait::async_trait;
use datafusion::{
    catalog::Session,
    common::{DFSchema, ScalarValue, plan_err},
    error::Result,
    logical_expr::{
        ColumnarValue, Expr, LogicalPlan, UserDefinedLogicalNode, physical_planning_context::PhysicalPlanningContext,
    },
    physical_plan::ExecutionPlan,
    physical_planner::{ExtensionPlanner, PhysicalPlanner},
};

use super::{
    exec::{GapFillExec, Gaps},
    node::{Edge, GapFill},
};
use crate::functions::{instant::instant, time_bucket::buckets};

pub(crate) struct GapFillPlanner;

#[async_trait]
impl ExtensionPlanner for GapFillPlanner {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(fill) = node.as_any().downcast_ref::<GapFill>() else { return Ok(None) };
        let Some(buckets) = buckets(&fill.constants)? else {
            return plan_err!("the width and the time zone of time_bucket_gapfill must not be null");
        };
        // In microseconds, what is just outside is one off.
        let times = |edges: &[Edge], inward: i64| -> Result<Vec<i64>> {
            let time = |edge: &Edge| {
                let time = constant(&edge.time, session)?.and_then(|time| instant(&time));
                Ok(time.map(|time| if edge.included { time } else { time.saturating_add(inward) }))
            };
            edges.iter().filter_map(|edge| time(edge).transpose()).collect()
        };
        let gaps = Gaps {
            group_count: fill.group_count,
            bucket: fill.bucket,
            buckets,
            start: times(&fill.start, 1)?.into_iter().max(),
            last: times(&fill.finish, -1)?.into_iter().min(),
            fills: fill.fills.clone(),
        };
        let schema = Arc::clone(node.schema().inner());
        Ok(Some(Arc::new(GapFillExec::new(Arc::clone(&inputs[0]), schema, gaps)?)))
    }
}

/// The value of an expression without columns.
fn constant(expr: &Expr, session: &dyn Session) -> Result<Option<ScalarValue>> {
    let expr = session.create_physical_expr(expr.clone(), &DFSchema::empty())?;
    let one_row = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &one_row)?;
    Ok(match expr.evaluate(&row)? {
        ColumnarValue::Scalar(value) => Some(value),
        ColumnarValue::Array(values) => Some(ScalarValue::try_from_array(&values, 0)?),
    })
}
