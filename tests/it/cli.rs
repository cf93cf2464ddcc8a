//! The command line as scripts use it.

use std::process::Output;

use serde_json::Value;

use crate::{
    otlp::{export, gauge, label, now_nanos, point},
    server::{Server, driftwatt},
};

fn run(args: &[&str]) -> Output {
    driftwatt().args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_runs_against_a_server_or_a_directory_and_tells_by_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    let url = format!("http://{}", server.http);
    let data_text = data.to_string_lossy().into_owned();
    let answer = run(&["sql", "--server", &url, "SELECT 1 AS one"]);
    assert!(answer.status.success(), "{}", text(&answer.stderr));
    let body: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(body["rows"], serde_json::json!([[1]]));
    let failed = run(&["sql", "--server", &url, "SELECT nothing"]);
    assert_eq!(failed.status.code(), Some(1), "{}", text(&failed.stderr));
    let locked = run(&["sql", "--data", &data_text, "SELECT 1"]);
    assert_eq!(locked.status.code(), Some(1));
    assert!(text(&locked.stderr).contains("in use by another driftwatt process"), "{}", text(&locked.stderr));
    let second = run(&[
        "serve",
        "--data",
        &data_text,
        "--http",
        "127.0.0.1:0",
        "--otlp-grpc",
        "127.0.0.1:0",
        "--otlp-http",
        "127.0.0.1:0",
    ]);
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("in use by another driftwatt process"), "{}", text(&second.stderr));
    server.terminate();
    let table = run(&["sql", "--data", &data_text, "--format", "table", "SELECT 1 AS one"]);
    assert!(text(&table.stdout).contains("one"), "{}", text(&table.stderr));
    assert_eq!(run(&["sql"]).status.code(), Some(2));
    assert_eq!(run(&["sql", "--data", "no-such-folder", "SELECT 1"]).status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_at_an_answer_leaves_no_trace_and_asking_for_it_records_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let utilization = |minute: u64| point(now_nanos() - minute * 60_000_000_000, 0.5, vec![label("host.name", "h1")]);
    export(&server, vec![gauge("system.cpu.utilization", vec![utilization(2), utilization(1)])]).await;
    let url = format!("http://{}/api/v1/reports/weekly?format=json&from=2026-01-01&to=2100-01-01", server.http);
    let client = reqwest::Client::new();
    let recorded = "SELECT count(*) FROM information_schema.tables WHERE table_name = 'reports_weekly'";
    assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
    assert_eq!(server.rows(recorded).await, vec![vec![Value::from(0)]]);
    assert_eq!(client.post(&url).send().await.unwrap().status(), 200);
    assert_eq!(server.rows(recorded).await, vec![vec![Value::from(1)]]);
    let unreadable = client.get(url.replace("2026-01-01", "yesterday")).send().await.unwrap();
    assert_eq!(unreadable.status(), 400);
    let body: Value = unreadable.json().await.unwrap();
    assert_eq!(body["error"]["kind"], "invalid");
    assert!(body["error"]["message"].as_str().unwrap().contains("yesterday"), "{body}");
}
