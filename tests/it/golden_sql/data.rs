//! The points that the suite asks about; `tests/golden/sql/README.md` says the same in words.

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::KeyValue,
    metrics::v1::{
        AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
        HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint,
        exponential_histogram_data_point::Buckets, metric::Data, number_data_point::Value,
        summary_data_point::ValueAtQuantile,
    },
    resource::v1::Resource,
};
use prost::Message as _;

use crate::{
    otlp::{label, post},
    server::Server,
};

/// 2026-11-02T10:00:00Z, a Monday.
const START: u64 = 1_793_613_600_000_000_000;
const MINUTE: u64 = 60_000_000_000;
/// 2100-01-01: refused, as it is to come.
const FUTURE: u64 = 4_102_444_800_000_000_000;
/// What DCGM writes for "no value".
const BLANK: f64 = 9_223_372_036_854_775_794.0;

fn at(minute: f64) -> u64 {
    START.saturating_add_signed((minute * MINUTE as f64) as i64)
}

/// A value, or a staleness marker.
fn point(minute: f64, value: Option<f64>, start: Option<f64>, attributes: &[KeyValue]) -> NumberDataPoint {
    NumberDataPoint {
        time_unix_nano: at(minute),
        start_time_unix_nano: start.map_or(0, at),
        value: value.map(Value::AsDouble),
        flags: u32::from(value.is_none()),
        attributes: attributes.to_vec(),
        ..NumberDataPoint::default()
    }
}

fn metric(name: &str, unit: &str, data: Data) -> Metric {
    Metric { name: name.to_owned(), unit: unit.to_owned(), data: Some(data), ..Metric::default() }
}

/// A gauge of `(minute, value)`.
fn gauge(name: &str, unit: &str, attributes: &[KeyValue], points: &[(u32, Option<f64>)]) -> Metric {
    let points = points.iter().map(|(minute, value)| point(f64::from(*minute), *value, None, attributes));
    metric(name, unit, Data::Gauge(Gauge { data_points: points.collect() }))
}

fn sum(name: &str, temporality: AggregationTemporality, data_points: Vec<NumberDataPoint>) -> Metric {
    let (is_monotonic, aggregation_temporality) = (true, temporality as i32);
    metric(name, "1", Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic }))
}

fn explicit(
    minute: u32,
    start: f64,
    bounds: &[f64],
    counts: &[u64],
    sum: f64,
    range: Option<(f64, f64)>,
) -> HistogramDataPoint {
    HistogramDataPoint {
        time_unix_nano: at(f64::from(minute)),
        start_time_unix_nano: at(start),
        count: counts.iter().sum(),
        sum: Some(sum),
        min: range.map(|(min, _)| min),
        max: range.map(|(_, max)| max),
        explicit_bounds: bounds.to_vec(),
        bucket_counts: counts.to_vec(),
        ..HistogramDataPoint::default()
    }
}

fn histogram(name: &str, temporality: AggregationTemporality, data_points: Vec<HistogramDataPoint>) -> Metric {
    metric(name, "s", Data::Histogram(Histogram { data_points, aggregation_temporality: temporality as i32 }))
}

fn exponential(
    minute: u32,
    scale: i32,
    zero: (u64, f64),
    positive: &[u64],
    negative: &[u64],
    sum: f64,
) -> ExponentialHistogramDataPoint {
    // From (1/base, 1] on, in each direction.
    let buckets = |counts: &[u64]| Some(Buckets { offset: -1, bucket_counts: counts.to_vec() });
    ExponentialHistogramDataPoint {
        time_unix_nano: at(f64::from(minute)),
        start_time_unix_nano: at(f64::from(minute) - 1.0),
        count: zero.0 + positive.iter().chain(negative).sum::<u64>(),
        sum: Some(sum),
        scale,
        zero_count: zero.0,
        zero_threshold: zero.1,
        positive: buckets(positive),
        negative: buckets(negative),
        ..ExponentialHistogramDataPoint::default()
    }
}

fn resource(service: &str, instance: &str, host: &str, namespace: &str, region: &str, team: &str) -> Vec<KeyValue> {
    vec![
        label("service.name", service),
        label("service.instance.id", instance),
        label("host.name", host),
        label("k8s.namespace.name", namespace),
        label("cloud.region", region),
        label("driftwatt.team", team),
    ]
}

fn chat_1() -> Vec<Metric> {
    use AggregationTemporality::{Cumulative, Delta};
    let gpu = [label("hw.id", "GPU-a"), label("hw.model", "H100"), label("hw.type", "gpu")];
    let ramp: Vec<_> = (0..10).map(|minute| (minute, Some(f64::from(minute) / 16.0))).collect();
    let requests = [0.0, 10.0, 20.0, 30.0, 5.0, 15.0, 25.0, 35.0, 45.0, 55.0];
    let route = [label("route", "/a")];
    let started = |minute: usize| Some(if minute < 4 { -1.0 } else { 3.5 });
    let requests = requests.iter().enumerate().map(|(n, value)| point(n as f64, Some(*value), started(n), &route));
    let tokens = (0..10u32).map(|n| point(n.into(), Some(f64::from(5 * (n + 1))), Some(f64::from(n) - 1.0), &[]));
    let used: Vec<_> = (0..4).map(|minute| (minute, Some(1024.0 * f64::from(minute + 1)))).collect();
    let bounds = [1.0, 2.0, 4.0];
    vec![
        gauge("hw.gpu.utilization", "1", &gpu, &ramp),
        sum("http.requests", Cumulative, requests.collect()),
        sum("tokens.used", Delta, tokens.collect()),
        gauge("system.memory.usage", "By", &[label("state", "used")], &used),
        gauge("system.memory.usage", "By", &[label("state", "free")], &[(0, Some(4096.0)), (3, Some(2048.0))]),
        histogram(
            "http.server.request.duration",
            Delta,
            vec![
                explicit(0, -1.0, &[0.125, 0.25, 1.0], &[1, 2, 1, 0], 1.0, None),
                explicit(1, 0.0, &[0.125, 0.25, 1.0], &[0, 4, 2, 2], 5.0, None),
            ],
        ),
        histogram(
            "rpc.duration",
            Cumulative,
            vec![
                explicit(0, -1.0, &bounds, &[1, 2, 3, 4], 20.0, Some((0.5, 9.0))),
                explicit(1, -1.0, &bounds, &[3, 4, 5, 4], 30.0, Some((0.25, 9.0))),
                explicit(2, 1.5, &bounds, &[1, 2, 2, 0], 9.0, Some((0.5, 3.0))),
            ],
        ),
    ]
}

fn chat_2() -> Vec<Metric> {
    use AggregationTemporality::{Cumulative, Delta};
    let gpu = [label("UUID", "GPU-b"), label("modelName", "A100")];
    let used = [(0, 50.0), (1, 50.0), (2, 50.0), (6, 25.0), (7, 25.0), (8, 25.0), (9, 25.0)];
    let mut used: Vec<_> = used.iter().map(|(minute, value)| (*minute, Some(*value))).collect();
    used.push((3, None));
    let power: Vec<_> = (0..10).map(|minute| (minute, Some(if minute == 5 { BLANK } else { 300.0 }))).collect();
    let waiting = [0.0, 2.0, 4.0, 2.0, 0.0];
    let waiting: Vec<_> = (0..5).map(|minute| (minute, Some(waiting[minute as usize]))).collect();
    let requests =
        (0..10u32).map(|n| point(n.into(), Some(f64::from(100 + 10 * n)), Some(-60.0), &[label("route", "/a")]));
    let quantiles = [(0.5, 2.0), (0.99, 4.0)].map(|(quantile, value)| ValueAtQuantile { quantile, value });
    let summary = SummaryDataPoint {
        time_unix_nano: START,
        count: 4,
        sum: 10.0,
        quantile_values: quantiles.to_vec(),
        ..SummaryDataPoint::default()
    };
    let latencies = vec![
        exponential(0, 0, (0, 0.0), &[1, 2, 1], &[], 5.0),
        exponential(1, 0, (2, 0.001), &[2, 3, 0, 1, 4], &[], 100.0),
        exponential(2, 1, (0, 0.0), &[0, 5], &[], 4.0),
        exponential(3, 0, (0, 0.0), &[], &[1, 2, 1], -5.0),
    ];
    let latencies = ExponentialHistogram { data_points: latencies, aggregation_temporality: Delta as i32 };
    vec![
        gauge("DCGM_FI_DEV_GPU_UTIL", "", &gpu, &used),
        gauge("DCGM_FI_DEV_POWER_USAGE", "", &gpu, &power),
        gauge("vllm:num_requests_waiting", "", &[label("model_name", "llama")], &waiting),
        sum("http.requests", Cumulative, requests.collect()),
        histogram(
            "http.server.request.duration",
            Delta,
            vec![explicit(0, -1.0, &[0.125, 0.25, 1.0], &[2, 2, 0, 0], 0.5, None)],
        ),
        metric("gen.latency", "s", Data::ExponentialHistogram(latencies)),
        metric("batch.size", "1", Data::Summary(Summary { data_points: vec![summary] })),
    ]
}

fn train_1() -> Vec<Metric> {
    let model = [label("driftwatt.model.name", "bert"), label("driftwatt.model.version", "v2")];
    vec![
        gauge("driftwatt.model.accuracy", "1", &model, &[(0, Some(0.5)), (1, Some(0.75))]),
        gauge("driftwatt.input.length", "{token}", &model, &[(0, Some(128.0)), (1, Some(256.0)), (2, Some(64.0))]),
    ]
}

/// Sends everything. One point is of the year 2100 and refused.
pub(crate) async fn send(server: &Server) {
    let late =
        NumberDataPoint { time_unix_nano: FUTURE, value: Some(Value::AsDouble(1.0)), ..NumberDataPoint::default() };
    let late = metric("too.late", "1", Data::Gauge(Gauge { data_points: vec![late] }));
    let sent = [
        (resource("chat", "chat-1", "node-a", "prod", "eu", "search"), chat_1()),
        (resource("chat", "chat-2", "node-b", "prod", "us", "search"), chat_2()),
        (resource("train", "train-1", "node-b", "lab", "us", "research"), train_1()),
        (vec![], vec![late]),
    ];
    for (attributes, metrics) in sent {
        let resource_metrics = vec![ResourceMetrics {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_metrics: vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }],
            ..ResourceMetrics::default()
        }];
        let body = ExportMetricsServiceRequest { resource_metrics }.encode_to_vec();
        let (status, answer) = post(&reqwest::Client::new(), &server.otlp_http, body, &[]).await.unwrap();
        assert_eq!(status, 200, "{}\n{}", String::from_utf8_lossy(&answer), server.log());
    }
}
