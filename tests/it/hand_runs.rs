//! Drift and checks that somebody asks for are rows of `runs`, with all that is needed to ask again.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    otlp::{export, gauge, label, now_nanos, point},
    server::{Server, driftwatt},
};

const HOUR: u64 = 3_600_000_000_000;

const CONTRACT: &str = "apiVersion: v3.1.0
kind: DataContract
id: 53581432-6c55-4ba2-a65f-72344a91553a
version: 2.0.0
status: active
schema:
  - name: lengths
    quality:
      - { metric: rowCount, mustBeGreaterOrEqualTo: 100 }
    properties:
      - { name: time, logicalType: timestamp }
      - { name: value, logicalType: number }
";

fn time(nanos: u64) -> String {
    chrono::DateTime::from_timestamp_nanos(nanos as i64).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// What driftwatt writes as JSON.
fn ask(arguments: &[&str]) -> Value {
    let output = driftwatt().args(arguments).args(["--format", "json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

/// 600 lengths in each of the three hours before `end`; the last are three times as long.
async fn send_lengths(server: &Server, end: u64) {
    let points = (0..1_800u64).map(|at| {
        let value = (at * 37 % 101) as f64 * if at >= 1_200 { 3.0 } else { 1.0 };
        point(end - 3 * HOUR + at * (HOUR / 600), value, vec![label("region", "eu")])
    });
    assert_eq!(export(server, vec![gauge("driftwatt.input.length", points.collect())]).await.0, 0);
}

/// Configuration, contract and a batch in `dir`; `reference` is called "model 7".
fn files(dir: &Path, reference: &str) -> [String; 3] {
    let settings =
        format!("[drift.weights]\n\"driftwatt.input.length\" = 2.5\n[drift.references]\n\"model 7\" = {reference:?}\n");
    let batch = format!("time,value\n{}", "2026-11-01T00:00:00Z,1.5\n".repeat(120));
    let written = [("driftwatt.toml", settings.as_str()), ("contract.yaml", CONTRACT), ("lengths.csv", batch.as_str())];
    written.map(|(name, text)| {
        fs::write(dir.join(name), text).unwrap();
        dir.join(name).display().to_string()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_by_hand_is_recorded_and_can_be_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let end = now_nanos() / HOUR * HOUR;
    let windows =
        [format!("{}/{}", time(end - 3 * HOUR), time(end - HOUR)), format!("{}/{}", time(end - HOUR), time(end))];
    let [config, contract, batch] = files(dir.path(), &windows[0]);
    let server = Server::start_configured(&dir.path().join("data"), &config);
    send_lengths(&server, end).await;
    let url = format!("http://{}", server.http);
    let metric = "driftwatt.input.length";
    let drift = ["drift", "--server", &url, "--metric", metric, "--reference", "model 7", "--current", &windows[1]];
    let score = ask(&drift);
    assert_eq!((&score["decision"]["status"], &score["weight"]), (&json!("critical"), &json!(2.5)), "{score}");
    assert_eq!(score["impact"].as_f64().unwrap(), score["decision"]["severity"].as_f64().unwrap() * 2.5);
    let text = driftwatt().args(drift).args(["--format", "text"]).output().unwrap();
    assert!(String::from_utf8_lossy(&text.stdout).contains("by its weight 2.5"), "{text:?}");
    let ranked = "SELECT impact = severity * 2.5 FROM reports.drift_scores";
    assert_eq!(json!(server.rows(ranked).await), json!([[true], [true]]));
    let points = ["check", "--server", &url, "--metric", metric, "--window", &windows[1], "--contract", &contract];
    assert_eq!(ask(&points)["status"], "pass");
    let file = ["check", &batch, "--server", &url, "--contract", &contract];
    let checked = ask(&file);
    assert_eq!(checked["status"], "pass", "{checked}");
    let runs = "SELECT job, schedule, started_by, outcome, summary, finished >= started, table_versions IS NOT NULL \
                FROM reports.runs ORDER BY started";
    let of = |job: &str, summary: &str| json!([job, null, "hand", "succeeded", summary, true, true]);
    assert_eq!(
        json!(server.rows(runs).await),
        json!([
            of("drift", "drift of driftwatt.input.length: critical"),
            of("drift", "drift of driftwatt.input.length: critical"),
            of("check", "check of driftwatt.input.length: pass, 600 points"),
            of("check", "check of lengths.csv: pass, 120 rows"),
        ])
    );
    // The questions of the table, asked again: the same answers.
    let asked = "SELECT parameters FROM reports.runs ORDER BY started";
    let asked: Vec<Value> =
        server.rows(asked).await.iter().map(|row| serde_json::from_str(row[0].as_str().unwrap()).unwrap()).collect();
    let client = reqwest::Client::new();
    let question = asked[0]["question"].as_object().unwrap();
    assert_eq!(question["reference"], windows[0], "a name may mean another window tomorrow");
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pairs: Vec<(&String, String)> = question.iter().map(|(name, value)| (name, plain(value))).collect();
    let again = client.post(format!("{url}/api/v1/drift")).query(&pairs).send().await.unwrap().text().await.unwrap();
    let again: Value = serde_json::from_str(&again).unwrap_or_else(|_| panic!("{again}"));
    assert_eq!(again["comparison"], score["comparison"]);
    let again = client.post(format!("{url}/api/v1/check")).json(&asked[2]["question"]).send().await.unwrap();
    let again: Value = serde_json::from_str(&again.text().await.unwrap()).unwrap();
    assert_eq!(again["digest"], ask(&points)["digest"]);
    assert_eq!((&asked[3]["digest"], &asked[3]["contract"]["version"]), (&checked["digest"], &json!("2.0.0")));
    // A look leaves no trace, and neither does a question that is none.
    let before = server.rows("SELECT count(*) FROM reports.runs").await;
    let looked = format!("/api/v1/drift?metric={metric}&reference={}&current={}&format=json", windows[0], windows[1]);
    assert_eq!(server.get(&looked).await.0, 200);
    let refused =
        driftwatt().args(["drift", "--server", &url, "--metric", metric, "--current", "today"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert_eq!(server.rows("SELECT count(*) FROM reports.runs").await, before);
    // Of a directory whose server is stopped, too.
    server.terminate();
    let data = dir.path().join("data").display().to_string();
    assert_eq!(ask(&["check", &batch, "--data", &data, "--contract", &contract])["status"], "pass");
    let counted = "SELECT count(*) FROM reports.runs WHERE started_by = 'hand'";
    let counted = driftwatt().args(["sql", "--data", &data, counted]).output().unwrap();
    let counted: Value = serde_json::from_slice(&counted.stdout).unwrap();
    assert_eq!(counted["rows"], json!([[before[0][0].as_i64().unwrap() + 1]]));
}
