//! The one session factory.

use std::sync::Arc;

use arrow::{
    array::{Float64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use datafusion::{
    catalog::{CatalogProvider, MemTable, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider},
    datasource::ViewTable,
    error::DataFusionError,
    execution::runtime_env::RuntimeEnvBuilder,
    prelude::{SessionConfig, SessionContext},
};
use driftwatt_store::Store;

use crate::{
    catalog::{Shown, StoreSchema},
    config::Config,
    error::{Error, Result},
    roles::{Role, View, roles},
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
    let runtime = RuntimeEnvBuilder::new().with_memory_limit(config.memory_bytes, 1.0);
    let runtime = runtime.build_arc().map_err(Error::Internal)?;
    let ctx = SessionContext::new_with_config_rt(options, runtime);
    register(&ctx, store).await.map_err(Error::Internal)?;
    add_views(&ctx, roles()?).await.map_err(Error::Internal)?;
    Ok(ctx)
}

async fn register(ctx: &SessionContext, store: &Arc<Store>) -> Result<(), DataFusionError> {
    let catalog = MemoryCatalogProvider::new();
    let schema = |shown| -> Arc<dyn SchemaProvider> { Arc::new(StoreSchema { store: Arc::clone(store), shown }) };
    catalog.register_schema("public", Arc::new(MemorySchemaProvider::new()))?;
    catalog.register_schema("raw", schema(Shown::Raw))?;
    catalog.register_schema("reports", schema(Shown::Reports))?;
    catalog.register_schema("system", schema(Shown::System))?;
    ctx.register_catalog("driftwatt", Arc::new(catalog));
    Ok(())
}

async fn add_views(ctx: &SessionContext, table: &[Role]) -> Result<(), DataFusionError> {
    let mut definitions = vec![
        ("metrics", views::metrics()),
        ("histograms", views::histograms()),
        ("rejections", "SELECT * FROM raw.rejections".to_owned()),
    ];
    definitions.extend(View::ALL.iter().map(|view| (view.name(), views::roles(*view, table))));
    for (name, sql) in definitions {
        let plan = ctx.state().create_logical_plan(&sql).await?;
        ctx.register_table(name, Arc::new(ViewTable::new(plan, Some(sql))))?;
    }
    ctx.register_table("roles", Arc::new(role_table(table)?))?;
    Ok(())
}

/// `roles`: the vocabulary as a table.
fn role_table(table: &[Role]) -> Result<MemTable, DataFusionError> {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let schema = Arc::new(Schema::new(vec![
        text("metric"),
        text("conditions"),
        text("view"),
        text("role"),
        text("unit"),
        Field::new("scale", DataType::Float64, false),
    ]));
    let column = |pick: &dyn Fn(&Role) -> String| Arc::new(StringArray::from_iter_values(table.iter().map(pick)));
    let conditions = |role: &Role| {
        let pairs = role.when.iter().map(|(key, value)| format!("{key}={value}"));
        pairs.collect::<Vec<_>>().join(",")
    };
    let batch = RecordBatch::try_new(
        Arc::clone(&schema),
        vec![
            column(&|role| role.metric.clone()),
            column(&conditions),
            column(&|role| role.view.name().to_owned()),
            column(&|role| role.role.clone()),
            column(&|role| role.unit.clone()),
            Arc::new(Float64Array::from_iter_values(table.iter().map(|role| role.scale))),
        ],
    )?;
    MemTable::try_new(schema, vec![vec![batch]])
}

#[cfg(test)]
mod tests;
