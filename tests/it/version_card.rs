//! The card of a version move from telemetry, a price book and labels, held to numbers computed by hand.

use opentelemetry_proto::tonic::{common::v1::KeyValue, metrics::v1::HistogramDataPoint};
use serde_json::{Value, json};

use crate::{
    otlp::{export, gauge, label, now_nanos, point},
    points::{distribution, histogram},
    server::{Server, driftwatt},
};

const MINUTE: u64 = 60_000_000_000;

fn time_text(nanos: u64) -> String {
    chrono::DateTime::from_timestamp_nanos(nanos.cast_signed()).to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

fn answer(server: &Server, args: &[&str]) -> Value {
    let url = format!("http://{}", server.http);
    let output =
        driftwatt().args(["lineage", "chat", "--format", "json", "--server", &url]).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn measure(answer: &Value, name: &str) -> Value {
    let rows = answer["environments"][0]["last_move"]["measures"].as_array().unwrap();
    rows.iter().find(|row| row["measure"] == name).unwrap_or_else(|| panic!("{name}: {answer:#}")).clone()
}

#[track_caller]
fn close(found: &Value, expected: f64, share: f64) {
    let value = found.as_f64().unwrap_or_else(|| panic!("{found} is no number"));
    assert!((value - expected).abs() <= share * expected.abs(), "{value} is not {expected}");
}

fn chat(version: &str, more: &[(&str, &str)]) -> Vec<KeyValue> {
    let own = [("driftwatt.model.name", "llama"), ("driftwatt.model.version", version), ("host.name", "h1")];
    let own = own.into_iter().chain([("service.name", "chat"), ("service.instance.id", "i-1")]);
    own.chain(more.iter().copied()).map(|(key, value)| label(key, value)).collect()
}

/// In each minute of one version 50 requests of 0.2 s, of which so many `failed`, and ten prompts of `tokens` and up.
async fn requests(server: &Server, start: u64, version: &str, minutes: std::ops::Range<u64>, failed: u64, tokens: f64) {
    let mut points: Vec<HistogramDataPoint> = Vec::new();
    let mut prompts = Vec::new();
    for minute in minutes {
        let end = start + (minute + 1) * MINUTE;
        for (status, count) in [("200", 50 - failed), ("500", failed)] {
            if count > 0 {
                let mut one = distribution(end, 0.2 * count as f64, &[0.1, 0.3, 1.0], &[0, count, 0, 0]);
                one.start_time_unix_nano = end - MINUTE;
                one.attributes = chat(version, &[("http.response.status_code", status)]);
                points.push(one);
            }
        }
        prompts.extend((0..10u32).map(|at| {
            let time = end - MINUTE + u64::from(at) * 1_000_000_000 + 1;
            point(time, tokens * (1.0 + f64::from((at * 7 + minute as u32 * 3) % 10) / 10.0), chat(version, &[]))
        }));
    }
    let mut latency = histogram("http.server.request.duration", points);
    latency.unit = "s".to_owned();
    let metrics = vec![latency, gauge("gen_ai.client.inference.operation.input_tokens", prompts)];
    assert_eq!(export(server, metrics).await, (0, String::new()));
}

/// Duty and memory of a GPU that the service has.
async fn card(server: &Server, start: u64, id: &str, minutes: std::ops::Range<u64>) {
    let labels = || {
        let own =
            [("service.name", "chat"), ("host.name", "h1"), ("hw.id", id), ("hw.type", "gpu"), ("hw.model", "L4")];
        own.map(|(key, value)| label(key, value)).to_vec()
    };
    let points = |value: f64| minutes.clone().map(|minute| point(start + minute * MINUTE, value, labels())).collect();
    let metrics = vec![gauge("hw.gpu.utilization", points(0.5)), gauge("hw.gpu.memory.usage", points(2e10))];
    assert_eq!(export(server, metrics).await, (0, String::new()));
}

/// Ten labels in each of 20 minutes, of which so many say that the prediction was right.
fn labels(start: u64, from: u64, right: u64) -> Vec<Value> {
    let one = |minute: u64, at: u64| {
        let time = time_text(start + (from + minute) * MINUTE + at * 1_000_000);
        json!({ "id": format!("{from}-{minute}-{at}"), "time": time, "predicted": "a", "actual": if at < right { "a" } else { "b" } })
    };
    (0..20).flat_map(|minute| (0..10).map(move |at| one(minute, at))).collect()
}

async fn post(server: &Server, body: &Value) -> (u16, Value) {
    let url = format!("http://{}/api/v1/labels", server.http);
    let response = reqwest::Client::new().post(url).body(body.to_string()).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_card_of_a_move_has_errors_cost_accuracy_and_drift_as_computed_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let (prices, settings) = (dir.path().join("prices.toml"), dir.path().join("driftwatt.toml"));
    std::fs::write(&prices, "currency = \"EUR\"\ngpu_hour = { L4 = 0.6 }\n").unwrap();
    std::fs::write(&settings, format!("[analyze]\nprices = {prices:?}\n")).unwrap();
    let server = Server::start_configured(&dir.path().join("data"), &settings.to_string_lossy());
    let start = now_nanos() / MINUTE * MINUTE - 160 * MINUTE;
    requests(&server, start, "2.9", 0..70, 1, 100.0).await;
    requests(&server, start, "2.10", 70..140, 5, 300.0).await;
    card(&server, start, "g1", 0..150).await;
    card(&server, start, "g2", 71..150).await;
    let unlabelled = answer(&server, &["--at", &time_text(start + 140 * MINUTE)]);
    let why = measure(&unlabelled, "accuracy")["why"].to_string();
    assert!(why.contains("POST /api/v1/labels"), "{why}");

    // 90 % right before, sent twice; 80 % after, from a file, of which a line is odd.
    let before = json!({ "service": "chat", "labels": labels(start, 20, 9) });
    for _ in 0..2 {
        assert_eq!(post(&server, &before).await, (200, json!({ "taken": 200, "refused": 0, "reasons": [] })));
    }
    let mut lines = String::from("time,id,predicted,actual\n");
    for one in labels(start, 90, 8) {
        let text = |key: &str| one[key].as_str().unwrap().to_owned();
        lines += &format!("{},{},{},{}\n", text("time"), text("id"), text("predicted"), text("actual"));
    }
    lines += &format!("{},odd,,b\n", time_text(start));
    let file = dir.path().join("labels.csv");
    std::fs::write(&file, lines).unwrap();
    let url = format!("http://{}", server.http);
    let told = driftwatt()
        .args(["labels", &file.to_string_lossy(), "--service", "chat", "--server", &url, "--format", "json"])
        .output()
        .unwrap();
    assert_eq!(told.status.code(), Some(1), "{}", String::from_utf8_lossy(&told.stderr));
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!((&told["taken"], &told["refused"], &told["reasons"][0]["index"]), (&200.into(), &1.into(), &200.into()));

    let answer = answer(&server, &["--at", &time_text(start + 140 * MINUTE)]);
    // 1 of 50 and 5 of 50.
    let errors = measure(&answer, "share of errors");
    close(&errors["before"]["value"], 0.02, 1e-9);
    close(&errors["after"]["value"], 0.10, 1e-9);
    assert_eq!(errors["verdict"], "worse", "{errors:#}");
    // 0.6 an hour is 0.01 a minute: 0.01 / 50 before, two cards after.
    let cost = measure(&answer, "cost per request");
    close(&cost["before"]["value"], 0.000_2, 0.03);
    close(&cost["after"]["value"], 0.000_4, 0.03);
    assert_eq!(cost["verdict"], "worse", "{cost:#}");
    // Wilson and Newcombe of 180 and 160 of 200, as in `analyze/src/lineage/version_card/tests.rs`.
    let accuracy = measure(&answer, "accuracy");
    close(&accuracy["difference"]["value"], -0.1, 1e-9);
    close(&accuracy["difference"]["low"], -0.169_870, 1e-4);
    close(&accuracy["difference"]["high"], -0.030_029, 1e-4);
    assert_eq!(accuracy["verdict"], "worse", "{accuracy:#}");
    let drift = measure(&answer, "drift of inputs");
    assert_eq!(drift["verdict"], "changed", "{drift:#}");
    let notes = answer["environments"][0]["last_move"]["notes"].to_string();
    assert!(notes.contains("EUR") && notes.contains("input_tokens"), "{notes}");
    let by_version = answer["environments"][0]["accuracy"].as_array().unwrap();
    let told: Vec<_> = by_version.iter().map(|one| (one["version"].as_str(), one["labels"].as_u64())).collect();
    assert_eq!(told, [(Some("2.10"), Some(200)), (Some("2.9"), Some(200))], "{answer:#}");
    close(&by_version[0]["share"], 0.8, 1e-9);
    close(&by_version[0]["low"], 0.739_145, 1e-4);

    // A correction replaces what was told of a prediction.
    let mut corrected = labels(start, 90, 10);
    corrected.iter_mut().for_each(|one| one["correct"] = true.into());
    assert_eq!(post(&server, &json!({ "service": "chat", "labels": corrected })).await.0, 200);
    let corrected = self::answer(&server, &["--at", &time_text(start + 140 * MINUTE)]);
    close(&corrected["environments"][0]["accuracy"][0]["share"], 1.0, 1e-9);
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_that_cannot_be_used_are_refused_one_by_one() {
    let (_dir, server) = crate::server::start();
    let time = time_text(now_nanos());
    let (status, found) = post(
        &server,
        &json!({ "service": "chat", "labels": [
            { "time": time, "correct": true }, { "time": "soon", "correct": true }, { "time": time, "predicted": 1 },
        ] }),
    )
    .await;
    assert_eq!((status, &found["taken"], &found["refused"]), (200, &1.into(), &2.into()), "{found}");
    let reasons = found["reasons"].to_string();
    assert!(reasons.contains("2026-11-16T09:00:00Z") && reasons.contains("both predicted and actual"), "{reasons}");
    for (body, words) in [
        (json!({ "service": " ", "labels": [{ "time": time, "correct": true }] }), "name the service"),
        (json!({ "service": "chat", "labels": [] }), "no label"),
        (json!({ "service": "chat", "labels": [{ "time": "soon", "correct": true }] }), "no label can be used"),
        (json!({ "service": "chat", "labels": [{ "time": time, "corect": true }] }), "corect"),
        (
            json!({ "service": "chat", "labels": vec![json!({ "time": time, "correct": true }); 10_001] }),
            "several requests",
        ),
    ] {
        let (status, answer) = post(&server, &body).await;
        assert!(status == 400 && answer["error"]["message"].as_str().unwrap().contains(words), "{words}: {answer}");
    }
    // A file of which nothing can be used is read to its end, and each row counted.
    let url = format!("http://{}", server.http);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("labels.jsonl");
    std::fs::write(&file, "{\"time\": \"soon\", \"correct\": true}\n{\"time\": \"later\", \"correct\": true}\n")
        .unwrap();
    let told =
        driftwatt().args(["labels", &file.to_string_lossy(), "--service", "chat", "--server", &url]).output().unwrap();
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(
        told.status.code() == Some(1) && text.contains("\"refused\":2"),
        "{text}{}",
        String::from_utf8_lossy(&told.stderr)
    );
    // Of a service that nothing else is known of.
    let output = driftwatt().args(["lineage", "chat", "--server", &url]).output().unwrap();
    assert!(!output.status.success());
}
