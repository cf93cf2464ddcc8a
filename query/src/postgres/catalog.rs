//! `pg_catalog` and `information_schema` as clients of PostgreSQL expect them.

use std::{str::FromStr as _, sync::Arc};

use arrow::{
    array::{ArrayRef, BooleanArray, Int32Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use async_trait::async_trait;
use datafusion::{
    catalog::{
        CatalogProviderList, MemTable, SchemaProvider, TableProvider, information_schema::InformationSchemaProvider,
    },
    common::ScalarValue,
    datasource::ViewTable,
    error::Result,
    logical_expr::{ColumnarValue, Expr, ScalarUDF, Volatility, create_udf},
    prelude::{SessionContext, cast, col, lit},
};

use super::types::PgType;

/// `pg_catalog` of `datafusion-pg-catalog`, with what is known better here.
#[derive(Debug)]
pub(crate) struct PgCatalog {
    pub(crate) given: Arc<dyn SchemaProvider>,
}

#[async_trait]
impl SchemaProvider for PgCatalog {
    fn table_names(&self) -> Vec<String> {
        self.given.table_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match name {
            "pg_extension" => Ok(Some(extensions()?)),
            _ => self.given.table(name).await,
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.given.table_exist(name)
    }
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
