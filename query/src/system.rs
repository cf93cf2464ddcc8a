//! The schema `system`: what this server holds and how it is set.

use std::sync::{Arc, OnceLock};

use arrow::{
    array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use async_trait::async_trait;
use datafusion::{
    catalog::{MemTable, SchemaProvider, TableProvider},
    error::Result,
};
use driftwatt_store::Store;

use crate::{
    config::Config,
    coverage::Coverage,
    question_log::QuestionLog,
    roles::{RoleTable, Row},
    view_schema::Views,
};

const NAMES: [&str; 11] = [
    "cardinality",
    "columns",
    "coverage",
    "gpu_series",
    "queries",
    "rejections",
    "role_series",
    "role_warnings",
    "roles",
    "settings",
    "tables",
];

/// What `NAMES` lists.
#[derive(Debug)]
pub(crate) struct SystemSchema {
    store: Arc<Store>,
    roles: Arc<dyn TableProvider>,
    settings: Arc<dyn TableProvider>,
    planned: Arc<Planned>,
    questions: Arc<QuestionLog>,
}

/// What can be planned only once the tables are there.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    pub(crate) views: OnceLock<Views>,
    pub(crate) coverage: OnceLock<Arc<Coverage>>,
}

impl SystemSchema {
    pub(crate) fn new(
        store: &Arc<Store>,
        config: &Config,
        roles: &RoleTable,
        planned: &Arc<Planned>,
        questions: Arc<QuestionLog>,
    ) -> Result<Self> {
        Ok(Self {
            store: Arc::clone(store),
            roles: role_table(roles)?,
            settings: setting_table(config)?,
            planned: Arc::clone(planned),
            questions,
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
            "coverage" => self.planned.coverage.get().map(|coverage| coverage.of_last_day()).transpose()?,
            "queries" => Some(self.questions.table()?),
            "rejections" => self.store.table("rejections"),
            "roles" => Some(Arc::clone(&self.roles)),
            "settings" => Some(Arc::clone(&self.settings)),
            "tables" => Some(store_tables(&self.store)?),
            _ => match self.planned.views.get() {
                Some(views) => views.view(name).await?,
                None => None,
            },
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

fn table(fields: Vec<Field>, columns: Vec<ArrayRef>) -> Result<Arc<dyn TableProvider>> {
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}

/// The durable tables with their Delta version and size; rows that are not flushed yet are not counted.
fn store_tables(store: &Store) -> Result<Arc<dyn TableProvider>> {
    let tables = store.tables();
    let counts = ["version", "files", "rows", "size_bytes", "quarantined_files", "quarantined_rows"];
    let fields = std::iter::once(text("name")).chain(counts.map(integer)).collect();
    let columns: Vec<ArrayRef> = vec![
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
pub(crate) fn role_table(roles: &RoleTable) -> Result<Arc<dyn TableProvider>> {
    let column = |pick: &dyn Fn(&Row) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(roles.rows.iter().map(pick)))
    };
    let number = |pick: &dyn Fn(&Row) -> Option<f64>| -> ArrayRef {
        Arc::new(Float64Array::from_iter(roles.rows.iter().map(pick)))
    };
    let places = 0..i64::try_from(roles.rows.len()).unwrap_or(i64::MAX);
    let rung = roles.rows.iter().map(|row| row.definition.rung.as_deref());
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = [
        (text("metric"), column(&|row| row.metric.clone())),
        (text("conditions"), column(&Row::conditions)),
        (text("dimension"), column(&|row| row.definition.view.dimension().to_owned())),
        (text("view"), column(&|row| row.definition.view.name().to_owned())),
        (text("role"), column(&|row| row.role.clone())),
        (text("unit"), column(&|row| row.definition.unit.clone())),
        (
            Field::new("scale", DataType::Float64, true),
            number(&|row| Some(row.conversion.multiplier / row.conversion.divisor)),
        ),
        (Field::new("blank_from", DataType::Float64, true), number(&|row| row.blank_from)),
        (text("source_unit"), column(&|row| row.unit.clone())),
        (text("scope"), column(&|row| row.scope.name().to_owned())),
        (Field::new("rung", DataType::Utf8, true), Arc::new(StringArray::from_iter(rung)) as ArrayRef),
        (text("source"), column(&|row| row.source.to_string())),
        (
            Field::new("rate", DataType::Utf8, true),
            Arc::new(StringArray::from_iter(roles.rows.iter().map(|row| row.rate.as_ref().map(|rate| &rate.role))))
                as ArrayRef,
        ),
        (Field::new("min", DataType::Float64, true), number(&|row| row.definition.min)),
        (Field::new("max", DataType::Float64, true), number(&|row| row.definition.max)),
        (text("about"), column(&|row| row.definition.about.clone())),
        (integer("place"), Arc::new(Int64Array::from_iter_values(places)) as ArrayRef),
    ]
    .into_iter()
    .unzip();
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
        ("query.queue_max", config.queue_max.to_string()),
        ("query.job_timeout", format!("{:?}", config.job_timeout)),
        ("query.jobs_max", config.jobs_max.to_string()),
        ("query.job_keep", format!("{:?}", config.job_keep)),
        ("query.job_size_max", config.job_size_bytes_max.to_string()),
        ("query.jobs_size_max", config.jobs_size_bytes_max.to_string()),
    ];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    let settings: Vec<_> = own.chain(config.server_settings.iter().cloned()).collect();
    let names = StringArray::from_iter_values(settings.iter().map(|(name, _)| name));
    let values = StringArray::from_iter_values(settings.iter().map(|(_, value)| value));
    table(vec![text("name"), text("value")], vec![Arc::new(names), Arc::new(values)])
}
