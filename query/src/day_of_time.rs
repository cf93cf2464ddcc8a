//! Days from times: in a join on `date`, what is asked of `time` on one side bounds `date` on the other.
//!
//! The tables of the store are partitioned by `date`, the UTC day of `time`. `raw.series` has one row per series and
//! day and no `time`, so without this rule a query over one hour would read the series of every day stored.

use std::sync::Arc;

use datafusion::{
    common::{Column, ScalarValue, tree_node::Transformed},
    error::Result,
    logical_expr::{
        BinaryExpr, Expr, Filter, Join, JoinType, LogicalPlan, Operator, lit,
        utils::{conjunction, split_conjunction},
    },
    optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule},
};

const DAY_US: i64 = 24 * 3600 * 1_000_000;

/// First and last day, days since 1970.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Days {
    first: Option<i32>,
    last: Option<i32>,
}

/// The rule. It runs after predicates have reached the scans; the next pass pushes down what it adds.
#[derive(Debug)]
pub(crate) struct DayOfTime;

impl OptimizerRule for DayOfTime {
    fn name(&self) -> &str {
        "day_of_time"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Join(join) if join.join_type == JoinType::Inner => bound_sides(join),
            other => Ok(Transformed::no(other)),
        }
    }
}

fn bound_sides(mut join: Join) -> Result<Transformed<LogicalPlan>> {
    let on = join.on.iter().find_map(|(left, right)| match (left, right) {
        (Expr::Column(left), Expr::Column(right)) if left.name == "date" && right.name == "date" => {
            Some((left.clone(), right.clone()))
        }
        _ => None,
    });
    let Some((left_date, right_date)) = on else { return Ok(Transformed::no(LogicalPlan::Join(join))) };
    let left = bounded(&join.left, left_date, days_asked(&join.right))?;
    let right = bounded(&join.right, right_date, days_asked(&join.left))?;
    let changed = left.is_some() || right.is_some();
    join.left = left.unwrap_or(join.left);
    join.right = right.unwrap_or(join.right);
    Ok(if changed { Transformed::yes(LogicalPlan::Join(join)) } else { Transformed::no(LogicalPlan::Join(join)) })
}

/// `plan` under a filter on `date`; nothing where no day is asked for, or where `date` is filtered already.
fn bounded(plan: &Arc<LogicalPlan>, date: Column, days: Days) -> Result<Option<Arc<LogicalPlan>>> {
    if days == Days::default() || filters_date(plan) {
        return Ok(None);
    }
    let date = Expr::Column(date);
    let first = days.first.map(|day| date.clone().gt_eq(lit(ScalarValue::Date32(Some(day)))));
    let last = days.last.map(|day| date.clone().lt_eq(lit(ScalarValue::Date32(Some(day)))));
    let Some(predicate) = conjunction(first.into_iter().chain(last)) else { return Ok(None) };
    Ok(Some(Arc::new(LogicalPlan::Filter(Filter::try_new(predicate, Arc::clone(plan))?))))
}

fn filters_date(plan: &LogicalPlan) -> bool {
    let names = |expr: &Expr| expr.column_refs().iter().any(|column| column.name == "date");
    let here = match plan {
        LogicalPlan::Filter(filter) => names(&filter.predicate),
        LogicalPlan::TableScan(scan) => scan.filters.iter().any(names),
        _ => false,
    };
    here || plan.inputs().into_iter().any(filters_date)
}

/// The days that the predicates on `time` over one scan of the store leave.
fn days_asked(plan: &LogicalPlan) -> Days {
    match plan {
        LogicalPlan::Filter(filter) => narrowed(days_asked(&filter.input), &filter.predicate),
        LogicalPlan::SubqueryAlias(alias) => days_asked(&alias.input),
        // A renamed column would not be the scan's `time`.
        LogicalPlan::Projection(projection) if projection.expr.iter().all(|expr| matches!(expr, Expr::Column(_))) => {
            days_asked(&projection.input)
        }
        // Only there is `date` the day of `time`.
        LogicalPlan::TableScan(scan) if scan.table_name.schema() == Some("raw") => {
            scan.filters.iter().fold(Days::default(), narrowed)
        }
        _ => Days::default(),
    }
}

fn narrowed(mut days: Days, predicate: &Expr) -> Days {
    for expr in split_conjunction(predicate) {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else { continue };
        let (op, time) = match (left.as_ref(), right.as_ref()) {
            (Expr::Column(column), Expr::Literal(value, _)) if column.name == "time" => (Some(*op), value),
            (Expr::Literal(value, _), Expr::Column(column)) if column.name == "time" => (op.swap(), value),
            _ => continue,
        };
        let ScalarValue::TimestampMicrosecond(Some(time), _) = time else { continue };
        let Ok(day) = i32::try_from(time.div_euclid(DAY_US)) else { continue };
        if matches!(op, Some(Operator::Gt | Operator::GtEq | Operator::Eq)) {
            days.first = days.first.max(Some(day));
        }
        if matches!(op, Some(Operator::Lt | Operator::LtEq | Operator::Eq)) {
            days.last = Some(days.last.map_or(day, |last| last.min(day)));
        }
    }
    days
}
