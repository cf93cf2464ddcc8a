//! The optimizer rule: aggregates over the join of points with their series become aggregates of runs.
//!
//! ```text
//! Aggregate by host                       Projection (mean = sum / count)
//!   Join on series_id, metric, date         Aggregate by host: sum of sums, sum of counts
//!     raw.series                       →      Join on series_id, metric, date
//!     raw.samples                               raw.series
//!                                               SeriesRuns by series_id, metric, date: sum, count
//!                                                 raw.samples
//! ```
//!
//! Right whatever the data: each point of a run joins with the same rows, so a run may stand for its points.

use std::{collections::HashSet, sync::Arc};

use arrow::datatypes::DataType;
use datafusion::{
    common::{
        Column, ScalarValue,
        tree_node::{Transformed, TreeNode},
    },
    error::Result,
    functions::core::expr_fn::coalesce,
    functions_aggregate::expr_fn::{max, min, sum},
    logical_expr::{
        Aggregate, Expr, ExprSchemable, Extension, Join, JoinType, LogicalPlan, LogicalPlanBuilder, Projection, cast,
        lit,
    },
    optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule},
};

use super::node::{Kept, Partial, SeriesRuns, partial_name};
use crate::{functions::histogram, metrics_of_role::filters_metric};

/// The rule. It runs after predicates have reached the scans, which it leaves below the runs.
#[derive(Debug)]
pub(crate) struct AggregateRunsFirst;

impl OptimizerRule for AggregateRunsFirst {
    fn name(&self) -> &str {
        "aggregate_runs_first"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if let LogicalPlan::Aggregate(aggregate) = &plan
            && let Some(question) = Question::of(aggregate)
            && let Some(rewritten) = question.rewritten(aggregate)?
        {
            return Ok(Transformed::yes(rewritten));
        }
        Ok(Transformed::no(plan))
    }
}

/// A function that can be computed from partials of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Mean,
    Count,
    Sum,
    Min,
    Max,
    /// The sum of histograms; its argument is what makes one of columns.
    Histogram,
}

/// An aggregate in terms of the join that it stands on.
struct Question<'a> {
    join: &'a Join,
    points: &'a LogicalPlan,
    points_on_the_left: bool,
    groups: Vec<Expr>,
    /// With the argument; `None` counts rows.
    functions: Vec<(Function, Option<Expr>)>,
}

impl<'a> Question<'a> {
    /// `None` if `aggregate` does not stand on such a join, or asks for something else.
    fn of(aggregate: &'a Aggregate) -> Option<Self> {
        // Each grouping set would need sums of its own.
        if aggregate.group_expr.iter().any(|group| matches!(group, Expr::GroupingSet(_))) {
            return None;
        }
        let calls = aggregate.aggr_expr.iter().map(function).collect::<Option<Vec<_>>>()?;
        let arguments = calls.iter().filter_map(|(_, argument)| argument.clone());
        let groups = aggregate.group_expr.iter().map(|group| group.clone().unalias());
        let exprs: Vec<_> = groups.chain(arguments).collect();
        let (join, mut exprs) = lowered(&aggregate.input, exprs)?;
        let plain = join.join_type == JoinType::Inner && join.filter.is_none() && !join.on.is_empty();
        let points_on_the_left = is_points(&join.left);
        if !plain || points_on_the_left == is_points(&join.right) {
            return None;
        }
        let points = if points_on_the_left { &join.left } else { &join.right };
        let mut arguments = exprs.split_off(aggregate.group_expr.len()).into_iter();
        let functions: Vec<_> =
            calls.into_iter().map(|(function, argument)| (function, argument.and_then(|_| arguments.next()))).collect();
        let question = Self { join, points, points_on_the_left, groups: exprs, functions };
        question.is_answerable().then_some(question)
    }

    fn keys(&self) -> Option<Vec<Column>> {
        let keys = self.join.on.iter().map(|(left, right)| if self.points_on_the_left { left } else { right });
        keys.map(|key| key.try_as_col().cloned()).collect()
    }

    fn is_answerable(&self) -> bool {
        let Some(keys) = self.keys() else { return false };
        let of_points = |expr: &Expr| is_of(expr, self.points);
        let groups = self.groups.iter().all(|group| match group {
            // Points grouped by their time or value make no runs.
            Expr::Column(column) if of_points(group) => keys.contains(column),
            _ if of_points(group) => true,
            _ => !group.column_refs().iter().any(|column| self.points.schema().has_column(column)),
        });
        let functions = self.functions.iter().all(|(function, argument)| {
            let Some(argument) = argument else { return true };
            if *function == Function::Histogram {
                return self.is_histogram_of_points(argument);
            }
            let Ok(data_type) = argument.get_type(self.points.schema()) else { return false };
            of_points(argument)
                && match function {
                    Function::Mean | Function::Sum => data_type == DataType::Float64,
                    Function::Min | Function::Max => Partial::orders(&data_type),
                    Function::Count => true,
                    Function::Histogram => false,
                }
        });
        let distinct = self.groups.iter().collect::<HashSet<_>>().len() == self.groups.len();
        keys.iter().any(|key| key.name == "series_id") && groups && functions && distinct
    }

    /// Whether points have all of the histogram but its bounds, which belong to the series.
    fn is_histogram_of_points(&self, argument: &Expr) -> bool {
        let Some(columns) = histogram_columns(argument) else { return false };
        columns.iter().enumerate().all(|(index, column)| match index {
            histogram::BOUNDS => !column.column_refs().iter().any(|column| self.points.schema().has_column(column)),
            _ => column.column_refs().is_empty() || is_of(column, self.points),
        })
    }

    /// The join key that says nothing new: a series has one metric, and where the points are bounded to some metrics
    /// already, comparing them again and carrying their names costs more than all the rest. Only the store's own columns
    /// are so tied to each other.
    fn is_superfluous(&self, key: &Column) -> bool {
        let stored = |name: &str| {
            self.join
                .on
                .iter()
                .any(|(left, right)| is_stored(&self.join.left, left, name) && is_stored(&self.join.right, right, name))
        };
        key.name == "metric"
            && stored("metric")
            && stored("series_id")
            && filters_metric(self.points)
            && !self.groups.contains(&Expr::Column(key.clone()))
    }

    fn rewritten(&self, aggregate: &Aggregate) -> Result<Option<LogicalPlan>> {
        let Some(mut keys) = self.keys() else { return Ok(None) };
        let told = self.join.on.iter().zip(&keys).filter(|(_, key)| !self.is_superfluous(key));
        let on: Vec<_> = told.map(|(on, _)| on.clone()).collect();
        keys.retain(|key| !self.is_superfluous(key));
        let mut columns: Vec<Expr> = keys.iter().cloned().map(Expr::Column).collect();
        // What groups points, such as their hour, is a key too.
        let groups: Vec<Expr> =
            self.groups.iter().enumerate().map(|(index, group)| self.group(index, group, &mut columns)).collect();
        let key_count = columns.len();
        let mut partials = Vec::new();
        let answers: Vec<Answer> = self
            .functions
            .iter()
            .map(|(function, argument)| Answer::of(*function, argument.as_ref(), &mut columns, &mut partials))
            .collect::<Result<_>>()?;
        let input = LogicalPlanBuilder::from(self.points.clone()).project(columns)?.build()?;
        let kept = partials.iter().map(|(partial, _)| *partial).collect();
        let runs = SeriesRuns::new(input, key_count, kept)?;
        let runs = Arc::new(LogicalPlan::Extension(Extension { node: Arc::new(runs) }));
        let (left, right) = match self.points_on_the_left {
            true => (runs, Arc::clone(&self.join.right)),
            false => (Arc::clone(&self.join.left), runs),
        };
        let Join { join_constraint, null_equality, .. } = *self.join;
        let join = Join::try_new(left, right, on, None, JoinType::Inner, join_constraint, null_equality, false)?;
        let totals =
            partials.iter().enumerate().map(|(index, (partial, bounds))| total(*partial, bounds.as_ref(), index));
        let totals = totals.collect::<Result<_>>()?;
        let totals = Aggregate::try_new(Arc::new(LogicalPlan::Join(join)), groups, totals)?;
        projected(totals, &answers, aggregate).map(Some)
    }

    /// What the final aggregate groups by instead of `group`.
    fn group(&self, index: usize, group: &Expr, columns: &mut Vec<Expr>) -> Expr {
        if !is_of(group, self.points) || columns.contains(group) {
            return group.clone();
        }
        let name = format!("__group_{index}");
        columns.push(group.clone().alias(&name));
        Expr::Column(Column::new_unqualified(name))
    }
}

/// Where the answer of one function is among the totals.
struct Answer {
    function: Function,
    first: usize,
    second: usize,
}

impl Answer {
    /// Adds what the function needs to `columns` and `partials`, unless it is there; with sums of histograms, their bounds.
    fn of(
        function: Function,
        argument: Option<&Expr>,
        columns: &mut Vec<Expr>,
        partials: &mut Vec<(Partial, Option<Expr>)>,
    ) -> Result<Self> {
        let (argument, bounds) = match argument.filter(|_| function == Function::Histogram).and_then(histogram_columns)
        {
            Some(parts) => (Some(histogram::without_bounds(parts)?), Some(parts[histogram::BOUNDS].clone())),
            None => (argument.cloned(), None),
        };
        let of_rows = argument.is_none();
        let column = argument.map_or(0, |argument| {
            let known =
                columns.iter().position(|column| matches!(column, Expr::Alias(alias) if *alias.expr == argument));
            known.unwrap_or_else(|| {
                columns.push(argument.alias(format!("__argument_{}", columns.len())));
                columns.len() - 1
            })
        });
        let mut place = |kept| {
            let partial = (Partial { kept, column }, bounds.clone());
            partials.iter().position(|known| *known == partial).unwrap_or_else(|| {
                partials.push(partial);
                partials.len() - 1
            })
        };
        let (first, second) = match function {
            Function::Mean => (place(Kept::Sum), place(Kept::Count)),
            Function::Sum => (place(Kept::Sum), 0),
            Function::Min => (place(Kept::Min), 0),
            Function::Max => (place(Kept::Max), 0),
            Function::Count if of_rows => (place(Kept::Rows), 0),
            Function::Count => (place(Kept::Count), 0),
            Function::Histogram => (place(Kept::Histogram), 0),
        };
        Ok(Self { function, first, second })
    }

    fn expr(&self, total: impl Fn(usize) -> Expr) -> Expr {
        match self.function {
            // Without a value both are null or the sum is, and so is the mean.
            Function::Mean => total(self.first) / cast(total(self.second), DataType::Float64),
            Function::Count => coalesce(vec![total(self.first), lit(0i64)]),
            Function::Sum | Function::Min | Function::Max | Function::Histogram => total(self.first),
        }
    }
}

fn total(partial: Partial, bounds: Option<&Expr>, index: usize) -> Result<Expr> {
    let column = Expr::Column(Column::new_unqualified(partial_name(index)));
    Ok(match (partial.kept, bounds) {
        (_, Some(bounds)) => histogram::merged(&column, bounds)?,
        (Kept::Min, _) => min(column),
        (Kept::Max, _) => max(column),
        _ => sum(column),
    })
}

/// The columns of which `expr` makes a histogram.
fn histogram_columns(expr: &Expr) -> Option<&[Expr]> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let is_whole = call.func.name() == histogram::CONSTRUCTOR && call.args.len() == histogram::PARAMETERS.len();
    is_whole.then_some(&call.args)
}

/// The columns of `original`, computed from `totals`.
fn projected(totals: Aggregate, answers: &[Answer], original: &Aggregate) -> Result<LogicalPlan> {
    let group_count = original.group_expr.len();
    let column = |index: usize| Expr::Column(Column::from(totals.schema.qualified_field(index)));
    let groups = (0..group_count).map(column);
    let answers = answers.iter().map(|answer| answer.expr(|index| column(group_count + index)));
    let named = groups.chain(answers).enumerate().map(|(index, expr)| {
        let (qualifier, field) = original.schema.qualified_field(index);
        expr.alias_qualified(qualifier.cloned(), field.name())
    });
    let named = named.collect();
    Ok(LogicalPlan::Projection(Projection::try_new(named, Arc::new(LogicalPlan::Aggregate(totals)))?))
}

/// The function and its argument, if it can be computed from runs.
fn function(expr: &Expr) -> Option<(Function, Option<Expr>)> {
    let Expr::AggregateFunction(call) = expr.clone().unalias() else { return None };
    let params = call.params;
    if params.distinct || params.filter.is_some() || !params.order_by.is_empty() || params.args.len() != 1 {
        return None;
    }
    let argument = params.args.into_iter().next()?;
    let function = match call.func.name() {
        "avg" => Function::Mean,
        "count" => Function::Count,
        "sum" => Function::Sum,
        "min" => Function::Min,
        "max" => Function::Max,
        "histogram_merge" => Function::Histogram,
        _ => return None,
    };
    match argument {
        Expr::Literal(ScalarValue::Int64(Some(_)), _) if function == Function::Count => Some((function, None)),
        argument => Some((function, Some(argument))),
    }
}

/// The join below `plan`, and `exprs` over it.
fn lowered(mut plan: &LogicalPlan, mut exprs: Vec<Expr>) -> Option<(&Join, Vec<Expr>)> {
    loop {
        let below = |column: &Column| -> Option<Expr> {
            let index = plan.schema().maybe_index_of_column(column)?;
            Some(match plan {
                LogicalPlan::Projection(projection) => projection.expr[index].clone().unalias(),
                _ => Expr::Column(Column::from(plan.inputs().first()?.schema().qualified_field(index))),
            })
        };
        match plan {
            LogicalPlan::Join(join) => return Some((join, exprs)),
            LogicalPlan::Projection(projection) if projection.expr.iter().any(Expr::is_volatile) => return None,
            LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {
                exprs = exprs.into_iter().map(|expr| replaced(expr, below)).collect::<Option<_>>()?;
                plan = plan.inputs().first().copied()?;
            }
            _ => return None,
        }
    }
}

fn replaced(expr: Expr, below: impl Fn(&Column) -> Option<Expr>) -> Option<Expr> {
    let mut known = true;
    let replaced = expr.transform(|expr| {
        let Expr::Column(column) = &expr else { return Ok(Transformed::no(expr)) };
        let Some(new) = below(column) else {
            known = false;
            return Ok(Transformed::no(expr));
        };
        Ok(Transformed::yes(new))
    });
    replaced.ok().map(|replaced| replaced.data).filter(|_| known)
}

/// Whether `expr` is computed from columns of `plan` only, and at least one.
fn is_of(expr: &Expr, plan: &LogicalPlan) -> bool {
    let columns = expr.column_refs();
    !columns.is_empty() && columns.iter().all(|column| plan.schema().has_column(column))
}

/// Whether the rows of `plan` are points as the store scans them.
fn is_points(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(scan) => {
            scan.table_name.schema() == Some("raw") && ["samples", "histograms"].contains(&scan.table_name.table())
        }
        LogicalPlan::Filter(filter) => is_points(&filter.input),
        LogicalPlan::Projection(projection) => is_points(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => is_points(&alias.input),
        _ => false,
    }
}

/// Whether `key` of `plan` is the column `name` of `raw.series` or of a table of points, as the store scans it.
fn is_stored(plan: &LogicalPlan, key: &Expr, name: &str) -> bool {
    let Expr::Column(column) = key else { return false };
    let Some(index) = plan.schema().maybe_index_of_column(column) else { return false };
    match plan {
        LogicalPlan::TableScan(scan) => {
            let is_series = scan.table_name.schema() == Some("raw") && scan.table_name.table() == "series";
            column.name == name && (is_series || is_points(plan))
        }
        LogicalPlan::Projection(projection) => {
            is_stored(&projection.input, &projection.expr[index].clone().unalias(), name)
        }
        LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => plan.inputs().first().is_some_and(|input| {
            is_stored(input, &Expr::Column(Column::from(input.schema().qualified_field(index))), name)
        }),
        _ => false,
    }
}
