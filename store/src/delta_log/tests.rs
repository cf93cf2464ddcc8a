use std::{collections::BTreeSet, fs, path::PathBuf};

use datafusion::arrow::datatypes::TimeUnit;

use super::names::{LOG_DIR, entry_name};
use super::*;
use crate::{file_name::FileName, parquet_file::NewFile};

fn schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![Field::new("time", time, false), Field::new("date", DataType::Date32, false)]))
}

fn storage(dir: &Path) -> Arc<TableStorage> {
    TableStorage::local(dir.to_owned())
}

fn log_dir(dir: &Path) -> PathBuf {
    dir.join(LOG_DIR)
}

async fn open(dir: &Path) -> DeltaLog {
    DeltaLog::open(storage(dir), Some(schema())).await.unwrap()
}

/// An empty file under a name of ours, which the log does not look into.
fn new_file(dir: &Path, sequence: u64) -> NewFile {
    use crate::parquet_file::{Effort, FileWriter};
    let name = FileName { level: 0, sequence, repeats: false };
    let schema = crate::rows::file_schema(&schema());
    FileWriter::create(&storage(dir), 20_000, name, &schema, Effort::Flush).unwrap().finish().unwrap()
}

fn listed(dir: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.collect()
}

#[tokio::test]
async fn the_log_is_shortened_to_two_checkpoints_and_still_opens() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).await;
    for sequence in 1..=12 {
        log.commit(vec![new_file(dir.path(), sequence)], &[], Some(sequence)).await.unwrap();
        if sequence % 3 == 0 && sequence < 12 {
            checkpoint(&storage(dir.path())).await.unwrap();
        }
    }
    let entries = log_dir(dir.path());
    let all = listed(&entries);
    tidy::shorten_log(&storage(dir.path()), LOG_RETENTION).await.unwrap();
    assert_eq!(listed(&entries), all, "young entries stay");
    tidy::shorten_log(&storage(dir.path()), Duration::ZERO).await.unwrap();
    let kept = (6..=12).map(|version| format!("{version:020}.json"));
    let checkpoints = [6, 9]
        .into_iter()
        .flat_map(|version| ["parquet", "crc32c"].map(|extension| format!("{version:020}.checkpoint.{extension}")));
    let kept = kept.chain(checkpoints);
    assert_eq!(listed(&entries), kept.chain(["_last_checkpoint".to_owned()]).collect());
    let second_reader = open_delta(dir.path()).await.unwrap();
    assert_eq!(second_reader.get_file_uris().unwrap().count(), 12);
    drop(log);
    let log = open(dir.path()).await;
    assert_eq!((log.snapshot().files.len(), log.snapshot().version, log.snapshot().wal_position), (12, 12, 12));
}

/// Files of `_delta_log` that a kill leaves.
fn unfinished_names() -> [String; 4] {
    let checkpoint = format!("{:020}.checkpoint", 100);
    let entry = format!(".{}.tmp", Uuid::new_v4());
    [entry, format!(".{checkpoint}.crc32c.tmp"), format!("{checkpoint}.parquet#1"), "_last_checkpoint#2".into()]
}

fn make_old(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::now() - 2 * REPLACED_GRACE).unwrap();
}

#[tokio::test]
async fn what_a_failure_left_is_deleted_on_schedule_once_it_is_old_and_empty_days_go_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).await;
    let live = log.commit(vec![new_file(dir.path(), 1)], &[], None).await.unwrap();
    let live = dir.path().join(&live.files[0].path);
    let orphan = new_file(dir.path(), 2);
    let orphan_path = dir.path().join(&orphan.file.path);
    orphan.uncommitted.keep();
    let entries = log_dir(dir.path());
    let mut left: Vec<_> = unfinished_names().iter().map(|name| entries.join(name)).collect();
    left.iter().for_each(|path| fs::write(path, "x").unwrap());
    left.push(orphan_path);
    let foreign = [entries.join(".notes.tmp"), entries.join("backup#1"), live.with_extension("txt")];
    foreign.iter().for_each(|path| fs::write(path, "x").unwrap());
    foreign.iter().chain([&live]).for_each(|path| make_old(path));
    let (empty, used) = (dir.path().join("date=2026-11-20"), dir.path().join("date=2026-11-21"));
    for day in [&empty, &used, &dir.path().join("other")] {
        fs::create_dir(day).unwrap();
    }
    fs::write(used.join("notes.txt"), "x").unwrap();
    log.tidy().await.unwrap();
    assert!(left.iter().all(|path| path.exists()), "young files may be on their way");
    assert!(!empty.exists());
    left.iter().for_each(|path| make_old(path));
    // An entry that this process does not know of may refer to any of them.
    let next = entries.join(entry_name(log.snapshot().version + 1));
    fs::write(&next, "x").unwrap();
    log.tidy().await.unwrap();
    assert!(left.iter().all(|path| path.exists()));
    fs::remove_file(&next).unwrap();
    log.tidy().await.unwrap();
    assert!(left.iter().all(|path| !path.exists()), "{left:?}");
    assert!(foreign.iter().chain([&live, &used, &dir.path().join("other")]).all(|path| path.exists()));
}

#[tokio::test]
async fn only_orphans_of_our_own_naming_are_deleted_at_open() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).await;
    let live = log.commit(vec![new_file(dir.path(), 1)], &[], None).await.unwrap();
    let replaced = Arc::clone(&live.files[0]);
    log.commit(vec![new_file(dir.path(), 2)], &[Arc::clone(&replaced)], None).await.unwrap();
    let live = log.snapshot().files[0].path.clone();
    drop(log);
    let orphan = new_file(dir.path(), 3);
    let orphan_path = dir.path().join(&orphan.file.path);
    orphan.uncommitted.keep();
    let day = orphan_path.parent().unwrap().to_owned();
    let our_name = orphan_path.file_name().unwrap();
    fs::create_dir_all(dir.path().join("other")).unwrap();
    let foreign =
        [day.join("part-00000-c000.snappy.parquet"), day.join("notes.txt"), dir.path().join("other").join(our_name)];
    foreign.iter().for_each(|path| fs::write(path, "x").unwrap());
    let unfinished = unfinished_names().map(|name| log_dir(dir.path()).join(name));
    unfinished.iter().for_each(|path| fs::write(path, "x").unwrap());
    let log = open(dir.path()).await;
    assert!(!orphan_path.exists() && unfinished.iter().all(|path| !path.exists()));
    assert!(foreign.iter().all(|path| path.exists()));
    assert!(dir.path().join(&live).exists());
    // Replaced just now: readers outside may be at the version before.
    assert!(dir.path().join(&replaced.path).exists());
    assert_eq!(log.replaced.len(), 1);
}

#[tokio::test]
async fn a_replaced_file_stays_for_its_grace_and_as_long_as_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).await;
    let reader = log.commit(vec![new_file(dir.path(), 1)], &[], None).await.unwrap();
    let path = dir.path().join(&reader.files[0].path);
    let rewritten = log.rewrite(vec![new_file(dir.path(), 1)], &reader.files).await.unwrap();
    assert!(rewritten.is_some());
    log.delete_replaced().await;
    assert!(path.exists(), "grace");
    log.replaced[0].at_ms -= REPLACED_GRACE.as_millis() as i64;
    log.delete_replaced().await;
    assert!(path.exists(), "a reader");
    drop(reader);
    log.delete_replaced().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_rewrite_of_files_that_are_gone_is_refused_and_its_files_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).await;
    let first = log.commit(vec![new_file(dir.path(), 1)], &[], None).await.unwrap();
    log.rewrite(vec![new_file(dir.path(), 1)], &first.files).await.unwrap();
    let version = log.snapshot().version;
    let late = new_file(dir.path(), 1);
    let path = dir.path().join(&late.file.path);
    assert!(log.rewrite(vec![late], &first.files).await.unwrap().is_none());
    assert!(!path.exists());
    assert_eq!(log.snapshot().version, version);
    let entry = fs::read_to_string(log_dir(dir.path()).join(format!("{version:020}.json"))).unwrap();
    assert!(entry.contains("\"OPTIMIZE\"") && !entry.contains("\"dataChange\":true"), "{entry}");
}
