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

/// Metrics of one pod of `service` with one card over the last nine days, a point every five minutes.
fn pod(service: &str, index: usize, values: &[(&str, f64)]) -> ExportMetricsServiceRequest {
    let (pod, deployment, card) =
        (format!("{service}-{index}"), format!("{service}-server"), format!("{service}-GPU-{index}"));
    let attributes: Vec<KeyValue> = [
        ("host.name", "h1"),
        ("service.name", service),
        ("k8s.namespace.name", "prod"),
        ("k8s.deployment.name", &deployment),
        ("k8s.pod.name", &pod),
        ("k8s.container.name", "server"),
        ("hw.id", &card),
        ("hw.type", "gpu"),
    ]
    .iter()
    .map(|(key, value)| label(key, value))
    .collect();
    let series = |name: &str, value: f64| -> Metric {
        let times = (1..9 * 288_u64).map(|step| (step, now_nanos() - step * 5 * MINUTE_NANOS));
        // A duty that never moves would be that of an exporter that hangs.
        let swing = |step: u64| if value == 0.1 { (step % 3) as f64 / 100.0 } else { 0.0 };
        gauge(name, times.map(|(step, time)| point(time, value + swing(step), vec![])).collect())
    };
    let metrics = values.iter().map(|(name, value)| series(name, *value)).collect();
    sent(attributes, metrics)
}

const IDLE: [(&str, f64); 3] =
    [("hw.gpu.utilization", 0.0), ("hw.gpu.memory.usage", 8e9), ("hw.gpu.memory.limit", 4e10)];

fn sent(attributes: Vec<KeyValue>, metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
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
            post(&reqwest::Client::new(), &server.otlp_http, pod("embed", index, &IDLE).encode_to_vec(), &[])
                .await
                .unwrap();
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

/// What kube-state-metrics tells of an autoscaler that KEDA made for the Deployment of `chat`.
fn autoscaler() -> ExportMetricsServiceRequest {
    let of = |name: &str, value: f64, more: &[(&str, &str)]| {
        let labels = [&[("horizontalpodautoscaler", "keda-hpa-chat"), ("namespace", "prod")], more].concat();
        let labels: Vec<KeyValue> = labels.iter().map(|(key, value)| label(key, value)).collect();
        gauge(name, vec![point(now_nanos() - 60 * MINUTE_NANOS, value, labels)])
    };
    let cpu = [("metric_name", "cpu"), ("metric_target_type", "utilization")];
    let metrics = vec![
        of(
            "kube_horizontalpodautoscaler_info",
            1.0,
            &[("scaletargetref_kind", "Deployment"), ("scaletargetref_name", "chat-server")],
        ),
        of("kube_horizontalpodautoscaler_spec_min_replicas", 6.0, &[]),
        of("kube_horizontalpodautoscaler_spec_max_replicas", 12.0, &[]),
        of("kube_horizontalpodautoscaler_status_current_replicas", 8.0, &[]),
        of("kube_horizontalpodautoscaler_status_desired_replicas", 6.0, &[]),
        of("kube_horizontalpodautoscaler_spec_target_metric", 70.0, &cpu),
    ];
    sent(vec![label("service.name", "kube-state-metrics")], metrics)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaler_owns_the_replicas_and_its_bounds_are_replayed() {
    let (dir, server) = start();
    let values = [
        ("hw.gpu.utilization", 0.1),
        ("hw.gpu.memory.usage", 8e9),
        ("hw.gpu.memory.limit", 4e10),
        ("container.cpu.usage", 0.5),
        ("container.memory.working_set", 2e9),
        ("k8s.container.cpu_request", 2.0),
        ("k8s.container.memory_request", 8e9),
    ];
    let mut requests: Vec<_> = (0..8).map(|index| pod("chat", index, &values)).collect();
    requests.push(autoscaler());
    for request in requests {
        let (status, answer) =
            post(&reqwest::Client::new(), &server.otlp_http, request.encode_to_vec(), &[]).await.unwrap();
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    }
    let (asked, text) = run(&server, &["recommend", "--days", "8", "--format", "text"]);
    assert!(asked.status.success(), "{text}\n{}", server.log());
    for words in [
        "an HPA sets the replicas: change its bounds instead",
        "HPA keda-hpa-chat: 6 to 12 replicas, 8 now, 6 wanted; target: CPU 70 % of requests",
        "replayed between its 6 and 12 replicas",
        // Of the requests memory may fall; CPU is what the autoscaler scales by.
        "prod/chat-server/server: shrink: memory",
        "an HPA scales by CPU over requests",
        "prod: no quota is told",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    let folder = dir.path().join("patches");
    let (written, text) = run(&server, &["recommend", "--days", "8", "--patches", &folder.to_string_lossy()]);
    assert!(written.status.success(), "{text}");
    let file = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_else(|_| panic!("{name}\n{text}"));
    // Eight cards at a tenth: two replicas are enough, and the replay with the same metric shows it.
    assert!(file("chat/bounds/do-bounds.yaml").contains("minReplicas: 2"), "{}", file("chat/bounds/do-bounds.yaml"));
    assert!(file("chat/bounds/undo-bounds.yaml").contains("minReplicas: 6"));
    assert!(file("chat/bounds/README.txt").contains("kubectl -n prod patch hpa keda-hpa-chat"));
    let requests = "prod-chat-server-server-0/requests";
    assert!(file(&format!("{requests}/undo-resources.yaml")).contains("memory: \"8000000000\""));
    assert!(file("prod/quota/do-quota.yaml").contains("kind: \"ResourceQuota\""));
    let sql = "SELECT kind, subject, verdict, cpu_request_proposed FROM reports.recommendations WHERE kind = 'requests' LIMIT 1";
    let row = [Value::from("requests"), "prod/chat-server/server".into(), "shrink".into(), 2.0.into()];
    assert_eq!(server.rows(sql).await, [row]);
}
