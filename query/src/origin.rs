//! Where a column of a plan comes from.

use datafusion::{
    common::Column,
    logical_expr::{Expr, LogicalPlan},
};

/// What computes `expr` over `plan`: a literal, a column of a scan, or a function, whose first argument is resolved in the same way
/// (the field of a column is that of the call behind it). Nothing where it is anything else.
pub(crate) fn origin_of(plan: &LogicalPlan, expr: &Expr) -> Option<Expr> {
    match expr.clone().unalias() {
        Expr::Column(column) => origin(plan, plan.schema().maybe_index_of_column(&column)?),
        Expr::ScalarFunction(mut call) => {
            if let Some(first @ Expr::Column(_)) = call.args.first() {
                call.args[0] = origin_of(plan, first)?;
            }
            Some(Expr::ScalarFunction(call))
        }
        literal @ Expr::Literal(..) => Some(literal),
        _ => None,
    }
}

/// The same for the column `index` of `plan`.
pub(crate) fn origin(plan: &LogicalPlan, index: usize) -> Option<Expr> {
    match plan {
        LogicalPlan::Projection(projection) => origin_of(&projection.input, projection.expr.get(index)?),
        LogicalPlan::SubqueryAlias(alias) => origin(&alias.input, index),
        LogicalPlan::Filter(_) | LogicalPlan::Window(_) | LogicalPlan::Join(_) => {
            let column = Expr::Column(Column::from(plan.schema().qualified_field(index)));
            plan.inputs().into_iter().find_map(|input| origin_of(input, &column))
        }
        LogicalPlan::TableScan(_) => Some(Expr::Column(Column::from(plan.schema().qualified_field(index)))),
        _ => None,
    }
}
