//! Days from times: in a join on `date`, what is asked of `time` on one side bounds `date` on the other.
//!
//! The tables of the store are partitioned by `date`, the UTC day of `time`. `raw.series` has one row per series and
//! day and no `time`, so without this rule a query over one hour would read the series of every day stored.

use std::sync::Arc;

use datafusion::{
    common::{Column, ScalarValue, TableReference, tree_node::Transformed},
    error::Result,
    logical_expr::{Expr, Filter, Join, JoinType, LogicalPlan, lit, utils::conjunction},
    optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule},
};

use crate::{
    increases::{Points, SPAN_US},
    time_bounds::{DAY_US, TimeBounds},
};

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
    let Some((table, bounds)) = times_asked(plan) else { return Days::default() };
    // A point of the first minutes of a day has its increase from a point of the day before.
    let before_us = if Points::ALL.iter().any(|points| points.table() == table.table()) { SPAN_US } else { 0 };
    let day = |us: i64| i32::try_from(us.div_euclid(DAY_US)).ok();
    Days {
        first: bounds.first_us.and_then(|first_us| day(first_us.saturating_sub(before_us))),
        last: bounds.last_us.and_then(day),
    }
}

/// The scan below `plan`, and what the predicates over it leave of its column `time`.
fn times_asked(plan: &LogicalPlan) -> Option<(&TableReference, TimeBounds)> {
    match plan {
        LogicalPlan::Filter(filter) => {
            let (table, bounds) = times_asked(&filter.input)?;
            Some((table, bounds.narrowed(&filter.predicate)))
        }
        LogicalPlan::SubqueryAlias(alias) => times_asked(&alias.input),
        // A renamed column would not be the scan's `time`.
        LogicalPlan::Projection(projection) if projection.expr.iter().all(|expr| matches!(expr, Expr::Column(_))) => {
            times_asked(&projection.input)
        }
        // Only there is `date` the day of `time`.
        LogicalPlan::TableScan(scan) if scan.table_name.schema() == Some("raw") => {
            Some((&scan.table_name, TimeBounds::of(&scan.filters)))
        }
        _ => None,
    }
}
