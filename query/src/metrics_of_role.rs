//! Metrics from roles: what is asked of the role of a series bounds the metrics that are read.
//!
//! A role view finds roles on `raw.series`. Without this rule a question about one role would read the points of every
//! metric, and drop most of them in the join.

use std::sync::Arc;

use datafusion::{
    common::{Column, ScalarValue, tree_node::Transformed},
    error::Result,
    logical_expr::{
        BinaryExpr, EmptyRelation, Expr, Filter, Join, JoinType, LogicalPlan, Operator, Projection, SubqueryAlias,
        Window, expr::InList, lit, utils::split_conjunction,
    },
    optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule},
};

use crate::{
    origin::origin_of,
    roles::{Asked, Metrics, RoleOf},
};

/// The rule. It runs after predicates have reached the scans; the next pass pushes down what it adds.
#[derive(Debug)]
pub(crate) struct MetricsOfRole;

impl OptimizerRule for MetricsOfRole {
    fn name(&self) -> &str {
        "metrics_of_role"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Join(join) if join.join_type == JoinType::Inner => bound_points(join),
            LogicalPlan::Filter(filter) => bound_series(filter),
            other => Ok(Transformed::no(other)),
        }
    }
}

/// The points joined to series whose role is asked for.
fn bound_points(mut join: Join) -> Result<Transformed<LogicalPlan>> {
    let right = join.on.iter().find_map(|(left, right)| match (left, right) {
        (Expr::Column(left), Expr::Column(right)) if left.name == "metric" && right.name == "metric" => {
            Some(right.clone())
        }
        _ => None,
    });
    let (Some(metric), Some(names)) = (right, metrics_asked(&join.left)) else {
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    };
    if names.is_empty() {
        // No series can have such a role.
        let schema = Arc::clone(&join.schema);
        return Ok(Transformed::yes(LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema })));
    }
    if filters_metric(&join.right) {
        return Ok(Transformed::no(LogicalPlan::Join(join)));
    }
    join.right = Arc::new(LogicalPlan::Filter(Filter::try_new(one_of(metric, &names), Arc::clone(&join.right))?));
    Ok(Transformed::yes(LogicalPlan::Join(join)))
}

/// The series themselves: a hint to their scan, which may read fewer files; the predicate on the role stays.
fn bound_series(mut filter: Filter) -> Result<Transformed<LogicalPlan>> {
    let asked = metrics_of(&filter.predicate, &filter.input).filter(|_| !filters_metric(&filter.input));
    let bounded = asked.filter(|_| !names_metric(&filter.predicate)).map(|names| scan_bounded(&filter.input, &names));
    let Some(input) = bounded.transpose()?.flatten() else {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    };
    filter.input = Arc::new(input);
    Ok(Transformed::yes(LogicalPlan::Filter(filter)))
}

/// `plan` with a scan of `metrics` only; nothing where a row depends on others on the way from the scan.
fn scan_bounded(plan: &LogicalPlan, metrics: &Metrics) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let mut scan = scan.clone();
            scan.filters.push(one_of(Column::new(Some(scan.table_name.clone()), "metric"), metrics));
            Ok(Some(LogicalPlan::TableScan(scan)))
        }
        LogicalPlan::Filter(Filter { input, .. })
        | LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. })
        | LogicalPlan::Projection(Projection { input, .. }) => {
            let Some(input) = scan_bounded(input, metrics)? else { return Ok(None) };
            plan.with_new_exprs(plan.expressions(), vec![input]).map(Some)
        }
        _ => Ok(None),
    }
}

fn one_of(metric: Column, metrics: &Metrics) -> Expr {
    let metric = Expr::Column(metric);
    let names = metric.clone().in_list(metrics.names.iter().map(|name| lit(name.as_str())).collect(), false);
    metrics.prefixes.iter().fold(names, |names, prefix| {
        // A range, unlike LIKE, needs no escapes and prunes files as an equality does.
        let end = format!("{prefix}\u{10ffff}");
        names.or(metric.clone().gt_eq(lit(prefix.as_str())).and(metric.clone().lt_eq(lit(end))))
    })
}

/// The metrics that the predicates on the role leave of the column `metric` of `plan`.
fn metrics_asked(plan: &LogicalPlan) -> Option<Metrics> {
    // Only on the way of the column from its scan; elsewhere a predicate is about other rows.
    match plan {
        LogicalPlan::Filter(filter) => {
            metrics_of(&filter.predicate, &filter.input).or_else(|| metrics_asked(&filter.input))
        }
        LogicalPlan::TableScan(scan) => scan.filters.iter().find_map(|predicate| metrics_of(predicate, plan)),
        LogicalPlan::SubqueryAlias(alias) => metrics_asked(&alias.input),
        LogicalPlan::Window(window) => metrics_asked(&window.input),
        // What the left side is joined with here has no column of that name.
        LogicalPlan::Join(join) if join.join_type == JoinType::Left && !has_metric(&join.right) => {
            metrics_asked(&join.left)
        }
        LogicalPlan::Projection(projection) => {
            let place = projection.schema.fields().iter().position(|field| field.name() == "metric")?;
            let passed = projection.expr.get(place).map(|expr| expr.clone().unalias());
            passed.as_ref().filter(|expr| is_metric(expr)).and_then(|_| metrics_asked(&projection.input))
        }
        _ => None,
    }
}

/// What the parts of `predicate` over `plan` leave of its metrics.
fn metrics_of(predicate: &Expr, plan: &LogicalPlan) -> Option<Metrics> {
    let asked = || split_conjunction(predicate).into_iter().find_map(|part| of_role(part, plan));
    has_one_scan(plan).then(asked).flatten()
}

/// Whether every row of `plan` is one of a scan, so that its role and its metric are of the same series.
fn has_one_scan(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(_) => true,
        LogicalPlan::Filter(Filter { input, .. })
        | LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. })
        | LogicalPlan::Window(Window { input, .. })
        | LogicalPlan::Projection(Projection { input, .. }) => has_one_scan(input),
        _ => false,
    }
}

/// `role = 'x'`, or `IN ('x', 'y')`, where `role` is `get_field(role_of('view', …), 'role')`.
fn of_role(predicate: &Expr, plan: &LogicalPlan) -> Option<Metrics> {
    let (field, values): (&Expr, Vec<&Expr>) = match predicate {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match right.as_ref() {
            Expr::Literal(..) => (left, vec![right]),
            _ => (right, vec![left]),
        },
        // The optimizer writes short lists as `a OR b`.
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let (mut metrics, more) = (of_role(left, plan)?, of_role(right, plan)?);
            metrics.names.extend(more.names);
            metrics.prefixes.extend(more.prefixes);
            return Some(metrics);
        }
        Expr::InList(InList { expr, list, negated: false }) => (expr, list.iter().collect()),
        _ => return None,
    };
    let field = origin_of(plan, field)?;
    let (role_of, asked) = role_field(&field)?;
    let roles = values.into_iter().map(|value| if let Expr::Literal(value, _) = value { text(value) } else { None });
    let roles = roles.collect::<Option<Vec<_>>>()?;
    Some(role_of.table().metrics_of(asked, &roles))
}

/// The function and what it is asked in `get_field(role_of('asked', …), 'role')`.
pub(crate) fn role_field(field: &Expr) -> Option<(&RoleOf, Asked)> {
    let Expr::ScalarFunction(field) = field else { return None };
    let [Expr::ScalarFunction(role), Expr::Literal(name, _)] = field.args.as_slice() else { return None };
    if field.func.name() != "get_field" || text(name) != Some("role") {
        return None;
    }
    let [Expr::Literal(view, _), metric, ..] = role.args.as_slice() else { return None };
    let asked = text(view).filter(|_| is_metric(metric)).and_then(Asked::parse)?;
    Some((role.func.inner().downcast_ref::<RoleOf>()?, asked))
}

fn text(value: &ScalarValue) -> Option<&str> {
    value.try_as_str().flatten()
}

/// Whether a predicate below `plan` compares the metric.
pub(crate) fn filters_metric(plan: &LogicalPlan) -> bool {
    let here = match plan {
        LogicalPlan::Filter(filter) => names_metric(&filter.predicate),
        LogicalPlan::TableScan(scan) => scan.filters.iter().any(names_metric),
        _ => false,
    };
    here || plan.inputs().into_iter().any(filters_metric)
}

/// Whether a predicate compares the metric itself.
fn names_metric(predicate: &Expr) -> bool {
    split_conjunction(predicate).into_iter().any(|part| match part {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => names_metric(left) && names_metric(right),
        Expr::BinaryExpr(BinaryExpr { left, right, .. }) => is_metric(left) || is_metric(right),
        Expr::InList(list) => is_metric(&list.expr),
        _ => false,
    })
}

fn has_metric(plan: &LogicalPlan) -> bool {
    plan.schema().fields().iter().any(|field| field.name() == "metric")
}

fn is_metric(expr: &Expr) -> bool {
    matches!(expr, Expr::Column(column) if column.name == "metric")
}
