//! The vocabulary as people ask for it: `driftwatt roles`, and shared GPUs in the weekly report.

use serde_json::Value;

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

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_share_a_card_and_slices_of_one_are_one_card_in_the_weekly_report() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let now = now_nanos();
    let minute = |n: u64| now - (10 - n) * 60_000_000_000;
    let mut points = Vec::new();
    for pod in 0..8 {
        let name = format!("pod-{pod}");
        let labels = || vec![label("UUID", "GPU-shared"), label("pod", &name), label("Hostname", "n1")];
        points.extend((0..5).map(|n| point(minute(n), 60.0, labels())));
    }
    let mut slices = Vec::new();
    for slice in 0..7 {
        let id = slice.to_string();
        let labels = || {
            let mig = [label("GPU_I_ID", &id), label("GPU_I_PROFILE", "1g.10gb")];
            [label("UUID", "GPU-sliced"), label("Hostname", "n1")].into_iter().chain(mig).collect()
        };
        slices.extend((0..5).map(|n| point(minute(n), 1000.0, labels())));
    }
    export(&server, vec![gauge("DCGM_FI_DEV_GPU_UTIL", points), gauge("DCGM_FI_DEV_FB_USED", slices)]).await;
    let (status, body) = server.get("/api/v1/reports/weekly?format=json&from=2026-01-01&to=2100-01-01").await;
    assert_eq!(status, 200, "{body}");
    let report: Value = serde_json::from_str(&body).unwrap();
    let usage = |name: &str| {
        let rows = report["rows"].as_array().unwrap();
        rows.iter().find(|row| row["dimension"] == "gpu" && row["name"] == name).unwrap()["usage"].clone()
    };
    let shared = usage("n1/GPU-shared");
    assert_eq!(shared["gpu_utilization"]["average"], 0.6, "{shared}");
    assert_eq!(shared["gpu_utilization"]["sample_count"], 5, "{shared}");
    let sliced = usage("n1/GPU-sliced");
    assert_eq!(sliced["gpu_memory"]["average"], 7000.0 * 1_048_576.0, "{sliced}");
    assert_eq!(sliced["gpu_memory"]["sample_count"], 5, "{sliced}");
}
