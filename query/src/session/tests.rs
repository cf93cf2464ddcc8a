use std::time::Duration;

use arrow::{array::AsArray, datatypes::Float64Type};
use driftwatt_store::{
    AttributeValue, HistogramPoint, HistogramShape, Kind, SampleColumns, Series, SeriesDefinition, Temporality,
    WriteBatch,
};
use serde_json::{Value, json};

use super::*;
use crate::{http::router, questions::Questions};

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
        description: "".into(),
        kind,
        temporality: if kind == Kind::Histogram { Temporality::Delta } else { Temporality::Unspecified },
        monotonic: false,
        bounds: vec![],
        resource: vec![("service.name".into(), AttributeValue::String("chat".into()))].into(),
        scope_name: "".into(),
        scope_version: "".into(),
        scope: vec![].into(),
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
        let app = router(Questions::new(self.ctx.clone(), config));
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

impl Fixture {
    /// Each scan of the optimised plan, with the predicates that reached it.
    async fn scans(&self, sql: &str) -> Vec<String> {
        let plan = self.ctx.sql(sql).await.unwrap().into_optimized_plan().unwrap().display_indent().to_string();
        plan.lines().map(str::trim).filter(|line| line.starts_with("TableScan")).map(str::to_owned).collect()
    }

    async fn texts(&self, sql: &str) -> Vec<String> {
        let batches = self.ctx.sql(sql).await.unwrap().collect().await.unwrap();
        let rows = batches.iter().flat_map(|batch| batch.column(0).as_string::<i32>().iter().collect::<Vec<_>>());
        rows.map(|text| text.unwrap_or("NULL").to_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn predicates_on_time_and_metric_reach_both_scans_and_series_are_hashed() {
    let fixture = fixture().await;
    let asked = "time >= '2026-11-18T11:00:00Z' AND time < '2026-11-19T01:00:00Z'";
    let scans = fixture.scans(&format!("SELECT avg(value) FROM metrics WHERE metric = 'm' AND {asked}")).await;
    assert_eq!(scans.len(), 2, "{scans:?}");
    assert!(scans[0].starts_with("TableScan: raw.series") || scans[0].contains("raw.series"), "{scans:?}");
    for column in ["metric = Utf8(\"m\")", "date >= Date32(\"2026-11-18\")", "date <= Date32(\"2026-11-19\")"] {
        assert!(scans[0].contains(column), "{column} in {scans:?}");
    }
    assert!(scans[1].contains("raw.samples") && scans[1].contains("metric = Utf8(\"m\")"), "{scans:?}");
    assert!(scans[1].contains("time >= TimestampMicrosecond"), "{scans:?}");

    let role = format!("SELECT avg(value) FROM latency WHERE role = 'latency.ttft' AND {asked}");
    for scan in fixture.scans(&role).await {
        assert!(scan.contains("raw.series") == scan.contains("date >= Date32(\"2026-11-18\")"), "{scan}");
        assert!(scan.contains("metric"), "{scan}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn points_of_every_day_find_the_series_of_their_day() {
    let fixture = fixture().await;
    let day = 24 * 3600 * 1_000_000;
    let mut batch = WriteBatch { series: vec![series("m", Kind::Gauge, &[])], ..WriteBatch::default() };
    for n in 0..4 {
        batch.samples.push(0, 0, START + n * day, (n as f64).to_bits(), SampleColumns::DOUBLE);
    }
    fixture.store.append(batch).await.unwrap();
    for _ in 0..2 {
        // START is 2026-11-18T11:06:40Z.
        for (condition, expected) in [
            ("time > '2026-11-18T11:06:40Z'", vec![1.0, 2.0, 3.0]),
            ("'2026-11-20T11:06:40Z' >= time", vec![0.0, 1.0, 2.0]),
            ("time BETWEEN '2026-11-19' AND '2026-11-20'", vec![1.0]),
            ("time = '2026-11-21T11:06:40Z'", vec![3.0]),
            ("time < '2026-11-19' OR time > '2026-11-21'", vec![0.0, 3.0]),
            ("time > '2026-11-21' AND time < '2026-11-19'", vec![]),
        ] {
            let got = fixture.doubles(&format!("SELECT value FROM metrics WHERE {condition} ORDER BY time")).await;
            assert_eq!(got, expected.into_iter().map(Some).collect::<Vec<_>>(), "{condition}");
        }
        fixture.store.flush().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn special_rows_come_first_and_any_input_is_found_by_its_prefix() {
    let fixture = fixture().await;
    fixture.sample("driftwatt.input.brightness", &[], 0.5).await;
    fixture.sample("driftwatt.input.pixels", &[], 1024.0).await;
    fixture.sample("driftwatt.inputs", &[], 9.0).await;
    fixture.sample("hw.gpu.utilization", &[("hw.id", "G"), ("hw.gpu.task", "encoder")], 0.1).await;
    fixture.sample("hw.gpu.utilization", &[("hw.id", "G")], 0.2).await;
    let inputs = fixture.texts("SELECT concat(role, ' ', unit) FROM inputs ORDER BY role").await;
    assert_eq!(inputs, ["input.brightness 1", "input.pixels {pixel}"]);
    let gpu = fixture.texts("SELECT concat(role, ' ', value) FROM gpu ORDER BY role").await;
    assert_eq!(gpu, ["gpu.encoder.utilization 0.1", "gpu.utilization 0.2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_writes_is_named_and_denied_and_whatever_reads_is_answered() {
    let fixture = fixture().await;
    let (url, _server) = fixture.serve(Config::default()).await;
    for (sql, verb) in [
        ("EXPLAIN COPY (SELECT 1) TO '/tmp/x'", "COPY"),
        ("EXPLAIN ANALYZE INSERT INTO raw.samples SELECT * FROM raw.samples", "INSERT"),
        ("SELECT 1 AS a INTO t", "SELECT INTO"),
        ("RESET datafusion.execution.batch_size", "RESET"),
        ("CREATE FUNCTION f(INT) RETURNS INT RETURN $1", "CREATE"),
        ("PREPARE p AS SELECT 1", "PREPARE"),
        ("DELETE FROM raw.samples", "DELETE"),
        ("UPDATE raw.samples SET value = 0", "UPDATE"),
        ("TRUNCATE TABLE raw.samples", "TRUNCATE"),
        ("BEGIN", "BEGIN"),
    ] {
        let (status, body) = post(&url, json!({ "query": sql })).await;
        assert_eq!((status, &body["error"]["kind"]), (403, &json!("denied")), "{sql}: {body}");
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains(verb) && message.contains("only reads"), "{sql}: {message}");
    }
    for sql in [
        "SHOW TABLES",
        "SHOW COLUMNS FROM metrics",
        "DESCRIBE metrics",
        "EXPLAIN SELECT * FROM gpu",
        "SHOW TIME ZONE",
        "WITH a AS (SELECT 1 AS n) SELECT * FROM a UNION ALL SELECT 2",
        "SELECT * FROM system.rejections",
        "SELECT * FROM system.roles WHERE dimension = 'ai'",
        "SELECT value FROM system.settings WHERE name = 'query.timeout'",
    ] {
        let (status, body) = post(&url, json!({ "query": sql })).await;
        assert_eq!(status, 200, "{sql}: {body}");
    }
    let (status, body) = post(&url, json!({ "query": "SELECT $1 + $2", "params": [1] })).await;
    assert_eq!((status, &body["error"]["kind"]), (400, &json!("invalid")), "{body}");
    let (status, body) = post(&url, json!({ "qwery": "SELECT 1" })).await;
    assert_eq!((status, &body["error"]["kind"]), (400, &json!("invalid")), "{body}");
}

mod formats;
mod jobs;
mod questions;
mod roles;
mod summary;
mod unflushed;

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_needs_too_much_memory_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(driftwatt_store::Config::new(dir.path())).await.unwrap();
    let ctx = session(&store, &Config { memory_bytes: 1 << 20, ..Config::default() }).await.unwrap();
    let sql =
        "SELECT count(*) FROM generate_series(1, 3000000) a JOIN generate_series(1, 3000000) b ON a.value = b.value";
    let error = crate::answer(&ctx, &Config::default(), sql, "json").await.unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Limit, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_the_documentation_runs() {
    let fixture = fixture().await;
    let page = concat!(
        include_str!("../../../README.md"),
        include_str!("../../../docs/sql.md"),
        include_str!("../../../docs/roles.md")
    );
    // Whole examples, and those within a command; `delta_scan` is DuckDB's, and the analysis adds functions of its own.
    let of_others = ["delta_scan", "weekly_report(", "gpu_waterfall(", "diagnose("];
    let between = |begin: &'static str, end: &'static str| {
        page.split(begin).skip(1).filter_map(move |rest| rest.split(end).next()).map(|sql| sql.replace("'\\''", "'"))
    };
    let examples =
        between("```sql\n", "```").chain(between("\"query\": \"", "\"")).chain(between("driftwatt sql \"", "\""));
    let queries: Vec<_> = examples
        .map(|sql| if sql.starts_with("WHERE") { format!("SELECT * FROM metrics {sql}") } else { sql })
        .filter(|sql| !of_others.iter().any(|other| sql.contains(other)) && sql.contains("SELECT"))
        .collect();
    assert!(queries.len() >= 13, "{queries:?}");
    for sql in queries {
        let answer = crate::answer(&fixture.ctx, &Config::default(), &sql, "json").await;
        answer.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_and_column_says_what_it_is() {
    let fixture = fixture().await;
    let sql = "SELECT concat(schema_name, '.', table_name, '.', column_name) FROM system.columns \
               WHERE comment IS NULL OR table_comment IS NULL ORDER BY 1";
    let batches = fixture.ctx.sql(sql).await.unwrap().collect().await.unwrap();
    let missing: Vec<_> =
        batches.iter().flat_map(|batch| batch.column(0).as_string::<i32>().iter().flatten()).collect();
    assert!(missing.is_empty(), "without a comment: {missing:#?}");
    let counted = fixture.doubles("SELECT CAST(count(*) AS DOUBLE) FROM system.columns WHERE table_name = 'gpu'").await;
    assert!(counted[0].unwrap() > 20.0);
}
