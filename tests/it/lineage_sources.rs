//! Lineage from work trees, and to others: DVC files of a git repository, events of our own jobs, alarms of checkpoints by mail.

use std::{
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, http::StatusCode, routing::post};
use serde_json::{Value, json};

use crate::{
    server::{Server, driftwatt, eventually},
    smtp::SmtpServer,
};

/// A git repository, made by git itself where the machine has it.
fn repository(folder: &Path) -> Option<String> {
    let git = |args: &[&str]| {
        let output =
            Command::new("git").arg("-C").arg(folder).args(args).env("GIT_CONFIG_GLOBAL", "/dev/null").output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    git(&["init", "--quiet", "--initial-branch", "main"])?;
    git(&["add", "."])?;
    git(&["-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "--quiet", "-m", "data"])?;
    git(&["rev-parse", "HEAD"])
}

/// A run of OpenLineage that made version 12 of a model from a commit.
fn made_from(commit: &str) -> Value {
    let facet = |schema: &str, mut fields: Value| {
        fields["_producer"] = "https://example.org".into();
        fields["_schemaURL"] = format!("https://openlineage.io/spec/facets/{schema}").into();
        fields
    };
    json!({
        "eventType": "COMPLETE", "eventTime": "2026-01-31T12:00:00Z", "producer": "https://example.org",
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": { "runId": "01941f29-7c00-7087-8940-42b2dbd2b4ea" },
        "job": { "namespace": "ci", "name": "train", "facets": { "sourceCodeLocation":
            facet("1-0-1/SourceCodeLocationJobFacet.json", json!({ "type": "git", "url": "x", "version": commit })) } },
        "outputs": [{ "namespace": "models", "name": "ranker", "facets": { "version":
            facet("1-0-1/DatasetVersionDatasetFacet.json", json!({ "datasetVersion": "12" })) } }],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_of_a_commit_is_that_of_the_model_that_it_made() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("ranker");
    std::fs::create_dir_all(tree.join("data")).unwrap();
    std::fs::write(
        tree.join("data/train.csv.dvc"),
        "outs:\n- md5: 22a1a2931c8370d3aeedd7183606fd7f\n  size: 14445097\n  path: train.csv\n",
    )
    .unwrap();
    std::fs::write(
        tree.join("dvc.lock"),
        "schema: '2.0'\nstages:\n  train:\n    cmd: python train.py\n    deps:\n    - path: data/train.csv\n      md5: \
         22a1a2931c8370d3aeedd7183606fd7f\n      size: 14445097\n    params:\n      params.yaml:\n        lr: 0.1\n    outs:\n    - path: \
         model_ranker_2.1.pt\n      md5: c157a79031e1c40f85931829bc5fc552\n",
    )
    .unwrap();
    let Some(commit) = repository(&tree) else {
        eprintln!("skipped: there is no git on this machine");
        return;
    };
    let settings = dir.path().join("driftwatt.toml");
    std::fs::write(
        &settings,
        format!("[[lineage.work_trees]]\nfolder = {tree:?}\nname = \"watched\"\ninterval = \"1s\"\n"),
    )
    .unwrap();
    let server = Server::start_configured(&dir.path().join("data"), &settings.to_string_lossy());
    let url = format!("http://{}", server.http);
    let told =
        driftwatt().args(["dvc", &tree.to_string_lossy(), "--server", &url, "--format", "text"]).output().unwrap();
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    // Something is odd: a version without its v.
    assert_eq!(told.status.code(), Some(1), "{text}{}", String::from_utf8_lossy(&told.stderr));
    assert!(text.contains(&format!("ranker at commit {commit} of main: 3 data sets and 1 stages")), "{text}");
    assert!(text.contains("write v2.1"), "{text}");
    let rows = eventually(
        &server,
        "SELECT DISTINCT namespace FROM reports.dataset_places WHERE source = 'dvc' ORDER BY 1",
        |rows| rows.len() == 4,
    )
    .await;
    assert_eq!(rows[0], ["ranker/data/train.csv.dvc"]);
    assert!(server.log().contains("a work tree is not in order"), "{}", server.log());
    let detail =
        server.rows("SELECT detail FROM reports.events WHERE kind = 'work_tree_read' AND subject = 'ranker'").await;
    let detail: Value = serde_json::from_str(detail[0][0].as_str().unwrap()).unwrap();
    assert_eq!(
        (&detail["branch"], &detail["stages"][0]["params"]["params.yaml"]["lr"]),
        (&"main".into(), &"0.1".into())
    );

    let mark = ["deploy", "mark", "rank", "12", "--model", "ranker", "--server", &url];
    assert!(driftwatt().args(mark).status().unwrap().success());
    let event = made_from(&commit);
    let sent =
        reqwest::Client::new().post(format!("{url}/api/v1/lineage")).body(event.to_string()).send().await.unwrap();
    assert_eq!(sent.status().as_u16(), 200);
    let (status, text) = server.get("/api/v1/lineage?service=rank").await;
    assert!(status == 200 && text.contains(&format!("commit {commit}")), "{text}");
    let read = "data/train.csv in ranker/dvc.lock at md5:22a1a2931c8370d3aeedd7183606fd7f, read by ranker/train";
    assert!(text.contains(read), "{text}");
    assert!(!text.contains("its data is not known"), "{text}");
    let nothing = driftwatt().args(["dvc", "/no/such/folder", "--server", &url]).output().unwrap();
    assert_eq!(nothing.status.code(), Some(2));
}

/// A receiver of OpenLineage that answers "later" to its first event.
async fn receiver() -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let events: Arc<Mutex<Vec<Value>>> = Arc::default();
    let (taken, first) = (Arc::clone(&events), Arc::new(Mutex::new(true)));
    let take = move |body: Bytes| {
        let (taken, first) = (Arc::clone(&taken), Arc::clone(&first));
        async move {
            if std::mem::take(&mut *first.lock().unwrap()) {
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            taken.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
            StatusCode::CREATED
        }
    };
    let router = Router::new().route("/api/v1/lineage", post(take));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, events)
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_jobs_are_runs_of_openlineage_for_others() {
    let (url, events) = receiver().await;
    let dir = tempfile::tempdir().unwrap();
    let settings = dir.path().join("driftwatt.toml");
    std::fs::write(
        &settings,
        format!(
            "[lineage.openlineage]\nurl = {url:?}\nnamespace = \"ops\"\n\
             [[schedule]]\nname = \"weekly\"\njob = \"weekly-report\"\ncron = \"0 7 1 1 *\"\n\
             [[schedule]]\nname = \"inputs\"\njob = \"drift\"\nmetric = \"no.such.metric\"\ncron = \"0 7 1 1 *\"\n"
        ),
    )
    .unwrap();
    let server = Server::start_configured(&dir.path().join("data"), &settings.to_string_lossy());
    let client = reqwest::Client::new();
    let run =
        async |path: &str| client.post(format!("http://{}{path}", server.http)).send().await.unwrap().status().as_u16();
    assert_eq!(run("/api/v1/schedules/weekly/run").await, 200);
    assert_eq!(run("/api/v1/schedules/inputs/run").await, 200);
    assert_eq!(run("/api/v1/diagnose?service=nobody").await, 400);
    let sent = "driftwatt_server_openlineage_events_total{outcome=\"sent\"} 6";
    let mut metrics = String::new();
    for _ in 0..200 {
        metrics = server.get("/metrics").await.1;
        if metrics.contains(sent) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(metrics.contains(sent), "{metrics}\n{}", server.log());
    let events = events.lock().unwrap().clone();
    let told: Vec<(&str, &str)> =
        events.iter().map(|one| (one["job"]["name"].as_str().unwrap(), one["eventType"].as_str().unwrap())).collect();
    assert_eq!(
        told,
        [
            ("weekly-report.weekly", "START"),
            ("weekly-report.weekly", "COMPLETE"),
            ("drift.inputs", "START"),
            ("drift.inputs", "COMPLETE"),
            ("diagnose", "START"),
            ("diagnose", "FAIL")
        ]
    );
    let (began, ended, failed) = (&events[0], &events[1], &events[5]);
    assert_eq!(began["run"]["runId"], ended["run"]["runId"]);
    assert_eq!(began["job"]["namespace"], "ops");
    let read: Vec<&Value> = ended["inputs"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert!(read.contains(&&Value::from("samples")), "{ended:#}");
    assert!(ended["inputs"][0]["facets"]["version"]["datasetVersion"].is_string(), "{ended:#}");
    assert!(failed["run"]["facets"]["errorMessage"]["message"].is_string(), "{failed:#}");
    // Everything that the specification requires is there: our own inlet refuses what lacks it.
    for event in &events {
        let url = format!("http://{}/api/v1/lineage", server.http);
        let taken = client.post(url).body(event.to_string()).send().await.unwrap();
        assert_eq!(taken.status().as_u16(), 200, "{event:#}");
        for facets in [&event["run"]["facets"], &event["job"]["facets"]] {
            for facet in facets.as_object().unwrap().values() {
                assert!(facet["_producer"].is_string() && facet["_schemaURL"].is_string(), "{facet}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alarms_of_checkpoints_reach_their_owner_and_the_lineage_of_their_service() {
    let smtp = SmtpServer::start(0).await;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("models");
    std::fs::create_dir_all(&folder).unwrap();
    let settings = dir.path().join("driftwatt.toml");
    std::fs::write(
        &settings,
        format!(
            "[delivery.mail]\nhost = \"127.0.0.1\"\nport = {}\nsecurity = \"none\"\nfrom = \"d@example.com\"\nto = [\"ops@example.com\"]\n\
             [delivery.owners]\nvision = \"vision@example.com\"\n\
             [[lineage.checkpoints]]\nfolder = {folder:?}\nservice = \"resize\"\nowner = \"Vision\"\ninterval = \"1s\"\n",
            smtp.port
        ),
    )
    .unwrap();
    let data = dir.path().join("data");
    let server = Server::start_configured(&data, &settings.to_string_lossy());
    let told = "SELECT kind FROM reports.events WHERE source = 'checkpoints' ORDER BY time";
    assert_eq!(eventually(&server, told, |rows| !rows.is_empty()).await, [["checkpoint_alarm"]]);
    let url = format!("http://{}", server.http);
    for service in ["resize", "chat"] {
        let mark = ["deploy", "mark", service, "1", "--server", &url];
        assert!(driftwatt().args(mark).status().unwrap().success());
    }
    let (_, text) = server.get("/api/v1/lineage?service=resize").await;
    assert!(text.contains("alarm: ") && text.contains("no checkpoint in the folder"), "{text}");
    let (_, text) = server.get("/api/v1/lineage?service=chat").await;
    assert!(!text.contains("no checkpoint"), "{text}");
    server.terminate();
    // After a restart it is told no more, until all is in order.
    let server = Server::start_configured(&data, &settings.to_string_lossy());
    let looks = "SELECT count(*) FROM reports.checkpoints WHERE alarm_count > 0";
    eventually(&server, looks, |rows| rows[0][0].as_u64() >= Some(4)).await;
    std::fs::write(folder.join("model_a_v1.0.pt"), [7; 64]).unwrap();
    let rows = eventually(&server, told, |rows| rows.len() > 1).await;
    assert_eq!(rows, [["checkpoint_alarm"], ["checkpoint_in_order"]]);
    let taken = smtp.taken();
    assert_eq!(taken.len(), 2, "{taken:?}");
    assert!(taken.iter().all(|mail| mail.to[0].contains("vision@example.com")), "{taken:?}");
    assert!(taken[0].data.contains("are not in order") && taken[1].data.contains("in order again"), "{taken:?}");
    let (_, metrics) = server.get("/metrics").await;
    assert!(metrics.contains("driftwatt_server_checkpoint_letters_total{outcome=\"delivered\"} 1"), "{metrics}");
}
