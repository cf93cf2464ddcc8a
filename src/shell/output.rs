//! How an answer is shown.

use std::fmt::Write as _;

use anyhow::Context as _;
use clap::ValueEnum;
use serde_json::Value;

use crate::terminal;

/// The formats of `driftwatt sql`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people: fits the terminal
    Table,
    /// One object with columns and rows
    Json,
    /// One object per row and line
    Ndjson,
    /// A header line, then RFC 4180
    Csv,
}

impl OutputFormat {
    /// A table on a terminal, JSON in a pipe.
    pub(crate) fn usual() -> Self {
        if terminal::is_interactive() { Self::Table } else { Self::Json }
    }

    /// What the server is asked for.
    pub(crate) fn wire(self) -> &'static str {
        match self {
            Self::Table | Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
        }
    }

    /// Whether the answer has no row.
    ///
    /// # Errors
    /// The answer is not what was asked for.
    pub(super) fn is_empty(self, answer: &str) -> anyhow::Result<bool> {
        Ok(match self {
            Self::Table | Self::Json => parse(answer)?["row_count"] == 0,
            Self::Ndjson => answer.is_empty(),
            // Only the header.
            Self::Csv => answer.lines().nth(1).is_none(),
        })
    }

    /// The answer as it is printed, in at most `width` columns if it is a table.
    ///
    /// # Errors
    /// The answer is not what was asked for.
    pub(crate) fn render(self, answer: &str, width: usize) -> anyhow::Result<String> {
        match self {
            Self::Table => Ok(driftwatt_query::render_table(&parse(answer)?, width)),
            Self::Json | Self::Ndjson | Self::Csv => Ok(answer.to_owned()),
        }
    }
}

/// Reads an answer of format `json`.
///
/// # Errors
/// It is none.
pub(super) fn parse(answer: &str) -> anyhow::Result<Value> {
    serde_json::from_str(answer).context("the answer is not JSON")
}

/// An answer as records, a line for each cell: for rows that are wider than the terminal.
pub(super) fn records(answer: &Value) -> String {
    let names: Vec<_> = list(&answer["columns"]).map(|column| cell(&column["name"])).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (number, row) in list(&answer["rows"]).enumerate() {
        // Writing to a string cannot fail.
        let _ok = writeln!(text, "─ {} ─", number + 1);
        for (name, value) in names.iter().zip(list(row)) {
            let _ok = writeln!(text, "{name:<width$}  {}", cell(value));
        }
    }
    let more = if answer["truncated"] == true { ", cut: there are more" } else { "" };
    text + &format!("({} rows{more})\n", answer["row_count"])
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => terminal::plain(text),
        other => terminal::plain(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn records_have_a_line_for_each_cell() {
        let answer = json!({
            "columns": [{ "name": "n" }, { "name": "text" }], "rows": [[1, "a\u{1b}b"], [null, "c"]], "row_count": 2,
        });
        assert_eq!(records(&answer), "─ 1 ─\nn     1\ntext  a b\n─ 2 ─\nn     \ntext  c\n(2 rows)\n");
    }
}
