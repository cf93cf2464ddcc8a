//! The command line as scripts use it.

use std::{
    io::Write as _,
    process::{Output, Stdio},
};

use serde_json::Value;

use crate::{
    otlp::{export, gauge, label, now_nanos, point},
    server::{Server, driftwatt},
};

fn run(args: &[&str]) -> Output {
    driftwatt().args(args).output().unwrap()
}

/// Runs with `input` on standard input.
fn piped(args: &[&str], input: &str) -> Output {
    let mut command = driftwatt();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may have left before it has read everything.
    let _left = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
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
        "--postgres",
        "127.0.0.1:0",
        "--flight",
        "127.0.0.1:0",
    ]);
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("in use by another driftwatt process"), "{}", text(&second.stderr));
    server.terminate();
    let table = run(&["sql", "--data", &data_text, "--format", "table", "SELECT 1 AS one"]);
    assert!(text(&table.stdout).contains("one"), "{}", text(&table.stderr));
    assert_eq!(run(&["sql", "--data", &data_text, "--format", "xml", "SELECT 1"]).status.code(), Some(2));
    assert_eq!(run(&["sql", "--data", "no-such-folder", "SELECT 1"]).status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_runs_what_standard_input_holds_until_something_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    let url = format!("http://{}", server.http);
    let included = dir.path().join("included.sql");
    std::fs::write(&included, "SELECT 'from a file' AS said;\n").unwrap();
    let script = format!(
        "-- two on a line; and one over two lines\nSELECT 1 AS a; SELECT ';' AS b;\nSELECT 2\n  AS c;\n\
         \\i {}\n\\format table\n\\d raw.series\n\\dn\n\\x\nSELECT 4 AS without_semicolon",
        included.display()
    );
    let check = |source: &[&str]| {
        let answer = piped(&[&["sql", "--format", "csv"], source].concat(), &script);
        // Lines of CSV end as RFC 4180 says.
        let said = text(&answer.stdout).replace("\r\n", "\n");
        assert!(answer.status.success(), "{said}{}", text(&answer.stderr));
        assert!(said.starts_with("a\n1\nb\n;\nc\n2\nsaid\nfrom a file\n"), "{said}");
        assert!(said.contains("series_id") && said.contains("reports"), "{said}");
        assert!(said.ends_with("without_semicolon  4\n(1 rows)\n"), "{said}");
        for (script, words) in [
            ("SELECT 1;\nSELECT nothing;\nSELECT 3;", "nothing"),
            ("\\d no_such_table\nSELECT 3;", "\\d lists them"),
            ("\\unknown\nSELECT 3;", "\\? says"),
            ("\\i no-such-file.sql\nSELECT 3;", "no-such-file.sql"),
        ] {
            let failed = piped(&[&["sql", "--format", "csv"], source].concat(), script);
            assert_eq!(failed.status.code(), Some(1), "{script}");
            assert!(text(&failed.stderr).contains(words), "{script}: {}", text(&failed.stderr));
            assert!(!text(&failed.stdout).contains('3'), "{script}: {}", text(&failed.stdout));
        }
    };
    check(&["--server", &url]);
    server.terminate();
    check(&["--data", &data.to_string_lossy()]);
    let gone = piped(&["sql", "--server", &url], "SELECT 1");
    assert!(text(&gone.stderr).contains("no server answers at"), "{}", text(&gone.stderr));
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

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_of_drift_is_its_verdict() {
    const MINUTE: u64 = 60_000_000_000;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    // The hour before the last one, and the last one.
    let (now, half) = (now_nanos(), 30_000_000_000);
    let values = |minutes: std::ops::Range<u64>, shift: f64| {
        minutes.flat_map(move |minute| {
            let at = now - minute * MINUTE - half;
            (0..5).map(move |part| point(at - part * 1_000_000_000, (minute % 10) as f64 + shift, vec![]))
        })
    };
    let metrics = vec![
        gauge("same", values(0..120, 0.0).collect()),
        gauge("other", values(0..60, 100.0).chain(values(60..120, 0.0)).collect()),
        gauge("few", values(0..3, 0.0).chain(values(60..63, 0.0)).collect()),
    ];
    assert_eq!(export(&server, metrics).await.0, 0);
    let time = |minutes: u64| {
        let time = chrono::DateTime::from_timestamp_nanos((now - minutes * MINUTE).cast_signed());
        time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
    };
    let windows = [format!("{}/{}", time(120), time(60)), format!("{}/{}", time(60), time(0))];
    let drift = |metric: &str, source: &[&str]| {
        let question = ["drift", "--metric", metric, "--reference", &windows[0], "--current", &windows[1]];
        let output = run(&[&question, source].concat());
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let url = format!("http://{}", server.http);
    let data_text = data.to_string_lossy().into_owned();
    let check = |source: &[&str]| {
        for (metric, code, verdict) in [("same", 0, "OK"), ("other", 1, "CRITICAL"), ("few", 3, "INSUFFICIENT DATA")] {
            let (found, said) = drift(metric, source);
            assert!(found == Some(code) && said.contains(verdict), "{metric}: {found:?} {said}");
        }
        let json = drift("other", &[source, &["--format", "json"]].concat());
        assert!(json.0 == Some(1) && json.1.contains("\"critical\""), "{json:?}");
    };
    check(&["--server", &url]);
    server.terminate();
    check(&["--data", &data_text]);
    assert_eq!(drift("same", &["--server", &url]).0, Some(2));
    assert_eq!(run(&["drift", "--data", &data_text, "--metric", "same", "--reference", "x"]).status.code(), Some(2));
}

#[test]
fn a_file_with_missing_values_is_held_back_with_its_report() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let contract = "apiVersion: v3.1.0\nkind: DataContract\nid: 53581432-6c55-4ba2-a65f-72344a91553a\nversion: 1.0.0\n\
                    status: active\nschema:\n  - name: train\n    properties:\n      - name: latency\n        \
                    logicalType: number\n        quality:\n          \
                    - { metric: nullValues, mustBeLessThan: 1, unit: percent }\n      - { name: id, logicalType: integer }\n";
    std::fs::write(path("contract.yaml"), contract).unwrap();
    let rows = |every: usize| -> String {
        let line =
            |id: usize| format!("{},{id}\n", if id.is_multiple_of(every) { String::new() } else { format!("{id}.5") });
        format!("latency,id\n{}", (0..2_000).map(line).collect::<String>())
    };
    std::fs::write(path("good.csv"), rows(1_000)).unwrap();
    std::fs::write(path("bad.csv"), rows(20)).unwrap();
    let check = |file: &str| {
        run(&[
            "check",
            &path(file),
            "--contract",
            &path("contract.yaml"),
            "--quarantine",
            &path("held"),
            "--format",
            "text",
        ])
    };
    let good = check("good.csv");
    assert!(good.status.success() && text(&good.stdout).contains("PASS"), "{good:?}");
    let bad = check("bad.csv");
    assert_eq!(bad.status.code(), Some(1), "{bad:?}");
    let said = text(&bad.stdout);
    assert!(said.contains("FAIL") && said.contains("missingValues") && said.contains("100"), "{said}");
    let held = |name: &str| dir.path().join("held").join(name);
    assert_eq!(std::fs::read_to_string(held("bad.csv")).unwrap(), rows(20));
    assert!(!dir.path().join("bad.csv").exists());
    let report: Value = serde_json::from_slice(&std::fs::read(held("bad.csv.report.json")).unwrap()).unwrap();
    assert_eq!((&report["status"], &report["rows"]), (&"fail".into(), &2_000.into()));
    // The name is taken now.
    std::fs::write(path("bad.csv"), rows(10)).unwrap();
    assert_eq!(check("bad.csv").status.code(), Some(1));
    assert!(held("2-bad.csv").exists());
    assert_eq!(check("gone.csv").status.code(), Some(2));
}
