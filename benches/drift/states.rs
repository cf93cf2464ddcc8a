//! The last hour of ten features against the week before it, from stored hourly states.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use driftwatt_analyze::{
    Window,
    drift::{RunRequest, Side, Source, Subject, decision::Thresholds, reference_window::ReferenceKind, run},
};
use driftwatt_store::{
    AttributeValue, Compaction, Config, Durability, Kind, SampleColumns, Series, SeriesDefinition, Store, Temporality,
    WriteBatch,
};

use crate::{memory_mb, normal, process_cpu_seconds};

const FEATURES: usize = 10;
const HOURS: i64 = 169;
const HOUR_US: i64 = 3_600_000_000;
const START_US: i64 = 1_795_024_800_000_000;
const ROUNDS: usize = 9;
/// The hour after all of them.
const NOW_US: i64 = START_US + (HOURS + 1) * HOUR_US;

async fn open(dir: &Path) -> anyhow::Result<Arc<Store>> {
    let mut config = Config::new(dir.join("states"));
    // What is measured reads only.
    config.durability = Durability::Memory;
    Ok(Store::open(config).await?)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    // As the server has it, which plans on stacks that are deep enough for any question.
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(16 << 20)
        .enable_all()
        .build()?)
}

fn request() -> anyhow::Result<RunRequest> {
    let hours = |from: i64, to: i64| -> anyhow::Result<Window> {
        Ok(Window::new(START_US + from * HOUR_US, START_US + to * HOUR_US)?)
    };
    Ok(RunRequest {
        subjects: (0..FEATURES).map(|feature| Subject::Metric(format!("bench.feature.{feature}"))).collect(),
        by: None,
        reference: Side::new(hours(0, HOURS - 1)?, vec![]),
        reference_kind: ReferenceKind::Pinned,
        current: Side::new(hours(HOURS - 1, HOURS)?, vec![]),
        source: Source::States,
        also: vec![],
    })
}

/// Points of a week, and their states.
pub(crate) fn prepare(dir: &Path, values: usize) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let store = open(dir).await?;
        for feature in 0..FEATURES {
            store.append(points(feature, values)).await?;
        }
        store.flush().await?;
        store.compact(Compaction::Full).await?;
        let ctx = driftwatt_query::session(&store, &driftwatt_query::Config::default()).await?;
        let started = Instant::now();
        let built = run(&ctx, Some(&*store), &request()?, &Thresholds::default(), NOW_US).await?;
        ensure!(built.scores.len() == FEATURES, "{:?}", built.refused);
        println!(
            "states: {} hourly states of {} points built in {:.2} s",
            FEATURES as i64 * HOURS,
            FEATURES as i64 * HOURS * values as i64,
            started.elapsed().as_secs_f64()
        );
        store.close().await?;
        Ok(())
    })
}

fn points(feature: usize, values: usize) -> WriteBatch {
    let text = |key: &str, value: &str| (key.to_owned(), AttributeValue::String(value.to_owned()));
    let series = Series::new(SeriesDefinition {
        metric: format!("bench.feature.{feature}").into(),
        unit: "1".into(),
        description: "".into(),
        kind: Kind::Gauge,
        temporality: Temporality::Unspecified,
        monotonic: false,
        bounds: vec![],
        resource: vec![text("service.name", "bench"), text("driftwatt.simulated", "true")].into(),
        scope_name: "bench".into(),
        scope_version: "".into(),
        scope: vec![].into(),
        point: vec![],
    });
    let mut samples = SampleColumns::default();
    let count = HOURS as usize * values;
    for at in 0..count {
        let time_us = START_US + at as i64 * (HOUR_US / values as i64);
        let value = (1.2 * normal((at * FEATURES + feature) as u64)).exp() * 300.0;
        samples.push(0, 0, time_us, value.round().to_bits(), SampleColumns::DOUBLE);
    }
    WriteBatch { series: vec![series], samples, ..WriteBatch::default() }
}

pub(crate) fn measure(dir: &Path, values: usize) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let store = open(dir).await?;
        let ctx = driftwatt_query::session(&store, &driftwatt_query::Config::default()).await?;
        let request = request()?;
        let (mut walls, cpu) = (vec![], process_cpu_seconds()?);
        for round in 0..ROUNDS {
            let started = Instant::now();
            let found = run(&ctx, Some(&*store), &request, &Thresholds::default(), NOW_US).await?;
            walls.push(started.elapsed());
            let expected = (HOURS as u64 - 1) * values as u64;
            ensure!(
                found.scores.iter().all(|score| score.reference.value_count == expected),
                "round {round}: not all values are in the states: {:?}",
                found.refused
            );
        }
        let cpu = (process_cpu_seconds()? - cpu) / ROUNDS as f64;
        walls.sort_unstable();
        let ms = |wall: Duration| wall.as_secs_f64() * 1e3;
        println!(
            "states: {FEATURES} features from {} stored hours, scored and recorded: median {:.1} ms, fastest {:.1} ms, slowest {:.1} ms; \
             {:.0} ms of CPU; largest memory {:.0} MB",
            HOURS,
            ms(walls[ROUNDS / 2]),
            ms(walls[0]),
            ms(walls[ROUNDS - 1]),
            cpu * 1e3,
            memory_mb()?
        );
        store.close().await?;
        Ok(())
    })
}
