//! Decoding of one request: 10 000 gauge points in 500 series, all known after the first round.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use driftwatt_ingest::{Config, Decoder};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    metrics::v1::{Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric, number_data_point},
    resource::v1::Resource,
};
use prost::Message;

const NOW_US: i64 = 1_800_000_000_000_000;
const METRICS: u64 = 10;
const SERIES_PER_METRIC: u64 = 50;
const POINTS_PER_SERIES: u64 = 20;

fn attribute(key: &str, value: String) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value)) });
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

fn metric(index: u64) -> Metric {
    let data_points = (0..SERIES_PER_METRIC * POINTS_PER_SERIES)
        .map(|point| NumberDataPoint {
            attributes: vec![
                attribute("hw.id", format!("GPU-{:08}", point % SERIES_PER_METRIC)),
                attribute("hw.model", "NVIDIA H100".into()),
            ],
            time_unix_nano: (NOW_US as u64 - point / SERIES_PER_METRIC * 15_000_000) * 1000,
            value: Some(number_data_point::Value::AsDouble(point as f64 / 7.0)),
            ..NumberDataPoint::default()
        })
        .collect();
    let data = Some(metric::Data::Gauge(Gauge { data_points }));
    Metric { name: format!("hw.gpu.metric_{index}"), unit: "1".into(), data, ..Metric::default() }
}

fn request() -> Vec<u8> {
    let scope_metrics = vec![ScopeMetrics { metrics: (0..METRICS).map(metric).collect(), ..ScopeMetrics::default() }];
    let attributes = vec![attribute("service.name", "bench".into()), attribute("host.name", "node-1".into())];
    let resource = Some(Resource { attributes, ..Resource::default() });
    let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
}

fn decode(criterion: &mut Criterion) {
    let bytes = request();
    let decoder = Decoder::new(&Config { now: || NOW_US, ..Config::default() });
    let decoded = decoder.decode(&bytes).expect("the request is valid");
    assert_eq!((decoded.batch.point_count(), decoded.rejected_count), (10_000, 0));
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(METRICS * SERIES_PER_METRIC * POINTS_PER_SERIES));
    group.bench_function("10_000 points in 500 series", |bencher| bencher.iter(|| decoder.decode(&bytes)));
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
