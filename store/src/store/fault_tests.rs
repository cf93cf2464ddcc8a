//! Operations that fail at one place: what holds at once, and that the next attempt succeeds.

use std::{collections::BTreeSet, fs, path::Path};

use super::{
    tests::{START, batch, count_and_sum, open, query},
    *,
};
use crate::{
    failpoint::{Failpoint, fail_below},
    memtable::DAY_US,
};

/// Data files below `tables`, and every other file that is not part of a Delta log.
fn files(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            files(&entry.path(), found);
        } else if !name.ends_with(".json") {
            found.insert(name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_creation_was_cut_short_is_created_by_the_next_open() {
    for point in [
        Failpoint::DeltaBeforeCreate,
        Failpoint::DeltaTemporaryWritten,
        Failpoint::DeltaBeforeLink,
        Failpoint::DeltaAfterLink,
        Failpoint::DeltaBeforeSync,
    ] {
        let dir = tempfile::tempdir().unwrap();
        let armed = fail_below(dir.path(), point, 2);
        assert!(Store::open(Config::new(dir.path())).await.is_err());
        assert!(armed.has_acted(), "{point:?}");
        let store = open(dir.path()).await;
        store.append(batch("a", "h1", START, 3)).await.unwrap();
        store.flush().await.unwrap();
        assert_eq!(count_and_sum(&store).await.0, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_fails_after_it_took_its_version_holds() {
    for point in
        [Failpoint::DeltaAfterLink, Failpoint::DeltaBeforeSync, Failpoint::DeltaAfterSync, Failpoint::FlushAfterCommit]
    {
        for nth in 1..=2 {
            let dir = tempfile::tempdir().unwrap();
            let store = open(dir.path()).await;
            store.append(batch("a", "h1", START, 10)).await.unwrap();
            let armed = fail_below(dir.path(), point, nth);
            store.flush().await.unwrap_err();
            assert!(armed.has_acted());
            assert_eq!(count_and_sum(&store).await.0, 10, "{point:?}:{nth}, after the failed flush");
            store.append(batch("b", "h1", START, 5)).await.unwrap();
            store.flush().await.unwrap_or_else(|error| panic!("{point:?}:{nth}: the next flush: {error}"));
            assert_eq!(count_and_sum(&store).await.0, 15, "{point:?}:{nth}, after the next flush");
            store.close().await.unwrap();
            drop(store);
            let store = open(dir.path()).await;
            assert_eq!(count_and_sum(&store).await.0, 15, "{point:?}:{nth}, after reopening");
            let rows = query(&store, "SELECT count(*) FROM series GROUP BY series_id, date").await;
            assert!(rows.iter().map(RecordBatch::num_rows).sum::<usize>() == 2, "one row per series and day");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_that_fails_before_its_commit_leaves_no_file_behind() {
    for point in [
        Failpoint::ParquetMidWrite,
        Failpoint::ParquetBeforeSync,
        Failpoint::ParquetAfterSync,
        Failpoint::DeltaBeforeCreate,
        Failpoint::DeltaTemporaryWritten,
        Failpoint::DeltaBeforeLink,
    ] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).await;
        // Two days: the second file of `samples` fails when the first is complete.
        store.append(batch("a", "h1", START, 2)).await.unwrap();
        store.append(batch("a", "h1", START + DAY_US, 2)).await.unwrap();
        let nth = if point.name().starts_with("parquet") { 2 } else { 1 };
        let _armed = fail_below(dir.path(), point, nth);
        store.flush().await.unwrap_err();
        let mut left = BTreeSet::new();
        files(&dir.path().join("tables"), &mut left);
        assert_eq!(left, BTreeSet::new(), "{point:?}");
        store.flush().await.unwrap();
        assert_eq!(count_and_sum(&store).await.0, 4, "{point:?}");
    }
}
