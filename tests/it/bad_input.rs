//! Bad input over the wire: each gets its documented answer, the good part is kept, the process stays up.

use std::io::Write as _;

use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    metrics::v1::{Histogram, HistogramDataPoint, Metric, NumberDataPoint, metric},
};
use prost::Message as _;
use serde_json::json;

use crate::{
    otlp::{export, gauge, label, now_nanos, point, post, request},
    server::Server,
};

fn histogram(name: &str, count: u64, bucket_counts: Vec<u64>, explicit_bounds: Vec<f64>) -> Metric {
    let point =
        HistogramDataPoint { time_unix_nano: now_nanos(), count, bucket_counts, explicit_bounds, ..Default::default() };
    let data = Histogram { data_points: vec![point], aggregation_temporality: 1 };
    Metric { name: name.to_owned(), data: Some(metric::Data::Histogram(data)), ..Metric::default() }
}

/// Metrics with one bad point each, by the reason they must be refused for.
fn refused() -> Vec<(&'static str, Metric)> {
    let now = now_nanos();
    let year = 365 * 86_400 * 1_000_000_000;
    let one = |name: &str, point: NumberDataPoint| gauge(name, vec![point]);
    let many: Vec<KeyValue> = (0..100_000).map(|n| label(&format!("key-{n}"), "v")).collect();
    vec![
        ("value_not_finite", one("nan", point(now, f64::NAN, vec![]))),
        ("value_not_finite", one("inf", point(now, f64::INFINITY, vec![]))),
        ("value_missing", one("none", NumberDataPoint { time_unix_nano: now, ..Default::default() })),
        ("timestamp_missing", one("zero", point(0, 1.0, vec![]))),
        ("timestamp_too_new", one("future", point(now + year, 1.0, vec![]))),
        ("timestamp_too_old", one("past", point(now - 3 * year, 1.0, vec![]))),
        ("metric_name_empty", one("", point(now, 1.0, vec![]))),
        ("attribute_value_too_long", one("long", point(now, 1.0, vec![label("k", &"x".repeat(10 << 20))]))),
        ("attributes_too_many", one("many", point(now, 1.0, many))),
        ("bucket_bounds_mismatch", histogram("buckets", 3, vec![1, 2], vec![1.0, 2.0])),
        ("bucket_count_mismatch", histogram("count", 9, vec![1, 2], vec![1.0])),
        ("bounds_not_increasing", histogram("bounds", 3, vec![1, 1, 1], vec![2.0, 1.0])),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_point_is_refused_alone_and_counted_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let mut expected = std::collections::BTreeMap::new();
    for (number, (reason, metric)) in refused().into_iter().enumerate() {
        *expected.entry(reason).or_insert(0) += 1;
        let good = gauge("good", vec![point(now_nanos(), number as f64, vec![label("n", &number.to_string())])]);
        let (rejected, message) = export(&server, vec![metric, good]).await;
        assert_eq!(rejected, 1, "{reason}: {message}");
    }
    let repeated = vec![label("k", "old"), label("k", "new")];
    assert_eq!(export(&server, vec![gauge("repeated", vec![point(now_nanos(), 1.0, repeated)])]).await.0, 0);
    let invalid_utf8 = {
        let mut body = request(vec![gauge("name_to_break", vec![point(now_nanos(), 1.0, vec![])])]).encode_to_vec();
        let at = body.windows(5).position(|window| window == b"break").unwrap();
        body[at] = 0xff;
        body
    };
    let (status, _) = post(&reqwest::Client::new(), &server.otlp_http, invalid_utf8, &[]).await.unwrap();
    assert_eq!(status, 200);
    expected.insert("invalid_utf8", 1);
    for _ in 0..2 {
        let good = server.rows("SELECT count(*) FROM metrics WHERE metric = 'good'").await;
        assert_eq!(good, [[json!(refused().len())]]);
        let kept = server.rows("SELECT attributes['k'] FROM metrics WHERE metric = 'repeated'").await;
        assert_eq!(kept, [[json!("new")]]);
        let counted = server.rows("SELECT reason, sum(count) FROM rejections GROUP BY reason ORDER BY reason").await;
        let wanted: Vec<_> = expected.iter().map(|(reason, count)| vec![json!(reason), json!(count)]).collect();
        assert_eq!(counted, wanted);
        server.flush().await;
    }
    let (status, metrics) = server.get("/metrics").await;
    assert_eq!(status, 200);
    for (reason, count) in &expected {
        let line = format!("driftwatt_ingest_rejected_points_total{{reason=\"{reason}\"}} {count}");
        assert!(metrics.contains(&line), "{line} not in\n{metrics}");
    }
    assert_eq!(server.get("/healthz").await.0, 200);
    assert_eq!(server.get("/readyz").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_request_is_refused_whole_with_its_own_status() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let client = reqwest::Client::new();
    let whole = request(vec![gauge("m", vec![point(now_nanos(), 1.0, vec![])])]).encode_to_vec();
    let bomb = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let zeros = vec![0u8; 1 << 20];
        (0..100).for_each(|_| encoder.write_all(&zeros).unwrap());
        encoder.finish().unwrap()
    };
    assert!(bomb.len() < 1 << 20);
    let cases = [
        ("truncated", whole[..whole.len() - 3].to_vec(), vec![], 400),
        ("content type", whole.clone(), vec![("content-type", "text/plain")], 415),
        ("encoding", whole.clone(), vec![("content-encoding", "br")], 415),
        ("not gzip", whole.clone(), vec![("content-encoding", "gzip")], 400),
        ("gzip bomb", bomb, vec![("content-encoding", "gzip")], 413),
        ("not json", b"{\"resourceMetrics\": [".to_vec(), vec![("content-type", "application/json")], 400),
    ];
    for (name, body, headers, expected) in cases {
        let answer = post(&client, &server.otlp_http, body, &headers).await;
        let (status, answer) = answer.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(status, expected, "{name}: {}", String::from_utf8_lossy(&answer));
    }
    // The server answers before it has read such a body, so a client that is still sending may see a closed connection.
    if let Ok((status, _)) = post(&client, &server.otlp_http, vec![0; 17 << 20], &[]).await {
        assert_eq!(status, 413);
    }
    for signal in ["logs", "traces"] {
        let url = format!("http://{}/v1/{signal}", server.otlp_http);
        let answer = client.post(url).header("content-type", "application/json").body("{}").send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 404, "{signal}");
        let text = answer.text().await.unwrap();
        assert!(text.contains("metrics"), "{signal}: {text}");
    }
    assert_eq!(server.rows("SELECT count(*) FROM raw.samples").await, [[json!(0)]]);
    assert_eq!(post(&client, &server.otlp_http, whole, &[]).await.unwrap().0, 200);
    assert_eq!(server.rows("SELECT count(*) FROM raw.samples").await, [[json!(1)]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_that_never_ends_or_asks_for_everything_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(&dir.path().join("data"), &[("DRIFTWATT_QUERY__TIMEOUT", "2s")]);
    let endless = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b, \
                   generate_series(1, 1000000) c WHERE a.value + b.value = c.value + 7";
    let (status, body) = server.ask(json!({ "query": endless })).await;
    assert_eq!((status, &body["error"]["kind"]), (504, &json!("timeout")), "{body}");
    let (status, body) = server.ask(json!({ "query": "SELECT * FROM generate_series(1, 100000000)" })).await;
    assert_eq!((status, &body["truncated"], &body["row_count"]), (200, &json!(true), &json!(10_000)));
    let (status, body) = server.ask(json!({ "query": "DROP TABLE raw.samples" })).await;
    assert_eq!((status, &body["error"]["kind"]), (403, &json!("denied")), "{body}");
    assert_eq!(server.get("/readyz").await.0, 200);
    let (_, metrics) = server.get("/metrics").await;
    for outcome in ["timeout", "answered", "denied"] {
        let line = format!("driftwatt_query_duration_seconds_count{{outcome=\"{outcome}\",surface=\"http\"}} 1");
        assert!(metrics.contains(&line), "{line} not in\n{metrics}");
    }
    assert!(metrics.contains("driftwatt_query_running{surface=\"http\"} 0"), "{metrics}");
}
