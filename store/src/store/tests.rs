mod limits;

use std::{fs, path::Path};

use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, Float64Array, TimestampMicrosecondArray},
        datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimeUnit},
    },
    prelude::SessionContext,
};

use super::*;
use crate::{
    memtable::DAY_US,
    series::{AttributeValue, Kind, Series, SeriesDefinition, Temporality},
    write_batch::{HistogramPoint, HistogramShape, Rejection, SampleColumns},
};

pub(crate) const START: i64 = 1_795_000_000_000_000;

pub(crate) fn series(metric: &str, host: &str) -> Arc<Series> {
    Series::new(SeriesDefinition {
        metric: metric.into(),
        unit: "1".into(),
        description: "test".into(),
        kind: Kind::Gauge,
        temporality: Temporality::Unspecified,
        monotonic: false,
        bounds: vec![],
        resource: vec![("host.name".into(), AttributeValue::String(host.into()))],
        scope_name: "test".into(),
        scope_version: String::new(),
        scope: vec![],
        point: vec![("core".into(), AttributeValue::Int(3))],
    })
}

/// `count` points one second apart from `start`, value = index, for one series of `metric`.
pub(crate) fn batch(metric: &str, host: &str, start: i64, count: i64) -> WriteBatch {
    let mut batch = WriteBatch { series: vec![series(metric, host)], ..WriteBatch::default() };
    for n in 0..count {
        batch.samples.push(0, 0, start + n * 1_000_000, (n as f64).to_bits(), SampleColumns::DOUBLE);
    }
    batch
}

pub(crate) async fn open(dir: &Path) -> Arc<Store> {
    Store::open(Config::new(dir)).await.unwrap()
}

pub(crate) async fn query(store: &Arc<Store>, sql: &str) -> Vec<RecordBatch> {
    let ctx = SessionContext::new();
    for table in store.tables() {
        ctx.register_table(table.name.as_str(), store.table(&table.name).unwrap()).unwrap();
    }
    ctx.sql(sql).await.unwrap().collect().await.unwrap()
}

pub(crate) async fn count_and_sum(store: &Arc<Store>) -> (i64, f64) {
    let batches = query(store, "SELECT count(*), sum(value) FROM samples").await;
    let sum = batches[0].column(1).as_primitive::<Float64Type>();
    (batches[0].column(0).as_primitive::<Int64Type>().value(0), sum.iter().next().flatten().unwrap_or(0.0))
}

#[tokio::test(flavor = "multi_thread")]
async fn points_are_the_same_before_flush_after_flush_and_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.append(batch("a", "h1", START, 10)).await.unwrap();
    store.append(batch("a", "h2", START, 10)).await.unwrap();
    assert_eq!(count_and_sum(&store).await, (20, 90.0));
    let summary = store.flush().await.unwrap();
    assert_eq!(summary.row_count, 20 + 2);
    assert_eq!(count_and_sum(&store).await, (20, 90.0));
    store.append(batch("b", "h1", START + DAY_US, 5)).await.unwrap();
    assert_eq!(count_and_sum(&store).await, (25, 100.0));
    store.close().await.unwrap();
    drop(store);
    let store = open(dir.path()).await;
    assert_eq!(count_and_sum(&store).await, (25, 100.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn unflushed_points_survive_a_stop_without_close() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.append(batch("a", "h1", START, 10)).await.unwrap();
    store.flush().await.unwrap();
    store.append(batch("a", "h1", START + 60_000_000, 7)).await.unwrap();
    drop(store);
    let store = open(dir.path()).await;
    assert_eq!(count_and_sum(&store).await.0, 17);
    store.flush().await.unwrap();
    assert_eq!(count_and_sum(&store).await.0, 17);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_counts_as_duplicates_and_is_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    assert_eq!(store.append(batch("a", "h1", START, 10)).await.unwrap().duplicate_count, 0);
    assert_eq!(store.append(batch("a", "h1", START, 10)).await.unwrap().duplicate_count, 10);
    assert_eq!(count_and_sum(&store).await, (10, 45.0));
    store.flush().await.unwrap();
    assert_eq!(count_and_sum(&store).await, (10, 45.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_series_has_one_row_per_series_however_often_it_is_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let sql = "SELECT count(*), count(DISTINCT series_id), max(last_time), min(first_time) FROM series";
    for round in 0..3 {
        store.append(batch("a", "h1", START + round * 60_000_000, 10)).await.unwrap();
        store.append(batch("a", &format!("new-{round}"), START, 1)).await.unwrap();
        for flushed in [false, true] {
            if flushed {
                store.flush().await.unwrap();
            }
            let row = &query(&store, sql).await[0];
            assert_eq!(row.column(0).as_primitive::<Int64Type>().value(0), 2 + round);
            assert_eq!(row.column(0), row.column(1));
            let last = row.column(2).as_any().downcast_ref::<TimestampMicrosecondArray>().unwrap();
            assert_eq!(last.value(0), START + round * 60_000_000 + 9_000_000);
        }
    }
    let labels =
        query(&store, "SELECT DISTINCT attributes['core'] AS core, host_name FROM series WHERE host_name = 'h1'").await;
    assert_eq!(labels[0].column(0).as_string::<i32>().value(0), "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn integers_beyond_a_double_and_missing_values_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let mut points = batch("a", "h1", START, 0);
    let big = (1i64 << 53) + 1;
    points.samples.push(0, 0, START, big.cast_unsigned(), SampleColumns::INT);
    points.samples.push(0, 0, START + 1, 7, SampleColumns::INT);
    points.samples.push(0, 0, START + 2, 0, SampleColumns::NO_VALUE);
    store.append(points).await.unwrap();
    for _ in 0..2 {
        let sql = "SELECT count(*), count(value), max(value_int), count(value_int) FROM samples";
        let row = &query(&store, sql).await[0];
        let values: Vec<i64> = (0..4).map(|n| row.column(n).as_primitive::<Int64Type>().value(0)).collect();
        assert_eq!(values, [3, 2, big, 1]);
        store.flush().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn histograms_and_rejections_reach_their_tables() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let mut points = batch("h", "h1", START, 0);
    let shapes = [
        HistogramShape::Explicit { counts: vec![1, 2] },
        HistogramShape::Exponential {
            scale: 3,
            zero_count: 1,
            zero_threshold: 0.0,
            positive_offset: -2,
            positive_counts: vec![1, 0, 1],
            negative_offset: 0,
            negative_counts: vec![],
        },
        HistogramShape::Summary { quantiles: vec![0.5], values: vec![2.0] },
    ];
    for (n, shape) in shapes.into_iter().enumerate() {
        let time = START + n as i64;
        let point = HistogramPoint {
            series: 0,
            start_time: 0,
            time,
            recorded: true,
            count: 3,
            sum: Some(4.5),
            min: None,
            max: None,
            shape,
        };
        points.histograms.push(point);
    }
    let text = |text: &str| text.to_owned();
    let refused = Rejection {
        time: START,
        reason: text("value_missing"),
        metric: text("m"),
        count: 4,
        message: text("set a value"),
    };
    points.rejections.push(refused);
    store.append(points).await.unwrap();
    for _ in 0..2 {
        let sql = "SELECT sum(count), sum(sum), count(bucket_counts), count(scale), count(quantiles) FROM histograms";
        let row = &query(&store, sql).await[0];
        assert_eq!(row.column(0).as_primitive::<Int64Type>().value(0), 9);
        assert_eq!(row.column(1).as_primitive::<Float64Type>().value(0), 13.5);
        assert!((2..5).all(|n| row.column(n).as_primitive::<Int64Type>().value(0) == 1));
        let refused = &query(&store, "SELECT sum(count) FROM rejections WHERE reason = 'value_missing'").await[0];
        assert_eq!(refused.column(0).as_primitive::<Int64Type>().value(0), 4);
        store.flush().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_pruned_by_day_metric_and_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for day in 0..3 {
        for metric in ["a", "b"] {
            store.append(batch(metric, "h1", START + day * DAY_US, 10)).await.unwrap();
            store.flush().await.unwrap();
        }
    }
    let ctx = SessionContext::new();
    ctx.register_table("samples", store.table("samples").unwrap()).unwrap();
    for (filter, files) in [
        ("metric = 'a'", 3),
        ("metric = 'c'", 0),
        ("time >= TIMESTAMP '2026-11-19T00:00:00Z' AND metric = 'b'", 2),
        ("date = DATE '2026-11-18'", 2),
    ] {
        let plan = ctx.sql(&format!("SELECT * FROM samples WHERE {filter}")).await.unwrap();
        let plan = plan.create_physical_plan().await.unwrap();
        let shown = datafusion::physical_plan::displayable(plan.as_ref()).indent(true).to_string();
        assert_eq!(shown.matches(".parquet").count(), files, "{filter}: {shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_told_that_the_directory_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let _store = open(dir.path()).await;
    let error = Store::open(Config::new(dir.path())).await.unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn result_tables_are_created_checked_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let schema =
        Arc::new(Schema::new(vec![Field::new("time", time, false), Field::new("score", DataType::Float64, true)]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(vec![START, START + DAY_US]).with_timezone("UTC")),
        Arc::new(Float64Array::from(vec![Some(1.0), None])),
    ];
    let rows = RecordBatch::try_new(schema, columns).unwrap();
    assert_eq!(store.write_result("drift_scores", rows.clone()).await.unwrap(), 1);
    let narrow = rows.project(&[0]).unwrap();
    assert!(matches!(store.write_result("drift_scores", narrow).await, Err(Error::ResultSchema { .. })));
    store.close().await.unwrap();
    drop(store);
    let store = open(dir.path()).await;
    assert_eq!(store.write_result("drift_scores", rows).await.unwrap(), 2);
    let row = &query(&store, "SELECT count(*), count(score) FROM drift_scores").await[0];
    assert_eq!(row.column(0).as_primitive::<Int64Type>().value(0), 4);
    assert_eq!(row.column(1).as_primitive::<Int64Type>().value(0), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_cut_short_between_two_tables_is_finished_without_loss_or_repeat() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.append(batch("a", "h1", START, 10)).await.unwrap();
    store.close().await.unwrap();
    drop(store);
    // Keep the log as it was before the flush, and take back the commit of the last table.
    let store = open(dir.path()).await;
    store.append(batch("a", "h1", START + 60_000_000, 5)).await.unwrap();
    let wal = dir.path().join("wal");
    let saved: Vec<_> = fs::read_dir(&wal).unwrap().map(|entry| entry.unwrap().path()).collect();
    let saved: Vec<_> =
        saved.into_iter().filter(|path| path.is_file()).map(|path| (fs::read(&path).unwrap(), path)).collect();
    store.close().await.unwrap();
    drop(store);
    let log = dir.path().join("tables/series/_delta_log");
    let newest = fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    fs::remove_file(newest).unwrap();
    for (bytes, path) in saved {
        fs::write(path, bytes).unwrap();
    }
    let store = open(dir.path()).await;
    assert_eq!(count_and_sum(&store).await.0, 15);
    store.append(batch("a", "h1", START + 120_000_000, 2)).await.unwrap();
    assert_eq!(count_and_sum(&store).await.0, 17);
    store.flush().await.unwrap();
    assert_eq!(count_and_sum(&store).await.0, 17);
    let last = &query(&store, "SELECT count(*), max(last_time) FROM series").await[0];
    assert_eq!(last.column(0).as_primitive::<Int64Type>().value(0), 1);
}
