//! The real binary with its tables on an S3 server: credentials from the environment, a kill, a check.

use std::{
    path::Path,
    process::{Command, Output},
};

use axum::{Router, error_handling::HandleError, http::StatusCode};
use s3s::{HttpError, auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    otlp::{export, gauge, now_nanos, point},
    server::{Server, driftwatt},
};

const SECRET: &str = "secret-of-the-test";

/// Serves `root` until the test ends; returns the endpoint.
async fn serve(root: &TempDir) -> String {
    std::fs::create_dir(root.path().join("bucket")).unwrap();
    let mut builder = S3ServiceBuilder::new(FileSystem::new(root.path()).unwrap());
    builder.set_auth(SimpleAuth::from_single("AKIDTEST", SECRET));
    let service = HandleError::new(builder.build(), |error: HttpError| async move {
        (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:?}"))
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback_service(service)).await.unwrap() });
    endpoint
}

fn variables(endpoint: &str) -> [(&str, &str); 6] {
    [
        ("DRIFTWATT_STORE__TABLES", "s3://bucket/fleet"),
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "AKIDTEST"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
    ]
}

async fn send(server: &Server, count: u64) {
    let now = now_nanos();
    let points = (0..count).map(|index| point(now - index * 1_000_000, 1.0, vec![]));
    assert_eq!(export(server, vec![gauge("on.s3", points.collect())]).await.0, 0);
}

fn run(mut command: Command, data: &Path, endpoint: &str) -> Output {
    command.arg("--data").arg(data).envs(variables(endpoint)).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_keeps_its_tables_on_s3_through_a_kill_and_the_commands_find_them() {
    let (root, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let endpoint = serve(&root).await;
    let data = dir.path().join("data");
    let server = Server::start_with(&data, &variables(&endpoint));
    send(&server, 30).await;
    server.flush().await;
    send(&server, 12).await;
    let count = "SELECT count(*), sum(value) FROM metrics WHERE metric = 'on.s3'";
    assert_eq!(server.rows(count).await, [[json!(42), json!(42.0)]]);
    let log = server.log();
    server.kill();
    assert!(!log.contains(SECRET), "{log}");
    let server = Server::start_with(&data, &variables(&endpoint));
    assert_eq!(server.rows(count).await, [[json!(42), json!(42.0)]]);
    server.terminate();
    assert!(!data.join("tables/samples").exists() && root.path().join("bucket/fleet/samples/_delta_log").is_dir());
    for (command, expected) in [("verify", "\"sound\""), ("inspect", "on.s3")] {
        let mut checking = driftwatt();
        checking.args([command, "--format", "json"]);
        let output = run(checking, &data, &endpoint);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains(expected), "{command}: {text} {output:?}");
    }
    let mut retention = driftwatt();
    retention.args(["retention", "--dry-run", "--format", "json"]);
    let output = run(retention, &data, &endpoint);
    assert!(output.status.success(), "{output:?}");
    let mut question = driftwatt();
    question.args(["sql", count, "--format", "json"]);
    let output = run(question, &data, &endpoint);
    assert!(String::from_utf8_lossy(&output.stdout).contains("42"), "{output:?}");
    // Without the setting the directory is refused, with words on where its tables are.
    let refused = driftwatt().args(["sql", count, "--data"]).arg(&data).output().unwrap();
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && text.contains("s3://bucket/fleet"), "{text}");
}
