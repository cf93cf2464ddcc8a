//! The `series` rows of one day: what files hold, merged with what the memtable knows. One row per series and day.

use std::{collections::HashMap, sync::Arc};

use datafusion::arrow::{
    array::{ArrayRef, AsArray, Date32Array, RecordBatch, TimestampMicrosecondArray},
    compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch},
    datatypes::{Int64Type, TimestampMicrosecondType},
};

use crate::{
    checksum::compare_once,
    delta_log::TableSnapshot,
    error::Result,
    memtable::Memtable,
    parquet_file::read_parquet,
    rows::{SeriesRow, series_batch},
    schema::series_schema,
};

/// Rows of `memtables` on `day`, one per series.
fn unflushed_rows<'a>(memtables: &'a [&'a Memtable], day: i32) -> Vec<SeriesRow<'a>> {
    let mut rows: HashMap<_, SeriesRow<'a>> = HashMap::new();
    for points in memtables.iter().flat_map(|memtable| memtable.sorted()) {
        if let Some((first, last)) = points.time_range_on(day) {
            let row = rows.entry(points.series.id).or_insert((&points.series, first, last));
            row.1 = row.1.min(first);
            row.2 = row.2.max(last);
        }
    }
    rows.into_values().collect()
}

/// All `series` rows of `day`, sorted by `(metric, series_id)`: files of `snapshot` merged with `memtables`.
///
/// # Errors
/// Any failure to read the day's files.
pub(crate) fn merged_day(snapshot: &TableSnapshot, memtables: &[&Memtable], day: i32) -> Result<RecordBatch> {
    let mut stored = Vec::new();
    for file in snapshot.files.iter().filter(|file| file.date == day) {
        compare_once(&snapshot.dir, file)?;
        for batch in read_parquet(&snapshot.dir.join(&file.path))? {
            stored.push(with_date(&batch, day)?);
        }
    }
    let rows = unflushed_rows(memtables, day);
    merge(stored, rows, day)
}

fn with_date(batch: &RecordBatch, day: i32) -> Result<RecordBatch> {
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(Date32Array::from_value(day, batch.num_rows())));
    Ok(RecordBatch::try_new(series_schema(), columns)?)
}

fn merge(stored: Vec<RecordBatch>, rows: Vec<SeriesRow<'_>>, day: i32) -> Result<RecordBatch> {
    let stored = concat_batches(&series_schema(), &stored)?;
    let ids = stored["series_id"].as_primitive::<Int64Type>();
    let index: HashMap<i64, usize> = ids.values().iter().enumerate().map(|(row, id)| (*id, row)).collect();
    let mut first = times(&stored["first_time"]);
    let mut last = times(&stored["last_time"]);
    let mut added = Vec::new();
    for row in rows {
        match index.get(&row.0.id.to_column()) {
            Some(&at) => {
                first[at] = first[at].min(row.1);
                last[at] = last[at].max(row.2);
            }
            None => added.push(row),
        }
    }
    let stored = replace_times(&stored, first, last)?;
    let merged = concat_batches(&series_schema(), [&stored, &series_batch(&added, day)?])?;
    let key = ["metric", "series_id"].map(|name| SortColumn { values: Arc::clone(&merged[name]), options: None });
    Ok(take_record_batch(&merged, &lexsort_to_indices(&key, None)?)?)
}

fn times(column: &ArrayRef) -> Vec<i64> {
    column.as_primitive::<TimestampMicrosecondType>().values().to_vec()
}

fn replace_times(batch: &RecordBatch, first: Vec<i64>, last: Vec<i64>) -> Result<RecordBatch> {
    let schema = batch.schema();
    let mut columns = batch.columns().to_vec();
    for (name, values) in [("first_time", first), ("last_time", last)] {
        columns[schema.index_of(name)?] = Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"));
    }
    Ok(RecordBatch::try_new(schema, columns)?)
}
