//! The store at its limits: a full disk, series known from before a restart, the edges of days.

use super::*;
use crate::{
    active_series::{SeriesLimits, SeriesRefusal},
    error::ErrorKind,
};

#[tokio::test(flavor = "multi_thread")]
async fn below_the_disk_floor_appends_are_refused_and_reads_and_flushes_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.append(batch("a", "h1", START, 10)).await.unwrap();
    drop(store);
    let full = Config { disk_free_bytes_min: Some(u64::MAX), ..Config::new(dir.path()) };
    let store = Store::open(full).await.unwrap();
    let error = store.append(batch("a", "h2", START, 10)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert!(error.to_string().contains("disk_free_min"), "{error}");
    assert_eq!(count_and_sum(&store).await, (10, 45.0));
    // What is in the log is brought to the tables without being asked, for the space that frees.
    for _ in 0..100 {
        if store.unflushed_size_bytes() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(store.unflushed_size_bytes(), 0);
    assert_eq!(count_and_sum(&store).await, (10, 45.0));
    store.close().await.unwrap();
    drop(store);
    let store = open(dir.path()).await;
    store.append(batch("a", "h2", START, 10)).await.unwrap();
    assert_eq!(count_and_sum(&store).await, (20, 90.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn series_known_before_a_restart_go_on_at_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let now = chrono::Utc::now().timestamp_micros();
    let hour = 3_600_000_000;
    let store = open(dir.path()).await;
    store.append(batch("a", "in a file", now - hour, 1)).await.unwrap();
    store.append(batch("a", "too old", now - 30 * hour, 1)).await.unwrap();
    store.flush().await.unwrap();
    store.append(batch("a", "in the log", now, 1)).await.unwrap();
    drop(store);
    let store = open(dir.path()).await;
    let active = store.active_series();
    assert_eq!(active.count(), 2);
    let limits = SeriesLimits { total: 2, ..SeriesLimits::default() };
    active.admit(&series("a", "in a file"), now, &limits).unwrap();
    active.admit(&series("a", "in the log"), now, &limits).unwrap();
    assert_eq!(active.admit(&series("a", "too old"), now, &limits), Err(SeriesRefusal::Cardinality));
    let forged = Series { fingerprint: !0, ..(*series("a", "in a file")).clone() };
    assert_eq!(active.admit(&forged, now, &limits), Err(SeriesRefusal::Collision));
}

#[tokio::test(flavor = "multi_thread")]
async fn days_begin_at_midnight_utc_also_where_clocks_change() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    // Summer time begins and ends in Europe and in America on these days; the last is a leap day.
    let days = ["2026-03-29", "2026-10-25", "2026-03-08", "2026-11-01", "2024-02-29"];
    for day in days {
        let start = i64::from(crate::live_file::parse_date(day).unwrap()) * DAY_US;
        for time in [start - 1, start, start + 2 * 3_600_000_000, start + DAY_US - 1, start + DAY_US] {
            store.append(batch("a", "h1", time, 1)).await.unwrap();
        }
    }
    for _flushed in [false, true] {
        for day in days {
            let sql = format!("SELECT count(*) FROM samples WHERE date = DATE '{day}'");
            let count = &query(&store, &sql).await[0];
            assert_eq!(count.column(0).as_primitive::<Int64Type>().value(0), 3, "{day}");
        }
        assert_eq!(count_and_sum(&store).await.0, 25);
        store.flush().await.unwrap();
    }
    assert!(dir.path().join("tables/samples/date=2026-10-24").is_dir());
}
