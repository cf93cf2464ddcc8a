//! The server at its limits: what it refuses, how it says so, and that it goes on.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use prost::Message as _;
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    grpc::{EXPORT_METRICS, call},
    otlp::{export, gauge, label, now_nanos, point, post, request},
    server::{Server, driftwatt},
};

/// `count` points of one series each, numbered from `first`.
fn series(metric: &str, first: u64, count: u64) -> Vec<opentelemetry_proto::tonic::metrics::v1::Metric> {
    let now = now_nanos();
    let points = (first..first + count).map(|n| point(now, n as f64, vec![label("n", &n.to_string())]));
    vec![gauge(metric, points.collect())]
}

async fn count(server: &Server, metric: &str) -> u64 {
    let rows = server.rows(&format!("SELECT count(*) FROM raw.samples WHERE metric = '{metric}'")).await;
    rows[0][0].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_disk_floor_writes_are_refused_with_a_time_to_retry_and_reads_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    assert_eq!(export(&server, series("disk", 0, 10)).await.0, 0);
    server.kill();
    // No disk has as much free.
    let server = Server::start_with(&data, &[("DRIFTWATT_STORE__DISK_FREE_MIN", "10000000GiB")]);
    let body = request(series("disk", 10, 10)).encode_to_vec();
    let url = format!("http://{}/v1/metrics", server.otlp_http);
    let post = reqwest::Client::new().post(url).header("content-type", "application/x-protobuf").body(body.clone());
    let answer = post.send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (503, "5"));
    let status = call(&server.otlp_grpc, EXPORT_METRICS, body, false).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("disk_free_min"), "{status}");
    let details = String::from_utf8_lossy(status.details()).into_owned();
    assert!(details.contains("google.rpc.RetryInfo"), "{details}");
    assert_eq!(count(&server, "disk").await, 10);
    server.flush().await;
    assert_eq!(count(&server, "disk").await, 10);
    assert_eq!(server.get("/readyz").await.0, 200);
    let metrics = server.get("/metrics").await.1;
    assert!(metrics.contains("driftwatt_store_disk_free_min_bytes 10737418240000000"), "{metrics}");
    server.terminate();
    let server = Server::start_with(&data, &[("DRIFTWATT_STORE__DISK_FREE_MIN", "0B")]);
    assert_eq!(export(&server, series("disk", 10, 10)).await.0, 0);
    assert_eq!(count(&server, "disk").await, 20);
}

/// The server where no file may grow beyond `blocks` × 512 bytes, as on a disk that is full for it.
fn with_small_files(blocks: u32) -> Command {
    let mut command = Command::new("sh");
    // The signal that comes with the limit is ignored, so that the write fails instead.
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    command.args(["-c", &script]).arg(env!("CARGO_BIN_EXE_driftwatt"));
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_write_without_space_is_taken_back_and_the_log_goes_on_once_there_is_some() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start_command(with_small_files(256), &data, &[]);
    let client = reqwest::Client::new();
    let (mut acknowledged, mut sent) = (0, 0u64);
    // Few series, so that the log grows much faster than the tables.
    let start = now_nanos() - 3_600_000_000_000;
    let body = |number: u64| {
        let time = |n| start + (number * 50 + n) * 1000;
        let points = (0..50).map(|n| point(time(n), number as f64, vec![label("n", &(n % 5).to_string())]));
        request(vec![gauge("full", points.collect())]).encode_to_vec()
    };
    // Refused and accepted again three times: each time a flush that nobody asked for makes room.
    let (mut refused_before, mut recovered) = (false, 0);
    while recovered < 3 {
        sent += 1;
        match post(&client, &server.otlp_http, body(sent), &[]).await.unwrap() {
            (200, _) => {
                acknowledged += 50;
                recovered += u32::from(refused_before);
                refused_before = false;
            }
            (503, answer) => {
                assert!(String::from_utf8_lossy(&answer).contains("could not grow"), "{}", server.log());
                refused_before = true;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            (status, answer) => panic!("{status}: {}", String::from_utf8_lossy(&answer)),
        }
        assert!(sent < 2000, "{recovered} times; {}", server.log());
    }
    assert_eq!(count(&server, "full").await, acknowledged);
    server.kill();
    let server = Server::start(&data);
    assert_eq!(count(&server, "full").await, acknowledged);
    assert!(!server.log().contains("poisoned"), "{}", server.log());
    assert!(!server.log().contains("cut the torn end"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn series_over_the_limit_are_refused_and_counted_and_known_ones_go_on_after_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let settings = [("DRIFTWATT_INGEST__SERIES_PER_METRIC_MAX", "10")];
    let server = Server::start_with(&data, &settings);
    let (refused, message) = export(&server, series("many", 0, 15)).await;
    assert_eq!(refused, 5, "{message}");
    assert!(message.contains("cardinality_limit: 5 points"), "{message}");
    assert_eq!(export(&server, series("other", 0, 3)).await.0, 0);
    let counted = "SELECT reason, metric, sum(count) FROM rejections GROUP BY reason, metric";
    assert_eq!(server.rows(counted).await, [[json!("cardinality_limit"), json!("many"), json!(5)]]);
    let line = "driftwatt_ingest_rejected_points_total{reason=\"cardinality_limit\"} 5";
    assert!(server.get("/metrics").await.1.contains(line));
    server.flush().await;
    server.terminate();
    let server = Server::start_with(&data, &settings);
    // Had the restart forgotten them, the new ones would take the places of the known ones.
    assert_eq!(export(&server, series("many", 10, 5)).await.0, 5);
    assert_eq!(export(&server, series("many", 0, 10)).await.0, 0);
    assert_eq!(count(&server, "many").await, 20);
    let sql = "SELECT metric, attribute, series_count, distinct_values, round(share, 2) FROM system.cardinality \
               ORDER BY metric, attribute NULLS FIRST";
    for _flushed in [false, true] {
        let rows = server.rows(sql).await;
        let expected = [
            [json!("many"), Value::Null, json!(10), Value::Null, json!(0.77)],
            [json!("many"), json!("n"), json!(10), json!(10), json!(1.0)],
            [json!("other"), Value::Null, json!(3), Value::Null, json!(0.23)],
            [json!("other"), json!("n"), json!(3), json!(3), json!(1.0)],
        ];
        assert_eq!(rows, expected);
        server.flush().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_series_are_limited_by_the_minute() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("DRIFTWATT_INGEST__NEW_SERIES_PER_MINUTE_MAX", "3")];
    let server = Server::start_with(&dir.path().join("data"), &settings);
    let (refused, message) = export(&server, series("new", 0, 5)).await;
    assert_eq!(refused, 2, "{message}");
    assert!(message.contains("new_series_rate: 2 points"), "{message}");
    assert_eq!(export(&server, series("new", 0, 3)).await.0, 0, "known series are not new");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_divided_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(&dir.path().join("data"), &[("DRIFTWATT_LIMITS__MEMORY", "512MiB")]);
    let settings = server.rows("SELECT value FROM system.settings WHERE name = 'limits.memory'").await;
    assert_eq!(settings, [[json!((512u64 << 20).to_string())]]);
    let shares = "SELECT sum(CAST(value AS BIGINT)) FROM system.settings WHERE name LIKE 'limits.memory.%'";
    let total = server.rows(shares).await[0][0].as_u64().unwrap();
    assert!((400 << 20..=512 << 20).contains(&total), "{total}");
    let metrics = server.get("/metrics").await.1;
    for line in [
        "driftwatt_server_memory_share_bytes{share=\"queries\"}",
        "driftwatt_server_memory_used_bytes{share=\"memtable\"}",
    ] {
        assert!(metrics.contains(line), "{line} not in\n{metrics}");
    }
}

/// What `serve` says when it does not start.
fn refusal(data: &Path, variables: &[(&str, &str)]) -> String {
    let free = "127.0.0.1:0";
    let output = driftwatt()
        .args([
            "serve",
            "--http",
            free,
            "--otlp-grpc",
            free,
            "--otlp-http",
            free,
            "--flight",
            free,
            "--postgres",
            free,
            "--data",
        ])
        .arg(data)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Data directory, environment, and what must be said.
type Case<'a> = (&'a Path, &'a [(&'a str, &'a str)], &'a [&'a str]);

#[test]
fn what_cannot_work_is_refused_at_start_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "mine").unwrap();
    let newer = dir.path().join("newer");
    fs::create_dir(&newer).unwrap();
    fs::write(newer.join("FORMAT"), "driftwatt data format 7\n").unwrap();
    let cases: [Case<'_>; 4] = [
        (&file, &[], &["file is a file, not a directory", "--data"]),
        (&newer, &[], &["format 7, newer than 1", "left untouched"]),
        (Path::new("/proc/driftwatt"), &[], &["/proc/driftwatt cannot be written", "No such file"]),
        (&dir.path().join("d"), &[("DRIFTWATT_QUERY__MEMORY", "100GiB")], &["limits.memory is", "queries 102400 MiB"]),
    ];
    for (data, variables, expected) in cases {
        let said = refusal(data, variables);
        for part in expected {
            assert!(said.contains(part), "{part:?} not in {said}");
        }
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "mine");
    assert_eq!(fs::read_dir(newer).unwrap().count(), 1);
}

/// All files below `dir`.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_during_flushes_loses_nothing_and_leaves_no_half_file() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut acknowledged = 0;
    for round in 0..5 {
        let server = Server::start_with(&data, &[("DRIFTWATT_STORE__FLUSH_SIZE", "256KiB")]);
        let address = server.otlp_http.clone();
        let sender = tokio::spawn(async move {
            let client = reqwest::Client::new();
            let mut count = 0;
            for n in 0.. {
                let body = request(series("stop", (round * 100_000 + n) * 200, 200)).encode_to_vec();
                match post(&client, &address, body, &[]).await {
                    Ok((200, _)) => count += 200,
                    Ok((429 | 503, _)) => {}
                    Ok((status, answer)) => panic!("{status}: {}", String::from_utf8_lossy(&answer)),
                    Err(_stopped) => break,
                }
            }
            count
        });
        tokio::time::sleep(Duration::from_millis(150 + 130 * round)).await;
        server.terminate();
        acknowledged += sender.await.unwrap();
        let tables = data.join("tables");
        let all = files(&tables);
        let log: String = all
            .iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .map(|path| fs::read_to_string(path).unwrap())
            .collect();
        for path in &all {
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(!name.ends_with(".tmp"), "{}", path.display());
            let is_data = path.parent().is_some_and(|parent| !parent.ends_with("_delta_log"));
            assert!(!is_data || log.contains(name), "{} belongs to no version", path.display());
        }
    }
    let server = Server::start(&data);
    assert!(acknowledged > 0);
    // A request whose answer the stop cut off may be there too, whole.
    let stored = count(&server, "stop").await;
    assert!(stored >= acknowledged && (stored - acknowledged) % 200 == 0, "{stored} of {acknowledged}");
}

#[tokio::test(flavor = "multi_thread")]
async fn late_points_go_to_their_own_day_and_the_far_future_and_past_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let (minute, day) = (60_000_000_000, 86_400_000_000_000);
    let now = now_nanos();
    let midnight = now / day * day;
    let kept = [now + 9 * minute, midnight - 1000, midnight, now - 30 * day, now - 394 * day];
    let points = kept.iter().map(|time| point(*time, 1.0, vec![])).collect();
    assert_eq!(export(&server, vec![gauge("late", points)]).await, (0, String::new()));
    let (refused, message) = export(
        &server,
        vec![gauge("late", vec![point(now + 11 * minute, 1.0, vec![]), point(now - 396 * day, 1.0, vec![])])],
    )
    .await;
    assert_eq!(refused, 2, "{message}");
    assert!(message.contains("timestamp_too_new") && message.contains("timestamp_too_old"), "{message}");
    for _flushed in [false, true] {
        let sql = "SELECT count(*), count(DISTINCT date), sum(CASE WHEN date = CAST(time AS DATE) THEN 1 ELSE 0 END) \
                   FROM raw.samples WHERE metric = 'late'";
        let row = &server.rows(sql).await[0];
        assert_eq!((&row[0], &row[2]), (&json!(5), &json!(5)));
        assert!(row[1].as_u64() >= Some(4), "{row:?}");
        server.flush().await;
    }
}
