//! Twenty gates of eighteen kinds over ten columns in one scan; making the rows is not counted.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use datafusion::arrow::{
    array::{ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray},
    record_batch::RecordBatch,
};
use driftwatt_analyze::gates::{Interval, LabelFormat, Limit, LogicalType, Rule, RuleKind, Scan, Status, Table};

use crate::{memory_mb, normal, random, thread_cpu_seconds};

const BATCH_ROWS: u64 = 8_192;
/// Batches that are made before they are measured together.
const BATCHES_AT_ONCE: u64 = 16;

fn batch(start: u64, rows: u64) -> anyhow::Result<RecordBatch> {
    let r = || start..start + rows;
    let labels = ["cat", "dog", "horse", "sheep", "big_cow"];
    let models = ["resnet-50", "bert-base", "llama-7b"];
    let iban = |i: u64| (!i.is_multiple_of(50)).then(|| format!("DE{:014}", random(i) % 100_000_000_000_000));
    let amount = |i: u64| (!i.is_multiple_of(20)).then(|| (1.2 * normal(i)).exp());
    let columns: [(&str, ArrayRef); 10] = [
        ("id", Arc::new(Int64Array::from_iter_values(r().map(|i| i as i64)))),
        ("time", Arc::new(TimestampMicrosecondArray::from_iter_values(r().map(|i| 1_700_000_000_000_000 + i as i64)))),
        ("amount", Arc::new(Float64Array::from_iter(r().map(amount)))),
        ("score", Arc::new(Float64Array::from_iter_values(r().map(|i| normal(i ^ 3 << 41))))),
        ("tokens", Arc::new(Int32Array::from_iter_values(r().map(|i| (random(i) % 4096) as i32)))),
        ("label", Arc::new(StringArray::from_iter_values(r().map(|i| labels[(random(i) % 5) as usize])))),
        ("iban", Arc::new(StringArray::from_iter(r().map(iban)))),
        ("model", Arc::new(StringArray::from_iter_values(r().map(|i| models[(i % 3) as usize])))),
        ("customer", Arc::new(Int64Array::from_iter_values(r().map(|i| (random(i ^ 77) % 100_000) as i64)))),
        ("flag", Arc::new(BooleanArray::from_iter(r().map(|i| Some(random(i) & 7 == 0))))),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true)))?)
}

fn rules() -> Vec<Rule> {
    let limit = || Limit::percent_max(6.0);
    let interval = |max| Interval { min: Some(0.0), max, ..Interval::default() };
    let texts = |values: &[&str]| values.iter().map(|value| value.to_string()).collect::<Vec<_>>();
    let models = texts(&["resnet-50", "bert-base", "llama-7b"]);
    let rules = [
        (None, Rule::default_row_count().kind),
        (None, RuleKind::RowCountOfPast { ratio_min: 0.5, ratio_max: 2.0 }),
        (None, RuleKind::Schema { columns: texts(&["id", "time"]), open: true }),
        (Some("id"), RuleKind::Duplicates { columns: texts(&["id"]), limit: Limit::none() }),
        (Some("time"), RuleKind::Monotone { strict: false, limit: Limit::none() }),
        (Some("time"), RuleKind::Freshness { age_max: Duration::from_secs(3600) }),
        (Some("amount"), RuleKind::Missing { tokens: Vec::new(), limit: limit() }),
        (Some("amount"), RuleKind::NonFinite(limit())),
        (Some("amount"), RuleKind::Range { interval: interval(None), limit: limit() }),
        (Some("amount"), RuleKind::IqrOutliers { factor: 3.0, limit: limit() }),
        (Some("score"), RuleKind::RobustZ { z: 3.5, limit: limit() }),
        (Some("score"), RuleKind::NonFinite(limit())),
        (Some("tokens"), RuleKind::Range { interval: interval(Some(4096.0)), limit: limit() }),
        (Some("tokens"), RuleKind::Type { logical: Some(LogicalType::Integer), unit: None }),
        (Some("label"), RuleKind::ClassBalance { share_min: Some(0.1), share_max: None, classes: Vec::new() }),
        (Some("label"), RuleKind::LabelFormat { format: LabelFormat::Snake, limit: limit() }),
        (Some("iban"), RuleKind::Pattern { regex: "^[A-Z]{2}[0-9]{14}$".into(), limit: limit() }),
        (Some("model"), RuleKind::AllowedSet { values: models, limit: limit() }),
        (Some("customer"), RuleKind::DistinctOfPast { ratio_min: 0.5, ratio_max: 2.0 }),
        (Some("flag"), RuleKind::Constant),
    ];
    rules.into_iter().map(|(column, kind)| Rule::new(column, kind)).collect()
}

pub(crate) fn measure(rows: u64) -> anyhow::Result<()> {
    let mut table = Table::new("bench");
    rules().into_iter().for_each(|rule| table.push(rule));
    let mut scan = Scan::new(&table, &batch(0, 1)?.schema());
    let mut seconds = 0.0;
    for from in (0..rows).step_by((BATCH_ROWS * BATCHES_AT_ONCE) as usize) {
        let until = (from + BATCH_ROWS * BATCHES_AT_ONCE).min(rows);
        let starts = (from..until).step_by(BATCH_ROWS as usize);
        let batches = starts.map(|start| batch(start, BATCH_ROWS.min(until - start)));
        let batches = batches.collect::<anyhow::Result<Vec<_>>>()?;
        let started = thread_cpu_seconds()?;
        for batch in &batches {
            scan.update(batch)?;
        }
        seconds += thread_cpu_seconds()? - started;
    }
    let now = chrono::DateTime::from_timestamp(1_700_000_060, 0).context("no time")?;
    let started = thread_cpu_seconds()?;
    let results = scan.finish(now, &[]);
    seconds += thread_cpu_seconds()? - started;
    ensure!(scan.rows() == rows && results.len() == 20, "{} rows, {} results", scan.rows(), results.len());
    let wrong = results.iter().find(|result| matches!(result.status, Status::Fail | Status::Error));
    ensure!(wrong.is_none(), "{wrong:?}");
    println!(
        "gates: {} rules over 10 columns x {rows} rows in one scan: {seconds:.2} CPU-seconds, largest memory {:.0} MB",
        results.len(),
        memory_mb()?
    );
    Ok(())
}
