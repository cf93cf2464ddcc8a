//! What the containers of a simulated host ask for and use: each service runs in a pod on every host that it has cards of.

use driftwatt_analyze::simulated_fleet::Rng;
use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    metrics::v1::{Metric, NumberDataPoint, number_data_point::Value},
};

use super::{
    layout::{SERVICES, Service},
    load::{HOUR_NANOS, MINUTE_NANOS, load},
};
use crate::otlp::{attribute, gauge, point, up_down};

/// Minutes between two points.
const INTERVAL_MINUTES: u64 = 5;
/// Points that a pod sends in an hour: eight metrics.
pub(super) const POINTS_PER_HOUR: u64 = 8 * 60 / INTERVAL_MINUTES;
/// When a container of `batch-embed` is killed for lack of memory, hours after the start of the week, and on which host.
const KILLED: (u64, usize) = (100, 7);
const GIB: f64 = 1_073_741_824.0;

/// What the container of a service asks for and uses.
#[derive(Debug, Clone, Copy)]
struct Container {
    /// Requests: CPUs, and GiB, which is also the limit of memory. The limit of CPU is twice the request.
    request: (f64, f64),
    /// CPUs at no load and at full load.
    cpu: (f64, f64),
    /// GiB at no load and at full load.
    memory: (f64, f64),
}

/// Of each of the services, in their order: far too large, too large of both but less so, about right, and too little memory.
const CONTAINERS: [Container; 4] = [
    Container { request: (32.0, 256.0), cpu: (1.0, 8.0), memory: (70.0, 90.0) },
    Container { request: (8.0, 128.0), cpu: (0.5, 4.0), memory: (50.0, 60.0) },
    Container { request: (8.0, 32.0), cpu: (1.0, 6.5), memory: (20.0, 26.0) },
    Container { request: (1.0, 16.0), cpu: (0.2, 0.8), memory: (13.0, 15.0) },
];

/// The pod of `service` on the host called `host`.
pub(super) fn pod_attributes(service: &Service, host: &str) -> Vec<KeyValue> {
    vec![
        attribute("k8s.namespace.name", "simulated-fleet"),
        attribute("k8s.deployment.name", service.name),
        attribute("k8s.pod.name", format!("{}-{host}", service.name)),
        attribute("k8s.container.name", "server"),
    ]
}

/// Metrics of the container of service number `service` on host number `host` in the hour `hour` of the week, which began at
/// `start_unix_nanos`.
pub(super) fn metrics(rng: &mut Rng, service: usize, host: usize, hour: u64, start_unix_nanos: u64) -> Vec<Metric> {
    let of = CONTAINERS[service];
    let mut columns: [Vec<NumberDataPoint>; 8] = Default::default();
    for minute in (0..60).step_by(INTERVAL_MINUTES as usize) {
        let time = start_unix_nanos + hour * HOUR_NANOS + minute * MINUTE_NANOS;
        let work = load(&SERVICES[service], time).min(1.0);
        let between = |(low, high): (f64, f64)| low + (high - low) * work;
        let cpu = (between(of.cpu) * (1.0 + 0.03 * rng.normal().clamp(-2.0, 2.0))).max(0.01);
        let memory = (between(of.memory) * GIB).round() as i64;
        // The limit was reached between two points, which is why nothing of it is seen but the restart.
        let is_killed = service == 3 && host == KILLED.1 && hour == KILLED.0 && minute == 0;
        let restarts = i64::from(service == 3 && host == KILLED.1 && hour >= KILLED.0);
        let (cpu_request, memory_request) = (of.request.0, (of.request.1 * GIB) as i64);
        let values = [
            Value::AsDouble((cpu * 1e6).round() / 1e6),
            Value::AsInt(memory),
            Value::AsDouble(cpu_request),
            Value::AsDouble(cpu_request * 2.0),
            Value::AsInt(memory_request),
            Value::AsInt(memory_request),
            Value::AsInt(restarts),
            Value::AsInt(i64::from(is_killed)),
        ];
        for (column, value) in columns.iter_mut().zip(values) {
            column.push(point(time, value, &[]));
        }
    }
    let [cpu, memory, cpu_request, cpu_limit, memory_request, memory_limit, restarts, mut killed] = columns;
    for point in &mut killed {
        point.attributes = vec![attribute("k8s.container.status.reason", "OOMKilled")];
    }
    vec![
        gauge("container.cpu.usage", "{cpu}", cpu),
        gauge("container.memory.working_set", "By", memory),
        gauge("k8s.container.cpu_request", "{cpu}", cpu_request),
        gauge("k8s.container.cpu_limit", "{cpu}", cpu_limit),
        gauge("k8s.container.memory_request", "By", memory_request),
        gauge("k8s.container.memory_limit", "By", memory_limit),
        gauge("k8s.container.restarts", "{restart}", restarts),
        up_down("k8s.container.status.reason", "{container}", start_unix_nanos, killed),
    ]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::Utc;
    use driftwatt_analyze::{
        Tz, Window,
        recommend::{ContainerVerdict, RecommendRequest, recommend},
    };
    use driftwatt_ingest::Ingest;
    use driftwatt_store::Store;
    use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, metric::Data};
    use prost::Message as _;

    use super::*;
    use crate::{config::RawConfig, demo::Fleet, query_runtime::QueryRuntime};

    fn points(metric: &Metric) -> &[NumberDataPoint] {
        match metric.data.as_ref().unwrap() {
            Data::Gauge(gauge) => &gauge.data_points,
            Data::Sum(sum) => &sum.data_points,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_container_sends_what_is_announced_and_one_is_killed_once() {
        let mut rng = Rng::new(1);
        let count = metrics(&mut rng, 0, 0, 0, 0).iter().map(|metric| points(metric).len() as u64).sum::<u64>();
        assert_eq!(count, POINTS_PER_HOUR);
        let mut kills = |host: usize| {
            let of_week = (0..168).flat_map(|hour| metrics(&mut rng, 3, host, hour, 0).pop());
            of_week
                .flat_map(|metric| points(&metric).to_vec())
                .filter(|point| point.value == Some(Value::AsInt(1)))
                .count()
        };
        assert_eq!((kills(KILLED.1), kills(6)), (1, 0));
    }

    fn is_of_container(resource: &ResourceMetrics) -> bool {
        resource.resource.iter().flat_map(|resource| &resource.attributes).any(|one| one.key == "k8s.container.name")
    }

    /// The truth is in [`CONTAINERS`]: what the busiest hour and the peak need, with the margin of 15 %, against the requests.
    #[tokio::test(flavor = "multi_thread")]
    async fn the_requests_of_the_simulated_containers_are_judged_by_what_they_need() {
        let dir = tempfile::tempdir().unwrap();
        let mut raw = RawConfig::default();
        raw.server.data_dir = Some(dir.path().to_owned());
        let config = raw.validate().unwrap();
        let store = Store::open(config.store.clone()).await.unwrap();
        let ingest = Ingest::new(Arc::clone(&store), config.ingest.clone());
        let end_us = Utc::now().timestamp_micros() / 60_000_000 * 60_000_000;
        for mut request in Fleet::new(1, end_us.unsigned_abs() * 1_000).requests() {
            request.resource_metrics.retain(is_of_container);
            ingest.export(request.encode_to_vec().into()).await.unwrap();
        }
        let session = driftwatt_query::session(&store, &config.query).await.unwrap();
        let request = RecommendRequest {
            window: Window::new(end_us - 7 * 86_400_000_000, end_us).unwrap(),
            zone: Tz::UTC,
            prices: None,
            manifests: None,
            holidays: vec![],
            now_us: end_us,
        };
        // Plans go too deep for the threads of a test.
        let queries = QueryRuntime::start().unwrap();
        let report = queries.handle().spawn(async move { recommend(&session, None, &request).await }).await.unwrap();
        let report = report.unwrap();
        let of = |service: &str| -> &ContainerVerdict {
            let subject = format!("simulated-fleet/{service}/server");
            report.containers.verdicts.iter().find(|of| of.subject == subject).unwrap()
        };
        for (service, verdict, pods) in [
            ("chat-llm", "shrink", 3),
            ("code-llm", "shrink", 2),
            ("image-upscale", "keep", 2),
            ("batch-embed", "raise", 2),
        ] {
            let of = of(service);
            assert_eq!((of.verdict_name(), of.pod_count, of.simulated), (verdict, pods, true), "{}", of.why());
        }
        for (number, service) in SERVICES.iter().enumerate() {
            let (of, truth) = (of(service.name), CONTAINERS[number]);
            let to = of.change().map_or(of.today, |change| change.to);
            // Load reaches 1; the noise of CPU is cut at 6 %.
            let cpu = to.cpu_request.unwrap();
            assert!(
                cpu >= truth.cpu.1 && cpu <= (truth.cpu.1 * 1.06 * 1.15).max(truth.request.0) + 0.001,
                "{}",
                of.why()
            );
            assert!(to.memory_request.unwrap() >= truth.memory.1 * GIB, "{}", of.why());
        }
        let killed = of("batch-embed");
        // 16 GiB x 1.2, in whole MiB.
        assert_eq!(
            (killed.used.oom_count, killed.change().unwrap().to.memory_limit),
            (1, Some(19_661.0 * 1_048_576.0))
        );
        assert!(report.to_text().contains("simulated simulated-fleet/chat-llm/server"), "{}", report.to_text());
        store.close().await.unwrap();
    }
}
