//! Points to OTLP requests.

use std::{collections::HashMap, sync::Arc};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
        ScopeMetrics, Sum, Summary, SummaryDataPoint, metric::Data, number_data_point,
        summary_data_point::ValueAtQuantile,
    },
    resource::v1::Resource,
};

use super::{
    owner::Owner,
    points::{Point, Value},
};

/// The flag of a point that only says that there is no value any more.
const NO_RECORDED_VALUE: u32 = 1;
/// Points of one request, so that no page becomes a request over the limit of a server.
const POINTS_MAX: usize = 5_000;

/// Requests that hold `points`, with `extra` attributes on every resource.
pub(crate) fn requests(points: &[Point], extra: &[(String, String)]) -> Vec<ExportMetricsServiceRequest> {
    points.chunks(POINTS_MAX).map(|points| request(points, extra)).collect()
}

/// Metrics of one owner, by name, unit and kind.
#[derive(Default)]
struct Metrics<'p> {
    metrics: Vec<Metric>,
    by_name: HashMap<(&'p str, &'p str, u8), usize>,
}

fn request(points: &[Point], extra: &[(String, String)]) -> ExportMetricsServiceRequest {
    let mut owners: Vec<(Arc<Owner>, Metrics<'_>)> = Vec::new();
    for point in points {
        let index = owners.iter().position(|(owner, _)| *owner == point.owner).unwrap_or_else(|| {
            owners.push((Arc::clone(&point.owner), Metrics::default()));
            owners.len() - 1
        });
        owners[index].1.add(point);
    }
    let resource_metrics = owners.into_iter().map(|(owner, metrics)| resource_metrics(&owner, metrics.metrics, extra));
    ExportMetricsServiceRequest { resource_metrics: resource_metrics.collect() }
}

fn resource_metrics(owner: &Owner, metrics: Vec<Metric>, extra: &[(String, String)]) -> ResourceMetrics {
    let own = owner.resource();
    // What the target says of itself is not overwritten by what the collector says of all.
    let extra = extra.iter().filter(|(key, _)| own.iter().all(|(known, _)| known != key));
    let mut attributes: Vec<KeyValue> = extra.map(|(key, value)| attribute(key, value)).collect();
    attributes.extend(own.iter().map(|(key, value)| attribute(key, value)));
    let scope = InstrumentationScope {
        name: owner.scope_name.clone(),
        version: owner.scope_version.clone(),
        ..InstrumentationScope::default()
    };
    ResourceMetrics {
        resource: Some(Resource { attributes, ..Resource::default() }),
        scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }],
        ..ResourceMetrics::default()
    }
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

impl<'p> Metrics<'p> {
    fn add(&mut self, point: &'p Point) {
        let kind = match point.value {
            Value::Gauge(_) => 0,
            Value::Sum(_) => 1,
            Value::Histogram { .. } => 2,
            Value::Summary { .. } => 3,
        };
        let index = *self.by_name.entry((&point.metric, &point.unit, kind)).or_insert_with(|| {
            self.metrics.push(metric(point));
            self.metrics.len() - 1
        });
        let Some(data) = &mut self.metrics[index].data else { return };
        match data {
            Data::Gauge(gauge) => gauge.data_points.push(number(point)),
            Data::Sum(sum) => sum.data_points.push(number(point)),
            Data::Histogram(histogram) => histogram.data_points.push(distribution(point)),
            Data::Summary(summary) => summary.data_points.push(quantiles(point)),
            // No point becomes one.
            Data::ExponentialHistogram(_) => {}
        }
    }
}

/// The metric that `point` belongs to, still without points.
fn metric(point: &Point) -> Metric {
    let aggregation_temporality = AggregationTemporality::Cumulative as i32;
    let data = match point.value {
        Value::Gauge(_) => Data::Gauge(Gauge::default()),
        Value::Sum(_) => Data::Sum(Sum { data_points: Vec::new(), aggregation_temporality, is_monotonic: true }),
        Value::Histogram { .. } => Data::Histogram(Histogram { data_points: Vec::new(), aggregation_temporality }),
        Value::Summary { .. } => Data::Summary(Summary::default()),
    };
    Metric {
        name: point.metric.to_string(),
        unit: point.unit.to_string(),
        description: point.description.to_string(),
        data: Some(data),
        ..Metric::default()
    }
}

fn attributes(point: &Point) -> Vec<KeyValue> {
    point.attributes.iter().map(|(key, value)| attribute(key, value)).collect()
}

fn nanos(millis: i64) -> u64 {
    u64::try_from(millis).unwrap_or(0).saturating_mul(1_000_000)
}

fn flags(point: &Point) -> u32 {
    if point.is_stale { NO_RECORDED_VALUE } else { 0 }
}

fn number(point: &Point) -> NumberDataPoint {
    let value = match point.value {
        Value::Gauge(value) | Value::Sum(value) if !point.is_stale => Some(number_data_point::Value::AsDouble(value)),
        _ => None,
    };
    NumberDataPoint {
        attributes: attributes(point),
        start_time_unix_nano: nanos(point.start_ms),
        time_unix_nano: nanos(point.time_ms),
        flags: flags(point),
        value,
        ..NumberDataPoint::default()
    }
}

fn distribution(point: &Point) -> HistogramDataPoint {
    let mut data_point = HistogramDataPoint {
        attributes: attributes(point),
        start_time_unix_nano: nanos(point.start_ms),
        time_unix_nano: nanos(point.time_ms),
        flags: flags(point),
        ..HistogramDataPoint::default()
    };
    if let Value::Histogram { bounds, counts, count, sum } = &point.value {
        // Bounds are part of the series, so a marker repeats them.
        data_point.explicit_bounds.clone_from(bounds);
        if !point.is_stale {
            (data_point.count, data_point.sum) = (*count, *sum);
            data_point.bucket_counts.clone_from(counts);
        }
    }
    data_point
}

fn quantiles(point: &Point) -> SummaryDataPoint {
    let mut data_point = SummaryDataPoint {
        attributes: attributes(point),
        start_time_unix_nano: nanos(point.start_ms),
        time_unix_nano: nanos(point.time_ms),
        flags: flags(point),
        ..SummaryDataPoint::default()
    };
    if let (false, Value::Summary { count, sum, quantiles }) = (point.is_stale, &point.value) {
        (data_point.count, data_point.sum) = (*count, *sum);
        let pairs = quantiles.iter().map(|(quantile, value)| ValueAtQuantile { quantile: *quantile, value: *value });
        data_point.quantile_values = pairs.collect();
    }
    data_point
}
