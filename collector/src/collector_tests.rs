//! One collection of this machine, seen by an exporter that writes down what it is given.

use std::{
    collections::BTreeMap,
    sync::{Mutex, atomic::AtomicBool},
    time::Duration,
};

use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::{
        Temporality,
        data::{AggregatedMetrics, MetricData, ResourceMetrics},
    },
};

use super::*;
use crate::{
    catalog::{CATALOG, Kind},
    config::RawConfig,
    reading::Sample,
};

#[derive(Debug, Clone, Default)]
struct Seen {
    unit: String,
    kind: Option<Kind>,
    points: Vec<(Vec<KeyValue>, f64)>,
}

#[derive(Debug, Clone, Default)]
struct Recorder {
    metrics: Arc<Mutex<BTreeMap<String, Seen>>>,
    resource: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Recorder {
    fn seen(&self) -> BTreeMap<String, Seen> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn read<T: Copy>(data: &MetricData<T>, float: impl Fn(T) -> f64) -> (Kind, Vec<(Vec<KeyValue>, f64)>) {
    match data {
        MetricData::Gauge(gauge) => {
            (Kind::Gauge, gauge.data_points().map(|p| (p.attributes().cloned().collect(), float(p.value()))).collect())
        }
        MetricData::Sum(sum) => {
            assert_eq!(sum.temporality(), Temporality::Cumulative);
            let kind = if sum.is_monotonic() { Kind::Counter } else { Kind::UpDownCounter };
            (kind, sum.data_points().map(|p| (p.attributes().cloned().collect(), float(p.value()))).collect())
        }
        _ => panic!("the collector has no histograms"),
    }
}

impl PushMetricExporter for Recorder {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let attributes = metrics.resource().iter().map(|(key, value)| (key.to_string(), value.to_string()));
        *self.resource.lock().unwrap() = attributes.collect();
        for metric in metrics.scope_metrics().flat_map(|scope| scope.metrics()) {
            let (kind, points) = match metric.data() {
                AggregatedMetrics::F64(data) => read(data, |v| v),
                AggregatedMetrics::U64(data) => read(data, |v| v as f64),
                AggregatedMetrics::I64(data) => read(data, |v| v as f64),
            };
            let seen = Seen { unit: metric.unit().to_owned(), kind: Some(kind), points };
            self.metrics.lock().unwrap().insert(metric.name().to_owned(), seen);
        }
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

async fn collect_once() -> Recorder {
    let recorder = Recorder::default();
    let raw = RawConfig {
        interval: Some("1h".into()),
        resource: BTreeMap::from([("team".into(), "ops".into()), ("host.name".into(), "node-1".into())]),
        nvml_library: Some("/nonexistent/libnvidia-ml.so.1".into()),
        ..RawConfig::default()
    };
    let collector = Collector::start_with(&raw.validate().unwrap(), recorder.clone(), None).unwrap();
    collector.flush().await.unwrap();
    collector.shutdown().await.unwrap();
    recorder
}

#[tokio::test]
async fn one_collection_has_the_catalogued_names_units_and_kinds() {
    let seen = collect_once().await.seen();
    for name in [
        "system.cpu.utilization",
        "system.memory.usage",
        "system.memory.utilization",
        "system.memory.limit",
        "process.cpu.utilization",
        "process.memory.usage",
        "driftwatt.collector.scrape.duration",
        "driftwatt.collector.snapshot.age",
        "driftwatt.collector.export.errors",
    ] {
        assert!(seen.contains_key(name), "{name} is missing");
    }
    if cfg!(target_os = "linux") {
        for name in ["system.cpu.time", "driftwatt.cpu.core.utilization", "driftwatt.collector.process.cpu.time"] {
            assert!(seen.contains_key(name), "{name} is missing");
        }
        let cores = seen["driftwatt.cpu.core.utilization"].points.len() as f64;
        assert_eq!(seen["system.cpu.logical.count"].points, [(vec![], cores)]);
    }
    for metric in CATALOG {
        if let Some(seen) = seen.get(metric.name) {
            assert_eq!((seen.unit.as_str(), seen.kind), (metric.unit, Some(metric.kind)), "{}", metric.name);
            assert!(seen.points.iter().all(|(_, value)| value.is_finite() && *value >= 0.0), "{}", metric.name);
        }
        if metric.unit == "1" {
            let points = seen.get(metric.name).map(|seen| seen.points.clone()).unwrap_or_default();
            assert!(points.iter().all(|(_, value)| *value <= 1.0), "{}: {points:?}", metric.name);
        }
    }
}

#[tokio::test]
async fn memory_states_add_up_to_the_limit() {
    let seen = collect_once().await.seen();
    let sum: f64 = seen["system.memory.usage"].points.iter().map(|(_, value)| value).sum();
    assert_eq!(sum, seen["system.memory.limit"].points[0].1);
}

#[tokio::test]
async fn without_the_nvidia_library_there_is_no_gpu_metric_and_a_metric_says_so() {
    let seen = collect_once().await.seen();
    let gpu = |name: &&String| {
        name.starts_with("hw.") || name.starts_with("driftwatt.gpu.") || *name == "driftwatt.collector.gpu.device.count"
    };
    assert_eq!(seen.keys().filter(gpu).count(), 0, "{:?}", seen.keys());
    assert_eq!(seen["driftwatt.collector.gpu.library_available"].points, [(vec![], 0.0)]);
}

#[tokio::test]
async fn the_resource_names_service_instance_and_host_and_takes_settings() {
    let recorder = collect_once().await;
    let resource = recorder.resource.lock().unwrap().clone();
    assert_eq!(resource["service.name"], "driftwatt-collector");
    assert!(!resource["service.instance.id"].is_empty());
    assert_eq!(resource["host.name"], "node-1");
    assert_eq!(resource["team"], "ops");
}

#[test]
fn outside_a_runtime_the_collector_says_what_it_needs() {
    let config = RawConfig::default().validate().unwrap();
    assert!(matches!(Collector::start(config), Err(Error::NoRuntime)));
}

#[test]
fn the_documentation_lists_every_metric_with_its_unit() {
    let table = include_str!("../../docs/collector.md");
    let own = [
        ("driftwatt.collector.scrape.duration", "s"),
        ("driftwatt.collector.snapshot.age", "s"),
        ("driftwatt.collector.scrape.errors", "{error}"),
        ("driftwatt.collector.export.errors", "{error}"),
        ("driftwatt.collector.buffer.usage", "By"),
        ("driftwatt.collector.buffer.age", "s"),
        ("driftwatt.collector.buffer.dropped", "{request}"),
    ];
    for (name, unit) in CATALOG.iter().map(|metric| (metric.name, metric.unit)).chain(own) {
        let row = format!("| `{name}` | `{unit}` |");
        assert!(table.contains(&row), "docs/collector.md has no row that starts with {row}");
    }
}

fn unplugged(present: &AtomicBool) -> Sample {
    let mut sample = Sample::default();
    if present.load(Ordering::SeqCst) {
        for name in ["hw.gpu.utilization", "hw.gpu.memory.usage", "hw.energy"] {
            sample.push(name, 1.0, &[KeyValue::new("hw.id", "GPU-1")]);
        }
    }
    sample
}

#[tokio::test]
async fn a_device_that_is_gone_is_not_reported_with_its_last_values() {
    let present = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&present);
    let limits = Limits { fresh: Duration::ZERO, ..Limits::for_interval(Duration::from_secs(60)) };
    let watch = Watch::spawn("test", limits, move || move || unplugged(&seen)).unwrap();
    let recorder = Recorder::default();
    let reader = PeriodicReader::builder(recorder.clone()).with_interval(Duration::from_secs(3600)).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).build();
    instruments::register(&provider.meter("test"), &[watch]);
    provider.force_flush().unwrap();
    assert_eq!(recorder.seen().len(), 3);

    recorder.metrics.lock().unwrap().clear();
    present.store(false, Ordering::SeqCst);
    provider.force_flush().unwrap();
    assert_eq!(recorder.seen().keys().count(), 0, "the SDK must not repeat values that were not observed");
}
