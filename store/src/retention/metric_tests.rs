use std::{fs, path::Path, sync::Arc, time::Duration};

use datafusion::arrow::array::AsArray;

use super::*;
use crate::{
    Store,
    compaction::Compaction,
    failpoint::{Failpoint, fail_below},
    memtable::{DAY_US, day_of},
    store::tests::{START, batch, open, query},
    verify::verify,
    write_batch::{HistogramPoint, HistogramShape, WriteBatch},
};

const DAYS: i64 = 6;
/// Noon of the newest day.
const NOW: i64 = START.div_euclid(DAY_US) * DAY_US + DAY_US / 2;

fn days(count: u64) -> Keep {
    Keep::For(Duration::from_secs(count * 86_400))
}

fn rules(rules: &[(&str, u64)]) -> Retention {
    let rule = |(pattern, keep): &(&str, u64)| MetricRule { pattern: (*pattern).into(), keep: days(*keep) };
    Retention { metrics: rules.iter().map(rule).collect(), ..Retention::FOREVER }
}

fn histogram(metric: &str, start: i64, count: i64) -> WriteBatch {
    let mut batch = batch(metric, "h1", start, 0);
    for n in 0..count {
        batch.histograms.push(HistogramPoint {
            series: 0,
            start_time: 0,
            time: start + n,
            recorded: true,
            count: 1,
            sum: Some(1.0),
            min: None,
            max: None,
            shape: HistogramShape::Explicit { counts: vec![1] },
        });
    }
    batch
}

/// Six days of ten points of `a`, `k8s.cpu`, `k8s.pod.cpu` and `z`, and of three histogram points of `k8s.time`.
async fn filled(dir: &Path) -> Arc<Store> {
    let store = open(dir).await;
    for day in 0..DAYS {
        for metric in ["a", "k8s.cpu", "k8s.pod.cpu", "z"] {
            store.append(batch(metric, "h1", NOW - day * DAY_US, 10)).await.unwrap();
        }
        store.append(histogram("k8s.time", NOW - day * DAY_US, 3)).await.unwrap();
    }
    store.flush().await.unwrap();
    store
}

/// `metric day count` of a table, days counted back from today.
async fn contents(store: &Arc<Store>, table: &str) -> Vec<(String, i64, i64)> {
    let today = day_of(NOW);
    let sql = format!(
        "SELECT metric, {today} - CAST(date AS INT) AS age, count(*) FROM {table} GROUP BY metric, date ORDER BY 1, 2"
    );
    let mut rows = Vec::new();
    for batch in query(store, &sql).await {
        let column = |at: usize| {
            datafusion::arrow::compute::cast(batch.column(at), &datafusion::arrow::datatypes::DataType::Int64)
        };
        let (ages, counts) = (column(1).unwrap(), column(2).unwrap());
        let int = |column: &datafusion::arrow::array::ArrayRef, row| {
            column.as_primitive::<datafusion::arrow::datatypes::Int64Type>().value(row)
        };
        for row in 0..batch.num_rows() {
            rows.push((batch.column(0).as_string::<i32>().value(row).to_owned(), int(&ages, row), int(&counts, row)));
        }
    }
    rows
}

/// How many days back a metric still has rows, by metric.
async fn ages(store: &Arc<Store>, table: &str) -> Vec<(String, i64)> {
    let mut ages: Vec<(String, i64)> = Vec::new();
    for (metric, age, _) in contents(store, table).await {
        match ages.last_mut() {
            Some((last, oldest)) if *last == metric => *oldest = age,
            _ => ages.push((metric, age)),
        }
    }
    ages
}

fn named(ages: &[(&str, i64)]) -> Vec<(String, i64)> {
    ages.iter().map(|(metric, age)| ((*metric).to_owned(), *age)).collect()
}

fn paths(store: &Store) -> Vec<String> {
    let state = store.inner().state();
    let files = state.tables().flat_map(|(name, snapshot)| snapshot.files.iter().map(move |file| (name, file)));
    let mut paths: Vec<_> = files.map(|(name, file)| format!("{name}/{}", file.path)).collect();
    paths.sort();
    paths
}

async fn apply(store: &Arc<Store>, retention: &Retention) -> RetentionReport {
    let counted = expire(store.inner(), retention, NOW, Expiry::DryRun).await.unwrap();
    let report = expire(store.inner(), retention, NOW, Expiry::Apply).await.unwrap();
    assert_eq!(counted, report, "a dry run counts what goes");
    report
}

async fn assert_sound(store: Arc<Store>, dir: &Path) {
    store.close().await.unwrap();
    drop(store);
    let report = verify(&Config::new(dir), &mut |_, _| {}).unwrap();
    assert!(report.is_sound(), "{:?}", report.faults);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metric_goes_before_its_table_from_points_and_series_and_the_longest_pattern_holds() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let retention = rules(&[("k8s.*", 2), ("k8s.pod.*", 4)]);
    let report = apply(&store, &retention).await;
    let numbers = [("a", 5), ("k8s.cpu", 2), ("k8s.pod.cpu", 4), ("z", 5)];
    assert_eq!(ages(&store, "samples").await, named(&numbers));
    assert_eq!(ages(&store, "histograms").await, named(&[("k8s.time", 2)]));
    let all = [("a", 5), ("k8s.cpu", 2), ("k8s.pod.cpu", 4), ("k8s.time", 2), ("z", 5)];
    assert_eq!(ages(&store, "series").await, named(&all));
    assert!(contents(&store, "samples").await.iter().all(|(_, _, count)| *count == 10));
    // Three days of ten numbers, three histograms and two names each; one day of ten numbers and a name.
    let counts = report.metrics.iter().map(|gone| (gone.day_count, gone.row_count)).collect::<Vec<_>>();
    assert_eq!(counts, [(3, 3 * 15), (1, 11)]);
    assert!(report.metrics.iter().all(|gone| gone.size_bytes > 0));
    assert_eq!(report.metrics[0].first_kept_day, Some(crate::live_file::date_text(day_of(NOW) - 2)));
    assert!(report.tables.iter().all(|days| days.row_count == 0), "{report:?}");
    let before = paths(&store);
    let again = apply(&store, &retention).await;
    assert!(again.metrics.iter().all(|gone| gone.row_count == 0));
    assert_eq!(paths(&store), before, "nothing is rewritten twice");
    assert_sound(store, dir.path()).await;
    let store = open(dir.path()).await;
    apply(&store, &retention).await;
    assert_eq!(paths(&store), before, "after a restart neither");
    assert_sound(store, dir.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_a_pattern_meets_without_a_row_is_no_reason_to_rewrite() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let before = paths(&store);
    let report = apply(&store, &rules(&[("b.*", 1), ("k8s.pod.cpu.more", 1), ("y", 1)])).await;
    assert_eq!(paths(&store), before);
    assert!(report.metrics.iter().all(|gone| gone.file_count == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metric_outlives_its_table_and_the_day_goes_with_the_longest() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let keep = days(2);
    let table = Retention { samples: keep, histograms: keep, series: keep, ..rules(&[("k8s.pod.cpu", 4)]) };
    let report = apply(&store, &table).await;
    let kept = [("a", 2), ("k8s.cpu", 2), ("k8s.pod.cpu", 4), ("z", 2)];
    assert_eq!(ages(&store, "samples").await, named(&kept));
    assert_eq!(ages(&store, "histograms").await, named(&[("k8s.time", 2)]));
    assert_eq!(ages(&store, "series").await.iter().map(|(_, age)| *age).collect::<Vec<_>>(), [2, 2, 4, 2, 2]);
    let samples = report.tables.iter().find(|days| days.table == "samples").unwrap();
    // The fifth day whole, of two days three metrics.
    assert_eq!((samples.day_count, samples.row_count), (3, 40 + 2 * 30));
    assert_eq!(report.metrics[0].row_count, 0);
    assert_sound(store, dir.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_kept_longer_than_points_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let table = Retention { samples: days(2), ..rules(&[("z", 4)]) };
    apply(&store, &table).await;
    assert_eq!(ages(&store, "samples").await, named(&[("a", 2), ("k8s.cpu", 2), ("k8s.pod.cpu", 2), ("z", 4)]));
    let names: Vec<_> = ages(&store, "series").await.into_iter().map(|(_, age)| age).collect();
    assert_eq!(names, [5, 5, 5, 5, 4]);
    let before = paths(&store);
    apply(&store, &table).await;
    assert_eq!(paths(&store), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn merged_files_keep_their_order_and_repeated_points_stay_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let old = NOW - 4 * DAY_US;
    store.append(batch("z", "h1", old, 5)).await.unwrap();
    store.flush().await.unwrap();
    apply(&store, &rules(&[("k8s.*", 2)])).await;
    // The repeat is still known as one.
    assert!(contents(&store, "samples").await.contains(&("z".into(), 4, 10)));
    store.compact(Compaction::Full).await.unwrap();
    assert!(contents(&store, "samples").await.contains(&("z".into(), 4, 10)));
    apply(&store, &rules(&[("a", 2), ("k8s.*", 2)])).await;
    assert_eq!(ages(&store, "samples").await, named(&[("a", 2), ("k8s.cpu", 2), ("k8s.pod.cpu", 2), ("z", 5)]));
    assert_sound(store, dir.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn points_that_come_late_go_with_the_next_pass() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let retention = rules(&[("k8s.*", 2)]);
    apply(&store, &retention).await;
    store.append(batch("k8s.cpu", "h2", NOW - 4 * DAY_US, 3)).await.unwrap();
    apply(&store, &retention).await;
    assert!(contents(&store, "samples").await.contains(&("k8s.cpu".into(), 4, 3)), "what no file holds stays");
    store.flush().await.unwrap();
    let report = apply(&store, &retention).await;
    assert_eq!(report.metrics[0].row_count, 4);
    assert_eq!(ages(&store, "series").await[1], ("k8s.cpu".into(), 2));
    assert_sound(store, dir.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commit_says_which_rules_it_applies() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    expire(store.inner(), &rules(&[("k8s.*", 4)]), NOW, Expiry::Apply).await.unwrap();
    let version = store.inner().state().snapshot("samples").unwrap().version;
    let text = fs::read_to_string(dir.path().join(format!("tables/samples/_delta_log/{version:020}.json"))).unwrap();
    assert!(text.contains("\"DELETE\"") && text.contains("store.retention.metric"), "{text}");
    let day = crate::live_file::date_text(day_of(NOW) - 5);
    assert!(text.contains(&format!("date = '{day}' AND (starts_with(metric, 'k8s.'))")), "{text}");
    assert_eq!(text.matches("\"dataChange\":true").count(), 2, "one file out, one in");
}

/// Wherever a pass fails, what it leaves is a state between before and after, and the next pass ends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_pass_that_fails_anywhere_loses_nothing_that_is_kept_and_is_taken_up_again() {
    let points = Failpoint::ALL.iter().copied().filter(|point| {
        let name = point.name();
        (name.starts_with("parquet.") || name.starts_with("delta."))
            && !["checkpoint", "delete", "shorten"].iter().any(|kind| name.contains(kind))
    });
    let retention = rules(&[("k8s.*", 2), ("a", 4)]);
    for point in points {
        for nth in [1, 2, 5] {
            let dir = tempfile::tempdir().unwrap();
            let store = filled(dir.path()).await;
            let armed = fail_below(dir.path(), point, nth);
            let failed = expire(store.inner(), &retention, NOW, Expiry::Apply).await;
            assert!(armed.has_acted() && failed.is_err(), "{} {nth}", point.name());
            drop((armed, store));
            let store = loop {
                match Store::open(Config::new(dir.path())).await {
                    Err(Error::Locked { .. }) => tokio::time::sleep(Duration::from_millis(2)).await,
                    store => break store.unwrap(),
                }
            };
            for (metric, age) in [("k8s.cpu", 2), ("k8s.pod.cpu", 2), ("z", 5), ("a", 4)] {
                for age in 0..=age {
                    let kept = contents(&store, "samples").await.contains(&(metric.into(), age, 10));
                    assert!(kept, "{} {nth}: {metric} of {age} days ago", point.name());
                }
            }
            expire(store.inner(), &retention, NOW, Expiry::Apply).await.unwrap();
            let kept = [("a", 4), ("k8s.cpu", 2), ("k8s.pod.cpu", 2), ("z", 5)];
            assert_eq!(ages(&store, "samples").await, named(&kept));
            assert_eq!(ages(&store, "histograms").await, named(&[("k8s.time", 2)]));
            assert_eq!(ages(&store, "series").await[1], ("k8s.cpu".into(), 2));
            assert_sound(store, dir.path()).await;
        }
    }
}
