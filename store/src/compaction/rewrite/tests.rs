use std::{fs, path::Path};

use datafusion::arrow::{
    array::{Float64Array, Int64Array, StringArray, TimestampMicrosecondArray},
    datatypes::TimestampMicrosecondType,
};

use super::*;
use crate::{
    compaction::plan::{Compaction, plan},
    memtable::DAY_US,
    parquet_file::read_parquet,
    rows::file_schema,
    schema::samples_schema,
};

const DAY: i32 = 20_000;

/// One file of `series` with a point of `value` at each of `seconds` of the day.
fn write(
    dir: &Path,
    sequence: u64,
    series: std::ops::Range<i64>,
    seconds: std::ops::Range<i64>,
    value: f64,
) -> Arc<LiveFile> {
    let schema = file_schema(&samples_schema());
    let name = FileName { level: 0, sequence, repeats: true };
    let mut writer =
        FileWriter::create(&TableStorage::local(dir.to_owned()), DAY, name, &schema, Effort::Flush).unwrap();
    for id in series {
        let count = seconds.clone().count();
        let times = seconds.clone().map(|second| i64::from(DAY) * DAY_US + second * 1_000_000);
        let batch = RecordBatch::try_new(
            Arc::clone(&schema),
            vec![
                Arc::new(StringArray::from_iter_values(std::iter::repeat_n("m", count))),
                Arc::new(Int64Array::from_value(id, count)),
                Arc::new(TimestampMicrosecondArray::new_null(count).with_timezone("UTC")),
                Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")),
                Arc::new(Float64Array::from_value(value, count)),
                Arc::new(Int64Array::new_null(count)),
            ],
        );
        writer.write(&batch.unwrap()).unwrap();
    }
    let new = writer.finish().unwrap();
    new.uncommitted.keep();
    Arc::new(new.file)
}

fn only_plan(files: &[Arc<LiveFile>]) -> Plan {
    let mut plans = plan(files, i64::from(DAY + 5) * DAY_US, Compaction::Full, 32);
    assert_eq!(plans.len(), 1);
    plans.remove(0)
}

fn names(dir: &Path) -> Vec<String> {
    let day = fs::read_dir(dir.join("date=2024-10-04")).unwrap();
    day.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn large_merges_are_split_between_series_into_parts_that_are_read_as_one_run() {
    let dir = tempfile::tempdir().unwrap();
    let storage = TableStorage::local(dir.path().to_owned());
    let files = [write(dir.path(), 1, 0..40, 0..500, 1.0), write(dir.path(), 2, 10..50, 400..900, 2.0)];
    let (plan, schema) = (only_plan(&files), file_schema(&samples_schema()));
    let mut output = Output { part_size_bytes: 1, ..Output::new(&storage, &schema, &plan, 128 << 20) };
    let mut merge = Merge::new(Arc::clone(&schema), 2, 3000);
    let mut inputs: Vec<_> = plan.runs.iter().map(|run| Input::new(&storage, &schema, run)).collect();
    loop {
        match merge.step().unwrap() {
            Step::Need(input) => merge.push(input, inputs[input].next().unwrap()).unwrap(),
            Step::Batch(batch) => output.write(&batch).unwrap(),
            Step::Done => break,
        }
    }
    let rewritten = output.finish(merge.duplicate_count).unwrap();
    assert_eq!((rewritten.row_count, rewritten.duplicate_count), (40_000 - 3000, 3000));
    assert!(rewritten.files.len() > 5, "{} parts", rewritten.files.len());
    let borders: Vec<_> = rewritten.files.iter().filter_map(|new| new.file.keys.series_id).collect();
    assert!(borders.windows(2).all(|pair| pair[0].1 < pair[1].0), "{borders:?}");
    // With a third file, the parts are one input.
    let parts = rewritten.files.iter().map(|new| Arc::new(new.file.clone()));
    let files: Vec<_> = parts.chain([write(dir.path(), 3, 0..50, 100..101, 3.0)]).collect();
    let again = rewrite(&storage, &schema, &only_plan(&files), 128 << 20, &AtomicBool::new(false)).unwrap();
    assert_eq!((again.row_count, again.files.len()), (37_000 + 10, 1));
    let batches = read_parquet(&dir.path().join(&again.files[0].file.path)).unwrap();
    let keys = batches.iter().flat_map(|batch| {
        let times = batch["time"].as_primitive::<TimestampMicrosecondType>().values().to_vec();
        batch["series_id"].as_primitive::<Int64Type>().values().to_vec().into_iter().zip(times)
    });
    assert!(keys.collect::<Vec<_>>().windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn a_merge_that_is_stopped_or_fails_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let storage = TableStorage::local(dir.path().to_owned());
    let mut files = vec![write(dir.path(), 1, 0..10, 0..500, 1.0), write(dir.path(), 2, 0..10, 500..900, 2.0)];
    let schema = file_schema(&samples_schema());
    let stopped = rewrite(&storage, &schema, &only_plan(&files), 128 << 20, &AtomicBool::new(true));
    assert!(matches!(stopped, Err(Error::Closing)));
    assert_eq!(names(dir.path()).len(), 2);
    // A file with fewer rows than the log says is damage, not something to merge away.
    files[1] = Arc::new(LiveFile { row_count: 4001, ..(*files[1]).clone() });
    let short = rewrite(&storage, &schema, &only_plan(&files), 128 << 20, &AtomicBool::new(false));
    assert!(matches!(short, Err(Error::Corrupt { .. })));
    assert_eq!(names(dir.path()).len(), 2);
}

#[test]
fn columns_that_older_files_lack_are_null() {
    let dir = tempfile::tempdir().unwrap();
    let storage = TableStorage::local(dir.path().to_owned());
    let files = [write(dir.path(), 1, 0..2, 0..5, 1.0), write(dir.path(), 2, 0..2, 5..9, 2.0)];
    let mut fields: Vec<_> = file_schema(&samples_schema()).fields().iter().cloned().collect();
    fields.push(Arc::new(datafusion::arrow::datatypes::Field::new(
        "later",
        datafusion::arrow::datatypes::DataType::Int32,
        true,
    )));
    let schema = Arc::new(datafusion::arrow::datatypes::Schema::new(fields));
    let rewritten = rewrite(&storage, &schema, &only_plan(&files), 128 << 20, &AtomicBool::new(false)).unwrap();
    let batches = read_parquet(&dir.path().join(&rewritten.files[0].file.path)).unwrap();
    assert_eq!(batches.iter().map(|batch| batch["later"].null_count()).sum::<usize>(), 18);
}
