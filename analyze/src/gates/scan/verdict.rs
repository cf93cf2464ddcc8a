//! From a rule and its state to its result.

use chrono::{DateTime, Utc};
use datafusion::arrow::datatypes::Schema;

use super::accumulator::{Accumulator, CLASSES_MAX};
use super::key_set::{Distinct, KeySet};
use super::order_histogram::{OrderHistogram, Outside};
use super::plan::Problem;
use super::sample::Sample;
use crate::gates::history::{BatchSummary, median, recent};
use crate::gates::limit::Limit;
use crate::gates::result::{RuleResult, Status};
use crate::gates::rule::{LogicalType, Rule, RuleKind, Severity, duration};

/// A newest row that lies further in the future than this is a wrong clock, not fresh data.
const CLOCK_SKEW_NS_MAX: i128 = 5 * 60 * 1_000_000_000;

/// What a rule found.
#[derive(Debug, Default)]
struct Finding {
    holds: bool,
    observed: String,
    value: Option<f64>,
    rows_checked: u64,
    rows_failed: Option<u64>,
    samples: Vec<Sample>,
}

type Found = Result<Finding, Problem>;

/// What all rules of a table may look at.
pub(crate) struct Facts<'a> {
    pub(crate) rows: u64,
    pub(crate) schema: &'a Schema,
    pub(crate) now: DateTime<Utc>,
    pub(crate) history: &'a [BatchSummary],
}

/// The result of one rule; `state` is `None` for rules about the table.
pub(crate) fn judge(rule: &Rule, state: Result<Option<&Accumulator>, &Problem>, facts: &Facts<'_>) -> RuleResult {
    let found = match state {
        Ok(Some(state)) => judge_rows(rule, state, facts),
        Ok(None) => judge_table(rule, facts),
        Err(problem) => Err(problem.clone()),
    };
    let (status, finding, reason) = match found {
        Ok(finding) if finding.holds => (Status::Pass, finding, None),
        Ok(finding) => {
            let status = if rule.severity == Severity::Warn { Status::Warn } else { Status::Fail };
            (status, finding, rule.description.clone())
        }
        Err(problem) => {
            (problem.status, Finding { observed: "unknown".into(), ..Finding::default() }, Some(problem.reason))
        }
    };
    RuleResult {
        rule_id: rule.id.clone(),
        metric: rule.kind.name(),
        column: rule.column.clone(),
        status,
        severity: rule.severity,
        dimension: rule.dimension,
        expected: rule.kind.expected(),
        observed: finding.observed,
        value: finding.value,
        rows_checked: finding.rows_checked,
        rows_failed: finding.rows_failed,
        samples: finding.samples,
        reason,
    }
}

fn judge_table(rule: &Rule, facts: &Facts<'_>) -> Found {
    match &rule.kind {
        RuleKind::RowCount(limit) => {
            let rows = facts.rows as f64;
            let holds = limit.decide(rows, rows, facts.rows.max(1)).unwrap_or(false);
            let observed = format!("{} rows", facts.rows);
            Ok(Finding { holds, observed, value: Some(rows), rows_checked: facts.rows, ..Finding::default() })
        }
        RuleKind::RowCountOfPast { ratio_min, ratio_max } => {
            let past = recent(facts.history).iter().map(|batch| batch.rows as f64).collect();
            against_past(facts.rows as f64, past, *ratio_min, *ratio_max, "rows", facts.rows)
        }
        RuleKind::Schema { columns, open } => Ok(schema_finding(columns, *open, facts)),
        RuleKind::Type { logical, unit } => type_finding(rule, *logical, unit.as_deref(), facts),
        _ => Err(Problem::error("the rule has no state; report this as a defect")),
    }
}

fn judge_rows(rule: &Rule, state: &Accumulator, facts: &Facts<'_>) -> Found {
    match (&rule.kind, state) {
        (kind, Accumulator::Rows { checked, failed, samples, .. }) => {
            rows_finding(row_limit(kind)?, *failed, *checked, samples.to_vec())
        }
        (RuleKind::Monotone { limit, .. }, Accumulator::Monotone { checked, failed, samples, .. }) => {
            rows_finding(limit, *failed, *checked, samples.to_vec())
        }
        (RuleKind::IqrOutliers { factor, limit }, Accumulator::Order(histogram)) => {
            let [q1, _, q3] = spread_of(histogram)?;
            let reach = factor * (q3 - q1);
            outlier_finding(histogram, q1 - reach, q3 + reach, limit)
        }
        (RuleKind::RobustZ { z, limit }, Accumulator::Order(histogram)) => {
            let [_, middle, _] = spread_of(histogram)?;
            let deviation = histogram.median_deviation(middle).filter(|mad| mad.is_finite() && *mad > 0.0);
            let Some(mad) = deviation else {
                return Err(Problem::skipped(
                    "the median deviation is 0 or beyond the numbers, so no value can be far off",
                ));
            };
            let reach = z * mad / 0.6745;
            outlier_finding(histogram, middle - reach, middle + reach, limit)
        }
        (RuleKind::Duplicates { limit, .. }, Accumulator::Keys { set, samples }) => {
            duplicates_finding(set, limit, samples.to_vec())
        }
        (RuleKind::Uniqueness { limit, .. }, Accumulator::Keys { set, .. }) => {
            let distinct = keys_of(set)?.distinct();
            key_finding(limit, distinct, distinct.count, set.added(), "distinct keys")
        }
        (RuleKind::DistinctOfPast { ratio_min, ratio_max }, Accumulator::Keys { set, .. }) => {
            let name = rule.column.as_deref().unwrap_or_default();
            let past = recent(facts.history).iter().filter_map(|batch| batch.column(name)?.distinct).collect();
            let distinct = keys_of(set)?.distinct().count;
            against_past(distinct, past, *ratio_min, *ratio_max, "distinct values", set.added())
        }
        (RuleKind::Constant, Accumulator::Constant { varied, checked, .. }) => constant_finding(*varied, *checked),
        (RuleKind::Freshness { age_max }, Accumulator::Newest { newest_ns, checked }) => {
            let Some(newest) = newest_ns else { return Err(no_values()) };
            freshness_finding(*newest, age_max.as_nanos(), facts.now, *checked)
        }
        (RuleKind::ClassBalance { share_min, share_max, classes }, Accumulator::Classes(counts)) => {
            let Some(found) = counts.sorted() else {
                return Err(Problem::error(format!("more than {CLASSES_MAX} classes; is this a label?")));
            };
            balance_finding(&found, *share_min, *share_max, classes)
        }
        _ => Err(Problem::error("the rule has the state of another; report this as a defect")),
    }
}

fn no_values() -> Problem {
    Problem::skipped("the column has no values")
}

fn row_limit(kind: &RuleKind) -> Result<&Limit, Problem> {
    match kind {
        RuleKind::Missing { limit, .. }
        | RuleKind::NonFinite(limit)
        | RuleKind::AllowedSet { limit, .. }
        | RuleKind::Pattern { limit, .. }
        | RuleKind::LabelFormat { limit, .. }
        | RuleKind::Range { limit, .. }
        | RuleKind::Reference { limit, .. } => Ok(limit),
        _ => Err(Problem::error("the rule has no limit; report this as a defect")),
    }
}

fn rows_finding(limit: &Limit, failed: u64, checked: u64, samples: Vec<Sample>) -> Found {
    if checked == 0 {
        return Err(no_values());
    }
    let count = failed as f64;
    Ok(Finding {
        holds: limit.decide(count, count, checked).unwrap_or(false),
        observed: shares(count, checked),
        value: Some(limit.value(count, checked)),
        rows_checked: checked,
        rows_failed: Some(failed),
        samples,
    })
}

/// `502 of 10000 rows (5.02 %)`
fn shares(count: f64, of: u64) -> String {
    format!("{count} of {of} rows ({} %)", percent(count, of))
}

/// Percent with four digits, so that 1 of a million is not shown as 0.
fn percent(count: f64, of: u64) -> f64 {
    let percent = count * 100.0 / of as f64;
    if percent == 0.0 {
        return 0.0;
    }
    let scale = 10f64.powf(3.0 - percent.abs().log10().floor());
    (percent * scale).round() / scale
}

/// The quartiles, if there is a spread between them.
fn spread_of(histogram: &OrderHistogram) -> Result<[f64; 3], Problem> {
    let Some(quartiles) = histogram.quartiles() else {
        return Err(Problem::skipped("the column has no finite values"));
    };
    if quartiles[0] == quartiles[2] {
        let reason = format!("at least half of the values are {}, so no spread is known", quartiles[1]);
        return Err(Problem::skipped(reason));
    }
    Ok(quartiles)
}

fn outlier_finding(histogram: &OrderHistogram, low: f64, high: f64, limit: &Limit) -> Found {
    let total = histogram.total();
    let Outside { count, uncertain } = histogram.outside(low, high);
    let (least, most) = (count.saturating_sub(uncertain), (count + uncertain).min(total));
    let Some(holds) = limit.decide(least as f64, most as f64, total) else {
        let reason = format!("between {least} and {most} of {total} values are outliers, and the limit lies between");
        return Err(Problem::error(reason));
    };
    let about = if uncertain > 0 { format!(" ± {uncertain}") } else { String::new() };
    Ok(Finding {
        holds,
        observed: format!("{}{about} outside of [{low:.6}, {high:.6}]", shares(count as f64, total)),
        value: Some(limit.value(count as f64, total)),
        rows_checked: total,
        rows_failed: Some(count),
        samples: Vec::new(),
    })
}

fn keys_of(set: &KeySet) -> Result<&KeySet, Problem> {
    if set.added() == 0 { Err(no_values()) } else { Ok(set) }
}

fn duplicates_finding(set: &KeySet, limit: &Limit, samples: Vec<Sample>) -> Found {
    let added = keys_of(set)?.added();
    let distinct = set.distinct();
    let surplus = (added as f64 - distinct.count).max(0.0);
    let mut finding = key_finding(limit, distinct, surplus, added, "duplicates")?;
    finding.rows_failed = set.is_exact().then_some(surplus as u64);
    finding.samples = samples;
    Ok(finding)
}

/// Judges a count that is as uncertain as the number of distinct keys: within three standard errors.
fn key_finding(limit: &Limit, distinct: Distinct, count: f64, of: u64, noun: &str) -> Found {
    let reach = 3.0 * distinct.standard_error;
    let (low, high) = ((count - reach).max(0.0), (count + reach).min(of as f64));
    let Some(holds) = limit.decide(low, high, of) else {
        return Err(Problem::error(format!(
            "more distinct keys than are kept: between {low:.0} and {high:.0} {noun}, and the limit lies between; \
             check a smaller batch or allow a share"
        )));
    };
    let about = if reach > 0.0 { format!(" ± {reach:.0}") } else { String::new() };
    Ok(Finding {
        holds,
        observed: format!("{}{about} {noun}", shares(count, of)),
        value: Some(limit.value(count, of)),
        rows_checked: of,
        ..Finding::default()
    })
}

fn against_past(now: f64, past: Vec<f64>, ratio_min: f64, ratio_max: f64, noun: &str, rows: u64) -> Found {
    let batches = past.len();
    let Some(median) = median(past).filter(|median| *median > 0.0) else {
        return Err(Problem::skipped(format!("no past batch with a number of {noun} to compare with")));
    };
    let ratio = now / median;
    Ok(Finding {
        holds: (ratio_min..=ratio_max).contains(&ratio),
        observed: format!("{now:.0} {noun}, {ratio:.3} times the median {median:.0} of {batches} batches"),
        value: Some(ratio),
        rows_checked: rows,
        ..Finding::default()
    })
}

fn constant_finding(varied: bool, checked: u64) -> Found {
    if checked < 2 {
        return Err(Problem::skipped("fewer than two values"));
    }
    let observed = if varied { "more than one value" } else { "one value in all rows" };
    Ok(Finding { holds: varied, observed: observed.into(), rows_checked: checked, ..Finding::default() })
}

fn freshness_finding(newest_ns: i128, age_max_ns: u128, now: DateTime<Utc>, checked: u64) -> Found {
    let now_ns = i128::from(now.timestamp()) * 1_000_000_000 + i128::from(now.timestamp_subsec_nanos());
    let age_ns = now_ns - newest_ns;
    let seconds = age_ns as f64 / 1e9;
    let span =
        duration(std::time::Duration::from_secs(age_ns.unsigned_abs().try_into().unwrap_or(u64::MAX) / 1_000_000_000));
    let in_future = age_ns < -CLOCK_SKEW_NS_MAX;
    Ok(Finding {
        holds: !in_future && age_ns <= i128::try_from(age_max_ns).unwrap_or(i128::MAX),
        observed: if in_future { format!("newest row {span} in the future") } else { format!("newest row {span} old") },
        value: Some(seconds),
        rows_checked: checked,
        ..Finding::default()
    })
}

fn balance_finding(found: &[(&str, u64)], min: Option<f64>, max: Option<f64>, classes: &[String]) -> Found {
    let total: u64 = found.iter().map(|(_, rows)| rows).sum();
    if total == 0 {
        return Err(no_values());
    }
    let share = |rows: u64| rows as f64 / total as f64;
    let absent: Vec<(&str, u64)> = classes
        .iter()
        .filter(|class| !found.iter().any(|(name, _)| name == class))
        .map(|class| (class.as_str(), 0))
        .collect();
    let all = || found.iter().chain(&absent);
    let broken = |rows: u64| min.is_some_and(|min| share(rows) < min) || max.is_some_and(|max| share(rows) > max);
    let shown = |(name, rows): &(&str, u64)| format!("{name:?} {} %", percent(*rows as f64, total));
    let mut bad: Vec<String> =
        found.iter().filter(|(_, rows)| broken(*rows)).chain(&absent).take(5).map(shown).collect();
    let holds = bad.is_empty();
    if holds {
        bad.extend(all().min_by_key(|(_, rows)| *rows).map(|class| format!("smallest {}", shown(class))));
    }
    let smallest = all().map(|(_, rows)| share(*rows)).fold(1.0, f64::min);
    let observed = format!("{} classes; {}", found.len(), bad.join(", "));
    Ok(Finding { holds, observed, value: Some(smallest), rows_checked: total, ..Finding::default() })
}

fn schema_finding(columns: &[String], open: bool, facts: &Facts<'_>) -> Finding {
    let present: Vec<&str> = facts.schema.fields().iter().map(|field| field.name().as_str()).collect();
    let missing: Vec<&str> = columns.iter().map(String::as_str).filter(|name| !present.contains(name)).collect();
    let known: Vec<&str> = columns.iter().map(String::as_str).collect();
    let extra: Vec<&str> = present.iter().copied().filter(|name| !open && !known.contains(name)).collect();
    let mut parts = Vec::new();
    if !missing.is_empty() {
        parts.push(format!("missing {}", missing.join(", ")));
    }
    if !extra.is_empty() {
        parts.push(format!("not in the contract: {}", extra.join(", ")));
    }
    let holds = parts.is_empty();
    let observed = if holds { format!("{} columns as expected", columns.len()) } else { parts.join("; ") };
    let value = Some((missing.len() + extra.len()) as f64);
    Finding { holds, observed, value, rows_checked: facts.rows, ..Finding::default() }
}

fn type_finding(rule: &Rule, logical: Option<LogicalType>, unit: Option<&str>, facts: &Facts<'_>) -> Found {
    let name = rule.column.as_deref().unwrap_or_default();
    let Ok(field) = facts.schema.field_with_name(name) else { return Err(Problem::error("the column is missing")) };
    let found_unit = field.metadata().get("unit").map(String::as_str);
    let (found_type, last) = (field.data_type().to_string(), facts.history.last().and_then(|batch| batch.column(name)));
    let mut broken = Vec::new();
    if let Some(logical) = logical.filter(|logical| !super::types::accepts(*logical, field.data_type())) {
        broken.push(format!("not {}", logical.as_str()));
    }
    if let (Some(wanted), Some(found)) = (unit, found_unit)
        && wanted != found
    {
        broken.push(format!("unit {found}"));
    }
    if let Some(last) = last {
        if last.data_type != found_type {
            broken.push(format!("{} in the last batch", last.data_type));
        }
        if last.unit.as_deref() != found_unit {
            broken.push(format!("unit {} in the last batch", last.unit.as_deref().unwrap_or("none")));
        }
    }
    let shown_unit = found_unit.map(|unit| format!(" in {unit}")).unwrap_or_default();
    if broken.is_empty() && unit.is_some() && found_unit.is_none() {
        return Err(Problem::skipped(format!(
            "the data states no unit for {name:?}; write `unit` into the field's metadata"
        )));
    }
    if logical.is_none() && unit.is_none() && last.is_none() {
        return Err(Problem::skipped("no past batch to compare the type with"));
    }
    let why = if broken.is_empty() { String::new() } else { format!(": {}", broken.join(", ")) };
    Ok(Finding {
        holds: broken.is_empty(),
        observed: format!("{found_type}{shown_unit}{why}"),
        rows_checked: facts.rows,
        ..Finding::default()
    })
}

#[cfg(test)]
mod tests {
    use super::super::column::mix;
    use super::*;

    fn judged(keys: impl Iterator<Item = u64>, limit: &Limit) -> Found {
        let mut set = KeySet::new(1000);
        keys.for_each(|key| {
            set.add(mix(key));
        });
        duplicates_finding(&set, limit, Vec::new())
    }

    #[test]
    fn past_the_limit_of_keys_only_what_is_certain_is_said() {
        let none = Limit::none();
        let undecided = judged(0..100_000, &none).unwrap_err();
        assert_eq!(undecided.status, Status::Error);
        assert!(undecided.reason.contains("more distinct keys than are kept"), "{}", undecided.reason);
        let share = judged(0..100_000, &Limit::percent_max(50.0)).unwrap();
        assert!(share.holds && share.rows_failed.is_none(), "{share:?}");
        let many = judged((0..100_000).map(|key| key % 10_000), &none).unwrap();
        assert!(!many.holds && many.observed.contains('±'), "{many:?}");
        assert!(judged(0..900, &none).unwrap().holds);
    }

    #[test]
    fn small_shares_keep_their_digits() {
        assert_eq!(shares(1.0, 3_000_000), "1 of 3000000 rows (0.00003333 %)");
        assert_eq!(shares(0.0, 3), "0 of 3 rows (0 %)");
        assert_eq!(shares(3.0, 3), "3 of 3 rows (100 %)");
    }
}
