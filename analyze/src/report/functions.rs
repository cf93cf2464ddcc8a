//! `weekly_report(…)` and `gpu_waterfall(from, to)`: the figures of the report as tables.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::NaiveDate;
use chrono_tz::Tz;
use datafusion::{
    arrow::{
        array::RecordBatch,
        datatypes::{DataType, SchemaRef, TimeUnit},
    },
    catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider, streaming::StreamingTable},
    common::{ScalarValue, plan_datafusion_err, plan_err},
    error::{DataFusionError, Result},
    execution::{SendableRecordBatchStream, SessionState, TaskContext},
    logical_expr::{Expr, TableType},
    physical_plan::{ExecutionPlan, stream::RecordBatchStreamAdapter, streaming::PartitionStream},
    prelude::SessionContext,
};

use super::{FleetReport, WeeklyReport, WeeklyRequest, figures_of, json::rung_name};
use crate::{PriceBook, money::Money, result_table::ResultTable, window::Window};

/// Which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    /// A row per dimension and name.
    Weekly,
    /// A row per step of the waterfall.
    Waterfall,
}

/// A table function of the report.
#[derive(Debug)]
struct Function {
    table: Table,
    prices: Option<PriceBook>,
}

/// Adds `weekly_report` and `gpu_waterfall` to a session; `prices` are those of the reports.
pub fn register(ctx: &SessionContext, prices: Option<&PriceBook>) {
    for (name, table) in [("weekly_report", Table::Weekly), ("gpu_waterfall", Table::Waterfall)] {
        ctx.register_udtf(name, Arc::new(Function { table, prices: prices.cloned() }));
    }
}

impl TableFunctionImpl for Function {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let between = |from, to| Window::new(time_of(from)?, time_of(to)?).map_err(external);
        let (window, zone) = match (self.table, args.exprs()) {
            (Table::Weekly, [day]) => (week_of(day)?, Tz::UTC),
            (Table::Weekly, [from, to, zone]) => (between(from, to)?, zone_of(zone)?),
            (_, [from, to]) => (between(from, to)?, Tz::UTC),
            (Table::Weekly, _) => {
                return plan_err!(
                    "weekly_report takes a day, whose week it reports (Monday to Monday, UTC), or a start, an end, and the \
                     time zone of whose weeks they are one (UTC without)"
                );
            }
            (Table::Waterfall, _) => return plan_err!("gpu_waterfall takes the start and the end of a time range"),
        };
        let schema = match self.table {
            Table::Weekly => WeeklyReport::schema(),
            Table::Waterfall => waterfall_batch(0, &[]).map(|batch| batch.schema()),
        };
        // Nothing of the rows depends on the time at which they are asked for but for what is still to come.
        let request =
            WeeklyRequest { window, zone, prices: self.prices.clone(), holidays: vec![], now_us: window.end_us };
        Ok(Arc::new(ReportTable { table: self.table, schema: schema.map_err(external)?, request }))
    }
}

fn external(error: crate::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// UTC microseconds of an argument.
fn time_of(argument: &Expr) -> Result<i64> {
    let wrong =
        || plan_datafusion_err!("a report takes times, as '2026-11-16' or '2026-11-16T09:00:00Z'; not {argument}");
    let Expr::Literal(value, _) = argument else { return Err(wrong()) };
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    match value.cast_to(&utc).map_err(|_| wrong())? {
        ScalarValue::TimestampMicrosecond(Some(us), _) => Ok(us),
        _ => Err(wrong()),
    }
}

/// A time zone by its IANA name.
fn zone_of(argument: &Expr) -> Result<Tz> {
    let wrong =
        || plan_datafusion_err!("a report takes an IANA time zone, such as 'Europe/Berlin' or 'UTC'; not {argument}");
    let Expr::Literal(value, _) = argument else { return Err(wrong()) };
    let name = value.try_as_str().flatten().ok_or_else(wrong)?;
    name.parse().map_err(|_| wrong())
}

/// The week of a day, or of the name of a week.
fn week_of(argument: &Expr) -> Result<Window> {
    if let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = argument
        && text.contains("-W")
    {
        return Window::parse_week(text).map_err(external);
    }
    let time_us = time_of(argument)?;
    let day = chrono::DateTime::from_timestamp_micros(time_us).map(|time| time.date_naive());
    let week = |day: NaiveDate| Window::week_of(day, Tz::UTC);
    day.and_then(week).ok_or_else(|| plan_datafusion_err!("there is no week of {argument}"))
}

/// A report that is computed when its rows are asked for.
#[derive(Debug)]
struct ReportTable {
    table: Table,
    schema: SchemaRef,
    request: WeeklyRequest,
}

#[async_trait]
impl TableProvider for ReportTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(session) = state.as_any().downcast_ref::<SessionState>() else {
            return plan_err!("a report needs a session of its own kind");
        };
        let rows = ReportRows {
            table: self.table,
            schema: Arc::clone(&self.schema),
            request: self.request.clone(),
            ctx: SessionContext::new_with_state(session.clone()),
        };
        let table = StreamingTable::try_new(Arc::clone(&self.schema), vec![Arc::new(rows)])?;
        table.scan(state, projection, filters, limit).await
    }
}

/// The one partition of a report.
struct ReportRows {
    table: Table,
    schema: SchemaRef,
    request: WeeklyRequest,
    ctx: SessionContext,
}

impl std::fmt::Debug for ReportRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReportRows").field("table", &self.table).field("window", &self.request.window).finish()
    }
}

impl PartitionStream for ReportRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (ctx, request, table) = (self.ctx.clone(), self.request.clone(), self.table);
        let computed = async move {
            let report = figures_of(&ctx, &request).await.map_err(external)?;
            let batch = match table {
                Table::Weekly => report.to_batch(false),
                Table::Waterfall => waterfall_batch(request.now_us, &report.fleets),
            };
            batch.map_err(external)
        };
        let stream = futures::stream::once(computed);
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream))
    }
}

/// A row per fleet and step, and one for what has no telemetry.
fn waterfall_batch(now_us: i64, fleets: &[FleetReport]) -> crate::Result<RecordBatch> {
    type Step = (bool, &'static str, Option<f64>, Option<Money>, Option<f64>, Option<f64>);
    let mut steps: Vec<Step> = Vec::new();
    for fleet in fleets {
        let waterfall = &fleet.week.waterfall;
        steps.extend(waterfall.steps.iter().map(|step| {
            let lost = waterfall.lost_hours(step.rung);
            (fleet.simulated, rung_name(step.rung), step.hours, step.cost, step.coverage, lost)
        }));
        let (hours, cost) = (waterfall.no_telemetry_hours, waterfall.no_telemetry_cost);
        steps.push((fleet.simulated, "no telemetry", Some(hours), cost, None, None));
    }
    let mut table = ResultTable::new(now_us, steps.len());
    table
        .flags("simulated", steps.iter().map(|step| step.0))
        .texts("step", steps.iter().map(|step| Some(step.1.to_owned())))
        .numbers("gpu_hours", steps.iter().map(|step| step.2))
        .numbers("cost", steps.iter().map(|step| step.3.map(Money::units)))
        .numbers("coverage", steps.iter().map(|step| step.4))
        .numbers("lost_gpu_hours", steps.iter().map(|step| step.5));
    table.finish()
}
