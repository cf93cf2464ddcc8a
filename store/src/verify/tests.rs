use std::{collections::BTreeMap, fs, path::PathBuf};

use datafusion::arrow::{
    array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    compute::{concat_batches, take_record_batch},
    datatypes::{DataType, Field, Schema, TimeUnit},
};
use tempfile::TempDir;

use super::*;
use crate::{
    delta_log::DeltaLog,
    file_name::FileName,
    memtable::{DAY_US, day_of},
    parquet_file::{read_parquet, write_parquet},
    store::tests::{START, batch, open},
};

fn run(dir: &Path) -> VerifyReport {
    verify(&Config::new(dir), &mut |_, _| {}).unwrap()
}

fn replay(dir: &Path) -> BTreeMap<String, FoundTable> {
    replay_tables(&Tables::open_to_read(&Config::new(dir)).unwrap()).unwrap()
}

fn kinds(report: &VerifyReport) -> Vec<FaultKind> {
    report.faults.iter().map(|fault| fault.kind).collect()
}

/// All files below `dir` with their bytes.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    found
}

/// Steele, Lea and Flood's SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Two flushed requests over two days, and a third that is only in the log.
async fn directory() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for (metric, start) in [("a", START), ("b", START + DAY_US)] {
        store.append(batch(metric, "h1", start, 10)).await.unwrap();
        store.flush().await.unwrap();
    }
    store.append(batch("c", "h1", START, 10)).await.unwrap();
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_directory_is_counted_and_left_as_it_is() {
    let dir = directory().await;
    let before = contents(dir.path());
    let report = run(dir.path());
    assert!(report.is_sound(), "{:?}", report.faults);
    assert_eq!((report.wal.segment_count, report.wal.record_count), (1, 1));
    let samples = report.tables.iter().find(|table| table.name == "samples").unwrap();
    assert_eq!((samples.file_count, samples.row_count, samples.version), (2, 20, 2));
    // The first `series` file of the first day is the only one of its day; none was replaced.
    assert!(report.notes.is_empty(), "{:?}", report.notes);
    assert!(before == contents(dir.path()), "the check changed the directory");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _store = open(dir.path()).await;
    assert!(matches!(verify(&Config::new(dir.path()), &mut |_, _| {}), Err(Error::Locked { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_in_any_file_is_found_there() {
    let dir = directory().await;
    let mut seed = 0x5eed_0001;
    for (path, bytes) in contents(dir.path()).into_iter().filter(|(_, bytes)| !bytes.is_empty()) {
        for _ in 0..12 {
            let at = next(&mut seed) as usize % bytes.len();
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (next(&mut seed) % 8);
            fs::write(&path, &changed).unwrap();
            let report = run(dir.path());
            let named = report.faults.iter().any(|fault| dir.path().join(&fault.path) == path);
            assert!(named, "byte {at} of {}: {:?}", path.display(), report.faults);
        }
        fs::write(&path, &bytes).unwrap();
    }
    assert!(run(dir.path()).is_sound());
}

#[tokio::test(flavor = "multi_thread")]
async fn strange_files_are_noted_and_no_fault() {
    let dir = directory().await;
    let samples = dir.path().join("tables/samples");
    let day = fs::read_dir(&samples).unwrap().map(|entry| entry.unwrap().path());
    let day = day.into_iter().find(|path| !path.ends_with("_delta_log")).unwrap();
    for (path, kind) in [
        (day.join("part-00000000-0000-4000-8000-000000000000.parquet"), NoteKind::Orphan),
        (day.join("notes.txt"), NoteKind::Foreign),
        (samples.join("_delta_log/.1234.tmp"), NoteKind::Temporary),
        (dir.path().join("wal/00000000000000000009.tmp"), NoteKind::Temporary),
        (dir.path().join("readme"), NoteKind::Foreign),
    ] {
        fs::write(&path, "x").unwrap();
        let report = run(dir.path());
        let note = Note { kind, path: path.strip_prefix(dir.path()).unwrap().to_owned(), size_bytes: 1 };
        assert!(report.is_sound() && report.notes == [note], "{:?} {:?}", report.faults, report.notes);
        fs::remove_file(path).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_and_missing_files_are_found() {
    let dir = directory().await;
    let entry = dir.path().join("tables/samples/_delta_log/00000000000000000001.json");
    let bytes = fs::read(&entry).unwrap();
    fs::remove_file(&entry).unwrap();
    assert_eq!(kinds(&run(dir.path())), [FaultKind::LogHole]);
    // A start does not act on what a damaged entry seems to say.
    let mut changed = bytes.clone();
    changed[bytes.len() / 2] ^= 1;
    fs::write(&entry, changed).unwrap();
    assert!(kinds(&run(dir.path())).contains(&FaultKind::LogEntry));
    let refused = crate::Store::open(Config::new(dir.path())).await.unwrap_err();
    assert!(
        matches!(&refused, Error::DamagedFile { path, .. } if path.ends_with(entry.file_name().unwrap())),
        "{refused}"
    );
    fs::write(&entry, bytes).unwrap();
    let tables = replay(dir.path());
    let (table, file) = (tables["samples"].storage.dir(), tables["samples"].log.table.files.keys().next().unwrap());
    fs::remove_file(table.join(file)).unwrap();
    assert_eq!(kinds(&run(dir.path())), [FaultKind::FileMissing]);
}

/// Puts `batches` as one more file of `day` into `samples`, as a buggy writer would: with checksums that hold.
async fn plant(dir: &Path, table: &str, day: i32, batches: &[RecordBatch], mend: impl Fn(&mut LiveFile)) {
    let storage = TableStorage::local(dir.join("tables").join(table));
    let mut log = DeltaLog::open(Arc::clone(&storage), None).await.unwrap();
    let mut new =
        write_parquet(&storage, day, FileName::RESULT, 128 << 20, batches.iter().cloned().map(Ok)).unwrap().unwrap();
    mend(&mut new.file);
    log.commit(vec![new], &[], None).await.unwrap();
}

/// The rows of the first file of `table`, with `date`.
fn rows(dir: &Path, table: &str) -> (i32, RecordBatch) {
    let found = &replay(dir)[table];
    let file = found.log.table.files.values().next().unwrap();
    let batches = read_parquet(&found.storage.dir().join(&file.path)).unwrap();
    (file.date, concat_batches(&batches[0].schema(), &batches).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_break_a_rule_are_found_though_every_checksum_holds() {
    use datafusion::arrow::array::UInt32Array;
    let reversed = |batch: &RecordBatch| {
        let order = UInt32Array::from_iter_values((0..batch.num_rows() as u32).rev());
        take_record_batch(batch, &order).unwrap()
    };
    let dir = directory().await;
    let (day, good) = rows(dir.path(), "samples");
    let check = async |table: &str, day: i32, rows: RecordBatch, mend: fn(&mut LiveFile), expected: &[FaultKind]| {
        let dir = directory().await;
        plant(dir.path(), table, day, &[rows], mend).await;
        let report = run(dir.path());
        assert_eq!(kinds(&report), expected, "{:?}", report.faults);
        assert!(report.faults.iter().all(|fault| fault.path.starts_with(Path::new("tables").join(table))));
    };
    let nothing: fn(&mut LiveFile) = |_| {};
    check("samples", day, good.clone(), nothing, &[]).await;
    check("samples", day, reversed(&good), nothing, &[FaultKind::FileOrder]).await;
    // The series of the file is not known on the other day either.
    check("samples", day + 1, good.clone(), nothing, &[FaultKind::FileDay, FaultKind::SeriesMissing]).await;
    check("samples", day, good.clone(), |file| file.row_count += 1, &[FaultKind::FileRowCount]).await;
    let narrow: fn(&mut LiveFile) = |file| file.keys.time = file.keys.time.map(|(from, to)| (from + 1, to));
    check("samples", day, good.clone(), narrow, &[FaultKind::FileStatistics]).await;
    let narrow: fn(&mut LiveFile) = |file| file.keys.metric = Some(("b".into(), "b".into()));
    check("samples", day, good.clone(), narrow, &[FaultKind::FileStatistics]).await;
    check("samples", day, good.project(&[0, 1, 3]).unwrap(), nothing, &[]).await;
    check("samples", day, good.project(&[0, 1]).unwrap(), nothing, &[FaultKind::FileSchema]).await;
    let (day, series) = rows(dir.path(), "series");
    check("series", day, series.clone(), nothing, &[FaultKind::SeriesRepeated]).await;
    let mut columns = series.columns().to_vec();
    columns[1] = Arc::new(Int64Array::from_value(7, series.num_rows()));
    let renamed = RecordBatch::try_new(series.schema(), columns).unwrap();
    check("series", day, renamed, nothing, &[FaultKind::SeriesIdentity]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_groups_are_compared_with_their_statistics() {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let schema = Arc::new(Schema::new(vec![
        Field::new("metric", DataType::Utf8, false),
        Field::new("time", time, false),
        Field::new("value", DataType::Float64, true),
    ]));
    let rows = |metric: &str, at: i64, values: Vec<Option<f64>>| {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![metric; values.len()])),
            Arc::new(TimestampMicrosecondArray::from(vec![at; values.len()]).with_timezone("UTC")),
            Arc::new(Float64Array::from(values)),
        ];
        RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
    };
    let dir = tempfile::tempdir().unwrap();
    let written = rows("b", START, vec![Some(1.0), None, Some(f64::NAN), Some(-0.0)]);
    let storage = TableStorage::local(dir.path().to_owned());
    let new =
        write_parquet(&storage, day_of(START), FileName::RESULT, 128 << 20, [Ok(written.clone())]).unwrap().unwrap();
    let opened = File::open(dir.path().join(&new.file.path)).unwrap();
    let options = parquet::arrow::arrow_reader::ArrowReaderOptions::new();
    let metadata = parquet::arrow::arrow_reader::ArrowReaderMetadata::load(&opened, options).unwrap();
    for (found, outside) in [
        (written, vec![]),
        (rows("a", START, vec![Some(1.0), None]), vec!["metric"]),
        (rows("b", START + 1, vec![Some(1.0), None]), vec!["time"]),
        (rows("b", START, vec![Some(1.5), None]), vec!["value"]),
        (rows("b", START, vec![Some(1.0)]), vec!["value"]),
    ] {
        let mut extents = statistics::Extents::new(&schema);
        extents.extend(&found).unwrap();
        let group = &metadata.metadata().row_groups()[0];
        assert_eq!(extents.outside(group, metadata.parquet_schema()).unwrap(), outside);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_cut_short_between_two_tables_is_sound() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.append(batch("a", "h1", START, 10)).await.unwrap();
    let wal = contents(&dir.path().join("wal"));
    store.close().await.unwrap();
    drop(store);
    // Take back the commit of the last table, and bring back the log.
    let log = dir.path().join("tables/series/_delta_log");
    fs::remove_file(log.join("00000000000000000001.json")).unwrap();
    wal.into_iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    let report = run(dir.path());
    assert!(report.is_sound(), "{:?}", report.faults);
    assert_eq!(report.notes.iter().map(|note| note.kind).collect::<Vec<_>>(), [NoteKind::Orphan]);
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_carry_the_checksums_and_are_checked_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let schema = Arc::new(Schema::new(vec![
        Field::new("time", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("score", DataType::Float64, true),
    ]));
    let store = open(dir.path()).await;
    for n in 0..101 {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMicrosecondArray::from(vec![START + n]).with_timezone("UTC")),
            Arc::new(Float64Array::from(vec![n as f64])),
        ];
        store.write_result("scores", RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()).await.unwrap();
    }
    store.close().await.unwrap();
    drop(store);
    let log = dir.path().join("tables/scores/_delta_log");
    let report = run(dir.path());
    assert!(report.is_sound() && report.notes.is_empty(), "{:?} {:?}", report.faults, report.notes);
    let whole = replay(dir.path());
    // As after a clean-up of the log: the checkpoint alone says the same, checksums of the files included.
    for version in 0..=100 {
        fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
    }
    let cut = replay(dir.path());
    assert_eq!(cut["scores"].log.table, whole["scores"].log.table);
    assert!(cut["scores"].log.table.files.values().all(|file| file.checksum.crc32c.is_some()));
    assert!(run(dir.path()).is_sound());
    let mut seed = 0x5eed_0002;
    let names =
        ["00000000000000000100.checkpoint.parquet", "_last_checkpoint", "00000000000000000100.checkpoint.crc32c"];
    for path in names.map(|name| log.join(name)) {
        let bytes = fs::read(&path).unwrap();
        for _ in 0..12 {
            let at = next(&mut seed) as usize % bytes.len();
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (next(&mut seed) % 8);
            fs::write(&path, &changed).unwrap();
            let report = run(dir.path());
            assert!(!report.is_sound(), "byte {at} of {}", path.display());
            let name = path.file_name().unwrap().to_string_lossy();
            let named =
                report.faults.iter().any(|fault| fault.path.ends_with(&*name) || fault.message.contains(&*name));
            assert!(named, "byte {at} of {}: {:?}", path.display(), report.faults);
        }
        if path.ends_with(names[0]) {
            let refused = crate::Store::open(Config::new(dir.path())).await.unwrap_err();
            assert!(matches!(refused, Error::DamagedFile { .. }), "{refused}");
        }
        fs::write(&path, &bytes).unwrap();
    }
    assert_eq!(open(dir.path()).await.tables().iter().map(|table| table.row_count).sum::<u64>(), 101);
}
