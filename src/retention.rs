//! What retention did or would do, for people and for scripts.

use chrono::{DateTime, SecondsFormat};
use driftwatt_store::{ExpiredDays, ExpiredMetrics, Expiry, RetentionReport};
use serde_json::{Value, json};

use crate::terminal;

fn counted_from(report: &RetentionReport) -> Option<String> {
    let time = DateTime::from_timestamp_micros(report.counted_from_us?)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// What keeps the days from being counted by the clock, if anything does.
fn clock_note(report: &RetentionReport) -> Option<String> {
    let Some(counted_from) = counted_from(report) else {
        return Some("fewer than three days hold points, so the clock cannot be checked and nothing expires".into());
    };
    let note = || {
        format!(
            "the clock is more than a week ahead of the third newest day with points; ages count from {counted_from}"
        )
    };
    report.clock_held_back.then(note)
}

/// For `POST /api/v1/admin/retention` and `--format json`.
pub(crate) fn json(report: &RetentionReport, expiry: Expiry) -> Value {
    let table = |days: &ExpiredDays| {
        json!({
            "table": days.table, "keep": days.keep.to_string(), "first_kept_day": days.first_kept_day,
            "days": days.day_count, "files": days.file_count, "rows": days.row_count, "size_bytes": days.size_bytes,
        })
    };
    let metric = |gone: &ExpiredMetrics| {
        json!({
            "pattern": gone.rule.pattern, "keep": gone.rule.keep.to_string(), "first_kept_day": gone.first_kept_day,
            "days": gone.day_count, "files": gone.file_count, "rows": gone.row_count, "size_bytes": gone.size_bytes,
        })
    };
    json!({
        "dry_run": expiry == Expiry::DryRun, "counted_from": counted_from(report), "note": clock_note(report),
        "tables": report.tables.iter().map(table).collect::<Vec<_>>(),
        "metrics": report.metrics.iter().map(metric).collect::<Vec<_>>(),
    })
}

fn metric_row(gone: &ExpiredMetrics) -> Vec<Value> {
    vec![
        json!(terminal::plain(&gone.rule.pattern)),
        json!(gone.rule.keep.to_string()),
        json!(gone.first_kept_day.as_deref().unwrap_or("")),
        json!(gone.day_count),
        json!(gone.file_count),
        json!(gone.row_count),
        json!(terminal::size_text(gone.size_bytes)),
    ]
}

/// For a terminal.
pub(crate) fn text(report: &RetentionReport, expiry: Expiry) -> String {
    let rows = report.tables.iter().map(|days| {
        let before = days.first_kept_day.as_deref().unwrap_or("");
        let size = terminal::size_text(days.size_bytes);
        let (keep, name) = (days.keep.to_string(), terminal::plain(&days.table));
        vec![
            json!(name),
            json!(keep),
            json!(before),
            json!(days.day_count),
            json!(days.file_count),
            json!(days.row_count),
            json!(size),
        ]
    });
    let what = if expiry == Expiry::DryRun { "days that would go" } else { "days gone" };
    let mut text = terminal::table(&["table", "keep", "before", what, "files", "rows", "size"], rows.collect());
    if !report.metrics.is_empty() {
        let what = if expiry == Expiry::DryRun { "days with rows that would go" } else { "days with rows gone" };
        let rows = report.metrics.iter().map(metric_row).collect();
        text += "\n";
        text += &terminal::table(&["metrics", "keep", "before", what, "files", "rows", "size"], rows);
    }
    if let Some(note) = clock_note(report) {
        text += &format!("\n{note}\n");
    }
    let files = report.tables.iter().map(|days| days.file_count);
    let files = files.chain(report.metrics.iter().map(|gone| gone.file_count)).sum::<u64>();
    if expiry == Expiry::Apply && files > 0 {
        text +=
            "\nThe files are deleted at the next start that is ten minutes from now or later, or by the server then.\n";
    }
    text
}
