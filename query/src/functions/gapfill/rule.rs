//! The rule that turns the functions into the node.

use std::sync::Arc;

use arrow::{array::timezone::Tz, datatypes::DataType};
use datafusion::{
    common::{
        Column, ScalarValue, plan_err,
        tree_node::{Transformed, TreeNode},
    },
    config::ConfigOptions,
    error::Result,
    logical_expr::{
        Aggregate, Between, BinaryExpr, Expr, Extension, LogicalPlan, LogicalPlanBuilder, Operator, ScalarUDF,
        UserDefinedLogicalNode, cast, expr_rewriter::NamePreserver, utils::split_conjunction,
    },
    optimizer::AnalyzerRule,
};

use super::{
    Function,
    node::{Edge, GapFill},
};
use crate::functions::{
    instant::{instant, instant_type},
    time_bucket::TimeBucket,
};

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
    let Arguments { constants, passed, range } = Arguments::of(args)?;
    let (start, finish) = match range {
        Some([start, finish]) => {
            (vec![Edge { time: start, included: true }], vec![Edge { time: finish, included: false }])
        }
        None => bounds(&aggregate.input, &args[1]),
    };
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

/// What the arguments say.
struct Arguments {
    /// Width, then zone and offset.
    constants: Vec<ScalarValue>,
    /// The arguments of `time_bucket` instead.
    passed: Vec<Expr>,
    /// Start and finish.
    range: Option<[Expr; 2]>,
}

impl Arguments {
    fn of(args: &[Expr]) -> Result<Self> {
        let (mut constants, mut passed, mut times) = (Vec::new(), args[..2].to_vec(), Vec::new());
        let Expr::Literal(width, _) = &args[0] else {
            return plan_err!("the width of time_bucket_gapfill must be a constant");
        };
        constants.push(width.clone());
        for arg in &args[2..] {
            match arg {
                Expr::Literal(value, _) if is_time(value)? => times.push(cast(arg.clone(), instant_type())),
                Expr::Literal(value, _) => {
                    constants.push(value.clone());
                    passed.push(arg.clone());
                }
                time => times.push(time.clone()),
            }
        }
        let range = match <[Expr; 2]>::try_from(times) {
            Ok(range) => Some(range),
            Err(times) if times.is_empty() => None,
            Err(_) => return plan_err!("time_bucket_gapfill takes a start and a finish, or neither"),
        };
        Ok(Self { constants, passed, range })
    }
}

/// Whether an argument is a time of the range, and no zone or offset.
fn is_time(value: &ScalarValue) -> Result<bool> {
    let ScalarValue::Utf8(Some(text)) = value else { return Ok(matches!(value.data_type(), DataType::Timestamp(..))) };
    if text.parse::<Tz>().is_ok() {
        return Ok(false);
    }
    match instant(value) {
        Some(_) => Ok(true),
        None => plan_err!("{text:?} is neither a time zone nor a time"),
    }
}

/// What the conditions on `time` just below the aggregate say of where its range starts and where it ends.
fn bounds(mut plan: &LogicalPlan, time: &Expr) -> (Vec<Edge>, Vec<Edge>) {
    let (mut start, mut finish) = (vec![], vec![]);
    while let LogicalPlan::Filter(filter) = plan {
        for condition in split_conjunction(&filter.predicate) {
            for (operator, bound) in comparisons(condition, time) {
                let edge = Edge { time: bound, included: matches!(operator, Operator::GtEq | Operator::LtEq) };
                match operator {
                    Operator::Gt | Operator::GtEq => start.push(edge),
                    _ => finish.push(edge),
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

/// Whether `expr` is known before there are rows.
fn constant(expr: &Expr) -> bool {
    let of_rows = |expr: &Expr| {
        let is_subquery = matches!(expr, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_));
        Ok(is_subquery || matches!(expr, Expr::Column(_) | Expr::OuterReferenceColumn(..)))
    };
    !expr.is_volatile() && !expr.exists(of_rows).unwrap_or(true)
}

/// Without changes of unit or zone, which keep a time what it is; a day is no time.
fn uncast(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) if matches!(cast.field.data_type(), DataType::Timestamp(..)) => uncast(&cast.expr),
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
