//! What tables have in common whose rows are computed from points.

use std::sync::Arc;

use datafusion::{
    error::Result,
    logical_expr::Expr,
    physical_expr::projection::ProjectionExprs,
    physical_plan::{ExecutionPlan, projection::ProjectionExec},
};

/// Whether `filter` keeps or drops whole series, so that it may be asked of their points.
pub(crate) fn picks_whole_series(filter: &Expr) -> bool {
    let is_key = |name: &str| matches!(name, "metric" | "series_id");
    !filter.is_volatile() && filter.column_refs().iter().all(|column| is_key(&column.name))
}

/// The columns of `plan` that a scan was asked for; all of them without a projection.
///
/// # Errors
/// A column that `plan` does not have.
pub(crate) fn projected(
    plan: Arc<dyn ExecutionPlan>,
    projection: Option<&Vec<usize>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(indices) = projection else { return Ok(plan) };
    let columns = ProjectionExprs::from_indices(indices, &plan.schema());
    Ok(Arc::new(ProjectionExec::try_new(columns.iter().cloned(), plan)?))
}
