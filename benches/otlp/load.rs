//! What the clients send: OTLP requests of GPU nodes, gzipped as collectors do, one point per series and request.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
        HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
        exponential_histogram_data_point::Buckets, metric::Data, number_data_point::Value,
    },
    resource::v1::Resource,
};
use prost::Message as _;

/// Clients that send at the same time.
pub(crate) const CLIENTS: u64 = 4;

/// Hosts of a client; all of them are in each of its requests, as a collector batches them.
const HOSTS: u64 = 100;
const GPUS: u64 = 10;
/// Between the points of a series.
pub(crate) const TICK_NS: u64 = 15_000_000_000;

/// Metric, unit, whether it is a counter.
const METRICS: [(&str, &str, bool); 5] = [
    ("hw.gpu.utilization", "1", false),
    ("hw.gpu.memory.usage", "By", false),
    ("hw.power", "W", false),
    ("hw.temperature", "Cel", false),
    ("hw.energy", "J", true),
];
/// Upper bounds in seconds of `http.server.request.duration`, as the semantic conventions advise.
const BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Kinds of points in the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kinds {
    /// Gauges and sums.
    Numbers,
    /// Of 1 000 points 74 are histograms, half of them explicit and half exponential.
    Mix,
}

impl Kinds {
    /// Its name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Numbers => "gauges and sums",
            Self::Mix => "gauges, sums and 7 % histograms",
        }
    }

    /// Histogram series of each shape on a host.
    fn routes(self) -> u64 {
        if self == Self::Mix { 2 } else { 0 }
    }

    /// Points of one request, one per series of the client.
    pub(crate) fn points_per_request(self) -> u64 {
        HOSTS * (GPUS * METRICS.len() as u64 + 2 * self.routes())
    }
}

/// Requests of one client.
pub(crate) struct Load {
    request: ExportMetricsServiceRequest,
    walks: Vec<i64>,
    start_ns: u64,
    requests_made: u64,
    random: u64,
}

/// The clients' loads; the points of their first requests are one tick later than `start_ns`.
pub(crate) fn loads(kinds: Kinds, start_ns: u64) -> Vec<Load> {
    (0..CLIENTS).map(|client| Load::new(kinds, client, start_ns)).collect()
}

impl Load {
    fn new(kinds: Kinds, client: u64, start_ns: u64) -> Self {
        let resource_metrics = (0..HOSTS).map(|host| node(kinds, client, host, start_ns)).collect();
        Self {
            request: ExportMetricsServiceRequest { resource_metrics },
            walks: vec![500; kinds.points_per_request() as usize],
            start_ns,
            requests_made: 0,
            random: 0x9e37_79b9_7f4a_7c15 + client,
        }
    }

    /// The gzipped body of the next request; its points follow those of the one before.
    ///
    /// # Errors
    /// None that memory does not have.
    pub(crate) fn next_body(&mut self) -> anyhow::Result<Vec<u8>> {
        let time_ns = self.start_ns + (self.requests_made + 1) * TICK_NS;
        let mut walks = self.walks.iter_mut();
        let mut step = || random_step(&mut self.random);
        let scopes = self.request.resource_metrics.iter_mut().flat_map(|resource| &mut resource.scope_metrics);
        for (number, metric) in scopes.flat_map(|scope| &mut scope.metrics).enumerate() {
            match &mut metric.data {
                Some(Data::Gauge(Gauge { data_points }) | Data::Sum(Sum { data_points, .. })) => {
                    for (point, walk) in data_points.iter_mut().zip(&mut walks) {
                        point.time_unix_nano = time_ns;
                        point.value = Some(value(number % METRICS.len(), walk, step()));
                    }
                }
                Some(Data::Histogram(Histogram { data_points, .. })) => {
                    data_points.iter_mut().for_each(|point| observe(point, time_ns, &mut step));
                }
                Some(Data::ExponentialHistogram(ExponentialHistogram { data_points, .. })) => {
                    data_points.iter_mut().for_each(|point| observe_exponential(point, time_ns, &mut step));
                }
                _ => {}
            }
        }
        self.requests_made += 1;
        // Level 1: what the server pays for is the same, and the clients leave it the cores.
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&self.request.encode_to_vec())?;
        Ok(encoder.finish()?)
    }
}

/// Pseudo-random, −128 to 127 (xorshift64).
fn random_step(random: &mut u64) -> i64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    (*random >> 56) as i64 - 128
}

/// The next value of a series, with the resolution that such sensors have.
fn value(metric: usize, walk: &mut i64, step: i64) -> Value {
    if METRICS[metric].2 {
        *walk += 5000 + step;
        return Value::AsInt(*walk);
    }
    *walk = (*walk + step / 4).clamp(0, 1000);
    match metric {
        0 => Value::AsDouble((*walk / 10) as f64 / 100.0),
        1 => Value::AsInt(*walk << 26),
        2 => Value::AsDouble((70_000 + *walk * 630 + step) as f64 / 1000.0),
        _ => Value::AsDouble((30 + *walk / 20) as f64),
    }
}

/// Adds some requests of about 50 ms to a cumulative histogram.
fn observe(point: &mut HistogramDataPoint, time_ns: u64, step: &mut impl FnMut() -> i64) {
    point.time_unix_nano = time_ns;
    for _ in 0..4 {
        let bucket = (4 + step() / 40).unsigned_abs() as usize;
        let requests = (step() + 130).unsigned_abs();
        point.bucket_counts[bucket] += requests;
        point.count += requests;
        point.sum = point.sum.map(|sum| sum + requests as f64 * BOUNDS[bucket]);
    }
}

fn observe_exponential(point: &mut ExponentialHistogramDataPoint, time_ns: u64, step: &mut impl FnMut() -> i64) {
    point.time_unix_nano = time_ns;
    let Some(buckets) = &mut point.positive else { return };
    for _ in 0..6 {
        let bucket = ((step() + 128) as usize * buckets.bucket_counts.len()) / 256;
        let requests = (step() + 130).unsigned_abs();
        buckets.bucket_counts[bucket] += requests;
        point.count += requests;
        point.sum = point.sum.map(|sum| sum + requests as f64 * 0.05);
    }
}

fn attribute(key: &str, value: impl Into<String>) -> KeyValue {
    let value = any_value::Value::StringValue(value.into());
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// Everything one host sends in a request.
fn node(kinds: Kinds, client: u64, host: u64, start_ns: u64) -> ResourceMetrics {
    let name = format!("gpu-{client:02}-{host:03}");
    let attributes = vec![
        attribute("service.name", "gpu-node"),
        attribute("service.instance.id", format!("{name}-agent")),
        attribute("host.name", name),
        attribute("k8s.cluster.name", "bench"),
        attribute("k8s.node.name", format!("node-{client:02}-{host:03}.bench.internal")),
        attribute("deployment.environment.name", "production"),
        attribute("cloud.region", "eu-central-1"),
        attribute("driftwatt.team", "search"),
    ];
    let mut metrics: Vec<_> = (0..METRICS.len()).map(|metric| numbers(client, host, metric, start_ns)).collect();
    if kinds == Kinds::Mix {
        metrics.extend(histograms(kinds, start_ns));
    }
    let scope = InstrumentationScope { name: "bench".into(), version: "1".into(), ..InstrumentationScope::default() };
    ResourceMetrics {
        resource: Some(Resource { attributes, ..Resource::default() }),
        scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }],
        ..ResourceMetrics::default()
    }
}

fn numbers(client: u64, host: u64, metric: usize, start_ns: u64) -> Metric {
    let (name, unit, counter) = METRICS[metric];
    let point = |gpu| NumberDataPoint {
        attributes: vec![
            attribute("hw.id", format!("GPU-{client:04x}-{host:04x}-{gpu:08x}")),
            attribute("hw.model", "NVIDIA H100 80GB HBM3"),
        ],
        start_time_unix_nano: if counter { start_ns } else { 0 },
        ..NumberDataPoint::default()
    };
    let data_points = (0..GPUS).map(point).collect();
    let aggregation_temporality = AggregationTemporality::Cumulative.into();
    let data = match counter {
        true => Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic: true }),
        false => Data::Gauge(Gauge { data_points }),
    };
    Metric { name: name.into(), unit: unit.into(), data: Some(data), ..Metric::default() }
}

/// Request durations, as an explicit and as an exponential histogram.
fn histograms(kinds: Kinds, start_time_unix_nano: u64) -> [Metric; 2] {
    let aggregation_temporality = AggregationTemporality::Cumulative.into();
    let attributes = |route| vec![attribute("http.route", format!("/v{route}/generate"))];
    let explicit = |route| HistogramDataPoint {
        attributes: attributes(route),
        start_time_unix_nano,
        sum: Some(0.0),
        explicit_bounds: BOUNDS.to_vec(),
        bucket_counts: vec![0; BOUNDS.len() + 1],
        ..HistogramDataPoint::default()
    };
    let exponential = |route| ExponentialHistogramDataPoint {
        attributes: attributes(route),
        start_time_unix_nano,
        sum: Some(0.0),
        scale: 3,
        positive: Some(Buckets { offset: -60, bucket_counts: vec![0; 60] }),
        ..ExponentialHistogramDataPoint::default()
    };
    let routes = 0..kinds.routes();
    let explicit = Histogram { data_points: routes.clone().map(explicit).collect(), aggregation_temporality };
    let exponential = ExponentialHistogram { data_points: routes.map(exponential).collect(), aggregation_temporality };
    let metric =
        |name: &str, data| Metric { name: name.into(), unit: "s".into(), data: Some(data), ..Metric::default() };
    [
        metric("http.server.request.duration", Data::Histogram(explicit)),
        metric("gen_ai.server.request.duration", Data::ExponentialHistogram(exponential)),
    ]
}
