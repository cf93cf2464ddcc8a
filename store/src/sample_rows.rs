//! Points of `samples` as Arrow batches in table order: as queries see them, and in the lanes that files hold.

use std::{ops::Range, sync::Arc};

use datafusion::arrow::{
    array::{
        ArrayRef, Date32Builder, Float64Builder, Int32Builder, Int64Builder, RecordBatch, StringBuilder,
        TimestampMicrosecondBuilder,
    },
    datatypes::SchemaRef,
};

use crate::{
    error::Result,
    lanes::{Lanes, beyond_double, run_exponent},
    memtable::{Sample, SeriesPoints, day_of},
    rows::{BATCH_ROWS, optional_time, time_builder},
    schema::{samples_file_schema, samples_schema},
    series::Series,
    write_batch::SampleColumns,
};

/// The columns of a row that hold its value.
trait ValueColumns: Default {
    /// What the points of one series in a batch share.
    type Run: Copy;
    fn schema() -> SchemaRef;
    fn run(samples: &[Sample]) -> Self::Run;
    fn push(&mut self, run: Self::Run, sample: &Sample);
    fn finish(self) -> Vec<ArrayRef>;
}

/// `value` and `value_int`, as queries see them.
#[derive(Default)]
struct PublicValues {
    value: Float64Builder,
    value_int: Int64Builder,
}

impl ValueColumns for PublicValues {
    type Run = ();

    fn schema() -> SchemaRef {
        samples_schema()
    }

    fn run(_samples: &[Sample]) {}

    fn push(&mut self, _run: (), sample: &Sample) {
        let (value, value_int) = match sample.form {
            SampleColumns::INT => {
                let int = sample.bits.cast_signed();
                (Some(int as f64), beyond_double(int))
            }
            SampleColumns::NO_VALUE => (None, None),
            _ => (Some(f64::from_bits(sample.bits)), None),
        };
        self.value.append_option(value);
        self.value_int.append_option(value_int);
    }

    fn finish(mut self) -> Vec<ArrayRef> {
        vec![Arc::new(self.value.finish()), Arc::new(self.value_int.finish())]
    }
}

/// `scaled`, `exponent` and `value`, as files hold them.
#[derive(Default)]
struct LaneValues {
    scaled: Int64Builder,
    exponent: Int32Builder,
    value: Float64Builder,
}

impl ValueColumns for LaneValues {
    type Run = Option<usize>;

    fn schema() -> SchemaRef {
        samples_file_schema()
    }

    fn run(samples: &[Sample]) -> Option<usize> {
        run_exponent(samples)
    }

    fn push(&mut self, exponent: Option<usize>, sample: &Sample) {
        let lanes = Lanes::new(sample, exponent);
        let (scaled, exponent) = lanes.decimal.unzip();
        self.scaled.append_option(scaled);
        self.exponent.append_option(exponent);
        self.value.append_option(lanes.double);
    }

    fn finish(mut self) -> Vec<ArrayRef> {
        vec![Arc::new(self.scaled.finish()), Arc::new(self.exponent.finish()), Arc::new(self.value.finish())]
    }
}

/// Builds batches, row by row, in the order pushed.
struct SampleRows<V> {
    metric: StringBuilder,
    series_id: Int64Builder,
    start_time: TimestampMicrosecondBuilder,
    time: TimestampMicrosecondBuilder,
    values: V,
    date: Date32Builder,
    row_count: usize,
}

impl<V: ValueColumns> SampleRows<V> {
    fn new() -> Self {
        Self {
            metric: StringBuilder::new(),
            series_id: Int64Builder::new(),
            start_time: time_builder(),
            time: time_builder(),
            values: V::default(),
            date: Date32Builder::new(),
            row_count: 0,
        }
    }

    fn push(&mut self, series: &Series, run: V::Run, sample: &Sample) {
        self.metric.append_value(&series.definition.metric);
        self.series_id.append_value(series.id.to_column());
        self.start_time.append_option(optional_time(sample.start_time));
        self.time.append_value(sample.time);
        self.values.push(run, sample);
        self.date.append_value(day_of(sample.time));
        self.row_count += 1;
    }

    fn finish(mut self) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.metric.finish()),
            Arc::new(self.series_id.finish()),
            Arc::new(self.start_time.finish()),
            Arc::new(self.time.finish()),
        ];
        columns.extend(self.values.finish());
        columns.push(Arc::new(self.date.finish()));
        Ok(RecordBatch::try_new(V::schema(), columns)?)
    }
}

/// The points of a series that no batch has yet.
struct Rest<'a, V: ValueColumns> {
    series: &'a Series,
    run: V::Run,
    samples: &'a [Sample],
}

fn batches<'a, V: ValueColumns>(
    series: impl IntoIterator<Item = &'a SeriesPoints>,
    range: impl Fn(&[Sample]) -> Range<usize>,
) -> impl Iterator<Item = Result<RecordBatch>> {
    let rests = series.into_iter().map(move |points| {
        let samples = &points.samples[range(&points.samples)];
        Rest::<V> { series: &points.series, run: V::run(samples), samples }
    });
    let mut rests = rests.peekable();
    std::iter::from_fn(move || {
        let mut rows = SampleRows::<V>::new();
        while let Some(rest) = rests.peek_mut() {
            let (taken, left) = rest.samples.split_at(rest.samples.len().min(BATCH_ROWS - rows.row_count));
            taken.iter().for_each(|sample| rows.push(rest.series, rest.run, sample));
            rest.samples = left;
            if rows.row_count == BATCH_ROWS {
                break;
            }
            rests.next();
        }
        (rows.row_count > 0).then(|| rows.finish())
    })
}

/// Rows of `series`, which is in table order, as queries see them; `range` picks the points of each.
pub(crate) fn sample_batches<'a>(
    series: impl IntoIterator<Item = &'a SeriesPoints>,
    range: impl Fn(&[Sample]) -> Range<usize>,
) -> impl Iterator<Item = Result<RecordBatch>> {
    batches::<PublicValues>(series, range)
}

/// The same rows as a file holds them.
pub(crate) fn sample_file_batches<'a>(
    series: impl IntoIterator<Item = &'a SeriesPoints>,
    range: impl Fn(&[Sample]) -> Range<usize>,
) -> impl Iterator<Item = Result<RecordBatch>> {
    batches::<LaneValues>(series, range)
}
