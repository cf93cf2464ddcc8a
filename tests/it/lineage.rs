//! Which data, parameters and code made what ran: from telemetry, marks, OpenLineage and a registry to the answer.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use serde_json::{Value, json};

use crate::{
    otlp::{export, gauge, label, now_nanos, point},
    server::{Server, driftwatt, eventually, start},
};

const MINUTE: u64 = 60_000_000_000;

fn time_text(nanos: u64) -> String {
    chrono::DateTime::from_timestamp_nanos(nanos.cast_signed()).format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn run(server: &Server, args: &[&str]) -> String {
    let url = format!("http://{}", server.http);
    let output = driftwatt().args(args).args(["--server", &url]).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn asked(server: &Server, args: &[&str]) -> Value {
    serde_json::from_str(&run(server, &[&["lineage", "--format", "json"], args].concat())).unwrap()
}

/// Reports of one instance, one a minute in `minutes` after `start`.
async fn report(server: &Server, start: u64, instance: &str, labels: &[(&str, &str)], minutes: std::ops::Range<u64>) {
    let mut named: Vec<KeyValue> =
        vec![label("service.name", "chat"), label("service.instance.id", instance), label("host.name", "h1")];
    named.extend(labels.iter().map(|(key, value)| label(key, value)));
    let points = minutes.map(|minute| point(start + minute * MINUTE, 0.2, named.clone())).collect();
    assert_eq!(export(server, vec![gauge("http.server.request.duration", points)]).await.0, 0);
}

/// What ran in the first environment at a minute: status, version, basis, confidence.
fn at(server: &Server, start: u64, minute: u64) -> Value {
    let answer = asked(server, &["chat", "--at", &time_text(start + minute * MINUTE)]);
    let runs = &answer["environments"][0]["runs"];
    json!([runs["status"], runs["version"], runs["basis"], runs["confidence"]])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ran_at_any_time_comes_from_reports_marks_and_their_order() {
    let (_dir, server) = start();
    let start = now_nanos() / MINUTE * MINUTE - 240 * MINUTE;
    let of = |version: &'static str| {
        [
            ("deployment.environment.name", "prod"),
            ("driftwatt.model.name", "llama"),
            ("driftwatt.model.version", version),
        ]
    };
    // 2.9, then 2.10 on the same instance, which is rolled back, and a restart: all on one day unless midnight lies between.
    report(&server, start, "i-1", &of("2.9"), 0..60).await;
    report(&server, start, "i-1", &of("2.10"), 62..120).await;
    report(&server, start, "i-1", &of("2.9"), 121..180).await;
    report(&server, start, "i-1", &of("2.9"), 184..241).await;
    // Series that name only the program around the model say nothing else.
    report(&server, start, "i-1", &[("deployment.environment.name", "prod"), ("service.version", "7")], 0..241).await;
    let known = |version: &str| json!(["known", version, "telemetry", "confirmed"]);
    for (minute, expected) in
        [(30, "2.9"), (59, "2.9"), (62, "2.10"), (100, "2.10"), (121, "2.9"), (183, "2.9"), (230, "2.9")]
    {
        assert_eq!(at(&server, start, minute), known(expected), "minute {minute}");
    }
    let answer = asked(&server, &["chat"]);
    let environment = &answer["environments"][0];
    assert_eq!((&environment["environment"], &answer["data"]), (&"prod".into(), &"real".into()), "{answer:#}");
    let versions: Vec<&Value> = environment["history"].as_array().unwrap().iter().map(|one| &one["version"]).collect();
    assert_eq!(versions.last().unwrap(), &"2.9");
    let moved = &environment["last_move"];
    assert_eq!((&moved["rollback"], &moved["from"]["version"]), (&true.into(), &"2.10".into()), "{moved:#}");
    let findings = answer["findings"].to_string();
    assert!(findings.contains("single replica"), "{findings}");
    // Nobody asked a registry, so nothing is said about it but how to have one read.
    assert!(answer["notes"].to_string().contains("[lineage.mlflow]") && !findings.contains("registry"), "{answer:#}");

    // A mark in the future is planned; one that instances do not report is claimed.
    let later = time_text(now_nanos() + 600 * MINUTE);
    run(&server, &["deploy", "mark", "chat", "3.0", "--at", &later, "--model", "llama"]);
    run(&server, &["deploy", "mark", "chat", "2.11", "--at", &time_text(start + 200 * MINUTE), "--model", "llama"]);
    let answer = asked(&server, &["chat"]);
    let environment = &answer["environments"][0];
    assert_eq!(environment["runs"]["claimed"]["version"], "2.11", "{environment:#}");
    assert!(environment["planned"][0].as_str().unwrap().starts_with("llama 3.0 from "), "{environment:#}");
    assert!(answer["findings"].to_string().contains("llama 2.11 is deployed by statement, but instances report 2.9"));
    // The table says the same as of any moment.
    let sql = format!(
        "SELECT d.version FROM ((SELECT arrow_cast({}, 'Timestamp(Microsecond, Some(\"UTC\"))') AS at, 'chat' AS service) l \
         ASOF JOIN (SELECT DISTINCT ON (service_name, environment, time) * FROM reports.deployments \
         ORDER BY service_name, environment, time, recorded_time DESC) d \
         MATCH_CONDITION (l.at >= d.time) ON l.service = d.service_name)",
        (start + 100 * MINUTE) / 1_000
    );
    assert_eq!(server.rows(&sql).await, [["2.10"]]);
    let text = run(&server, &["lineage", "chat"]);
    assert!(text.contains("runs       llama 2.9 (confirmed by telemetry)"), "{text}");
    assert!(text.contains("last rollback  llama 2.10 -> llama 2.9"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_and_code_of_a_model_come_from_the_events_of_its_pipeline() {
    let (_dir, server) = start();
    run(&server, &["deploy", "mark", "resize", "12", "--model", "resnet"]);
    let without = asked(&server, &["resize"]);
    let missing = without["environments"][0]["made_of"][0]["missing"].to_string();
    assert!(missing.contains("no registry") && missing.contains("OpenLineage"), "{missing}");
    let facet = |schema: &str, mut fields: Value| {
        fields["_producer"] = "https://example.org".into();
        fields["_schemaURL"] = format!("https://openlineage.io/spec/facets/{schema}").into();
        fields
    };
    let version = |version: &str| facet("1-0-1/DatasetVersionDatasetFacet.json", json!({ "datasetVersion": version }));
    let event = json!({
        "eventType": "COMPLETE", "eventTime": "2026-01-31T12:00:00Z", "producer": "https://example.org",
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": { "runId": "01941f29-7c00-7087-8940-42b2dbd2b4ea" },
        "job": { "namespace": "airflow", "name": "train", "facets": {
            "sourceCodeLocation": facet("1-0-1/SourceCodeLocationJobFacet.json", json!({ "type": "git", "url": "x", "version": "c0ffee" })),
        } },
        "inputs": [{ "namespace": "s3://data", "name": "train_data_202408_resnet", "facets": { "version": version("d41d8cd9") } }],
        "outputs": [{ "namespace": "models", "name": "resnet", "facets": { "version": version("12") } }],
    });
    let url = format!("http://{}/api/v1/lineage", server.http);
    let response = reqwest::Client::new().post(&url).body(event.to_string()).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    let answer = asked(&server, &["resize"]);
    let made = &answer["environments"][0]["made_of"][0];
    assert_eq!((&made["version"], &made["commit_id"]), (&"12".into(), &"c0ffee".into()), "{made:#}");
    let inputs: Vec<&Value> = made["data"].as_array().unwrap().iter().filter(|one| one["side"] == "input").collect();
    assert_eq!(
        (inputs.len(), &inputs[0]["name"], &inputs[0]["digest"]),
        (1, &"train_data_202408_resnet".into(), &"d41d8cd9".into())
    );
    assert!(!made["missing"].to_string().contains("OpenLineage"), "{made:#}");
    let text = run(&server, &["lineage", "resize"]);
    assert!(text.contains("runs       resnet 12 (stated by mark)") && text.contains("commit c0ffee"), "{text}");
    assert!(text.contains("train_data_202408_resnet in s3://data at d41d8cd9"), "{text}");
    // By HTTP as by the command line, and with the server stopped.
    let (status, page) = server.get("/api/v1/lineage?service=resize").await;
    assert!(status == 200 && page == text, "{page}");
}

/// A point per request, with its prompt, of one version from one minute to another; each takes `slower_s` more.
async fn requests(server: &Server, start: u64, version: &str, minutes: std::ops::Range<u64>, slower_s: f64) {
    let labels = || {
        let named = [("driftwatt.model.name", "llama"), ("driftwatt.model.version", version), ("host.name", "h1")];
        let named = named.into_iter().chain([("service.name", "chat"), ("service.instance.id", "i-1")]);
        named.map(|(key, value)| label(key, value)).collect::<Vec<KeyValue>>()
    };
    let (mut latency, mut tokens, mut state) = (Vec::new(), Vec::new(), 7u64 + minutes.start);
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut time = start + minutes.start * MINUTE;
    loop {
        time += (4e9 * random()) as u64 + 1_000;
        if time > start + minutes.end * MINUTE {
            break;
        }
        let prompt = (200.0 + 1_800.0 * random() * random()).round();
        let seconds = (0.04 + 0.0005 * prompt + slower_s) * (0.85 + 0.3 * random());
        latency.push(point(time, seconds, labels()));
        tokens.push(point(time, prompt, labels()));
    }
    let metrics = vec![
        gauge("http.server.request.duration", latency),
        gauge("gen_ai.client.inference.operation.input_tokens", tokens),
    ];
    assert_eq!(export(server, metrics).await.0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_made_requests_slower_at_equal_inputs_has_a_card_that_says_so() {
    let (_dir, server) = start();
    let start = now_nanos() / MINUTE * MINUTE - 150 * MINUTE;
    requests(&server, start, "2.9", 0..70, 0.0).await;
    requests(&server, start, "2.10", 70..140, 0.2).await;
    let answer = asked(&server, &["chat", "--at", &time_text(start + 139 * MINUTE)]);
    let moved = &answer["environments"][0]["last_move"];
    assert_eq!((&moved["from"]["version"], &moved["to"]["version"]), (&"2.9".into(), &"2.10".into()), "{answer:#}");
    let measure = |name: &str| {
        let rows = moved["measures"].as_array().unwrap();
        rows.iter().find(|row| row["measure"] == name).unwrap_or_else(|| panic!("{name}: {moved:#}")).clone()
    };
    for name in ["mean latency, ms", "median latency, ms", "p95 latency, ms", "mean latency at equal inputs, ms"] {
        let row = measure(name);
        assert_eq!(row["verdict"], "worse", "{row:#}");
        let change = row["difference"]["value"].as_f64().unwrap();
        assert!((change - 200.0).abs() < 60.0, "{row:#}");
    }
    for (name, words) in [
        ("accuracy", "POST /api/v1/labels"),
        ("cost per request", "[analyze] prices"),
        ("share of errors", "send error.type or http.response.status_code"),
    ] {
        assert!(measure(name)["why"].as_str().unwrap().contains(words), "{:#}", measure(name));
    }
    assert_eq!(measure("drift of inputs")["verdict"], "no difference");
    // Whether the version before can still be had is not known without a registry.
    let advice = moved["advice"].as_str().unwrap();
    assert!(advice.contains("llama 2.9 can still be deployed: connect the model registry"), "{advice}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_is_known_of_says_what_to_send() {
    let (_dir, server) = start();
    let start = now_nanos() / MINUTE * MINUTE - 10 * MINUTE;
    report(&server, start, "i-1", &[], 0..10).await;
    let text = run(&server, &["lineage", "chat"]);
    assert!(text.contains("names no version: send driftwatt.model.version"), "{text}");
    let (status, body) = server.get("/api/v1/lineage?service=nobody").await;
    assert!(status == 400 && body.contains("nothing is known of a service") && body.contains("chat"), "{body}");
    let ahead = time_text(now_nanos() + 60 * MINUTE);
    let (status, body) = server.get(&format!("/api/v1/lineage?service=chat&at={ahead}")).await;
    assert!(status == 400 && body.contains("not ahead"), "{body}");
    let (status, body) = server.get("/api/v1/lineage?service=chat&format=csv").await;
    assert!(status == 400 && body.contains("text or json"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_of_checkpoints_are_looked_at_and_what_is_wrong_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("models");
    std::fs::create_dir_all(&folder).unwrap();
    let newest = folder.join("model_a_v1.0.pt");
    std::fs::write(&newest, [7; 64]).unwrap();
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3 * 3_600);
    std::fs::File::options().append(true).open(&newest).unwrap().set_modified(old).unwrap();
    let settings = dir.path().join("driftwatt.toml");
    let gone = dir.path().join("gone");
    std::fs::write(
        &settings,
        format!(
            "[[lineage.checkpoints]]\nfolder = {folder:?}\nschedule = \"1h\"\ninterval = \"1s\"\n\
             [[lineage.checkpoints]]\nfolder = {gone:?}\n"
        ),
    )
    .unwrap();
    let server = Server::start_configured(&dir.path().join("data"), &settings.to_string_lossy());
    let stale = format!(
        "SELECT newest_path, newest_size_bytes, schedule_source, alarms LIKE '%is 3.0 h old, more than 2.0 h%' \
         FROM reports.checkpoints WHERE folder = '{}' ORDER BY time LIMIT 1",
        folder.display()
    );
    let rows = eventually(&server, &stale, |rows| !rows.is_empty()).await;
    assert_eq!(rows, [vec![Value::from("model_a_v1.0.pt"), 64.into(), "set".into(), true.into()]]);
    let unreadable =
        "SELECT file_count, alarms LIKE '%cannot be read%' FROM reports.checkpoints WHERE folder LIKE '%gone'";
    let rows = eventually(&server, unreadable, |rows| !rows.is_empty()).await;
    assert_eq!(rows, [vec![Value::Null, true.into()]]);
    assert!(server.log().contains("checkpoints are not in order"), "{}", server.log());
    std::fs::write(folder.join("model_a_v1.1.pt"), [7; 64]).unwrap();
    let fresh = "SELECT newest_path FROM reports.checkpoints WHERE alarm_count = 0 LIMIT 1";
    assert_eq!(eventually(&server, fresh, |rows| !rows.is_empty()).await, [["model_a_v1.1.pt"]]);
    let (_, metrics) = server.get("/metrics").await;
    assert!(metrics.contains("driftwatt_server_checkpoint_alarms{folder="), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_of_minutes_is_seen_beside_many_series_of_another() {
    let (_dir, server) = start();
    let start = now_nanos() / MINUTE * MINUTE - 60 * MINUTE;
    let named = |version: &str, number: &str| {
        vec![
            label("service.name", "chat"),
            label("service.instance.id", "i-1"),
            label("driftwatt.model.name", "llama"),
            label("driftwatt.model.version", version),
            label("number", number),
        ]
    };
    let mut points = vec![point(start + 20 * MINUTE, 0.2, named("2.10", "0"))];
    for number in 0..250 {
        let labels = named("2.9", &number.to_string());
        points.extend([1, 40].map(|minute| point(start + minute * MINUTE, 0.2, labels.clone())));
    }
    assert_eq!(export(&server, vec![gauge("http.server.request.duration", points)]).await.0, 0);
    let answer = asked(&server, &["chat"]);
    let history = answer["environments"][0]["history"].as_array().unwrap();
    assert!(history.iter().any(|interval| interval["version"] == "2.10"), "{answer:#}");
    assert!(answer["notes"].to_string().contains("points of 200 series were read"), "{answer:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_has_the_version_that_ran_where_its_rows_report_none() {
    let (_dir, server) = start();
    let start = now_nanos() / MINUTE * MINUTE - 60 * MINUTE;
    report(&server, start, "i-1", &[], 0..50).await;
    let basis = "SELECT DISTINCT model_version, version_basis FROM deployed('metrics') WHERE service_name = 'chat'";
    assert_eq!(server.rows(basis).await, [[Value::Null, Value::Null]]);
    for (version, minute) in [("1", 10), ("2", 30)] {
        let at = time_text(start + minute * MINUTE);
        run(&server, &["deploy", "mark", "chat", version, "--at", &at, "--model", "llama"]);
    }
    // Of another service, which reports its own.
    let named = [("service.name", "other"), ("service.instance.id", "i-9"), ("driftwatt.model.name", "bert")];
    let named = named.into_iter().chain([("driftwatt.model.version", "7")]).map(|(key, value)| label(key, value));
    let named: Vec<KeyValue> = named.collect();
    let points = (0..20).map(|minute| point(start + minute * MINUTE, 0.1, named.clone())).collect();
    assert_eq!(export(&server, vec![gauge("http.server.request.duration", points)]).await.0, 0);
    run(&server, &["deploy", "mark", "other", "8", "--at", &time_text(start + 5 * MINUTE), "--model", "bert"]);
    let by_version = "SELECT service_name, model_name, model_version, version_basis, count(*) FROM deployed('latency') \
                      WHERE role = 'latency.e2e' GROUP BY 1, 2, 3, 4 ORDER BY 1, 3 NULLS FIRST";
    assert_eq!(
        Value::from(server.rows(by_version).await),
        json!([
            ["chat", null, null, null, 10],
            ["chat", "llama", "1", "deployed", 20],
            ["chat", "llama", "2", "deployed", 20],
            ["other", "bert", "7", "reported", 20],
        ])
    );
    let only = "SELECT count(*) FROM deployed('latency') WHERE model_version = '2' AND service_name = 'chat'";
    assert_eq!(server.rows(only).await, [[20]]);
    // The column is not changed in the view, and a question without versions has the plan of the view.
    let raw = "SELECT count(model_version) FROM latency WHERE service_name = 'chat'";
    assert_eq!(server.rows(raw).await, [[0]]);
    let plan = server.rows("EXPLAIN SELECT avg(value) FROM deployed('latency') WHERE service_name = 'chat'").await;
    assert!(!format!("{plan:?}").contains("deployments"), "{plan:?}");
    let (status, answer) = server.ask(json!({ "query": "SELECT * FROM deployed('orders')" })).await;
    assert!(status == 400 && answer.to_string().contains("metrics, gpu, system"), "{answer}");
}
