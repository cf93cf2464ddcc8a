//! What schemas, tables and columns are, for people: `comments.toml`, and the table `system.columns`.

use std::{collections::HashMap, sync::LazyLock};

use arrow::{
    array::{ArrayRef, AsArray, StringArray},
    compute::cast,
    datatypes::DataType,
};
use datafusion::{
    common::exec_datafusion_err,
    error::Result,
    logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf},
};
use serde::Deserialize;

/// The function behind `system.columns`.
const FUNCTION: &str = "driftwatt_comment";

/// The file. It is part of the program, so that a wrong one is found by every test.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Comments {
    schemas: HashMap<String, String>,
    tables: HashMap<String, String>,
    columns: HashMap<String, String>,
}

impl Comments {
    /// What is shipped.
    pub(crate) fn shipped() -> &'static Self {
        static SHIPPED: LazyLock<Comments> =
            LazyLock::new(|| toml::from_str(include_str!("comments.toml")).unwrap_or_default());
        &SHIPPED
    }

    pub(crate) fn of_schema(&self, schema: &str) -> Option<&str> {
        self.schemas.get(schema).map(String::as_str)
    }

    pub(crate) fn of_table(&self, schema: &str, table: &str) -> Option<&str> {
        let of_all = || self.tables.get(&format!("{schema}.*"));
        self.tables.get(&format!("{schema}.{table}")).or_else(of_all).map(String::as_str)
    }

    pub(crate) fn of_column(&self, schema: &str, table: &str, column: &str) -> Option<&str> {
        // What a schema that is not ours calls so is something else.
        self.of_schema(schema)?;
        let own = self.columns.get(&format!("{schema}.{table}.{column}"));
        own.or_else(|| self.columns.get(column)).map(String::as_str)
    }
}

/// Every column of every table that is not about tables, with both comments.
pub(crate) fn columns_sql() -> String {
    format!(
        "SELECT table_schema AS schema_name, table_name, {FUNCTION}(table_schema, table_name, NULL) AS table_comment, \
         column_name, CAST(ordinal_position AS BIGINT) + 1 AS position, data_type, is_nullable = 'YES' AS is_nullable, \
         {FUNCTION}(table_schema, table_name, column_name) AS comment FROM information_schema.columns \
         WHERE table_schema NOT IN ('information_schema', 'pg_catalog')"
    )
}

/// The comment of a table, or of a column of it.
pub(crate) fn comment_function() -> ScalarUDF {
    let rows = |args: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(args)?;
        let arrays = arrays.iter().map(|array| cast(array, &DataType::Utf8)).collect::<Result<Vec<ArrayRef>, _>>()?;
        let [schemas, tables, columns] = arrays.iter().map(|array| array.as_string::<i32>()).collect::<Vec<_>>()[..]
        else {
            return Err(exec_datafusion_err!("{FUNCTION} takes a schema, a table and a column"));
        };
        let rows = schemas.iter().zip(tables).zip(columns).map(|((schema, table), column)| match column {
            Some(column) => Comments::shipped().of_column(schema?, table?, column),
            None => Comments::shipped().of_table(schema?, table?),
        });
        Ok(ColumnarValue::Array(std::sync::Arc::new(rows.collect::<StringArray>())))
    };
    create_udf(FUNCTION, vec![DataType::Utf8; 3], DataType::Utf8, Volatility::Immutable, std::sync::Arc::new(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_is_read() {
        let text = include_str!("comments.toml");
        let comments: Comments = toml::from_str(text).unwrap();
        assert_eq!(comments.of_column("public", "gpu", "unit"), Some("Unit of the role"));
        assert_eq!(comments.of_column("public", "metrics", "unit"), Some("Unit as received (UCUM)"));
        assert_eq!(comments.of_column("pg_catalog", "pg_class", "unit"), None);
        assert!(
            comments.of_table("reports", "anything").is_some() && comments.of_table("public", "anything").is_none()
        );
    }
}
