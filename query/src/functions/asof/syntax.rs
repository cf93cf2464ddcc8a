//! From `(a ASOF JOIN b MATCH_CONDITION (a.time >= b.time) ON a.host = b.host)` to the logical node.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::{
    common::{DFSchema, plan_err},
    error::Result,
    logical_expr::{
        BinaryExpr, Expr, ExprSchemable, Extension, LogicalPlan, Operator, cast,
        planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning},
        utils::split_conjunction,
    },
    sql::sqlparser::ast::{Expr as SqlExpr, Join, JoinConstraint, JoinOperator, TableFactor, TableWithJoins},
};

use super::{Nearest, node::AsofJoin};

/// Plans parentheses that end in an `ASOF JOIN`.
#[derive(Debug)]
pub(crate) struct PlanAsof;

impl RelationPlanner for PlanAsof {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::NestedJoin { mut table_with_joins, alias } = relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        match table_with_joins.joins.pop() {
            Some(Join {
                relation: right, join_operator: JoinOperator::AsOf { match_condition, constraint }, ..
            }) => {
                let left = match table_with_joins.joins.is_empty() {
                    true => context.plan(table_with_joins.relation)?,
                    false => context.plan(TableFactor::NestedJoin { table_with_joins, alias: None })?,
                };
                let right = context.plan(right)?;
                let plan = joined(left, right, match_condition, constraint, context)?;
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation { plan, alias })))
            }
            join => {
                let TableWithJoins { relation, mut joins } = *table_with_joins;
                joins.extend(join);
                let table_with_joins = Box::new(TableWithJoins { relation, joins });
                Ok(RelationPlanning::Original(Box::new(TableFactor::NestedJoin { table_with_joins, alias })))
            }
        }
    }
}

fn joined(
    left: LogicalPlan,
    right: LogicalPlan,
    condition: SqlExpr,
    constraint: JoinConstraint,
    context: &mut dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
    let schema = left.schema().join(right.schema())?;
    let condition = context.sql_to_expr(condition, &schema)?;
    let Expr::BinaryExpr(condition) = condition else { return plan_err!("{HOW}") };
    let Some((left_time, operator, right_time)) = sides(condition, &left, &right) else { return plan_err!("{HOW}") };
    let nearest = match operator {
        Operator::GtEq => Nearest::AtOrBefore,
        Operator::Gt => Nearest::Before,
        Operator::LtEq => Nearest::AtOrAfter,
        Operator::Lt => Nearest::After,
        _ => return plan_err!("{HOW}"),
    };
    for (time, plan) in [(&left_time, &left), (&right_time, &right)] {
        if !matches!(time.get_type(plan.schema())?, DataType::Timestamp(..)) {
            return plan_err!("MATCH_CONDITION of ASOF JOIN compares times, and {time} is none");
        }
    }
    let (mut left_keys, mut right_keys) = match constraint {
        JoinConstraint::None => (vec![], vec![]),
        JoinConstraint::On(on) => keys(&context.sql_to_expr(on, &schema)?, &left, &right)?,
        _ => return plan_err!("ASOF JOIN takes ON, not USING or NATURAL"),
    };
    left_keys.push(left_time);
    right_keys.push(right_time);
    let node = AsofJoin::new(left, right, left_keys, right_keys, nearest)?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

const HOW: &str = "ASOF JOIN compares a time of the left with one of the right: MATCH_CONDITION (a.time >= b.time)";

/// The comparison with what is of the left on the left.
fn sides(comparison: BinaryExpr, left: &LogicalPlan, right: &LogicalPlan) -> Option<(Expr, Operator, Expr)> {
    let (one, other) = (*comparison.left, *comparison.right);
    if is_of(&one, left.schema()) && is_of(&other, right.schema()) {
        return Some((one, comparison.op, other));
    }
    let swapped = is_of(&one, right.schema()) && is_of(&other, left.schema());
    comparison.op.swap().filter(|_| swapped).map(|op| (other, op, one))
}

/// What must be equal, on each side.
fn keys(on: &Expr, left: &LogicalPlan, right: &LogicalPlan) -> Result<(Vec<Expr>, Vec<Expr>)> {
    let mut keys = (vec![], vec![]);
    for condition in split_conjunction(on) {
        let Expr::BinaryExpr(condition) = condition else { return plan_err!("{EQUAL}") };
        let Some((one, Operator::Eq, other)) = sides(condition.clone(), left, right) else {
            return plan_err!("{EQUAL}");
        };
        let data_type = one.get_type(left.schema())?;
        let is_same = other.get_type(right.schema())? == data_type;
        keys.1.push(if is_same { other } else { cast(other, data_type) });
        keys.0.push(one);
    }
    Ok(keys)
}

const EQUAL: &str =
    "ON of ASOF JOIN is columns of both sides that are equal, with AND between them; put other conditions into WHERE";

fn is_of(expr: &Expr, schema: &DFSchema) -> bool {
    let columns = expr.column_refs();
    !columns.is_empty() && columns.iter().all(|column| schema.has_column(column))
}
