//! From OTLP to the sentence that says why latency changed.

use std::path::Path;

use opentelemetry_proto::tonic::{common::v1::KeyValue, metrics::v1::NumberDataPoint};
use serde_json::Value;

use crate::{
    otlp::{export, gauge, label, now_nanos, point},
    server::{Server, driftwatt, start},
    smtp::SmtpServer,
};

const MINUTE: u64 = 60_000_000_000;

fn run(args: &[&str]) -> String {
    let output = driftwatt().args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn failure(args: &[&str]) -> String {
    let output = driftwatt().args(args).output().unwrap();
    assert!(!output.status.success(), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn time_text(nanos: u64) -> String {
    chrono::DateTime::from_timestamp_nanos(nanos.cast_signed()).format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Every SQL that the answer shows runs and finds something.
fn check_evidence(answer: &Value, data: &str) {
    let shown: Vec<&Value> =
        answer["evidence"].as_array().unwrap().iter().filter(|one| !one["sql"].is_null()).collect();
    assert!(shown.len() >= 2, "{answer:#}");
    for evidence in shown {
        let sql = evidence["sql"].as_str().unwrap();
        let rows: Value = serde_json::from_str(&run(&["sql", "--data", data, "--format", "json", sql])).unwrap();
        assert!(!rows["rows"].as_array().unwrap().is_empty(), "{sql}");
    }
}

#[test]
fn the_incident_of_the_demo_is_named_with_its_milliseconds() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("demo").to_string_lossy().into_owned();
    let text = run(&["demo", "--once", "--incident", "--data", &folder]);
    assert!(text.contains("verdict     input (other inputs)"), "{text}");
    assert!(text.contains("ms from megapixels"), "{text}");
    let data = Path::new(&folder).join("data").to_string_lossy().into_owned();
    let words: Vec<&str> = text.split_whitespace().collect();
    let after = |name: &str| words[words.iter().position(|word| *word == name).unwrap() + 1];
    let (from, to) = (after("--from"), after("--to"));
    let asked = |format: &str| {
        run(&["diagnose", "image-describe", "--data", &data, "--from", from, "--to", to, "--format", format])
    };
    let answer: Value = serde_json::from_str(&asked("json")).unwrap();
    assert_eq!((answer["verdict"].as_str(), answer["simulated"].as_bool()), (Some("input"), Some(true)), "{answer:#}");
    assert_eq!(answer["source"]["kind"], "interval_means");
    assert_eq!(answer["source"]["has_buckets"], true);
    let found = &answer["comparison"];
    let change = found["mean_after_ms"].as_f64().unwrap() - found["mean_before_ms"].as_f64().unwrap();
    let input = found["input_ms"]["value"].as_f64().unwrap();
    // The generator: 0.7 · 0.6 · 95 ms · (10 - 1.05) megapixels, times the mean of its scatter.
    assert!((input - 364.0).abs() < 60.0 && (input - change).abs() < 0.1 * change, "{found:#}");
    let categories = found["categories"].as_array().unwrap();
    assert!(categories.iter().any(|one| one["label"] == "client.version" && one["value"] == "4.2"), "{found:#}");
    check_evidence(&answer, &data);
    let html = asked("html");
    assert!(html.contains("SIMULATED") && html.matches("<svg class=\"chart\"").count() == 4, "{html}");
    assert!(asked("md").contains("## Evidence"));

    // By a moment alone, in SQL, and as rows of the table.
    let at = failure(&["diagnose", "image-describe", "--data", &data, "--at", "2020-01-01"]);
    assert!(at.contains("no latency or input of a service \"image-describe\""), "{at}");
    let unknown = failure(&["diagnose", "nobody", "--data", &data, "--from", from, "--to", to]);
    assert!(unknown.contains("services with metrics then: image-describe"), "{unknown}");
    let sql = format!("SELECT verdict, onset IS NOT NULL AS placed FROM diagnose('image-describe', '{from}', '{to}')");
    let rows: Value = serde_json::from_str(&run(&["sql", "--data", &data, "--format", "json", &sql])).unwrap();
    assert_eq!(rows["rows"], serde_json::json!([["input", true]]));
    let recorded = "SELECT count(*) AS rows, min(verdict) AS verdict FROM reports.diagnoses";
    let rows: Value = serde_json::from_str(&run(&["sql", "--data", &data, "--format", "json", recorded])).unwrap();
    assert_eq!(rows["rows"][0][1], "input");
}

/// A point per request of one service on one host: prompts triple after 70 of 130 minutes.
fn single_requests(start: u64) -> (Vec<NumberDataPoint>, Vec<NumberDataPoint>) {
    let labels = || -> Vec<KeyValue> { vec![label("service.name", "chat"), label("host.name", "h1")] };
    let (mut latency, mut tokens) = (Vec::new(), Vec::new());
    let mut state = 7u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut time = start;
    loop {
        time += (4e9 * random()) as u64 + 1_000;
        if time > start + 130 * MINUTE {
            break;
        }
        let factor = if time >= start + 70 * MINUTE && random() < 0.6 { 4.0 } else { 1.0 };
        let prompt = (200.0 + 1_800.0 * random() * random()) * factor;
        let seconds = (0.04 + 0.0005 * prompt) * (0.85 + 0.3 * random());
        latency.push(point(time, seconds, labels()));
        tokens.push(point(time, prompt.round(), labels()));
    }
    (latency, tokens)
}

#[tokio::test(flavor = "multi_thread")]
async fn single_requests_are_joined_by_time_and_a_marked_deployment_stands_first() {
    let (_dir, server) = start();
    let start = now_nanos() / MINUTE * MINUTE - 150 * MINUTE;
    let (latency, tokens) = single_requests(start);
    let requests = latency.len() as u64;
    let metrics = vec![
        gauge("http.server.request.duration", latency),
        gauge("gen_ai.client.inference.operation.input_tokens", tokens),
    ];
    assert_eq!(export(&server, metrics).await.0, 0);
    let url = format!("http://{}", server.http);
    let (from, to) = (time_text(start), time_text(start + 130 * MINUTE));
    let ask = || -> Value {
        let text = run(&["diagnose", "chat", "--server", &url, "--from", &from, "--to", &to, "--format", "json"]);
        serde_json::from_str(&text).unwrap()
    };
    let blind = ask();
    assert_eq!(blind["verdict"], "inconclusive", "{blind:#}");
    assert!(blind["missing"].to_string().contains("machine health is missing"), "{blind:#}");
    let attributes = || {
        vec![label("host.name", "h1"), label("hw.id", "GPU-1"), label("driftwatt.gpu.throttle.reason", "hw_thermal")]
    };
    let throttle = (0..=130).map(|minute| point(start + minute * MINUTE, 0.0, attributes())).collect();
    assert_eq!(export(&server, vec![gauge("driftwatt.gpu.throttle", throttle)]).await.0, 0);
    let marked = run(&["deploy", "mark", "chat", "2.10", "--at", &time_text(start + 69 * MINUTE), "--server", &url]);
    assert!(marked.starts_with("marked: chat 2.10"), "{marked}");
    let answer = ask();
    assert_eq!(answer["verdict"], "input", "{answer:#}");
    assert_eq!(answer["source"]["kind"], "single_requests");
    assert_eq!(answer["source"]["requests"], requests);
    assert_eq!(answer["source"]["rows"], requests, "every request found its tokens");
    let first = answer["evidence"][0]["finding"].as_str().unwrap();
    assert!(first.starts_with("deployment of chat 2.10 (marked)"), "{first}");
    for evidence in answer["evidence"].as_array().unwrap().iter().filter(|one| !one["sql"].is_null()) {
        assert!(!server.rows(evidence["sql"].as_str().unwrap()).await.is_empty());
    }
    let (status, page) = server.get(&format!("/api/v1/diagnose?service=chat&from={from}&to={to}&format=html")).await;
    assert_eq!(status, 200, "{page}");
    let (status, refused) = server.get("/api/v1/diagnose?service=chat&from=2026-01-01&to=2026-03-01").await;
    assert!(status == 400 && refused.contains("ask about a shorter time"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gauge_that_is_sampled_is_no_request() {
    let (_dir, server): (_, Server) = start();
    let start = now_nanos() / MINUTE * MINUTE - 150 * MINUTE;
    let labels = || vec![label("service.name", "sampled"), label("host.name", "h1")];
    let values =
        |value: f64| (0..520).map(|step| point(start + step * MINUTE / 4, value, labels())).collect::<Vec<_>>();
    let metrics = vec![
        gauge("http.server.request.duration", values(0.2)),
        gauge("gen_ai.client.inference.operation.input_tokens", values(9.0)),
    ];
    assert_eq!(export(&server, metrics).await.0, 0);
    let url = format!("http://{}", server.http);
    let times = [time_text(start), time_text(start + 130 * MINUTE)];
    let text = run(&["diagnose", "sampled", "--server", &url, "--from", &times[0], "--to", &times[1]]);
    assert!(
        text.contains("is a gauge that is read at a fixed interval") && text.contains("verdict     inconclusive"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_diagnoses_who_is_over_the_limit_and_tells_by_mail() {
    let smtp = SmtpServer::start(0).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("driftwatt.toml");
    let job = |name: &str, rest: &str| {
        format!(
            "[[schedule]]\nname = \"{name}\"\njob = \"diagnose\"\ncron = \"0 7 1 1 *\"\nservices = [\"chat\", \"nobody\"]\n{rest}\n"
        )
    };
    let text = format!(
        "[delivery.mail]\nhost = \"127.0.0.1\"\nport = {}\nsecurity = \"none\"\nfrom = \"driftwatt@example.com\"\n\
         to = [\"ops@example.com\"]\n{}{}{}",
        smtp.port,
        job("slow", "p95_ms_max = 400"),
        job("fine", "p95_ms_max = 100000"),
        job("always", "attach = [\"json\"]"),
    );
    std::fs::write(&file, text).unwrap();
    let server = Server::start_configured(&dir.path().join("data"), &file.to_string_lossy());
    let (latency, tokens) = single_requests(now_nanos() / MINUTE * MINUTE - 150 * MINUTE);
    let metrics = vec![
        gauge("http.server.request.duration", latency),
        gauge("gen_ai.client.inference.operation.input_tokens", tokens),
    ];
    assert_eq!(export(&server, metrics).await.0, 0);
    let url = format!("http://{}", server.http);
    let ran = |name: &str| -> Value {
        serde_json::from_str(&run(&["schedule", "run", name, "--server", &url, "--format", "json"])).unwrap()
    };
    let fine = ran("fine");
    assert_eq!((&fine["outcome"], smtp.taken().len()), (&"succeeded".into(), 0), "{fine}");
    let summary = fine["summary"].as_str().unwrap();
    assert!(summary.starts_with("0 of 2 services over the limit, 1 not known: nobody: no latency"), "{summary}");
    let slow = ran("slow");
    assert_eq!(slow["summary"], "1 of 2 services over the limit, 1 not known", "{slow}");
    let taken = smtp.taken();
    assert!(taken.len() == 1 && taken[0].data.contains("Subject: latency of chat"), "{taken:?}");
    assert!(taken[0].data.contains("not looked at: nobody"), "{}", taken[0].data);
    let rows = server.rows("SELECT service_name, count(*) FROM reports.diagnoses GROUP BY 1").await;
    assert_eq!(rows, [vec![Value::from("chat"), 1.into()]]);
    assert_eq!(ran("always")["summary"], "1 of 2 services diagnosed, 1 not known");
    assert_eq!(server.rows("SELECT count(*) FROM reports.diagnoses").await, [[2]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_comes_every_week_is_said_to() {
    let (_dir, server) = start();
    let start = now_nanos() / MINUTE * MINUTE - 150 * MINUTE;
    let url = format!("http://{}", server.http);
    let (from, to) = (time_text(start), time_text(start + 130 * MINUTE));
    let ask = || -> Value {
        let text = run(&["diagnose", "chat", "--server", &url, "--from", &from, "--to", &to, "--format", "json"]);
        serde_json::from_str(&text).unwrap()
    };
    let week = async |weeks: u64| {
        let (latency, tokens) = single_requests(start - weeks * 7 * 24 * 60 * MINUTE);
        let metrics = vec![
            gauge("http.server.request.duration", latency),
            gauge("gen_ai.client.inference.operation.input_tokens", tokens),
        ];
        assert_eq!(export(&server, metrics).await.0, 0);
    };
    week(0).await;
    week(1).await;
    let once = ask();
    assert!(once["notes"].to_string().contains("every week is not known: 1 of the 4 weeks before has"), "{once:#}");
    week(3).await;
    let again = ask();
    assert!(again["sentence"].as_str().unwrap().ends_with("at this time every week."), "{again:#}");
    let first = &again["evidence"][0];
    assert!(first["finding"].as_str().unwrap().contains("1 week before"), "{first:#}");
    let weeks = server.rows(first["sql"].as_str().unwrap()).await;
    assert_eq!(weeks.iter().map(|row| row[0].as_i64().unwrap()).collect::<Vec<_>>(), [0, 1, 3]);
}
