//! Schedules of the real server: mail at a real SMTP server, what is recorded, and the commands.

use std::path::Path;

use serde_json::Value;

use crate::{
    otlp::{export, gauge, label, now_nanos, point},
    server::{Server, driftwatt},
    smtp::SmtpServer,
};

fn settings(dir: &Path, port: u16) -> String {
    let file = dir.join("driftwatt.toml");
    let text = format!(
        "[analyze]\nprices = {prices:?}\n[delivery.mail]\nhost = \"127.0.0.1\"\nport = {port}\nsecurity = \"none\"\n\
         from = \"Driftwatt <driftwatt@example.com>\"\nto = [\"ops@example.com\", \"boss@example.com\"]\n\
         [delivery.retry]\nattempts_max = 3\ndelay_first_seconds = 1\n[delivery.owners]\nmedia = \"media@example.com\"\n\
         [[schedule]]\nname = \"weekly\"\njob = \"weekly-report\"\ncron = \"0 7 1 1 *\"\ntime_zone = \"Europe/Berlin\"\n\
         attach = [\"csv\"]\n\
         [[schedule]]\nname = \"idle\"\njob = \"idle-alert\"\ncron = \"0 7 1 1 *\"\nhours = 1\n",
        prices = dir.join("prices.toml"),
    );
    std::fs::write(dir.join("prices.toml"), "currency = \"EUR\"\ngpu_hour = { L4 = 0.5 }\n").unwrap();
    std::fs::write(&file, text).unwrap();
    file.to_string_lossy().into_owned()
}

/// Standard output of `driftwatt schedule`, as JSON, and whether it succeeded.
fn schedule(server: &Server, args: &[&str]) -> (bool, Value) {
    let url = format!("http://{}", server.http);
    let output = driftwatt().arg("schedule").args(args).args(["--server", &url, "--format", "json"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let answer = serde_json::from_slice(&output.stdout).unwrap_or(Value::String(error));
    (output.status.success(), answer)
}

/// Duty, memory and owner of two GPUs over the last hour: one holds memory and does nothing, one works.
async fn send_gpus(server: &Server) {
    let of = |id: &'static str, team: &'static str| {
        vec![
            label("host.name", "h1"),
            label("hw.id", id),
            label("hw.type", "gpu"),
            label("hw.model", "L4"),
            label("driftwatt.team", team),
        ]
    };
    let minutes = |labels: Vec<_>, value: f64| -> Vec<_> {
        (1..60).map(|minute| point(now_nanos() - minute * 60_000_000_000, value, labels.clone())).collect()
    };
    let duty = [minutes(of("idle", "media"), 0.01), minutes(of("busy", "search"), 0.9)].concat();
    let memory = [minutes(of("idle", "media"), 2e10), minutes(of("busy", "search"), 2e10)].concat();
    let metrics = vec![gauge("hw.gpu.utilization", duty), gauge("hw.gpu.memory.usage", memory)];
    assert_eq!(export(server, metrics).await, (0, String::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_weekly_report_arrives_as_text_and_html_and_is_recorded() {
    let smtp = SmtpServer::start(1).await;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_configured(&dir.path().join("data"), &settings(dir.path(), smtp.port));
    let (listed, list) = schedule(&server, &["list"]);
    assert!(listed && list[0]["name"] == "weekly" && list[0]["to"] == 2 && list[0]["last"].is_null(), "{list}");
    let (succeeded, report) = schedule(&server, &["run", "weekly"]);
    assert!(succeeded, "{report}\n{}", server.log());
    // The first mail is refused once and taken at the second try; nobody gets it twice.
    let tries: Vec<(&str, u64)> = report["deliveries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["outcome"].as_str().unwrap(), row["attempt"].as_u64().unwrap()))
        .collect();
    assert_eq!(tries, [("retried", 1), ("delivered", 2), ("delivered", 1)], "{report}");
    assert!(smtp.has_refused());
    let taken = smtp.taken();
    assert_eq!(taken.len(), 2);
    assert!(taken[0].to[0].contains("ops@example.com") && taken[1].to[0].contains("boss@example.com"), "{taken:?}");
    let data = &taken[0].data;
    for part in [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "text/html",
        "weekly-",
        ".csv",
        "Subject: Weekly report ",
    ] {
        assert!(data.contains(part), "{part}: {data}");
    }
    assert!(data.find("text/plain") < data.find("text/html"), "the last form that a reader knows is shown");
    let rows =
        server.rows("SELECT recipient, attempt, outcome FROM reports.deliveries ORDER BY recipient, attempt").await;
    let expected =
        [("b…@example.com", 1, "delivered"), ("o…@example.com", 1, "retried"), ("o…@example.com", 2, "delivered")];
    assert_eq!(rows, expected.map(|(to, attempt, outcome)| vec![Value::from(to), attempt.into(), outcome.into()]));
    let query = "SELECT outcome, parameters LIKE '%-W%', table_versions LIKE '%series%', finished >= started FROM reports.runs \
                 WHERE schedule = 'weekly' AND started_by = 'hand' AND finished IS NOT NULL";
    assert_eq!(server.rows(query).await, [vec![Value::from("succeeded"), true.into(), true.into(), true.into()]]);
    let (_, metrics) = server.get("/metrics").await;
    assert!(
        metrics.contains("driftwatt_server_scheduled_runs_total{outcome=\"succeeded\",schedule=\"weekly\"} 1"),
        "{metrics}"
    );
    server.terminate();
    // With the server stopped, by the directory.
    let (data, config) = (dir.path().join("data"), settings(dir.path(), smtp.port));
    let mut command = driftwatt();
    command.args(["schedule", "run", "weekly", "--format", "json", "--data"]).arg(data).args(["--config", &config]);
    assert!(command.output().unwrap().status.success());
    assert_eq!(smtp.taken().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_mail_is_a_failed_run_with_its_words() {
    let smtp = SmtpServer::start(100).await;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_configured(&dir.path().join("data"), &settings(dir.path(), smtp.port));
    let (succeeded, report) = schedule(&server, &["run", "weekly"]);
    assert!(!succeeded && report["outcome"] == "failed", "{report}");
    assert!(report["error"].as_str().unwrap().contains("451"), "{report}");
    assert_eq!(report["deliveries"].as_array().unwrap().len(), 6, "three tries for each of two: {report}");
    let rows = server.rows("SELECT outcome, count(*) FROM reports.deliveries GROUP BY 1 ORDER BY 1").await;
    assert_eq!(rows, [vec![Value::from("failed"), 2.into()], vec!["retried".into(), 4.into()]]);
    assert!(server.log().contains("451"), "{}", server.log());
    let (found, error) = schedule(&server, &["run", "monthly"]);
    assert!(!found && error.as_str().unwrap().contains("there are weekly, idle"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_an_idle_gpu_gets_one_mail_and_not_the_same_an_hour_later() {
    let smtp = SmtpServer::start(0).await;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_configured(&dir.path().join("data"), &settings(dir.path(), smtp.port));
    send_gpus(&server).await;
    let (succeeded, report) = schedule(&server, &["run", "idle"]);
    assert!(succeeded, "{report}\n{}", server.log());
    assert_eq!(report["summary"], "2 GPUs, 1 idle, 1 of 1 owners to tell");
    let taken = smtp.taken();
    assert!(taken.len() == 1 && taken[0].to[0].contains("media@example.com"), "{taken:?}");
    assert!(taken[0].data.contains("h1/idle") && !taken[0].data.contains("h1/busy"), "{}", taken[0].data);
    assert!(taken[0].data.contains("EUR 0.4"), "59 minutes at 0.5 an hour: {}", taken[0].data);
    let (succeeded, report) = schedule(&server, &["run", "idle"]);
    assert!(succeeded && report["summary"] == "2 GPUs, 1 idle, 0 of 0 owners to tell", "{report}");
    assert_eq!(smtp.taken().len(), 1);
}

#[test]
fn a_schedule_that_cannot_work_is_refused_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("driftwatt.toml");
    for (text, words) in [
        ("name = \"a\"\njob = \"weekly-report\"\ncron = \"0 7 * *\"", "day of week"),
        ("name = \"a\"\njob = \"weekly-report\"\ncron = \"@daily\"\nto = [\"a@example.com\"]", "[delivery.mail]"),
        ("name = \"a\"\njob = \"weekly\"\ncron = \"@daily\"", "weekly-report"),
    ] {
        std::fs::write(&file, format!("[[schedule]]\n{text}\n")).unwrap();
        let data = dir.path().join("data");
        let output = driftwatt()
            .args(["serve", "--http", "127.0.0.1:0", "--otlp-grpc", "127.0.0.1:0", "--otlp-http", "127.0.0.1:0"])
            .args(["--postgres", "127.0.0.1:0", "--flight", "127.0.0.1:0", "--data"])
            .arg(data)
            .arg("--config")
            .arg(&file)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && error.contains(words), "{text}: {error}");
    }
}
