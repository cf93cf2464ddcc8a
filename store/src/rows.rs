//! Memtable contents as Arrow batches in table order.

use std::{collections::HashMap, sync::Arc};

use datafusion::arrow::{
    array::{
        ArrayRef, BooleanArray, Date32Array, Date32Builder, Float64Builder, Int32Builder, Int64Array, Int64Builder,
        ListBuilder, MapBuilder, MapFieldNames, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
        TimestampMicrosecondBuilder,
    },
    datatypes::{DataType, Field, SchemaRef},
    error::ArrowError,
};

use crate::{
    error::Result,
    memtable::{SeriesPoints, day_of},
    point_cursor::{PointCursor, Run},
    points::times_of,
    schema::{PROMOTED, histograms_schema, rejections_schema},
    series::{Series, SeriesDefinition},
    write_batch::{HistogramPoint, HistogramShape, Rejection},
};

/// Rows per batch: large enough to amortise, small enough to stay in cache while a file is written.
pub(crate) const BATCH_ROWS: usize = 64 << 10;
const HISTOGRAM_BATCH_ROWS: usize = BATCH_ROWS / 8;

pub(crate) fn time_builder() -> TimestampMicrosecondBuilder {
    TimestampMicrosecondBuilder::new().with_timezone("UTC")
}

pub(crate) fn optional_time(time: i64) -> Option<i64> {
    (time != 0).then_some(time)
}

fn list_of<B: datafusion::arrow::array::ArrayBuilder>(builder: B, item: DataType) -> ListBuilder<B> {
    ListBuilder::new(builder).with_field(Field::new("element", item, true))
}

struct HistogramRows {
    metric: StringBuilder,
    series_id: Int64Builder,
    start_time: TimestampMicrosecondBuilder,
    time: TimestampMicrosecondBuilder,
    count: Int64Builder,
    statistics: [Float64Builder; 3],
    bucket_counts: ListBuilder<Int64Builder>,
    scale: Int32Builder,
    zero_count: Int64Builder,
    zero_threshold: Float64Builder,
    offsets: [Int32Builder; 2],
    sides: [ListBuilder<Int64Builder>; 2],
    quantiles: [ListBuilder<Float64Builder>; 2],
    date: Date32Builder,
}

impl HistogramRows {
    fn new() -> Self {
        let counts = || list_of(Int64Builder::new(), DataType::Int64);
        let doubles = || list_of(Float64Builder::new(), DataType::Float64);
        Self {
            metric: StringBuilder::new(),
            series_id: Int64Builder::new(),
            start_time: time_builder(),
            time: time_builder(),
            count: Int64Builder::new(),
            statistics: std::array::from_fn(|_| Float64Builder::new()),
            bucket_counts: counts(),
            scale: Int32Builder::new(),
            zero_count: Int64Builder::new(),
            zero_threshold: Float64Builder::new(),
            offsets: std::array::from_fn(|_| Int32Builder::new()),
            sides: [counts(), counts()],
            quantiles: [doubles(), doubles()],
            date: Date32Builder::new(),
        }
    }

    fn push(&mut self, series: &Series, point: &HistogramPoint) {
        self.metric.append_value(&series.definition.metric);
        self.series_id.append_value(series.id.to_column());
        self.start_time.append_option(optional_time(point.start_time));
        self.time.append_value(point.time);
        self.date.append_value(day_of(point.time));
        self.count.append_option(point.recorded.then_some(point.count.cast_signed()));
        for (builder, value) in self.statistics.iter_mut().zip([point.sum, point.min, point.max]) {
            builder.append_option(value.filter(|_| point.recorded));
        }
        self.push_shape(point.recorded.then_some(&point.shape));
    }

    fn push_shape(&mut self, shape: Option<&HistogramShape>) {
        let explicit = if let Some(HistogramShape::Explicit { counts }) = shape { Some(counts) } else { None };
        append_counts(&mut self.bucket_counts, explicit);
        if let Some(HistogramShape::Exponential {
            scale,
            zero_count,
            zero_threshold,
            positive_offset,
            positive_counts,
            negative_offset,
            negative_counts,
        }) = shape
        {
            self.scale.append_value(*scale);
            self.zero_count.append_value(zero_count.cast_signed());
            self.zero_threshold.append_value(*zero_threshold);
            self.offsets[0].append_value(*positive_offset);
            self.offsets[1].append_value(*negative_offset);
            append_counts(&mut self.sides[0], Some(positive_counts));
            append_counts(&mut self.sides[1], Some(negative_counts));
        } else {
            self.scale.append_null();
            self.zero_count.append_null();
            self.zero_threshold.append_null();
            self.offsets.iter_mut().for_each(Int32Builder::append_null);
            self.sides.iter_mut().for_each(|side| append_counts(side, None));
        }
        let summary = if let Some(HistogramShape::Summary { quantiles, values }) = shape {
            [Some(quantiles), Some(values)]
        } else {
            [None, None]
        };
        for (builder, list) in self.quantiles.iter_mut().zip(summary) {
            if let Some(list) = list {
                builder.values().append_slice(list);
            }
            builder.append(list.is_some());
        }
    }

    fn finish(mut self) -> Result<RecordBatch> {
        let [sum, min, max] = &mut self.statistics;
        let [positive_offset, negative_offset] = &mut self.offsets;
        let [positive, negative] = &mut self.sides;
        let [quantiles, values] = &mut self.quantiles;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.metric.finish()),
            Arc::new(self.series_id.finish()),
            Arc::new(self.start_time.finish()),
            Arc::new(self.time.finish()),
            Arc::new(self.count.finish()),
            Arc::new(sum.finish()),
            Arc::new(min.finish()),
            Arc::new(max.finish()),
            Arc::new(self.bucket_counts.finish()),
            Arc::new(self.scale.finish()),
            Arc::new(self.zero_count.finish()),
            Arc::new(self.zero_threshold.finish()),
            Arc::new(positive_offset.finish()),
            Arc::new(positive.finish()),
            Arc::new(negative_offset.finish()),
            Arc::new(negative.finish()),
            Arc::new(quantiles.finish()),
            Arc::new(values.finish()),
            Arc::new(self.date.finish()),
        ];
        Ok(RecordBatch::try_new(histograms_schema(), columns)?)
    }
}

fn append_counts(builder: &mut ListBuilder<Int64Builder>, counts: Option<&Vec<u64>>) {
    for count in counts.into_iter().flatten() {
        builder.values().append_value(count.cast_signed());
    }
    builder.append(counts.is_some());
}

/// `histograms` rows of `runs`.
pub(crate) fn histogram_batch(runs: &[Run<'_, HistogramPoint>]) -> Result<RecordBatch> {
    let mut rows = HistogramRows::new();
    for run in runs {
        run.points.iter().for_each(|point| rows.push(&run.of.series, point));
    }
    rows.finish()
}

/// `histograms` rows on `day` of `series`, which is in table order.
pub(crate) fn histogram_batches(series: Vec<Arc<SeriesPoints>>, day: i32) -> impl Iterator<Item = Result<RecordBatch>> {
    let mut cursor = PointCursor::within(times_of(day));
    std::iter::from_fn(move || {
        let runs = cursor.next_runs(&series, |points| &points.histograms, HISTOGRAM_BATCH_ROWS);
        (!runs.is_empty()).then(|| histogram_batch(&runs))
    })
}

/// `rejections` rows.
pub(crate) fn rejection_batch(rejections: &[&Rejection]) -> Result<RecordBatch> {
    let mut time = time_builder();
    let (mut reason, mut metric, mut message) = (StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
    for rejection in rejections {
        time.append_value(rejection.time);
        reason.append_value(&rejection.reason);
        metric.append_value(&rejection.metric);
        message.append_value(&rejection.message);
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(time.finish()),
        Arc::new(reason.finish()),
        Arc::new(metric.finish()),
        Arc::new(Int64Array::from_iter_values(rejections.iter().map(|rejection| rejection.count.cast_signed()))),
        Arc::new(message.finish()),
        Arc::new(Date32Array::from_iter_values(rejections.iter().map(|rejection| day_of(rejection.time)))),
    ];
    Ok(RecordBatch::try_new(rejections_schema(), columns)?)
}

/// A `series` row: the series, with its first and last time on the day.
pub(crate) type SeriesRow = (Arc<Series>, i64, i64);

/// `series` rows of one day: the columns of `schema`, which are some of that table.
pub(crate) fn series_batch(rows: &[SeriesRow], day: i32, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| series_column(rows, day, field.name()));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_>>()?)?)
}

fn series_column(rows: &[SeriesRow], day: i32, name: &str) -> Result<ArrayRef> {
    let definition = |pick: fn(&SeriesDefinition) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(series, ..)| pick(&series.definition))))
    };
    let text = |write: fn(&Series) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(series, ..)| write(series))))
    };
    let time = |pick: fn(&SeriesRow) -> i64| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(pick)).with_timezone("UTC"))
    };
    Ok(match name {
        "metric" => definition(|definition| &definition.metric),
        "series_id" => Arc::new(Int64Array::from_iter_values(rows.iter().map(|(series, ..)| series.id.to_column()))),
        "fingerprint" => text(|series| format!("{:032x}", series.fingerprint)),
        "kind" => definition(|definition| definition.kind.as_str()),
        "unit" => definition(|definition| &definition.unit),
        "description" => definition(|definition| &definition.description),
        "temporality" => definition(|definition| definition.temporality.as_str()),
        "monotonic" => {
            Arc::new(rows.iter().map(|(series, ..)| Some(series.definition.monotonic)).collect::<BooleanArray>())
        }
        "bounds" => {
            let mut bounds = list_of(Float64Builder::new(), DataType::Float64);
            for (series, ..) in rows {
                bounds.values().append_slice(&series.definition.bounds);
                bounds.append(!series.definition.bounds.is_empty());
            }
            Arc::new(bounds.finish())
        }
        "attributes" => attributes_column(rows)?,
        "identity" => text(Series::identity),
        "first_time" => time(|(_, first, _)| *first),
        "last_time" => time(|(.., last)| *last),
        "date" => Arc::new(Date32Array::from_value(day, rows.len())),
        promoted => {
            let label = PROMOTED.iter().find(|label| label.column == promoted);
            let unknown = || ArrowError::SchemaError(format!("series has no column {promoted:?}"));
            label_column(rows, label.ok_or_else(unknown)?.keys)
        }
    })
}

/// The attribute key that fills the promoted column `label` of `definition`.
fn promoted_key(definition: &SeriesDefinition, keys: &'static [&'static str]) -> Option<&'static str> {
    keys.iter().copied().find(|key| definition.attribute(key).is_some())
}

fn label_column(rows: &[SeriesRow], keys: &'static [&'static str]) -> ArrayRef {
    let text = |series: &Series| keys.iter().find_map(|key| Some(series.definition.attribute(key)?.to_text()));
    Arc::new(rows.iter().map(|(series, ..)| text(series)).collect::<StringArray>())
}

fn attributes_column(rows: &[SeriesRow]) -> Result<ArrayRef> {
    let names = MapFieldNames { entry: "key_value".to_owned(), key: "key".to_owned(), value: "value".to_owned() };
    let mut builder = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for (series, ..) in rows {
        let definition = &series.definition;
        let mut rest: HashMap<&str, String> = HashMap::new();
        for attributes in [&*definition.resource, &*definition.scope, &definition.point] {
            rest.extend(attributes.iter().map(|(key, value)| (key.as_str(), value.to_text())));
        }
        for label in PROMOTED {
            if let Some(key) = promoted_key(definition, label.keys) {
                rest.remove(key);
            }
        }
        let mut rest: Vec<_> = rest.into_iter().collect();
        rest.sort_unstable();
        for (key, value) in rest {
            builder.keys().append_value(key);
            builder.values().append_value(value);
        }
        builder.append(true)?;
    }
    Ok(Arc::new(builder.finish()))
}

/// The schema of the files of a table: without the partition column, which is last.
pub(crate) fn file_schema(schema: &SchemaRef) -> SchemaRef {
    let fields: Vec<_> = schema.fields().iter().filter(|field| field.name() != "date").cloned().collect();
    Arc::new(datafusion::arrow::datatypes::Schema::new(fields))
}
