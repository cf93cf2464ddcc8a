//! The stock OpenTelemetry SDK, both transports and both temporalities: what it sent is what SQL says.

use std::time::Duration;

use opentelemetry::{KeyValue, metrics::MeterProvider as _};
use opentelemetry_otlp::{MetricExporter, Protocol, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{
        Aggregation, Instrument, InstrumentKind, PeriodicReader, SdkMeterProvider, Stream, Temporality,
        data::ResourceMetrics, exporter::PushMetricExporter,
    },
};
use serde_json::{Value, json};

use crate::server::Server;

/// The stock exporter, driven on a runtime: the reader's own thread has none, and the HTTP client is an async one.
struct OnRuntime(MetricExporter, tokio::runtime::Handle);

impl PushMetricExporter for OnRuntime {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.1.block_on(self.0.export(metrics))
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.0.temporality()
    }
}

fn provider(server: &Server, grpc: bool, temporality: Temporality, service: &str) -> SdkMeterProvider {
    let builder = MetricExporter::builder().with_temporality(temporality);
    let exporter = if grpc {
        builder.with_tonic().with_endpoint(format!("http://{}", server.otlp_grpc)).build().unwrap()
    } else {
        let endpoint = format!("http://{}/v1/metrics", server.otlp_http);
        builder.with_http().with_protocol(Protocol::HttpBinary).with_endpoint(endpoint).build().unwrap()
    };
    let exporter = OnRuntime(exporter, tokio::runtime::Handle::current());
    let exponential = |instrument: &Instrument| {
        let aggregation = Aggregation::Base2ExponentialHistogram { max_size: 160, max_scale: 20, record_min_max: true };
        let chosen = instrument.kind() == InstrumentKind::Histogram && instrument.name() == "exponential";
        chosen.then(|| Stream::builder().with_aggregation(aggregation).build().unwrap())
    };
    SdkMeterProvider::builder()
        .with_resource(Resource::builder_empty().with_service_name(service.to_owned()).build())
        .with_reader(PeriodicReader::builder(exporter).with_interval(Duration::from_secs(3600)).build())
        .with_view(exponential)
        .build()
}

/// Records on every kind of instrument, in two rounds with an export after each.
fn record(provider: &SdkMeterProvider) {
    let meter = provider.meter("it");
    let counter = meter.u64_counter("counter").build();
    let fractions = meter.f64_counter("fractions").build();
    let level = meter.i64_up_down_counter("level").build();
    let gauge = meter.f64_gauge("gauge").build();
    let explicit = meter.f64_histogram("explicit").with_boundaries(vec![1.0, 5.0]).build();
    let exponential = meter.f64_histogram("exponential").build();
    let _observed =
        meter.u64_observable_counter("observed").with_callback(|observer| observer.observe(42, &[])).build();
    for round in 0..2 {
        let route = [KeyValue::new("route", "/a")];
        counter.add(3, &route);
        fractions.add(0.25, &route);
        level.add(if round == 0 { 10 } else { -4 }, &route);
        gauge.record(f64::from(round) + 0.5, &route);
        for value in [0.5, 2.0, 7.0] {
            explicit.record(value, &route);
            exponential.record(value, &route);
        }
        provider.force_flush().unwrap();
    }
}

/// For cumulative series the last value, for delta series the sum, per metric.
async fn check(server: &Server, service: &str, delta: bool) {
    let of_service = format!(
        "JOIN raw.series d ON p.series_id = d.series_id AND p.date = d.date WHERE d.service_name = '{service}'"
    );
    let total = if delta { "sum" } else { "max" };
    // Up-down counters are cumulative whatever is preferred: 10, then 6.
    let sql = format!(
        "SELECT p.metric, CASE WHEN p.metric IN ('counter', 'fractions', 'observed') THEN {total}(p.value) \
         WHEN p.metric = 'level' THEN min(p.value) ELSE max(p.value) END FROM raw.samples p {of_service} \
         GROUP BY p.metric ORDER BY p.metric"
    );
    let expected = json!([["counter", 6.0], ["fractions", 0.5], ["gauge", 1.5], ["level", 6.0], ["observed", 42.0]]);
    assert_eq!(json!(server.rows(&sql).await), expected, "{service}");
    let sql = format!(
        "SELECT p.metric, {total}(p.count), {total}(p.sum), min(p.min), max(p.max), \
         max(array_to_string(p.bucket_counts, ',')), count(p.scale) > 0 FROM raw.histograms p {of_service} \
         GROUP BY p.metric ORDER BY p.metric"
    );
    let buckets = if delta { "1,1,1" } else { "2,2,2" };
    let expected =
        json!([["explicit", 6, 19.0, 0.5, 7.0, buckets, false], ["exponential", 6, 19.0, 0.5, 7.0, null, true]]);
    assert_eq!(json!(server.rows(&sql).await), expected, "{service}");
}

/// Points and sums of everything stored.
async fn contents(server: &Server) -> Vec<Vec<Value>> {
    let sql = "SELECT 'number', series_id, count(*), sum(value) FROM raw.samples GROUP BY 2 UNION ALL \
               SELECT 'histogram', series_id, sum(count), sum(sum) FROM raw.histograms GROUP BY 2 ORDER BY 1, 2";
    server.rows(sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_instrument_over_both_transports_is_stored_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    let cases = [
        ("grpc-cumulative", true, Temporality::Cumulative),
        ("grpc-delta", true, Temporality::Delta),
        ("http-cumulative", false, Temporality::Cumulative),
        ("http-delta", false, Temporality::Delta),
    ];
    for (service, grpc, temporality) in cases {
        let provider = provider(&server, grpc, temporality, service);
        tokio::task::spawn_blocking(move || record(&provider)).await.unwrap();
    }
    let sent = contents(&server).await;
    for (service, _, temporality) in cases {
        check(&server, service, temporality == Temporality::Delta).await;
    }
    server.flush().await;
    assert_eq!(contents(&server).await, sent);
    server.terminate();
    let server = Server::start(&data);
    assert_eq!(contents(&server).await, sent);
    for (service, _, temporality) in cases {
        check(&server, service, temporality == Temporality::Delta).await;
    }
}
