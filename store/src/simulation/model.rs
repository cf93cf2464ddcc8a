//! What the store must hold, as plain maps, and the comparison with what it shows.

use std::collections::BTreeMap;

use datafusion::arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    datatypes::{Date32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType},
};

use crate::{
    memtable::day_of,
    write_batch::{HistogramPoint, HistogramShape, SampleColumns, WriteBatch},
};

/// `(histogram?, series_id, start_time, time)`.
pub(super) type Identity = (bool, i64, i64, i64);

/// A row without its identity, as text that tells every bit.
type Row = String;

/// The points and rejections that were acknowledged.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// The last value of each identity.
    points: BTreeMap<Identity, Row>,
    metrics: BTreeMap<i64, String>,
    rejections: Vec<Row>,
    /// Points received, and those that the store said were duplicates.
    received: u64,
    duplicates: u64,
}

impl Model {
    pub(super) fn insert(&mut self, batch: &WriteBatch, duplicate_count: u64) {
        self.received += batch.point_count() as u64;
        self.duplicates += duplicate_count;
        self.metrics
            .extend(batch.series.iter().map(|series| (series.id.to_column(), series.definition.metric.to_string())));
        let id = |index: u32| batch.series[index as usize].id.to_column();
        let samples = &batch.samples;
        for row in 0..samples.len() {
            let identity = (false, id(samples.series[row]), samples.start_time[row], samples.time[row]);
            self.write(identity, sample_row(samples.bits[row], samples.form[row]));
        }
        for point in &batch.histograms {
            self.write((true, id(point.series), point.start_time, point.time), histogram_row(point));
        }
        self.rejections.extend(batch.rejections.iter().map(|refused| {
            format!("{} {} {} {} {}", refused.time, refused.reason, refused.metric, refused.count, refused.message)
        }));
    }

    /// Forgets the points of the metrics of `pattern`, a name or its beginning and `*`, before `first_kept_day`.
    pub(super) fn expire(&mut self, pattern: &str, first_kept_day: i32) {
        let matches = |metric: &str| match pattern.strip_suffix('*') {
            Some(prefix) => metric.starts_with(prefix),
            None => metric == pattern,
        };
        let metrics = &self.metrics;
        self.points.retain(|(_, id, _, time), _| day_of(*time) >= first_kept_day || !matches(&metrics[id]));
    }

    fn write(&mut self, identity: Identity, row: Row) {
        self.points.insert(identity, row);
    }

    pub(super) fn series_ids(&self) -> Vec<i64> {
        self.metrics.keys().copied().collect()
    }

    /// Compares the rows of `samples` or `histograms` with the model, as far as `within` is true.
    pub(super) fn check_points(
        &self,
        histograms: bool,
        batches: &[RecordBatch],
        within: impl Fn(&Identity) -> bool,
    ) -> Result<(), String> {
        let mut found: BTreeMap<Identity, Vec<Row>> = BTreeMap::new();
        for batch in batches {
            let read = if histograms { found_histogram } else { found_sample };
            for row in 0..batch.num_rows() {
                let identity = found_identity(histograms, batch, row);
                let metric = batch["metric"].as_string::<i32>().value(row);
                if self.metrics.get(&identity.1).map(String::as_str) != Some(metric) {
                    return Err(format!("{identity:?} has metric {metric}"));
                }
                if batch["date"].as_primitive::<Date32Type>().value(row) != day_of(identity.3) {
                    return Err(format!("{identity:?} is in the partition of another day"));
                }
                found.entry(identity).or_default().push(read(batch, row));
            }
        }
        for (identity, row) in self.points.iter().filter(|(identity, _)| identity.0 == histograms && within(identity)) {
            let rows = found.remove(identity).unwrap_or_default();
            if rows != [row.as_str()] {
                return Err(format!("{identity:?}: {row} was the last write, found {rows:?}"));
            }
        }
        match found.first_key_value() {
            Some((identity, rows)) => Err(format!("{identity:?} was never acknowledged: {rows:?}")),
            None => Ok(()),
        }
    }

    /// One row per series and day, with the first and last time of its points there.
    pub(super) fn check_series(&self, batches: &[RecordBatch]) -> Result<(), String> {
        let mut expected: BTreeMap<(i64, i32), (i64, i64)> = BTreeMap::new();
        for (_, id, _, time) in self.points.keys() {
            let range = expected.entry((*id, day_of(*time))).or_insert((*time, *time));
            *range = (range.0.min(*time), range.1.max(*time));
        }
        let mut found = BTreeMap::new();
        for batch in batches {
            let time = |name: &str, row| batch[name].as_primitive::<TimestampMicrosecondType>().value(row);
            for row in 0..batch.num_rows() {
                let id = batch["series_id"].as_primitive::<Int64Type>().value(row);
                let range = (time("first_time", row), time("last_time", row));
                if found.insert((id, day_of(range.0)), range).is_some() {
                    return Err(format!("series {id} has two rows on one day"));
                }
            }
        }
        same("series", &expected, &found)
    }

    pub(super) fn check_rejections(&self, batches: &[RecordBatch]) -> Result<(), String> {
        let mut found = Vec::new();
        for batch in batches {
            let text = |name: &str, row| batch[name].as_string::<i32>().value(row).to_owned();
            for row in 0..batch.num_rows() {
                let time = batch["time"].as_primitive::<TimestampMicrosecondType>().value(row);
                let count = batch["count"].as_primitive::<Int64Type>().value(row);
                let (reason, metric, message) = (text("reason", row), text("metric", row), text("message", row));
                found.push(format!("{time} {reason} {metric} {count} {message}"));
            }
        }
        let mut expected = self.rejections.clone();
        expected.sort();
        found.sort();
        same("rejections", &expected, &found)
    }

    /// `STORE-2`, as far as repeats are known when they come: the others are dropped by scans and merges.
    pub(super) fn check_counts(&self, row_count: u64) -> Result<(), String> {
        let Self { received, duplicates, .. } = *self;
        let adds_up = row_count == self.points.len() as u64 && row_count + duplicates <= received;
        if adds_up { Ok(()) } else { Err(format!("{received} received, {row_count} rows, {duplicates} duplicates")) }
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, expected: &T, found: &T) -> Result<(), String> {
    if expected == found { Ok(()) } else { Err(format!("{what}: expected {expected:?}, found {found:?}")) }
}

fn sample_row(bits: u64, form: u8) -> Row {
    let int = bits.cast_signed();
    let (value, value_int) = match form {
        SampleColumns::INT if (int as f64) as i128 == i128::from(int) => (Some(int as f64), None),
        SampleColumns::INT => (Some(int as f64), Some(int)),
        SampleColumns::NO_VALUE => (None, None),
        _ => (Some(f64::from_bits(bits)), None),
    };
    format!("{:x?} {value_int:?}", value.map(f64::to_bits))
}

fn histogram_row(point: &HistogramPoint) -> Row {
    if !point.recorded {
        return format!("{:?}", Columns::default());
    }
    let bits = |value: Option<f64>| value.map(f64::to_bits);
    let signed = |counts: &[u64]| Some(counts.iter().map(|count| count.cast_signed()).collect());
    let mut columns = Columns {
        count: Some(point.count.cast_signed()),
        statistics: [bits(point.sum), bits(point.min), bits(point.max)],
        ..Columns::default()
    };
    match &point.shape {
        HistogramShape::Explicit { counts } => columns.bucket_counts = signed(counts),
        HistogramShape::Exponential {
            scale,
            zero_count,
            zero_threshold,
            positive_offset,
            positive_counts,
            negative_offset,
            negative_counts,
        } => {
            columns.numbers = [Some(*scale), Some(*positive_offset), Some(*negative_offset)];
            columns.zero_count = Some(zero_count.cast_signed());
            columns.zero_threshold = bits(Some(*zero_threshold));
            columns.sides = [signed(positive_counts), signed(negative_counts)];
        }
        HistogramShape::Summary { quantiles, values } => {
            columns.summary = [quantiles, values].map(|list| Some(list.iter().map(|value| value.to_bits()).collect()));
        }
    }
    format!("{columns:?}")
}

/// A `histograms` row without its identity.
#[derive(Debug, Default)]
#[expect(dead_code, reason = "compared as text")]
struct Columns {
    count: Option<i64>,
    statistics: [Option<u64>; 3],
    bucket_counts: Option<Vec<i64>>,
    numbers: [Option<i32>; 3],
    zero_count: Option<i64>,
    zero_threshold: Option<u64>,
    sides: [Option<Vec<i64>>; 2],
    summary: [Option<Vec<u64>>; 2],
}

fn int(column: &ArrayRef, row: usize) -> Option<i64> {
    column.is_valid(row).then(|| column.as_primitive::<Int64Type>().value(row))
}

fn small(column: &ArrayRef, row: usize) -> Option<i32> {
    column.is_valid(row).then(|| column.as_primitive::<Int32Type>().value(row))
}

fn bits(column: &ArrayRef, row: usize) -> Option<u64> {
    column.is_valid(row).then(|| column.as_primitive::<Float64Type>().value(row).to_bits())
}

fn list(column: &ArrayRef, row: usize) -> Option<ArrayRef> {
    column.is_valid(row).then(|| column.as_list::<i32>().value(row))
}

fn ints(column: &ArrayRef, row: usize) -> Option<Vec<i64>> {
    Some(list(column, row)?.as_primitive::<Int64Type>().values().to_vec())
}

fn doubles(column: &ArrayRef, row: usize) -> Option<Vec<u64>> {
    Some(list(column, row)?.as_primitive::<Float64Type>().values().iter().map(|value| value.to_bits()).collect())
}

fn found_identity(histogram: bool, batch: &RecordBatch, row: usize) -> Identity {
    let time = |name: &str| {
        let column = batch[name].as_primitive::<TimestampMicrosecondType>();
        if column.is_valid(row) { column.value(row) } else { 0 }
    };
    (histogram, batch["series_id"].as_primitive::<Int64Type>().value(row), time("start_time"), time("time"))
}

fn found_sample(batch: &RecordBatch, row: usize) -> Row {
    format!("{:x?} {:?}", bits(&batch["value"], row), int(&batch["value_int"], row))
}

fn found_histogram(batch: &RecordBatch, row: usize) -> Row {
    let columns = Columns {
        count: int(&batch["count"], row),
        statistics: ["sum", "min", "max"].map(|name| bits(&batch[name], row)),
        bucket_counts: ints(&batch["bucket_counts"], row),
        numbers: ["scale", "positive_offset", "negative_offset"].map(|name| small(&batch[name], row)),
        zero_count: int(&batch["zero_count"], row),
        zero_threshold: bits(&batch["zero_threshold"], row),
        sides: ["positive_counts", "negative_counts"].map(|name| ints(&batch[name], row)),
        summary: ["quantiles", "quantile_values"].map(|name| doubles(&batch[name], row)),
    };
    format!("{columns:?}")
}
