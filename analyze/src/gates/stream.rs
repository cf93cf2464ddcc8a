//! Points of a metric in a window against the rules of a table: a batch that is not in a file.
//!
//! Its rows are those of the view `metrics` in order of time; the columns `time` and `value` are there, and every other column that a
//! rule names is a label of the series.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use chrono::{DateTime, SecondsFormat};
use datafusion::{
    arrow::{
        array::{Array as _, AsArray as _, RecordBatch},
        compute::cast,
        datatypes::{DataType, Float64Type, Int64Type},
    },
    prelude::SessionContext,
};
use futures::TryStreamExt as _;

use super::{
    batch_name::BatchName,
    checked::{BatchKind, CheckInputs, CheckedFile},
    contract::Table,
    digest,
    history::of_another_content,
    result::Outcome,
    rule::RuleKind,
    scan::Scan,
};
use crate::{
    drift::{Filter, label_sql, segment_text},
    error::Result,
    rows::literal,
    window::Window,
};

/// Bytes that are collected before they are digested.
const BLOCK_BYTES: usize = 1 << 16;
/// Columns of the view that are no labels.
const OWN_COLUMNS: [&str; 7] = ["time", "value", "metric", "kind", "unit", "temporality", "series_id"];

/// The points of a metric in a window, of the series that the filters leave.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamBatch {
    /// The metric as it was sent.
    pub metric: String,
    /// Labels that the series must have.
    pub filters: Vec<Filter>,
    /// When.
    pub window: Window,
}

impl StreamBatch {
    /// What it is recorded under, which drift reads back:
    /// `metrics:driftwatt.input.tokens{region=eu} 2026-11-23T08:00:00Z/2026-11-23T09:00:00Z`.
    pub fn file(&self) -> String {
        let time = |time_us: i64| {
            let time = DateTime::from_timestamp_micros(time_us).unwrap_or_default();
            time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
        };
        format!("metrics:{self} {}/{}", time(self.window.start_us), time(self.window.end_us))
    }

    /// Windows of one length are batches of one data set.
    pub fn name(&self) -> BatchName {
        let dataset = format!("{self} by {} h", self.window.hours());
        BatchName { dataset: Some(dataset), ..BatchName::default() }
    }

    fn sql(&self, table: &Table) -> String {
        let own = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let labels = labels(table).into_iter().map(|name| match OWN_COLUMNS.contains(&name) {
            true => format!(", {}", own(name)),
            false => format!(", {} AS {}", label_sql(name), own(name)),
        });
        let filters: String = self.filters.iter().map(|filter| format!(" AND {}", filter.sql())).collect();
        format!(
            "SELECT time, value{} FROM metrics WHERE metric = {} AND {}{filters} ORDER BY time, series_id",
            labels.collect::<String>(),
            literal(&self.metric),
            self.window.condition("time"),
        )
    }
}

impl fmt::Display for StreamBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{{{}}}", self.metric, segment_text(&self.filters))
    }
}

/// Columns that rules name, besides time and value.
fn labels(table: &Table) -> Vec<&str> {
    let keys = table.primary_key.iter().map(String::as_str);
    let columns = table.rules.iter().flat_map(|rule| {
        let of_kind = match &rule.kind {
            RuleKind::Duplicates { columns, .. } | RuleKind::Schema { columns, .. } => columns.as_slice(),
            _ => &[],
        };
        rule.column.as_deref().into_iter().chain(of_kind.iter().map(String::as_str))
    });
    let mut found: Vec<&str> = vec![];
    for name in keys.chain(columns).filter(|name| !["time", "value"].contains(name)) {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// Checks the points of `batch` against `table`, in one pass; memory is that of the rules and of a sort that spills.
///
/// # Errors
/// Query errors; [`crate::Error::Gate`] for a column that cannot be read.
pub async fn check_stream(
    ctx: &SessionContext,
    batch: &StreamBatch,
    table: &Table,
    inputs: &CheckInputs,
) -> Result<CheckedFile> {
    let sql = batch.sql(table);
    tracing::debug!(sql, "job query");
    let rows = ctx.sql(&sql).await?;
    let mut scan = Scan::with_references(table, rows.schema().inner(), &inputs.references);
    let mut content = Content::new();
    let mut batches = rows.execute_stream().await?;
    while let Some(rows) = batches.try_next().await? {
        scan.update(&rows)?;
        content.add(&rows)?;
    }
    let (digest, size_bytes) = content.finish();
    let history = of_another_content(&inputs.history, &digest);
    let past: Vec<_> = history.iter().map(|past| past.summary.clone()).collect();
    let results = scan.finish(inputs.now, &past);
    Ok(CheckedFile {
        file: batch.file(),
        kind: BatchKind::Points,
        table: table.name.clone(),
        digest,
        size_bytes,
        summary: scan.summary(),
        name: batch.name(),
        history,
        references: inputs.references.keys().cloned().collect(),
        damaged: Vec::new(),
        outcome: Outcome::of(&results),
        results,
    })
}

/// A digest of rows that does not depend on how they are cut into batches.
struct Content {
    context: Context,
    block: Vec<u8>,
    size_bytes: u64,
}

impl Content {
    fn new() -> Self {
        Self { context: Context::new(&SHA256), block: Vec::with_capacity(BLOCK_BYTES + 1_024), size_bytes: 0 }
    }

    /// Time, value and the texts of the labels, row by row; a text has its length before it, and nothing is a length of its own.
    fn add(&mut self, rows: &RecordBatch) -> Result<()> {
        let times = cast(rows.column(0), &DataType::Int64)?;
        let values = cast(rows.column(1), &DataType::Float64)?;
        let texts = rows.columns()[2..].iter().map(|column| cast(column, &DataType::Utf8));
        let texts = texts.collect::<std::result::Result<Vec<_>, _>>()?;
        let (times, values) = (times.as_primitive::<Int64Type>(), values.as_primitive::<Float64Type>());
        for row in 0..rows.num_rows() {
            self.block.extend(times.value(row).to_le_bytes());
            self.block.push(u8::from(values.is_valid(row)));
            if values.is_valid(row) {
                self.block.extend(values.value(row).to_le_bytes());
            }
            for text in texts.iter().map(|column| column.as_string::<i32>()) {
                let text = text.is_valid(row).then(|| text.value(row));
                self.block.extend(text.map_or(u64::MAX, |text| text.len() as u64).to_le_bytes());
                self.block.extend(text.unwrap_or_default().as_bytes());
            }
            if self.block.len() >= BLOCK_BYTES {
                self.flush();
            }
        }
        Ok(())
    }

    fn flush(&mut self) {
        self.context.update(&self.block);
        self.size_bytes += self.block.len() as u64;
        self.block.clear();
    }

    fn finish(mut self) -> (String, u64) {
        self.flush();
        (digest::text("points-sha256", self.context), self.size_bytes)
    }
}
