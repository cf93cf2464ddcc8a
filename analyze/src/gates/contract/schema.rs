//! One table of `schema`: its columns, and the rules that follow from how they are declared.

use super::Table;
use super::driftwatt::check_interval;
use super::quality::{self, Level, checked_pattern};
use crate::gates::document::At;
use crate::gates::error::Result;
use crate::gates::limit::Limit;
use crate::gates::rule::{Interval, LogicalType, Rule, RuleKind};

/// One column while it is read.
struct Property<'a> {
    at: At<'a>,
    /// Name in the data.
    column: String,
    key_position: Option<f64>,
}

/// Reads a table with all its rules.
pub(super) fn read(at: &At<'_>) -> Result<Table> {
    let mut table = Table::new(at.require("name", "give the table a name")?.text()?);
    table.physical_name = at.text_of("physicalName")?.map(str::to_string);
    let mut names = Vec::new();
    let mut properties = Vec::new();
    for property in at.items_of("properties")? {
        let name = property.require("name", "give the column a name")?.text()?.to_string();
        let column = property.text_of("physicalName")?.map_or(name.clone(), str::to_string);
        if names.iter().any(|(_, known)| *known == column) {
            return Err(property.error(format!("the column {column:?} stands twice"), "keep one of them"));
        }
        names.push((name, column.clone()));
        let is_key = property.flag("primaryKey")?;
        let position = property.number_of("primaryKeyPosition")?.unwrap_or(1.0);
        properties.push(Property { at: property, column, key_position: is_key.then_some(position) });
    }
    table.primary_key = primary_key(&properties);
    for entry in at.items_of("quality")? {
        table.push(quality::read(&entry, &Level { column: None, names: &names })?);
    }
    for property in &properties {
        read_property(property, &names, &mut table)?;
    }
    read_relationships(at, None, &mut table)?;
    add_defaults(&names, &mut table);
    Ok(table)
}

fn primary_key(properties: &[Property<'_>]) -> Vec<String> {
    let mut key: Vec<(f64, &str)> =
        properties.iter().filter_map(|property| Some((property.key_position?, property.column.as_str()))).collect();
    key.sort_by(|a, b| a.0.total_cmp(&b.0));
    key.into_iter().map(|(_, column)| column.to_string()).collect()
}

fn read_property(property: &Property<'_>, names: &[(String, String)], table: &mut Table) -> Result<()> {
    let (at, column) = (&property.at, property.column.as_str());
    let mut own = Vec::new();
    for entry in at.items_of("quality")? {
        own.push(quality::read(&entry, &Level { column: Some(column), names })?);
    }
    let mut declared = |kind: RuleKind| {
        let mut rule = Rule::new(Some(column), kind);
        rule.source = at.path().to_string();
        table.push(rule);
    };
    let logical = logical_type(at)?;
    let unit = unit(at)?;
    if logical.is_some() || unit.is_some() {
        declared(RuleKind::Type { logical, unit });
    }
    let states_nulls = own.iter().any(|rule| matches!(rule.kind, RuleKind::Missing { .. }));
    if (at.flag("required")? || property.key_position.is_some()) && !states_nulls {
        declared(RuleKind::Missing { tokens: Vec::new(), limit: Limit::none() });
    }
    let states_duplicates = own.iter().any(|rule| matches!(rule.kind, RuleKind::Duplicates { .. }));
    if at.flag("unique")? && !states_duplicates {
        declared(RuleKind::Duplicates { columns: vec![column.to_string()], limit: Limit::none() });
    }
    if let Some(options) = at.get("logicalTypeOptions") {
        read_options(&options, logical, &mut declared)?;
    }
    own.into_iter().for_each(|rule| table.push(rule));
    read_relationships(at, Some(column), table)?;
    if at.get("properties").is_some() || at.get("items").is_some_and(|items| items.get("quality").is_some()) {
        let reason = "rules of nested columns are not evaluated; flatten them into columns of their own".into();
        let mut rule = Rule::new(Some(column), RuleKind::Unsupported { reason });
        rule.source = at.path().to_string();
        table.push(rule);
    }
    Ok(())
}

fn logical_type(at: &At<'_>) -> Result<Option<LogicalType>> {
    let Some(logical) = at.get("logicalType") else { return Ok(None) };
    let text = logical.text()?;
    let remedy = "use string, date, timestamp, time, number, integer, boolean, object or array";
    let read = LogicalType::parse(text);
    read.map(Some).ok_or_else(|| logical.error(format!("the logicalType {text:?} is not known"), remedy))
}

/// The custom property `unit`, for the standard has no place for units of columns.
fn unit(at: &At<'_>) -> Result<Option<String>> {
    for property in at.items_of("customProperties")? {
        if property.text_of("property")? == Some("unit") {
            return Ok(property.text_of("value")?.map(str::to_string));
        }
    }
    Ok(None)
}

/// `logicalTypeOptions` of numbers and texts; those of other types say how a value is written, not which one it is.
fn read_options(options: &At<'_>, logical: Option<LogicalType>, declared: &mut impl FnMut(RuleKind)) -> Result<()> {
    if matches!(logical, Some(LogicalType::Number | LogicalType::Integer)) {
        let (mut min, mut max) = (options.number_of("minimum")?, options.number_of("maximum")?);
        // Before 3.1 these were truth values about `minimum` and `maximum`.
        let exclusive = |key: &str, end: &mut Option<f64>| {
            let Some(member) = options.get(key) else { return Ok(false) };
            if let Ok(truth) = member.boolean() {
                return Ok(truth);
            }
            *end = Some(member.number()?);
            Ok::<bool, crate::gates::error::Error>(true)
        };
        let min_exclusive = exclusive("exclusiveMinimum", &mut min)?;
        let max_exclusive = exclusive("exclusiveMaximum", &mut max)?;
        if min.is_some() || max.is_some() {
            let interval = check_interval(options, Interval { min, max, min_exclusive, max_exclusive })?;
            declared(RuleKind::Range { interval, limit: Limit::none() });
        }
    }
    if logical == Some(LogicalType::String)
        && let Some(pattern) = options.get("pattern")
    {
        declared(RuleKind::Pattern { regex: checked_pattern(&pattern)?, limit: Limit::none() });
    }
    Ok(())
}

/// Foreign keys: of one column they are checked, of several they are listed as skipped.
fn read_relationships(at: &At<'_>, column: Option<&str>, table: &mut Table) -> Result<()> {
    for relationship in at.items_of("relationships")? {
        if relationship.text_of("type")?.is_some_and(|kind| kind != "foreignKey") {
            continue;
        }
        let to = relationship.require("to", "name the other column as table.column")?;
        let kind = match (column, to.is_list()) {
            (Some(_), false) => RuleKind::Reference { to: to.text()?.into(), limit: Limit::none() },
            _ => RuleKind::Unsupported { reason: "foreign keys of several columns are not evaluated".into() },
        };
        let mut rule = Rule::new(column, kind);
        rule.source = relationship.path().to_string();
        table.push(rule);
    }
    Ok(())
}

/// What holds without being written.
fn add_defaults(names: &[(String, String)], table: &mut Table) {
    let has = |table: &Table, wanted: fn(&RuleKind) -> bool| table.rules.iter().any(|rule| wanted(&rule.kind));
    if !has(table, |kind| matches!(kind, RuleKind::RowCount(_))) {
        table.push(Rule::default_row_count());
    }
    if table.primary_key.len() > 1 {
        table.push(Rule::new(None, RuleKind::Duplicates { columns: table.primary_key.clone(), limit: Limit::none() }));
    } else if let [key] = table.primary_key.as_slice() {
        let stated = table.rules.iter().any(
            |rule| matches!(&rule.kind, RuleKind::Duplicates { columns, .. } if columns == std::slice::from_ref(key)),
        );
        if !stated {
            let kind = RuleKind::Duplicates { columns: vec![key.clone()], limit: Limit::none() };
            table.push(Rule::new(Some(&key.clone()), kind));
        }
    }
    if !names.is_empty() && !has(table, |kind| matches!(kind, RuleKind::Schema { .. })) {
        let columns: Vec<String> = names.iter().map(|(_, column)| column.clone()).collect();
        table.push(Rule::new(None, RuleKind::Schema { columns: columns.clone(), open: true }));
        let mut extra = Rule::new(None, RuleKind::Schema { columns, open: false }).warning();
        extra.id = "schema.extra".into();
        table.push(extra);
    }
}
