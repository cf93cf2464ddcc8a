//! Types of parameters by their places, where the engine says nothing: they are cast, or they say how many rows.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::{
    common::tree_node::{TreeNode, TreeNodeRecursion},
    logical_expr::{Expr, LogicalPlan},
};

/// The names of parameters of `plan`, as in `$1`, each with the type that a place of it has; one may come twice.
pub(crate) fn parameter_places(plan: &LogicalPlan) -> Vec<(String, FieldRef)> {
    let mut found = Vec::new();
    let _always_continues = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Limit(limit) = node {
            for expr in limit.skip.iter().chain(&limit.fetch) {
                let _always_continues = expr.apply(|expr| {
                    if let Expr::Placeholder(placeholder) = expr {
                        found.push((placeholder.id.clone(), Arc::new(Field::new("", DataType::Int64, true))));
                    }
                    Ok(TreeNodeRecursion::Continue)
                });
            }
        }
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::Cast(cast) = expr
                    && let Expr::Placeholder(placeholder) = cast.expr.as_ref()
                {
                    found.push((placeholder.id.clone(), Arc::clone(&cast.field)));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    found
}
