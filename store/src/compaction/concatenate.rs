//! Files of rows without an identity, such as rejections and results of jobs, made one: row after row, oldest file first.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use datafusion::arrow::datatypes::SchemaRef;

use super::{
    plan::Plan,
    rewrite::{Input, Rewritten},
};
use crate::{
    error::{Error, Result},
    file_name::FileName,
    live_file::LiveFile,
    parquet_file::{Effort, FileWriter},
    table_storage::TableStorage,
};

/// Writes the rows of the files of `plan` in `storage` to one file of `schema` (without `date`), a batch and a row
/// group of at most about `row_group_size_bytes` at a time. Blocks.
///
/// # Errors
/// [`Error::Closing`] soon after `stopping` is set, [`Error::Corrupt`] if rows do not add up, and any failure to read or
/// write. No new file is left behind then.
pub(super) fn concatenate(
    storage: &Arc<TableStorage>,
    schema: &SchemaRef,
    plan: &Plan,
    row_group_size_bytes: usize,
    stopping: &AtomicBool,
) -> Result<Rewritten> {
    let mut files: Vec<_> = plan.files().map(Arc::clone).collect();
    // Files of results have no sequence, but a time at which they came.
    let order = |file: &LiveFile| (file.sequence, file.added_ms, file.path.clone());
    files.sort_by_cached_key(|file| order(file));
    let mut input = Input::new(storage, schema, &files);
    let name = FileName { level: plan.level, sequence: plan.sequence, repeats: false };
    let mut writer = FileWriter::create(storage, plan.day, name, schema, Effort::Compaction)?;
    writer.row_group_size_bytes = row_group_size_bytes;
    let mut row_count = 0;
    while let Some(batch) = input.next()? {
        if stopping.load(Ordering::Relaxed) {
            return Err(Error::Closing);
        }
        row_count += batch.num_rows() as u64;
        writer.write(&batch)?;
    }
    let expected: u64 = files.iter().map(|file| file.row_count).sum();
    if row_count != expected {
        let reason = format!("{} files hold {row_count} rows, the log says {expected}", files.len());
        return Err(Error::Corrupt { path: storage.location().into(), offset: 0, reason });
    }
    Ok(Rewritten { files: vec![writer.finish()?], row_count, duplicate_count: 0 })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::{
        array::{AsArray, BooleanArray, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
        datatypes::{DataType, Field, Int64Type, Schema, TimeUnit},
    };

    use crate::{
        Store,
        compaction::Compaction,
        config::Config,
        memtable::DAY_US,
        store::tests::{START, open, query},
        verify::verify,
        write_batch::{Rejection, WriteBatch},
    };

    fn results(first: i64, days: &[i64]) -> RecordBatch {
        let fields = vec![
            Field::new("time", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
            Field::new("name", DataType::Utf8, true),
            Field::new("value", DataType::Float64, true),
            Field::new("flag", DataType::Boolean, true),
        ];
        let times = days.iter().map(|day| START - day * DAY_US);
        let names = (first..).take(days.len()).map(|n| format!("row {n}"));
        let columns: Vec<datafusion::arrow::array::ArrayRef> = vec![
            Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")),
            Arc::new(StringArray::from_iter_values(names)),
            Arc::new(Float64Array::from_iter(days.iter().map(|day| (day % 2 == 0).then_some(*day as f64)))),
            Arc::new(BooleanArray::from_iter(days.iter().map(|day| Some(*day > 1)))),
        ];
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    }

    async fn rows(store: &Arc<Store>, sql: &str) -> Vec<String> {
        let mut rows = Vec::new();
        for batch in query(store, sql).await {
            let text = datafusion::arrow::compute::cast(batch.column(0), &DataType::Utf8).unwrap();
            rows.extend(text.as_string::<i32>().iter().map(|text| text.unwrap().to_owned()));
        }
        rows
    }

    fn files(store: &Store, table: &str) -> usize {
        store.inner().state().snapshot(table).unwrap().files.len()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn small_files_of_results_and_rejections_become_one_a_day_with_the_same_rows() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).await;
        for round in 0..6 {
            store.write_result("scores", results(round * 10, &[0, 1, 2, 1])).await.unwrap();
            let mut batch = WriteBatch::default();
            batch.rejections.push(Rejection {
                time: START + round,
                reason: "value_missing".into(),
                metric: "m".into(),
                count: 1 + round.unsigned_abs(),
                message: "set a value".into(),
            });
            store.append(batch).await.unwrap();
            store.flush().await.unwrap();
        }
        assert_eq!((files(&store, "scores"), files(&store, "rejections")), (18, 6));
        let all = "SELECT concat_ws(',', time, name, value, flag) FROM scores ORDER BY 1";
        let (before, refused) = (rows(&store, all).await, "SELECT sum(count) FROM rejections");
        let summary = store.compact(Compaction::Full).await.unwrap();
        assert_eq!((summary.files_before, summary.files_after, summary.row_count), (24, 4, 30));
        assert_eq!((files(&store, "scores"), files(&store, "rejections")), (3, 1));
        assert_eq!(rows(&store, all).await, before);
        let sum = query(&store, refused).await;
        assert_eq!(sum[0].column(0).as_primitive::<Int64Type>().value(0), 21);
        // In the order in which they came.
        let names = rows(&store, "SELECT name FROM scores WHERE flag AND name LIKE 'row %'").await;
        assert_eq!(names, ["row 2", "row 12", "row 22", "row 32", "row 42", "row 52"]);
        let version = store.inner().state().snapshot("scores").unwrap().version;
        let entry = dir.path().join(format!("tables/scores/_delta_log/{version:020}.json"));
        let text = std::fs::read_to_string(entry).unwrap();
        assert!(text.contains("OPTIMIZE") && !text.contains("\"dataChange\":true"), "{text}");
        assert_eq!(store.compact(Compaction::Full).await.unwrap().files_before, 0);
        // Another result goes beside it and is merged the next time.
        store.write_result("scores", results(90, &[1])).await.unwrap();
        store.compact(Compaction::Full).await.unwrap();
        assert_eq!(files(&store, "scores"), 3);
        store.close().await.unwrap();
        drop(store);
        assert!(verify(&Config::new(dir.path()), &mut |_, _| {}).unwrap().is_sound());
        let store = open(dir.path()).await;
        assert_eq!(rows(&store, all).await.len(), before.len() + 1);
    }
}
