//! The stock OpenTelemetry SDK with every kind of instrument, point by point: value, kind, temporality, monotonicity.

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::{KeyValue, metrics::MeterProvider as _};
use opentelemetry_otlp::{MetricExporter, Protocol, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{
        Aggregation, Instrument, PeriodicReader, SdkMeterProvider, Stream, Temporality, data::ResourceMetrics,
        exporter::PushMetricExporter,
    },
};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::server::Server;

/// The HTTP client needs a runtime that the SDK's own thread lacks; and once `stopped`, the export that the SDK makes on
/// its way out is left away, as it repeats every cumulative point.
#[derive(Debug)]
struct OnRuntime {
    exporter: MetricExporter,
    runtime: Handle,
    stopped: Arc<AtomicBool>,
}

impl PushMetricExporter for OnRuntime {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        if self.stopped.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut export = pin!(self.exporter.export(metrics));
        poll_fn(|context| {
            let _entered = self.runtime.enter();
            export.as_mut().poll(context)
        })
        .await
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

fn exporter(server: &Server, grpc: bool, temporality: Temporality) -> MetricExporter {
    let builder = MetricExporter::builder().with_temporality(temporality);
    if grpc {
        builder.with_tonic().with_endpoint(format!("http://{}", server.otlp_grpc)).build().unwrap()
    } else {
        let endpoint = format!("http://{}/v1/metrics", server.otlp_http);
        builder.with_http().with_protocol(Protocol::HttpBinary).with_endpoint(endpoint).build().unwrap()
    }
}

fn exponential(instrument: &Instrument) -> Option<Stream> {
    let aggregation = Aggregation::Base2ExponentialHistogram { max_size: 160, max_scale: 20, record_min_max: true };
    let wanted = instrument.name() == "sdk.histogram.exponential";
    wanted.then(|| Stream::builder().with_aggregation(aggregation).build().unwrap())
}

/// Records with every kind of instrument and exports twice, so that delta and cumulative differ.
async fn record(server: &Server, service: &'static str, grpc: bool, temporality: Temporality) {
    let stopped = Arc::new(AtomicBool::new(false));
    let exporter = OnRuntime {
        exporter: exporter(server, grpc, temporality),
        runtime: Handle::current(),
        stopped: Arc::clone(&stopped),
    };
    let provider = SdkMeterProvider::builder()
        .with_resource(Resource::builder_empty().with_service_name(service).build())
        .with_reader(PeriodicReader::builder(exporter).with_interval(Duration::from_secs(3600)).build())
        .with_view(exponential)
        .build();
    let meter = provider.meter("sdk");
    let label = [KeyValue::new("label", "value")];
    let observed = Arc::new(AtomicU64::new(100));
    let callback = || (Arc::clone(&observed), label.clone());
    let (value, labels) = callback();
    let observable = meter.u64_observable_counter("sdk.observable.counter");
    let _counter = observable.with_callback(move |to| to.observe(value.load(Ordering::Relaxed), &labels)).build();
    let (value, labels) = callback();
    let observable = meter.i64_observable_up_down_counter("sdk.observable.updown");
    let to_signed = |value: &AtomicU64| -value.load(Ordering::Relaxed).cast_signed();
    let _updown = observable.with_callback(move |to| to.observe(to_signed(&value), &labels)).build();
    let (value, labels) = callback();
    let observable = meter.f64_observable_gauge("sdk.observable.gauge");
    let half = |value: &AtomicU64| value.load(Ordering::Relaxed) as f64 / 8.0;
    let _gauge = observable.with_callback(move |to| to.observe(half(&value), &labels)).build();

    let counter = meter.u64_counter("sdk.counter.u64").with_unit("{request}").build();
    let counter_f64 = meter.f64_counter("sdk.counter.f64").build();
    let updown = meter.i64_up_down_counter("sdk.updown.i64").build();
    let updown_f64 = meter.f64_up_down_counter("sdk.updown.f64").build();
    let gauge = meter.i64_gauge("sdk.gauge.i64").build();
    let gauge_f64 = meter.f64_gauge("sdk.gauge.f64").build();
    let explicit = meter.f64_histogram("sdk.histogram.explicit").with_boundaries(vec![1.0, 2.0, 4.0]).build();
    let exponential = meter.f64_histogram("sdk.histogram.exponential").build();

    for round in 0..2u64 {
        let scale = round + 1;
        counter.add(3 * scale, &label);
        counter.add(4, &label);
        counter_f64.add(0.25 * scale as f64, &label);
        updown.add(10 - 30 * round.cast_signed(), &label);
        updown_f64.add(-1.5, &label);
        gauge.record(-7 * scale.cast_signed(), &label);
        gauge_f64.record(0.125 * scale as f64, &label);
        for value in [0.5, 1.0, 3.0, 8.0].into_iter().take(4 - round as usize) {
            explicit.record(value, &label);
            exponential.record(value, &label);
        }
        observed.store(100 + 50 * round, Ordering::Relaxed);
        let flushing = provider.clone();
        tokio::task::spawn_blocking(move || flushing.force_flush()).await.unwrap().unwrap();
        // Two exports within one microsecond would be one point.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    stopped.store(true, Ordering::Release);
    tokio::task::spawn_blocking(move || provider.shutdown()).await.unwrap().unwrap();
}

/// `[metric, kind, temporality, monotonic, [first, second]]`. Under "delta", up-down counters stay cumulative.
fn expected_numbers(temporality: Temporality) -> Vec<Value> {
    let delta = temporality == Temporality::Delta;
    let counter = |first: f64, increase: f64| [first, if delta { increase } else { first + increase }];
    let word = if delta { "delta" } else { "cumulative" };
    vec![
        json!(["sdk.counter.f64", "sum", word, true, counter(0.25, 0.5)]),
        json!(["sdk.counter.u64", "sum", word, true, counter(7.0, 10.0)]),
        json!(["sdk.gauge.f64", "gauge", "", false, [0.125, 0.25]]),
        json!(["sdk.gauge.i64", "gauge", "", false, [-7.0, -14.0]]),
        json!(["sdk.observable.counter", "sum", word, true, counter(100.0, 50.0)]),
        json!(["sdk.observable.gauge", "gauge", "", false, [12.5, 18.75]]),
        json!(["sdk.observable.updown", "sum", "cumulative", false, [-100.0, -150.0]]),
        json!(["sdk.updown.f64", "sum", "cumulative", false, [-1.5, -3.0]]),
        json!(["sdk.updown.i64", "sum", "cumulative", false, [10.0, -10.0]]),
    ]
}

async fn check_numbers(server: &Server, service: &str, temporality: Temporality) {
    let query = format!(
        "SELECT s.metric, d.kind, d.temporality, d.monotonic, array_agg(s.value ORDER BY s.time) \
         FROM raw.samples s JOIN raw.series d ON s.series_id = d.series_id AND s.metric = d.metric AND s.date = d.date \
         WHERE d.service_name = '{service}' AND d.attributes['label'] = 'value' \
         GROUP BY s.metric, d.kind, d.temporality, d.monotonic ORDER BY s.metric"
    );
    assert_eq!(json!(server.rows(&query).await), json!(expected_numbers(temporality)), "{service}");
}

/// Both histograms get 0.5, 1, 3, 8 and then 0.5, 1, 3.
async fn check_histograms(server: &Server, service: &str, temporality: Temporality) {
    let delta = temporality == Temporality::Delta;
    let word = if delta { "delta" } else { "cumulative" };
    let totals =
        [json!([4, 12.5, 0.5, 8.0]), if delta { json!([3, 4.5, 0.5, 3.0]) } else { json!([7, 17.0, 0.5, 8.0]) }];
    let buckets = [json!([2, 0, 1, 1]), if delta { json!([2, 0, 1, 0]) } else { json!([4, 0, 2, 1]) }];
    let query = format!(
        "SELECT h.metric, d.kind, d.temporality, d.bounds, h.count, h.sum, h.min, h.max, h.bucket_counts, h.scale, \
         h.zero_count, h.positive_counts, h.negative_counts \
         FROM raw.histograms h JOIN raw.series d ON h.series_id = d.series_id AND h.metric = d.metric AND h.date = d.date \
         WHERE d.service_name = '{service}' ORDER BY h.metric, h.time"
    );
    let rows = server.rows(&query).await;
    assert_eq!(rows.len(), 4, "{service}: {rows:?}");
    for (index, row) in rows.iter().enumerate() {
        let (is_explicit, round) = (index < 2, index % 2);
        let name = if is_explicit { "sdk.histogram.explicit" } else { "sdk.histogram.exponential" };
        let kind = if is_explicit { "histogram" } else { "exponential_histogram" };
        assert_eq!((&row[0], &row[1], &row[2]), (&json!(name), &json!(kind), &json!(word)), "{service}");
        let found = json!([row[4], row[5], row[6], row[7]]);
        assert_eq!(found, totals[round], "{service} {name} point {round}: count, sum, min, max");
        if is_explicit {
            assert_eq!((&row[3], &row[8]), (&json!([1.0, 2.0, 4.0]), &buckets[round]), "{service}");
        } else {
            let positive: i64 = row[11].as_array().unwrap().iter().map(|count| count.as_i64().unwrap()).sum();
            assert_eq!(Some(positive), row[4].as_i64(), "{service}: every value is in a positive bucket");
            assert!(row[9].as_i64().is_some_and(|scale| (0..=20).contains(&scale)), "{service}: {row:?}");
            assert_eq!(row[10], 0, "{service}: zero count");
        }
    }
}

async fn check_all(server: &Server) {
    for (service, _, temporality) in SERVICES {
        check_numbers(server, service, temporality).await;
        check_histograms(server, service, temporality).await;
    }
    // Nine number metrics and two histograms, twice each, from every service; and nothing else.
    assert_eq!(server.rows("SELECT count(*) FROM raw.samples").await[0][0], 4 * 9 * 2);
    assert_eq!(server.rows("SELECT count(*) FROM raw.histograms").await[0][0], 4 * 2 * 2);
}

const SERVICES: [(&str, bool, Temporality); 4] = [
    ("grpc-cumulative", true, Temporality::Cumulative),
    ("grpc-delta", true, Temporality::Delta),
    ("http-cumulative", false, Temporality::Cumulative),
    ("http-delta", false, Temporality::Delta),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_point_of_every_instrument_is_stored_as_recorded() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let server = Server::start(&data);
    for (service, grpc, temporality) in SERVICES {
        record(&server, service, grpc, temporality).await;
    }
    check_all(&server).await;
    server.flush().await;
    assert_ne!(server.rows("SELECT files FROM system.tables WHERE name = 'samples'").await[0][0], 0);
    check_all(&server).await;
    server.terminate();
    let server = Server::start(&data);
    check_all(&server).await;
}
