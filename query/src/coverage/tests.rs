use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Float64Type, Int64Type},
};
use datafusion::prelude::SessionContext;
use driftwatt_store::{
    AttributeValue, HistogramPoint, HistogramShape, Kind, SampleColumns, Series, SeriesDefinition, Temporality,
    WriteBatch,
};

use super::*;
use crate::{Config, session};

const MINUTE: i64 = 60_000_000;
/// 2026-11-18 00:00 UTC.
const DAY: i64 = 1_794_960_000_000_000;

struct Fixture {
    _dir: tempfile::TempDir,
    ctx: SessionContext,
    store: Arc<Store>,
}

async fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(driftwatt_store::Config::new(dir.path())).await.unwrap();
    let ctx = session(&store, &Config::default()).await.unwrap();
    Fixture { _dir: dir, ctx, store }
}

fn series(metric: &str, host: &str, kind: Kind) -> Arc<Series> {
    Series::new(SeriesDefinition {
        metric: metric.into(),
        unit: "1".into(),
        description: "".into(),
        kind,
        temporality: Temporality::Unspecified,
        monotonic: false,
        bounds: vec![],
        resource: vec![("host.name".into(), AttributeValue::String(host.into()))].into(),
        scope_name: "".into(),
        scope_version: "".into(),
        scope: vec![].into(),
        point: vec![],
    })
}

/// Points at these minutes of the day, markers at negative ones.
fn samples(metric: &str, host: &str, minutes: impl IntoIterator<Item = i64>) -> WriteBatch {
    let mut batch = WriteBatch { series: vec![series(metric, host, Kind::Gauge)], ..WriteBatch::default() };
    for minute in minutes {
        let form = if minute < 0 { SampleColumns::NO_VALUE } else { SampleColumns::DOUBLE };
        batch.samples.push(0, 0, DAY + minute.abs() * MINUTE, 1.0f64.to_bits(), form);
    }
    batch
}

fn histograms(metric: &str, minutes: impl IntoIterator<Item = i64>) -> WriteBatch {
    let mut batch = WriteBatch { series: vec![series(metric, "h1", Kind::Histogram)], ..WriteBatch::default() };
    for minute in minutes {
        batch.histograms.push(HistogramPoint {
            series: 0,
            start_time: 0,
            time: DAY + minute * MINUTE,
            recorded: true,
            count: 1,
            sum: None,
            min: None,
            max: None,
            shape: HistogramShape::Explicit { counts: vec![1] },
        });
    }
    batch
}

impl Fixture {
    async fn append(&self, batch: WriteBatch) {
        self.store.append(batch).await.unwrap();
    }

    async fn query(&self, sql: &str) -> Vec<RecordBatch> {
        self.ctx.sql(sql).await.unwrap().collect().await.unwrap()
    }

    /// `metric host interval received expected gaps longest ended` of every series, in order.
    async fn rows(&self, from: &str) -> Vec<String> {
        let sql = format!(
            "SELECT concat_ws(' ', metric, host_name, interval_seconds, received, expected, gap_count, \
             gap_longest_seconds, date_part('hour', ended_time)) FROM {from} ORDER BY 1"
        );
        let batches = self.query(&sql).await;
        batches.iter().flat_map(|batch| texts(batch.column(0))).collect()
    }
}

fn texts(column: &arrow::array::ArrayRef) -> Vec<String> {
    let column = cast_text(column);
    let column = column.as_string::<i32>();
    (0..column.len()).map(|row| column.value(row).to_owned()).collect()
}

fn cast_text(column: &arrow::array::ArrayRef) -> arrow::array::ArrayRef {
    arrow::compute::cast(column, &DataType::Utf8).unwrap()
}

const WHOLE_DAY: &str = "coverage('2026-11-18', '2026-11-19')";

#[tokio::test(flavor = "multi_thread")]
async fn each_series_says_what_came_and_what_was_due_in_memory_in_files_and_in_both() {
    let fixture = fixture().await;
    fixture.append(samples("whole", "h1", 0..1440)).await;
    fixture.append(samples("hole", "h1", (0..600).chain(660..1440))).await;
    fixture.store.flush().await.unwrap();
    fixture.append(samples("ended", "h1", (0..120).chain([-120]))).await;
    fixture.append(samples("silent", "h2", 0..720)).await;
    // The same points again, and those between: late, in other files, repeated.
    fixture.append(samples("whole", "h1", (0..1440).step_by(7))).await;
    fixture.append(samples("hole", "h2", (0..1440).step_by(2))).await;
    fixture.append(histograms("spread", (0..1440).step_by(10))).await;
    let expected = [
        "ended h1 60.0 120 120 0 0.0 2",
        "hole h1 60.0 1380 1440 1 3660.0",
        "hole h2 120.0 720 720 0 0.0",
        "silent h2 60.0 720 1440 1 43260.0",
        "spread h1 600.0 144 144 0 0.0",
        "whole h1 60.0 1440 1440 0 0.0",
    ];
    for _ in 0..2 {
        assert_eq!(fixture.rows(WHOLE_DAY).await, expected);
        fixture.store.flush().await.unwrap();
    }
    fixture.store.compact(driftwatt_store::Compaction::Full).await.unwrap();
    assert_eq!(fixture.rows(WHOLE_DAY).await, expected);
    // Half of the day: a window says nothing of what is outside of it.
    let half = fixture.rows("coverage('2026-11-18T00:00:00Z', '2026-11-18T12:00:00Z') WHERE metric = 'silent'").await;
    assert_eq!(half, ["silent h2 60.0 720 720 0 0.0"]);
    let share = fixture.query(&format!("SELECT share FROM {WHOLE_DAY} WHERE metric = 'silent'")).await;
    assert_eq!(share[0].column(0).as_primitive::<Float64Type>().value(0), 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_pick_series_and_labels_and_no_sort_is_needed() {
    let fixture = fixture().await;
    fixture.append(histograms("spread", 0..10)).await;
    for (metric, host) in [("a", "h1"), ("a", "h2"), ("b", "h1")] {
        fixture.append(samples(metric, host, 0..100)).await;
        fixture.store.flush().await.unwrap();
        fixture.append(samples(metric, host, 100..110)).await;
    }
    let count = |rows: Vec<RecordBatch>| rows[0].column(0).as_primitive::<Int64Type>().value(0);
    for (filter, expected) in
        [("metric = 'a'", 2), ("host_name = 'h1'", 3), ("metric >= 'b' AND host_name = 'h2'", 0), ("received = 110", 3)]
    {
        let sql = format!("SELECT count(*) FROM {WHOLE_DAY} WHERE {filter}");
        assert_eq!(count(fixture.query(&sql).await), expected, "{filter}");
    }
    let explain = async |filter: &str| -> String {
        let plan = fixture.query(&format!("EXPLAIN SELECT * FROM {WHOLE_DAY}{filter}")).await;
        plan.iter().flat_map(|batch| texts(batch.column(1))).collect()
    };
    let plan = explain("").await;
    assert!(plan.contains("CoverageExec") && plan.contains("MergeExec"), "{plan}");
    // Partitions in order may be merged, above unflushed rows, but nothing is sorted anew.
    assert!(!plan.contains("SortExec"), "{plan}");
    // The filter on the metric reaches the files.
    let plan = explain(" WHERE metric = 'a'").await;
    assert!(plan.contains("predicate=metric@0 = a AND time"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_day_is_a_table_and_a_time_range_is_checked() {
    let fixture = fixture().await;
    assert!(fixture.rows("system.coverage").await.is_empty());
    let minute = (now_us() - DAY) / MINUTE;
    fixture.append(samples("now", "h1", minute - 9..=minute)).await;
    assert_eq!(fixture.rows("system.coverage").await, ["now h1 60.0 10 10 0 0.0"]);
    assert_eq!(fixture.rows("coverage(now() - INTERVAL '2 days')").await, ["now h1 60.0 10 10 0 0.0"]);
    // What is not over yet is not missing.
    let ahead = fixture.rows("coverage(now() - INTERVAL '1 day', now() + INTERVAL '5 days')").await;
    assert_eq!(ahead, ["now h1 60.0 10 10 0 0.0"]);
    for (wrong, reason) in [
        ("coverage()", "start of a time range"),
        ("coverage('yesterday')", "coverage takes times"),
        ("coverage('2026-11-19', '2026-11-18')", "is empty"),
        ("coverage(metric)", "coverage"),
    ] {
        let error = fixture.ctx.sql(&format!("SELECT * FROM {wrong}")).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{wrong}: {error}");
    }
}
