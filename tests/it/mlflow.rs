//! The registry against MLflow itself, where Python has it: `pip install mlflow`. `MLFLOW_PYTHON` names another Python than `python3`.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::server::{Server, eventually};

/// It imports half of Python's world first.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A tracking server of its own.
struct Mlflow {
    child: Child,
    url: String,
}

impl Drop for Mlflow {
    fn drop(&mut self) {
        // Its workers are processes of the same group.
        let group = format!("-{}", self.child.id());
        let _stopped = Command::new("kill").args(["-TERM", "--", &group]).status();
        let _ended = self.child.wait();
    }
}

impl Mlflow {
    /// Starts it; none where Python does not have it.
    async fn start(dir: &Path) -> Option<Self> {
        use std::os::unix::process::CommandExt as _;
        let python = std::env::var("MLFLOW_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let has_it = Command::new(&python).args(["-c", "import mlflow"]).stderr(Stdio::null()).status();
        if !has_it.is_ok_and(|status| status.success()) {
            return None;
        }
        // Free for a moment; MLflow takes no port of the system's choice.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(python);
        command.args(["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", &port.to_string(), "--workers", "1"]);
        command.args(["--backend-store-uri", "sqlite:///mlflow.db", "--artifacts-destination", "./artifacts"]);
        command.current_dir(dir).process_group(0).stdout(Stdio::null()).stderr(Stdio::null());
        let mlflow = Self { child: command.spawn().unwrap(), url: format!("http://127.0.0.1:{port}") };
        let end = Instant::now() + START_LIMIT;
        while !reqwest::get(format!("{}/health", mlflow.url)).await.is_ok_and(|answer| answer.status().is_success()) {
            assert!(Instant::now() < end, "mlflow does not answer");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Some(mlflow)
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let url = format!("{}/api/2.0/mlflow/{path}", self.url);
        let response = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
        let (status, answer) = (response.status(), response.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {answer}");
        serde_json::from_str(&answer).unwrap()
    }

    /// A version with a run that names its commit.
    async fn add_version(&self, release: &str, commit: &str) {
        let run = self.post("runs/create", json!({ "experiment_id": "0", "start_time": 1_764_000_000_000i64 })).await;
        let run_id = run["run"]["info"]["run_id"].clone();
        self.post("runs/log-parameter", json!({ "run_id": run_id, "key": "lr", "value": "0.1" })).await;
        let tag = json!({ "run_id": run_id, "key": "mlflow.source.git.commit", "value": commit });
        self.post("runs/set-tag", tag).await;
        let tags = json!([{ "key": "release", "value": release }]);
        let version = json!({ "name": "resnet", "source": "s3://models/resnet", "run_id": run_id, "tags": tags });
        self.post("model-versions/create", version).await;
    }

    async fn set_alias(&self, version: &str) {
        let alias = json!({ "name": "resnet", "alias": "champion", "version": version });
        self.post("registered-models/alias", alias).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mlflow_itself_is_read_and_an_alias_that_moves_there_is_a_deployment() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mlflow) = Mlflow::start(dir.path()).await else {
        println!("skipped: Python has no mlflow; pip install mlflow, or name a Python that has it in MLFLOW_PYTHON");
        return;
    };
    mlflow.post("registered-models/create", json!({ "name": "resnet" })).await;
    mlflow.add_version("2.0.0", "c0ffee").await;
    mlflow.add_version("2.1.0", "bead").await;
    mlflow.set_alias("1").await;
    let settings = dir.path().join("driftwatt.toml");
    let follows = "[[lineage.mlflow.follows]]\nservice = \"chat\"\nmodel = \"resnet\"\nalias = \"champion\"\nversion_tag = \"release\"";
    let text =
        format!("[lineage.mlflow]\nurl = \"{}\"\ninterval = \"1s\"\nfull_interval = \"2s\"\n{follows}\n", mlflow.url);
    std::fs::write(&settings, text).unwrap();
    let server = Server::start_configured(&dir.path().join("data"), &settings.to_string_lossy());
    let versions =
        "SELECT version, status, run_state, commit_id, params, tags FROM reports.model_versions ORDER BY version";
    let rows = eventually(&server, versions, |rows| rows.len() == 2).await;
    let row = |version: &str, commit: &str, release: &str| -> Vec<Value> {
        let tags = format!("{{\"release\":\"{release}\"}}");
        [version, "ready", "read", commit, "{\"lr\":\"0.1\"}", &tags].map(Value::from).to_vec()
    };
    assert_eq!(rows, [row("1", "c0ffee", "2.0.0"), row("2", "bead", "2.1.0")]);
    let stated = "SELECT version FROM reports.events WHERE kind = 'deployment_stated' ORDER BY time";
    assert_eq!(eventually(&server, stated, |rows| rows.len() == 1).await, [["2.0.0"]]);
    mlflow.set_alias("2").await;
    assert_eq!(eventually(&server, stated, |rows| rows.len() == 2).await, [["2.0.0"], ["2.1.0"]]);
    let delete = reqwest::Client::new().delete(format!("{}/api/2.0/mlflow/model-versions/delete", mlflow.url));
    let deleted = delete.json(&json!({ "name": "resnet", "version": "1" })).send().await.unwrap();
    assert!(deleted.status().is_success(), "{deleted:?}");
    let gone = "SELECT version FROM reports.model_versions WHERE status = 'deleted'";
    assert_eq!(eventually(&server, gone, |rows| !rows.is_empty()).await, [["1"]]);
    assert!(!server.log().contains("WARN"), "{}", server.log());
}
