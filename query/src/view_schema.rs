//! Views that are planned when they are first asked for: the role views are large, and most queries need one of them.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use datafusion::{
    catalog::{MemorySchemaProvider, SchemaProvider, TableProvider},
    common::internal_datafusion_err,
    datasource::ViewTable,
    error::Result,
    execution::SessionState,
    prelude::SessionContext,
};

/// Views by name.
pub(crate) struct Views {
    sql: BTreeMap<&'static str, String>,
    planned: Mutex<HashMap<String, Arc<dyn TableProvider>>>,
    /// The session owns the views, so they do not own it.
    state: Box<dyn Fn() -> Option<SessionState> + Send + Sync>,
}

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Views").field("names", &self.sql.keys()).finish_non_exhaustive()
    }
}

impl Views {
    /// Views of the session `ctx`.
    pub(crate) fn new(ctx: &SessionContext, sql: BTreeMap<&'static str, String>) -> Self {
        let state = ctx.state_weak_ref();
        let state = Box::new(move || state.upgrade().map(|state| state.read().clone()));
        Self { sql, planned: Mutex::default(), state }
    }

    /// The view called `name`.
    pub(crate) async fn view(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(sql) = self.sql.get(name) else { return Ok(None) };
        if let Some(known) = self.planned.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(Some(Arc::clone(known)));
        }
        let state = (self.state)().ok_or_else(|| internal_datafusion_err!("the session of the view {name} is gone"))?;
        let plan = state.create_logical_plan(sql).await?;
        // With its types settled, a question need not settle them again, and may leave arms of a union out.
        let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_plan, _rule| {})?;
        let view: Arc<dyn TableProvider> = Arc::new(ViewTable::new(plan, Some(sql.clone())));
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Some(Arc::clone(planned.entry(name.to_owned()).or_insert(view))))
    }
}

/// A schema of views, and of tables that are registered beside them.
#[derive(Debug)]
pub(crate) struct ViewSchema {
    pub(crate) views: Views,
    pub(crate) tables: MemorySchemaProvider,
}

#[async_trait]
impl SchemaProvider for ViewSchema {
    fn table_names(&self) -> Vec<String> {
        let views = self.views.sql.keys().map(|name| (*name).to_owned());
        views.chain(self.tables.table_names()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match self.views.view(name).await? {
            Some(view) => Ok(Some(view)),
            None => self.tables.table(name).await,
        }
    }

    fn register_table(&self, name: String, table: Arc<dyn TableProvider>) -> Result<Option<Arc<dyn TableProvider>>> {
        self.tables.register_table(name, table)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.views.sql.contains_key(name) || self.tables.table_exist(name)
    }
}
