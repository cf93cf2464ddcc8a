//! Schemas that ask the store each time, so that a table written a moment ago is there.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    catalog::{SchemaProvider, TableProvider},
    error::Result,
};
use driftwatt_store::Store;

/// The tables fed by telemetry; all others hold results of jobs.
const TELEMETRY: [&str; 4] = ["samples", "histograms", "series", "rejections"];

/// Which tables of the store a schema shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Telemetry as received.
    Raw,
    /// Results of jobs.
    Reports,
}

/// A schema over the store.
#[derive(Debug)]
pub(crate) struct StoreSchema {
    pub(crate) store: Arc<Store>,
    pub(crate) shown: Shown,
}

impl StoreSchema {
    fn shows(&self, name: &str) -> bool {
        TELEMETRY.contains(&name) == (self.shown == Shown::Raw)
    }
}

#[async_trait]
impl SchemaProvider for StoreSchema {
    fn table_names(&self) -> Vec<String> {
        self.store.tables().into_iter().map(|table| table.name).filter(|name| self.shows(name)).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(if self.shows(name) { self.store.table(name) } else { None })
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|known| known == name)
    }
}
