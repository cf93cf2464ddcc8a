//! What Flight SQL clients ask about a server before they ask it anything else.

use arrow_flight::{
    IpcMessage,
    sql::{
        CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
        CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo, SqlInfo, XdbcDataType,
    },
};
use datafusion::arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{DataType, Int32Type, Schema, UInt32Type},
};
use futures::TryStreamExt;

use crate::{
    flight::{ask, connect, rows},
    server::start,
};

/// A column of texts.
fn texts(batch: &RecordBatch, name: &str) -> Vec<String> {
    let column = batch.column_by_name(name).unwrap().as_string::<i32>();
    column.iter().map(|text| text.unwrap_or("(null)").to_owned()).collect()
}

fn tables(schema: Option<&str>, table: Option<&str>, types: &[&str]) -> CommandGetTables {
    CommandGetTables {
        catalog: None,
        db_schema_filter_pattern: schema.map(str::to_owned),
        table_name_filter_pattern: table.map(str::to_owned),
        table_types: types.iter().map(|name| (*name).to_owned()).collect(),
        include_schema: true,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn catalogs_schemas_and_tables_are_listed_with_their_columns() {
    let (_dir, server) = start();
    let mut client = connect(&server).await;
    let info = client.get_catalogs().await.unwrap();
    assert_eq!(texts(&rows(&mut client, info).await.unwrap(), "catalog_name"), ["driftwatt"]);
    for (pattern, expected) in [(None, &["public", "raw", "reports", "system"][..]), (Some("r%"), &["raw", "reports"])]
    {
        let pattern = pattern.map(str::to_owned);
        let command = CommandGetDbSchemas { catalog: None, db_schema_filter_pattern: pattern };
        let info = client.get_db_schemas(command).await.unwrap();
        assert_eq!(texts(&rows(&mut client, info).await.unwrap(), "db_schema_name"), expected);
    }
    let info = client.get_table_types().await.unwrap();
    assert_eq!(texts(&rows(&mut client, info).await.unwrap(), "table_type"), ["BASE TABLE", "VIEW"]);
    let info = client.get_tables(tables(None, None, &[])).await.unwrap();
    let all = rows(&mut client, info).await.unwrap();
    let names = texts(&all, "table_name");
    for name in ["metrics", "gpu", "samples", "series", "queries"] {
        assert!(names.iter().any(|known| known == name), "{name} not in {names:?}");
    }
    for (command, expected) in [
        (tables(Some("public"), Some("gpu"), &[]), &["gpu"][..]),
        (tables(None, Some("g_u"), &["VIEW"]), &["gpu"]),
        (tables(None, Some("gpu"), &["BASE TABLE"]), &[]),
        (tables(Some("nowhere"), None, &[]), &[]),
    ] {
        let info = client.get_tables(command.clone()).await.unwrap();
        assert_eq!(texts(&rows(&mut client, info).await.unwrap(), "table_name"), expected, "{command:?}");
    }
    // What is announced is what comes.
    for (row, name) in names.iter().enumerate() {
        let schemas = all.column_by_name("table_schema").unwrap().as_binary::<i32>();
        let announced = Schema::try_from(IpcMessage(schemas.value(row).to_vec().into())).unwrap();
        let name = format!("{}.{name}", texts(&all, "db_schema_name")[row]);
        let batch = ask(&mut client, &format!("SELECT * FROM {name} LIMIT 1")).await.unwrap();
        let types = |schema: &Schema| -> Vec<(String, DataType)> {
            schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
        };
        assert_eq!(types(&batch.schema()), types(&announced), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_none_and_types_and_abilities_are_told() {
    let (_dir, server) = start();
    let mut client = connect(&server).await;
    let table = || "metrics".to_owned();
    let keys = [
        client.get_primary_keys(CommandGetPrimaryKeys { table: table(), ..Default::default() }).await.unwrap(),
        client.get_exported_keys(CommandGetExportedKeys { table: table(), ..Default::default() }).await.unwrap(),
        client.get_imported_keys(CommandGetImportedKeys { table: table(), ..Default::default() }).await.unwrap(),
        client
            .get_cross_reference(CommandGetCrossReference {
                pk_table: table(),
                fk_table: table(),
                ..Default::default()
            })
            .await
            .unwrap(),
    ];
    for info in keys {
        assert_eq!(rows(&mut client, info).await.unwrap().num_rows(), 0);
    }
    let info = client.get_sql_info(vec![]).await.unwrap();
    let all = rows(&mut client, info).await.unwrap();
    assert!(all.num_rows() > 30, "{}", all.num_rows());
    let info = client.get_sql_info(vec![SqlInfo::FlightSqlServerName, SqlInfo::FlightSqlServerReadOnly]).await.unwrap();
    let two = rows(&mut client, info).await.unwrap();
    assert_eq!(two.column(0).as_primitive::<UInt32Type>().values(), &[0, 3]);
    let value = two.column(1).as_union();
    assert_eq!(value.value(0).as_string::<i32>().value(0), "Driftwatt");
    assert!(value.value(1).as_boolean().value(0));
    let info = client.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: None }).await.unwrap();
    let types = texts(&rows(&mut client, info).await.unwrap(), "type_name");
    for name in &types {
        let sql = format!("SELECT CAST(NULL AS {name}) AS typed");
        assert!(ask(&mut client, &sql).await.is_ok(), "{sql}");
    }
    let only = Some(XdbcDataType::XdbcBigint as i32);
    let info = client.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: only }).await.unwrap();
    let bigint = rows(&mut client, info).await.unwrap();
    assert_eq!(texts(&bigint, "type_name"), ["BIGINT", "BIGINT UNSIGNED"]);
    assert_eq!(bigint.column_by_name("data_type").unwrap().as_primitive::<Int32Type>().value(0), -5);
    let actions = client.inner_mut().list_actions(arrow_flight::Empty {}).await.unwrap().into_inner();
    let actions: Vec<_> = actions.map_ok(|action| action.r#type).try_collect().await.unwrap();
    assert_eq!(actions, ["CreatePreparedStatement", "ClosePreparedStatement", "CancelFlightInfo", "CancelQuery"]);
}
