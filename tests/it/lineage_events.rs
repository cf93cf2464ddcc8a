//! Run events of OpenLineage over HTTP: what pipelines send, and what they send wrong.

use serde_json::{Value, json};

use crate::server::{Server, start};

const RUN: &str = "01941f29-7c00-7087-8940-42b2dbd2b4ea";

/// Status and body of a post, with `headers`.
async fn post(server: &Server, body: impl Into<String>, headers: &[(&str, &str)]) -> (u16, Value) {
    let mut request = reqwest::Client::new().post(format!("http://{}/api/v1/lineage", server.http)).body(body.into());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// An event as the Python client of OpenLineage writes it.
fn event(state: &str, time: &str) -> Value {
    let facet = |schema: &str, mut fields: Value| {
        fields["_producer"] = "https://github.com/OpenLineage/OpenLineage/tree/1.40.0/client/python".into();
        fields["_schemaURL"] = format!("https://openlineage.io/spec/facets/{schema}").into();
        fields
    };
    let version = |version: &str| facet("1-0-1/DatasetVersionDatasetFacet.json", json!({ "datasetVersion": version }));
    json!({
        "eventType": state,
        "eventTime": time,
        "producer": "https://github.com/OpenLineage/OpenLineage/tree/1.40.0/client/python",
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": { "runId": RUN, "facets": {} },
        "job": { "namespace": "airflow", "name": "train.resnet", "facets": {
            "sourceCodeLocation": facet("1-0-1/SourceCodeLocationJobFacet.json", json!({ "type": "git", "url": "x", "version": "c0ffee" })),
            "jobType": facet("2-0-3/JobTypeJobFacet.json", json!({ "processingType": "BATCH", "integration": "AIRFLOW" })),
        } },
        "inputs": [{
            "namespace": "s3://data", "name": "train_data_202408_resnet", "facets": { "version": version("d41d8cd9") },
            "inputFacets": { "inputStatistics": facet("1-0-0/InputStatisticsInputDatasetFacet.json", json!({ "rowCount": 1_000, "size": 4_096 })) },
        }],
        "outputs": [{ "namespace": "mlflow", "name": "resnet", "facets": { "version": version("12") } }],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_becomes_rows_of_events_and_data_sets() {
    let (_dir, server) = start();
    let (status, answer) = post(&server, event("START", "2026-01-31T12:00:00Z").to_string(), &[]).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer, json!({ "datasets": 2, "facets_left_out": ["job.jobType"] }));
    // With a zone, and microseconds.
    let headers = [("content-type", "application/json; charset=utf-8"), ("content-encoding", "identity")];
    let (status, _) = post(&server, event("COMPLETE", "2026-01-31T14:30:00.000001+01:00").to_string(), &headers).await;
    assert_eq!(status, 200);
    let rows = server
        .rows("SELECT CAST(time AS VARCHAR) AS at, kind, subject, run_id, source, time = not_before FROM reports.events ORDER BY at")
        .await;
    let row = |time: &str, kind: &str| -> Vec<Value> {
        vec![time.into(), kind.into(), "airflow/train.resnet".into(), RUN.into(), "open_lineage".into(), true.into()]
    };
    assert_eq!(rows, [row("2026-01-31T12:00:00Z", "run_started"), row("2026-01-31T13:30:00.000001Z", "run_completed")]);
    let rows = server
        .rows(
            "SELECT DISTINCT side, namespace, name, digest, row_count, size_bytes, commit_id, job FROM reports.dataset_places ORDER BY 1",
        )
        .await;
    let input: Vec<Value> = vec![
        "input".into(),
        "s3://data".into(),
        "train_data_202408_resnet".into(),
        "d41d8cd9".into(),
        1_000.into(),
        4_096.into(),
        "c0ffee".into(),
        "airflow/train.resnet".into(),
    ];
    assert_eq!(rows[0], input);
    assert_eq!(rows[1][1..6], ["mlflow".into(), "resnet".into(), "12".into(), Value::Null, Value::Null]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_run_event_is_refused_with_the_place() {
    let (_dir, server) = start();
    let without = |pointer: &str, key: &str| {
        let mut event = event("START", "2026-01-31T12:00:00Z");
        event.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(key);
        event.to_string()
    };
    let ahead = (chrono::Utc::now() + chrono::TimeDelta::days(2)).to_rfc3339();
    let mut large = event("START", "2026-01-31T12:00:00Z");
    large["run"]["facets"]["big"] = json!({ "text": "x".repeat(1 << 20) });
    let mut larger = large.clone();
    larger["run"]["facets"]["big"] = json!({ "text": "x".repeat(3 << 20) });
    for (body, status, words) in [
        ("{".to_owned(), 400, "not JSON"),
        ("[]".to_owned(), 400, "expected an object"),
        (without("", "run"), 400, "no run in the event"),
        (without("/job", "namespace"), 400, "job.namespace is missing"),
        (without("", "eventTime"), 400, "eventTime is missing"),
        (event("DONE", "2026-01-31T12:00:00Z").to_string(), 400, "eventType: expected START"),
        (event("START", "yesterday").to_string(), 400, "a time with its zone"),
        (event("START", "1969-12-31T23:59:59Z").to_string(), 400, "after 1970"),
        (event("START", &ahead).to_string(), 400, "set the clock of the sender"),
        (large.to_string(), 413, "more than 1 MiB"),
        (larger.to_string(), 413, "more than 1 MiB"),
    ] {
        let (found, answer) = post(&server, body, &[]).await;
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(found == status && message.contains(words), "{words}: {found} {message}");
        assert_eq!(answer["error"]["kind"], "invalid");
    }
    let body = event("START", "2026-01-31T12:00:00Z").to_string();
    let (status, answer) = post(&server, body, &[("content-encoding", "gzip")]).await;
    assert!(status == 415 && answer["error"]["message"].as_str().unwrap().contains("plain JSON"), "{answer}");
    let tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'reports'";
    assert_eq!(server.rows(tables).await, [[0]], "nothing was recorded");
}
