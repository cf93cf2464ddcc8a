//! What a function without its columns stands for: `histogram()` and `label('key')`.

use std::sync::Arc;

use datafusion::{
    common::{
        Column, DFSchema, ScalarValue, plan_err,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    config::ConfigOptions,
    error::Result,
    logical_expr::{
        Expr, ExprSchemable, LogicalPlan, ScalarUDF, cast, expr::ScalarFunction, expr_rewriter::NamePreserver, lit,
    },
    optimizer::AnalyzerRule,
};
use driftwatt_store::PROMOTED;

use super::{
    histogram::{CONSTRUCTOR, PARAMETERS, histogram_fields},
    label::LABEL,
};

/// Puts in the columns of the input.
#[derive(Debug)]
pub(crate) struct ImplicitColumns;

impl AnalyzerRule for ImplicitColumns {
    fn name(&self) -> &str {
        "implicit_columns"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            if !is_asked_for(&plan)? {
                return Ok(Transformed::no(plan));
            }
            let mut scope = DFSchema::empty();
            for input in plan.inputs() {
                scope.merge(input.schema());
            }
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(expr.transform_up(|expr| with_columns(expr, &scope))?.update_data(|expr| name.restore(expr)))
            })
        })
        .map(|plan| plan.data)
    }
}

/// Whether an expression of `plan` leaves its columns out. Most do not, and cost no more than the look.
fn is_asked_for(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_expressions(|expr| {
        found |= expr.exists(|expr| Ok(is_implicit(expr)))?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn is_implicit(expr: &Expr) -> bool {
    let Expr::ScalarFunction(call) = expr else { return false };
    matches!((call.func.name(), call.args.len()), (CONSTRUCTOR, 0) | (LABEL, 1))
}

fn with_columns(expr: Expr, scope: &DFSchema) -> Result<Transformed<Expr>> {
    let Expr::ScalarFunction(call) = &expr else { return Ok(Transformed::no(expr)) };
    match (call.func.name(), call.args.as_slice()) {
        (CONSTRUCTOR, []) => {
            let args = PARAMETERS.iter().zip(histogram_fields()).map(|(name, field)| {
                let column = column(scope, name)?;
                let is_typed = column.get_type(scope)? == *field.data_type();
                Ok(if is_typed { column } else { cast(column, field.data_type().clone()) })
            });
            let call = ScalarFunction::new_udf(Arc::clone(&call.func), args.collect::<Result<_>>()?);
            Ok(Transformed::yes(Expr::ScalarFunction(call)))
        }
        (LABEL, [Expr::Literal(ScalarValue::Utf8(Some(key)), _)]) => {
            label(scope, key, &call.func).map(Transformed::yes)
        }
        _ => Ok(Transformed::no(expr)),
    }
}

fn is_in_scope(scope: &DFSchema, name: &str) -> bool {
    !scope.qualified_fields_with_unqualified_name(name).is_empty()
}

fn column(scope: &DFSchema, name: &str) -> Result<Expr> {
    match scope.qualified_fields_with_unqualified_name(name).as_slice() {
        [(qualifier, field)] => Ok(Expr::Column(Column::new(qualifier.cloned(), field.name()))),
        [] => plan_err!("{name} is not in scope: histogram() and label('key') stand for columns of a view"),
        _ => plan_err!("{name} is ambiguous here: give histogram or label its columns"),
    }
}

/// The promoted column of `key`, by its own name or the attribute's, or the attribute.
fn label(scope: &DFSchema, key: &str, function: &Arc<ScalarUDF>) -> Result<Expr> {
    let promoted = PROMOTED.iter().find(|label| label.column == key || label.keys.contains(&key));
    if let Some(label) = promoted.filter(|label| is_in_scope(scope, label.column)) {
        return column(scope, label.column);
    }
    Ok(function.call(vec![column(scope, "attributes")?, lit(key)]))
}
