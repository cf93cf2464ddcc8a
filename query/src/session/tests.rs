use arrow::{array::AsArray, datatypes::Float64Type};
use driftwatt_store::{
    AttributeValue, HistogramPoint, HistogramShape, Kind, SampleColumns, Series, SeriesDefinition, Temporality,
    WriteBatch,
};
use serde_json::{Value, json};

use super::*;
use crate::http::router;

const START: i64 = 1_795_000_000_000_000;

struct Fixture {
    _dir: tempfile::TempDir,
    ctx: SessionContext,
    store: Arc<Store>,
}

async fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(driftwatt_store::Config::new(dir.path())).await.unwrap();
    let ctx = session(&store, &Config::default()).await.unwrap();
    Fixture { _dir: dir, ctx, store }
}

fn series(metric: &str, kind: Kind, point: &[(&str, &str)]) -> Arc<Series> {
    let text = |(key, value): &(&str, &str)| ((*key).to_owned(), AttributeValue::String((*value).to_owned()));
    Series::new(SeriesDefinition {
        metric: metric.into(),
        unit: "1".into(),
        description: String::new(),
        kind,
        temporality: Temporality::Unspecified,
        monotonic: false,
        bounds: vec![],
        resource: vec![("service.name".into(), AttributeValue::String("chat".into()))],
        scope_name: String::new(),
        scope_version: String::new(),
        scope: vec![],
        point: point.iter().map(text).collect(),
    })
}

impl Fixture {
    async fn sample(&self, metric: &str, point: &[(&str, &str)], value: f64) {
        let mut batch = WriteBatch { series: vec![series(metric, Kind::Gauge, point)], ..WriteBatch::default() };
        batch.samples.push(0, 0, START, value.to_bits(), SampleColumns::DOUBLE);
        self.store.append(batch).await.unwrap();
    }

    async fn doubles(&self, sql: &str) -> Vec<Option<f64>> {
        let batches = self.ctx.sql(sql).await.unwrap().collect().await.unwrap();
        batches
            .iter()
            .flat_map(|batch| batch.column(0).as_primitive::<Float64Type>().iter().collect::<Vec<_>>())
            .collect()
    }

    async fn serve(&self, config: Config) -> (String, tokio::task::JoinSet<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api/v1/sql", listener.local_addr().unwrap());
        let app = router(self.ctx.clone(), config);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });
        (url, tasks)
    }
}

async fn post(url: &str, body: Value) -> (u16, Value) {
    let client = reqwest::Client::new();
    let response = client.post(url).body(body.to_string()).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn role_views_speak_canonical_units_before_and_after_a_flush() {
    let fixture = fixture().await;
    fixture.sample("DCGM_FI_DEV_GPU_UTIL", &[("UUID", "GPU-1")], 50.0).await;
    fixture.sample("DCGM_FI_DEV_GPU_UTIL", &[("UUID", "GPU-2")], 9_223_372_036_854_775_794.0).await;
    fixture.sample("hw.gpu.utilization", &[("hw.id", "GPU-3")], 0.25).await;
    fixture.sample("hw.temperature", &[("hw.id", "FAN-1"), ("hw.type", "fan")], 30.0).await;
    fixture.sample("system.memory.usage", &[("state", "used")], 7.0).await;
    fixture.sample("system.memory.usage", &[("state", "free")], 9.0).await;
    for _ in 0..2 {
        let gpu = fixture.doubles("SELECT value FROM gpu WHERE role = 'gpu.utilization' ORDER BY gpu_id").await;
        assert_eq!(gpu, [Some(0.5), None, Some(0.25)]);
        assert!(fixture.doubles("SELECT value FROM gpu WHERE role = 'gpu.temperature'").await.is_empty());
        assert_eq!(fixture.doubles("SELECT value FROM system WHERE role = 'memory.used'").await, [Some(7.0)]);
        let labelled = "SELECT value FROM metrics WHERE attributes['state'] = 'free' AND service_name = 'chat'";
        assert_eq!(fixture.doubles(labelled).await, [Some(9.0)]);
        fixture.store.flush().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_histogram_with_a_role_reads_as_its_mean_with_count_and_sum() {
    let fixture = fixture().await;
    let mut batch = WriteBatch {
        series: vec![series("http.server.request.duration", Kind::Histogram, &[])],
        ..WriteBatch::default()
    };
    for (n, count) in [(0, 4), (1, 0)] {
        let shape = HistogramShape::Explicit { counts: vec![count] };
        let (time, sum) = (START + n, Some(count as f64 * 0.5));
        batch.histograms.push(HistogramPoint {
            series: 0,
            start_time: 0,
            time,
            recorded: true,
            count,
            sum,
            min: None,
            max: None,
            shape,
        });
    }
    fixture.store.append(batch).await.unwrap();
    let means = fixture.doubles("SELECT value FROM latency WHERE role = 'latency.e2e' ORDER BY time").await;
    assert_eq!(means, [Some(0.5), None]);
    let totals = fixture.doubles("SELECT sum(sum) / sum(count) FROM latency").await;
    assert_eq!(totals, [Some(0.5)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_but_reading_is_denied() {
    let fixture = fixture().await;
    let (url, _server) = fixture.serve(Config::default()).await;
    for sql in [
        "CREATE TABLE t (a INT)",
        "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '/tmp/x'",
        "DROP VIEW metrics",
        "INSERT INTO raw.samples SELECT * FROM raw.samples",
        "COPY (SELECT 1) TO '/tmp/x.parquet'",
        "SET datafusion.execution.batch_size = 1",
    ] {
        let (status, body) = post(&url, json!({ "query": sql })).await;
        assert_eq!((status, &body["error"]["kind"]), (403, &json!("denied")), "{sql}: {body}");
    }
    let (status, body) = post(&url, json!({ "query": "SELECT * FROM '/etc/passwd'" })).await;
    assert_eq!((status, &body["error"]["kind"]), (400, &json!("invalid")), "{body}");
    let (status, body) = post(&url, json!({ "query": "SELECT 1; SELECT 2" })).await;
    assert_eq!(status, 400, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_carry_types_parameters_and_truncation() {
    let fixture = fixture().await;
    fixture.sample("m", &[("k", "v")], 1.5).await;
    let (url, _server) = fixture.serve(Config { rows_max: 3, ..Config::default() }).await;
    let sql = "SELECT time, value, attributes FROM metrics WHERE metric = $1 AND value > $2 AND time >= $3";
    let (status, body) = post(&url, json!({ "query": sql, "params": ["m", 1, "2026-11-01T00:00:00Z"] })).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["rows"], json!([["2026-11-18T11:06:40.000000Z", 1.5, { "k": "v" }]]));
    let types: Vec<_> = body["columns"].as_array().unwrap().iter().map(|column| column["type"].clone()).collect();
    assert_eq!(types, ["timestamp", "float64", "map"]);
    let (_, body) = post(&url, json!({ "query": "SELECT * FROM generate_series(1, 4)" })).await;
    assert_eq!((&body["row_count"], &body["truncated"]), (&json!(3), &json!(true)));
    let (status, body) = post(&url, json!({ "query": "SELECT 1 FRM x y" })).await;
    assert_eq!(status, 400);
    assert_eq!(body["error"]["position"], json!(14), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_holds_the_same_rows() {
    let fixture = fixture().await;
    let (url, _server) = fixture.serve(Config::default()).await;
    let get = async |format: &str| {
        let query = [("query", "SELECT * FROM (VALUES (1, 'a,b'), (2, NULL)) AS t(n, s)"), ("format", format)];
        reqwest::Client::new().get(&url).query(&query).send().await.unwrap().bytes().await.unwrap()
    };
    assert_eq!(get("csv").await, "n,s\r\n1,\"a,b\"\r\n2,\r\n");
    assert_eq!(get("ndjson").await, "{\"n\":1,\"s\":\"a,b\"}\n{\"n\":2,\"s\":null}\n");
    let arrow = get("arrow").await;
    let reader = arrow::ipc::reader::StreamReader::try_new(std::io::Cursor::new(arrow), None).unwrap();
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_never_ends_is_stopped() {
    let fixture = fixture().await;
    let (url, _server) = fixture.serve(Config::default()).await;
    let endless = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b, \
                   generate_series(1, 1000000) c WHERE a.value + b.value = c.value + 7";
    let (status, body) = post(&url, json!({ "query": endless, "timeout_ms": 200 })).await;
    assert_eq!((status, &body["error"]["kind"]), (504, &json!("timeout")), "{body}");
    let (status, _) = post(&url, json!({ "query": "SELECT 1" })).await;
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn result_tables_appear_when_they_are_written() {
    let fixture = fixture().await;
    assert!(fixture.ctx.sql("SELECT * FROM reports.scores").await.is_err());
    let rows = fixture.ctx.sql("SELECT arrow_cast(TIMESTAMP '2026-11-24T00:00:00Z', 'Timestamp(Microsecond, Some(\"UTC\"))') AS time, 2.5 AS score");
    let rows = rows.await.unwrap().collect().await.unwrap().remove(0);
    let nullable = rows.schema().fields()[0].is_nullable();
    fixture.store.write_result("scores", rows).await.unwrap();
    assert_eq!(fixture.doubles("SELECT score FROM reports.scores").await, [Some(2.5)], "nullable time: {nullable}");
    assert_eq!(
        fixture.doubles("SELECT CAST(rows AS DOUBLE) FROM system.tables WHERE name = 'scores'").await,
        [Some(1.0)]
    );
}
