//! One load told as gauges, by cumulative counters and by delta counters, over a restart of whoever counts: the role views
//! say the same.

use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, Metric, NumberDataPoint, Sum, metric::Data};
use serde_json::{Value, json};

use crate::{
    otlp::{export, gauge, label, now_nanos, point},
    server::Server,
};

const UUID: &str = "GPU-2f5a1c60-93cf-4b51-8d8e-0d9c4b7a0001";
const SECOND: u64 = 1_000_000_000;
/// Seconds from reading to reading.
const STEP: u64 = 15;
/// Watts, busy share of the CPUs and MiB per second over PCIe, from each reading to the next.
const LOAD: [(f64, f64, f64); 6] = [
    (200.0, 0.25, 1.0),
    (300.0, 0.5, 8.0),
    (250.0, 0.0, 0.0),
    (350.0, 1.0, 16.0),
    (100.0, 0.125, 2.0),
    (150.0, 0.25, 4.0),
];
/// In this interval the sender, the driver and the machine restart, so many seconds after its beginning.
const RESTART: (usize, u64) = (3, 5);
const CPUS: f64 = 4.0;
const MIB: f64 = 1_048_576.0;

/// What counters gained in an interval.
struct Interval {
    start: u64,
    end: u64,
    restarted: bool,
    gained: Vec<f64>,
}

fn intervals(first: u64) -> Vec<Interval> {
    let of = |(n, (watts, busy, mib)): (usize, (f64, f64, f64))| {
        let restarted = n == RESTART.0;
        let begin = first + n as u64 * STEP * SECOND;
        let start = begin + if restarted { RESTART.1 * SECOND } else { 0 };
        let end = begin + STEP * SECOND;
        let seconds = ((end - start) / SECOND) as f64;
        let cpu = seconds * CPUS;
        let gained = vec![watts * seconds, busy * cpu, (1.0 - busy) * cpu, mib * MIB * seconds];
        Interval { start, end, restarted, gained }
    };
    LOAD.into_iter().enumerate().map(of).collect()
}

/// Name, unit and attributes.
type Counter = (&'static str, &'static str, Vec<(&'static str, &'static str)>);

/// The counters in the order of what is gained.
fn counters() -> [Counter; 4] {
    let gpu = |more| vec![("hw.id", UUID), ("host.name", "n1"), more];
    let cpu = |mode| vec![("host.name", "n1"), ("cpu.mode", mode)];
    [
        ("hw.energy", "J", gpu(("hw.type", "gpu"))),
        ("system.cpu.time", "s", cpu("user")),
        ("system.cpu.time", "s", cpu("idle")),
        ("gpu.dcgm.pcie.io", "By", gpu(("network.io.direction", "transmit"))),
    ]
}

fn at(start: u64, end: u64, value: f64, attributes: &[(&str, &str)]) -> NumberDataPoint {
    let attributes = attributes.iter().map(|(key, value)| label(key, value)).collect();
    NumberDataPoint { start_time_unix_nano: start, ..point(end, value, attributes) }
}

fn sum(name: &str, unit: &str, data_points: Vec<NumberDataPoint>, temporality: AggregationTemporality) -> Metric {
    let data = Sum { data_points, aggregation_temporality: temporality as i32, is_monotonic: true };
    Metric { name: name.to_owned(), unit: unit.to_owned(), data: Some(Data::Sum(data)), ..Metric::default() }
}

fn as_gauges(first: u64) -> Vec<Metric> {
    let gpu = [("hw.id", UUID), ("host.name", "n1"), ("hw.type", "gpu"), ("network.io.direction", "transmit")];
    let points = |attributes: &[(&str, &str)], value: fn(&(f64, f64, f64)) -> f64| {
        let each = intervals(first).into_iter().zip(&LOAD);
        each.map(|(interval, load)| at(0, interval.end, value(load), attributes)).collect::<Vec<_>>()
    };
    let in_unit = |unit: &str, metric: Metric| Metric { unit: unit.to_owned(), ..metric };
    vec![
        in_unit("W", gauge("hw.power", points(&gpu[..3], |load| load.0))),
        in_unit("1", gauge("system.cpu.utilization", points(&gpu[1..2], |load| load.1))),
        in_unit("By/s", gauge("driftwatt.gpu.pcie.throughput", points(&gpu, |load| load.2 * MIB))),
    ]
}

fn as_deltas(first: u64) -> Vec<Metric> {
    let of = |(index, (name, unit, attributes)): (usize, Counter)| {
        let points = intervals(first).into_iter();
        let points = points.map(|interval| at(interval.start, interval.end, interval.gained[index], &attributes));
        sum(name, unit, points.collect(), AggregationTemporality::Delta)
    };
    counters().into_iter().enumerate().map(of).collect()
}

fn as_totals(first: u64) -> Vec<Metric> {
    let of = |(index, (name, unit, attributes)): (usize, Counter)| {
        // It has counted for an hour, so that it is less after the restart.
        let (mut start, mut total) = (first - 3600 * SECOND, 1e9);
        let mut points = vec![at(start, first, total, &attributes)];
        for interval in intervals(first) {
            (start, total) = if interval.restarted { (interval.start, 0.0) } else { (start, total) };
            total += interval.gained[index];
            points.push(at(start, interval.end, total, &attributes));
        }
        sum(name, unit, points, AggregationTemporality::Cumulative)
    };
    counters().into_iter().enumerate().map(of).collect()
}

async fn rows(server: &Server) -> Vec<Vec<Value>> {
    let of = |view: &str| {
        format!(
            "SELECT role, time, value, unit, host_name, gpu_id, attribution, scope FROM {view} \
             WHERE role IN ('gpu.power', 'gpu.pcie.transmit', 'cpu.utilization')"
        )
    };
    server.rows(&format!("SELECT * FROM ({} UNION ALL {}) ORDER BY role, time", of("gpu"), of("system"))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn gauges_totals_and_deltas_of_one_load_give_the_same_rows_over_a_restart() {
    let dirs = [(); 4].map(|()| tempfile::tempdir().unwrap());
    let servers = [0, 1, 2, 3].map(|n: usize| Server::start(&dirs[n].path().join("data")));
    let first = now_nanos() / SECOND * SECOND - 200 * SECOND;
    // The last server gets the load twice over, as gauges and as totals.
    let both = as_gauges(first).into_iter().chain(as_totals(first)).collect();
    let sent = [as_gauges(first), as_totals(first), as_deltas(first), both];
    for (server, metrics) in servers.iter().zip(sent) {
        assert_eq!(export(server, metrics).await, (0, String::new()));
    }
    let expected = rows(&servers[0]).await;
    assert_eq!(expected.len(), 3 * LOAD.len());
    let watts: Vec<_> = expected.iter().filter(|row| row[0] == "gpu.power").map(|row| row[2].clone()).collect();
    assert_eq!(json!(watts), json!(LOAD.map(|(watts, ..)| watts)));
    for server in &servers[1..] {
        assert_eq!(rows(server).await, expected);
        server.flush().await;
        assert_eq!(rows(server).await, expected);
    }
    let resets = "SELECT role, quality, count(*) FROM gpu WHERE quality <> 'ok' GROUP BY 1, 2 ORDER BY 1";
    let marked = json!([["gpu.pcie.transmit", "reset", 1], ["gpu.power", "reset", 1]]);
    assert_eq!(json!(servers[1].rows(resets).await), marked);
    assert!(servers[2].rows(resets).await.is_empty());

    // In the weekly report the CPU time of a host is the utilisation that another host reports.
    for server in &servers {
        let (status, body) = server.get("/api/v1/reports/weekly?format=json&from=2026-01-01&to=2100-01-01").await;
        assert_eq!(status, 200, "{body}");
        let report: Value = serde_json::from_str(&body).unwrap();
        let rows = report["fleets"][0]["rows"].as_array().unwrap();
        let host = rows.iter().find(|row| row["dimension"] == "host" && row["name"] == "n1").unwrap();
        let mean = LOAD.iter().map(|(_, busy, _)| busy).sum::<f64>() / LOAD.len() as f64;
        assert_eq!(host["cpu_utilization_average"], json!(mean), "{host}");
    }
}
