//! Diagnosis of one service over 24 hours among 1 000 services that send every 15 seconds: time and memory of the question.
//!
//! The store is made by one process and asked by another, whose largest resident size is what counts. The answer is checked:
//! the prompts of every service grow at noon, and nothing else changes.
#![expect(clippy::print_stdout, reason = "a bench reports to its terminal")]

use std::{
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use driftwatt_analyze::{
    Window,
    diagnosis::{
        reader::Subject,
        report::{self, DiagnoseRequest},
        verdict::Verdict,
    },
    simulated_fleet::Rng,
};
use driftwatt_store::{
    Compaction, Config, Durability, HistogramPoint, HistogramShape, Kind, SampleColumns, Series, SeriesDefinition,
    Store, Temporality, WriteBatch,
};

/// 2026-11-23T00:00:00Z.
const START_US: i64 = 1_795_392_000_000_000;
const INTERVAL_US: i64 = 15_000_000;
const TICKS_PER_DAY: usize = 24 * 240;
/// Parts of the day that are written at once.
const PARTS: usize = 24;
const SERVICES_PER_BATCH: usize = 50;
const LIMIT: (Duration, u64) = (Duration::from_secs(3), 512 << 20);
const DURATIONS_S: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const TOKENS: [f64; 8] = [64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0];
/// Metric and unit: two histograms, then gauges.
const METRICS: [(&str, &str); 7] = [
    ("http.server.request.duration", "s"),
    ("driftwatt.input.tokens", "{token}"),
    ("driftwatt.queue.length", "{request}"),
    ("hw.gpu.utilization", "1"),
    ("driftwatt.gpu.clock.frequency", "Hz"),
    ("driftwatt.gpu.throttle", "1"),
    ("system.cpu.utilization", "1"),
];

fn series(service: usize, metric: usize) -> Arc<Series> {
    let text = |key: &str, value: String| (key.to_owned(), driftwatt_store::AttributeValue::String(value));
    let (name, unit) = METRICS[metric];
    let bounds = match metric {
        0 => DURATIONS_S.to_vec(),
        1 => TOKENS.to_vec(),
        _ => vec![],
    };
    let point = match name {
        "hw.gpu.utilization" => vec![text("hw.id", format!("GPU-{service:08x}"))],
        "driftwatt.gpu.clock.frequency" => {
            vec![text("hw.id", format!("GPU-{service:08x}")), text("driftwatt.gpu.clock.domain", "sm".into())]
        }
        "driftwatt.gpu.throttle" => vec![
            text("hw.id", format!("GPU-{service:08x}")),
            text("driftwatt.gpu.throttle.reason", "hw_thermal_slowdown".into()),
        ],
        _ => vec![],
    };
    Series::new(SeriesDefinition {
        metric: name.into(),
        unit: unit.into(),
        description: "".into(),
        kind: if bounds.is_empty() { Kind::Gauge } else { Kind::Histogram },
        temporality: if bounds.is_empty() { Temporality::Unspecified } else { Temporality::Delta },
        monotonic: false,
        bounds,
        resource: vec![
            text("service.name", format!("service-{service:04}")),
            text("service.instance.id", format!("service-{service:04}-0")),
            text("host.name", format!("host-{service:04}")),
        ]
        .into(),
        scope_name: "bench".into(),
        scope_version: "".into(),
        scope: vec![].into(),
        point,
    })
}

fn histogram(series: u32, time: i64, bounds: &[f64], values: &[f64]) -> HistogramPoint {
    let mut counts = vec![0; bounds.len() + 1];
    values.iter().for_each(|value| counts[bounds.partition_point(|bound| bound < value)] += 1);
    HistogramPoint {
        series,
        start_time: time - INTERVAL_US,
        time,
        recorded: true,
        count: values.len() as u64,
        sum: Some(values.iter().sum()),
        min: None,
        max: None,
        shape: HistogramShape::Explicit { counts },
    }
}

/// What the services `from..to` send in one part of the day.
fn batch(from: usize, to: usize, part: usize, rng: &mut Rng) -> WriteBatch {
    let mut batch = WriteBatch::default();
    for service in from..to {
        let first = batch.series.len() as u32;
        batch.series.extend((0..METRICS.len()).map(|metric| series(service, metric)));
        for tick in part * TICKS_PER_DAY / PARTS..(part + 1) * TICKS_PER_DAY / PARTS {
            let time = START_US + (tick as i64 + 1) * INTERVAL_US;
            let grown = tick >= TICKS_PER_DAY / 2 && rng.uniform() < 0.5;
            let tokens: Vec<f64> = (0..8).map(|_| rng.log_normal(600.0, 0.7) * if grown { 3.0 } else { 1.0 }).collect();
            let seconds: Vec<f64> =
                tokens.iter().map(|tokens| (0.04 + 0.0004 * tokens) * rng.log_normal(1.0, 0.1)).collect();
            batch.histograms.push(histogram(first, time, &DURATIONS_S, &seconds));
            batch.histograms.push(histogram(first + 1, time, &TOKENS, &tokens));
            let values = [
                0.0,
                0.2 + 0.02 * rng.uniform(),
                1.755e9 + 1e6 * (4.0 * rng.uniform()).round(),
                0.0,
                0.1 + 0.02 * rng.uniform(),
            ];
            for (at, value) in values.into_iter().enumerate() {
                batch.samples.push(first + 2 + at as u32, 0, time, value.to_bits(), SampleColumns::DOUBLE);
            }
        }
    }
    batch
}

async fn fill(dir: &Path, services: usize) -> anyhow::Result<()> {
    let mut config = Config::new(dir);
    // What is measured reads only.
    config.durability = Durability::Memory;
    config.memtable_size_bytes_max = 1 << 30;
    let store = Store::open(config).await?;
    let mut rng = Rng::new(7);
    for part in 0..PARTS {
        for from in (0..services).step_by(SERVICES_PER_BATCH) {
            store.append(batch(from, (from + SERVICES_PER_BATCH).min(services), part, &mut rng)).await?;
        }
        store.flush().await?;
    }
    store.compact(Compaction::Full).await?;
    store.close().await?;
    Ok(())
}

/// Asks the store at `dir` and reports; an answer that is wrong is an error.
async fn ask(dir: &Path, services: usize) -> anyhow::Result<(Duration, u64)> {
    let store = Store::open(Config::new(dir)).await?;
    let ctx = driftwatt_query::session(&store, &driftwatt_query::Config::default()).await?;
    let window = Window::new(START_US, START_US + 86_400_000_000)?;
    let mut slowest = Duration::ZERO;
    for round in 0..3 {
        let subject = Subject { service: format!("service-{:04}", services / 2 + round), filters: vec![] };
        let request = DiagnoseRequest::new(subject, Some(window), None, window.end_us)?;
        let started = Instant::now();
        let report = report::run(&ctx, None, &request).await?;
        let took = started.elapsed();
        slowest = slowest.max(took);
        println!("{} in {:.2} s, {} points", report.sentence, took.as_secs_f64(), report.reading.point_count);
        if std::env::var_os("DIAGNOSE_PLANS").is_some() {
            for query in &report.reading.queries {
                let started = Instant::now();
                let rows: usize = ctx.sql(query).await?.collect().await?.iter().map(|batch| batch.num_rows()).sum();
                println!("{:.3} s, {rows} rows: {query}\n", started.elapsed().as_secs_f64());
            }
        }
        ensure!(report.diagnosis.verdict == Verdict::Input, "{}", report.to_text());
    }
    store.close().await?;
    Ok((slowest, peak_bytes()?))
}

/// Largest resident size of this process.
fn peak_bytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM in /proc/self/status")?;
    let kib: u64 = line.split_whitespace().nth(1).context("VmHWM has no number")?.parse()?;
    Ok(kib << 10)
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if let [flag, dir, services] = arguments.as_slice()
        && flag == "--ask"
    {
        let (slowest, peak) = runtime.block_on(ask(Path::new(dir), services.parse()?))?;
        println!("slowest of three: {:.2} s, largest resident size {} MiB", slowest.as_secs_f64(), peak >> 20);
        let (time, bytes) = LIMIT;
        ensure!(slowest <= time && peak <= bytes, "the limit is {} s and {} MiB", time.as_secs(), bytes >> 20);
        return Ok(());
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    if filter.is_some_and(|filter| !"diagnose".contains(filter.as_str())) {
        return Ok(());
    }
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let services = if has("--test") || !has("--bench") { 4 } else { 1_000 };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let started = Instant::now();
    runtime.block_on(fill(dir.path(), services))?;
    println!("{services} services stored in {:.0} s", started.elapsed().as_secs_f64());
    let asked =
        Command::new(std::env::current_exe()?).arg("--ask").arg(dir.path()).arg(services.to_string()).status()?;
    ensure!(asked.success(), "the question failed");
    Ok(())
}
