use std::path::PathBuf;

use datafusion::prelude::SessionContext;

use super::*;
use crate::{
    Store,
    store::tests::{START, batch, count_and_sum, open},
};

/// Two flushes of ten points each and no server; the paths of the two `samples` files, the first flushed first.
async fn two_files(dir: &Path) -> Vec<PathBuf> {
    let store = open(dir).await;
    for round in 0..2 {
        store.append(batch("a", "h1", START + round * 60_000_000, 10)).await.unwrap();
        store.flush().await.unwrap();
    }
    store.close().await.unwrap();
    live(dir, "samples")
}

fn live(dir: &Path, table: &str) -> Vec<PathBuf> {
    let table_dir = dir.join("tables").join(table);
    let replayed = crate::delta_log::replay(&table_dir).unwrap();
    assert!(replayed.faults.is_empty(), "{:?}", replayed.faults);
    let mut files: Vec<_> = replayed.table.files.into_values().collect();
    files.sort_by_key(|file| file.keys.time);
    files.into_iter().map(|file| table_dir.join(file.path)).collect()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

async fn first_error(store: &Arc<Store>, sql: &str) -> String {
    let ctx = SessionContext::new();
    ctx.register_table("samples", store.table("samples").unwrap()).unwrap();
    match ctx.sql(sql).await.unwrap().collect().await {
        Ok(rows) => panic!("a damaged file gave {rows:?}"),
        Err(error) => error.to_string(),
    }
}

fn quarantined_files(store: &Store, table: &str) -> (u64, u64) {
    let tables = store.tables();
    let summary = tables.iter().find(|summary| summary.name == table).unwrap();
    (summary.quarantined_file_count, summary.quarantined_row_count)
}

async fn check_taken_out(damage: impl Fn(&Path), kept: bool) {
    let dir = tempfile::tempdir().unwrap();
    let files = two_files(dir.path()).await;
    let foreign = files[0].with_file_name("notes.txt");
    fs::write(&foreign, "mine").unwrap();
    damage(&files[0]);
    let damaged = fs::read(&files[0]).ok();
    for _ in 0..2 {
        // The second start finds nothing more to do.
        let store = open(dir.path()).await;
        assert_eq!(count_and_sum(&store).await, (10, 45.0));
        assert_eq!(quarantined_files(&store, "samples"), (1, 10));
        assert_eq!(quarantined_files(&store, "series"), (0, 0));
        store.close().await.unwrap();
    }
    let folder = dir.path().join("quarantine/samples");
    let copy = folder.join(files[0].file_name().unwrap());
    assert_eq!(fs::read(&copy).ok(), damaged);
    assert_eq!(copy.exists(), kept);
    let note = copy.with_file_name(format!("{}.json", files[0].file_name().unwrap().to_string_lossy()));
    let note: Value = serde_json::from_slice(&fs::read(note).unwrap()).unwrap();
    assert_eq!(note["rows"], 10);
    assert!(!files[0].exists());
    assert_eq!(fs::read_to_string(foreign).unwrap(), "mine");
    assert_eq!(live(dir.path(), "samples"), files[1..]);
    let report = crate::verify(&crate::Config::new(dir.path()), &mut |_, _| {}).unwrap();
    assert!(report.is_sound(), "{:?}", report.faults);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file_is_taken_out_and_the_rest_stays() {
    check_taken_out(|path| fs::remove_file(path).unwrap(), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_file_is_taken_out_and_the_rest_stays() {
    let cut = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() - 9]).unwrap();
    };
    check_taken_out(cut, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_a_damaged_end_is_taken_out_and_the_rest_stays() {
    check_taken_out(|path| flip(path, fs::read(path).unwrap().len() - 1), true).await;
    check_taken_out(|path| flip(path, 0), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_anywhere_never_changes_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let files = two_files(dir.path()).await;
    let size = fs::read(&files[0]).unwrap().len();
    // Every part of the file in turn, but not its ends, which the start sees.
    for at in (4..size - 8).step_by(size / 16) {
        flip(&files[0], at);
        let store = open(dir.path()).await;
        let error = first_error(&store, "SELECT sum(value) FROM samples").await;
        let name = files[0].file_name().unwrap().to_string_lossy();
        assert!(error.contains(&*name) && error.contains("driftwatt verify"), "byte {at}: {error}");
        // What does not need the file is answered.
        let ctx = SessionContext::new();
        ctx.register_table("samples", store.table("samples").unwrap()).unwrap();
        let sql = "SELECT sum(value) FROM samples WHERE time > to_timestamp_micros(1795000030000000)";
        let rows = ctx.sql(sql).await.unwrap().collect().await.unwrap();
        assert!(format!("{rows:?}").contains("45.0"), "{rows:?}");
        store.close().await.unwrap();
        drop(store);
        flip(&files[0], at);
    }
    assert_eq!(count_and_sum(&open(dir.path()).await).await, (20, 90.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_series_file_does_not_stop_flushes_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    two_files(dir.path()).await;
    let store = open(dir.path()).await;
    store.append(batch("b", "h1", START + 120_000_000, 5)).await.unwrap();
    let file = live(dir.path(), "series").remove(0);
    flip(&file, 40);
    drop(store);
    let store = open(dir.path()).await;
    assert_eq!(quarantined_files(&store, "series"), (1, 1));
    store.flush().await.unwrap();
    assert_eq!(count_and_sum(&store).await.0, 25);
    store.close().await.unwrap();
    drop(store);
    let report = crate::verify(&crate::Config::new(dir.path()), &mut |_, _| {}).unwrap();
    let kinds: Vec<_> = report.faults.iter().map(|fault| fault.kind).collect();
    // The labels of the earlier points went with the file: that is said, not hidden.
    assert_eq!(kinds, [crate::FaultKind::SeriesMissing; 2]);
}
