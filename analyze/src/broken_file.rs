//! What is wrong with a file of rows, in the words of its reader, with line and column where it says them.

use std::{path::Path, sync::LazyLock};

use datafusion::{arrow::datatypes::Schema, error::DataFusionError};
use regex::Regex;

use crate::error::Error;

/// What the reader of CSV says of a cell.
static CELL: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?s)value '(.*)' as type '(\w+)[^']*' for column (\d+) at line (\d+)").ok());

/// What is wrong with a file, with line and column where its reader says them; `row_count` rows came before.
pub(crate) fn broken_file(path: &Path, error: &DataFusionError, schema: Option<&Schema>, row_count: u64) -> Error {
    let root = error.find_root().to_string();
    let cell = CELL.as_ref().and_then(|cell| cell.captures(&root));
    let reason = match (cell, schema) {
        (Some(found), Some(schema)) => {
            let number = |at: usize| found[at].parse::<usize>().unwrap_or(0);
            let name = schema.fields().get(number(3)).map_or("", |field| field.name());
            // The reader does not count the line of names.
            let line = number(4) + 1;
            format!("line {line}, column {} ({name}): {:?} is no {}", number(3) + 1, &found[1], &found[2])
        }
        _ if row_count > 0 => format!("after row {row_count}: {root}"),
        _ => root,
    };
    Error::BrokenFile { file: path.display().to_string(), reason }
}
