use std::sync::Arc;

use arrow::{
    array::AsArray,
    datatypes::Float64Type,
    util::{display::FormatOptions, pretty::pretty_format_batches_with_options},
};
use datafusion::prelude::SessionContext;
use driftwatt_store::{
    AttributeValue, HistogramPoint, HistogramShape, Kind, SampleColumns, Series, SeriesDefinition, Store, Temporality,
    WriteBatch,
};

use crate::{config::Config, session};

const START: i64 = 1_795_000_000_000_000;
const MINUTE: i64 = 60_000_000;

fn series(metric: &str, host: u32, gpu: u32) -> Arc<Series> {
    let host = ("host.name".into(), AttributeValue::String(format!("host-{host}")));
    Series::new(SeriesDefinition {
        metric: metric.into(),
        unit: "1".into(),
        description: "".into(),
        kind: Kind::Gauge,
        temporality: Temporality::Unspecified,
        monotonic: false,
        bounds: vec![],
        resource: vec![host].into(),
        scope_name: "".into(),
        scope_version: "".into(),
        scope: vec![].into(),
        point: vec![("hw.id".into(), AttributeValue::String(format!("GPU-{gpu}")))],
    })
}

/// Two metrics, three hosts, two GPUs each, over two days; some values are missing, one GPU has none at all.
fn batch(round: i64) -> WriteBatch {
    let mut batch = WriteBatch::default();
    for metric in ["hw.gpu.utilization", "hw.power"] {
        for (host, gpu) in (0..3).flat_map(|host| (0..2).map(move |gpu| (host, gpu))) {
            let index = batch.series.len() as u32;
            batch.series.push(series(metric, host, gpu));
            for n in 0..50 {
                let time = START + (round * 50 + n) * 13 * MINUTE;
                let missing = (host == 2 && gpu == 1) || n % 7 == 0;
                let form = if missing { SampleColumns::NO_VALUE } else { SampleColumns::DOUBLE };
                let value = f64::from(host * 10 + gpu) + (n % 11) as f64 / 8.0;
                batch.samples.push(index, 0, time, if missing { 0 } else { value.to_bits() }, form);
            }
        }
    }
    batch
}

async fn table(ctx: &SessionContext, sql: &str) -> String {
    let batches = ctx.sql(sql).await.unwrap().collect().await.unwrap();
    pretty_format_batches_with_options(&batches, &FormatOptions::default().with_null("null")).unwrap().to_string()
}

async fn plan(ctx: &SessionContext, sql: &str) -> String {
    table(ctx, &format!("EXPLAIN {sql}")).await
}

/// Some of it flushed, some repeated, some not flushed.
async fn filled(dir: &tempfile::TempDir) -> Arc<Store> {
    let store = Store::open(driftwatt_store::Config::new(dir.path())).await.unwrap();
    store.append(batch(0)).await.unwrap();
    store.flush().await.unwrap();
    store.append(batch(0)).await.unwrap();
    store.append(batch(1)).await.unwrap();
    store.flush().await.unwrap();
    store.append(batch(3)).await.unwrap();
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn aggregates_of_runs_are_those_of_the_points() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(&dir).await;
    let fast = session(&store, &Config::default()).await.unwrap();
    let plain = session(&store, &Config::default()).await.unwrap();
    assert!(plain.remove_optimizer_rule("aggregate_runs_first"));
    for (sql, uses_runs) in [
        ("SELECT host_name, avg(value), count(value), count(*) FROM metrics GROUP BY host_name ORDER BY 1", true),
        (
            "SELECT metric, host_name, min(value), max(value) FROM metrics GROUP BY metric, host_name ORDER BY 1, 2",
            true,
        ),
        ("SELECT avg(value), sum(value), count(*), min(time), max(time) FROM metrics WHERE host_name = 'host-1'", true),
        ("SELECT avg(value), count(*) FROM metrics WHERE host_name = 'nobody'", true),
        (
            "SELECT avg(value) FROM metrics WHERE metric = 'hw.power' AND gpu_id = 'GPU-1' GROUP BY host_name ORDER BY 1",
            true,
        ),
        ("SELECT gpu_id, avg(value * 2 + 1) AS a, avg(value) FROM metrics GROUP BY gpu_id ORDER BY 1", true),
        (
            "SELECT date_bin(INTERVAL '1 hour', time) AS hour, host_name, avg(value), count(*) FROM metrics \
             WHERE metric = 'hw.power' GROUP BY 1, 2 ORDER BY 1, 2",
            true,
        ),
        ("SELECT host_name, avg(value) AS a FROM metrics GROUP BY host_name HAVING count(*) > 500 ORDER BY 1", true),
        // The value depends on the series too, which says what is no value.
        ("SELECT host_name, avg(value) FROM gpu WHERE role = 'gpu.power' GROUP BY host_name ORDER BY 1", false),
        ("SELECT time, sum(value) FROM metrics GROUP BY time ORDER BY 1", false),
        ("SELECT value, count(*) FROM metrics GROUP BY value ORDER BY 1", false),
        ("SELECT host_name, count(DISTINCT value) FROM metrics GROUP BY host_name ORDER BY 1", false),
        ("SELECT host_name, median(value) FROM metrics GROUP BY host_name ORDER BY 1", false),
        ("SELECT host_name, sum(value) FILTER (WHERE value > 3) FROM metrics GROUP BY host_name ORDER BY 1", false),
        ("SELECT concat(host_name, CAST(value AS TEXT)), count(*) FROM metrics GROUP BY 1 ORDER BY 1", false),
    ] {
        let shown = plan(&fast, sql).await;
        assert_eq!(shown.contains("SeriesRunsExec"), uses_runs, "{sql}\n{shown}");
        assert!(!plan(&plain, sql).await.contains("SeriesRuns"), "{sql}");
        // Sums of eighths are exact in any order.
        assert_eq!(table(&fast, sql).await, table(&plain, sql).await, "{sql}");
    }
}

/// Histograms of two hosts, explicit with two sets of bounds and exponential with changing scales; some rows are markers.
fn histograms(round: i64) -> WriteBatch {
    let mut batch = WriteBatch::default();
    for (host, bounds) in [(0, vec![]), (1, vec![0.5, 1.0, 4.0]), (2, vec![0.5, 4.0])] {
        let index = batch.series.len() as u32;
        let name = ("host.name".into(), AttributeValue::String(format!("host-{host}")));
        batch.series.push(Series::new(SeriesDefinition {
            metric: if host == 0 { "exponential".into() } else { "explicit".into() },
            unit: "s".into(),
            description: "".into(),
            kind: if host == 0 { Kind::ExponentialHistogram } else { Kind::Histogram },
            temporality: Temporality::Delta,
            monotonic: false,
            bounds: bounds.clone(),
            resource: vec![name].into(),
            scope_name: "".into(),
            scope_version: "".into(),
            scope: vec![].into(),
            point: vec![],
        }));
        for n in 0..40i64 {
            let counts: Vec<u64> = (0..=bounds.len() as i64).map(|bucket| ((n * 7 + bucket * 3) % 5) as u64).collect();
            let time = START + (round * 40 + n) * 13 * MINUTE;
            let run = vec![n as u64 % 3, 1, n as u64 % 4];
            batch.histograms.push(HistogramPoint {
                series: index,
                start_time: time - MINUTE,
                time,
                recorded: n % 9 != 0,
                count: if host == 0 { 4 + 2 * (n as u64 % 3) + 2 * (n as u64 % 4) } else { counts.iter().sum() },
                sum: (n % 4 != 0).then_some(n as f64 / 8.0),
                min: None,
                max: Some(n as f64),
                shape: match host {
                    0 => HistogramShape::Exponential {
                        scale: (n % 4) as i32,
                        zero_count: 2,
                        zero_threshold: 0.0,
                        positive_offset: n as i32 - 20,
                        positive_counts: run.clone(),
                        negative_offset: 3,
                        negative_counts: run,
                    },
                    _ => HistogramShape::Explicit { counts },
                },
            });
        }
    }
    batch
}

#[tokio::test(flavor = "multi_thread")]
async fn histograms_are_merged_before_their_bounds_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(driftwatt_store::Config::new(dir.path())).await.unwrap();
    for round in [0, 0, 1] {
        store.append(histograms(round)).await.unwrap();
        store.flush().await.unwrap();
    }
    store.append(histograms(3)).await.unwrap();
    let fast = session(&store, &Config::default()).await.unwrap();
    let plain = session(&store, &Config::default()).await.unwrap();
    assert!(plain.remove_optimizer_rule("aggregate_runs_first"));
    let of = "histogram_count(h), histogram_sum(h), histogram_quantile(0.95, h), h";
    for (sql, uses_runs) in [
        (
            format!(
                "SELECT host_name, {of} FROM (SELECT host_name, histogram_merge(histogram()) AS h FROM histograms GROUP BY 1) ORDER BY 1"
            ),
            true,
        ),
        (
            format!(
                "SELECT hour, {of} FROM (SELECT time_bucket('1 hour', time) AS hour, histogram_merge(histogram()) AS h \
            FROM histograms WHERE metric = 'explicit' GROUP BY 1) ORDER BY 1"
            ),
            true,
        ),
        (
            format!(
                "SELECT {of} FROM (SELECT histogram_merge(histogram()) AS h FROM histograms WHERE host_name = 'host-0')"
            ),
            true,
        ),
        (
            format!(
                "SELECT host_name, rows, {of} FROM (SELECT host_name, count(*) AS rows, histogram_merge(histogram()) AS h \
            FROM histograms WHERE metric = 'explicit' GROUP BY 1) ORDER BY 1"
            ),
            true,
        ),
        (
            format!(
                "SELECT {of} FROM (SELECT histogram_merge(histogram_rebin(histogram(), [4.0])) AS h FROM histograms WHERE metric = 'explicit')"
            ),
            false,
        ),
    ] {
        let shown = plan(&fast, &sql).await;
        assert_eq!(shown.contains("SeriesRunsExec"), uses_runs, "{sql}\n{shown}");
        assert_eq!(table(&fast, &sql).await, table(&plain, &sql).await, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_series_that_a_join_finds_still_reach_the_scan_below_the_runs() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(&dir).await;
    let ctx = session(&store, &Config::default()).await.unwrap();
    let shown = plan(&ctx, "SELECT avg(value) FROM metrics WHERE host_name = 'host-1'").await;
    assert!(shown.contains("DynamicFilter"), "{shown}");
    let shown = plan(&ctx, "SELECT avg(value) FROM metrics WHERE metric = 'hw.power' AND host_name = 'host-1'").await;
    let on = shown.lines().find(|line| line.contains("HashJoinExec")).unwrap();
    assert!(
        on.contains("series_id") && !on.contains("metric@"),
        "the name of the metric is compared for nothing: {on}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_is_only_called_metric_is_still_compared() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(&dir).await;
    let ctx = session(&store, &Config::default()).await.unwrap();
    let rows =
        ctx.sql("SELECT count(*) FROM raw.samples WHERE metric = 'hw.power'").await.unwrap().collect().await.unwrap();
    let expected = rows[0].column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0);
    assert!(expected > 0);
    // Each series twice, once under the name of another metric.
    let names = "SELECT DISTINCT series_id, 'hw.power' AS metric FROM raw.series WHERE metric = 'hw.power' \
                 UNION ALL SELECT DISTINCT series_id, 'hw.gpu.utilization' FROM raw.series WHERE metric = 'hw.power'";
    let sql = format!(
        "SELECT count(*) FROM ({names}) d JOIN raw.samples s ON d.series_id = s.series_id AND d.metric = s.metric \
         WHERE s.metric IN ('hw.power', 'hw.gpu.utilization')"
    );
    assert!(plan(&ctx, &sql).await.contains("SeriesRunsExec"));
    let rows = ctx.sql(&sql).await.unwrap().collect().await.unwrap();
    assert_eq!(rows[0].column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0), expected);
    let renamed = "SELECT count(*) FROM (SELECT series_id, date, unit AS metric FROM raw.series) d JOIN raw.samples s \
                   ON d.series_id = s.series_id AND d.metric = s.metric AND d.date = s.date WHERE s.metric = 'hw.power'";
    let rows = ctx.sql(renamed).await.unwrap().collect().await.unwrap();
    assert_eq!(rows[0].column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_without_order_makes_more_runs_and_the_same_sum() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(driftwatt_store::Config::new(dir.path())).await.unwrap();
    // Unflushed rows of several requests.
    for round in 0..4 {
        store.append(batch(round)).await.unwrap();
    }
    let ctx = session(&store, &Config::default()).await.unwrap();
    let sql = "SELECT sum(value) FROM metrics WHERE metric = 'hw.power' GROUP BY metric";
    let rows = ctx.sql(sql).await.unwrap().collect().await.unwrap();
    let sum: f64 = rows.iter().flat_map(|batch| batch.column(0).as_primitive::<Float64Type>().values().to_vec()).sum();
    let raw =
        ctx.sql("SELECT sum(value) FROM raw.samples WHERE metric = 'hw.power'").await.unwrap().collect().await.unwrap();
    assert_eq!(sum, raw[0].column(0).as_primitive::<Float64Type>().value(0));
}
