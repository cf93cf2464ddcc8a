//! The one session factory.

use std::{collections::BTreeMap, num::NonZeroUsize, sync::Arc};

use datafusion::{
    catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider},
    common::internal_datafusion_err,
    error::DataFusionError,
    execution::{
        memory_pool::{MemoryPool, TrackConsumersPool},
        runtime_env::RuntimeEnvBuilder,
        session_state::SessionStateBuilder,
    },
    logical_expr::ScalarUDF,
    optimizer::{Optimizer, OptimizerRule},
    prelude::{SessionConfig, SessionContext},
};
use driftwatt_store::Store;

use crate::{
    arms_of_role::ArmsOfRole,
    cardinality::cardinality_sql,
    catalog::{Shown, StoreSchema},
    comments::{columns_sql, comment_function},
    config::Config,
    coverage::{Coverage, SERIES_SQL},
    day_of_time::DayOfTime,
    error::{Error, Result},
    functions,
    joins_give_way::JoinsGiveWay,
    metrics_of_role::MetricsOfRole,
    profiling::ProfilingTable,
    query_memory::QueryMemory,
    question_log::QuestionLog,
    role_views::{role_series, role_warnings},
    roles::{RoleOf, RoleSuggestion, RoleTable, View, claims_function},
    series_runs::{AggregateRunsFirst, RunsQueryPlanner},
    system::{Planned, SystemSchema, role_table},
    view_schema::{ViewSchema, Views},
    views,
};

/// Part of the memory of queries that their operators may account for. While a block of one grows, the old one stands beside
/// the new, and what it hands on beside what it holds: neither is in its account.
const ACCOUNTED_PART: f64 = 2.0 / 3.0;

/// Holders of memory named in an error that there is too little of it.
const HOLDERS_SHOWN: NonZeroUsize = NonZeroUsize::new(5).unwrap();

/// Longest list of metrics by which a scan leaves out files and series; the shipped roles have up to a few dozen.
const METRICS_OF_ROLE_MAX: usize = 256;

const CATALOG: &str = "driftwatt";

/// What the parser and the planner find free of the stack, or they go on on one of their own: one level of a nested query takes
/// more than their default in a build without optimisation.
const STACK_BYTES_MIN: usize = 1 << 20;

/// A session over `store`: schemas `public` (views), `raw`, `system`, `reports`; one memory budget for all its queries.
///
/// # Errors
/// [`Error::Roles`] if the role table is wrong, [`Error::Internal`] if the session cannot be made.
pub async fn session(store: &Arc<Store>, config: &Config) -> Result<SessionContext> {
    recursive::set_minimum_stack_size(STACK_BYTES_MIN);
    let mut options = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, "public")
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true);
    let settings = options.options_mut();
    settings.execution.parquet.schema_force_view_types = false;
    settings.execution.parquet.pushdown_filters = true;
    settings.execution.parquet.reorder_filters = true;
    // A role has more metrics than the default lets a scan rule out.
    settings.execution.parquet.max_in_list_size = METRICS_OF_ROLE_MAX;
    settings.execution.time_zone = Some("UTC".into());
    settings.sql_parser.map_string_types_to_utf8view = false;
    // DataFusion 55.2 gives two expressions one name when it moves `attributes['…']` below a view that computes points from counters, and
    // the query fails ("duplicate unqualified field name"). A map has no columns of its own to leave out, so nothing is lost.
    settings.optimizer.enable_leaf_expression_pushdown = false;
    // Found there by whoever asks this session, and shown in `system.queries`.
    let questions = Arc::new(QuestionLog::default());
    options.set_extension(Arc::clone(&questions));
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(memory_pool(config.memory_bytes))
        .with_max_temp_directory_size(config.spill_bytes);
    let runtime = runtime.build_arc().map_err(Error::Internal)?;
    let arms: Arc<dyn OptimizerRule + Send + Sync> = Arc::new(ArmsOfRole);
    let rules = std::iter::once(arms).chain(Optimizer::new().rules).collect();
    let state = SessionStateBuilder::new()
        .with_config(options)
        .with_runtime_env(runtime)
        .with_default_features()
        .with_optimizer_rules(rules)
        .with_query_planner(Arc::new(RunsQueryPlanner))
        .with_physical_optimizer_rule(Arc::new(JoinsGiveWay))
        .build();
    let ctx = SessionContext::new_with_state(state);
    ctx.add_optimizer_rule(Arc::new(DayOfTime));
    ctx.add_optimizer_rule(Arc::new(MetricsOfRole));
    ctx.add_optimizer_rule(Arc::new(AggregateRunsFirst));
    let table = config.roles.as_ref().map_or_else(RoleTable::shipped, |table| Ok(Arc::clone(table)))?;
    let planned = Arc::new(Planned::default());
    let system = SystemSchema::new(store, config, &table, &planned, questions).map_err(Error::Internal)?;
    register(&ctx, store, &table, system).map_err(Error::Internal)?;
    add_views(&ctx, &table, &planned).map_err(Error::Internal)?;
    add_functions(&ctx, store, &planned).await.map_err(Error::Internal)?;
    functions::register(&ctx).map_err(Error::Internal)?;
    Ok(ctx)
}

fn memory_pool(bytes: usize) -> Arc<dyn MemoryPool> {
    let accounted = (bytes as f64 * ACCOUNTED_PART) as usize;
    Arc::new(TrackConsumersPool::new(QueryMemory::of_all(accounted), HOLDERS_SHOWN))
}

fn register(
    ctx: &SessionContext,
    store: &Arc<Store>,
    table: &Arc<RoleTable>,
    system: SystemSchema,
) -> Result<(), DataFusionError> {
    let catalog = MemoryCatalogProvider::new();
    let profiling = Arc::new(ProfilingTable::new(table, &RoleOf::new(table)));
    let schema = |shown| -> Arc<dyn SchemaProvider> {
        Arc::new(StoreSchema { store: Arc::clone(store), shown, profiling: Arc::clone(&profiling) })
    };
    catalog.register_schema("raw", schema(Shown::Raw))?;
    catalog.register_schema("reports", schema(Shown::Reports))?;
    catalog.register_schema("system", Arc::new(system))?;
    ctx.register_catalog(CATALOG, Arc::new(catalog));
    Ok(())
}

fn add_views(ctx: &SessionContext, table: &Arc<RoleTable>, planned: &Planned) -> Result<(), DataFusionError> {
    let function = RoleOf::new(table);
    ctx.register_udf(ScalarUDF::from(RoleOf::new(table)));
    ctx.register_udf(ScalarUDF::from(RoleSuggestion::new(table)));
    ctx.register_udwf(claims_function());
    ctx.register_udf(comment_function());
    let mut public = BTreeMap::from([
        ("metrics", views::metrics()),
        ("histograms", views::histograms()),
        ("rejections", "SELECT * FROM raw.rejections".to_owned()),
    ]);
    public.extend(View::ALL.iter().map(|view| (view.name(), views::roles(*view, table, &function))));
    let of_system = BTreeMap::from([
        ("cardinality", cardinality_sql()),
        ("columns", columns_sql()),
        ("gpu_series", views::gpu_series(table, &function)),
        ("role_series", role_series(table, &function)),
        ("role_warnings", role_warnings(table, &function)),
    ]);
    planned.views.get_or_init(|| Views::new(ctx, of_system));
    let public = ViewSchema { views: Views::new(ctx, public), tables: MemorySchemaProvider::new() };
    public.register_table("roles".to_owned(), role_table(table)?)?;
    let catalog = ctx.catalog(CATALOG).ok_or_else(|| internal_datafusion_err!("the catalog {CATALOG} is gone"))?;
    catalog.register_schema("public", Arc::new(public))?;
    Ok(())
}

/// What can be planned only once the tables are there.
async fn add_functions(ctx: &SessionContext, store: &Arc<Store>, planned: &Planned) -> Result<(), DataFusionError> {
    let coverage = Arc::new(Coverage::new(store, ctx.state().create_logical_plan(SERIES_SQL).await?));
    ctx.register_udtf("coverage", Arc::clone(planned.coverage.get_or_init(|| coverage)) as _);
    Ok(())
}

#[cfg(test)]
mod tests;
