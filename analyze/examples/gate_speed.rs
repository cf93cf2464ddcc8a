//! CPU seconds of 20 gates over 10 columns and ten million rows, batch by batch in one thread; making the rows is not
//! counted. `gate_speed NAME` runs only the rules of one kind.

#![expect(clippy::print_stdout, reason = "the figures are what the example is for")]

use std::sync::Arc;
use std::time::Duration;

use cpu_time::ProcessTime;
use datafusion::arrow::array::*;
use datafusion::arrow::record_batch::RecordBatch;
use driftwatt_analyze::gates::{Interval, LabelFormat, Limit, LogicalType, Rule, RuleKind, Scan, Table};

const ROWS: u64 = 10_000_000;
const BATCH_ROWS: u64 = 8192;

/// SplitMix64: the rows are the same in every run.
fn random(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn normal(x: u64) -> f64 {
    let uniform = |x: u64| (random(x) >> 11) as f64 / (1u64 << 53) as f64;
    (-2.0 * uniform(x).max(1e-300).ln()).sqrt() * (std::f64::consts::TAU * uniform(x ^ 1 << 40)).cos()
}

fn batch(start: u64, rows: u64) -> Result<RecordBatch, datafusion::arrow::error::ArrowError> {
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
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true)))
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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let only = std::env::args().nth(1);
    let mut table = Table::new("speed");
    let wanted = |rule: &Rule| only.as_deref().is_none_or(|only| rule.kind.name() == only);
    rules().into_iter().filter(wanted).for_each(|rule| table.push(rule));
    let mut scan = Scan::new(&table, &batch(0, 1)?.schema());
    let mut spent = Duration::ZERO;
    for start in (0..ROWS).step_by(BATCH_ROWS as usize) {
        let batch = batch(start, BATCH_ROWS.min(ROWS - start))?;
        let started = ProcessTime::now();
        scan.update(&batch)?;
        spent += started.elapsed();
    }
    let now = chrono::DateTime::from_timestamp(1_700_000_060, 0).unwrap_or_default();
    let started = ProcessTime::now();
    let results = scan.finish(now, &[]);
    spent += started.elapsed();
    for result in &results {
        println!("{:24} {:8} {}", result.rule_id, result.status, result.observed);
    }
    println!("{} rules, {} rows: {:.2} CPU s", results.len(), scan.rows(), spent.as_secs_f64());
    Ok(())
}
