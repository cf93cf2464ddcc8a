//! The `series` rows of one day: what files hold, merged with what the memtable knows. One row per series and day.

use std::{cmp::Ordering, collections::hash_map::Entry, fs::File, sync::Arc};

use datafusion::arrow::{
    array::{AsArray, Date32Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    buffer::ScalarBuffer,
    compute::{SortColumn, cast, concat_batches, lexsort_to_indices, take_record_batch},
    datatypes::{DataType, Int64Type, SchemaRef, TimestampMicrosecondType},
};

use crate::{
    delta_log::TableSnapshot,
    error::Result,
    live_file::LiveFile,
    memtable::Memtable,
    parquet_file::{MetricMask, read_columns, read_series},
    rows::{SeriesRow, file_schema, series_batch},
    series_map::SeriesMap,
};

/// Stored rows, and unflushed ones, that are merged at a time.
const BATCH_ROWS: usize = 8192;

/// Rows of `memtables` on `day` in table order, one per series, of the metrics that are wanted.
pub(crate) fn unflushed_rows<'a>(
    memtables: impl IntoIterator<Item = &'a Memtable>,
    day: i32,
    wanted: impl Fn(&str) -> bool,
) -> Vec<SeriesRow> {
    let mut rows: Vec<SeriesRow> = Vec::new();
    let mut places: SeriesMap<usize> = SeriesMap::default();
    for points in memtables.into_iter().flat_map(|memtable| memtable.series_of(&wanted)) {
        let Some((first, last)) = points.time_range_on(day) else { continue };
        match places.entry(points.series.id) {
            Entry::Occupied(place) => {
                let row = &mut rows[*place.get()];
                (row.1, row.2) = (row.1.min(first), row.2.max(last));
            }
            Entry::Vacant(place) => {
                place.insert(rows.len());
                rows.push((Arc::clone(&points.series), first, last));
            }
        }
    }
    rows.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
    rows
}

/// All `series` rows of a day, sorted by `(metric, series_id)`: files of a snapshot merged with memtables. A batch
/// of each is in memory, or the whole day if its files are not one sorted file.
pub(crate) struct SeriesDay {
    stored: Box<dyn Iterator<Item = Result<RecordBatch>> + Send>,
    /// Rows of a stored batch that come after all rows made so far.
    rest: Option<RecordBatch>,
    /// In table order, as `stored` is.
    unflushed: Arc<[SeriesRow]>,
    /// How many of them are merged.
    merged: usize,
    day: i32,
    schema: SchemaRef,
}

impl SeriesDay {
    /// The rows on `day` of `snapshot`, and the [`unflushed_rows`] of that day. `wanted` tells the metrics of stored rows
    /// to read; none for all. `schema` has the columns that are wanted, in their order in the table, the key always.
    ///
    /// # Errors
    /// Any failure to open the day's files.
    pub(crate) fn new(
        snapshot: &TableSnapshot,
        unflushed: Arc<[SeriesRow]>,
        day: i32,
        wanted: Option<&MetricMask>,
        schema: SchemaRef,
    ) -> Result<Self> {
        let stored = stored_rows(snapshot, day, wanted, &schema)?;
        Ok(Self { stored, rest: None, unflushed, merged: 0, day, schema })
    }

    fn step(&mut self) -> Result<Option<RecordBatch>> {
        let stored = match self.rest.take() {
            Some(rest) => rest,
            None => match self.stored.next().transpose()? {
                Some(batch) => batch,
                None => RecordBatch::new_empty(Arc::clone(&self.schema)),
            },
        };
        let (metrics, ids) = keys(&stored)?;
        let at = |row: usize| (metrics.value(row), ids[row]);
        let next = &self.unflushed[self.merged..];
        let next = &next[..next.len().min(BATCH_ROWS)];
        let count = match stored.num_rows() {
            0 => next.len(),
            rows => next.partition_point(|row| key(row) <= at(rows - 1)),
        };
        // With a full batch of new rows, what comes after the last of them waits for the next ones.
        let cut = match next.get(count.wrapping_sub(1)) {
            Some(last) if count == BATCH_ROWS => {
                (0..stored.num_rows()).find(|row| at(*row) > key(last)).unwrap_or(stored.num_rows())
            }
            _ => stored.num_rows(),
        };
        if cut < stored.num_rows() {
            self.rest = Some(stored.slice(cut, stored.num_rows() - cut));
        }
        let merged = merge(stored.slice(0, cut), &next[..count], self.day)?;
        self.merged += count;
        Ok((merged.num_rows() > 0).then_some(merged))
    }
}

impl Iterator for SeriesDay {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

/// The place of a row in the table.
fn key(row: &SeriesRow) -> (&str, i64) {
    (&row.0.definition.metric, row.0.id.to_column())
}

fn keys(batch: &RecordBatch) -> Result<(StringArray, ScalarBuffer<i64>)> {
    let metric = cast(&batch["metric"], &DataType::Utf8)?.as_string::<i32>().clone();
    Ok((metric, batch["series_id"].as_primitive::<Int64Type>().values().clone()))
}

/// The stored rows of `day` in table order. One sorted file is read batch by batch, several are sorted in memory. What a flush
/// wrote, which its checksum tells, is sorted; the keys of what others wrote are looked at.
fn stored_rows(
    snapshot: &TableSnapshot,
    day: i32,
    wanted: Option<&MetricMask>,
    schema: &SchemaRef,
) -> Result<Box<dyn Iterator<Item = Result<RecordBatch>> + Send>> {
    let stored = file_schema(schema);
    let columns: Vec<&str> = stored.fields().iter().map(|field| field.name().as_str()).collect();
    let read = |file: &LiveFile| read_series(snapshot.storage.open(file)?, BATCH_ROWS, &columns, wanted);
    let files: Vec<_> = snapshot.files.iter().filter(|file| file.date == day).collect();
    if let [file] = files.as_slice()
        && (file.checksum.crc32c.is_some() || is_sorted(snapshot.storage.open(file)?)?)
    {
        let schema = Arc::clone(schema);
        return Ok(Box::new(read(file)?.map(move |batch| with_date(&batch?, day, &schema)).filter(is_not_empty)));
    }
    let mut batches = Vec::new();
    for file in files {
        for batch in read(file)? {
            batches.push(with_date(&batch?, day, schema)?);
        }
    }
    let all = sorted(&concat_batches(schema, &batches)?)?;
    Ok(Box::new(std::iter::once(Ok(all)).filter(is_not_empty)))
}

/// An empty batch means the end.
fn is_not_empty(batch: &Result<RecordBatch>) -> bool {
    batch.as_ref().map_or(true, |batch| batch.num_rows() > 0)
}

fn is_sorted(file: File) -> Result<bool> {
    let mut last: Option<(String, i64)> = None;
    for batch in read_columns(file, &["metric", "series_id"])? {
        let (metrics, ids) = keys(&batch?)?;
        let at = |row: usize| (metrics.value(row), ids[row]);
        let follows = last.as_ref().is_none_or(|(metric, id)| ids.is_empty() || (metric.as_str(), *id) < at(0));
        if !follows || (1..ids.len()).any(|row| at(row - 1) >= at(row)) {
            return Ok(false);
        }
        last = ids.len().checked_sub(1).map(|row| (at(row).0.to_owned(), at(row).1)).or(last);
    }
    Ok(true)
}

fn sorted(batch: &RecordBatch) -> Result<RecordBatch> {
    let key = ["metric", "series_id"].map(|name| SortColumn { values: Arc::clone(&batch[name]), options: None });
    Ok(take_record_batch(batch, &lexsort_to_indices(&key, None)?)?)
}

fn with_date(batch: &RecordBatch, day: i32, schema: &SchemaRef) -> Result<RecordBatch> {
    let mut columns = batch.columns().to_vec();
    if columns.len() < schema.fields().len() {
        columns.push(Arc::new(Date32Array::from_value(day, batch.num_rows())));
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

fn merge(stored: RecordBatch, rows: &[SeriesRow], day: i32) -> Result<RecordBatch> {
    if rows.is_empty() {
        return Ok(stored);
    }
    let (metrics, ids) = keys(&stored)?;
    let mut first = times(&stored, "first_time");
    let mut last = times(&stored, "last_time");
    let mut added = Vec::new();
    // Both are in table order.
    let mut at = 0;
    for row in rows {
        let order = loop {
            match ids.get(at).map(|id| (metrics.value(at), *id).cmp(&key(row))) {
                Some(Ordering::Less) => at += 1,
                order => break order,
            }
        };
        if order == Some(Ordering::Equal) {
            first.iter_mut().for_each(|first| first[at] = first[at].min(row.1));
            last.iter_mut().for_each(|last| last[at] = last[at].max(row.2));
        } else {
            added.push(row.clone());
        }
    }
    let stored = replace_times(&stored, [("first_time", first), ("last_time", last)])?;
    if added.is_empty() {
        return Ok(stored);
    }
    let schema = stored.schema();
    sorted(&concat_batches(&schema, [&stored, &series_batch(&added, day, &schema)?])?)
}

/// The values of a column, if it is one of those that are wanted.
fn times(batch: &RecordBatch, name: &str) -> Option<Vec<i64>> {
    let column = batch.column_by_name(name)?;
    Some(column.as_primitive::<TimestampMicrosecondType>().values().to_vec())
}

fn replace_times(batch: &RecordBatch, times: [(&str, Option<Vec<i64>>); 2]) -> Result<RecordBatch> {
    let schema = batch.schema();
    let mut columns = batch.columns().to_vec();
    for (name, values) in times {
        if let Some(values) = values {
            columns[schema.index_of(name)?] = Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"));
        }
    }
    Ok(RecordBatch::try_new(schema, columns)?)
}
