//! Schemas that ask the store each time, so that a table written a moment ago is there.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::{
    catalog::{SchemaProvider, TableProvider},
    error::Result,
};
use driftwatt_store::Store;

use crate::{
    increases::{IncreasesTable, Points},
    profiling::{PROFILING_TABLE, ProfilingTable},
};

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
    /// For the views; not listed.
    pub(crate) profiling: Arc<ProfilingTable>,
}

impl StoreSchema {
    fn shows(&self, name: &str) -> bool {
        TELEMETRY.contains(&name) == (self.shown == Shown::Raw)
    }

    /// The tables that are computed from those of the store when they are read.
    fn computed(&self) -> impl Iterator<Item = Points> {
        Points::ALL.into_iter().filter(|_| self.shown == Shown::Raw)
    }
}

#[async_trait]
impl SchemaProvider for StoreSchema {
    fn table_names(&self) -> Vec<String> {
        let stored = self.store.tables().into_iter().map(|table| table.name).filter(|name| self.shows(name));
        stored.chain(self.computed().map(|points| points.table().to_owned())).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(points) = self.computed().find(|points| points.table() == name) {
            return Ok(Some(Arc::new(IncreasesTable { store: Arc::clone(&self.store), points })));
        }
        if self.shown == Shown::Raw && PROFILING_TABLE.strip_prefix("raw.") == Some(name) {
            return Ok(Some(Arc::clone(&self.profiling) as _));
        }
        Ok(if self.shows(name) { self.store.table(name) } else { None })
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|known| known == name)
    }
}
