//! `slaProperties`: of them, `latency` states how old the newest row may be.

use std::time::Duration;

use super::{Contract, Note};
use crate::gates::document::At;
use crate::gates::error::Result;
use crate::gates::rule::{Rule, RuleKind};

/// Adds a freshness rule for each element of each latency.
pub(super) fn read(root: &At<'_>, contract: &mut Contract) -> Result<()> {
    let default = root.text_of("slaDefaultElement")?;
    for property in root.items_of("slaProperties")? {
        let name = property.require("property", "name the property, such as latency")?.text()?;
        if !["latency", "ly", "freshness", "fr"].iter().any(|known| name.eq_ignore_ascii_case(known)) {
            continue;
        }
        let value = property.require("value", "write the largest age")?;
        let age_max = age(&value, property.text_of("unit")?)?;
        let Some(elements) = property.text_of("element")?.or(default) else {
            return Err(property.error("the latency names no element", "write `element: table.column`"));
        };
        for element in elements.split(',').map(str::trim) {
            add(&property, contract, element, age_max)?;
        }
    }
    Ok(())
}

fn add(property: &At<'_>, contract: &mut Contract, element: &str, age_max: Duration) -> Result<()> {
    let only = contract.tables.len() == 1;
    let (table, column) = match element.rsplit_once('.') {
        Some((table, column)) => (Some(table), column),
        None if only => (None, element),
        None => return Err(property.error(format!("{element:?} names no table"), "write `element: table.column`")),
    };
    let found = contract
        .tables
        .iter_mut()
        .find(|known| table.is_none_or(|table| known.name == table || known.physical_name.as_deref() == Some(table)));
    let Some(found) = found else {
        // The standard's own example refers to a table that it does not describe.
        let text = format!("{element:?} is no table of this contract, so its latency is not checked");
        contract.notes.push(Note { place: property.place(), text });
        return Ok(());
    };
    let mut rule = Rule::new(Some(column), RuleKind::Freshness { age_max });
    rule.description = property.text_of("description")?.map(str::to_string);
    rule.source = property.path().to_string();
    found.push(rule);
    Ok(())
}

/// An age: a number with a unit of its own (`4h`), or with the unit beside it.
pub(super) fn age(at: &At<'_>, unit: Option<&str>) -> Result<Duration> {
    let text = at.text()?.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, own_unit) = text.split_at(digits);
    let unit = if own_unit.is_empty() { unit.unwrap_or("") } else { own_unit.trim() };
    let seconds = match unit {
        "s" | "sec" | "second" | "seconds" => 1.0,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        "w" | "week" | "weeks" => 7.0 * 86_400.0,
        "y" | "yr" | "year" | "years" => 365.0 * 86_400.0,
        other => return Err(at.error(format!("the unit {other:?} is not known"), "use s, m (minutes), h, d, w or y")),
    };
    let age = number.parse::<f64>().ok().and_then(|number| Duration::try_from_secs_f64(number * seconds).ok());
    age.ok_or_else(|| at.error(format!("{text:?} is no age"), "write a number such as 4 with the unit h"))
}
