//! Short constructors for the OTLP messages that the demo and the import send and that drift scores are stored as, and how they
//! are sent.

mod send;

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
        HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
        exponential_histogram_data_point::Buckets, metric::Data, number_data_point::Value,
    },
    resource::v1::Resource,
};

pub(crate) use send::{Sent, send};

/// A string attribute.
pub(crate) fn attribute(key: &str, value: impl Into<String>) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.into())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..Default::default() }
}

/// A number point without a start time.
pub(crate) fn point(time_unix_nano: u64, value: Value, attributes: &[KeyValue]) -> NumberDataPoint {
    NumberDataPoint { attributes: attributes.to_vec(), time_unix_nano, value: Some(value), ..Default::default() }
}

/// A gauge.
pub(crate) fn gauge(name: &str, unit: &str, data_points: Vec<NumberDataPoint>) -> Metric {
    metric(name, unit, Data::Gauge(Gauge { data_points }))
}

/// What an UpDownCounter sends: a cumulative sum that may fall, counted since `start_time_unix_nano`.
pub(crate) fn up_down(name: &str, unit: &str, start_time_unix_nano: u64, mut points: Vec<NumberDataPoint>) -> Metric {
    for point in &mut points {
        point.start_time_unix_nano = start_time_unix_nano;
    }
    let sum = Sum {
        data_points: points,
        aggregation_temporality: AggregationTemporality::Cumulative as i32,
        is_monotonic: false,
    };
    metric(name, unit, Data::Sum(sum))
}

/// A cumulative counter; its points say since when they count.
pub(crate) fn counter(name: &str, unit: &str, data_points: Vec<NumberDataPoint>) -> Metric {
    let aggregation_temporality = AggregationTemporality::Cumulative as i32;
    metric(name, unit, Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic: true }))
}

/// A counter of deltas; its points say since when they count.
pub(crate) fn delta_counter(name: &str, unit: &str, data_points: Vec<NumberDataPoint>) -> Metric {
    let aggregation_temporality = AggregationTemporality::Delta as i32;
    metric(name, unit, Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic: true }))
}

/// An explicit histogram of deltas.
pub(crate) fn histogram(name: &str, unit: &str, data_points: Vec<HistogramDataPoint>) -> Metric {
    let aggregation_temporality = AggregationTemporality::Delta as i32;
    metric(name, unit, Data::Histogram(Histogram { data_points, aggregation_temporality }))
}

/// An exponential histogram of deltas.
pub(crate) fn exponential(name: &str, unit: &str, data_points: Vec<ExponentialHistogramDataPoint>) -> Metric {
    let aggregation_temporality = AggregationTemporality::Delta as i32;
    metric(name, unit, Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality }))
}

fn metric(name: &str, unit: &str, data: Data) -> Metric {
    Metric { name: name.to_owned(), unit: unit.to_owned(), data: Some(data), ..Default::default() }
}

/// One resource with its metrics, all in `scope`.
pub(crate) fn resource_metrics(scope: &str, attributes: Vec<KeyValue>, metrics: Vec<Metric>) -> ResourceMetrics {
    let scope = InstrumentationScope {
        name: scope.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Default::default()
    };
    ResourceMetrics {
        resource: Some(Resource { attributes, ..Default::default() }),
        scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics, ..Default::default() }],
        ..Default::default()
    }
}

/// Sum, minimum and maximum of what was observed; minimum and maximum only where there was something.
fn summary(values: &[f64]) -> (f64, Option<f64>, Option<f64>) {
    (values.iter().sum(), values.iter().copied().reduce(f64::min), values.iter().copied().reduce(f64::max))
}

/// The explicit histogram of `values` seen in `(start, end]`.
pub(crate) fn histogram_point(interval: (u64, u64), bounds: &[f64], values: &[f64]) -> HistogramDataPoint {
    let mut bucket_counts = vec![0; bounds.len() + 1];
    for value in values {
        // Upper bounds are inclusive.
        bucket_counts[bounds.partition_point(|bound| bound < value)] += 1;
    }
    let (sum, min, max) = summary(values);
    HistogramDataPoint {
        start_time_unix_nano: interval.0,
        time_unix_nano: interval.1,
        count: values.len() as u64,
        sum: Some(sum),
        min,
        max,
        bucket_counts,
        explicit_bounds: bounds.to_vec(),
        ..Default::default()
    }
}

/// Bucket of a positive `value` at `scale`: bucket `i` holds `(base^i, base^(i+1)]` with `base = 2^(2^-scale)`.
///
/// Source: OpenTelemetry metrics data model, "Exponential Histogram", mapping by logarithm.
fn bucket_index(value: f64, scale: i32) -> i32 {
    (value.log2() * f64::from(scale).exp2()).ceil() as i32 - 1
}

/// The exponential histogram of non-negative `values` seen in `(start, end]`.
pub(crate) fn exponential_point(interval: (u64, u64), scale: i32, values: &[f64]) -> ExponentialHistogramDataPoint {
    let indices: Vec<i32> =
        values.iter().filter(|value| **value > 0.0).map(|value| bucket_index(*value, scale)).collect();
    let positive = indices.iter().min().zip(indices.iter().max()).map(|(&first, &last)| {
        let mut bucket_counts = vec![0; (last - first + 1) as usize];
        for index in &indices {
            bucket_counts[(index - first) as usize] += 1;
        }
        Buckets { offset: first, bucket_counts }
    });
    let (sum, min, max) = summary(values);
    ExponentialHistogramDataPoint {
        start_time_unix_nano: interval.0,
        time_unix_nano: interval.1,
        count: values.len() as u64,
        sum: Some(sum),
        scale,
        zero_count: (values.len() - indices.len()) as u64,
        positive,
        min,
        max,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explicit_bounds_are_inclusive_above() {
        let point = histogram_point((0, 1), &[1.0, 2.0], &[0.5, 1.0, 1.5, 2.0, 9.0]);
        assert_eq!(point.bucket_counts, [2, 2, 1]);
        assert_eq!((point.count, point.sum, point.min, point.max), (5, Some(14.0), Some(0.5), Some(9.0)));
    }

    #[test]
    fn exponential_buckets_follow_the_data_model() {
        // At scale 0 the base is 2: 1 lies in (1/2, 1] = -1, 2 in (1, 2] = 0, 3 and 4 in (2, 4] = 1.
        let point = exponential_point((0, 1), 0, &[0.0, 1.0, 2.0, 3.0, 4.0]);
        let positive = point.positive.unwrap();
        assert_eq!((positive.offset, positive.bucket_counts), (-1, vec![1, 1, 2]));
        assert_eq!((point.zero_count, point.count), (1, 5));
    }

    #[test]
    fn an_empty_interval_has_no_minimum() {
        let point = exponential_point((0, 1), 3, &[]);
        assert_eq!((point.count, point.min, point.positive), (0, None, None));
    }
}
