mod limits;

use std::{fs, path::Path};

use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, Float64Array, TimestampMicrosecondArray},
        datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimeUnit},
    },
    physical_plan::{ExecutionPlan, metrics::MetricValue},
    prelude::SessionContext,
};

use super::*;
use crate::{
    memtable::DAY_US,
    series::{AttributeValue, Kind, Series, SeriesDefinition, Temporality},
    write_batch::{HistogramPoint, HistogramShape, Rejection, SampleColumns},
};

mod repeats;
mod series_days;
mod unflushed;

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
        resource: vec![("host.name".into(), AttributeValue::String(host.into()))].into(),
        scope_name: "test".into(),
        scope_version: "".into(),
        scope: vec![].into(),
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
async fn values_have_the_same_bits_before_and_after_a_flush() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let odd = f64::from_bits(0x7ff8_0000_0000_beef);
    let runs: [&[f64]; 4] = [&[0.1, 0.25, 3.0], &[1.0 / 3.0, -0.0, odd], &[f64::INFINITY, 1e300, 5e-324], &[2.0, -7.0]];
    for (n, values) in runs.into_iter().enumerate() {
        let mut points = batch("m", &format!("h{n}"), START, 0);
        for (time, value) in values.iter().enumerate() {
            points.samples.push(0, 0, START + time as i64, value.to_bits(), SampleColumns::DOUBLE);
        }
        let big = i64::MAX - n as i64;
        points.samples.push(0, 0, START + 10, big.cast_unsigned(), SampleColumns::INT);
        points.samples.push(0, 0, START + 11, 0, SampleColumns::NO_VALUE);
        store.append(points).await.unwrap();
    }
    let sql = "SELECT value, value_int FROM samples ORDER BY series_id, time";
    let unflushed = query(&store, sql).await.remove(0);
    store.flush().await.unwrap();
    let flushed = query(&store, sql).await.remove(0);
    assert_eq!(unflushed.num_rows(), 11 + 8);
    assert_eq!(unflushed.schema(), flushed.schema());
    for column in 0..2 {
        // Bits, not numbers.
        assert_eq!(unflushed.column(column).to_data(), flushed.column(column).to_data());
    }
}

/// Rows that the page index lets a scan skip and rows it has to read.
fn pruned_rows(plan: &Arc<dyn ExecutionPlan>) -> (usize, usize) {
    let (mut pruned, mut matched) = (0, 0);
    for metric in plan.metrics().iter().flat_map(|metrics| metrics.iter().cloned().collect::<Vec<_>>()) {
        if let MetricValue::PruningMetrics { name, pruning_metrics } = metric.value()
            && name == "page_index_rows_pruned"
        {
            pruned += pruning_metrics.pruned();
            matched += pruning_metrics.matched();
        }
    }
    for child in plan.children() {
        let of_child = pruned_rows(child);
        (pruned, matched) = (pruned + of_child.0, matched + of_child.1);
    }
    (pruned, matched)
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_limits_reach_the_files_below_the_computed_value() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    // Two pages each.
    store.append(batch("a", "h1", START, 40_000)).await.unwrap();
    store.append(batch("b", "h1", START, 40_000)).await.unwrap();
    store.flush().await.unwrap();
    let ctx = SessionContext::new();
    for table in ["samples", "series"] {
        ctx.register_table(table, store.table(table).unwrap()).unwrap();
    }
    let plan = async |sql: &str| {
        let plan = ctx.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
        let shown = datafusion::physical_plan::displayable(plan.as_ref()).indent(true).to_string();
        (plan, shown)
    };
    let id = series("b", "h1").id.to_column();
    for filter in ["metric = 'b' AND time < TIMESTAMP '2026-11-18T12:00:00Z'", &format!("series_id = {id}")] {
        let (plan, shown) = plan(&format!("SELECT sum(value) FROM samples WHERE {filter}")).await;
        assert!(shown.contains("sample_value(scaled@"), "{shown}");
        let rows = datafusion::physical_plan::collect(Arc::clone(&plan), ctx.task_ctx()).await.unwrap();
        assert!(rows[0].column(0).as_primitive::<Float64Type>().value(0) > 0.0);
        let (pruned, matched) = pruned_rows(&plan);
        assert!(pruned >= 40_000 && matched <= 40_000, "{filter}: {pruned} of {matched} rows skipped: {shown}");
    }
    let (_, shown) = plan("SELECT time, value FROM samples ORDER BY time DESC LIMIT 3").await;
    assert!(shown.contains("predicate=DynamicFilter"), "{shown}");
    let (_, shown) = plan("SELECT sum(value) FROM series JOIN samples USING (series_id) WHERE host_name = 'h1'").await;
    assert!(shown.contains("predicate=DynamicFilter"), "{shown}");
    let (_, shown) = plan("SELECT value FROM samples LIMIT 3").await;
    assert!(shown.contains("limit=3"), "{shown}");
    let (_, shown) = plan("SELECT metric, time FROM samples").await;
    assert!(!shown.contains("sample_value"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_other_columns_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.close().await.unwrap();
    drop(store);
    let log = dir.path().join("tables/samples/_delta_log/00000000000000000000.json");
    let text = fs::read_to_string(&log).unwrap();
    // Without its checksum, as an entry of another writer.
    let at = text.find("\"crc32c\"").unwrap();
    let unsealed = format!("{}{}", &text[..at], &text[at + "\"crc32c\":\"00000000\",".len()..]);
    fs::write(&log, unsealed.replace("scaled", "value_int")).unwrap();
    let error = Store::open(Config::new(dir.path())).await.unwrap_err();
    assert!(error.to_string().contains("value_int"), "{error}");
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
