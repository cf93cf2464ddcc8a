//! The command line as scripts use it.

use std::process::Output;

use serde_json::Value;

use crate::server::{Server, driftwatt};

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
