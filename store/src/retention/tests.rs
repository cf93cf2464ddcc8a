use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use deltalake::{ensure_table_uri, open_table};

use super::*;
use crate::{
    Store,
    live_file::date_text,
    memtable::{DAY_US, day_of},
    store::tests::{START, batch, count_and_sum, open, query},
    verify::verify,
};

const DAYS: i64 = 10;
/// Noon of the newest day.
const NOW: i64 = START.div_euclid(DAY_US) * DAY_US + DAY_US / 2;

fn days(count: u64) -> Keep {
    Keep::For(Duration::from_secs(count * 86_400))
}

fn all(keep: Keep) -> Retention {
    Retention { samples: keep, histograms: keep, series: keep, rejections: keep, results: keep, metrics: vec![] }
}

/// Ten days of one series, ten points a day.
async fn filled(dir: &Path) -> Arc<Store> {
    let store = open(dir).await;
    for day in 0..DAYS {
        store.append(batch("a", "h1", NOW - day * DAY_US, 10)).await.unwrap();
    }
    store.flush().await.unwrap();
    store
}

fn of<'a>(report: &'a RetentionReport, table: &str) -> &'a ExpiredDays {
    report.tables.iter().find(|days| days.table == table).unwrap()
}

/// The days that another reader finds in a table.
async fn second_reader_days(dir: &Path, table: &str) -> BTreeSet<String> {
    let url = ensure_table_uri(dir.join("tables").join(table).to_string_lossy()).unwrap();
    let delta = open_table(url).await.unwrap();
    let day = |uri: String| uri.replace("%3D", "=").split_once("date=").unwrap().1[..10].to_owned();
    delta.get_file_uris().unwrap().map(day).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn days_past_the_horizon_go_with_their_series_and_readers_keep_what_they_saw() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let before = store.inner().state().snapshot("samples").unwrap();
    let counted = expire(store.inner(), &all(days(4)), NOW, Expiry::DryRun).await.unwrap();
    assert_eq!(count_and_sum(&store).await.0, 10 * DAYS, "a dry run changes nothing");
    let report = expire(store.inner(), &all(days(4)), NOW, Expiry::Apply).await.unwrap();
    assert_eq!(report, counted);
    let samples = of(&report, "samples");
    // Today and four days before it are kept; the fourth is not past the horizon with its afternoon.
    assert_eq!((samples.day_count, samples.file_count, samples.row_count), (5, 5, 50));
    assert_eq!(samples.first_kept_day, Some(date_text(day_of(NOW) - 4)));
    assert!(samples.size_bytes > 0);
    assert_eq!(of(&report, "series").row_count, 5);
    assert_eq!(report.tables.last().unwrap().table, "series");
    assert_eq!(count_and_sum(&store).await.0, 50);
    for table in ["samples", "series"] {
        let kept: BTreeSet<_> = (0..5).map(|day| date_text(day_of(NOW) - day)).collect();
        assert_eq!(second_reader_days(dir.path(), table).await, kept);
    }
    assert!(before.files.iter().all(|file| before.storage.dir().join(&file.path).exists()), "the grace period");
    let again = expire(store.inner(), &all(days(4)), NOW, Expiry::Apply).await.unwrap();
    assert!(again.tables.iter().all(|days| days.file_count == 0), "{again:?}");
    store.close().await.unwrap();
    drop((store, before));
    assert!(verify(&Config::new(dir.path()), &mut |_, _| {}).unwrap().is_sound());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commit_says_which_rule_it_applies() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    expire(store.inner(), &all(days(4)), NOW, Expiry::Apply).await.unwrap();
    let version = store.inner().state().snapshot("samples").unwrap().version;
    let entry = dir.path().join(format!("tables/samples/_delta_log/{version:020}.json"));
    let text = fs::read_to_string(entry).unwrap();
    assert!(text.contains("\"DELETE\"") && text.contains("store.retention.samples = \\\"4d\\\""), "{text}");
    assert!(text.contains(&format!("date < '{}'", date_text(day_of(NOW) - 4))), "{text}");
    assert_eq!(text.matches("\"dataChange\":true").count(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_ten_years_ahead_deletes_nothing_that_the_right_one_would_keep() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let jumped = NOW + 3650 * DAY_US;
    // A point that the server itself wrote under that clock.
    store.append(batch("own", "h1", jumped, 1)).await.unwrap();
    store.flush().await.unwrap();
    let report = expire(store.inner(), &all(days(30)), jumped, Expiry::Apply).await.unwrap();
    assert!(report.clock_held_back);
    assert!(report.tables.iter().all(|days| days.file_count == 0), "{report:?}");
    assert_eq!(count_and_sum(&store).await.0, 10 * DAYS + 1);
    expire(store.inner(), &all(days(1)), jumped, Expiry::Apply).await.unwrap();
    // By the right clock, too, today and yesterday are all that one day keeps.
    assert_eq!(count_and_sum(&store).await.0, 20 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn points_that_come_after_their_day_went_are_stored_and_go_with_the_next_pass() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let late = NOW - (DAYS - 1) * DAY_US;
    store.append(batch("late", "h2", late, 3)).await.unwrap();
    expire(store.inner(), &all(days(4)), NOW, Expiry::Apply).await.unwrap();
    assert_eq!(count_and_sum(&store).await.0, 53);
    store.flush().await.unwrap();
    assert_eq!(count_and_sum(&store).await.0, 53);
    let series = query(&store, "SELECT metric FROM series WHERE date < DATE '2026-11-12'").await;
    assert_eq!(series.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1, "the series of the late points only");
    let report = expire(store.inner(), &all(days(4)), NOW, Expiry::Apply).await.unwrap();
    assert_eq!((of(&report, "samples").row_count, of(&report, "series").row_count), (3, 1));
    assert_eq!(count_and_sum(&store).await.0, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_table_is_kept_as_long_as_its_setting_says() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    let retention = Retention { samples: days(2), series: days(6), ..Retention::FOREVER };
    let report = expire(store.inner(), &retention, NOW, Expiry::Apply).await.unwrap();
    assert_eq!((of(&report, "samples").day_count, of(&report, "series").day_count), (7, 3));
    assert_eq!(of(&report, "rejections").first_kept_day, None);
    let count = query(&store, "SELECT series_id FROM series").await;
    assert_eq!(count.iter().map(|batch| batch.num_rows()).sum::<usize>(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_counts_the_same_and_leaves_the_directory_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    assert!(matches!(
        preview_retention(&Config { retention: all(days(4)), ..Config::new(dir.path()) }),
        Err(Error::Locked { .. })
    ));
    store.close().await.unwrap();
    drop(store);
    // Both go by the real clock, which is far ahead of these points, so ages are counted from them.
    let retention = Retention { samples: days(1), ..Retention::FOREVER };
    let previewed = preview_retention(&Config { retention, ..Config::new(dir.path()) }).unwrap();
    let store = open(dir.path()).await;
    let retention = Retention { samples: days(1), ..Retention::FOREVER };
    let counted = store.expire(&retention, Expiry::DryRun).await.unwrap();
    assert_eq!(previewed.tables, counted.tables);
    assert!(of(&counted, "samples").row_count > 0);
    assert_eq!(count_and_sum(&store).await.0, 10 * DAYS);
}
