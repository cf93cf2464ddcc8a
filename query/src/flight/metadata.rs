//! What there is to ask: catalogs, schemas, tables and their types.

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use arrow_flight::{
    error::FlightError,
    sql::{Command, CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables},
};
use datafusion::{
    catalog::{SchemaProvider, TableProvider},
    logical_expr::TableType,
    prelude::SessionContext,
};
use tonic::Status;

use super::{sent_schema, server_info, status, xdbc_types};
use crate::error::Error;

const TABLE: &str = "BASE TABLE";
const VIEW: &str = "VIEW";

/// The schema of the answer to `command`.
///
/// # Errors
/// `UNIMPLEMENTED` if it asks for something else.
pub(super) fn schema(command: &Command) -> Result<SchemaRef, Status> {
    Ok(match command.clone() {
        Command::CommandGetCatalogs(command) => command.into_builder().schema(),
        Command::CommandGetDbSchemas(command) => command.into_builder().schema(),
        Command::CommandGetTables(command) => command.into_builder().schema(),
        Command::CommandGetTableTypes(command) => command.into_builder().schema(),
        Command::CommandGetSqlInfo(_) => server_info::infos().map_err(failed)?.schema(),
        Command::CommandGetXdbcTypeInfo(_) => xdbc_types::types().map_err(failed)?.schema(),
        Command::CommandGetPrimaryKeys(_) => Arc::new(primary_keys()),
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => Arc::new(foreign_keys()),
        other => return Err(Status::unimplemented(format!("{} is not answered here", other.type_url()))),
    })
}

/// The answer to `command`.
///
/// # Errors
/// `UNIMPLEMENTED` if it asks for something else; `INTERNAL`.
pub(super) async fn batch(ctx: &SessionContext, command: Command) -> Result<RecordBatch, Status> {
    match command {
        Command::CommandGetCatalogs(command) => catalogs(ctx, command).map_err(failed),
        Command::CommandGetDbSchemas(command) => schemas(ctx, command).map_err(failed),
        Command::CommandGetTables(command) => tables(ctx, command).await,
        Command::CommandGetTableTypes(command) => table_types(command).map_err(failed),
        Command::CommandGetSqlInfo(command) => {
            let infos = server_info::infos().map_err(failed)?;
            command.into_builder(&infos).build().map_err(failed)
        }
        Command::CommandGetXdbcTypeInfo(command) => {
            let types = xdbc_types::types().map_err(failed)?;
            command.into_builder(&types).build().map_err(failed)
        }
        // No table here has keys.
        other => Ok(RecordBatch::new_empty(schema(&other)?)),
    }
}

fn failed(error: FlightError) -> Status {
    tracing::error!(%error, "Flight SQL metadata failed");
    Status::internal(error.to_string())
}

fn catalogs(ctx: &SessionContext, command: CommandGetCatalogs) -> Result<RecordBatch, FlightError> {
    let mut builder = command.into_builder();
    for name in ctx.catalog_names() {
        builder.append(name);
    }
    builder.build()
}

/// Every schema with the name of its catalog and its own.
fn all_schemas(ctx: &SessionContext) -> Vec<(String, String, Arc<dyn SchemaProvider>)> {
    let mut schemas = Vec::new();
    for catalog_name in ctx.catalog_names() {
        let Some(catalog) = ctx.catalog(&catalog_name) else { continue };
        for name in catalog.schema_names() {
            if let Some(schema) = catalog.schema(&name) {
                schemas.push((catalog_name.clone(), name, schema));
            }
        }
    }
    schemas
}

fn schemas(ctx: &SessionContext, command: CommandGetDbSchemas) -> Result<RecordBatch, FlightError> {
    let mut builder = command.into_builder();
    for (catalog, schema, _) in all_schemas(ctx) {
        builder.append(catalog, schema);
    }
    builder.build()
}

async fn tables(ctx: &SessionContext, command: CommandGetTables) -> Result<RecordBatch, Status> {
    let mut builder = command.into_builder();
    for (catalog, schema_name, schema) in all_schemas(ctx) {
        for name in schema.table_names() {
            let table = schema.table(&name).await.map_err(|error| status(&Error::of("", error)))?;
            // One that was dropped a moment ago is no more.
            let Some(table) = table else { continue };
            let sent = sent_schema(table.schema());
            builder.append(&catalog, &schema_name, &name, type_name(table.as_ref()), &sent).map_err(failed)?;
        }
    }
    builder.build().map_err(failed)
}

fn type_name(table: &dyn TableProvider) -> &'static str {
    match table.table_type() {
        TableType::View => VIEW,
        TableType::Base | TableType::Temporary => TABLE,
    }
}

fn table_types(command: CommandGetTableTypes) -> Result<RecordBatch, FlightError> {
    let mut builder = command.into_builder();
    builder.append(TABLE);
    builder.append(VIEW);
    builder.build()
}

fn primary_keys() -> Schema {
    Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_name", DataType::Utf8, true),
        Field::new("key_sequence", DataType::Int32, false),
    ])
}

fn foreign_keys() -> Schema {
    Schema::new(vec![
        Field::new("pk_catalog_name", DataType::Utf8, true),
        Field::new("pk_db_schema_name", DataType::Utf8, true),
        Field::new("pk_table_name", DataType::Utf8, false),
        Field::new("pk_column_name", DataType::Utf8, false),
        Field::new("fk_catalog_name", DataType::Utf8, true),
        Field::new("fk_db_schema_name", DataType::Utf8, true),
        Field::new("fk_table_name", DataType::Utf8, false),
        Field::new("fk_column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("fk_key_name", DataType::Utf8, true),
        Field::new("pk_key_name", DataType::Utf8, true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ])
}
