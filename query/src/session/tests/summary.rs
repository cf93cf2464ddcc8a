//! `"explain": "analyze"`: what a query cost.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_summary_counts_what_was_read_and_what_was_left_out() {
    let fixture = fixture().await;
    for metric in ["a", "b", "c"] {
        fixture.sample(metric, &[], 1.0).await;
    }
    fixture.store.flush().await.unwrap();
    let (url, _server) = fixture.serve(Config::default()).await;
    let asked = async |sql: &str, params: Value| {
        let (status, body) = post(&url, json!({ "query": sql, "params": params, "explain": "analyze" })).await;
        assert_eq!(status, 200, "{body}");
        body
    };
    let all = asked("SELECT * FROM raw.samples", json!([])).await;
    assert_eq!((&all["summary"]["rows"], &all["summary"]["scan"]["files"]), (&json!(3), &json!(1)), "{all}");
    assert!(all["summary"]["scan"]["size_bytes"].as_u64() > Some(0), "{all}");
    assert!(all["summary"]["elapsed_ms"].as_f64() > Some(0.0));
    assert_eq!(all["summary"]["spill"], json!({ "count": 0, "size_bytes": 0, "rows": 0 }));
    assert!(all["columns"].as_array().unwrap().iter().any(|column| column["name"] == "metric"));
    let one = asked("SELECT * FROM raw.samples WHERE metric = $1 AND value > 0.5", json!(["b"])).await;
    assert_eq!((&one["summary"]["rows"], &one["summary"]["scan"]["rows"]), (&json!(1), &json!(1)), "{one}");
    // All in one row group, of which the filter leaves one row.
    assert_eq!(one["summary"]["scan"]["row_groups"], json!({ "total": 1, "pruned": 0 }), "{one}");
    let none = asked("SELECT * FROM raw.samples WHERE metric = 'zzz'", json!([])).await;
    assert_eq!((&none["summary"]["rows"], &none["summary"]["scan"]["rows"]), (&json!(0), &json!(0)), "{none}");
    let names = |body: &Value| -> Vec<String> {
        let operators = body["operators"].as_array().unwrap();
        operators.iter().map(|operator| operator["name"].as_str().unwrap().to_owned()).collect()
    };
    assert!(names(&one).iter().any(|name| name == "DataSourceExec"), "{one}");
    let sorted = asked("SELECT metric, count(*) FROM metrics GROUP BY metric ORDER BY metric", json!([])).await;
    assert_eq!(sorted["summary"]["rows"], 3);
    assert!(names(&sorted).iter().any(|name| name == "AggregateExec"), "{sorted}");
    assert_eq!(sorted["operators"][0]["depth"], 0);
    let (status, body) = post(&url, json!({ "query": "SELECT 1", "explain": "verbose" })).await;
    assert_eq!((status, &body["error"]["kind"]), (400, &json!("invalid")));
    let (status, _) = post(&url, json!({ "query": "DROP TABLE metrics", "explain": "analyze" })).await;
    assert_eq!(status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_summary_counts_what_was_spilled() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(driftwatt_store::Config::new(dir.path())).await.unwrap();
    let config = Config { memory_bytes: 48 << 20, ..Config::default() };
    let ctx = session(&store, &config).await.unwrap();
    let fixture = Fixture { _dir: dir, ctx, store };
    let (url, _server) = fixture.serve(config).await;
    let sql = "SELECT value, sha256(CAST(value AS VARCHAR)) AS h FROM generate_series(1, 800000) ORDER BY h";
    let (status, body) = post(&url, json!({ "query": sql, "explain": "analyze" })).await;
    assert_eq!((status, &body["summary"]["rows"]), (200, &json!(800_000)), "{body}");
    assert!(body["summary"]["spill"]["size_bytes"].as_u64() > Some(0), "{body}");
}
