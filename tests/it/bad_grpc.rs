//! Bad input over gRPC, and the faults that `bad_input` does not send over HTTP.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceResponse,
    metrics::v1::{Metric, NumberDataPoint},
};
use prost::Message as _;
use serde_json::json;
use tonic::Code;

use crate::{
    grpc::{EXPORT_METRICS, call},
    otlp::{export, gauge, label, now_nanos, point, request},
    points::{distribution, histogram},
    server::Server,
};

/// Refused points and why, over gRPC.
async fn export_grpc(server: &Server, body: Vec<u8>) -> (i64, String) {
    let answer = call(&server.otlp_grpc, EXPORT_METRICS, body, false).await.unwrap();
    let partial = ExportMetricsServiceResponse::decode(answer).unwrap().partial_success.unwrap_or_default();
    (partial.rejected_data_points, partial.error_message)
}

/// Metrics with bad points only: the reason they are refused for, and how many there are.
fn refused() -> Vec<(&'static str, i64, Metric)> {
    let now = now_nanos();
    let year = 365 * 86_400 * 1_000_000_000;
    let bounds = [1.0, 2.0];
    let spread = |counts: &[u64]| distribution(now, 1.0, &bounds, counts);
    let mut not_finite = spread(&[1, 2, 3]);
    not_finite.sum = Some(f64::NAN);
    let mut negative = spread(&[0, 0, 0]);
    // What a sender makes of -1.
    negative.count = u64::MAX;
    let mut mismatch = spread(&[1, 2, 3]);
    mismatch.count = 7;
    let mut unsorted = spread(&[1, 2, 3]);
    unsorted.explicit_bounds.reverse();
    let mut infinite = spread(&[1, 2, 3]);
    infinite.explicit_bounds[1] = f64::INFINITY;
    let backwards = NumberDataPoint { start_time_unix_nano: now + 1, ..point(now, 1.0, vec![]) };
    let many = (0..100_000).map(|n| label(&format!("key-{n}"), "v")).collect();
    let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    vec![
        ("value_not_finite", 3, gauge("bad", values.into_iter().map(|value| point(now, value, vec![])).collect())),
        ("value_not_finite", 1, histogram("bad", vec![not_finite])),
        ("count_too_large", 1, histogram("bad", vec![negative])),
        ("bucket_count_mismatch", 1, histogram("bad", vec![mismatch])),
        ("bucket_bounds_mismatch", 2, histogram("bad", vec![spread(&[1, 2]), spread(&[1, 2, 3, 4])])),
        ("bounds_not_increasing", 1, histogram("bad", vec![unsorted])),
        ("bounds_not_finite", 1, histogram("bad", vec![infinite])),
        ("timestamp_missing", 1, gauge("bad", vec![point(0, 1.0, vec![])])),
        ("timestamp_too_new", 2, gauge("bad", vec![point(now + year, 1.0, vec![]), point(u64::MAX, 1.0, vec![])])),
        ("timestamp_too_old", 2, gauge("bad", vec![point(now - 3 * year, 1.0, vec![]), point(1, 1.0, vec![])])),
        ("start_after_time", 1, gauge("bad", vec![backwards])),
        ("metric_name_empty", 2, gauge("", vec![point(now, 1.0, vec![]), point(now + 1000, 1.0, vec![])])),
        ("metric_name_too_long", 1, gauge(&"n".repeat(1025), vec![point(now, 1.0, vec![])])),
        ("attribute_key_empty", 1, gauge("bad", vec![point(now, 1.0, vec![label("", "v")])])),
        ("attribute_key_too_long", 1, gauge("bad", vec![point(now, 1.0, vec![label(&"k".repeat(1025), "v")])])),
        ("attribute_value_too_long", 1, gauge("bad", vec![point(now, 1.0, vec![label("k", &"x".repeat(10 << 20))])])),
        ("attributes_too_many", 1, gauge("bad", vec![point(now, 1.0, many)])),
    ]
}

/// A request with one valid gauge and one whose name is not text.
fn invalid_utf8(good: Metric) -> Vec<u8> {
    let broken = gauge("name_to_break", vec![point(now_nanos(), 1.0, vec![])]);
    let mut body = request(vec![broken, good]).encode_to_vec();
    let at = body.windows(5).position(|window| window == b"break").unwrap();
    body[at] = 0xff;
    body
}

fn good(number: usize) -> Metric {
    gauge("good", vec![point(now_nanos(), number as f64, vec![label("number", &number.to_string())])])
}

#[tokio::test(flavor = "multi_thread")]
async fn points_refused_over_grpc_are_counted_exactly_and_their_neighbours_kept() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let mut expected = BTreeMap::new();
    let cases = refused();
    for (number, (reason, count, metric)) in cases.iter().enumerate() {
        *expected.entry(*reason).or_insert(0) += count;
        let (rejected, message) =
            export_grpc(&server, request(vec![metric.clone(), good(number)]).encode_to_vec()).await;
        assert_eq!(rejected, *count, "{reason}: {message}");
        assert!(message.contains(reason), "{reason}: {message}");
    }
    assert_eq!(export_grpc(&server, invalid_utf8(good(cases.len()))).await.0, 1);
    expected.insert("invalid_utf8", 1);
    let kept = server.rows("SELECT count(*), count(DISTINCT value) FROM metrics WHERE metric = 'good'").await;
    assert_eq!(kept, [[json!(cases.len() + 1), json!(cases.len() + 1)]]);
    assert_eq!(server.rows("SELECT count(*) FROM raw.samples WHERE metric <> 'good'").await, [[json!(0)]]);
    assert_eq!(server.rows("SELECT count(*) FROM raw.histograms").await, [[json!(0)]]);
    let counted = server.rows("SELECT reason, sum(count) FROM rejections GROUP BY reason ORDER BY reason").await;
    let wanted: Vec<_> = expected.iter().map(|(reason, count)| vec![json!(reason), json!(count)]).collect();
    assert_eq!(counted, wanted);
    let (status, metrics) = server.get("/metrics").await;
    assert_eq!(status, 200);
    for (reason, count) in &expected {
        let line = format!("driftwatt_ingest_rejected_points_total{{reason=\"{reason}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line} not in\n{metrics}");
    }
    assert_eq!(server.get("/healthz").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_refused_whole_over_grpc_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let whole = request(vec![good(0)]).encode_to_vec();
    let truncated = whole[..whole.len() - 3].to_vec();
    let error = call(&server.otlp_grpc, EXPORT_METRICS, truncated, false).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    assert!(error.message().contains("malformed protobuf"), "{error}");
    // 65 MiB that travel as a few kilobytes.
    let error = call(&server.otlp_grpc, EXPORT_METRICS, vec![0; 65 << 20], true).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    for path in [
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    ] {
        let error = call(&server.otlp_grpc, path, vec![], false).await.unwrap_err();
        assert_eq!(error.code(), Code::Unimplemented, "{path}: {error}");
        assert!(error.message().contains("stores metrics only"), "{path}: {error}");
    }
    assert_eq!(server.rows("SELECT count(*) FROM raw.samples").await, [[json!(0)]]);
    call(&server.otlp_grpc, EXPORT_METRICS, whole, true).await.unwrap();
    assert_eq!(server.rows("SELECT count(*) FROM raw.samples").await, [[json!(1)]]);
    assert_eq!(server.get("/healthz").await.0, 200);
}

/// Keys are rows of a map, never columns: whatever users send, the schema stays as it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_distinct_attribute_keys_change_no_schema() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let columns = "SELECT count(*) FROM information_schema.columns";
    let before = server.rows(columns).await;
    let now = now_nanos();
    for thousand in 0..100 {
        let numbers = thousand * 1000..(thousand + 1) * 1000;
        let points = numbers.map(|n| point(now, f64::from(n), vec![label(&format!("key-{n}"), "v")])).collect();
        assert_eq!(export(&server, vec![gauge("wide", points)]).await.0, 0);
    }
    for _ in 0..2 {
        assert_eq!(server.rows(columns).await, before);
        let stored = server.rows("SELECT count(*), count(DISTINCT series_id) FROM raw.samples").await;
        assert_eq!(stored, [[json!(100_000), json!(100_000)]]);
        let one = server.rows("SELECT value FROM metrics WHERE attributes['key-31415'] = 'v'").await;
        assert_eq!(one, [[json!(31415.0)]]);
        server.flush().await;
    }
}
