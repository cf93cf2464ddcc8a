//! The schema `system`: what this server holds and how it is set.

use std::sync::{Arc, OnceLock};

use arrow::{
    array::{Float64Array, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use async_trait::async_trait;
use datafusion::{
    catalog::{MemTable, SchemaProvider, TableProvider},
    error::Result,
};
use driftwatt_store::Store;

use crate::{config::Config, coverage::Coverage, roles::Role};

const NAMES: [&str; 6] = ["cardinality", "coverage", "rejections", "roles", "settings", "tables"];

/// `cardinality`, `coverage`, `rejections`, `roles`, `settings` and `tables`.
#[derive(Debug)]
pub(crate) struct SystemSchema {
    store: Arc<Store>,
    roles: Arc<dyn TableProvider>,
    settings: Arc<dyn TableProvider>,
    planned: Arc<Planned>,
}

/// Tables that are planned once the other schemas are there.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    pub(crate) cardinality: OnceLock<Arc<dyn TableProvider>>,
    pub(crate) coverage: OnceLock<Arc<Coverage>>,
}

impl SystemSchema {
    pub(crate) fn new(store: &Arc<Store>, config: &Config, roles: &[Role], planned: &Arc<Planned>) -> Result<Self> {
        Ok(Self {
            store: Arc::clone(store),
            roles: role_table(roles)?,
            settings: setting_table(config)?,
            planned: Arc::clone(planned),
        })
    }
}

#[async_trait]
impl SchemaProvider for SystemSchema {
    fn table_names(&self) -> Vec<String> {
        NAMES.map(str::to_owned).to_vec()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(match name {
            "cardinality" => self.planned.cardinality.get().map(Arc::clone),
            "coverage" => self.planned.coverage.get().map(|coverage| coverage.of_last_day()).transpose()?,
            "rejections" => self.store.table("rejections"),
            "roles" => Some(Arc::clone(&self.roles)),
            "settings" => Some(Arc::clone(&self.settings)),
            "tables" => Some(store_tables(&self.store)?),
            _ => None,
        })
    }

    fn table_exist(&self, name: &str) -> bool {
        NAMES.contains(&name)
    }
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, false)
}

fn integer(name: &str) -> Field {
    Field::new(name, DataType::Int64, false)
}

fn table(fields: Vec<Field>, columns: Vec<arrow::array::ArrayRef>) -> Result<Arc<dyn TableProvider>> {
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}

/// The durable tables with their Delta version and size; rows that are not flushed yet are not counted.
fn store_tables(store: &Store) -> Result<Arc<dyn TableProvider>> {
    let tables = store.tables();
    let counts = ["version", "files", "rows", "size_bytes", "quarantined_files", "quarantined_rows"];
    let fields = std::iter::once(text("name")).chain(counts.map(integer)).collect();
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(tables.iter().map(|table| &table.name))),
        Arc::new(Int64Array::from_iter_values(tables.iter().map(|table| table.version))),
        Arc::new(Int64Array::from_iter_values(tables.iter().map(|table| table.file_count.cast_signed()))),
        Arc::new(Int64Array::from_iter_values(tables.iter().map(|table| table.row_count.cast_signed()))),
        Arc::new(Int64Array::from_iter_values(tables.iter().map(|table| table.size_bytes.cast_signed()))),
        Arc::new(Int64Array::from_iter_values(tables.iter().map(|table| table.quarantined_file_count.cast_signed()))),
        Arc::new(Int64Array::from_iter_values(tables.iter().map(|table| table.quarantined_row_count.cast_signed()))),
    ];
    table(fields, columns)
}

/// The vocabulary, in the order in which it is applied.
pub(crate) fn role_table(roles: &[Role]) -> Result<Arc<dyn TableProvider>> {
    let column = |pick: &dyn Fn(&Role) -> String| Arc::new(StringArray::from_iter_values(roles.iter().map(pick)));
    let conditions = |role: &Role| {
        let pairs = role.when.iter().map(|(key, value)| format!("{key}={value}"));
        pairs.collect::<Vec<_>>().join(",")
    };
    let fields = vec![
        text("metric"),
        text("conditions"),
        text("dimension"),
        text("view"),
        text("role"),
        text("unit"),
        Field::new("scale", DataType::Float64, false),
        Field::new("blank_from", DataType::Float64, true),
    ];
    let columns: Vec<arrow::array::ArrayRef> = vec![
        column(&|role| role.metric.clone()),
        column(&conditions),
        column(&|role| role.view.dimension().to_owned()),
        column(&|role| role.view.name().to_owned()),
        column(&|role| role.role.clone()),
        column(&|role| role.unit.clone()),
        Arc::new(Float64Array::from_iter_values(roles.iter().map(|role| role.scale))),
        Arc::new(Float64Array::from_iter(roles.iter().map(|role| role.blank_from))),
    ];
    table(fields, columns)
}

/// The settings of queries that hold now, written as in the configuration file, and those of other parts that were given.
fn setting_table(config: &Config) -> Result<Arc<dyn TableProvider>> {
    let own = [
        ("query.timeout", format!("{:?}", config.timeout)),
        ("query.rows_max", config.rows_max.to_string()),
        ("query.memory", config.memory_bytes.to_string()),
        ("query.spill", config.spill_bytes.to_string()),
        ("query.concurrency_max", config.concurrency_max.to_string()),
    ];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    let settings: Vec<_> = own.chain(config.server_settings.iter().cloned()).collect();
    let names = StringArray::from_iter_values(settings.iter().map(|(name, _)| name));
    let values = StringArray::from_iter_values(settings.iter().map(|(_, value)| value));
    table(vec![text("name"), text("value")], vec![Arc::new(names), Arc::new(values)])
}
