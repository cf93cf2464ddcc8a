//! The rule that turns the functions into the node.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::{
    common::{
        Column, plan_err,
        tree_node::{Transformed, TreeNode},
    },
    config::ConfigOptions,
    error::Result,
    logical_expr::{
        Aggregate, Between, BinaryExpr, Expr, Extension, LogicalPlan, LogicalPlanBuilder, Operator, ScalarUDF,
        UserDefinedLogicalNode, expr_rewriter::NamePreserver, utils::split_conjunction,
    },
    optimizer::AnalyzerRule,
};

use super::{
    Function,
    node::{Edge, GapFill},
};
use crate::functions::time_bucket::TimeBucket;

/// Runs after types are coerced.
#[derive(Debug)]
pub(crate) struct FillGaps;

impl AnalyzerRule for FillGaps {
    fn name(&self) -> &str {
        "fill_gaps"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let filled = plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Aggregate(aggregate) => with_gaps_filled(aggregate),
            LogicalPlan::Projection(_) => with_values_filled(plan),
            plan => Ok(Transformed::no(plan)),
        })?;
        if !filled.transformed {
            return Ok(filled.data);
        }
        // What is above has columns that may be null now.
        filled
            .data
            .transform_up_with_subqueries(|plan| Ok(Transformed::yes(plan.recompute_schema()?)))
            .map(|plan| plan.data)
    }
}

fn call(expr: &Expr) -> Option<(Function, &[Expr])> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let function = Function::ALL.into_iter().find(|function| function.name() == call.func.name())?;
    Some((function, &call.args))
}

fn with_gaps_filled(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let is_bucket = |expr: &Expr| matches!(call(&expr.clone().unalias()), Some((Function::Bucket, _)));
    let Some(bucket) = aggregate.group_expr.iter().position(is_bucket) else {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    };
    let group = aggregate.group_expr[bucket].clone().unalias();
    let Some((_, args)) = call(&group) else { return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate))) };
    let mut constants = Vec::new();
    let (mut start, mut finish) = bounds(&aggregate.input, &args[1]);
    let (mut passed, mut edges) = (args[..2].to_vec(), Vec::new());
    for (index, arg) in args.iter().enumerate().filter(|(index, _)| *index != 1) {
        match arg {
            // A zone or an offset; times are the range.
            Expr::Literal(value, _) if index == 0 || !matches!(value.data_type(), DataType::Timestamp(..)) => {
                constants.push(value.clone());
                if index > 0 {
                    passed.push(arg.clone());
                }
            }
            _ if index == 0 => return plan_err!("the width of time_bucket_gapfill must be a constant"),
            edge => edges.push(edge.clone()),
        }
    }
    match edges.as_slice() {
        [] => {}
        [first, last] => {
            start = Some(Edge { time: first.clone(), included: true });
            finish = Some(Edge { time: last.clone(), included: false });
        }
        _ => return plan_err!("time_bucket_gapfill takes a start and a finish, or neither"),
    }
    let group_count = aggregate.group_expr.len();
    let (qualifier, field) = aggregate.schema.qualified_field(bucket);
    let named = ScalarUDF::from(TimeBucket::new()).call(passed).alias_qualified(qualifier.cloned(), field.name());
    let mut groups = aggregate.group_expr;
    groups[bucket] = named;
    let input = Aggregate::try_new(aggregate.input, groups, aggregate.aggr_expr)?;
    let mut node = GapFill::new(LogicalPlan::Aggregate(input), group_count, bucket, constants)?;
    (node.start, node.finish) = (start, finish);
    Ok(Transformed::yes(LogicalPlan::Extension(Extension { node: Arc::new(node) })))
}

/// What the conditions on `time` just below the aggregate say of its range.
fn bounds(mut plan: &LogicalPlan, time: &Expr) -> (Option<Edge>, Option<Edge>) {
    let (mut start, mut finish) = (None, None);
    while let LogicalPlan::Filter(filter) = plan {
        for condition in split_conjunction(&filter.predicate) {
            for (operator, bound) in comparisons(condition, time) {
                let edge = Some(Edge { time: bound, included: matches!(operator, Operator::GtEq | Operator::LtEq) });
                match operator {
                    Operator::Gt | Operator::GtEq => start = start.or(edge),
                    _ => finish = finish.or(edge),
                }
            }
        }
        plan = &filter.input;
    }
    (start, finish)
}

/// Comparisons of `time` with what is the same for all rows, `time` on the left.
fn comparisons(condition: &Expr, time: &Expr) -> Vec<(Operator, Expr)> {
    let same = |expr: &Expr| uncast(expr) == uncast(time);
    let constant = |expr: &Expr| expr.column_refs().is_empty() && !matches!(expr, Expr::ScalarSubquery(_));
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if matches!(op, Operator::Gt | Operator::GtEq | Operator::Lt | Operator::LtEq) =>
        {
            if same(left) && constant(right) {
                return vec![(*op, right.as_ref().clone())];
            }
            match op.swap() {
                Some(op) if same(right) && constant(left) => vec![(op, left.as_ref().clone())],
                _ => vec![],
            }
        }
        Expr::Between(Between { expr, negated: false, low, high }) if same(expr) && constant(low) && constant(high) => {
            vec![(Operator::GtEq, low.as_ref().clone()), (Operator::LtEq, high.as_ref().clone())]
        }
        _ => vec![],
    }
}

fn uncast(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) => uncast(&cast.expr),
        expr => expr,
    }
}

/// Takes what `locf` and `interpolate` fill below the node, where rows are known to be added.
fn with_values_filled(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut calls: Vec<(Function, Expr, Expr)> = Vec::new();
    for expr in plan.expressions() {
        expr.apply(|expr| {
            if let Some((function, args)) = call(expr)
                && function != Function::Bucket
                && !calls.iter().any(|(_, _, known)| known == expr)
            {
                calls.push((function, args[0].clone(), expr.clone()));
            }
            Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
        })?;
    }
    if calls.is_empty() {
        return Ok(Transformed::no(plan));
    }
    let Some(input) = plan.inputs().first().copied().and_then(|input| filled(input, &calls).transpose()) else {
        return Ok(Transformed::no(plan));
    };
    let name = |index: usize| Expr::Column(Column::new_unqualified(fill_name(index)));
    let names = NamePreserver::new(&plan);
    let exprs = plan.expressions().into_iter().map(|expr| {
        let saved = names.save(&expr);
        let replaced = expr.transform_down(|expr| {
            let index = calls.iter().position(|(_, _, call)| *call == expr);
            Ok(index.map_or_else(|| Transformed::no(expr), |index| Transformed::yes(name(index))))
        })?;
        Ok(saved.restore(replaced.data))
    });
    let exprs = exprs.collect::<Result<Vec<_>>>()?;
    Ok(Transformed::yes(LogicalPlanBuilder::from(input?).project(exprs)?.build()?))
}

fn fill_name(index: usize) -> String {
    format!("__fill_{index}")
}

/// `plan` with one more column for each call, if there are gaps filled below.
fn filled(plan: &LogicalPlan, calls: &[(Function, Expr, Expr)]) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::Filter(filter) => {
            let Some(input) = filled(&filter.input, calls)? else { return Ok(None) };
            Ok(Some(LogicalPlanBuilder::from(input).filter(filter.predicate.clone())?.build()?))
        }
        LogicalPlan::Extension(extension) => {
            let Some(node) = extension.node.as_any().downcast_ref::<GapFill>().filter(|node| node.fills.is_empty())
            else {
                return Ok(None);
            };
            let columns = node.input.schema().columns().into_iter().map(Expr::Column);
            let fills = calls.iter().enumerate().map(|(index, (_, value, _))| value.clone().alias(fill_name(index)));
            let input = LogicalPlanBuilder::from(node.input.clone()).project(columns.chain(fills))?.build()?;
            let node = node.over(input, calls.iter().map(|(function, _, _)| *function).collect())?;
            let node: Arc<dyn UserDefinedLogicalNode> = Arc::new(node);
            Ok(Some(LogicalPlan::Extension(Extension { node })))
        }
        _ => Ok(None),
    }
}
