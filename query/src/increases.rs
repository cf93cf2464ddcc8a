//! `raw.increases` and `raw.histogram_increases`: the points as received, each with what its counter gained since the point
//! before.
//!
//! Nothing is known here of the temporality of a series and of what it counts since; whoever joins these tables with the
//! series decides by both (`views::derived`).

mod counter;
mod increases_exec;

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::plan_datafusion_err,
    datasource::provider_as_source,
    error::Result,
    logical_expr::{
        Expr, LogicalPlan, LogicalPlanBuilder, TableProviderFilterPushDown, TableType, lit, utils::conjunction,
    },
    physical_plan::ExecutionPlan,
    prelude::col,
};
use driftwatt_store::{Store, histograms_schema, samples_schema};

use crate::{
    computed_table::{picks_whole_series, projected},
    table_order::in_table_order,
    time_bounds::{TimeBounds, date, time},
};
use increases_exec::IncreasesExec;

pub(crate) use counter::SPAN_US;

/// Which points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Points {
    Samples,
    Histograms,
}

impl Points {
    pub(crate) const ALL: [Self; 2] = [Self::Samples, Self::Histograms];

    /// Its name in `raw`.
    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::Samples => "increases",
            Self::Histograms => "histogram_increases",
        }
    }

    fn stored(self) -> &'static str {
        match self {
            Self::Samples => "samples",
            Self::Histograms => "histograms",
        }
    }

    /// The columns that count up; null in a marker.
    fn amounts(self) -> &'static [&'static str] {
        match self {
            Self::Samples => &["value"],
            Self::Histograms => &["count", "sum"],
        }
    }

    /// The columns of the stored table that are kept.
    fn columns(self) -> impl Iterator<Item = &'static str> {
        ["metric", "series_id", "start_time", "time", "date"].into_iter().chain(self.amounts().iter().copied())
    }

    /// What is kept, then `since` (time of the point before), `begun` (the source says that it started after that), `reset`
    /// (it fell), and the increase of each amount, which is null without a point before.
    fn schema(self) -> SchemaRef {
        static SCHEMAS: LazyLock<[SchemaRef; 2]> = LazyLock::new(|| Points::ALL.map(schema));
        Arc::clone(&SCHEMAS[self as usize])
    }
}

fn schema(points: Points) -> SchemaRef {
    let stored = match points {
        Points::Samples => samples_schema(),
        Points::Histograms => histograms_schema(),
    };
    let kept = points.columns().filter_map(|name| stored.field_with_name(name).ok().cloned());
    let since = Field::new("since", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true);
    let flags = ["begun", "reset"].map(|name| Field::new(name, DataType::Boolean, false));
    let gained = match points {
        Points::Samples => vec![Field::new("increase", DataType::Float64, true)],
        Points::Histograms => vec![
            Field::new("count_increase", DataType::Int64, true),
            Field::new("sum_increase", DataType::Float64, true),
        ],
    };
    Arc::new(Schema::new(kept.chain([since]).chain(flags).chain(gained).collect::<Vec<_>>()))
}

/// One of the two tables.
#[derive(Debug)]
pub(crate) struct IncreasesTable {
    pub(crate) store: Arc<Store>,
    pub(crate) points: Points,
}

impl IncreasesTable {
    /// The points in table order that `filters` need: those asked for and the ones just before them.
    fn plan(&self, filters: &[Expr]) -> Result<LogicalPlan> {
        let table = self.points.stored();
        let missing = || plan_datafusion_err!("table {table} does not exist");
        let provider = self.store.table_in_order(table).ok_or_else(missing)?;
        let mut needed: Vec<Expr> = filters.iter().filter(|filter| picks_whole_series(filter)).cloned().collect();
        let bounds = TimeBounds::of(filters);
        if let Some(first_us) = bounds.first_us.map(|first_us| first_us.saturating_sub(SPAN_US)) {
            needed.extend([col("time").gt_eq(lit(time(first_us))), col("date").gt_eq(lit(date(first_us)))]);
        }
        if let Some(last_us) = bounds.last_us {
            needed.extend([col("time").lt_eq(lit(time(last_us))), col("date").lt_eq(lit(date(last_us)))]);
        }
        let scan = LogicalPlanBuilder::scan(table, provider_as_source(provider), None)?;
        let scan = if let Some(needed) = conjunction(needed) { scan.filter(needed)? } else { scan };
        scan.project(self.points.columns().map(col))?.sort(in_table_order())?.build()
    }
}

#[async_trait]
impl TableProvider for IncreasesTable {
    fn schema(&self) -> SchemaRef {
        self.points.schema()
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
        let points = state.create_physical_plan(&self.plan(filters)?).await?;
        projected(Arc::new(IncreasesExec::new(points, self.points)), projection)
    }
}
