//! `mustBe…` and `unit`: what a count is compared with.

use crate::gates::document::At;
use crate::gates::error::Result;
use crate::gates::limit::{Condition, Limit, Unit};

type Make = fn(f64) -> Condition;

/// The operators of one number. The long forms of the last two are wide-spread spellings.
const OPERATORS: [(&str, Make); 8] = [
    ("mustBe", Condition::Equal),
    ("mustNotBe", Condition::NotEqual),
    ("mustBeGreaterThan", Condition::Greater),
    ("mustBeGreaterOrEqualTo", Condition::GreaterOrEqual),
    ("mustBeGreaterThanOrEqualTo", Condition::GreaterOrEqual),
    ("mustBeLessThan", Condition::Less),
    ("mustBeLessOrEqualTo", Condition::LessOrEqual),
    ("mustBeLessThanOrEqualTo", Condition::LessOrEqual),
];

/// Whether a key is an operator or the unit.
pub(super) fn is_operator(key: &str) -> bool {
    key == "unit"
        || key == "mustBeBetween"
        || key == "mustNotBeBetween"
        || OPERATORS.iter().any(|(name, _)| *name == key)
}

/// The limit that a rule states; `None` if it has no operator.
pub(super) fn limit(rule: &At<'_>) -> Result<Option<Limit>> {
    let mut conditions = Vec::new();
    for (key, make) in OPERATORS {
        if let Some(number) = rule.number_of(key)? {
            conditions.push(make(number));
        }
    }
    if let Some((from, to)) = pair(rule, "mustBeBetween")? {
        conditions.push(Condition::Between(from, to));
    }
    if let Some((from, to)) = pair(rule, "mustNotBeBetween")? {
        conditions.push(Condition::NotBetween(from, to));
    }
    Ok(Limit::all(conditions, unit(rule)?))
}

/// The limit of a rule that means nothing without one.
pub(super) fn required_limit(rule: &At<'_>) -> Result<Limit> {
    limit(rule)?
        .ok_or_else(|| rule.error("the rule has no operator", "add one, such as `mustBe: 0` or `mustBeLessThan: 1`"))
}

fn pair(rule: &At<'_>, key: &str) -> Result<Option<(f64, f64)>> {
    let Some(list) = rule.get(key) else { return Ok(None) };
    let [from, to] = list.items()?.try_into().map_err(|_| list.error("two numbers are needed", "write [from, to]"))?;
    let (from, to) = (from.number()?, to.number()?);
    if from > to {
        return Err(list.error(format!("{from} is greater than {to}"), "write the smaller number first"));
    }
    Ok(Some((from, to)))
}

fn unit(rule: &At<'_>) -> Result<Unit> {
    let Some(unit) = rule.get("unit") else { return Ok(Unit::Rows) };
    match unit.text()? {
        "rows" => Ok(Unit::Rows),
        "percent" | "%" => Ok(Unit::Percent),
        other => Err(unit.error(format!("the unit {other:?} is not known"), "write rows or percent")),
    }
}
