//! The report of a checked batch for a terminal.

use driftwatt_analyze::gates::{CheckedFile, Oddity, RuleResult};
use serde_json::Value;

use crate::terminal;

/// Outcome, rules (worst first), samples and reasons.
pub(crate) fn report_text(checked: &CheckedFile) -> String {
    let outcome = &checked.outcome;
    let mut text = format!(
        "{}: {}\n{} {} against {}; rules: {} passed, {} warn, {} failed, {} errors, {} skipped\n",
        terminal::plain(&checked.file),
        outcome.status.as_str().to_uppercase(),
        checked.rows(),
        checked.kind.as_str(),
        terminal::plain(&checked.table),
        outcome.passed,
        outcome.warned,
        outcome.failed,
        outcome.errors,
        outcome.skipped
    );
    let odd: Vec<String> = checked.name.oddities.iter().map(Oddity::to_string).collect();
    if !odd.is_empty() {
        text += &format!("name: {}\n", odd.join("; "));
    }
    let past: Vec<&str> = checked.history.iter().map(|past| past.name.as_str()).collect();
    if !past.is_empty() {
        text += &format!("compared with {}\n", terminal::plain(&past.join(", ")));
    }
    let cells = |result: &RuleResult| {
        let failed = result.rows_failed.map_or(Value::Null, Value::from);
        let [status, metric] = [result.status.as_str(), result.metric];
        let column = result.column.clone().unwrap_or_default();
        vec![
            status.into(),
            metric.into(),
            column.into(),
            result.expected.clone().into(),
            result.observed.clone().into(),
            failed,
        ]
    };
    let mut results: Vec<_> = checked.results.iter().collect();
    results.sort_by_key(|result| std::cmp::Reverse(result.status));
    text += "\n";
    let names = ["status", "rule", "column", "expected", "observed", "rows failed"];
    text += &terminal::table(&names, results.iter().map(|result| cells(result)).collect());
    for result in results.iter().filter(|result| result.reason.is_some() || !result.samples.is_empty()) {
        let rows = result.sample_rows(usize::MAX);
        let rows = if rows.is_empty() { rows } else { format!(" rows {rows}") };
        let line = format!("{}:{rows} {}", result.rule_id, result.reason.as_deref().unwrap_or_default());
        text += &format!("{}\n", terminal::plain(line.trim_end()));
    }
    for (name, damage) in &checked.damaged {
        text += &format!("{}: {damage}\n", terminal::plain(name));
    }
    text
}
