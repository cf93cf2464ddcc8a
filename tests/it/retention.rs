//! Days that are older than the settings keep them go, as users and other readers see it.

use std::{collections::BTreeSet, path::Path, process::Output};

use deltalake::{ensure_table_uri, open_table};
use serde_json::{Value, json};

use crate::{
    otlp::{export, gauge, label, now_nanos, point},
    server::{Server, driftwatt},
};

const DAY_NANOS: u64 = 86_400_000_000_000;
const KEEP: (&str, &str) = ("DRIFTWATT_STORE__RETENTION__SAMPLES", "3d");

async fn retain(server: &Server, query: &str) -> (u16, Value) {
    let url = format!("http://{}/api/v1/admin/retention{query}", server.http);
    let response = reqwest::Client::new().post(url).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

/// Runs `driftwatt retention` with three days to keep.
fn command(data: &Path, extra: &[&str]) -> Output {
    driftwatt().args(["retention", "--format", "json", "--data"]).arg(data).args(extra).envs([KEEP]).output().unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

fn table<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["tables"].as_array().unwrap().iter().find(|table| table["table"] == name).unwrap()
}

/// The days that another reader finds in a table.
async fn days(data: &Path, table: &str) -> BTreeSet<String> {
    let url = ensure_table_uri(data.join("tables").join(table).to_string_lossy()).unwrap();
    let delta = open_table(url).await.unwrap();
    let day = |uri: String| uri.replace("%3D", "=").split_once("date=").unwrap().1[..10].to_owned();
    delta.get_file_uris().unwrap().map(day).collect()
}

fn assert_sound(data: &Path) {
    let verify = driftwatt().args(["verify", "--format", "json", "--data"]).arg(data).output().unwrap();
    assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stdout));
}

/// Eight days of ten points, the last of them today.
async fn fill(data: &Path) {
    let server = Server::start(data);
    let now = now_nanos();
    for day in 0..8 {
        // A millisecond apart, so that hardly ever a midnight is between them.
        let points = (0..10).map(|index| point(now - day * DAY_NANOS - index * 1_000_000, 1.0, vec![]));
        assert_eq!(export(&server, vec![gauge("kept.or.not", points.collect())]).await.0, 0);
    }
    server.flush().await;
    server.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_counts_and_then_deletes_what_is_too_old_and_refuses_it_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fill(&data).await;
    let server = Server::start_with(&data, &[KEEP]);
    let (status, counted) = retain(&server, "?dry_run=true").await;
    assert_eq!((status, &counted["dry_run"], &counted["note"]), (200, &json!(true), &Value::Null), "{counted}");
    assert_eq!(server.rows("SELECT count(*) FROM raw.samples").await, [[json!(80)]]);
    let (_, gone) = retain(&server, "").await;
    let samples = table(&gone, "samples");
    let rows = samples["rows"].as_u64().unwrap();
    assert!((40..=50).contains(&rows), "{gone}");
    assert_eq!(samples["keep"], "3d");
    assert_eq!((samples, table(&gone, "series")), (table(&counted, "samples"), table(&counted, "series")));
    assert_eq!(server.rows("SELECT count(*) FROM raw.samples").await, [[json!(80 - rows)]]);
    let (_, metrics) = server.get("/metrics").await;
    let counted = metrics.lines().find(|line| line.starts_with("driftwatt_store_expired_rows_total"));
    let expected = rows + table(&gone, "series")["rows"].as_u64().unwrap();
    assert!(counted.is_some_and(|line| line.ends_with(&format!(" {expected}"))), "{counted:?}");
    assert!(metrics.contains("driftwatt_store_expired_bytes_total"));
    // Ingest takes nothing that would go at once.
    let old = point(now_nanos() - 4 * DAY_NANOS, 1.0, vec![label("late", "yes")]);
    let (refused, why) = export(&server, vec![gauge("kept.or.not", vec![old])]).await;
    assert!(refused == 1 && why.contains("timestamp_too_old"), "{refused} {why}");
    assert_eq!(retain(&server, "?dry=true").await.0, 400);
    server.terminate();
    let first_kept = samples["first_kept_day"].as_str().unwrap();
    for name in ["samples", "series"] {
        let days = days(&data, name).await;
        assert!(days.len() >= 3 && days.iter().all(|day| day.as_str() >= first_kept), "{name} {days:?} {first_kept}");
    }
    assert_sound(&data);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_counts_without_a_change_and_deletes_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fill(&data).await;
    // A question is no reason to delete, whatever the settings are.
    let sql = ["sql", "SELECT count(*) FROM raw.samples", "--data"];
    assert!(driftwatt().args(sql).arg(&data).envs([KEEP]).output().unwrap().status.success());
    let counted = report(&command(&data, &["--dry-run"]));
    assert_eq!(days(&data, "samples").await.len(), 8, "{counted}");
    let gone = report(&command(&data, &[]));
    assert_eq!(counted["tables"], gone["tables"]);
    let gone_days = table(&gone, "samples")["days"].as_u64().unwrap();
    assert!((4..=5).contains(&gone_days), "{gone}");
    assert_eq!(days(&data, "samples").await.len() as u64, 8 - gone_days);
    assert_eq!(table(&report(&command(&data, &["--dry-run"])), "samples")["days"], 0);
    assert_sound(&data);
    let missing = command(&dir.path().join("nothing"), &["--dry-run"]);
    assert_eq!(missing.status.code(), Some(1));
    let server = Server::start(&data);
    let locked = command(&data, &["--dry-run"]);
    assert!(String::from_utf8_lossy(&locked.stderr).contains("/api/v1/admin/retention"), "{locked:?}");
    server.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metric_with_a_rule_goes_before_its_tables() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fill(&data).await;
    let config = dir.path().join("driftwatt.toml");
    let rule = "[[store.retention.metric]]\npattern = \"kept.*\"\nkeep = \"3d\"\n";
    let other = "[[store.retention.metric]]\npattern = \"kept.or.not.more\"\nkeep = \"1d\"\n";
    std::fs::write(&config, [rule, other].concat()).unwrap();
    let run = |extra: &[&str]| {
        let command = ["retention", "--format", "json", "--data"];
        let output = driftwatt().args(command).arg(&data).arg("--config").arg(&config).args(extra).output().unwrap();
        report(&output)
    };
    let (counted, gone) = (run(&["--dry-run"]), run(&[]));
    assert_eq!(counted["metrics"], gone["metrics"]);
    let [rule, other] = gone["metrics"].as_array().unwrap().as_slice() else { panic!("{gone}") };
    assert_eq!((rule["pattern"].as_str(), rule["keep"].as_str()), (Some("kept.*"), Some("3d")));
    assert_eq!((&other["rows"], &table(&gone, "samples")["rows"]), (&json!(0), &json!(0)));
    let days_gone = rule["days"].as_u64().unwrap();
    assert!((4..=5).contains(&days_gone), "{gone}");
    // Ten points and a name a day.
    assert_eq!(rule["rows"], json!(days_gone * 11));
    for name in ["samples", "series"] {
        let days = days(&data, name).await;
        assert!(days.iter().all(|day| day.as_str() >= rule["first_kept_day"].as_str().unwrap()), "{name} {days:?}");
    }
    assert_eq!(run(&["--dry-run"])["metrics"][0]["rows"], 0);
    assert_sound(&data);
    std::fs::write(&config, "[[store.retention.metric]]\npattern = \"*\"\nkeep = \"3d\"\n").unwrap();
    let refused = driftwatt().args(["retention", "--data"]).arg(&data).arg("--config").arg(&config).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("store.retention.metric"), "{refused:?}");
}
