//! `raw.profiling`: the points of measures that a profiler of the GPU gives, and whether the profiler had lost its counters.
//!
//! The counters have one owner. When another tool takes them, exporters go on with zeros, which look like idleness. A zero
//! is *missing* where every profiling measure of the GPU is exactly 0 while its duty cycle is not: at the same moment, or
//! at all moments of the same five minutes. A measure of engine or multiprocessors must be among them; a tensor pipe alone
//! may well be unused.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::{
        Column, internal_datafusion_err,
        tree_node::{Transformed, TreeNode},
    },
    error::Result,
    execution::SessionState,
    logical_expr::{Expr, LogicalPlanBuilder, TableProviderFilterPushDown, TableType, utils::conjunction},
    physical_plan::ExecutionPlan,
};
use driftwatt_store::samples_schema;

use crate::{
    computed_table::{picks_whole_series, projected},
    roles::{Asked, RoleOf, RoleTable, View, is_profiling},
    time_bounds::TimeBounds,
    views::{resolved, with_device},
};

/// Its name.
pub(crate) const PROFILING_TABLE: &str = "raw.profiling";

const STEP_US: i64 = 300_000_000;

/// The table.
#[derive(Debug)]
pub(crate) struct ProfilingTable {
    /// Of series: those of the profiling measures, and these with the duty cycles.
    measures: String,
    with_duty: String,
    schema: SchemaRef,
}

impl ProfilingTable {
    pub(crate) fn new(table: &RoleTable, function: &RoleOf) -> Self {
        let profiling = table.definitions.iter().filter(|(_, definition)| is_profiling(definition));
        let roles = profiling.map(|(role, _)| format!("'{role}'")).chain(["'gpu.utilization'".to_owned()]);
        let reported = resolved(Asked::Reported(View::Gpu), table, function);
        let with_duty = format!("(SELECT * FROM {reported} WHERE role IN ({}))", roles.collect::<Vec<_>>().join(", "));
        let stored = samples_schema();
        let kept = ["metric", "series_id", "time", "value", "date"];
        let kept = kept.iter().filter_map(|name| stored.field_with_name(name).ok().cloned());
        let missing = Field::new("missing", DataType::Boolean, true);
        Self {
            measures: with_device(View::Gpu, &resolved(Asked::Profiling(View::Gpu), table, function)),
            with_duty: with_device(View::Gpu, &with_duty),
            schema: Arc::new(Schema::new(kept.chain([missing]).collect::<Vec<_>>())),
        }
    }

    /// The points within `bounds`, widened to whole steps.
    fn sql(&self, bounds: TimeBounds) -> String {
        let on = "s.series_id = d.series_id AND s.metric = d.metric AND s.date = d.date";
        let time = |us: i64| format!("arrow_cast({us}, 'Timestamp(Microsecond, Some(\"UTC\"))')");
        let first = bounds.first_us.map(|us| format!(" AND s.time >= {}", time(us - us.rem_euclid(STEP_US))));
        let last = bounds.last_us.map(|us| format!(" AND s.time < {}", time(us - us.rem_euclid(STEP_US) + STEP_US)));
        let within = [first, last].into_iter().flatten().collect::<String>();
        let of_measures = "d.role <> 'gpu.utilization'";
        let moments = format!(
            "SELECT d.derived_device AS device, s.time, max(CASE WHEN {of_measures} THEN s.value END) AS active, \
             max(CASE WHEN d.role = 'gpu.utilization' THEN s.value END) AS busy, \
             max(CASE WHEN d.rung IN ('engine_active', 'sm_active') THEN 1 END) AS told \
             FROM {} d JOIN raw.samples s ON {on} \
             WHERE (d.blank_from IS NULL OR s.value < d.blank_from){within} GROUP BY 1, 2",
            self.with_duty
        );
        let step = "PARTITION BY device, date_bin(INTERVAL '5 minutes', time)";
        let lost = format!(
            "SELECT device, time FROM (SELECT *, max(active) OVER ({step}) AS step_active, \
             max(busy) OVER ({step}) AS step_busy, max(told) OVER ({step}) AS step_told FROM ({moments})) \
             WHERE (told = 1 AND active = 0 AND busy > 0) OR (step_told = 1 AND step_active = 0 AND step_busy > 0)"
        );
        // The moments stand on the left: the engine keeps that side in memory.
        format!(
            "SELECT p.metric, p.series_id, p.time, p.value, p.date, p.value = 0 AND l.device IS NOT NULL AS missing \
             FROM ({lost}) l RIGHT JOIN (SELECT s.metric, s.series_id, s.time, s.value, s.date, d.derived_device AS device \
             FROM {} d JOIN raw.samples s ON {on} WHERE true{within}) p ON l.device = p.device AND l.time = p.time",
            self.measures
        )
    }
}

#[async_trait]
impl TableProvider for ProfilingTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let session = state.as_any().downcast_ref::<SessionState>();
        let session =
            session.ok_or_else(|| internal_datafusion_err!("{PROFILING_TABLE} needs a session that plans SQL"))?;
        let mut plan = session.create_logical_plan(&self.sql(TimeBounds::of(filters))).await?;
        let filters = filters.iter().filter(|filter| picks_whole_series(filter)).map(unqualified);
        let filters = filters.collect::<Result<Vec<_>>>()?;
        if let Some(filter) = conjunction(filters) {
            plan = LogicalPlanBuilder::from(plan).filter(filter)?.build()?;
        }
        projected(session.create_physical_plan(&plan).await?, projection)
    }
}

/// `filter` over columns of whatever table.
fn unqualified(filter: &Expr) -> Result<Expr> {
    let plain = filter.clone().transform(|expr| match expr {
        Expr::Column(column) => Ok(Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))),
        other => Ok(Transformed::no(other)),
    })?;
    Ok(plain.data)
}
