//! Points of `samples` as Arrow batches in table order: as queries see them, and in the lanes that files hold.

use std::sync::Arc;

use datafusion::arrow::{
    array::{
        ArrayRef, Date32Array, Float64Builder, Int32Builder, Int64Array, Int64Builder, RecordBatch, RecordBatchOptions,
        StringArray, TimestampMicrosecondArray,
    },
    buffer::OffsetBuffer,
    datatypes::SchemaRef,
};

use crate::{
    error::Result,
    lanes::{Lanes, beyond_double, run_exponent},
    memtable::{SeriesPoints, day_of},
    point_cursor::{PointCursor, Run},
    points::{on_day, times_of},
    rows::{BATCH_ROWS, optional_time},
    sample::Sample,
    schema::samples_file_schema,
    series::SeriesId,
    write_batch::SampleColumns,
};

type SampleRun<'a> = Run<'a, Sample>;

fn row_count(runs: &[SampleRun<'_>]) -> usize {
    runs.iter().map(|run| run.points.len()).sum()
}

fn samples<'a>(runs: &'a [SampleRun<'_>]) -> impl Iterator<Item = &'a Sample> {
    runs.iter().flat_map(|run| run.points)
}

/// Far more rows than metrics: the text is laid down in one go.
fn metric_column(runs: &[SampleRun<'_>]) -> StringArray {
    let metrics = || runs.iter().map(|run| (&*run.of.series.definition.metric, run.points.len()));
    let mut text = String::with_capacity(metrics().map(|(metric, count)| metric.len() * count).sum());
    for (metric, count) in metrics() {
        (0..count).for_each(|_| text.push_str(metric));
    }
    let lengths = metrics().flat_map(|(metric, count)| std::iter::repeat_n(metric.len(), count));
    StringArray::new(OffsetBuffer::from_lengths(lengths), text.into_bytes().into(), None)
}

/// A column that files and queries have in common.
fn key_column(name: &str, runs: &[SampleRun<'_>]) -> Option<ArrayRef> {
    Some(match name {
        "metric" => Arc::new(metric_column(runs)),
        "series_id" => {
            let mut ids = Vec::with_capacity(row_count(runs));
            runs.iter().for_each(|run| ids.resize(ids.len() + run.points.len(), run.of.series.id.to_column()));
            Arc::new(Int64Array::from(ids))
        }
        "start_time" => {
            let starts: TimestampMicrosecondArray =
                samples(runs).map(|sample| optional_time(sample.start_time())).collect();
            Arc::new(starts.with_timezone("UTC"))
        }
        "time" => {
            let mut times = Vec::with_capacity(row_count(runs));
            times.extend(samples(runs).map(|sample| sample.time));
            Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))
        }
        "date" => Arc::new(Date32Array::from_iter_values(samples(runs).map(|sample| day_of(sample.time)))),
        _ => return None,
    })
}

/// `value` as queries see it.
fn value_column(runs: &[SampleRun<'_>]) -> ArrayRef {
    let mut values = Float64Builder::with_capacity(row_count(runs));
    for sample in samples(runs) {
        values.append_option(match sample.form() {
            SampleColumns::INT => Some(sample.bits.cast_signed() as f64),
            SampleColumns::NO_VALUE => None,
            _ => Some(f64::from_bits(sample.bits)),
        });
    }
    Arc::new(values.finish())
}

/// `value_int` as queries see it: integers that no double holds.
fn integer_column(runs: &[SampleRun<'_>]) -> ArrayRef {
    let mut integers = Int64Builder::with_capacity(row_count(runs));
    for sample in samples(runs) {
        let is_int = sample.form() == SampleColumns::INT;
        integers.append_option(is_int.then_some(sample.bits.cast_signed()).and_then(beyond_double));
    }
    Arc::new(integers.finish())
}

/// The rows of `runs` as queries see them, with the columns of `schema`, some of those of `samples`.
pub(crate) fn sample_batch(runs: &[SampleRun<'_>], schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| match field.name().as_str() {
        "value" => value_column(runs),
        "value_int" => integer_column(runs),
        name => key_column(name, runs).unwrap_or_else(|| unreachable!("samples has no column {name}")),
    });
    let options = RecordBatchOptions::new().with_row_count(Some(row_count(runs)));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns.collect(), &options)?)
}

/// Writes the points of a day as files hold them.
struct FileRows {
    day: i32,
    cursor: PointCursor,
    /// Of the last series, whose points may go on in the next batch.
    exponent: Option<(SeriesId, Option<usize>)>,
}

impl FileRows {
    fn exponent(&mut self, of: &SeriesPoints) -> Option<usize> {
        let id = of.series.id;
        let day = self.day;
        let compute = || run_exponent(of.samples.chunks().map(|chunk| on_day(chunk, day)));
        let known = self.exponent.filter(|(known, _)| *known == id);
        let (_, exponent) = *self.exponent.insert(known.unwrap_or_else(|| (id, compute())));
        exponent
    }

    fn batch(&mut self, runs: &[SampleRun<'_>]) -> Result<RecordBatch> {
        let row_count = row_count(runs);
        let mut scaled_lane = Int64Builder::with_capacity(row_count);
        let mut exponent_lane = Int32Builder::with_capacity(row_count);
        let mut value_lane = Float64Builder::with_capacity(row_count);
        for run in runs {
            let exponent = self.exponent(run.of);
            for sample in run.points {
                let lanes = Lanes::new(sample, exponent);
                let (scaled, exponent) = lanes.decimal.unzip();
                scaled_lane.append_option(scaled);
                exponent_lane.append_option(exponent);
                value_lane.append_option(lanes.double);
            }
        }
        let schema = samples_file_schema();
        let columns = schema.fields().iter().map(|field| -> ArrayRef {
            match field.name().as_str() {
                "scaled" => Arc::new(scaled_lane.finish()),
                "exponent" => Arc::new(exponent_lane.finish()),
                "value" => Arc::new(value_lane.finish()),
                name => key_column(name, runs).unwrap_or_else(|| unreachable!("samples has no column {name}")),
            }
        });
        let columns = columns.collect();
        Ok(RecordBatch::try_new(schema, columns)?)
    }
}

/// Rows on `day` of `series`, which is in table order, as a file holds them.
pub(crate) fn sample_file_batches(
    series: Vec<Arc<SeriesPoints>>,
    day: i32,
) -> impl Iterator<Item = Result<RecordBatch>> {
    let mut rows = FileRows { day, cursor: PointCursor::within(times_of(day)), exponent: None };
    std::iter::from_fn(move || {
        let runs = rows.cursor.next_runs(&series, |points| &points.samples, BATCH_ROWS);
        (!runs.is_empty()).then(|| rows.batch(&runs))
    })
}
