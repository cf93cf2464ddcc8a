//! Rows that follow from counters: the same whatever the temporality, over resets, restarts and gaps.

use super::*;

/// A number point: second after START it counts since (below 0: not said), second, value (NaN: a marker).
type Point = (i64, i64, f64);

impl Fixture {
    /// Stores the points of a counter.
    async fn count(&self, sent: &Sent<'_>, temporality: Temporality, points: &[Point]) {
        let series = sent.series_as(Kind::Sum, temporality);
        let mut batch = WriteBatch { series: vec![series], ..WriteBatch::default() };
        for (start, second, value) in points {
            let start = if *start < 0 { 0 } else { START + start * 1_000_000 };
            let form = if value.is_nan() { SampleColumns::NO_VALUE } else { SampleColumns::DOUBLE };
            batch.samples.push(0, start, START + second * 1_000_000, value.to_bits(), form);
        }
        self.store.append(batch).await.unwrap();
    }

    /// Seconds after START, value and quality of the rows of a role.
    async fn rated(&self, view: &str, role: &str) -> Vec<Value> {
        let second = format!("(CAST(time AS BIGINT) - {START}) / 1000000");
        let sql = format!("SELECT {second}, value, quality FROM {view} WHERE role = '{role}' ORDER BY time, series_id");
        self.table(&sql).await
    }
}

const CUMULATIVE: Temporality = Temporality::Cumulative;
const UNSAID: Temporality = Temporality::Unspecified;

#[tokio::test(flavor = "multi_thread")]
async fn one_counter_gives_the_same_rate_whatever_its_temporality() {
    let expected = [json!([60, 2.0, "ok"]), json!([120, 0.0, "ok"]), json!([180, 10.0, "ok"])];
    let disk = Sent::new("system.disk.io", "By", &[("device", "sda"), ("direction", "read")]);
    let kib = Sent::new("system.disk.io", "KiBy", &[("device", "sda"), ("direction", "read")]);
    let node = Sent::new("node_disk_read_bytes_total", "", &[("device", "sda")]);
    let from = |start, first: f64, unit: f64| {
        [(0, first), (60, first + 120.0), (120, first + 120.0), (180, first + 720.0)]
            .map(|(second, value)| (start, second, value / unit))
    };
    let deltas = [(0, 60, 120.0), (60, 120, 0.0), (120, 180, 600.0)];
    let sources: [(&Sent<'_>, Temporality, &[Point]); 4] = [
        (&disk, CUMULATIVE, &from(0, 0.0, 1.0)),
        (&kib, CUMULATIVE, &from(0, 1024.0, 1024.0)),
        (&node, UNSAID, &from(-1, 5000.0, 1.0)),
        (&disk, Temporality::Delta, &deltas),
    ];
    for (sent, temporality, points) in sources {
        let fixture = fixture().await;
        fixture.count(sent, temporality, points).await;
        for _ in 0..2 {
            assert_eq!(fixture.rated("system", "disk.io.rate").await, expected, "{} {temporality:?}", sent.metric);
            fixture.store.flush().await.unwrap();
        }
        // From the middle on as from the beginning.
        let later = format!(
            "SELECT value FROM system WHERE role = 'disk.io.rate' AND time >= to_timestamp_micros({})",
            START + 100_000_000
        );
        assert_eq!(fixture.doubles(&later).await.len(), 2, "{} {temporality:?}", sent.metric);
        let unit = "SELECT DISTINCT unit, attributes['device'] FROM system WHERE role = 'disk.io.rate'";
        assert_eq!(fixture.table(unit).await, [json!(["By/s", "sda"])]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_midnight_between_two_points_takes_nothing_away() {
    let fixture = fixture().await;
    let disk = Sent::new("system.disk.io", "By", &[("device", "sda")]);
    // START is 2026-11-18T11:06:40Z, 46 400 seconds before the next day.
    fixture.count(&disk, CUMULATIVE, &[(0, 46_385, 100.0), (0, 46_400, 130.0), (0, 46_415, 145.0)]).await;
    for _ in 0..2 {
        let today =
            "SELECT value FROM system WHERE role = 'disk.io.rate' AND time >= '2026-11-19T00:00:00Z' ORDER BY time";
        assert_eq!(fixture.doubles(today).await, [Some(2.0), Some(1.0)]);
        let increases =
            "SELECT increase FROM raw.increases WHERE metric = 'system.disk.io' AND date = '2026-11-19' ORDER BY time";
        assert_eq!(fixture.doubles(increases).await, [Some(30.0), Some(15.0)]);
        fixture.store.flush().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_is_marked_and_counts_what_came_after_it() {
    let fixture = fixture().await;
    let network = Sent::new("node_network_receive_bytes_total", "", &[("device", "eth0")]);
    let ends = [(-1, 0, 900.0), (-1, 10, 1000.0), (-1, 20, 50.0), (-1, 30, 80.0), (-1, 40, f64::NAN), (-1, 50, 100.0)];
    fixture.count(&network, UNSAID, &ends).await;
    fixture.count(&network, UNSAID, &[(-1, 60, 130.0), (-1, 700, 9000.0)]).await;
    assert_eq!(
        fixture.rated("system", "network.receive.rate").await,
        [json!([10, 10.0, "ok"]), json!([20, 5.0, "reset"]), json!([30, 3.0, "ok"]), json!([60, 3.0, "ok"])]
    );
    // A process says when it began: what it counted since is what it did since, also where that is more than before.
    let requests = Sent::new("tgi_request_success", "", &[("instance", "a")]);
    let points = [(0, 10, 100.0), (0, 20, 120.0), (22, 30, 8.0), (22, 40, 10.0), (45, 50, 20.0)];
    fixture.count(&requests, CUMULATIVE, &points).await;
    assert_eq!(
        fixture.rated("latency", "requests.succeeded.rate").await,
        [
            json!([10, 10.0, "ok"]),
            json!([20, 2.0, "ok"]),
            json!([30, 1.0, "reset"]),
            json!([40, 0.2, "ok"]),
            json!([50, 4.0, "reset"]),
        ]
    );
    // A sender's own start says nothing about a counter of the machine: it may have gone on, or not.
    let disk = Sent::new("system.disk.io", "By", &[("device", "sda")]);
    fixture.count(&disk, CUMULATIVE, &[(0, 10, 7000.0), (0, 20, 7100.0), (25, 30, 7200.0), (25, 40, 7300.0)]).await;
    assert_eq!(
        fixture.rated("system", "disk.io.rate").await,
        [json!([20, 10.0, "ok"]), json!([30, null, "reset"]), json!([40, 10.0, "ok"])]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn energy_gives_power_where_no_source_does_and_none_over_a_reload_of_the_driver() {
    let fixture = fixture().await;
    let uuid = |n: usize| format!("GPU-00000000-0000-4000-8000-00000000010{n}");
    let energy = |id: &str| Sent::new("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "", &[("UUID", id), ("Hostname", "n")]);
    let millijoules = [(-1, 0, 9_000_000.0), (-1, 10, 12_000_000.0), (-1, 20, 1000.0), (-1, 30, 2_001_000.0)];
    fixture.count(&energy(&uuid(1)), UNSAID, &millijoules).await;
    let of_one = fixture.rated("gpu", "gpu.power").await;
    assert_eq!(of_one, [json!([10, 300.0, "ok"]), json!([20, null, "reset"]), json!([30, 200.0, "ok"])]);
    // Values for "no value" are no points.
    let blank = [(-1, 0, 1000.0), (-1, 10, 9.223_372_036_854_776e18), (-1, 20, 2_001_000.0)];
    fixture.count(&energy(&uuid(2)), UNSAID, &blank).await;
    // Who says when its counter began is believed: our collector counts since its own start.
    let collected = Sent::new("hw.energy", "J", &[("hw.id", &uuid(3)), ("hw.type", "gpu")]);
    fixture.count(&collected, CUMULATIVE, &[(0, 10, 1000.0), (0, 20, 4000.0), (25, 30, 1500.0)]).await;
    // This one reports its power as well, and sixteen pods share it.
    fixture
        .send(&[(Sent::new("DCGM_FI_DEV_POWER_USAGE", "", &[("UUID", &uuid(4))]), vec![(0, 250.0), (10, 250.0)])])
        .await;
    for pod in 0..16 {
        let pod = pod.to_string();
        for id in [uuid(4), uuid(5)] {
            let shared = Sent::new("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "", &[("UUID", &id), ("pod", &pod)]);
            fixture.count(&shared, UNSAID, &[(-1, 0, 1000.0), (-1, 10, 2_501_000.0)]).await;
        }
    }
    let sums = "SELECT gpu_id, count(value), sum(value), max(quality), max(source) FROM gpu WHERE role = 'gpu.power' \
                AND gpu_id > $1 GROUP BY gpu_id ORDER BY gpu_id"
        .replace("$1", &format!("'{}'", uuid(1)));
    assert_eq!(
        fixture.table(&sums).await,
        [
            json!([uuid(2), 1, 100.0, "ok", "DCGM exporter"]),
            json!([uuid(3), 2, 600.0, "reset", "OpenTelemetry hw"]),
            json!([uuid(4), 2, 500.0, "ok", "DCGM exporter"]),
            json!([uuid(5), 1, 250.0, "ok", "DCGM exporter"]),
        ]
    );
    let as_received = "SELECT max(value) FROM gpu WHERE role = 'gpu.energy' AND gpu_id LIKE '%101'";
    assert_eq!(fixture.doubles(as_received).await, [Some(12_000.0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cpu_times_give_the_busy_share_of_each_host_that_does_not_report_it() {
    let fixture = fixture().await;
    // Two CPUs: 10 seconds of 20 idle or waiting, then 5 of 20.
    let modes = [("idle", 6.0, 9.0), ("iowait", 4.0, 6.0), ("user", 7.0, 18.0), ("system", 3.0, 7.0)];
    let spellings = [
        ("system.cpu.time", "cpu.mode", "a"),
        ("system.cpu.time", "state", "b"),
        ("node_cpu_seconds_total", "mode", "c"),
    ];
    for (metric, key, host) in spellings {
        for cpu in ["0", "1"] {
            for (mode, first, second) in modes {
                let attributes = [(key, mode), ("cpu", cpu), ("host.name", host), ("driftwatt.simulated", "true")];
                let sent = Sent::new(metric, "s", &attributes);
                let points = [(-1, 0, 100.0), (-1, 10, 100.0 + first / 2.0), (-1, 20, 100.0 + second / 2.0)];
                fixture.count(&sent, CUMULATIVE, &points).await;
            }
        }
    }
    let reported = Sent::new("system.cpu.utilization", "1", &[("host.name", "b")]);
    fixture.send(&[(reported, vec![(0, 0.5), (10, 0.5), (20, 0.75)])]).await;
    let by_host = "SELECT host_name, value, attributes['cpu'], attributes['driftwatt.simulated'], source FROM system \
                   WHERE role = 'cpu.utilization' ORDER BY host_name, time";
    assert_eq!(
        fixture.table(by_host).await,
        [
            json!(["a", 0.5, null, "true", "OpenTelemetry system"]),
            json!(["a", 0.75, null, "true", "OpenTelemetry system"]),
            json!(["b", 0.5, null, null, "OpenTelemetry system"]),
            json!(["b", 0.5, null, null, "OpenTelemetry system"]),
            json!(["b", 0.75, null, null, "OpenTelemetry system"]),
            json!(["c", 0.5, null, "true", "node_exporter"]),
            json!(["c", 0.75, null, "true", "node_exporter"]),
        ]
    );
    // A container has no idle time: CPUs in use, and no share of them.
    let container = Sent::new("container.cpu.time", "s", &[("k8s.pod.name", "p"), ("cpu.mode", "user")]);
    fixture.count(&container, CUMULATIVE, &[(0, 0, 1.0), (0, 10, 21.0)]).await;
    let used = "SELECT role, value, unit FROM system WHERE k8s_pod = 'p' AND role <> 'cpu.time'";
    assert_eq!(fixture.table(used).await, [json!(["cpu.usage", 2.0, "{cpu}"])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sources_of_one_host_count_once() {
    let fixture = fixture().await;
    let on = [("host.name", "h")];
    let otel = Sent::new("system.cpu.utilization", "1", &on);
    let nvitop = Sent::new("host_cpu_percent", "", &[("hostname", "h")]);
    fixture.send(&[(otel, vec![(0, 0.5), (15, 0.5)]), (nvitop, vec![(0, 40.0), (15, 40.0), (60, 70.0)])]).await;
    let rows = "SELECT sum(value), count(*) FROM system WHERE role = 'cpu.utilization' GROUP BY time ORDER BY time";
    // nvitop stands above OpenTelemetry system in the table.
    assert_eq!(fixture.table(rows).await, [json!([0.4, 2]), json!([0.4, 2]), json!([0.7, 1])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sources_of_the_cpu_times_of_one_host_count_once() {
    let fixture = fixture().await;
    let of = |seconds: f64| [(0, 0, 0.0), (0, 15, seconds), (0, 30, 2.0 * seconds)];
    // Of node_exporter half of the time is idle, of OpenTelemetry, which comes later, four fifths.
    for mode in ["idle", "user"] {
        let node = Sent::new("node_cpu_seconds_total", "", &[("host.name", "h"), ("cpu", "0"), ("mode", mode)]);
        fixture.count(&node, CUMULATIVE, &of(7.5)).await;
    }
    // One number for all modes says nothing of the idle one, so it stands before nobody.
    let whole = Sent::new("k8s.node.cpu.time", "s", &[("host.name", "h")]);
    fixture.count(&whole, CUMULATIVE, &of(9.0)).await;
    let rows = "SELECT value, source FROM system WHERE role = 'cpu.utilization' ORDER BY time, source";
    assert_eq!(fixture.table(rows).await, [json!([0.5, "node_exporter"]), json!([0.5, "node_exporter"])]);
    for (state, seconds) in [("idle", 12.0), ("user", 3.0)] {
        let otel = Sent::new("system.cpu.time", "s", &[("host.name", "h"), ("cpu.mode", state)]);
        fixture.count(&otel, CUMULATIVE, &of(seconds)).await;
    }
    let rows = fixture.table(rows).await;
    assert!(rows.len() == 2 && rows.iter().all(|row| row[0] == json!(0.2)), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_of_triton_give_means_per_request_and_batch() {
    let fixture = fixture().await;
    let counters = [
        ("nv_inference_request_duration_us", [1e6, 4e6, 4e6]),
        ("nv_inference_queue_duration_us", [0.0, 6e5, 6e5]),
        ("nv_inference_request_success", [10.0, 40.0, 40.0]),
        ("nv_inference_count", [20.0, 140.0, 140.0]),
        ("nv_inference_exec_count", [5.0, 35.0, 35.0]),
    ];
    for (metric, values) in counters {
        for (model, factor) in [("resnet", 1.0), ("bert", 2.0)] {
            let over = if metric.ends_with("_us") { factor } else { 1.0 };
            let points: Vec<Point> = (0..).zip(values).map(|(n, value)| (-1, 15 * n, value * over)).collect();
            fixture.count(&Sent::new(metric, "", &[("model", model), ("version", "1")]), UNSAID, &points).await;
        }
    }
    let means = "SELECT role, model_name, value, unit, count, sum FROM latency \
                 WHERE role IN ('latency.e2e', 'queue.time', 'batch.size') ORDER BY role, model_name";
    assert_eq!(
        fixture.table(means).await,
        [
            json!(["batch.size", "bert", 4.0, "{request}", 30, 120.0]),
            json!(["batch.size", "resnet", 4.0, "{request}", 30, 120.0]),
            json!(["latency.e2e", "bert", 0.2, "s", 30, 6.0]),
            json!(["latency.e2e", "resnet", 0.1, "s", 30, 3.0]),
            json!(["queue.time", "bert", 0.04, "s", 30, 1.2]),
            json!(["queue.time", "resnet", 0.02, "s", 30, 0.6]),
        ]
    );
    let scans = fixture.scans("SELECT avg(value) FROM latency WHERE role = 'queue.length'").await;
    assert!(!scans.iter().any(|scan| scan.contains("raw.increases")), "{scans:?}");
}

/// Histogram points: start, second, count, sum.
async fn send_histogram(fixture: &Fixture, kind: Kind, temporality: Temporality, points: &[(i64, i64, u64, f64)]) {
    let sent = Sent::new("gen_ai.server.request.duration", "s", &[("gen_ai.request.model", "m")]);
    let mut batch = WriteBatch { series: vec![sent.series_as(kind, temporality)], ..WriteBatch::default() };
    for (start, second, count, sum) in points {
        let shape = match kind {
            Kind::Histogram => HistogramShape::Explicit { counts: vec![*count] },
            _ => HistogramShape::Summary { quantiles: vec![], values: vec![] },
        };
        batch.histograms.push(HistogramPoint {
            series: 0,
            start_time: START + start * 1_000_000,
            time: START + second * 1_000_000,
            recorded: true,
            count: *count,
            sum: Some(*sum),
            min: None,
            max: None,
            shape,
        });
    }
    fixture.store.append(batch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn histograms_that_count_up_read_as_those_that_do_not() {
    // The server restarts between 30 and 45.
    let cumulative = [(0, 15, 4, 2.0), (0, 30, 4, 2.0), (40, 45, 8, 1.0), (40, 60, 10, 5.0)];
    let delta = [(0, 15, 4, 2.0), (15, 30, 0, 0.0), (40, 45, 8, 1.0), (45, 60, 2, 4.0)];
    let rows = "SELECT time, value, count, sum, model_name FROM latency WHERE role = 'latency.e2e' ORDER BY time";
    let mut read = Vec::new();
    for (kind, temporality, points) in [
        (Kind::Histogram, CUMULATIVE, &cumulative),
        (Kind::Histogram, Temporality::Delta, &delta),
        (Kind::Summary, UNSAID, &cumulative),
    ] {
        let fixture = fixture().await;
        send_histogram(&fixture, kind, temporality, points).await;
        let seen = fixture.table(rows).await;
        fixture.store.flush().await.unwrap();
        assert_eq!(fixture.table(rows).await, seen);
        read.push(seen);
        let quality = fixture.texts("SELECT quality FROM latency ORDER BY time").await;
        let reset = if temporality == Temporality::Delta { "ok" } else { "reset" };
        assert_eq!(quality, ["ok", "ok", reset, "ok"]);
    }
    let values: Vec<_> = read[0].iter().map(|row| [row[1].clone(), row[2].clone(), row[3].clone()]).collect();
    assert_eq!(json!(values), json!([[0.5, 4, 2.0], [null, 0, 0.0], [0.125, 8, 1.0], [2.0, 2, 4.0]]));
    assert_eq!(read[0], read[1]);
    assert_eq!(read[0], read[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_counter_with_a_rate_gives_it_under_every_spelling() {
    let fixture = fixture().await;
    let table = RoleTable::shipped().unwrap();
    let mut wanted = HashMap::new();
    let mut batch = WriteBatch::default();
    for row in table.rows.iter().filter(|row| row.rate.is_some()) {
        let rate = row.rate.as_ref().unwrap();
        for name in &row.spellings {
            let prometheus = !name.contains('.');
            let mut attributes: Vec<(String, String)> = Vec::new();
            for condition in &row.when {
                let key = &condition.keys[0];
                let key = if prometheus { crate::roles::label(key) } else { key.clone() };
                attributes.push((key, condition.value.clone()));
            }
            let device = format!("GPU-{:036}", wanted.len());
            attributes.push((if prometheus { "UUID" } else { "hw.id" }.to_owned(), device.clone()));
            let (value, canonical) = expected(&row.unit, &row.definition.unit, 1.0);
            let sent = Sent { metric: name, unit: if prometheus { "" } else { &row.unit }, attributes };
            let number = u32::try_from(batch.series.len()).unwrap();
            batch.series.push(sent.series_as(Kind::Sum, CUMULATIVE));
            for (second, value) in [(0, 1.0), (2, 1.0 + value)] {
                batch.samples.push(number, 0, START + second * 1_000_000, value.to_bits(), SampleColumns::DOUBLE);
            }
            let (view, unit) = (rate.definition.view.name(), &rate.definition.unit);
            wanted.insert(device, json!([view, rate.role, canonical / 2.0, unit, row.source.as_ref()]));
        }
    }
    fixture.store.append(batch).await.unwrap();
    let views = ["gpu", "system", "latency", "inputs"];
    let roles: Vec<_> =
        table.rows.iter().filter_map(|row| row.rate.as_ref()).map(|r| format!("'{}'", r.role)).collect();
    let roles = roles.join(", ");
    let arms = views.map(|view| {
        format!("SELECT gpu_id, '{view}', role, round(value, 12), unit, source FROM {view} WHERE role IN ({roles})")
    });
    let mut found = HashMap::new();
    for row in fixture.table(&arms.join(" UNION ALL ")).await {
        let row = row.as_array().unwrap();
        found.insert(row[0].as_str().unwrap().to_owned(), Value::from(row[1..].to_vec()));
    }
    for (device, wanted) in &wanted {
        assert_eq!(found.get(device), Some(wanted));
    }
    assert_eq!(found.len(), wanted.len());
}
