//! One entry of `quality`, of a table or of a column.

use super::{driftwatt, operator};
use crate::gates::document::At;
use crate::gates::error::Result;
use crate::gates::limit::Unit;
use crate::gates::rule::{Dimension, Rule, RuleKind, Severity};
use crate::gates::scan::plan::compile_pattern;

/// Where a rule stands: for a table or for one of its columns, whose names it may use.
pub(super) struct Level<'a> {
    pub(super) column: Option<&'a str>,
    /// Name in the contract and name in the data.
    pub(super) names: &'a [(String, String)],
}

impl Level<'_> {
    /// The data's name of a column of the contract.
    pub(super) fn resolve(&self, at: &At<'_>) -> Result<String> {
        let name = at.text()?;
        let known = self.names.iter().find(|(contract, data)| contract == name || data == name);
        known.map(|(_, data)| data.clone()).ok_or_else(|| {
            let names = self.names.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
            at.error(format!("the contract has no column {name:?}"), format!("use one of {names}"))
        })
    }
}

/// Reads one rule.
pub(super) fn read(entry: &At<'_>, level: &Level<'_>) -> Result<Rule> {
    let kind = match entry.text_of("type")?.unwrap_or("library") {
        "library" => library(entry, level)?,
        "text" => unsupported("text rules are for people; write a metric to have it evaluated"),
        "sql" => unsupported("SQL rules run in the database of the contract; use a metric or a driftwatt rule here"),
        "custom" => custom(entry, level)?,
        other => {
            return Err(entry.error(format!("the type {other:?} is not known"), "use library, text, sql or custom"));
        }
    };
    let mut rule = Rule::new(level.column, kind);
    if let Some(name) = entry.text_of("id")?.or(entry.text_of("name")?) {
        rule.id = name.to_string();
    }
    rule.severity = severity(entry)?;
    if let Some(dimension) = entry.get("dimension") {
        let text = dimension.text()?;
        let known = "use accuracy, completeness, conformity, consistency, coverage, timeliness or uniqueness";
        let read = Dimension::parse(text);
        rule.dimension =
            Some(read.ok_or_else(|| dimension.error(format!("the dimension {text:?} is not known"), known))?);
    }
    rule.description = entry.text_of("description")?.or(entry.text_of("businessImpact")?).map(str::to_string);
    rule.source = entry.path().to_string();
    Ok(rule)
}

fn unsupported(reason: &str) -> RuleKind {
    RuleKind::Unsupported { reason: reason.into() }
}

/// The standard leaves the words of `severity` open; those in use are sorted into two.
fn severity(entry: &At<'_>) -> Result<Severity> {
    let Some(severity) = entry.get("severity") else { return Ok(Severity::Fail) };
    match severity.text()?.to_ascii_lowercase().as_str() {
        "warn" | "warning" | "info" | "low" | "minor" => Ok(Severity::Warn),
        "fail" | "error" | "medium" | "high" | "major" | "critical" | "blocker" => Ok(Severity::Fail),
        other => Err(severity.error(format!("the severity {other:?} is not known"), "use warning or error")),
    }
}

fn custom(entry: &At<'_>, level: &Level<'_>) -> Result<RuleKind> {
    let engine = entry.require("engine", "name the engine of the custom rule, such as driftwatt")?.text()?;
    if engine.eq_ignore_ascii_case("driftwatt") {
        return driftwatt::read(entry, level);
    }
    Ok(RuleKind::Unsupported { reason: format!("the rule is for the engine {engine:?}") })
}

fn library(entry: &At<'_>, level: &Level<'_>) -> Result<RuleKind> {
    let metric = match (entry.get("metric"), entry.get("rule")) {
        (Some(metric), _) | (None, Some(metric)) => metric,
        (None, None) => return Err(entry.error("the rule has no metric", "add `metric: nullValues` or another one")),
    };
    let name = metric.text()?;
    let of_column = matches!(name, "nullValues" | "missingValues" | "invalidValues");
    if of_column && level.column.is_none() {
        return Err(metric.error(format!("{name} is a metric of a column"), "move the rule under a property"));
    }
    if name == "rowCount" && level.column.is_some() {
        return Err(metric.error("rowCount is a metric of a table", "move the rule to the quality of the table"));
    }
    let limit = operator::required_limit(entry)?;
    match name {
        "rowCount" if limit.unit() == Unit::Percent => {
            Err(metric.error("the number of rows has no percentage", "remove the unit"))
        }
        "rowCount" => Ok(RuleKind::RowCount(limit)),
        "nullValues" => Ok(RuleKind::Missing { tokens: Vec::new(), limit }),
        "missingValues" => {
            let tokens = argument(entry, "missingValues").map_or(Ok(vec![String::new()]), |at| at.texts())?;
            Ok(RuleKind::Missing { tokens, limit })
        }
        "invalidValues" => match (argument(entry, "validValues"), argument(entry, "pattern")) {
            (Some(values), None) => Ok(RuleKind::AllowedSet { values: values.texts()?, limit }),
            (None, Some(pattern)) => Ok(RuleKind::Pattern { regex: checked_pattern(&pattern)?, limit }),
            (Some(_), Some(pattern)) => {
                Err(pattern.error("validValues and pattern in one rule", "make two rules of it"))
            }
            (None, None) => {
                Err(entry.error("nothing says what is valid", "add `arguments` with validValues or pattern"))
            }
        },
        "duplicateValues" => Ok(RuleKind::Duplicates { columns: key_columns(entry, level)?, limit }),
        other => Err(metric.error(
            format!("the metric {other:?} is not known"),
            "use rowCount, nullValues, missingValues, invalidValues or duplicateValues",
        )),
    }
}

/// An argument; an example of the standard has it beside `arguments` instead of below, so both are read.
fn argument<'a>(entry: &At<'a>, key: &str) -> Option<At<'a>> {
    entry.get("arguments").and_then(|arguments| arguments.get(key)).or_else(|| entry.get(key))
}

/// A pattern that compiles.
pub(super) fn checked_pattern(at: &At<'_>) -> Result<String> {
    let pattern = at.text()?;
    let remedy = "write it without look-around and back references";
    compile_pattern(pattern).map_err(|problem| at.error(problem.reason, remedy))?;
    Ok(pattern.to_string())
}

/// The columns of a key: those of `properties`, or the one that the rule stands under.
pub(super) fn key_columns(entry: &At<'_>, level: &Level<'_>) -> Result<Vec<String>> {
    if let Some(properties) = argument(entry, "properties") {
        return properties.items()?.iter().map(|at| level.resolve(at)).collect();
    }
    let own = level.column.map(|column| vec![column.to_string()]);
    own.ok_or_else(|| entry.error("the rule names no columns", "add `arguments` with `properties: [a, b]`"))
}
