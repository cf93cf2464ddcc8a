//! Gates on points in the store: `driftwatt check --metric`, by a schedule, and what drift makes of their verdict.

use std::{fs, path::Path, process::Output};

use opentelemetry_proto::tonic::metrics::v1::DataPointFlags;
use serde_json::{Value, json};

use crate::{
    otlp::{export, gauge, label, now_nanos, point},
    server::{Server, driftwatt},
    smtp::SmtpServer,
};

const HOUR: u64 = 3_600_000_000_000;

const CONTRACT: &str = "apiVersion: v3.1.0
kind: DataContract
id: 53581432-6c55-4ba2-a65f-72344a91553a
version: 2.0.0
status: active
team: { members: [{ username: media, role: owner }] }
schema:
  - name: lengths
    quality:
      - { metric: rowCount, mustBeGreaterOrEqualTo: 500 }
    properties:
      - { name: time, logicalType: timestamp }
      - name: value
        logicalType: number
        quality:
          - { metric: nullValues, mustBeLessThan: 2, unit: percent }
      - name: region
        logicalType: string
        quality:
          - { metric: invalidValues, arguments: { validValues: [eu, us] }, mustBe: 0 }
";

/// 600 points an hour for four hours; in the last one each tenth has no value.
fn lengths(end: u64) -> Vec<opentelemetry_proto::tonic::metrics::v1::NumberDataPoint> {
    let of = |at: u64| {
        let region = if at.is_multiple_of(2) { "eu" } else { "us" };
        let mut point =
            point(end - 4 * HOUR + at * (HOUR / 600), (at * 37 % 101) as f64, vec![label("region", region)]);
        if at >= 1_800 && at.is_multiple_of(10) {
            (point.value, point.flags) = (None, DataPointFlags::NoRecordedValueMask as u32);
        }
        point
    };
    (0..2_400).map(of).collect()
}

fn time(nanos: u64) -> String {
    chrono::DateTime::from_timestamp_nanos(nanos as i64).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

fn check(store: &[&str], contract: &Path, window: &str, more: &[&str]) -> Output {
    let mut command = driftwatt();
    command.args(["check", "--metric", "driftwatt.input.length", "--window", window, "--contract"]).arg(contract);
    command.args(store).args(more).output().unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn points_are_checked_recorded_and_drift_is_not_judged_on_those_that_fail() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    let contract = dir.path().join("contract.yaml");
    fs::write(&contract, CONTRACT).unwrap();
    let end = now_nanos() / HOUR * HOUR;
    assert_eq!(export(&server, vec![gauge("driftwatt.input.length", lengths(end))]).await.0, 0);
    let hour = |back: u64| format!("{}/{}", time(end - back * HOUR), time(end - (back - 1) * HOUR));
    let http = format!("http://{}", server.http);
    let store = ["--server", http.as_str()];
    for back in [4, 3, 2] {
        let passed = check(&store, &contract, &hour(back), &["--format", "json"]);
        assert_eq!(passed.status.code(), Some(0), "{passed:?}");
    }
    let failed = check(&store, &contract, &hour(1), &["--format", "json"]);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    let said = report(&failed);
    assert_eq!(
        (&said["kind"], &said["rows"], said["compared_with"].as_array().unwrap().len()),
        (&json!("points"), &json!(600), 3)
    );
    let broken: Vec<&Value> =
        said["results"].as_array().unwrap().iter().filter(|rule| rule["status"] == "fail").collect();
    assert_eq!(
        (broken.len(), &broken[0]["metric"], &broken[0]["rows_failed"]),
        (1, &json!("missingValues"), &json!(60)),
        "{said}"
    );
    let text = check(&store, &contract, &hour(1), &["--where", "region=eu", "--format", "text"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("300 points against lengths"), "{text:?}");
    let page = check(&store, &contract, &hour(1), &["--format", "html"]);
    let title = format!("driftwatt.input.length {} may not be used", hour(1));
    assert!(String::from_utf8_lossy(&page.stdout).contains(&title), "{page:?}");
    let rows = "SELECT kind, status, accepted, contract_owner, count(*) FROM reports.datasets GROUP BY 1, 2, 3, 4 ORDER BY 2 DESC, 5";
    assert_eq!(
        json!(server.rows(rows).await),
        json!([["points", "pass", true, "media", 3], ["points", "fail", false, "media", 3]])
    );
    // Rule 7 of a drift decision: passed before, failed in the last hour, and unknown where nobody looked.
    let drift = |reference: &str, current: &str| {
        let mut command = driftwatt();
        command.args(["drift", "--metric", "driftwatt.input.length", "--server", &http, "--format", "json"]);
        let output = command.args(["--reference", reference, "--current", current]).output().unwrap();
        (output.status.code(), report(&output))
    };
    let (code, score) = drift(&hour(4), &hour(2));
    assert_eq!((code, &score["decision"]["status"]), (Some(0), &json!("ok")), "{score}");
    assert!(!score["decision"]["reasons"].to_string().contains("no gate is declared"), "{score}");
    let (code, score) = drift(&hour(4), &hour(1));
    assert_eq!((code, &score["decision"]["status"]), (Some(3), &json!("gate_failed")), "{score}");
    assert!(score["decision"]["reasons"].to_string().contains("gate failed"), "{score}");
    // A directory whose server is stopped is asked in the same way.
    server.terminate();
    let data = data.display().to_string();
    let again = check(&["--data", &data], &contract, &hour(1), &["--format", "json"]);
    assert_eq!((again.status.code(), &report(&again)["digest"]), (Some(1), &said["digest"]), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_without_points_say_what_to_write() {
    let dir = tempfile::tempdir().unwrap();
    let contract = dir.path().join("contract.yaml");
    fs::write(&contract, CONTRACT).unwrap();
    let window = "2026-11-09T00:00:00Z/2026-11-09T01:00:00Z";
    for (store, more, words) in [
        (&[][..], &[][..], "--server"),
        (&["--server", "http://127.0.0.1:9"], &["--notify"], "job = \"check\""),
        (&["--server", "http://127.0.0.1:9"], &["--rules", "dbt"], "--rules odcs"),
        (&["--server", "http://127.0.0.1:9"], &["--quarantine", "held"], "cannot be used with"),
        (&["--server", "http://127.0.0.1:9"], &[], "no server answers"),
    ] {
        let refused = check(store, &contract, window, more);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains(words), "{words}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_checks_the_hours_before_and_tells_the_owner() {
    let dir = tempfile::tempdir().unwrap();
    let contract = dir.path().join("contract.yaml");
    fs::write(&contract, CONTRACT).unwrap();
    let mail = SmtpServer::start(0).await;
    let config = dir.path().join("config.toml");
    let text = format!(
        "[delivery.mail]\nhost = \"127.0.0.1\"\nport = {}\nsecurity = \"none\"\nfrom = \"driftwatt@example.com\"\nto = [\"ops@example.com\"]\n\
         [delivery.owners]\nmedia = \"media@example.com\"\n\
         [[schedule]]\nname = \"lengths\"\njob = \"check\"\ncron = \"@yearly\"\nmetric = \"driftwatt.input.length\"\nhours = 1\n\
         contract = {:?}\n",
        mail.port,
        contract.display().to_string()
    );
    fs::write(&config, text).unwrap();
    let server = Server::start_configured(&dir.path().join("data"), &config.display().to_string());
    let end = now_nanos();
    assert_eq!(export(&server, vec![gauge("driftwatt.input.length", lengths(end))]).await.0, 0);
    let http = format!("http://{}", server.http);
    let ran = driftwatt().args(["schedule", "run", "lengths", "--server", &http]).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let taken = mail.taken();
    assert!(taken.len() == 1 && taken[0].to[0].contains("media@example.com"), "{taken:?}");
    // Lines that the mail breaks are one.
    let letter = taken[0].data.replace("=\r\n", "");
    for words in ["driftwatt.input.length", "gate_failed"] {
        assert!(letter.contains(words), "{words}: {letter}");
    }
    let runs = "SELECT summary, outcome FROM reports.runs WHERE job = 'check' AND outcome = 'succeeded'";
    let found = server.rows(runs).await;
    assert!(
        found.len() == 1 && found[0][0].as_str().unwrap().contains("check of driftwatt.input.length: fail"),
        "{found:?}"
    );
    assert_eq!(server.rows("SELECT count(*) FROM reports.datasets WHERE kind = 'points'").await, [[json!(1)]]);
}
