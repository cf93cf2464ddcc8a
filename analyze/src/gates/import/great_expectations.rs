//! Expectation suites. Source: Great Expectations, "Expectation suite" JSON and the gallery of expectations.

use super::{Import, rest_of};
use crate::gates::contract::Table;
use crate::gates::document::At;
use crate::gates::error::Result;
use crate::gates::limit::{Condition, Limit, Unit};
use crate::gates::rule::{Interval, LogicalType, Rule, RuleKind};
use crate::gates::scan::plan::compile_pattern;

/// A rule, or why there is none.
type Mapped = std::result::Result<RuleKind, String>;

pub(super) fn read(root: &At<'_>) -> Result<Import> {
    let expectations = root.require("expectations", "give the JSON file of an expectation suite")?;
    let name = root.text_of("name")?.or(root.text_of("expectation_suite_name")?).unwrap_or("suite");
    let (mut import, mut table) = (Import::default(), Table::new(name));
    for expectation in expectations.items()? {
        let kind = expectation.text_of("type")?.or(expectation.text_of("expectation_type")?);
        let Some(kind) = kind else {
            import.leave_out(&expectation, "expectation", "it has no type");
            continue;
        };
        let Some(kwargs) = expectation.get("kwargs") else {
            import.leave_out(&expectation, kind, "it has no kwargs");
            continue;
        };
        let column = kwargs.text_of("column")?;
        match map(kind, &kwargs, column)? {
            Ok(rule_kind) => {
                let of_table = matches!(rule_kind, RuleKind::Schema { .. } | RuleKind::RowCount(_));
                let mut rule = Rule::new(column.filter(|_| !of_table), rule_kind);
                if matches!(expectation.text_of("severity")?, Some("warning" | "info")) {
                    rule = rule.warning();
                }
                rule.source = expectation.path().to_string();
                table.push(rule);
            }
            Err(reason) => import.leave_out(&expectation, kind, reason),
        }
    }
    import.tables.push(table);
    Ok(import)
}

fn map(kind: &str, kwargs: &At<'_>, column: Option<&str>) -> Result<Mapped> {
    if kwargs.get("row_condition").is_some() {
        return Ok(Err("it holds for some rows only (row_condition)".into()));
    }
    if kind.starts_with("expect_column_") && column.is_none() {
        return Ok(Err("it names no column".into()));
    }
    let limit = rest_of(kwargs.number_of("mostly")?.unwrap_or(1.0));
    Ok(match kind {
        "expect_column_values_to_not_be_null" => Ok(RuleKind::Missing { tokens: Vec::new(), limit }),
        "expect_column_values_to_be_in_set" => match kwargs.get("value_set") {
            Some(values) => Ok(RuleKind::AllowedSet { values: values.texts()?, limit }),
            None => Err("it has no value_set".into()),
        },
        "expect_column_values_to_match_regex" => match kwargs.text_of("regex")? {
            Some(regex) => pattern(regex, limit),
            None => Err("it has no regex".into()),
        },
        "expect_column_values_to_be_between" => between(kwargs, limit),
        "expect_column_values_to_be_unique" => {
            let columns = column.map(str::to_string).into_iter().collect();
            unique(columns, kwargs)
        }
        "expect_compound_columns_to_be_unique" => match kwargs.get("column_list") {
            Some(columns) => unique(columns.texts()?, kwargs),
            None => Err("it has no column_list".into()),
        },
        "expect_column_proportion_of_unique_values_to_be_between" => {
            let columns = column.map(str::to_string).into_iter().collect();
            bounds(kwargs, 100.0, Unit::Percent)
                .map(|limit| limit.map(|limit| RuleKind::Uniqueness { columns, limit }))?
        }
        "expect_table_row_count_to_be_between" => bounds(kwargs, 1.0, Unit::Rows)?.map(RuleKind::RowCount),
        "expect_table_row_count_to_equal" => match kwargs.number_of("value")? {
            Some(rows) => Ok(RuleKind::RowCount(Limit::new(Condition::Equal(rows), Unit::Rows))),
            None => Err("it has no value".into()),
        },
        "expect_column_values_to_be_increasing" if kwargs.get("mostly").is_none() => {
            Ok(RuleKind::Monotone { strict: kwargs.flag("strictly")?, limit })
        }
        "expect_column_values_to_be_of_type" => type_of(kwargs)?,
        "expect_column_to_exist" => {
            Ok(RuleKind::Schema { columns: column.map(str::to_string).into_iter().collect(), open: true })
        }
        "expect_table_columns_to_match_set" => match kwargs.get("column_set") {
            Some(columns) => {
                let exact = kwargs.get("exact_match").map_or(Ok(true), |at| at.boolean())?;
                Ok(RuleKind::Schema { columns: columns.texts()?, open: !exact })
            }
            None => Err("it has no column_set".into()),
        },
        _ => Err("there is no rule of this kind".into()),
    })
}

fn pattern(regex: &str, limit: Limit) -> Mapped {
    compile_pattern(regex).map_err(|problem| problem.reason)?;
    Ok(RuleKind::Pattern { regex: regex.into(), limit })
}

/// Great Expectations counts every row of a value that is not unique, we count the surplus ones: the same for none.
fn unique(columns: Vec<String>, kwargs: &At<'_>) -> Mapped {
    if kwargs.get("mostly").is_some_and(|mostly| mostly.number().is_ok_and(|share| share < 1.0)) {
        return Err("a share of unique rows (mostly) is counted in another way here".into());
    }
    Ok(RuleKind::Duplicates { columns, limit: Limit::none() })
}

fn between(kwargs: &At<'_>, limit: Limit) -> Mapped {
    let end = |key: &str| kwargs.get(key).map(|at| at.number()).transpose();
    let (Ok(min), Ok(max)) = (end("min_value"), end("max_value")) else {
        return Err("its ends are no numbers".into());
    };
    if min.is_none() && max.is_none() {
        return Err("it has no end".into());
    }
    let strict = |key: &str| kwargs.flag(key).map_err(|error| error.to_string());
    let interval = Interval { min, max, min_exclusive: strict("strict_min")?, max_exclusive: strict("strict_max")? };
    Ok(RuleKind::Range { interval, limit })
}

/// `min_value` and `max_value`, which are both allowed.
fn bounds(kwargs: &At<'_>, factor: f64, unit: Unit) -> Result<std::result::Result<Limit, String>> {
    let mut conditions = Vec::new();
    conditions.extend(kwargs.number_of("min_value")?.map(|min| Condition::GreaterOrEqual(min * factor)));
    conditions.extend(kwargs.number_of("max_value")?.map(|max| Condition::LessOrEqual(max * factor)));
    Ok(Limit::all(conditions, unit).ok_or_else(|| "it has no end".into()))
}

/// Types are named as in pandas, Spark or SQL.
fn type_of(kwargs: &At<'_>) -> Result<Mapped> {
    let Some(name) = kwargs.text_of("type_")? else { return Ok(Err("it has no type_".into())) };
    let logical = match name.to_ascii_lowercase().as_str() {
        "str" | "string" | "stringtype" | "text" | "varchar" | "char" => LogicalType::String,
        "int" | "int8" | "int16" | "int32" | "int64" | "integer" | "integertype" | "longtype" | "bigint"
        | "smallint" => LogicalType::Integer,
        "float" | "float32" | "float64" | "double" | "doubletype" | "floattype" | "decimal" | "numeric" | "real" => {
            LogicalType::Number
        }
        "bool" | "boolean" | "booleantype" => LogicalType::Boolean,
        "date" | "datetype" => LogicalType::Date,
        "timestamp" | "timestamptype" | "datetime" | "datetime64" | "datetime64[ns]" => LogicalType::Timestamp,
        _ => return Ok(Err(format!("the type {name:?} is not known here"))),
    };
    Ok(Ok(RuleKind::Type { logical: Some(logical), unit: None }))
}
