//! A model registry that the server reads: a fake with the answers of MLflow 3 over real HTTP, which stops, asks for a token, and pages.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::server::{Server, driftwatt, eventually, eventually_measured};

/// What the registry holds, and how it behaves.
#[derive(Default)]
struct Held {
    models: Vec<Value>,
    versions: Vec<Value>,
    runs: HashMap<String, Value>,
    /// Status that every request is answered with.
    broken: Option<(u16, &'static str)>,
    /// Value of `authorization` that is asked for.
    login: Option<String>,
    asked: Vec<String>,
}

impl Held {
    fn set_model(&mut self, name: &str, aliases: &[(&str, &str)], tags: &[(&str, &str)]) {
        // Versions of aliases are texts in answers of the REST API.
        let aliases: Vec<Value> =
            aliases.iter().map(|(alias, version)| json!({ "alias": alias, "version": version })).collect();
        let tags: Vec<Value> = tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
        self.models.retain(|model| model["name"] != name);
        self.models.push(json!({
            "name": name, "creation_timestamp": 1_764_000_000_000i64, "last_updated_timestamp": 1_764_000_000_000i64,
            "aliases": aliases, "tags": tags,
        }));
    }

    fn add_version(&mut self, name: &str, version: usize, run_id: &str) {
        let time_ms = 1_764_000_000_000i64 + version as i64 * 1_000;
        self.versions.push(json!({
            "name": name, "version": version.to_string(), "creation_timestamp": time_ms,
            "last_updated_timestamp": time_ms, "current_stage": "None", "description": "",
            "source": format!("models:/m-{version}"), "run_id": run_id, "status": "READY",
            "tags": [{ "key": "release", "value": format!("2.{version}.0") }], "run_link": "", "aliases": [],
        }));
        self.versions.sort_by_key(|row| std::cmp::Reverse(row["last_updated_timestamp"].as_i64()));
    }

    fn add_run(&mut self, run_id: &str, commit: &str) {
        let run = json!({
            "info": { "run_id": run_id, "status": "FINISHED", "start_time": 1_764_000_000_000i64, "lifecycle_stage": "active" },
            "data": {
                "params": [{ "key": "lr", "value": "0.01" }],
                "metrics": [{ "key": "accuracy", "value": 0.91, "timestamp": 1, "step": 0 }, { "key": "loss", "value": "NaN" }],
                "tags": [{ "key": "mlflow.source.git.commit", "value": commit }],
            },
            "inputs": { "dataset_inputs": [{
                "tags": [{ "key": "mlflow.data.context", "value": "training" }],
                "dataset": { "name": "imagenet", "digest": "d1", "source_type": "local", "source": "{}" },
            }] },
        });
        self.runs.insert(run_id.to_owned(), json!({ "run": run }));
    }

    fn answer(&mut self, path: &str, query: &HashMap<String, String>, login: Option<&str>) -> (u16, Value) {
        self.asked.push(path.to_owned());
        if let Some((status, text)) = self.broken {
            return (status, text.into());
        }
        if self.login.is_some() && self.login.as_deref() != login {
            return (401, "You are not authenticated".into());
        }
        let (rows, key) = match path {
            "registered-models/search" => (&self.models, "registered_models"),
            "model-versions/search" => (&self.versions, "model_versions"),
            "runs/get" => match self.runs.get(&query["run_id"]) {
                Some(run) => return (200, run.clone()),
                None => return (404, json!({ "error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Run not found" })),
            },
            other => panic!("not an endpoint that is read: {other}"),
        };
        // What MLflow refuses, too.
        let page_rows: usize = query["max_results"].parse().unwrap();
        assert!(page_rows <= 1_000 && query.contains_key("order_by"), "{query:?}");
        let from: usize = query.get("page_token").map_or(0, |token| token.parse().unwrap());
        let page: Vec<&Value> = rows.iter().skip(from).take(page_rows).collect();
        let mut answer = json!({ key: page });
        if from + page_rows < rows.len() {
            answer["next_page_token"] = (from + page_rows).to_string().into();
        }
        (200, answer)
    }
}

/// A registry at a loopback port.
struct Registry {
    held: Arc<Mutex<Held>>,
    port: u16,
    task: JoinHandle<()>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answered(
    State(held): State<Arc<Mutex<Held>>>,
    axum::extract::Path(path): axum::extract::Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let login = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let (status, body) = held.lock().unwrap().answer(&path, &query, login.as_deref());
    let body = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
    (StatusCode::from_u16(status).unwrap(), body).into_response()
}

impl Registry {
    async fn start(held: Held) -> Self {
        let held = Arc::new(Mutex::new(held));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new().route("/prefix/api/2.0/mlflow/{*path}", get(answered)).with_state(Arc::clone(&held));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { held, port, task }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Held) -> T) -> T {
        change(&mut self.held.lock().unwrap())
    }

    /// A configuration with a short interval, and `more` in the section.
    fn settings(&self, dir: &Path, more: &str) -> String {
        let file = dir.join("driftwatt.toml");
        let text =
            format!("[lineage.mlflow]\nurl = \"http://127.0.0.1:{}/prefix/\"\ninterval = \"1s\"\n{more}", self.port);
        std::fs::write(&file, text).unwrap();
        file.to_string_lossy().into_owned()
    }
}

fn has_rows(rows: &[Vec<Value>]) -> bool {
    !rows.is_empty()
}

const FOLLOWS: &str = "[[lineage.mlflow.follows]]\nservice = \"chat\"\nenvironment = \"prod\"\nmodel = \"resnet\"\n\
     alias = \"champion\"\n[[lineage.mlflow.follows]]\nservice = \"resize\"\nmodel = \"resnet\"\nalias = \"champion\"\n\
     version_tag = \"release\"\n";

/// A model of two versions, the first with an alias and a run.
fn two_versions() -> Held {
    let mut held = Held::default();
    held.set_model("resnet", &[("champion", "1")], &[("tier", "gold")]);
    held.add_version("resnet", 1, "r1");
    held.add_run("r1", "c0ffee");
    held.add_version("resnet", 2, "gone");
    held
}

/// What was stated about services.
const STATED: &str = "SELECT service_name, environment, version, not_before < time FROM reports.events \
     WHERE kind = 'deployment_stated' ORDER BY time, service_name";

#[tokio::test(flavor = "multi_thread")]
async fn versions_with_their_runs_are_recorded_and_an_alias_that_moves_is_a_deployment() {
    let registry = Registry::start(two_versions()).await;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let settings = registry.settings(dir.path(), FOLLOWS);
    let server = Server::start_configured(&data, &settings);

    let versions = "SELECT version, status, run_id, run_state, commit_id, params, metrics, datasets, tags \
                    FROM reports.model_versions ORDER BY version";
    let rows = eventually(&server, versions, has_rows).await;
    let datasets = r#"[{"context":"training","digest":"d1","name":"imagenet"}]"#;
    let first: Vec<Value> =
        ["1", "ready", "r1", "read", "c0ffee", r#"{"lr":"0.01"}"#, r#"{"accuracy":0.91}"#, datasets]
            .into_iter()
            .chain([r#"{"release":"2.1.0"}"#])
            .map(Value::from)
            .collect();
    assert_eq!(rows[0], first);
    assert_eq!((&rows[1][3], &rows[1][4]), (&"absent".into(), &Value::Null), "{rows:?}");
    // Each service in its own words; the alias is not older than the version that it names.
    let rows = eventually(&server, STATED, has_rows).await;
    let prod = |version: &str| -> Vec<Value> { vec!["chat".into(), "prod".into(), version.into(), true.into()] };
    let resize = |version: &str| -> Vec<Value> { vec!["resize".into(), Value::Null, version.into(), true.into()] };
    assert_eq!(rows, [prod("1"), resize("2.1.0")]);
    let told = server
        .rows("SELECT kind FROM reports.events WHERE source = 'mlflow' AND kind <> 'deployment_stated' ORDER BY 1")
        .await;
    assert_eq!(told, [["alias_moved"], ["model_tags_changed"], ["registry_read"]], "what was there is not news");

    let tags = registry.change(|held| {
        held.add_version("resnet", 3, "r3");
        held.add_run("r3", "bead");
        std::mem::replace(&mut held.versions[0]["tags"], json!([]))
    });
    let added = "SELECT version, time = not_before FROM reports.events WHERE kind = 'version_added'";
    assert_eq!(eventually(&server, added, has_rows).await, [vec![Value::from("3"), true.into()]]);
    // A tag is set without a new time of update.
    registry.change(|held| {
        held.versions[0]["tags"] = tags;
        held.set_model("resnet", &[("champion", "3")], &[("tier", "gold")]);
    });
    let rows = eventually(&server, STATED, |rows| rows.len() == 4).await;
    assert_eq!(rows[2..], [prod("3"), resize("2.3.0")]);
    // What runs, for joins: the last row at or before a moment.
    let runs =
        "SELECT version, status, basis FROM reports.deployments WHERE service_name = 'chat' ORDER BY time DESC LIMIT 1";
    eventually(&server, runs, |rows| rows == [vec![Value::from("3"), "known".into(), "alias".into()]]).await;
    let joined = "SELECT d.version FROM ((SELECT now() AS at, 'resize' AS service) l ASOF JOIN \
                  (SELECT * FROM reports.deployments) d MATCH_CONDITION (l.at >= d.time) ON l.service = d.service_name)";
    eventually(&server, joined, |rows| rows == [["2.3.0"]]).await;
    let comment = "SELECT count(*), count(comment) FROM system.columns WHERE schema_name = 'reports' AND table_name IN \
                   ('events', 'deployments', 'model_versions')";
    let counts = server.rows(comment).await;
    assert!(counts[0][0] == counts[0][1] && counts[0][0].as_u64().unwrap() > 30, "{counts:?}");
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_tells_nothing_twice_and_sees_what_changed_meanwhile() {
    let registry = Registry::start(two_versions()).await;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let settings = registry.settings(dir.path(), FOLLOWS);
    let server = Server::start_configured(&data, &settings);
    eventually(&server, STATED, |rows| rows.len() == 2).await;
    let count = "SELECT count(*) FROM reports.events WHERE kind NOT IN ('registry_read', 'deployment_stated')";
    let before = server.rows(count).await;
    server.terminate();
    registry.change(|held| held.set_model("resnet", &[], &[("tier", "gold")]));
    let server = Server::start_configured(&data, &settings);
    let rows = eventually(&server, STATED, |rows| rows.len() == 4).await;
    assert_eq!((&rows[2][2], &rows[3][2]), (&Value::Null, &Value::Null));
    let after = server.rows(count).await;
    assert_eq!(after[0][0].as_u64(), before[0][0].as_u64().map(|count| count + 1), "one alias was removed");
    let withdrawn =
        "SELECT status, reason FROM reports.deployments WHERE service_name = 'chat' ORDER BY time DESC LIMIT 1";
    eventually(&server, withdrawn, |rows| rows == [["unknown", "withdrawn"]]).await;
    // A poll is counted once all that follows from it is written.
    let counted = "driftwatt_server_registry_polls_total{outcome=\"succeeded\"}";
    let metrics = eventually_measured(&server, counted).await;
    assert!(metrics.contains("driftwatt_server_registry_versions 2"), "{metrics}");
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_of_several_pages_is_read_whole_and_its_runs_bit_by_bit() {
    let mut held = Held::default();
    held.set_model("resnet", &[("champion", "7")], &[]);
    for version in 1..=2_300 {
        held.add_version("resnet", version, &format!("r{version}"));
        held.add_run(&format!("r{version}"), "c0ffee");
    }
    let registry = Registry::start(held).await;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_configured(&dir.path().join("data"), &registry.settings(dir.path(), ""));
    let count =
        "SELECT count(DISTINCT version), count(*) FILTER (WHERE run_state = 'read') > 0 FROM reports.model_versions";
    eventually(&server, count, |rows| rows == [vec![Value::from(2_300), true.into()]]).await;
    registry.change(|held| {
        let is_page = |path: &&String| *path == "model-versions/search";
        assert!(held.asked.iter().filter(is_page).count() >= 3, "{:?}", held.asked.len());
        let runs = held.asked.iter().position(|path| path == "runs/get").unwrap();
        let bound = held.asked[runs..].iter().position(|path| path == "registered-models/search");
        assert!(bound.is_none_or(|count| count == 200), "at most 200 runs in one poll: {bound:?}");
    });
    // The version that an alias names is among the first whose run is read.
    let read = "SELECT count(*) FROM reports.model_versions WHERE version = '7' AND run_state = 'read'";
    eventually(&server, read, |rows| rows == [[1]]).await;
    let rest = "SELECT count(DISTINCT version) FROM reports.model_versions WHERE run_state = 'read'";
    eventually(&server, rest, |rows| rows[0][0].as_u64() >= Some(600)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_down_is_counted_and_explained_and_stops_nothing() {
    let mut held = Held { broken: Some((503, "upstream down")), ..Held::default() };
    held.set_model("resnet", &[("champion", "1")], &[]);
    held.add_version("resnet", 1, "");
    let registry = Registry::start(held).await;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start_configured(&data, &registry.settings(dir.path(), FOLLOWS));
    let failed = "SELECT text FROM reports.events WHERE kind = 'registry_failed' ORDER BY time";
    let rows = eventually(&server, failed, has_rows).await;
    let text = rows[0][0].as_str().unwrap();
    assert!(text.contains("not available (status 503): upstream down"), "{text}");
    assert_eq!(server.get("/readyz").await.0, 200);
    let metrics = eventually_measured(&server, "driftwatt_server_registry_polls_total{outcome=\"unavailable\"}").await;
    assert!(!metrics.contains("driftwatt_server_registry_versions "), "what was never read is not 0: {metrics}");
    registry.change(|held| held.broken = Some((200, "<html>login</html>")));
    let rows = eventually(&server, failed, |rows| rows.len() == 2).await;
    assert!(rows[1][0].as_str().unwrap().contains("login page"), "{rows:?}");
    registry.change(|held| held.broken = None);
    let read = "SELECT text FROM reports.events WHERE kind = 'registry_read'";
    let rows = eventually(&server, read, has_rows).await;
    assert_eq!(rows, [["the registry was read: 1 models, 1 versions"]]);
    // A port at which nothing listens, for a server that knows the registry already.
    server.terminate();
    let settings = registry.settings(dir.path(), FOLLOWS);
    drop(registry);
    let server = Server::start_configured(&data, &settings);
    let rows = eventually(&server, failed, |rows| rows.len() == 3).await;
    assert!(rows[2][0].as_str().unwrap().contains("does not answer"), "{rows:?}");
    assert_eq!(server.rows("SELECT count(*) FROM reports.model_versions").await, [[1]]);
    server.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_sent_and_never_shown() {
    let mut held = Held { login: Some("Bearer hush-hush".to_owned()), ..Held::default() };
    held.set_model("resnet", &[], &[]);
    let registry = Registry::start(held).await;
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "hush-hush\n").unwrap();
    let settings = registry.settings(dir.path(), &format!("token_file = {token:?}\n"));
    let server = Server::start_configured(&dir.path().join("data"), &settings);
    eventually(&server, "SELECT 1 FROM reports.events WHERE kind = 'registry_read'", has_rows).await;
    std::fs::write(&token, "wrong").unwrap();
    let other = Server::start_configured(&dir.path().join("other"), &settings);
    let failed = "SELECT text FROM reports.events WHERE kind = 'registry_failed'";
    let rows = eventually(&other, failed, has_rows).await;
    assert!(rows[0][0].as_str().unwrap().contains("check the token"), "{rows:?}");
    for log in [server.log(), other.log()] {
        assert!(!log.contains("hush-hush") && !log.contains("Bearer"), "{log}");
    }
}

#[test]
fn settings_that_cannot_work_are_refused_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("driftwatt.toml");
    for (text, words) in [
        ("[lineage.mlflow]\nurl = \"mlflow\"", "lineage.mlflow.url"),
        ("[lineage.mlflow]\nurl = \"http://h\"\ntoken_env = \"NO_SUCH_TOKEN\"", "NO_SUCH_TOKEN is not set"),
        ("[lineage.mlflow]\nadress = \"http://h\"", "adress"),
    ] {
        std::fs::write(&file, text).unwrap();
        let mut command = driftwatt();
        command.args(["serve", "--http", "127.0.0.1:0", "--otlp-grpc", "127.0.0.1:0", "--otlp-http", "127.0.0.1:0"]);
        command.args(["--postgres", "127.0.0.1:0", "--flight", "127.0.0.1:0", "--data"]).arg(dir.path().join("data"));
        let output = command.arg("--config").arg(&file).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && error.contains(words), "{text}: {error}");
    }
}
