//! The session of each connection: that of the factory, with the catalog and the functions of PostgreSQL.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{
    catalog::{CatalogProvider as _, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList},
    config::Dialect,
    error::DataFusionError,
    execution::{context::SessionState, runtime_env::RuntimeEnv, session_state::SessionStateBuilder},
    prelude::SessionContext,
};
use datafusion_pg_catalog::pg_catalog::{context::EmptyContextProvider, setup_pg_catalog};

use super::{
    catalog::{InformationSchema, PgCatalog},
    descriptions::Description,
    functions,
    settings::Settings,
};
use crate::{
    config::Config,
    error::{Error, Result},
    query_memory::QueryMemory,
};

/// The name of the one database.
pub(crate) const DATABASE: &str = "driftwatt";

/// What every connection's session is copied from. Schemas, memory and the list of questions are those of the factory.
#[derive(Debug, Clone)]
pub(crate) struct SessionTemplate {
    state: SessionState,
    /// Of users with a limit of their own.
    memory: BTreeMap<String, Arc<QueryMemory>>,
}

impl SessionTemplate {
    /// Derives it from `base`, which stays as it is.
    ///
    /// # Errors
    /// [`Error::Internal`] if the catalog cannot be made.
    pub(crate) async fn new(base: &SessionContext, config: &Config) -> Result<Self> {
        let state = derive(base).await.map_err(Error::Internal)?;
        let shared = &state.runtime_env().memory_pool;
        let limited = config.user_limits.iter().filter_map(|(user, limits)| Some((user, limits.memory_bytes?)));
        let of_user = |user, bytes| Arc::new(QueryMemory::of_user(user, bytes, Arc::clone(shared)));
        let memory = limited.map(|(user, bytes)| (user.clone(), of_user(user, bytes)));
        let memory = memory.collect();
        Ok(Self { state, memory })
    }

    /// The session of a connection of `user`.
    pub(crate) fn session(&self, settings: &Arc<Settings>, user: &str, pid: i32) -> SessionContext {
        let state = match self.memory.get(user) {
            Some(memory) => {
                let shared = self.state.runtime_env().as_ref().clone();
                let runtime = RuntimeEnv { memory_pool: Arc::clone(memory) as _, ..shared };
                SessionStateBuilder::new_from_existing(self.state.clone()).with_runtime_env(Arc::new(runtime)).build()
            }
            None => self.state.clone(),
        };
        let ctx = SessionContext::new_with_state(state);
        functions::register_for(&ctx, settings, user, pid);
        ctx
    }
}

async fn derive(base: &SessionContext) -> Result<SessionState, DataFusionError> {
    let catalog = Arc::new(MemoryCatalogProvider::new());
    let shown = base.catalog(DATABASE);
    if let Some(given) = &shown {
        for name in given.schema_names() {
            if let Some(schema) = given.schema(&name) {
                catalog.register_schema(&name, schema)?;
            }
        }
    }
    let catalogs: Arc<dyn CatalogProviderList> = Arc::new(MemoryCatalogProviderList::new());
    catalogs.register_catalog(DATABASE.into(), Arc::clone(&catalog) as _);
    let mut config = base.copied_config().with_information_schema(false);
    let parser = &mut config.options_mut().sql_parser;
    // For the positions of errors.
    parser.collect_spans = true;
    parser.dialect = Dialect::PostgreSQL;
    let state = SessionStateBuilder::new_from_existing(base.state())
        .with_config(config)
        .with_catalog_list(Arc::clone(&catalogs))
        .build();
    let ctx = SessionContext::new_with_state(state);
    setup_pg_catalog(&ctx, DATABASE, EmptyContextProvider).map_err(|error| *error)?;
    if let (Some(given), Some(shown)) = (catalog.schema("pg_catalog"), shown) {
        let pg_catalog = PgCatalog { given, shown, plain: SessionContext::new() };
        Description::functions(&pg_catalog).into_iter().for_each(|function| ctx.register_udf(function));
        catalog.register_schema("pg_catalog", Arc::new(pg_catalog))?;
    }
    let information_schema = InformationSchema::new(catalogs).await?;
    catalog.register_schema("information_schema", Arc::new(information_schema))?;
    functions::register(&ctx);
    Ok(ctx.state())
}
