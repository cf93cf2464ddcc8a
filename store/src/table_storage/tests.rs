//! The store with its tables on a real S3 server: what holds on a disk holds there, whatever the network does.

pub(crate) mod server;

use std::time::Duration;

use bytes::Bytes;
use deltalake::{DeltaTableBuilder, ensure_table_uri};
use object_store::{ObjectStoreExt as _, path::Path as ObjectPath, prefix::PrefixStore};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;
use crate::{
    Compaction, Config, ErrorKind, Expiry, Keep, Retention, Store,
    delta_log::DeltaLog,
    memtable::DAY_US,
    schema::samples_file_schema,
    store::tests::{START, batch, count_and_sum},
    verify::verify,
};
use server::{Failure, S3Server};

async fn open(config: &Config) -> Arc<Store> {
    for _ in 0..100 {
        match Store::open(config.clone()).await {
            // What a store that was dropped does in the background ends soon.
            Err(Error::Locked { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
            opened => return opened.unwrap(),
        }
    }
    panic!("the directory stays locked");
}

/// Rows of `table` as the `deltalake` crate finds them: not a line of this crate is asked.
async fn second_reader_rows(server: &S3Server, table: &str) -> usize {
    // This build of the crate knows no scheme for S3; it reads whatever store it is given.
    let url = ensure_table_uri("memory:///").unwrap();
    let client = Arc::new(PrefixStore::new(server.client(), table));
    let builder = DeltaTableBuilder::from_url(url.clone()).unwrap();
    let delta = builder.with_storage_backend(Arc::clone(&client) as _, url).load().await.unwrap();
    let mut rows = 0;
    for uri in delta.get_file_uris().unwrap() {
        let key = uri.strip_prefix("memory:///").unwrap().replace("%3D", "=");
        let bytes: Bytes = client.get(&ObjectPath::parse(key).unwrap()).await.unwrap().bytes().await.unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
        rows += reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>();
    }
    rows
}

async fn report(config: &Config) -> crate::VerifyReport {
    let config = config.clone();
    tokio::task::spawn_blocking(move || verify(&config, &mut |_, _| {})).await.unwrap().unwrap()
}

fn data_objects(server: &S3Server, table: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in fs::read_dir(server.path(table)).unwrap().map(|entry| entry.unwrap()) {
        if folder.file_name().to_string_lossy().starts_with("date=") {
            found.extend(fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn points_survive_flush_restart_merge_and_retention_and_others_read_them() {
    let (server, dir) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let config = server.config(dir.path(), "a/tables");
    let store = open(&config).await;
    for round in 0..3 {
        store.append(batch("a", "h1", START + round * 60_000_000, 10)).await.unwrap();
        store.append(batch("a", "h2", START - DAY_US * 20, 5)).await.unwrap();
        let before = count_and_sum(&store).await;
        store.flush().await.unwrap();
        assert_eq!(count_and_sum(&store).await, before, "flush changes no answer");
    }
    // Repeats of a day that is stored: shown once, before and after the merge.
    assert_eq!(count_and_sum(&store).await.0, 35);
    store.append(batch("b", "h1", START, 7)).await.unwrap();
    drop(store);
    let store = open(&config).await;
    assert_eq!(count_and_sum(&store).await.0, 42, "what was not flushed is replayed");
    store.flush().await.unwrap();
    let merged = store.compact(Compaction::Full).await.unwrap();
    assert!(merged.files_before > merged.files_after && merged.duplicate_count == 10, "{merged:?}");
    assert_eq!(count_and_sum(&store).await.0, 42);
    assert_eq!(second_reader_rows(&server, "a/tables/samples").await, 42);
    assert_eq!(second_reader_rows(&server, "a/tables/series").await, 3);
    store.close().await.unwrap();
    drop(store);
    let checked = report(&config).await;
    assert!(checked.is_sound(), "{:?}", checked.faults);
    assert!(!dir.path().join("tables/samples").exists(), "nothing of the tables is local");
    let copies = fs::read_dir(dir.path().join("cache")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(copies.into_iter().all(|name| name.len() < 36), "the copies of the check are gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_days_go_and_checkpoints_shorten_the_log() {
    let (server, dir) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let config = server.config(dir.path(), "t");
    let store = open(&config).await;
    for day in 0..10 {
        store.append(batch("a", "h1", START - day * DAY_US, 10)).await.unwrap();
    }
    store.flush().await.unwrap();
    let keep = Keep::For(Duration::from_secs(4 * 86_400));
    let retention =
        Retention { samples: keep, histograms: keep, series: keep, rejections: keep, results: keep, metrics: vec![] };
    let expired = crate::retention::expire(store.inner(), &retention, START + 60_000_000, Expiry::Apply).await.unwrap();
    assert_eq!(expired.tables.iter().map(|days| days.row_count).sum::<u64>(), 50 + 5, "{expired:?}");
    assert_eq!(count_and_sum(&store).await.0, 50);
    assert_eq!((second_reader_rows(&server, "t/samples").await, data_objects(&server, "t/samples").len()), (50, 10));
    let committer = store.inner().committer("samples").unwrap();
    let storage = Arc::clone(committer.lock().await.storage());
    for _ in 0..2 {
        crate::delta_log::checkpoint(&storage).await.unwrap();
        store.append(batch("b", "h1", START, 3)).await.unwrap();
        store.flush().await.unwrap();
    }
    crate::delta_log::tidy::shorten_log(&storage, Duration::ZERO).await.unwrap();
    let entries: Vec<_> = storage.list_log().await.unwrap().into_iter().map(|listed| listed.name).collect();
    assert!(!entries.contains(&entry_name(0)) && entries.contains(&LAST_CHECKPOINT.to_owned()), "{entries:?}");
    // The points that came twice are in two files until a merge.
    assert_eq!(second_reader_rows(&server, "t/samples").await, 56);
    store.close().await.unwrap();
    drop((store, committer, storage));
    let store = open(&config).await;
    assert_eq!(count_and_sum(&store).await.0, 53);
    store.close().await.unwrap();
    drop(store);
    let checked = report(&config).await;
    assert!(checked.is_sound(), "{:?}", checked.faults);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_committers_for_one_version_one_wins_and_the_other_goes_on_behind_it() {
    let server = S3Server::start().await;
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut logs = Vec::new();
    for dir in [&one, &other] {
        let config = server.config(dir.path(), "t");
        let bucket = Bucket::new(config.tables.as_ref().unwrap(), &config.s3, dir.path().join("copies"), None).unwrap();
        let storage = TableStorage::in_bucket(&Arc::new(bucket), "samples");
        logs.push(DeltaLog::open(storage, Some(samples_file_schema())).await.unwrap());
    }
    let [first, second] = logs.as_mut_slice() else { panic!() };
    // The second has fenced the first off.
    let fenced = first.commit(vec![], &[], Some(1)).await.unwrap_err();
    assert!(matches!(fenced, Error::VersionTaken { .. }), "{fenced}");
    first.settle().await.unwrap();
    for round in 2..12 {
        let (a, b) =
            tokio::join!(first.commit(vec![], &[], Some(round)), second.commit(vec![], &[], Some(round + 100)));
        assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
        let won = if a.is_ok() { round } else { round + 100 };
        let settled = [first.settle().await.unwrap(), second.settle().await.unwrap()];
        assert!(settled.iter().all(|snapshot| snapshot.wal_position == won), "{settled:?}");
        assert_eq!(settled[0].version, settled[1].version);
    }
}

/// Fails one flush by `failure` of what `method` does at `part`, `times` times; then all is well again.
async fn flush_through(method: &'static str, part: &'static str, failure: Failure, times: usize) {
    let (server, dir) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let config = server.config(dir.path(), "t");
    let store = open(&config).await;
    let what = format!("{method} {part} {failure:?} {times}");
    store.append(batch("a", "h1", START, 10)).await.unwrap();
    store.flush().await.unwrap();
    store.append(batch("a", "h1", START + 60_000_000, 10)).await.unwrap();
    server.fail(method, part, failure, times);
    let outcome = store.flush().await;
    assert_eq!(count_and_sum(&store).await.0, 20, "{what}: at once, {outcome:?}");
    if let Err(error) = &outcome {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{what}: {error}");
        assert!(!format!("{error:?}").contains("test-secret"), "{error:?}");
    }
    store.append(batch("b", "h1", START, 5)).await.unwrap();
    assert!(server.heal() > 0, "{what} did not happen");
    if store.flush().await.is_err() {
        store.flush().await.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    assert_eq!(count_and_sum(&store).await.0, 25, "{what}: after the next flush");
    assert_eq!(second_reader_rows(&server, "t/samples").await, 25, "{what}: a second reader");
    assert_eq!(second_reader_rows(&server, "t/series").await, 2, "{what}: one row per series and day");
    drop(store);
    let store = open(&config).await;
    assert_eq!(count_and_sum(&store).await.0, 25, "{what}: after reopening");
    store.close().await.unwrap();
    drop(store);
    let checked = report(&config).await;
    assert!(checked.is_sound(), "{what}: {:?}", checked.faults);
}

const ENTRY: &str = "/samples/_delta_log/";
const DATA: &str = "/samples/date";

#[tokio::test(flavor = "multi_thread")]
async fn errors_that_pass_are_not_noticed() {
    flush_through("PUT", ENTRY, Failure::Status(503), 2).await;
    flush_through("PUT", DATA, Failure::Status(500), 2).await;
    flush_through("PUT", DATA, Failure::Slow(Duration::from_millis(300)), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_that_stay_fail_the_flush_and_lose_nothing() {
    for part in [ENTRY, DATA, "/series/_delta_log/", "/series/date"] {
        flush_through("PUT", part, Failure::Status(503), usize::MAX).await;
    }
    flush_through("PUT", DATA, Failure::Status(403), 1).await;
    flush_through("PUT", ENTRY, Failure::Status(403), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_store_and_a_lost_connection_lose_nothing_and_double_nothing() {
    for part in [ENTRY, DATA, "/series/_delta_log/"] {
        for failure in [Failure::Slow(Duration::from_secs(3)), Failure::LostBefore, Failure::LostAfter] {
            flush_through("PUT", part, failure, 1).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_arrives_long_after_its_connection_was_lost_counts_once() {
    for pause in [20, 300, 1500] {
        let late = Failure::Late(Duration::from_millis(pause));
        for part in [ENTRY, "/series/_delta_log/"] {
            flush_through("PUT", part, late, 1).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_a_dead_process_had_sent_does_not_arrive_behind_the_next_one() {
    for pause in [0, 50, 100, 200, 400, 800] {
        let (server, dir) = (S3Server::start().await, tempfile::tempdir().unwrap());
        let config = server.config(dir.path(), "t");
        let store = open(&config).await;
        store.append(batch("a", "h1", START, 10)).await.unwrap();
        server.fail("PUT", ENTRY, Failure::Late(Duration::from_millis(pause)), 1);
        let _outcome = store.flush().await;
        drop(store);
        let store = open(&config).await;
        store.append(batch("a", "h1", START + 60_000_000, 10)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if store.flush().await.is_err() {
            store.flush().await.unwrap();
        }
        assert_eq!(count_and_sum(&store).await.0, 20, "{pause} ms");
        assert_eq!(second_reader_rows(&server, "t/samples").await, 20, "{pause} ms");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_sheds_by_the_memtable_and_recovers_by_itself() {
    let (server, dir) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let config =
        Config { flush_size_bytes: 16 << 10, memtable_size_bytes_max: 64 << 10, ..server.config(dir.path(), "t") };
    let store = open(&config).await;
    server.fail("PUT", "/", Failure::Status(503), usize::MAX);
    let (mut acked, mut minute) = (0, 0);
    let refused = loop {
        match store.append(batch("a", "h1", START + minute * 60_000_000, 50)).await {
            Ok(_) => acked += 50,
            Err(error) => break error,
        }
        minute += 1;
    };
    assert_eq!(refused.kind(), ErrorKind::Overloaded, "{refused}");
    assert_eq!(count_and_sum(&store).await.0, acked, "reads go on");
    server.heal();
    let recovered = tokio::time::timeout(Duration::from_secs(20), async {
        while store.append(batch("b", "h1", START, 1)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    recovered.await.unwrap();
    store.close().await.unwrap();
    assert_eq!(second_reader_rows(&server, "t/samples").await as i64, acked + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_have_one_writer_and_a_directory_one_place_for_its_tables() {
    let server = S3Server::start().await;
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = server.config(one.path(), "t");
    let store = open(&config).await;
    store.append(batch("a", "h1", START, 10)).await.unwrap();
    store.close().await.unwrap();
    drop(store);
    let refuse = async |config: Config| Store::open(config).await.unwrap_err();
    let taken = refuse(server.config(other.path(), "t")).await;
    assert!(
        matches!(&taken, Error::TablesTaken { object, .. } if object == "s3://bucket/t/_driftwatt_owner"),
        "{taken}"
    );
    assert!(!other.path().join(TABLES_FILE).exists(), "it may choose another place");
    for config in [Config::new(one.path()), server.config(one.path(), "elsewhere")] {
        let elsewhere = refuse(config).await;
        assert!(
            matches!(&elsewhere, Error::TablesElsewhere { tables, .. } if tables == "s3://bucket/t"),
            "{elsewhere}"
        );
    }
    let store = open(&Config::new(other.path())).await;
    store.close().await.unwrap();
    drop(store);
    let local = refuse(server.config(other.path(), "u")).await;
    assert!(matches!(&local, Error::TablesElsewhere { .. }), "{local}");
    // The machine of the first is gone for good: another goes on with its tables.
    fs::remove_file(server.path("t/_driftwatt_owner")).unwrap();
    let new = tempfile::tempdir().unwrap();
    let config = server.config(new.path(), "t");
    let store = open(&config).await;
    assert_eq!(count_and_sum(&store).await.0, 10);
    store.append(batch("b", "h1", START, 5)).await.unwrap();
    store.flush().await.unwrap();
    store.append(batch("c", "h1", START, 5)).await.unwrap();
    drop(store);
    let store = open(&config).await;
    assert_eq!(count_and_sum(&store).await.0, 20);
    store.flush().await.unwrap();
    // Should somebody be wrong about that, the one that is not the owner any more stops writing and keeps what it has.
    store.append(batch("d", "h1", START, 5)).await.unwrap();
    fs::write(server.path("t/_driftwatt_owner"), "another").unwrap();
    server.fail("PUT", ENTRY, Failure::Status(503), usize::MAX);
    store.flush().await.unwrap_err();
    server.heal();
    let refused = store.flush().await.unwrap_err();
    assert!(matches!(&refused, Error::TablesTaken { .. }), "{refused}");
    assert_eq!(count_and_sum(&store).await.0, 25);
    assert_eq!(second_reader_rows(&server, "t/samples").await, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_and_missing_objects_are_found_and_put_aside_and_the_rest_stays_readable() {
    let (server, dir) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let config = server.config(dir.path(), "t");
    let store = open(&config).await;
    for day in 0..3 {
        store.append(batch("a", "h1", START + day * DAY_US, 10)).await.unwrap();
    }
    store.flush().await.unwrap();
    store.close().await.unwrap();
    drop(store);
    let objects = data_objects(&server, "t/samples");
    let mut bytes = fs::read(&objects[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&objects[0], &bytes).unwrap();
    fs::remove_file(&objects[1]).unwrap();
    fs::write(
        server
            .path("t/samples/date=2026-11-18/part-0-00000000000000000007-0a0a0a0a-0a0a-4a0a-8a0a-0a0a0a0a0a0a.parquet"),
        "x",
    )
    .unwrap_or_else(|_| fs::write(objects[2].with_file_name("notes.txt"), "x").unwrap());
    let checked = report(&config).await;
    let mut kinds: Vec<_> = checked.faults.iter().map(|fault| fault.kind.as_str()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["file_checksum", "file_missing"], "{:?}", checked.faults);
    assert!(checked.faults.iter().all(|fault| fault.path.starts_with("s3:/bucket/t/samples")), "{:?}", checked.faults);
    assert_eq!(checked.notes.len(), 1, "{:?}", checked.notes);
    let store = open(&config).await;
    let summary = store.tables().into_iter().find(|table| table.name == "samples").unwrap();
    assert_eq!((summary.quarantined_file_count, summary.file_count), (1, 2));
    let damaged = store.compact(Compaction::Full).await;
    assert!(damaged.is_ok(), "a day of one file is not merged: {damaged:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_holds_next_to_nothing_costs_time_only() {
    let (server, dir) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let mut config = server.config(dir.path(), "t");
    config.s3.cache_size_bytes = 4 << 10;
    let store = open(&config).await;
    for round in 0..4 {
        store.append(batch("a", &format!("h{round}"), START, 400)).await.unwrap();
        store.flush().await.unwrap();
    }
    store.compact(Compaction::Full).await.unwrap();
    assert_eq!(count_and_sum(&store).await.0, 1600);
    let size_of = |dir: &Path| fs::metadata(dir).map_or(0, |metadata| metadata.len());
    let copies: u64 = ["samples", "series"]
        .iter()
        .flat_map(|table| fs::read_dir(dir.path().join("cache").join(table)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("date="))
        .flat_map(|day| fs::read_dir(day).unwrap().map(|file| file.unwrap().path()))
        .map(|file| size_of(&file))
        .sum();
    assert!(copies <= 4 << 10, "{copies}");
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_go_in_parts_and_come_back_whole() {
    let (server, dir) = (S3Server::start().await, tempfile::tempdir().unwrap());
    let mut config = server.config(dir.path(), "t");
    config.s3 = server.patient();
    let bucket = Bucket::new(config.tables.as_ref().unwrap(), &config.s3, dir.path().join("copies"), None).unwrap();
    let bucket = Arc::new(bucket);
    let bytes: Vec<u8> = (0..20_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let (path, copy) = (dir.path().join("file"), dir.path().join("copy"));
    fs::write(&path, &bytes).unwrap();
    let object = ObjectPath::from("t/file");
    server.fail("PUT", "t/file", Failure::Status(503), 1);
    let (sent, task_copy) = (Arc::clone(&bucket), copy.clone());
    let work = move || {
        sent.upload(&path, &object)?;
        sent.fetch(&object, &task_copy)
    };
    let fetched = tokio::task::spawn_blocking(work).await.unwrap().unwrap();
    assert!(fetched.is_some() && fs::read(copy).unwrap() == bytes);
    assert_eq!(server.heal(), 1);
}
