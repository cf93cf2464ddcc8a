//! The vocabulary as people ask for it: `driftwatt roles`, and shared GPUs in the weekly report.

use opentelemetry_proto::tonic::metrics::v1::Metric;
use serde_json::{Value, json};

use crate::{
    otlp::{export, gauge, label, now_nanos, point},
    server::{Server, driftwatt},
};

fn rows(args: &[&str]) -> Vec<Value> {
    let output = driftwatt().args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["rows"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_are_listed_explained_and_missing_ones_found() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mine.toml");
    let own = "[[source]]\nname = \"ours\"\nscope = \"device\"\nmetrics = [\n\
               { metric = \"acme_power\", role = \"gpu.power\", unit = \"kW\" } ]";
    std::fs::write(&file, own).unwrap();
    let data = dir.path().join("data");
    let server = Server::start_with(&data, &[("DRIFTWATT_QUERY__ROLES", &file.to_string_lossy())]);
    let url = format!("http://{}", server.http);
    let on_gpu = |value| vec![point(now_nanos(), value, vec![label("UUID", "GPU-1")])];
    export(
        &server,
        vec![
            gauge("DCGM_FI_DEV_GPU_UTIL", on_gpu(0.5)),
            gauge("acme_power", on_gpu(0.3)),
            gauge("acme_gpu_temperature", on_gpu(50.0)),
        ],
    )
    .await;
    let power = server.rows("SELECT value, source FROM gpu WHERE role = 'gpu.power'").await;
    assert_eq!(power, vec![vec![Value::from(300.0), Value::from("ours")]]);
    assert_eq!(rows(&["roles", "list", "acme", "--server", &url]).len(), 1);
    let explained = rows(&["roles", "explain", "DCGM_FI_DEV_GPU_UTIL{UUID=\"GPU-1\"}", "--server", &url]);
    assert_eq!((explained.len(), &explained[0][3]), (1, &Value::from("gpu.utilization")));
    assert!(explained[0][8].as_str().unwrap().contains("row DCGM_FI_DEV_GPU_UTIL of DCGM exporter"), "{explained:?}");
    assert!(rows(&["roles", "explain", "DCGM_FI_DEV_GPU_UTIL{UUID=\"GPU-2\"}", "--server", &url]).is_empty());
    let unmapped = rows(&["roles", "unmapped", "--server", &url]);
    let ours = unmapped.iter().find(|row| row[0] == "acme_gpu_temperature").unwrap();
    assert!(ours[4].as_str().unwrap().starts_with("gpu.temperature, as "), "{ours:?}");
    let warned = rows(&["roles", "check", "--server", &url]);
    assert!(warned.iter().any(|row| row[0] == "percent_never_above_1"), "{warned:?}");
    server.terminate();

    std::fs::write(&file, own.replace("gpu.power", "gpu.powre")).unwrap();
    let config = dir.path().join("driftwatt.toml");
    std::fs::write(&config, format!("[query]\nroles = {:?}", file.to_string_lossy())).unwrap();
    let data = data.to_string_lossy();
    let refused = driftwatt().args(["roles", "list", "--data", &data, "--config", &config.to_string_lossy()]).output();
    let refused = refused.unwrap();
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && message.contains("row acme_power → gpu.powre"), "{message}");
}

/// What the DCGM exporter says for five minutes of a card that eight pods share and of one with seven slices.
fn shared_and_sliced() -> Vec<Metric> {
    // Five points, one a minute, all on one day: copies are told by what series report on a day.
    let (now, day) = (now_nanos(), 86_400_000_000_000);
    let last = if now % day < 600_000_000_000 { now - now % day - 1_000_000_000 } else { now };
    let points = |value: f64, labels: &[(&str, &str)]| {
        let labels: Vec<_> = labels.iter().map(|(key, value)| label(key, value)).collect();
        (0..5).map(move |n| point(last - (5 - n) * 60_000_000_000, value, labels.clone())).collect::<Vec<_>>()
    };
    let (mut utilization, mut used, mut active) = (Vec::new(), Vec::new(), Vec::new());
    for pod in 0..8 {
        let pod = format!("pod-{pod}");
        let labels = [("UUID", "GPU-shared"), ("gpu", "0"), ("pod", &pod), ("namespace", "prod"), ("Hostname", "n1")];
        utilization.extend(points(60.0, &labels));
        used.extend(points(4000.0, &labels));
    }
    for slice in 0..7 {
        let id = slice.to_string();
        let labels =
            [("UUID", "GPU-sliced"), ("gpu", "1"), ("GPU_I_ID", &id), ("GPU_I_PROFILE", "1g.10gb"), ("Hostname", "n1")];
        // The duty cycle of the card, once per slice; memory and activity are each slice's own.
        utilization.extend(points(40.0, &labels));
        used.extend(points(1000.0, &labels));
        active.extend(points(0.5, &labels));
    }
    vec![
        gauge("DCGM_FI_DEV_GPU_UTIL", utilization),
        gauge("DCGM_FI_DEV_FB_USED", used),
        gauge("DCGM_FI_PROF_GR_ENGINE_ACTIVE", active),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_share_a_card_and_slices_of_one_are_one_card_in_sql_and_in_the_weekly_report() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    assert_eq!(export(&server, shared_and_sliced()).await.0, 0);

    let mib = 1_048_576.0;
    let sums = "SELECT gpu_id, role, count(DISTINCT time), min(s), max(s) FROM (SELECT gpu_id, role, time, \
                round(sum(value * share), 9) AS s FROM gpu WHERE role <> 'gpu.memory.used' GROUP BY gpu_id, role, time \
                UNION ALL SELECT gpu_id, role, time, sum(value) FROM gpu WHERE role = 'gpu.memory.used' \
                GROUP BY gpu_id, role, time) GROUP BY gpu_id, role ORDER BY gpu_id, role";
    let row = |id: &str, role: &str, sum: f64| vec![json!(id), json!(role), json!(5), json!(sum), json!(sum)];
    let expected = [
        row("GPU-shared", "gpu.memory.used", 4000.0 * mib),
        row("GPU-shared", "gpu.utilization", 0.6),
        row("GPU-sliced", "gpu.engine_active", 0.5),
        row("GPU-sliced", "gpu.memory.used", 7000.0 * mib),
        row("GPU-sliced", "gpu.utilization", 0.4),
    ];
    assert_eq!(server.rows(sums).await, expected);
    server.flush().await;
    assert_eq!(server.rows(sums).await, expected);
    assert!(server.rows("SELECT * FROM system.role_warnings").await.is_empty());

    let (status, body) = server.get("/api/v1/reports/weekly?format=json&from=2026-01-01&to=2100-01-01").await;
    assert_eq!(status, 200, "{body}");
    let url = format!("http://{}", server.http);
    let window = ["--from", "2026-01-01", "--to", "2100-01-01", "--format", "json"];
    let output = driftwatt().args(["report", "weekly", "--server", &url]).args(window).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for report in [body, String::from_utf8(output.stdout).unwrap()] {
        let report: Value = serde_json::from_str(&report).unwrap();
        let usage = |dimension: &str, name: &str| {
            let rows = report["fleets"][0]["rows"].as_array().unwrap();
            rows.iter().find(|row| row["dimension"] == dimension && row["name"] == name).unwrap().clone()
        };
        // Minutes are kept as 32-bit numbers.
        let is_about =
            |value: &Value, expected: f64| value.as_f64().is_some_and(|value| (value - expected).abs() < 1e-6);
        let five_minutes = 5.0 / 60.0;
        for (gpu, utilization, memory) in [("GPU-shared", 0.6, 4000.0), ("GPU-sliced", 0.4, 7000.0)] {
            let usage = usage("gpu", &format!("n1/{gpu}"));
            assert!(is_about(&usage["gpu_utilization_average"], utilization), "{usage}");
            assert_eq!(usage["gpu_memory_bytes_average"], memory * mib, "{usage}");
            assert!(is_about(&usage["gpu_count"], 1.0) && is_about(&usage["gpu_hours"], five_minutes), "{usage}");
        }
        let host = usage("host", "n1");
        assert!(is_about(&host["gpu_count"], 2.0) && is_about(&host["gpu_utilization_average"], 0.5), "{host}");
        assert!(is_about(&host["gpu_hours"], 2.0 * five_minutes), "{host}");
    }
}
