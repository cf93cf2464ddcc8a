//! Schemas that ask the store each time, so that a table written a moment ago is there.

use std::sync::Arc;

use arrow::{
    array::{Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use async_trait::async_trait;
use datafusion::{
    catalog::{MemTable, SchemaProvider, TableProvider},
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
    /// One table, `tables`, that lists the others.
    System,
}

/// A schema over the store.
#[derive(Debug)]
pub(crate) struct StoreSchema {
    pub(crate) store: Arc<Store>,
    pub(crate) shown: Shown,
}

impl StoreSchema {
    fn shows(&self, name: &str) -> bool {
        match self.shown {
            Shown::Raw => TELEMETRY.contains(&name),
            Shown::Reports => !TELEMETRY.contains(&name),
            Shown::System => false,
        }
    }
}

#[async_trait]
impl SchemaProvider for StoreSchema {
    fn table_names(&self) -> Vec<String> {
        if self.shown == Shown::System {
            return vec!["tables".to_owned()];
        }
        self.store.tables().into_iter().map(|table| table.name).filter(|name| self.shows(name)).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if self.shown == Shown::System {
            return if name == "tables" { Ok(Some(tables(&self.store)?)) } else { Ok(None) };
        }
        Ok(if self.shows(name) { self.store.table(name) } else { None })
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|known| known == name)
    }
}

/// `system.tables`: the durable tables with their Delta version and size.
fn tables(store: &Store) -> Result<Arc<dyn TableProvider>> {
    let tables = store.tables();
    let schema = Arc::new(Schema::new(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("version", DataType::Int64, false),
        Field::new("files", DataType::Int64, false),
        Field::new("rows", DataType::Int64, false),
        Field::new("size_bytes", DataType::Int64, false),
    ]));
    let batch = RecordBatch::try_new(
        Arc::clone(&schema),
        vec![
            Arc::new(StringArray::from_iter_values(tables.iter().map(|table| &table.name))),
            Arc::new(Int64Array::from_iter_values(tables.iter().map(|table| table.version))),
            Arc::new(Int64Array::from_iter_values(tables.iter().map(|table| table.file_count.cast_signed()))),
            Arc::new(Int64Array::from_iter_values(tables.iter().map(|table| table.row_count.cast_signed()))),
            Arc::new(Int64Array::from_iter_values(tables.iter().map(|table| table.size_bytes.cast_signed()))),
        ],
    )?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}
