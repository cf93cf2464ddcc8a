//! Comments as PostgreSQL has them: `pg_description`, `obj_description` and `col_description`.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, AsArray, Int32Array, RecordBatch, StringArray},
    compute::{cast, concat_batches},
    datatypes::{DataType, Int32Type, SchemaRef},
};
use async_trait::async_trait;
use datafusion::{
    catalog::{TableProvider, streaming::StreamingTable},
    common::internal_err,
    error::Result,
    execution::{SendableRecordBatchStream, TaskContext},
    logical_expr::{
        ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
        async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl},
    },
    physical_plan::{stream::RecordBatchStreamAdapter, streaming::PartitionStream},
};
use futures::stream;

use super::catalog::{PgCatalog, numbers, texts};
use crate::comments::Comments;

/// `pg_class` and `pg_namespace`, as every PostgreSQL numbers them.
const CLASSES: [i32; 2] = [1259, 2615];

/// One comment: the table or schema, which of [`CLASSES`] it is in, the column or 0.
type Described = ((i32, i32, i32), String);

impl PgCatalog {
    /// The comments of our schemas, tables and columns, or of those of them with the ids `wanted`.
    async fn descriptions(&self, wanted: Option<&HashSet<i32>>) -> Result<Vec<Described>> {
        let is_wanted = |oid: &i32| wanted.is_none_or(|wanted| wanted.contains(oid));
        // In this order: what names tables gives them their ids.
        let (spaces, classes) = (self.rows("pg_namespace").await?, self.rows("pg_class").await?);
        let comments = Comments::shipped();
        let mut described = Vec::new();
        let names: HashMap<i32, &str> =
            numbers(&spaces, "oid")?.values().iter().copied().zip(texts(&spaces, "nspname")?).collect();
        let schemas =
            names.iter().filter_map(|(oid, name)| Some(((*oid, CLASSES[1], 0), comments.of_schema(name)?.to_owned())));
        described.extend(schemas);
        let class = numbers(&classes, "oid")?.values().iter().zip(numbers(&classes, "relnamespace")?.values());
        let tables = class.zip(texts(&classes, "relname")?).filter(|((oid, _), _)| is_wanted(oid));
        for ((oid, space), table) in tables {
            let Some(schema_name) = names.get(space) else { continue };
            let Some(schema) = self.shown.schema(schema_name) else { continue };
            let of_table = comments.of_table(schema_name, table);
            described.extend(of_table.map(|comment| ((*oid, CLASSES[0], 0), comment.to_owned())));
            let Some(provider) = schema.table(table).await? else { continue };
            for (field, place) in provider.schema().fields().iter().zip(1..) {
                let comment = comments.of_column(schema_name, table, field.name());
                described.extend(comment.map(|comment| ((*oid, CLASSES[0], place), comment.to_owned())));
            }
        }
        described.sort();
        Ok(described)
    }

    /// `pg_description` with our comments beside those of PostgreSQL's own functions.
    pub(super) async fn described(&self) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(given) = self.given.table("pg_description").await? else { return Ok(None) };
        let schema = given.schema();
        let descriptions = Descriptions { schema: Arc::clone(&schema), catalog: self.clone() };
        Ok(Some(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(descriptions)])?)))
    }
}

/// Computed when it is read, not when it is looked up: the catalog looks up all its tables to list them.
#[derive(Debug)]
struct Descriptions {
    schema: SchemaRef,
    catalog: PgCatalog,
}

impl Descriptions {
    async fn rows(schema: SchemaRef, catalog: PgCatalog) -> Result<RecordBatch> {
        let ours = catalog.descriptions(None).await?;
        let columns = schema.fields().iter().map(|field| {
            let number = |pick: fn(&(i32, i32, i32)) -> i32| -> ArrayRef {
                Arc::new(Int32Array::from_iter_values(ours.iter().map(|(key, _)| pick(key))))
            };
            let column = match field.name().as_str() {
                "objoid" => number(|key| key.0),
                "classoid" => number(|key| key.1),
                "objsubid" => number(|key| key.2),
                "description" => Arc::new(StringArray::from_iter_values(ours.iter().map(|(_, comment)| comment))),
                other => return internal_err!("pg_description has a column {other}"),
            };
            Ok(cast(&column, field.data_type())?)
        });
        let ours = RecordBatch::try_new(Arc::clone(&schema), columns.collect::<Result<_>>()?)?;
        Ok(concat_batches(&schema, &[catalog.rows("pg_description").await?, ours])?)
    }
}

impl PartitionStream for Descriptions {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (schema, catalog) = (Arc::clone(&self.schema), self.catalog.clone());
        let rows = stream::once(async move { Self::rows(schema, catalog).await });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))
    }
}

/// `obj_description(object, catalog)` or `col_description(table, column)`.
#[derive(Debug)]
pub(super) struct Description {
    name: &'static str,
    catalog: PgCatalog,
    signature: Signature,
}

impl Description {
    /// Both functions.
    pub(super) fn functions(catalog: &PgCatalog) -> [ScalarUDF; 2] {
        ["obj_description", "col_description"].map(|name| {
            let signature = Signature::variadic_any(Volatility::Stable);
            AsyncScalarUDF::new(Arc::new(Self { name, catalog: catalog.clone(), signature })).into_scalar_udf()
        })
    }
}

impl PartialEq for Description {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Description {}

impl std::hash::Hash for Description {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Description {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("{} asks the catalog", self.name)
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for Description {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let integers = |index: usize| arrays.get(index).map(|array| cast(array, &DataType::Int32)).transpose();
        let Some(objects) = integers(0)? else { return internal_err!("{} without an object", self.name) };
        let objects = objects.as_primitive::<Int32Type>();
        let wanted = objects.iter().flatten().collect();
        let described: HashMap<_, _> = self.catalog.descriptions(Some(&wanted)).await?.into_iter().collect();
        let rows: StringArray = if self.name == "col_description" {
            let Some(columns) = integers(1)? else { return internal_err!("col_description without a column") };
            let rows = objects.iter().zip(columns.as_primitive::<Int32Type>());
            rows.map(|(object, column)| described.get(&(object?, CLASSES[0], column?))).collect()
        } else {
            let in_either = |object| CLASSES.iter().find_map(|class| described.get(&(object, *class, 0)));
            objects.iter().map(|object| in_either(object?)).collect()
        };
        Ok(ColumnarValue::Array(Arc::new(rows)))
    }
}
