//! The weekly report over the wire, in SQL and from a directory: one card that two exporters report, and a price book.

use serde_json::Value;

use crate::{
    otlp::{export, gauge, label, now_nanos, point},
    server::{Server, driftwatt},
};

const MINUTE: u64 = 60_000_000_000;
const HOURS: u64 = 6;
const UUID: &str = "GPU-12345678-1234-1234-1234-123456789abc";

fn time_text(nanos: u64) -> String {
    chrono::DateTime::from_timestamp_nanos(nanos.cast_signed()).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// Six hours of one card that is 40 % busy, from an OpenTelemetry and from a DCGM exporter.
async fn send(server: &Server, start: u64) {
    let otel = || {
        let labels =
            [("hw.id", UUID), ("hw.model", "L4"), ("hw.type", "gpu"), ("host.name", "h1"), ("service.name", "chat")];
        labels.map(|(key, value)| label(key, value)).to_vec()
    };
    let dcgm = || {
        let labels = [("UUID", UUID), ("modelName", "L4"), ("Hostname", "h1"), ("gpu", "0"), ("service.name", "chat")];
        labels.map(|(key, value)| label(key, value)).to_vec()
    };
    let minutes = || (0..HOURS * 60).map(|minute| (start + minute * MINUTE, if minute % 2 == 0 { 0.3 } else { 0.5 }));
    let metrics = vec![
        gauge("hw.gpu.utilization", minutes().map(|(time, duty)| point(time, duty, otel())).collect()),
        gauge("hw.gpu.memory.usage", minutes().map(|(time, _)| point(time, 5e9, otel())).collect()),
        gauge("DCGM_FI_DEV_GPU_UTIL", minutes().map(|(time, duty)| point(time, duty * 100.0, dcgm())).collect()),
        gauge("DCGM_FI_DEV_FB_USED", minutes().map(|(time, _)| point(time, 4800.0, dcgm())).collect()),
    ];
    assert_eq!(export(server, metrics).await.0, 0);
}

fn report(arguments: &[&str]) -> String {
    let output = driftwatt().args(["report", "weekly"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn rows(report: &str) -> Value {
    serde_json::from_str::<Value>(report).unwrap()["fleets"][0]["rows"].clone()
}

/// Of the questions that the report asked about its window, one scans the points, and once.
async fn points_are_scanned_once(server: &Server, report: &str) {
    let report: Value = serde_json::from_str(report).unwrap();
    let mut scans = Vec::new();
    for query in report["queries"].as_array().unwrap() {
        let plan = server.rows(&format!("EXPLAIN {}", query["sql"].as_str().unwrap())).await;
        let logical = plan.iter().find(|row| row[0] == "logical_plan").unwrap()[1].as_str().unwrap().to_owned();
        let points = logical.lines().filter(|line| line.contains("TableScan: raw.samples"));
        scans.extend(points.map(|_| query["what"].as_str().unwrap().to_owned()));
    }
    assert_eq!(scans, ["points of GPUs"], "{:#}", report["queries"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_card_of_two_exporters_is_one_card_on_the_bill() {
    let dir = tempfile::tempdir().unwrap();
    let (data, prices) = (dir.path().join("data"), dir.path().join("prices.toml"));
    std::fs::write(&prices, "currency = \"EUR\"\ngpu_hour = { L4 = 2.0 }\n").unwrap();
    let server = Server::start_with(&data, &[("DRIFTWATT_ANALYZE__PRICES", prices.to_str().unwrap())]);
    let hour = 60 * MINUTE;
    let end = now_nanos() / hour * hour;
    let start = end - HOURS * hour;
    send(&server, start).await;
    let (from, to, url) = (time_text(start), time_text(end), format!("http://{}", server.http));
    let asked = |format: &str| report(&["--server", &url, "--from", &from, "--to", &to, "--format", format]);
    // 6 h x 2.00, once: half of the points are copies. Half of the minutes 0.3 busy, half 0.5: 2.4 h.
    let sql = format!(
        "SELECT dimension, name, cost, gpu_count, round(gpu_hours_busy, 3) FROM weekly_report('{from}', '{to}') \
         WHERE dimension IN ('fleet', 'service') ORDER BY 1"
    );
    let expected = |dimension: &str, name: &str| -> Vec<Value> {
        vec![dimension.into(), name.into(), 12.0.into(), 1.0.into(), 2.4.into()]
    };
    assert_eq!(server.rows(&sql).await, [expected("fleet", "all"), expected("service", "chat")]);
    let held = format!("SELECT gpu_hours, cost FROM gpu_waterfall('{from}', '{to}') WHERE step = 'held'");
    assert_eq!(server.rows(&held).await, vec![vec![Value::from(6.0), Value::from(12.0)]]);
    let answer = asked("json");
    points_are_scanned_once(&server, &answer).await;
    let page = asked("md");
    let queries = page.split("```sql\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    let hourly = queries.into_iter().find(|sql| sql.contains("avg(busy)")).unwrap();
    let hours = server.rows(hourly).await;
    assert_eq!(hours.len() as u64, HOURS);
    assert!(hours.iter().all(|hour| (hour[1].as_f64().unwrap() - 0.4).abs() < 1e-9), "{hours:?}");
    let json = rows(&answer);
    let stored = "SELECT name, cost FROM reports.reports_weekly WHERE dimension = 'service' LIMIT 1";
    assert_eq!(server.rows(stored).await, vec![vec![Value::from("chat"), Value::from(12.0)]]);
    let unreadable =
        driftwatt().args(["report", "weekly", "--server", &url, "--time-zone", "Mars/Olympus"]).output().unwrap();
    assert!(!unreadable.status.success() && String::from_utf8_lossy(&unreadable.stderr).contains("Europe/Berlin"));
    server.terminate();
    let (data, prices) = (data.to_str().unwrap(), prices.to_str().unwrap());
    let again = ["--data", data, "--prices", prices, "--from", &from, "--to", &to, "--format", "json"];
    assert_eq!(rows(&report(&again)), json, "a directory gives what its server gave");
    let text = report(&["--data", data, "--prices", prices, "--from", &from, "--to", &to]);
    assert!(text.contains("12.00 EUR") && text.contains("weekly_report("), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn exporters_that_label_a_card_differently_are_not_two_holders() {
    let dir = tempfile::tempdir().unwrap();
    let prices = dir.path().join("prices.toml");
    std::fs::write(&prices, "currency = \"EUR\"\ngpu_hour = { L4 = 2.0 }\n").unwrap();
    let variables = [("DRIFTWATT_ANALYZE__PRICES", prices.to_str().unwrap())];
    let server = Server::start_with(&dir.path().join("data"), &variables);
    let hour = 60 * MINUTE;
    let end = now_nanos() / hour * hour;
    let start = end - HOURS * hour;
    // One metric of one card: an exporter names the pod, another one only itself.
    let card = [("UUID", UUID), ("modelName", "L4"), ("Hostname", "h1"), ("gpu", "0")];
    for more in [
        [("service.name", "exporter"), ("service.instance.id", "y"), ("driftwatt.team", "ops")],
        [("service.name", "chat"), ("service.instance.id", "x"), ("exported_pod", "chat-1")],
    ] {
        let labels = || card.iter().chain(&more).map(|(key, value)| label(key, value)).collect();
        let minutes =
            || (0..HOURS * 60).map(|minute| (start + minute * MINUTE, if minute % 2 == 0 { 30.0 } else { 50.0 }));
        let metrics = vec![
            gauge("DCGM_FI_DEV_GPU_UTIL", minutes().map(|(time, duty)| point(time, duty, labels())).collect()),
            gauge("DCGM_FI_DEV_FB_USED", minutes().map(|(time, _)| point(time, 4800.0, labels())).collect()),
        ];
        assert_eq!(export(&server, metrics).await.0, 0);
    }
    let (from, to) = (time_text(start), time_text(end));
    let sql = format!(
        "SELECT name, cost, round(gpu_hours_busy, 3) FROM weekly_report('{from}', '{to}') WHERE dimension = 'service' ORDER BY 1"
    );
    // 6 h x 2.00, all of it the pod's, whichever of the two the values came from.
    assert_eq!(server.rows(&sql).await, [[Value::from("chat"), 12.0.into(), 2.4.into()]]);
}
