//! `constraints.json`. Source: Amazon SageMaker, "Schema for Constraints" and "Schema for Violations".

use super::{Import, rest_of};
use crate::gates::contract::Table;
use crate::gates::document::At;
use crate::gates::error::Result;
use crate::gates::limit::Limit;
use crate::gates::rule::{Interval, LogicalType, Rule, RuleKind};

pub(super) fn read(root: &At<'_>) -> Result<Import> {
    let features = root.require("features", "give the constraints.json of a baseline")?;
    let (mut import, mut table) = (Import::default(), Table::new("dataset"));
    let mut columns = Vec::new();
    for feature in features.items()? {
        let name = feature.require("name", "give the feature a name")?.text()?;
        columns.push(name.to_string());
        let mut add = |at: &At<'_>, kind: RuleKind| {
            let mut rule = Rule::new(Some(name), kind);
            rule.source = at.path().to_string();
            table.push(rule);
        };
        match feature.text_of("inferred_type")? {
            Some("Integral") => add(&feature, RuleKind::Type { logical: Some(LogicalType::Integer), unit: None }),
            Some("Fractional") => add(&feature, RuleKind::Type { logical: Some(LogicalType::Number), unit: None }),
            Some("String") => add(&feature, RuleKind::Type { logical: Some(LogicalType::String), unit: None }),
            Some(other) => import.leave_out(&feature, "inferred_type", format!("the type {other:?} says nothing")),
            None => {}
        }
        if let Some(share) = feature.number_of("completeness")? {
            add(&feature, RuleKind::Missing { tokens: Vec::new(), limit: rest_of(share) });
        }
        if let Some(numbers) = feature.get("num_constraints")
            && numbers.flag("is_non_negative")?
        {
            let interval = Interval { min: Some(0.0), ..Interval::default() };
            add(&numbers, RuleKind::Range { interval, limit: Limit::none() });
        }
        if let Some(domains) = feature.get("string_constraints").and_then(|texts| texts.get("domains")) {
            let values = domains.texts()?;
            if !values.is_empty() {
                add(&domains, RuleKind::AllowedSet { values, limit: Limit::none() });
            }
        }
        if let Some(overrides) = feature.get("monitoringConfigOverrides").or(feature.get("monitoring_config_overrides"))
            && !overrides.members()?.is_empty()
        {
            import.leave_out(
                &overrides,
                "monitoringConfigOverrides",
                "thresholds of single features are not taken over",
            );
        }
    }
    // The checks missing_column_check and extra_column_check.
    table.push(Rule::new(None, RuleKind::Schema { columns, open: false }));
    import.tables.push(table);
    read_config(root, &mut import)?;
    Ok(import)
}

/// What the monitor is told besides the constraints.
fn read_config(root: &At<'_>, import: &mut Import) -> Result<()> {
    let Some(config) = root.get("monitoring_config") else { return Ok(()) };
    for (key, at) in config.members()? {
        let reason = match key {
            "emit_metrics" => continue,
            "evaluate_constraints" if at.text().is_ok_and(|text| text == "Enabled") => continue,
            "evaluate_constraints" => "the monitor does not evaluate them, but the rules here are evaluated",
            "domain_content_threshold" if at.number().is_ok_and(|share| share == 1.0) => continue,
            "domain_content_threshold" => "values outside of a domain are not allowed here; set a limit in a contract",
            "datatype_check_threshold" => "a column has one type here, so no share of its values can have another",
            "distribution_constraints" => "distances of distributions are drift, not gates; see the drift jobs",
            _ => "there is no such setting here",
        };
        import.leave_out(&at, key, reason);
    }
    Ok(())
}
