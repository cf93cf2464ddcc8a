//! A day of requests: how long they took, as histograms of five instances of each model, and a latency and an input size at a time.

use std::{path::Path, sync::Arc, time::Instant};

use anyhow::ensure;
use driftwatt_store::{
    Compaction, HistogramPoint, HistogramShape, Kind, SampleColumns, Series, Store, Temporality, WriteBatch,
};

use crate::{
    Compared, ROUNDS_OF_A_SCAN, asked, compare, count,
    fleet::{START_US, TICKS_PER_DAY, series_of},
    open,
};

const DURATION: &str = "gen_ai.server.request.duration";
const LATENCY: &str = "driftwatt.bench.latency";
const TOKENS: &str = "driftwatt.input.tokens";
const INSTANCES_PER_MODEL: usize = 5;
const INTERVAL_US: i64 = 15_000_000;
/// The input of a request is there this long before its latency is.
const BEFORE_US: i64 = 4_000_000;
/// Seconds, as the semantic conventions advise.
const BOUNDS: [f64; 14] = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

fn series(instance: usize, metric: &str, kind: Kind, temporality: Temporality, bounds: &[f64]) -> Arc<Series> {
    let resource =
        [("service.name", "inference".to_owned()), ("service.instance.id", format!("inference-{instance:04}"))];
    let point = [("gen_ai.request.model", format!("model-{:03}", instance / INSTANCES_PER_MODEL))];
    series_of(metric, kind, temporality, bounds, &resource, &point)
}

/// Pseudo-random, 0 to 255 (xorshift64).
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 56
}

/// `tick_count` points of each series of each instance, the first at tick `first`.
fn batch(instances: usize, first: usize, tick_count: usize, state: &mut u64) -> WriteBatch {
    let mut batch = WriteBatch::default();
    for instance in 0..instances {
        let index = batch.series.len() as u32;
        batch.series.extend([
            series(instance, DURATION, Kind::Histogram, Temporality::Delta, &BOUNDS),
            series(instance, LATENCY, Kind::Gauge, Temporality::Unspecified, &[]),
            series(instance, TOKENS, Kind::Gauge, Temporality::Unspecified, &[]),
        ]);
        for tick in first..first + tick_count {
            let time = START_US + tick as i64 * INTERVAL_US;
            batch.histograms.push(durations(index, time, state));
            let latency = random(state) as f64 / 64.0;
            batch.samples.push(index + 1, 0, time, latency.to_bits(), SampleColumns::DOUBLE);
            let tokens = (random(state) * 16) as f64;
            batch.samples.push(index + 2, 0, time - BEFORE_US, tokens.to_bits(), SampleColumns::DOUBLE);
        }
    }
    batch
}

/// Requests of 15 s, most of them in the middle buckets.
fn durations(series: u32, time: i64, state: &mut u64) -> HistogramPoint {
    let mut counts = vec![0; BOUNDS.len() + 1];
    for _ in 0..4 {
        let bucket = (random(state) + random(state)) as usize * counts.len() / 512;
        counts[bucket] += random(state);
    }
    HistogramPoint {
        series,
        start_time: time - INTERVAL_US,
        time,
        recorded: true,
        count: counts.iter().sum(),
        sum: None,
        min: None,
        max: None,
        shape: HistogramShape::Explicit { counts },
    }
}

async fn fill(store: &Store, instances: usize) -> anyhow::Result<()> {
    let (parts, mut state) = (8, 0x9e37_79b9_7f4a_7c15);
    for part in 0..parts {
        let tick_count = TICKS_PER_DAY / parts;
        store.append(batch(instances, part * tick_count, tick_count, &mut state)).await?;
        store.flush().await?;
    }
    store.compact(Compaction::Full).await?;
    Ok(())
}

/// Linear within the bucket, from 0 in the first; the highest bound in the last: Prometheus' rule, as `histogram_quantile` does it.
fn quantiles() -> Compared<'static> {
    let sql = format!(
        "SELECT time_bucket('1 hour', time) AS hour, model_name, histogram_quantile(0.95, h) AS p95, histogram_count(h) AS requests \
         FROM (SELECT time_bucket('1 hour', time) AS time, model_name, histogram_merge(histogram()) AS h FROM histograms \
         WHERE metric = '{DURATION}' AND time >= to_timestamp_micros({START_US}) GROUP BY 1, 2) ORDER BY 1, 2"
    );
    let bounds = BOUNDS.map(|bound| bound.to_string()).join(", ");
    let duckdb_sql = format!(
        "WITH buckets AS (SELECT time_bucket(INTERVAL 1 HOUR, h.time) AS hour, \
         d.model_name AS model, unnest(h.bucket_counts) AS n, generate_subscripts(h.bucket_counts, 1) AS i \
         FROM read_parquet({{histograms}}, hive_partitioning = true) h \
         JOIN read_parquet({{series}}, hive_partitioning = true) d \
         ON h.series_id = d.series_id AND h.metric = d.metric AND h.date = d.date WHERE h.metric = '{DURATION}'), \
         merged AS (SELECT hour, model, i, sum(n) AS n FROM buckets GROUP BY hour, model, i), \
         summed AS (SELECT *, sum(n) OVER (PARTITION BY hour, model ORDER BY i) AS upto, \
         sum(n) OVER (PARTITION BY hour, model) AS total FROM merged), \
         found AS (SELECT hour, model, min(i) AS i FROM summed WHERE upto >= 0.95 * total GROUP BY hour, model) \
         SELECT s.hour, s.model, CASE WHEN s.i = 15 THEN bounds[14] ELSE coalesce(bounds[s.i - 1], 0) \
         + (bounds[s.i] - coalesce(bounds[s.i - 1], 0)) * (0.95 * s.total - (s.upto - s.n)) / s.n END AS p95, \
         s.total AS requests FROM summed s JOIN found USING (hour, model, i), (SELECT [{bounds}] AS bounds) ORDER BY 1, 2"
    );
    Compared { name: "p95 of latency by model and hour over a day", sql, duckdb_sql, rounds: ROUNDS_OF_A_SCAN }
}

/// Each latency with the input before it.
fn joined() -> Compared<'static> {
    let side = |metric: &str| {
        format!(
            "(SELECT time, service_instance_id, value FROM metrics WHERE metric = '{metric}' \
             AND time >= to_timestamp_micros({}))",
            START_US - INTERVAL_US
        )
    };
    let sql = format!(
        "SELECT sum(l.value * i.value) AS product, count(i.value) AS pairs FROM ({} l ASOF JOIN {} i \
         MATCH_CONDITION (l.time >= i.time) ON l.service_instance_id = i.service_instance_id)",
        side(LATENCY),
        side(TOKENS)
    );
    let side = |metric: &str| {
        format!(
            "(SELECT s.time, d.service_instance_id, coalesce(s.scaled / pow(10, s.exponent), s.value) AS value \
             FROM read_parquet({{samples}}, hive_partitioning = true) s \
             JOIN read_parquet({{series}}, hive_partitioning = true) d \
             ON s.series_id = d.series_id AND s.metric = d.metric AND s.date = d.date WHERE s.metric = '{metric}')"
        )
    };
    let duckdb_sql = format!(
        "SELECT sum(l.value * i.value) AS product, count(i.value) AS pairs FROM {} l ASOF LEFT JOIN {} i \
         ON l.service_instance_id = i.service_instance_id AND l.time >= i.time",
        side(LATENCY),
        side(TOKENS)
    );
    Compared { name: "latency with the input before it, a day", sql, duckdb_sql, rounds: ROUNDS_OF_A_SCAN }
}

/// Fills a store with a day of `instances` and asks.
///
/// # Errors
/// The store, a query, or a wrong answer.
pub(crate) async fn ask(dir: &Path, instances: usize) -> anyhow::Result<()> {
    let store = open(dir).await?;
    let started = Instant::now();
    fill(&store, instances).await?;
    let ctx = driftwatt_query::session(&store, &driftwatt_query::Config::default()).await?;
    let point_count = instances * TICKS_PER_DAY;
    println!("{point_count} histograms and twice as many samples in {:.1} s", started.elapsed().as_secs_f64());
    let row_count = 24 * instances.div_ceil(INSTANCES_PER_MODEL);
    let quantiles = asked(&ctx, quantiles(), |answer| {
        ensure!(count(answer) == row_count, "{} rows instead of {row_count}", count(answer));
        Ok(())
    });
    let asked = [quantiles.await?, asked(&ctx, joined(), |_| Ok(())).await?];
    let pairs = asked[1].numbers[0][1];
    ensure!(pairs == point_count as f64, "{pairs} pairs instead of {point_count}");
    drop(ctx);
    store.close().await?;
    compare(dir, &asked).await
}
