//! `driftwatt inspect`: what a data directory is made of.

use std::process::ExitCode;

use chrono::{DateTime, SecondsFormat};
use driftwatt_store::{InspectReport, Share, TableContents};
use serde_json::{Value, json};

use super::{CheckArgs, ReportFormat, verify::read_directory};
use crate::{exit, terminal};

/// Metrics that are printed; JSON has all.
const METRICS_MAX: usize = 10;

pub(super) async fn run(args: CheckArgs) -> ExitCode {
    match read_directory(&args, "files read", driftwatt_store::inspect).await {
        Ok(report) => {
            match args.format() {
                ReportFormat::Text => terminal::print(&text(&report)),
                ReportFormat::Json => terminal::print(&json(&report).to_string()),
            }
            exit::SOUND
        }
        Err(error) => exit::unchecked(&error),
    }
}

fn time_text(time_us: i64) -> String {
    let time = DateTime::from_timestamp_micros(time_us).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

fn level_text(level: Option<u8>) -> String {
    level.map_or_else(|| "none".to_owned(), |level| level.to_string())
}

fn per_row(bytes: f64, share: Share) -> Value {
    if share.row_count == 0 { Value::Null } else { json!((bytes / share.row_count as f64 * 100.0).round() / 100.0) }
}

fn text(report: &InspectReport) -> String {
    let (filled, empty): (Vec<_>, Vec<_>) = report.tables.iter().partition(|table| table.total().file_count > 0);
    let mut text: String = filled.into_iter().map(table_text).collect();
    if !empty.is_empty() {
        let names: Vec<_> = empty.iter().map(|table| table.name.as_str()).collect();
        text += &format!("empty: {}\n", names.join(", "));
    }
    text
}

fn table_text(table: &TableContents) -> String {
    let total = table.total();
    let mut text = format!("{}: version {}, days: {}", table.name, table.version, table.days.len());
    if let Some((from, to)) = table.time {
        text += &format!(", {} to {}", time_text(from), time_text(to));
    }
    if let Some(series) = table.series_count {
        text += &format!(", {series} series");
    }
    let line = |name: String, share: &Share| {
        let size = terminal::size_text(share.size_bytes);
        vec![
            json!(name),
            json!(share.file_count),
            json!(share.row_count),
            json!(size),
            per_row(share.size_bytes as f64, *share),
        ]
    };
    let mut levels: Vec<_> = table.levels.iter().map(|(level, share)| line(level_text(*level), share)).collect();
    if levels.len() > 1 {
        levels.push(line("all".into(), &total));
    }
    text += "\n\n";
    text += &terminal::table(&["level", "files", "rows", "size", "bytes per row"], levels);
    text.push('\n');
    let columns = table.columns.iter().map(|column| {
        let encodings = column.encodings.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let size = terminal::size_text(column.size_bytes);
        vec![json!(column.name), json!(size), per_row(column.size_bytes as f64, total), json!(encodings)]
    });
    text += &terminal::table(&["column", "size", "bytes per row", "encodings"], columns.collect());
    if !table.metrics.is_empty() {
        let metrics = table.metrics.iter().take(METRICS_MAX).map(|metric| {
            let size = terminal::size_text(metric.size_bytes_estimate as u64);
            vec![json!(metric.metric), json!(metric.row_count), json!(size)]
        });
        text.push('\n');
        text += &terminal::table(&["biggest metrics", "rows", "size, estimated"], metrics.collect());
        if table.metrics.len() > METRICS_MAX {
            text += &format!("and {} more (all of them with --format json)\n", table.metrics.len() - METRICS_MAX);
        }
    }
    if !table.unreadable.is_empty() {
        let count = table.unreadable.len();
        text += &format!("\n{count} files cannot be read and are missing above; run driftwatt verify\n");
    }
    text + "\n"
}

fn json(report: &InspectReport) -> Value {
    json!({ "tables": report.tables.iter().map(table_json).collect::<Vec<_>>() })
}

fn table_json(table: &TableContents) -> Value {
    let total = table.total();
    let share =
        |share: &Share| json!({ "files": share.file_count, "rows": share.row_count, "size_bytes": share.size_bytes });
    let levels = table.levels.iter().map(|(level, part)| {
        let mut value = share(part);
        value["level"] = json!(level);
        value
    });
    let columns = table.columns.iter().map(|column| {
        json!({
            "name": column.name, "size_bytes": column.size_bytes,
            "bytes_per_row": per_row(column.size_bytes as f64, total), "encodings": column.encodings,
        })
    });
    let metrics = table.metrics.iter().map(|metric| {
        json!({
            "metric": metric.metric, "rows": metric.row_count,
            "size_bytes_estimate": metric.size_bytes_estimate.round(),
        })
    });
    json!({
        "name": table.name, "version": table.version, "total": share(&total), "levels": levels.collect::<Vec<_>>(),
        "days": table.days, "first_time": table.time.map(|(from, _)| time_text(from)),
        "last_time": table.time.map(|(_, to)| time_text(to)), "series": table.series_count,
        "columns": columns.collect::<Vec<_>>(), "metrics": metrics.collect::<Vec<_>>(),
        "unreadable": table.unreadable.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
    })
}
