//! `coverage(from, to)` and `system.coverage`: what was received of each series, and what was expected.

mod coverage_exec;
mod series_gaps;

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider},
    common::{Column, JoinType, ScalarValue, plan_datafusion_err, plan_err},
    datasource::{ViewTable, provider_as_source},
    error::Result,
    logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableProviderFilterPushDown, TableType, utils::conjunction},
    physical_plan::{ExecutionPlan, union::UnionExec},
    prelude::{col, lit},
};
use driftwatt_store::Store;

use crate::{
    computed_table::{picks_whole_series, projected},
    table_order::{TABLE_ORDER, in_table_order},
    time_bounds::{self, DAY_US},
};
use coverage_exec::{CoverageExec, coverage_schema};

/// The tables of points, and the column that is null in a marker, a row that ends its series.
const POINTS: [(&str, &str); 2] = [("samples", "value"), ("histograms", "count")];

/// Of `raw.series`: what says which series a row of the answer is about.
pub(crate) const SERIES_SQL: &str = "SELECT date, metric, series_id, kind, unit, temporality, service_name, \
     service_instance_id, host_name, k8s_namespace, k8s_pod, gpu_id, gpu_model, model_name, model_version, \
     deployment_environment, attributes, team, region FROM raw.series";

/// A span of time, UTC microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    start_us: i64,
    /// Not part of it.
    end_us: i64,
}

/// The table function.
#[derive(Debug)]
pub(crate) struct Coverage {
    store: Arc<Store>,
    /// [`SERIES_SQL`], planned.
    series: LogicalPlan,
}

fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_micros() as i64)
}

fn time(us: i64) -> Expr {
    lit(time_bounds::time(us))
}

fn date(us: i64) -> Expr {
    lit(time_bounds::date(us))
}

impl Coverage {
    pub(crate) fn new(store: &Arc<Store>, series: LogicalPlan) -> Self {
        Self { store: Arc::clone(store), series }
    }

    /// The last 24 hours.
    pub(crate) fn of_last_day(&self) -> Result<Arc<dyn TableProvider>> {
        let end_us = now_us();
        self.within(Window { start_us: end_us - DAY_US, end_us })
    }

    /// The series with a point in `window`, each with the labels that it had on the day of its last point.
    fn within(&self, window: Window) -> Result<Arc<dyn TableProvider>> {
        let points: Arc<dyn TableProvider> = Arc::new(SeriesCoverageTable { store: Arc::clone(&self.store), window });
        let days = col("date").gt_eq(date(window.start_us)).and(col("date").lt_eq(date(window.end_us)));
        let series = LogicalPlanBuilder::new(self.series.clone()).filter(days)?.alias("d")?.build()?;
        let keys = ["series_id", "metric", "date"];
        let of = |table: &str| keys.map(|key| Column::new(Some(table.to_owned()), key)).to_vec();
        let of_points = coverage_schema();
        let of_points = of_points.fields().iter().map(|field| field.name()).filter(|name| *name != "date");
        let columns = of_points.map(|name| col(Column::new(Some("c"), name)));
        let labels = series.schema().columns().into_iter().filter(|label| !keys.contains(&label.name.as_str()));
        let columns: Vec<Expr> = columns.chain(labels.map(col)).collect();
        // The small side first: the engine builds its hash table from it.
        let joined = LogicalPlanBuilder::scan("c", provider_as_source(points), None)?
            .join(series, JoinType::Inner, (of("c"), of("d")), None)?
            .project(columns)?
            .build()?;
        Ok(Arc::new(ViewTable::new(joined, None)))
    }
}

impl TableFunctionImpl for Coverage {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let now_us = now_us();
        let (start_us, end_us) = match args.exprs() {
            [start] => (time_of(start)?, now_us),
            [start, end] => (time_of(start)?, time_of(end)?),
            _ => return plan_err!("coverage takes the start of a time range, and its end, which is now without one"),
        };
        if start_us >= end_us {
            return plan_err!("the time range of coverage is empty: its start is not before its end");
        }
        // What is not over yet cannot be missing.
        self.within(Window { start_us, end_us: end_us.min(now_us).max(start_us) })
    }
}

/// UTC microseconds of an argument.
fn time_of(argument: &Expr) -> Result<i64> {
    let wrong =
        || plan_datafusion_err!("coverage takes times, as '2026-11-24' or now() - INTERVAL '1 day'; not {argument}");
    let Expr::Literal(value, _) = argument else { return Err(wrong()) };
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    match value.cast_to(&utc).map_err(|_| wrong())? {
        ScalarValue::TimestampMicrosecond(Some(us), _) => Ok(us),
        _ => Err(wrong()),
    }
}

/// One row of each series with a point in the window, without labels.
#[derive(Debug)]
struct SeriesCoverageTable {
    store: Arc<Store>,
    window: Window,
}

impl SeriesCoverageTable {
    /// The points of a table in table order, narrowed to `filters`.
    fn points(&self, table: &str, value: &str, filters: &[Expr]) -> Result<LogicalPlan> {
        let missing = || plan_datafusion_err!("table {table} does not exist");
        let provider = self.store.table_in_order(table).ok_or_else(missing)?;
        let Window { start_us, end_us } = self.window;
        let times = col("time").gt_eq(time(start_us)).and(col("time").lt(time(end_us)));
        let days = col("date").gt_eq(date(start_us)).and(col("date").lt_eq(date(end_us)));
        let filter = conjunction(filters.to_vec()).map_or(times.clone(), |asked| asked.and(times));
        let [metric, series_id, time] = TABLE_ORDER;
        LogicalPlanBuilder::scan(table, provider_as_source(provider), None)?
            .filter(filter.and(days))?
            .project([metric, series_id, time, value].map(col))?
            .sort(in_table_order())?
            .build()
    }
}

#[async_trait]
impl TableProvider for SeriesCoverageTable {
    fn schema(&self) -> SchemaRef {
        coverage_schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let of = |filter: &&Expr| match picks_whole_series(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(of).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut tables: Vec<Arc<dyn ExecutionPlan>> = Vec::new();
        for (table, value) in POINTS {
            let points = state.create_physical_plan(&self.points(table, value, filters)?).await?;
            tables.push(Arc::new(CoverageExec::new(points, self.window.end_us)));
        }
        projected(UnionExec::try_new(tables)?, projection)
    }
}

#[cfg(test)]
mod tests;
