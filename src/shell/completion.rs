//! Names that Tab completes, and when a line is whole.

use std::collections::BTreeMap;

use rustyline::{
    Context, Helper,
    completion::Completer,
    highlight::Highlighter,
    hint::Hinter,
    validate::{ValidationContext, ValidationResult, Validator},
};
use serde_json::Value;

use super::{output, statement};
use crate::cli::Source;

const KEYWORDS: [&str; 44] = [
    "AND",
    "AS",
    "ASC",
    "AVG",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COUNT",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "ELSE",
    "END",
    "EXPLAIN",
    "FILTER",
    "FROM",
    "GROUP",
    "HAVING",
    "IN",
    "INTERVAL",
    "IS",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "MAX",
    "MIN",
    "NOT",
    "NULL",
    "ON",
    "OR",
    "ORDER",
    "OVER",
    "PARTITION",
    "SELECT",
    "SHOW",
    "SUM",
    "THEN",
    "UNION",
    "USING",
    "WHEN",
    "WHERE",
    "WITH",
];

/// What can be named in a query of one source.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Columns by table, tables by schema.
    tables: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    functions: Vec<String>,
}

impl Names {
    /// Asks `source`; what it does not tell cannot be completed.
    pub(super) async fn of(source: &Source) -> Self {
        let mut names = Self::default();
        let columns = "SELECT table_schema, table_name, column_name FROM information_schema.columns \
                       WHERE table_schema NOT IN ('information_schema', 'pg_catalog')";
        for row in rows(source, columns).await {
            if let [schema, table, column] = &row[..] {
                let schema = names.tables.entry(schema.clone()).or_default();
                schema.entry(table.clone()).or_default().push(column.clone());
            }
        }
        let functions = "SELECT DISTINCT routine_name FROM information_schema.routines";
        names.functions = rows(source, functions).await.into_iter().flatten().collect();
        names
    }

    /// What the word `before.start` could become, without `before`.
    fn completions(&self, before: Option<&str>, start: &str) -> Vec<String> {
        let begins = |name: &&str| name.to_lowercase().starts_with(&start.to_lowercase());
        let mut found: Vec<String> = match before {
            Some(before) => {
                let tables = self.tables.get(before).into_iter().flat_map(BTreeMap::keys);
                let columns = self.tables.values().filter_map(|tables| tables.get(before)).flatten();
                tables.chain(columns).map(String::as_str).filter(begins).map(str::to_owned).collect()
            }
            None => {
                let schemas = self.tables.keys().filter(|schema| *schema != "public").map(String::as_str);
                let tables = self.tables.get("public").into_iter().flat_map(BTreeMap::keys);
                let columns = self.tables.values().flat_map(BTreeMap::values).flatten();
                let plain = tables.chain(columns).chain(&self.functions).map(String::as_str);
                schemas.chain(plain).chain(KEYWORDS).filter(begins).map(str::to_owned).collect()
            }
        };
        found.sort_unstable();
        found.dedup();
        found
    }
}

async fn rows(source: &Source, query: &str) -> Vec<Vec<String>> {
    let answer = source.answer(query, "json").await.and_then(|answer| output::parse(&answer)).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rows = answer["rows"].as_array().into_iter().flatten();
    rows.map(|row| row.as_array().into_iter().flatten().map(text).collect()).collect()
}

/// The editor's helper.
pub(super) struct SqlHelper {
    pub(super) names: Names,
}

impl Completer for SqlHelper {
    type Candidate = String;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let typed = &line[..position];
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let start =
            typed.rfind(|c| !is_part(c)).map_or(0, |at| at + typed[at..].chars().next().map_or(0, char::len_utf8));
        let before = typed[..start].strip_suffix('.').map(|before| {
            before.rfind(|c| !is_part(c)).map_or(before, |at| before[at..].trim_start_matches(|c| !is_part(c)))
        });
        Ok((start, self.names.completions(before, &typed[start..])))
    }
}

impl Validator for SqlHelper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let is_whole = statement::is_whole(context.input());
        Ok(if is_whole { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Hinter for SqlHelper {
    type Hint = String;
}

impl Highlighter for SqlHelper {}

impl Helper for SqlHelper {}

#[cfg(test)]
mod tests {
    use rustyline::history::DefaultHistory;

    use super::*;

    fn check(line: &str, start: usize, expected: &[&str]) {
        let columns = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let schema = |table: &str, names: &[&str]| BTreeMap::from([(table.to_owned(), columns(names))]);
        let tables = BTreeMap::from([
            ("public".to_owned(), schema("gpu", &["gpu_id", "value"])),
            ("raw".to_owned(), schema("samples", &["series_id", "value"])),
        ]);
        let helper = SqlHelper { names: Names { tables, functions: vec!["var_pop".to_owned()] } };
        let history = DefaultHistory::new();
        let found = helper.complete(line, line.len(), &Context::new(&history)).unwrap();
        assert_eq!(found, (start, columns(expected)), "{line}");
    }

    #[test]
    fn names_are_completed_by_what_stands_before_them() {
        check("SELECT v", 7, &["value", "var_pop"]);
        check("SELECT * FROM raw.", 18, &["samples"]);
        check("SELECT gpu.", 11, &["gpu_id", "value"]);
        check("SELECT * FROM g", 14, &["GROUP", "gpu", "gpu_id"]);
        check("é.v", 3, &[]);
    }
}
