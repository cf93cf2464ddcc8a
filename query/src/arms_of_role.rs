//! Arms of a role view that can have the role that is asked for.
//!
//! A role view is a union: points as reported, rates of counters, quotients. Most questions are about one role, which few
//! of the arms can have. The rule drops the others before anything else is done with them; what it does not see through
//! stays, and is bounded by `metrics_of_role` later. The types of the view are settled before (`view_schema.rs`), and do not
//! depend on which arms are left.

use std::sync::Arc;

use datafusion::{
    common::{ScalarValue, tree_node::Transformed},
    config::ConfigOptions,
    error::Result,
    logical_expr::{Expr, Filter, LogicalPlan, Operator, SubqueryAlias, Union, expr::InList, utils::split_conjunction},
    optimizer::AnalyzerRule,
};

use crate::{metrics_of_role::role_field, origin::origin};

/// The rule. It runs before all others, also before types are checked, which would look at every expression of every arm.
#[derive(Debug)]
pub(crate) struct ArmsOfRole;

impl AnalyzerRule for ArmsOfRole {
    fn name(&self) -> &str {
        "arms_of_role"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_down_with_subqueries(narrow)?.data)
    }
}

fn narrow(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Filter(filter) = &plan else { return Ok(Transformed::no(plan)) };
    let Some(roles) = split_conjunction(&filter.predicate).into_iter().find_map(roles_asked) else {
        return Ok(Transformed::no(plan));
    };
    let Some(input) = narrowed(&filter.input, &roles)? else { return Ok(Transformed::no(plan)) };
    Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(filter.predicate.clone(), Arc::new(input))?)))
}

/// The roles that `role = 'a'` or `role IN ('a', 'b')` leaves.
fn roles_asked(predicate: &Expr) -> Option<Vec<String>> {
    let is_role = |expr: &Expr| matches!(expr, Expr::Column(column) if column.name == "role");
    let values: Vec<&Expr> = match predicate {
        Expr::BinaryExpr(binary) if binary.op == Operator::Eq && is_role(&binary.left) => vec![&binary.right],
        Expr::BinaryExpr(binary) if binary.op == Operator::Eq && is_role(&binary.right) => vec![&binary.left],
        Expr::InList(InList { expr, list, negated: false }) if is_role(expr) => list.iter().collect(),
        _ => return None,
    };
    values.into_iter().map(|value| literal(value).map(str::to_owned)).collect()
}

fn literal(expr: &Expr) -> Option<&str> {
    let Expr::Literal(value, _) = expr else { return None };
    ScalarValue::try_as_str(value).flatten()
}

/// The view below `plan` with the arms that may have one of `roles`; nothing where all do, or where it is no view.
fn narrowed(plan: &LogicalPlan, roles: &[String]) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => {
            let Some(input) = narrowed(&alias.input, roles)? else { return Ok(None) };
            Ok(Some(LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?)))
        }
        LogicalPlan::Union(union) => {
            let Some(index) = union.schema.fields().iter().position(|field| field.name() == "role") else {
                return Ok(None);
            };
            let all = arms_of(union);
            let mut arms: Vec<_> = all.iter().filter(|arm| may_have(arm, index, roles)).map(Arc::clone).collect();
            // One stays in any case: it has the schema, and no rows.
            arms.extend(all.first().filter(|_| arms.is_empty()).map(Arc::clone));
            if arms.len() == all.len() {
                return Ok(None);
            }
            Ok(Some(LogicalPlan::Union(Union { inputs: arms, schema: Arc::clone(&union.schema) })))
        }
        _ => Ok(None),
    }
}

/// The arms of unions within unions, as the parser makes them.
fn arms_of(union: &Union) -> Vec<Arc<LogicalPlan>> {
    let of = |input: &Arc<LogicalPlan>| match input.as_ref() {
        LogicalPlan::Union(union) => arms_of(union),
        _ => vec![Arc::clone(input)],
    };
    union.inputs.iter().flat_map(of).collect()
}

/// Whether the column `index` of `plan` may be one of `roles`.
fn may_have(plan: &LogicalPlan, index: usize, roles: &[String]) -> bool {
    let Some(origin) = origin(plan, index) else { return true };
    match &origin {
        Expr::Literal(..) => literal(&origin).is_none_or(|role| roles.iter().any(|asked| asked == role)),
        field => role_field(field).is_none_or(|(function, asked)| {
            let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
            !function.table().metrics_of(asked, &roles).is_empty()
        }),
    }
}
