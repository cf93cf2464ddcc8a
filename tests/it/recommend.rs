//! Recommendations of the real server: files, the ledger, hours for training.

use std::process::Output;

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::KeyValue,
    metrics::v1::{Metric, ResourceMetrics, ScopeMetrics},
    resource::v1::Resource,
};
use prost::Message as _;
use serde_json::Value;

use crate::{
    otlp::{gauge, label, now_nanos, point, post},
    server::{Server, driftwatt, start},
};

const MINUTE_NANOS: u64 = 60_000_000_000;

/// Metrics of one pod with one card over the last nine days, a point every five minutes.
fn pod(index: usize) -> ExportMetricsServiceRequest {
    let pod = format!("embed-{index}");
    let attributes: Vec<KeyValue> = [
        ("host.name", "h1"),
        ("service.name", "embed"),
        ("k8s.namespace.name", "prod"),
        ("k8s.deployment.name", "embed-server"),
        ("k8s.pod.name", &pod),
        ("k8s.container.name", "server"),
        ("hw.id", &format!("GPU-{index}")),
        ("hw.type", "gpu"),
    ]
    .iter()
    .map(|(key, value)| label(key, value))
    .collect();
    let series = |name: &str, value: f64| -> Metric {
        let times = (1..9 * 288_u64).map(|step| now_nanos() - step * 5 * MINUTE_NANOS);
        gauge(name, times.map(|time| point(time, value, vec![])).collect())
    };
    let metrics = vec![
        series("hw.gpu.utilization", 0.0),
        series("hw.gpu.memory.usage", 8e9),
        series("hw.gpu.memory.limit", 4e10),
    ];
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_metrics: vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }],
            ..ResourceMetrics::default()
        }],
    }
}

fn run(server: &Server, args: &[&str]) -> (Output, String) {
    let url = format!("http://{}", server.http);
    let output = driftwatt().args(args).args(["--server", &url]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_service_gets_files_and_a_decision_is_kept() {
    let (dir, server) = start();
    for index in 0..8 {
        let (status, answer) =
            post(&reqwest::Client::new(), &server.otlp_http, pod(index).encode_to_vec(), &[]).await.unwrap();
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    }
    let folder = dir.path().join("patches");
    let folder_text = folder.to_string_lossy().into_owned();
    let patches = ["recommend", "--days", "8", "--patches", &folder_text];
    let (output, text) = run(&server, &patches);
    assert!(output.status.success() && text.contains("embed: shrink"), "{text}\n{}", server.log());
    let file = |name: &str| std::fs::read_to_string(folder.join("embed/replicas").join(name)).unwrap();
    assert!(file("do-replicas.yaml").ends_with("spec:\n  replicas: 6\n"), "{}", file("do-replicas.yaml"));
    assert!(file("undo-replicas.yaml").ends_with("spec:\n  replicas: 8\n"));
    assert!(file("README.txt").contains("kubectl -n prod patch deployment embed-server"), "{}", file("README.txt"));
    assert!(text.contains("no metric can carry one"), "{text}");
    // Four replicas of 8 GB fit a card of 40 GB at 90 %: two of the eight cards of the node are enough.
    let sharing = std::fs::read_to_string(folder.join("embed/sharing/time-slicing.yaml")).unwrap();
    assert!(
        sharing.contains("fit 2 of the 8 cards of h1, 4 on each") && sharing.contains("  replicas: 4\n"),
        "{sharing}"
    );
    let (again, text) = run(&server, &patches);
    assert!(!again.status.success() && text.contains("holds files already"), "{text}");

    let ids = server.rows("SELECT id FROM reports.recommendations WHERE verdict = 'shrink'").await;
    let id = ids[0][0].as_str().unwrap();
    let url = format!("http://{}/api/v1/recommendations/{id}/reject?format=html", server.http);
    let unwritten = reqwest::Client::new().post(url).send().await.unwrap();
    assert_eq!(unwritten.status(), 400, "refused before it is recorded, so it can still be accepted");
    let (accepted, text) = run(&server, &["recommend", "accept", id, "--note", "next week"]);
    assert!(accepted.status.success() && text.contains("accepted, 336 GPU-h a week promised (next week)"), "{text}");
    let (twice, text) = run(&server, &["recommend", "reject", id]);
    assert!(!twice.status.success() && text.contains("accepted cannot become rejected"), "{text}");
    let (unknown, text) = run(&server, &["recommend", "reject", "r0"]);
    assert!(!unknown.status.success() && text.contains("no recommendation \"r0\""), "{text}");
    let ledger = "SELECT id, state, predicted_gpu_hours, realised_gpu_hours, note FROM reports.recommendation_ledger";
    let row = [Value::from(id), "accepted".into(), 336.0.into(), Value::Null, "next week".into()];
    assert_eq!(server.rows(ledger).await, [row]);

    let (hours, text) = run(&server, &["offpeak", "--days", "8", "--gpus", "4", "--format", "text"]);
    assert!(hours.status.success() && text.contains("8 GPUs, ") && text.contains("% of their time measured"), "{text}");
    assert!(text.contains("CRON_TZ=UTC\n0 0 * * 1") && text.contains("168"), "{text}");
    let free = "SELECT count(*), min(free_gpus) FROM reports.off_peak_hours WHERE is_off_peak";
    assert_eq!(server.rows(free).await, [[Value::from(168), 7.2.into()]]);

    let crons = dir.path().join("crons");
    let (written, text) =
        run(&server, &["offpeak", "--days", "8", "--gpus", "4", "--patches", &crons.to_string_lossy()]);
    assert!(written.status.success() && text.contains("1 files. Nothing was applied"), "{text}");
    let lines = std::fs::read_to_string(crons.join("offpeak/crontab/off-peak.crontab")).unwrap();
    assert!(lines.contains("CRON_TZ=UTC\n0 0 * * 1 YOUR-TRAINING-COMMAND\n"), "{lines}");
    let eight_days = ["--days", "8"].as_slice();
    for (command, days, words) in [
        ("recommend", eight_days, "8 → 6"),
        ("idle", &[], "idle-held"),
        ("offpeak", eight_days, "Free GPUs by hour of the week"),
    ] {
        let page = dir.path().join(format!("{command}.html"));
        let page_text = page.to_string_lossy();
        let (asked, text) = run(&server, &[&[command, "--format", "html", "-o", &page_text], days].concat());
        let html = std::fs::read_to_string(&page).unwrap_or_default();
        assert!(
            asked.status.success() && html.starts_with("<!doctype html>") && html.contains(words),
            "{text}\n{html}"
        );
    }
    let url = format!("http://{}/api/v1/idle?format=html", server.http);
    let answer = reqwest::get(url).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
}
