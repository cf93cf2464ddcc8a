//! The weekly report over a simulated fleet with a point every 15 s of five metrics: how long it takes and how much memory.
//!
//! `cargo bench --bench weekly -- [GPUS] [WEEKS]` (1000 and 1: 200 million samples). The store is filled by this process and
//! asked by a second one, whose largest memory is then that of the report. The answer is checked: GPU-hours and cost are known.
#![expect(clippy::print_stdout, reason = "a bench reports to its terminal")]

use std::{path::Path, process::Command, sync::Arc, time::Instant};

use anyhow::{Context as _, ensure};
use driftwatt_analyze::{
    PriceBook, Tz, Window,
    report::{Dimension, WeeklyRequest, weekly},
    simulated_fleet::{KINDS, START_US, SimulatedService},
};
use driftwatt_store::{
    AttributeValue, Attributes, Compaction, Config, Durability, Kind, SampleColumns, Series, SeriesDefinition, Store,
    Temporality, WriteBatch,
};

const WEEK_US: i64 = 7 * 86_400_000_000;
const INTERVAL_S: u32 = 15;
const GPUS_PER_HOST: usize = 8;
const METRICS: [(&str, &str); 5] = [
    ("hw.gpu.utilization", "1"),
    ("hw.gpu.memory.usage", "By"),
    ("hw.gpu.memory.limit", "By"),
    ("hw.power", "W"),
    ("hw.temperature", "Cel"),
];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, dir, gpus] = arguments.as_slice()
        && mode == "ask"
    {
        return ask(Path::new(dir), gpus.parse()?).await;
    }
    let is_bench = arguments.iter().any(|argument| argument == "--bench");
    let numbers: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let gpu_count = numbers.first().copied().unwrap_or(if is_bench { 1000 } else { 16 });
    let weeks = numbers.get(1).copied().unwrap_or(1).clamp(1, 2);
    let dir = tempfile::tempdir()?;
    fill(dir.path(), gpu_count, weeks).await?;
    let program = std::env::current_exe().context("where this program is")?;
    let status = Command::new(program).arg("ask").arg(dir.path()).arg(gpu_count.to_string()).status()?;
    ensure!(status.success(), "the report failed");
    Ok(())
}

async fn open(dir: &Path) -> anyhow::Result<Arc<Store>> {
    let mut config = Config::new(dir);
    // What is measured reads only.
    config.durability = Durability::Memory;
    config.memtable_size_bytes_max = 1 << 30;
    Ok(Store::open(config).await?)
}

async fn fill(dir: &Path, gpu_count: usize, weeks: usize) -> anyhow::Result<()> {
    let store = open(dir).await?;
    let started = Instant::now();
    let (mut points, mut filled, mut seed) = (0, 0, 1);
    while filled < gpu_count {
        let service = SimulatedService::new(KINDS[seed % 5], seed as u64);
        let own = service.gpu_count.min(gpu_count - filled);
        for index in 0..own {
            let batch = card(&service, seed, index, filled + index, weeks);
            points += batch.samples.len();
            store.append(batch).await?;
        }
        filled += own;
        seed += 1;
        if filled % 32 < own {
            store.flush().await?;
        }
    }
    store.flush().await?;
    store.compact(Compaction::Full).await?;
    let size: u64 = store.tables().iter().map(|table| table.size_bytes).sum();
    println!(
        "{points} samples of {gpu_count} GPUs, {:.1} MB, stored and merged in {:.0} s",
        size as f64 / 1e6,
        started.elapsed().as_secs_f64()
    );
    store.close().await?;
    Ok(())
}

/// All points of one card: of the second observed week, or of both.
fn card(service: &SimulatedService, number: usize, index: usize, gpu: usize, weeks: usize) -> WriteBatch {
    let text = |pairs: &[(&str, String)]| -> Attributes {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), AttributeValue::String(value.clone()))).collect()
    };
    let resource = text(&[
        ("host.name", format!("sim-{:04}", gpu / GPUS_PER_HOST)),
        ("service.name", format!("service-{number:03}")),
        ("driftwatt.team", format!("team-{:02}", number % 12)),
        ("driftwatt.model.name", format!("model-{:02}", number % 20)),
        ("driftwatt.model.version", "1.0".to_owned()),
        ("k8s.pod.name", format!("service-{number:03}-{index:02}")),
        ("driftwatt.simulated", "true".to_owned()),
    ]);
    let point = text(&[
        ("hw.id", format!("GPU-{gpu:08}-0000-0000-0000-000000000000")),
        ("hw.model", "NVIDIA H100".to_owned()),
        ("hw.type", "gpu".to_owned()),
    ]);
    let series = METRICS.map(|(metric, unit)| {
        Series::new(SeriesDefinition {
            metric: metric.into(),
            unit: unit.into(),
            description: "".into(),
            kind: Kind::Gauge,
            temporality: Temporality::Unspecified,
            monotonic: false,
            bounds: vec![],
            resource: resource.clone().into(),
            scope_name: "bench".into(),
            scope_version: "".into(),
            scope: vec![].into(),
            point: point.clone(),
        })
    });
    let mut samples = SampleColumns::default();
    let from_us = START_US + (2 - weeks as i64) * WEEK_US;
    for sample in service.samples(index, INTERVAL_S).iter().filter(|sample| sample.time_us >= from_us) {
        let watts = sample.power_watts.unwrap_or_default();
        let values = [
            sample.duty.unwrap_or_default(),
            sample.memory_bytes.unwrap_or_default().round(),
            service.memory_bytes().1,
            watts,
            (31.0 + 0.06 * watts).round(),
        ];
        for (series, value) in values.into_iter().enumerate() {
            samples.push(series as u32, 0, sample.time_us, value.to_bits(), SampleColumns::DOUBLE);
        }
    }
    WriteBatch { series: series.to_vec(), samples, ..WriteBatch::default() }
}

async fn ask(dir: &Path, gpu_count: usize) -> anyhow::Result<()> {
    let store = open(dir).await?;
    let ctx = driftwatt_query::session(&store, &driftwatt_query::Config::default()).await?;
    let prices = PriceBook::parse("currency = \"USD\"\ngpu_hour = { \"NVIDIA H100\" = 3.5 }")?;
    let window = Window::new(START_US + WEEK_US, START_US + 2 * WEEK_US)?;
    let request =
        WeeklyRequest { window, zone: Tz::UTC, prices: Some(prices), holidays: vec![], now_us: window.end_us };
    let before = memory_mb()?;
    for round in 1..=2 {
        let started = Instant::now();
        let report = weekly(&ctx, None, &request).await?;
        let seconds = started.elapsed().as_secs_f64();
        let whole = report.rows().find(|row| row.dimension == Dimension::Fleet).context("no row of the fleet")?;
        let expected = gpu_count as f64 * 168.0;
        ensure!((whole.now.gpu_hours - expected).abs() < 0.02 * expected, "{} GPU-hours", whole.now.gpu_hours);
        ensure!(whole.now.gpu_count as usize == gpu_count, "{} GPUs", whole.now.gpu_count);
        println!(
            "round {round}: {seconds:.1} s for {} points read, {:.1} GPU-hours, largest memory {:.0} MB ({before:.0} MB before)",
            report.row_count,
            whole.now.gpu_hours,
            memory_mb()?
        );
    }
    store.close().await?;
    Ok(())
}

/// Largest resident memory of this process so far.
fn memory_mb() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    let kilobytes: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kilobytes / 1024.0)
}
