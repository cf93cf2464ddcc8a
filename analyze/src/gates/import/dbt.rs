//! Generic tests of dbt. Source: dbt, "Data tests" and "Model properties"; of dbt_utils those that map.

use super::{Import, rest_of};
use crate::gates::contract::Table;
use crate::gates::document::At;
use crate::gates::error::Result;
use crate::gates::limit::Limit;
use crate::gates::rule::{Interval, Rule, RuleKind};

type Mapped = std::result::Result<RuleKind, String>;

pub(super) fn read(root: &At<'_>) -> Result<Import> {
    let mut import = Import::default();
    for kind in ["models", "seeds", "snapshots"] {
        for node in root.items_of(kind)? {
            read_table(&node, &mut import)?;
        }
    }
    for source in root.items_of("sources")? {
        for node in source.items_of("tables")? {
            read_table(&node, &mut import)?;
        }
    }
    if import.tables.is_empty() {
        let remedy = "give a properties file with models, sources, seeds or snapshots";
        return Err(root.error("the file describes no table", remedy));
    }
    Ok(import)
}

fn read_table(node: &At<'_>, import: &mut Import) -> Result<()> {
    let mut table = Table::new(node.require("name", "give the model a name")?.text()?);
    read_tests(node, None, &mut table, import)?;
    for column in node.items_of("columns")? {
        let name = column.require("name", "give the column a name")?.text()?;
        read_tests(&column, Some(name), &mut table, import)?;
    }
    import.tables.push(table);
    Ok(())
}

/// `data_tests` since 1.8, `tests` before.
fn read_tests(node: &At<'_>, column: Option<&str>, table: &mut Table, import: &mut Import) -> Result<()> {
    for key in ["data_tests", "tests"] {
        for test in node.items_of(key)? {
            read_test(&test, column, table, import)?;
        }
    }
    Ok(())
}

fn read_test(test: &At<'_>, column: Option<&str>, table: &mut Table, import: &mut Import) -> Result<()> {
    let (name, body) = if test.is_map() {
        let members = test.members()?;
        let generic = test.text_of("test_name")?.map(|name| (name, test.clone()));
        let Some((name, body)) = generic.or(members.into_iter().next()) else {
            import.leave_out(test, "test", "it has no name");
            return Ok(());
        };
        (name, Some(body))
    } else {
        (test.text()?, None)
    };
    let config = |key: &str| {
        let body = body.as_ref()?;
        body.get("config").and_then(|config| config.get(key)).or_else(|| body.get(key))
    };
    let condition =
        ["where", "limit", "error_if", "warn_if", "fail_calc"].into_iter().find(|key| config(key).is_some());
    let mapped = match condition {
        Some(key) => Err(format!("its `{key}` is SQL, which is not evaluated")),
        None => map(name, body.as_ref(), column)?,
    };
    match mapped {
        Ok(kind) => {
            let mut rule = Rule::new(column, kind);
            if config("severity").map(|at| at.text()).transpose()?.is_some_and(|s| s.eq_ignore_ascii_case("warn")) {
                rule = rule.warning();
            }
            rule.source = test.path().to_string();
            table.push(rule);
        }
        Err(reason) => import.leave_out(test, name, reason),
    }
    Ok(())
}

fn map(name: &str, body: Option<&At<'_>>, column: Option<&str>) -> Result<Mapped> {
    // Since 1.10 arguments stand under `arguments`, before that beside the name.
    let argument = |key: &str| {
        let body = body?;
        body.get("arguments").and_then(|arguments| arguments.get(key)).or_else(|| body.get(key))
    };
    let number = |key: &str| argument(key).map(|at| at.number()).transpose();
    let own = || column.map(str::to_string).into_iter().collect::<Vec<String>>();
    if column.is_none() && name != "dbt_utils.unique_combination_of_columns" {
        return Ok(Err("there is no rule of this kind for a table".into()));
    }
    Ok(match name {
        "not_null" => Ok(RuleKind::Missing { tokens: Vec::new(), limit: Limit::none() }),
        "unique" => Ok(RuleKind::Duplicates { columns: own(), limit: Limit::none() }),
        "accepted_values" => match argument("values") {
            Some(values) => Ok(RuleKind::AllowedSet { values: values.texts()?, limit: Limit::none() }),
            None => Err("it has no values".into()),
        },
        "relationships" => match (argument("to"), argument("field")) {
            (Some(to), Some(field)) => {
                referenced(to.text()?).map(|table| format!("{table}.{}", field.text().unwrap_or_default())).map_or_else(
                    || Err("its `to` is neither ref() nor source()".into()),
                    |to| Ok(RuleKind::Reference { to, limit: Limit::none() }),
                )
            }
            _ => Err("it has no `to` or no `field`".into()),
        },
        "dbt_utils.unique_combination_of_columns" => match argument("combination_of_columns") {
            Some(columns) => Ok(RuleKind::Duplicates { columns: columns.texts()?, limit: Limit::none() }),
            None => Err("it has no combination_of_columns".into()),
        },
        "dbt_utils.not_null_proportion" if argument("at_most").is_none() => {
            let share = number("at_least")?.unwrap_or(1.0);
            Ok(RuleKind::Missing { tokens: Vec::new(), limit: rest_of(share) })
        }
        "dbt_utils.accepted_range" => {
            let (Ok(min), Ok(max)) = (number("min_value"), number("max_value")) else {
                return Ok(Err("its ends are no numbers".into()));
            };
            let exclusive = argument("inclusive").is_some_and(|at| at.boolean().is_ok_and(|inclusive| !inclusive));
            if min.is_none() && max.is_none() {
                return Ok(Err("it has no end".into()));
            }
            let interval = Interval { min, max, min_exclusive: exclusive, max_exclusive: exclusive };
            Ok(RuleKind::Range { interval, limit: Limit::none() })
        }
        _ => Err("there is no rule of this kind".into()),
    })
}

/// The last argument of `ref('customers')`, `ref('package', 'customers')` or `source('raw', 'customers')`.
fn referenced(to: &str) -> Option<&str> {
    let inner = to.trim().trim_start_matches("{{").trim_end_matches("}}").trim();
    let arguments = inner.strip_prefix("ref(").or_else(|| inner.strip_prefix("source("))?.strip_suffix(')')?;
    let last = arguments.rsplit(',').next()?.trim().trim_matches(|c| c == '\'' || c == '"');
    (!last.is_empty()).then_some(last)
}
