//! Rules with `engine: driftwatt`, for what the standard has no metric.
//!
//! Their `implementation` is a map, or the text of one.

use super::quality::{Level, checked_pattern, key_columns};
use super::sla::age;
use super::{images, operator};
use crate::gates::document::{At, Node};
use crate::gates::error::{Error, Result};
use crate::gates::limit::Limit;
use crate::gates::rule::{Interval, LabelFormat, RuleKind};

/// Name, parameters, and whether it belongs to a column; none where both will do.
const RULES: [(&str, &[&str], Option<bool>); 17] = [
    ("uniqueness", &["properties"], None),
    ("rowCountOfPast", &["ratioMin", "ratioMax"], Some(false)),
    ("schema", &["open", "columns"], Some(false)),
    ("nonFinite", &[], Some(true)),
    ("allowedSet", &["values"], Some(true)),
    ("pattern", &["pattern"], Some(true)),
    ("labelFormat", &["format"], Some(true)),
    ("range", &["min", "max", "minExclusive", "maxExclusive"], Some(true)),
    ("iqrOutliers", &["factor"], Some(true)),
    ("robustZ", &["z"], Some(true)),
    ("distinctOfPast", &["ratioMin", "ratioMax"], Some(true)),
    ("constant", &[], Some(true)),
    ("monotone", &["strict"], Some(true)),
    ("freshness", &["ageMax"], Some(true)),
    ("classBalance", &["shareMin", "shareMax", "classes"], Some(true)),
    ("reference", &["to"], Some(true)),
    ("images", &["sizes", "sizesMax", "sideMin", "aspect", "aspectTolerance", "channels"], Some(false)),
];

/// Reads the rule of an entry.
pub(super) fn read(entry: &At<'_>, level: &Level<'_>) -> Result<RuleKind> {
    let remedy = "add `implementation` with `rule: range` or another one";
    let implementation = entry.require("implementation", remedy)?;
    if implementation.is_map() {
        return rule(&implementation, entry, level);
    }
    let text = implementation.text()?;
    let place = implementation.place();
    let node = Node::from_yaml(&place.file, text).map_err(|error| inside(error, &implementation))?;
    rule(&node.root(&place.file), entry, level).map_err(|error| inside(error, &implementation))
}

/// Puts an error within the text of an implementation at its place in the file.
fn inside(error: Error, implementation: &At<'_>) -> Error {
    let Error::Document { place, problem, remedy } = error else { return error };
    let mut outer = implementation.place();
    if place.path.starts_with(&outer.path) {
        return Error::Document { place, problem, remedy };
    }
    if !place.path.is_empty() {
        outer.path = format!("{}.{}", outer.path, place.path);
    }
    Error::Document { place: outer, problem, remedy }
}

/// Rules that state their own bounds, so that an operator has nothing to compare.
const WITHOUT_OPERATOR: [&str; 6] =
    ["rowCountOfPast", "schema", "distinctOfPast", "constant", "freshness", "classBalance"];

fn rule(at: &At<'_>, entry: &At<'_>, level: &Level<'_>) -> Result<RuleKind> {
    let name_at = at.require("rule", "name the rule, such as `rule: range`")?;
    let name = name_at.text()?;
    let Some((_, parameters, of_column)) = RULES.iter().find(|(known, ..)| *known == name) else {
        let names = RULES.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ");
        return Err(name_at.error(format!("the rule {name:?} is not known"), format!("use {names}")));
    };
    for (key, member) in at.members()? {
        let operator = operator::is_operator(key) && !WITHOUT_OPERATOR.contains(&name);
        if key != "rule" && !parameters.contains(&key) && !operator {
            let known = if parameters.is_empty() { "nothing more".into() } else { parameters.join(", ") };
            return Err(member.error(format!("{name} has no parameter {key:?}"), format!("use {known}")));
        }
    }
    match (of_column, level.column) {
        (Some(true), None) => Err(name_at.error(format!("{name} is a rule of a column"), "move it under a property")),
        (Some(false), Some(_)) => {
            Err(name_at.error(format!("{name} is a rule of a table"), "move it to the quality of the table"))
        }
        _ => kind(name, at, entry, level),
    }
}

fn kind(name: &str, at: &At<'_>, entry: &At<'_>, level: &Level<'_>) -> Result<RuleKind> {
    let none = || limit_or(at, entry, Some(Limit::none()));
    Ok(match name {
        "rowCountOfPast" => {
            let (ratio_min, ratio_max) = ratios(at)?;
            RuleKind::RowCountOfPast { ratio_min, ratio_max }
        }
        "distinctOfPast" => {
            let (ratio_min, ratio_max) = ratios(at)?;
            RuleKind::DistinctOfPast { ratio_min, ratio_max }
        }
        "uniqueness" => RuleKind::Uniqueness { limit: limit_or(at, entry, None)?, columns: key_columns(at, level)? },
        "schema" => RuleKind::Schema { columns: schema_columns(at, level)?, open: at.flag("open")? },
        "nonFinite" => RuleKind::NonFinite(none()?),
        "allowedSet" => {
            RuleKind::AllowedSet { values: at.require("values", "list the values")?.texts()?, limit: none()? }
        }
        "pattern" => {
            let pattern = at.require("pattern", "write the regular expression")?;
            RuleKind::Pattern { regex: checked_pattern(&pattern)?, limit: none()? }
        }
        "labelFormat" => {
            let remedy = "use integer, snake, kebab, upperSnake or trimmed";
            let format = at.require("format", remedy)?;
            let read = LabelFormat::parse(format.text()?);
            let format = read.ok_or_else(|| format.error("the format is not known", remedy))?;
            RuleKind::LabelFormat { format, limit: none()? }
        }
        "range" => RuleKind::Range { interval: interval(at)?, limit: none()? },
        "iqrOutliers" => {
            let limit = limit_or(at, entry, Some(Limit::percent_max(5.0)))?;
            RuleKind::IqrOutliers { factor: positive(at, "factor", 1.5)?, limit }
        }
        "robustZ" => {
            let limit = limit_or(at, entry, Some(Limit::percent_max(1.0)))?;
            RuleKind::RobustZ { z: positive(at, "z", 3.5)?, limit }
        }
        "constant" => RuleKind::Constant,
        "monotone" => RuleKind::Monotone { strict: at.flag("strict")?, limit: none()? },
        "freshness" => {
            let age_max = at.require("ageMax", "write an age such as 4h or 2d")?;
            RuleKind::Freshness { age_max: age(&age_max, None)? }
        }
        "classBalance" => balance(at)?,
        "images" => RuleKind::Images(images::read(at, none()?)?),
        _ => {
            let to = at.require("to", "name the other column as table.column")?;
            if !to.text()?.contains('.') {
                return Err(to.error("the reference names no table", "write table.column"));
            }
            RuleKind::Reference { to: to.text()?.into(), limit: none()? }
        }
    })
}

/// The operators within the implementation or beside it.
fn limit_or(at: &At<'_>, entry: &At<'_>, default: Option<Limit>) -> Result<Limit> {
    match operator::limit(at)?.or(operator::limit(entry)?).or(default) {
        Some(limit) => Ok(limit),
        None => operator::required_limit(at),
    }
}

fn schema_columns(at: &At<'_>, level: &Level<'_>) -> Result<Vec<String>> {
    match at.get("columns") {
        Some(columns) => columns.texts(),
        None => Ok(level.names.iter().map(|(_, data)| data.clone()).collect()),
    }
}

fn positive(at: &At<'_>, key: &str, default: f64) -> Result<f64> {
    let Some(member) = at.get(key) else { return Ok(default) };
    let number = member.number()?;
    if number > 0.0 {
        Ok(number)
    } else {
        Err(member.error(format!("{number} is not above 0"), "write a positive number"))
    }
}

fn ratios(at: &At<'_>) -> Result<(f64, f64)> {
    let (min, max) = (at.number_of("ratioMin")?.unwrap_or(0.5), at.number_of("ratioMax")?.unwrap_or(2.0));
    if min < 0.0 || min > max {
        return Err(at.error(format!("{min} to {max} is no range of ratios"), "write ratioMin below ratioMax, from 0"));
    }
    Ok((min, max))
}

fn interval(at: &At<'_>) -> Result<Interval> {
    let interval = Interval {
        min: at.number_of("min")?,
        max: at.number_of("max")?,
        min_exclusive: at.flag("minExclusive")?,
        max_exclusive: at.flag("maxExclusive")?,
    };
    check_interval(at, interval)
}

/// An interval that a number can lie in.
pub(super) fn check_interval(at: &At<'_>, interval: Interval) -> Result<Interval> {
    match (interval.min, interval.max) {
        (None, None) => Err(at.error("the range has no end", "write min, max or both")),
        (Some(min), Some(max)) if min > max => {
            Err(at.error(format!("min {min} is above max {max}"), "write the smaller number as min"))
        }
        _ => Ok(interval),
    }
}

fn balance(at: &At<'_>) -> Result<RuleKind> {
    let share = |key: &str| {
        let Some(member) = at.get(key) else { return Ok(None) };
        let number = member.number()?;
        let fits = (0.0..=1.0).contains(&number);
        if fits {
            Ok(Some(number))
        } else {
            Err(member.error(format!("{number} is no share"), "write a number from 0 to 1"))
        }
    };
    let (share_min, share_max) = (share("shareMin")?, share("shareMax")?);
    let classes = at.get("classes").map_or(Ok(Vec::new()), |classes| classes.texts())?;
    if share_min.is_none() && share_max.is_none() && classes.is_empty() {
        return Err(at.error("the rule asks for nothing", "write shareMin, shareMax or classes"));
    }
    Ok(RuleKind::ClassBalance { share_min, share_max, classes })
}
