//! The one session factory.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{
    catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider, TableProvider},
    datasource::ViewTable,
    error::DataFusionError,
    execution::{runtime_env::RuntimeEnvBuilder, session_state::SessionStateBuilder},
    logical_expr::ScalarUDF,
    prelude::{SessionConfig, SessionContext},
};
use driftwatt_store::Store;

use crate::{
    cardinality::cardinality_sql,
    catalog::{Shown, StoreSchema},
    config::Config,
    coverage::{Coverage, SERIES_SQL},
    day_of_time::DayOfTime,
    error::{Error, Result},
    joins_give_way::JoinsGiveWay,
    metrics_of_role::MetricsOfRole,
    question_log::QuestionLog,
    role_views::{role_series, role_warnings},
    roles::{RoleOf, RoleSuggestion, RoleTable, View},
    series_runs::{AggregateRunsFirst, RunsQueryPlanner},
    system::{Planned, SystemSchema, role_table},
    views,
};

/// A session over `store`: schemas `public` (views), `raw`, `system`, `reports`; one memory budget for all its queries.
///
/// # Errors
/// [`Error::Roles`] if the role table is wrong, [`Error::Internal`] if a view cannot be planned.
pub async fn session(store: &Arc<Store>, config: &Config) -> Result<SessionContext> {
    let mut options = SessionConfig::new()
        .with_default_catalog_and_schema("driftwatt", "public")
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true);
    let settings = options.options_mut();
    settings.execution.parquet.schema_force_view_types = false;
    settings.execution.parquet.pushdown_filters = true;
    settings.execution.parquet.reorder_filters = true;
    settings.execution.time_zone = Some("UTC".into());
    settings.sql_parser.map_string_types_to_utf8view = false;
    // Found there by whoever asks this session, and shown in `system.queries`.
    let questions = Arc::new(QuestionLog::default());
    options.set_extension(Arc::clone(&questions));
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_limit(config.memory_bytes, 1.0)
        .with_max_temp_directory_size(config.spill_bytes);
    let runtime = runtime.build_arc().map_err(Error::Internal)?;
    let state = SessionStateBuilder::new()
        .with_config(options)
        .with_runtime_env(runtime)
        .with_default_features()
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
    register(&ctx, store, system).map_err(Error::Internal)?;
    add_views(&ctx, &table, &planned).await.map_err(Error::Internal)?;
    add_functions(&ctx, store, &planned).await.map_err(Error::Internal)?;
    Ok(ctx)
}

fn register(ctx: &SessionContext, store: &Arc<Store>, system: SystemSchema) -> Result<(), DataFusionError> {
    let catalog = MemoryCatalogProvider::new();
    let schema = |shown| -> Arc<dyn SchemaProvider> { Arc::new(StoreSchema { store: Arc::clone(store), shown }) };
    catalog.register_schema("public", Arc::new(MemorySchemaProvider::new()))?;
    catalog.register_schema("raw", schema(Shown::Raw))?;
    catalog.register_schema("reports", schema(Shown::Reports))?;
    catalog.register_schema("system", Arc::new(system))?;
    ctx.register_catalog("driftwatt", Arc::new(catalog));
    Ok(())
}

async fn add_views(ctx: &SessionContext, table: &Arc<RoleTable>, planned: &Planned) -> Result<(), DataFusionError> {
    let function = RoleOf::new(table);
    ctx.register_udf(ScalarUDF::from(RoleOf::new(table)));
    ctx.register_udf(ScalarUDF::from(RoleSuggestion::new(table)));
    let mut definitions = vec![
        ("metrics", views::metrics()),
        ("histograms", views::histograms()),
        ("rejections", "SELECT * FROM raw.rejections".to_owned()),
    ];
    definitions.extend(View::ALL.iter().map(|view| (view.name(), views::roles(*view, table, &function))));
    for (name, sql) in definitions {
        ctx.register_table(name, view(ctx, &sql).await?)?;
    }
    ctx.register_table("roles", role_table(table)?)?;
    let of_system = [
        ("cardinality", cardinality_sql()),
        ("role_series", role_series(table, &function)),
        ("role_warnings", role_warnings(table, &function)),
    ];
    let mut views = BTreeMap::new();
    for (name, sql) in of_system {
        views.insert(name, view(ctx, &sql).await?);
    }
    planned.views.get_or_init(|| views);
    Ok(())
}

/// What can be planned only once the tables are there.
async fn add_functions(ctx: &SessionContext, store: &Arc<Store>, planned: &Planned) -> Result<(), DataFusionError> {
    let coverage = Arc::new(Coverage::new(store, ctx.state().create_logical_plan(SERIES_SQL).await?));
    ctx.register_udtf("coverage", Arc::clone(planned.coverage.get_or_init(|| coverage)) as _);
    Ok(())
}

async fn view(ctx: &SessionContext, sql: &str) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let plan = ctx.state().create_logical_plan(sql).await?;
    Ok(Arc::new(ViewTable::new(plan, Some(sql.to_owned()))))
}

#[cfg(test)]
mod tests;
