//! `pg_catalog` and `information_schema` as clients of PostgreSQL expect them.

use std::{collections::HashMap, fmt, str::FromStr as _, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, Int32Array, RecordBatch, StringArray, new_null_array},
    compute::concat_batches,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use async_trait::async_trait;
use datafusion::{
    catalog::{
        CatalogProvider, CatalogProviderList, MemTable, SchemaProvider, TableProvider,
        information_schema::InformationSchemaProvider, streaming::StreamingTable,
    },
    common::{ScalarValue, internal_datafusion_err},
    datasource::ViewTable,
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    functions::expr_fn::translate,
    functions_nested::expr_fn::string_to_array,
    logical_expr::{ColumnarValue, Expr, ScalarUDF, Volatility, create_udf},
    physical_plan::{stream::RecordBatchStreamAdapter, streaming::PartitionStream},
    prelude::{SessionContext, cast, col, ident, lit},
};
use futures::stream;

use super::{settings::Settings, types::PgType};

/// `pg_catalog` of `datafusion-pg-catalog`, with what is known better here.
#[derive(Clone)]
pub(crate) struct PgCatalog {
    pub(crate) given: Arc<dyn SchemaProvider>,
    /// The schemas whose tables are shown, without this one.
    pub(crate) shown: Arc<dyn CatalogProvider>,
    /// Plans what is made of the given tables.
    pub(crate) plain: SessionContext,
}

impl fmt::Debug for PgCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgCatalog").field("given", &self.given).finish_non_exhaustive()
    }
}

#[async_trait]
impl SchemaProvider for PgCatalog {
    fn table_names(&self) -> Vec<String> {
        self.given.table_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match name {
            "pg_extension" => Ok(Some(extensions()?)),
            "pg_settings" => self.settings().await,
            // Lists that nothing has here, but clients ask for.
            "pg_class" => self.with_lists(name, &["relacl", "reloptions"]).await,
            "pg_namespace" => self.with_lists(name, &["nspacl"]).await,
            "pg_database" => self.with_lists(name, &["datacl"]).await,
            "pg_constraint" => self.with_numbers(name, &["conkey", "confkey"]).await,
            "pg_index" => self.with_numbers(name, &["indkey", "indoption"]).await,
            "pg_attribute" => self.attributes().await,
            "pg_description" => self.described().await,
            _ => self.given.table(name).await,
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.given.table_exist(name)
    }
}

impl PgCatalog {
    /// A table in which the columns `lists` are null, and lists of text.
    async fn with_lists(&self, name: &str, lists: &[&str]) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(table) = self.given.table(name).await? else { return Ok(None) };
        let frame = self.plain.read_table(table)?;
        let kept = frame.schema().fields().iter().map(|field| field.name().as_str());
        let mut shown: Vec<Expr> = kept.filter(|name| !lists.contains(name)).map(ident).collect();
        let none = ScalarValue::new_null_list(DataType::Utf8, true, 1);
        shown.extend(lists.iter().map(|name| lit(none.clone()).alias(*name)));
        let plan = frame.select(shown)?.into_unoptimized_plan();
        Ok(Some(Arc::new(ViewTable::new(plan, None))))
    }

    /// A table in which the columns `lists`, given as texts such as `[1, 2]` or `1 2`, are lists of numbers.
    async fn with_numbers(&self, name: &str, lists: &[&str]) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(table) = self.given.table(name).await? else { return Ok(None) };
        let frame = self.plain.read_table(table)?;
        let numbers = DataType::List(Arc::new(Field::new_list_field(DataType::Int16, true)));
        let shown = frame.schema().fields().iter().map(|field| {
            let column = ident(field.name());
            if !lists.contains(&field.name().as_str()) {
                return column;
            }
            let spaced = translate(column, lit("[],"), lit(""));
            cast(string_to_array(spaced, lit(" "), lit(ScalarValue::Utf8(None))), numbers.clone()).alias(field.name())
        });
        let shown: Vec<Expr> = shown.collect();
        Ok(Some(Arc::new(ViewTable::new(frame.select(shown)?.into_unoptimized_plan(), None))))
    }

    /// `pg_settings` as they are at the start of a connection.
    async fn settings(&self) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(given) = self.given.table("pg_settings").await? else { return Ok(None) };
        let (schema, settings) = (given.schema(), Settings::default().all());
        let columns = schema.fields().iter().map(|field| -> ArrayRef {
            match field.name().as_str() {
                "name" => Arc::new(StringArray::from_iter_values(settings.iter().map(|(name, _)| name))),
                "setting" | "reset_val" => {
                    Arc::new(StringArray::from_iter_values(settings.iter().map(|(_, value)| value)))
                }
                _ => new_null_array(field.data_type(), settings.len()),
            }
        });
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns.collect())?;
        Ok(Some(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?)))
    }

    /// `pg_attribute` with the types that columns have on the wire: the given one knows no JSON and few arrays.
    async fn attributes(&self) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(given) = self.given.table("pg_attribute").await? else { return Ok(None) };
        let (schema, catalog) = (given.schema(), self.clone());
        let attributes = Attributes { schema: Arc::clone(&schema), catalog };
        Ok(Some(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(attributes)])?)))
    }

    /// The rows of a table of the catalog.
    pub(super) async fn rows(&self, name: &str) -> Result<RecordBatch> {
        let table = self.given.table(name).await?;
        let table = table.ok_or_else(|| internal_datafusion_err!("no pg_catalog.{name}"))?;
        let schema = table.schema();
        let batches = self.plain.read_table(table)?.collect().await?;
        Ok(concat_batches(&schema, &batches)?)
    }
}

/// Computed when it is read, not when it is looked up: the catalog looks up all its tables to list them.
#[derive(Debug)]
struct Attributes {
    schema: SchemaRef,
    catalog: PgCatalog,
}

impl PartitionStream for Attributes {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let catalog = self.catalog.clone();
        let rows = stream::once(async move { catalog.typed_attributes().await });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))
    }
}

impl PgCatalog {
    async fn typed_attributes(&self) -> Result<RecordBatch> {
        // In this order: what names tables gives them their ids.
        let (spaces, classes) = (self.rows("pg_namespace").await?, self.rows("pg_class").await?);
        let attributes = self.rows("pg_attribute").await?;
        let types = self.column_types(&spaces, &classes).await?;
        let relations = numbers(&attributes, "attrelid")?.values().iter();
        let rows = relations.zip(texts(&attributes, "attname")?).zip(numbers(&attributes, "atttypid")?.values());
        let oids = rows.map(|((relation, name), given)| {
            types.get(&(*relation, name.to_owned())).map_or(*given, |oid| oid.cast_signed())
        });
        let oids: ArrayRef = Arc::new(Int32Array::from_iter_values(oids));
        let schema = attributes.schema();
        let mut columns = attributes.columns().to_vec();
        columns[schema.index_of("atttypid")?] = oids;
        Ok(RecordBatch::try_new(schema, columns)?)
    }

    /// The type of each column of our tables, by the id of the table and its name.
    async fn column_types(&self, spaces: &RecordBatch, classes: &RecordBatch) -> Result<HashMap<(i32, String), u32>> {
        let spaces: HashMap<i32, &str> =
            numbers(spaces, "oid")?.values().iter().copied().zip(texts(spaces, "nspname")?).collect();
        let mut types = HashMap::new();
        let class = numbers(classes, "oid")?.values().iter().zip(numbers(classes, "relnamespace")?.values());
        for ((oid, space), table) in class.zip(texts(classes, "relname")?) {
            // Schemas that are not shown have types that are right already.
            let Some(schema) = spaces.get(space).and_then(|name| self.shown.schema(name)) else { continue };
            if let Some(table) = schema.table(table).await? {
                let fields = table.schema();
                types.extend(
                    fields.fields().iter().map(|field| ((*oid, field.name().clone()), PgType::of(field).oid())),
                );
            }
        }
        Ok(types)
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| internal_datafusion_err!("no column {name} in the catalog"))
}

pub(super) fn numbers<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a Int32Array> {
    Ok(column(batch, name)?.as_primitive())
}

pub(super) fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<impl Iterator<Item = &'a str>> {
    Ok(column(batch, name)?.as_string::<i32>().iter().map(Option::unwrap_or_default))
}

/// `timescaledb` is there so that Grafana groups by `time_bucket`, which this server has.
fn extensions() -> Result<Arc<dyn TableProvider>> {
    let names = ["plpgsql", "timescaledb"];
    let text = |values: [&str; 2]| -> ArrayRef { Arc::new(StringArray::from_iter_values(values)) };
    let number = |values: [i32; 2]| -> ArrayRef { Arc::new(Int32Array::from_iter_values(values)) };
    let none = || -> ArrayRef { Arc::new(StringArray::from_iter([None::<&str>, None])) };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("oid", number([13_000, 13_001])),
        ("extname", text(names)),
        ("extowner", number([10, 10])),
        ("extnamespace", number([11, 11])),
        ("extrelocatable", Arc::new(BooleanArray::from_iter([Some(false), Some(false)]))),
        ("extversion", text(["1.0", "2.11.0"])),
        ("extconfig", none()),
        ("extcondition", none()),
    ];
    let fields = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}

/// `information_schema` with the names that PostgreSQL gives to types.
#[derive(Debug)]
pub(crate) struct InformationSchema {
    given: InformationSchemaProvider,
    columns: Arc<dyn TableProvider>,
}

impl InformationSchema {
    /// Of what is in `catalogs`.
    ///
    /// # Errors
    /// If its views cannot be planned.
    pub(crate) async fn new(catalogs: Arc<dyn CatalogProviderList>) -> Result<Self> {
        let given = InformationSchemaProvider::new(catalogs);
        let columns = columns(&given).await?;
        Ok(Self { given, columns })
    }
}

#[async_trait]
impl SchemaProvider for InformationSchema {
    fn table_names(&self) -> Vec<String> {
        self.given.table_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match name {
            "columns" => Ok(Some(Arc::clone(&self.columns))),
            _ => self.given.table(name).await,
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.given.table_exist(name)
    }
}

async fn columns(given: &InformationSchemaProvider) -> Result<Arc<dyn TableProvider>> {
    let Some(table) = given.table("columns").await? else {
        return datafusion::common::internal_err!("no information_schema.columns");
    };
    let frame = SessionContext::new().read_table(table)?;
    let mut shown: Vec<Expr> = Vec::new();
    for field in frame.schema().fields() {
        let column = col(field.name());
        shown.push(match field.name().as_str() {
            "data_type" => type_name_function().call(vec![column]).alias("data_type"),
            name if *field.data_type() == DataType::UInt64 => cast(column, DataType::Int32).alias(name),
            _ => column,
        });
    }
    shown.push(type_name_function().call(vec![col("data_type")]).alias("udt_name"));
    shown.push(lit("NO").alias("is_identity"));
    shown.push(lit("NEVER").alias("is_generated"));
    shown.push(lit("NO").alias("is_updatable"));
    let plan = frame.select(shown)?.into_unoptimized_plan();
    Ok(Arc::new(ViewTable::new(plan, None)))
}

/// The name that PostgreSQL gives to a type that Arrow writes otherwise.
fn type_name_function() -> ScalarUDF {
    let name = |text: &str| {
        let known = DataType::from_str(text).map(|data_type| PgType::of_arrow(&data_type).name());
        known.unwrap_or_else(|_nested| if text.starts_with("List") { "ARRAY".into() } else { "json".into() })
    };
    let rows = move |args: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(args)?;
        let names: StringArray = (0..arrays[0].len())
            .map(|row| {
                let text = ScalarValue::try_from_array(&arrays[0], row)?;
                Ok(text.try_as_str().flatten().map(name))
            })
            .collect::<Result<_>>()?;
        Ok(ColumnarValue::Array(Arc::new(names)))
    };
    create_udf("pg_type_name", vec![DataType::Utf8], DataType::Utf8, Volatility::Immutable, Arc::new(rows))
}
