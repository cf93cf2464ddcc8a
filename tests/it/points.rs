//! Histogram requests made by hand, beside the gauges of `otlp`.

use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Histogram, HistogramDataPoint, Metric, metric::Data,
};

/// A delta histogram.
pub(crate) fn histogram(name: &str, data_points: Vec<HistogramDataPoint>) -> Metric {
    let aggregation_temporality = AggregationTemporality::Delta as i32;
    let data = Data::Histogram(Histogram { data_points, aggregation_temporality });
    Metric { name: name.to_owned(), data: Some(data), ..Metric::default() }
}

/// An explicit histogram point whose count fits its buckets.
pub(crate) fn distribution(time_unix_nano: u64, sum: f64, bounds: &[f64], counts: &[u64]) -> HistogramDataPoint {
    HistogramDataPoint {
        start_time_unix_nano: time_unix_nano - 1_000_000,
        time_unix_nano,
        count: counts.iter().sum(),
        sum: Some(sum),
        explicit_bounds: bounds.to_vec(),
        bucket_counts: counts.to_vec(),
        ..HistogramDataPoint::default()
    }
}
