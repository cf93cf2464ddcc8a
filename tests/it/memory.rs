//! What series cost in memory, measured on the process.
//!
//! `DRIFTWATT_MEMORY_SERIES` sets how many are active at once, 100 000 by default.

use std::time::Duration;

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{ResourceMetrics, ScopeMetrics},
    resource::v1::Resource,
};
use prost::Message as _;

use crate::{
    otlp::{gauge, label, now_nanos, point, post},
    server::Server,
};

/// Series of one host.
pub(crate) const SERIES_PER_HOST: u64 = 50;
/// Hosts of one request.
const HOSTS_PER_REQUEST: u64 = 40;

const SERIES_PER_REQUEST: u64 = SERIES_PER_HOST * HOSTS_PER_REQUEST;

/// One point at `time` of each of 50 series, with 8 resource attributes and 2 of their own.
pub(crate) fn host(number: u64, time: u64) -> ResourceMetrics {
    let names =
        ["service.namespace", "k8s.cluster.name", "k8s.namespace.name", "k8s.pod.name", "k8s.node.name", "os.type"];
    let mut attributes: Vec<_> = names.into_iter().map(|name| label(name, &format!("{name} of {number}"))).collect();
    attributes.push(label("service.name", "checkout"));
    attributes.push(label("host.name", &format!("host-{number}")));
    let points = |metric: u64| {
        let of = |core: u64| vec![label("cpu", &format!("cpu{core}")), label("state", "system")];
        gauge(&format!("system.cpu.{metric}"), (0..10).map(|core| point(time, core as f64, of(core))).collect())
    };
    let metrics = (0..SERIES_PER_HOST / 10).map(points).collect();
    ResourceMetrics {
        resource: Some(Resource { attributes, ..Resource::default() }),
        scope_metrics: vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }],
        ..ResourceMetrics::default()
    }
}

async fn send(client: &reqwest::Client, server: &Server, number: u64) {
    let hosts = number * HOSTS_PER_REQUEST..(number + 1) * HOSTS_PER_REQUEST;
    let resource_metrics = hosts.map(|number| host(number, now_nanos())).collect();
    let body = ExportMetricsServiceRequest { resource_metrics }.encode_to_vec();
    loop {
        match post(client, &server.otlp_http, body.clone(), &[]).await.unwrap() {
            (200, _) => return,
            // The memtable is full until a flush has written some of it; clients come back.
            (429 | 503, _) => tokio::time::sleep(Duration::from_millis(100)).await,
            (status, answer) => panic!("{status}: {}\n{}", String::from_utf8_lossy(&answer), server.log()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_takes_less_than_a_kilobyte_of_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("DRIFTWATT_LIMITS__MEMORY", "8GiB"), ("DRIFTWATT_STORE__FLUSH_SIZE", "512MiB")];
    let server = Server::start_with(&dir.path().join("data"), &settings);
    let client = reqwest::Client::new();
    // What a request takes while it is worked on is there already.
    send(&client, &server, 0).await;
    let before = server.memory_bytes("VmRSS");
    for number in 1..=100_000 / SERIES_PER_REQUEST {
        send(&client, &server, number).await;
    }
    let series_size = (server.memory_bytes("VmRSS") - before) / 100_000;
    println!("{series_size} bytes per series: register, cache, memtable with one point");
    assert!(series_size < 1000, "{series_size}");
}

#[tokio::test(flavor = "multi_thread")]
async fn active_series_fit_in_less_than_two_kilobytes_each_flushes_included() {
    let series: u64 = std::env::var("DRIFTWATT_MEMORY_SERIES").map_or(100_000, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    // All are of five metrics.
    let settings = [("DRIFTWATT_LIMITS__MEMORY", "2GiB"), ("DRIFTWATT_INGEST__SERIES_PER_METRIC_MAX", "1000000")];
    let server = Server::start_with(&dir.path().join("data"), &settings);
    let client = reqwest::Client::new();
    for _round in 0..3 {
        for number in 0..series / SERIES_PER_REQUEST {
            send(&client, &server, number).await;
        }
        server.flush().await;
    }
    assert_eq!(server.rows("SELECT count(DISTINCT series_id) FROM raw.series").await, [[serde_json::json!(series)]]);
    let peak = server.memory_bytes("VmHWM");
    let program = server.memory_bytes("RssFile");
    println!("{series} active series: peak {} MiB, of it {} the program", peak >> 20, program >> 20);
    // A million in 2 GiB; the base is request buffers and runtime. An unoptimised program is three times as large.
    assert!(peak - program < (160 << 20) + series * 1850, "{} MiB for {series} series", (peak - program) >> 20);
}
