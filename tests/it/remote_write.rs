//! Remote write over the wire: a test for each thing that the specification asks of a receiver.
//!
//! Source: <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/>, and the receiver tests of `prometheus/compliance`.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    server::{Server, start, start_with},
    write_request::{
        Exemplar, FirstTimeSeries, Histogram, Label, Metadata, MetricMetadata, Request, STALE, Span, TimeSeries, V1,
        V2, WriteRequest, compressed, now_ms, post, sample, write, write_first,
    },
};

const UP: &[(&str, &str)] = &[("__name__", "up"), ("instance", "h:9100"), ("job", "shop/node")];

fn up() -> Request {
    let mut request = Request::new();
    request.add_sample(UP, 1.0);
    request
}

async fn values(server: &Server, metric: &str) -> Vec<Vec<Value>> {
    server.rows(&format!("SELECT value FROM raw.samples WHERE metric = '{metric}' ORDER BY time")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_is_204_without_a_body_and_with_the_counts_written() {
    let (_dir, server) = start();
    let mut request = up();
    request.add_sample(&[("__name__", "resource cpu.usage"), ("a label", "line\nbreak")], 2.5);
    let answer = write(&server, &request).await;
    assert_eq!((answer.status, answer.written, answer.body.as_str()), (204, Some([2, 0, 0]), ""));
    let rows =
        server.rows("SELECT service_name, service_instance_id, value, kind FROM metrics WHERE metric = 'up'").await;
    assert_eq!(rows, [[json!("node"), json!("h:9100"), json!(1.0), json!("gauge")]]);
    let odd = "SELECT attributes['a label'] FROM metrics WHERE metric = 'resource cpu.usage'";
    assert_eq!(server.rows(odd).await, [[json!("line\nbreak")]]);
    let empty = write(&server, &Request::new()).await;
    assert_eq!((empty.status, empty.written), (204, Some([0, 0, 0])));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_kill() {
    let (dir, server) = start();
    assert_eq!(write(&server, &up()).await.status, 204);
    server.kill();
    let server = Server::start(&dir.path().join("data"));
    assert_eq!(values(&server, "up").await, [[json!(1.0)]]);
}

fn first_series(name: &str, value: f64) -> FirstTimeSeries {
    let label = |name: &str, value: &str| Label { name: name.into(), value: value.into() };
    let labels = vec![label("__name__", name), label("instance", "h:1"), label("job", "node")];
    FirstTimeSeries { labels, samples: vec![sample(value, now_ms())], ..FirstTimeSeries::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_version_one_is_stored_and_answered_without_counts() {
    let (_dir, server) = start();
    let metadata = MetricMetadata {
        metric_type: 1,
        metric_family_name: "energy".into(),
        help: "Energy used.".into(),
        unit: "joules".into(),
    };
    let request = WriteRequest { timeseries: vec![first_series("energy", 7.0)], metadata: vec![metadata] };
    let answer = write_first(&server, &request).await;
    assert_eq!((answer.status, answer.written, answer.body.as_str()), (204, None, ""));
    let series = "SELECT kind, unit, description, monotonic, temporality FROM raw.series WHERE metric = 'energy'";
    let expected = [json!("sum"), json!("J"), json!("Energy used."), json!(true), json!("cumulative")];
    assert_eq!(server.rows(series).await, [expected]);
    // The metadata stays for requests without it.
    let request = WriteRequest { timeseries: vec![first_series("energy", 8.0)], metadata: vec![] };
    assert_eq!(write_first(&server, &request).await.status, 204);
    assert_eq!(
        server.rows("SELECT count(DISTINCT series_id), count(*) FROM raw.samples").await,
        [[json!(1), json!(2)]]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_content_type_or_encoding_is_415() {
    let (_dir, server) = start();
    let v3 = "application/x-protobuf;proto=io.prometheus.write.v3.Request";
    for (content_type, encoding) in [
        ("application/json", "snappy"),
        ("image/png", "snappy"),
        (v3, "snappy"),
        (V2, "gzip"),
        (V2, "deflate"),
        ("application/x-protobuf", "zstd"),
    ] {
        let headers = [("content-type", content_type), ("content-encoding", encoding)];
        let answer = post(&server, compressed(&up()), &headers).await;
        assert_eq!((answer.status, answer.written), (415, None), "{content_type} {encoding}");
        assert!(answer.body.contains("is not supported; send"), "{}", answer.body);
    }
    assert_eq!(post(&server, compressed(&up()), &[]).await.status, 415);
    assert_eq!(values(&server, "up").await.len(), 0);
    // The message is what the content type says and nothing else: the fields of the versions do not overlap.
    let as_first = post(&server, compressed(&up()), &[("content-type", V1), ("content-encoding", "snappy")]).await;
    assert_eq!((as_first.status, as_first.written), (204, None));
    assert_eq!(values(&server, "up").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_body_is_400_and_one_that_is_too_large_413_and_nothing_is_written() {
    let (_dir, server) = start();
    let headers = [("content-type", V2), ("content-encoding", "snappy")];
    let mut no_snappy = compressed(&up());
    no_snappy[0] = b'0';
    let no_protobuf = snap::raw::Encoder::new().compress_vec(b"\x2a\xff\xff").unwrap();
    for (body, word) in [(no_snappy, "snappy"), (no_protobuf, "malformed protobuf"), (vec![], "snappy")] {
        let answer = post(&server, body, &headers).await;
        assert_eq!((answer.status, answer.written), (400, Some([0, 0, 0])), "{}", answer.body);
        assert!(answer.body.contains(word), "{}", answer.body);
    }
    let mut first = up();
    first.symbols[0] = "not empty".into();
    let answer = write(&server, &first).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("the first of symbols is not the empty text"), "{}", answer.body);
    // A block that says it holds four gigabytes is refused before they are asked of the system.
    let answer = post(&server, vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0], &headers).await;
    assert_eq!(answer.status, 413, "{}", answer.body);
    assert_eq!(server.rows("SELECT count(*) FROM raw.samples").await, [[json!(0)]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_write_is_400_says_why_and_how_much_and_keeps_the_rest() {
    let (_dir, server) = start();
    let mut request = up();
    request.add_sample(&[("job", "without a name")], 1.0);
    request.add_sample(&[("__name__", "twice"), ("a", "1"), ("a", "2")], 1.0);
    let future = sample(1.0, now_ms() + 86_400_000);
    request.add(&[("__name__", "future")], TimeSeries { samples: vec![future], ..TimeSeries::default() });
    request.add_sample(&[("__name__", "odd")], 1.0);
    request.timeseries.last_mut().unwrap().labels_refs.push(0);
    request.add_sample(&[("__name__", "beyond")], 1.0);
    request.timeseries.last_mut().unwrap().labels_refs[1] = 10_000;
    let miscounted = Histogram { count_int: 99, timestamp: now_ms(), ..Histogram::default() };
    request.add(&[("__name__", "bad")], TimeSeries { histograms: vec![miscounted], ..TimeSeries::default() });
    request.add_sample(&[("__name__", "last")], 3.0);
    let answer = write(&server, &request).await;
    assert_eq!((answer.status, answer.written), (400, Some([2, 0, 0])), "{}", answer.body);
    assert!(
        answer.body.starts_with("6 points were refused and must not be sent again, 2 were stored"),
        "{}",
        answer.body
    );
    assert_eq!(
        (values(&server, "up").await, values(&server, "last").await),
        (vec![vec![json!(1.0)]], vec![vec![json!(3.0)]])
    );
    let counted = server.rows("SELECT reason, sum(count) FROM rejections GROUP BY reason ORDER BY reason").await;
    let reasons = [
        "bucket_count_mismatch",
        "label_repeated",
        "labels_odd",
        "metric_name_empty",
        "symbol_out_of_range",
        "timestamp_too_new",
    ];
    assert_eq!(counted, reasons.map(|reason| vec![json!(reason), json!(1)]));
    assert!(reasons.iter().all(|reason| answer.body.contains(reason)), "{}", answer.body);
    let metrics = server.get("/metrics").await.1;
    for line in [
        "driftwatt_ingest_points_total{result=\"stored\",signal=\"metrics\"} 2",
        "driftwatt_ingest_points_total{result=\"rejected\",signal=\"metrics\"} 6",
        "driftwatt_ingest_requests_total{status=\"400\",transport=\"remote_write\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} not in\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_protobuf_fields_are_skipped() {
    let (_dir, server) = start();
    let mut request = up();
    request.of_a_later_version = "x".into();
    request.timeseries[0].of_a_later_version = 7;
    request.timeseries[0].samples[0].of_a_later_version = vec![1, 2, 3];
    let answer = write(&server, &request).await;
    assert_eq!((answer.status, answer.written), (204, Some([1, 0, 0])));
    assert_eq!(values(&server, "up").await, [[json!(1.0)]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn staleness_markers_and_special_values_are_written() {
    let (_dir, server) = start();
    let now = now_ms();
    let special = [1.0, f64::from_bits(STALE), f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    let samples = special.into_iter().zip(now..).map(|(value, timestamp)| sample(value, timestamp)).collect();
    let mut request = Request::new();
    request.add(UP, TimeSeries { samples, ..TimeSeries::default() });
    let stale = Histogram { sum: f64::from_bits(STALE), timestamp: now, ..Histogram::default() };
    request.add(&[("__name__", "h")], TimeSeries { histograms: vec![stale], ..TimeSeries::default() });
    let answer = write(&server, &request).await;
    assert_eq!((answer.status, answer.written), (204, Some([5, 1, 0])), "{}", answer.body);
    for _ in 0..2 {
        let shown = server.rows("SELECT value IS NULL, CAST(value AS VARCHAR) FROM raw.samples ORDER BY time").await;
        let row = |is_null, text: Value| vec![json!(is_null), text];
        let expected = [
            row(false, json!("1.0")),
            row(true, Value::Null),
            row(true, Value::Null),
            row(false, json!("inf")),
            row(false, json!("-inf")),
        ];
        assert_eq!(shown, expected);
        assert_eq!(server.rows("SELECT count, sum FROM raw.histograms").await, [[Value::Null, Value::Null]]);
        server.flush().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn older_samples_are_accepted_after_newer_ones() {
    let (_dir, server) = start();
    let now = now_ms();
    for (value, age_ms) in [(3.0, 0), (1.0, 7_200_000), (2.0, 3_600_000)] {
        let mut request = Request::new();
        let samples = vec![sample(value, now - age_ms)];
        request.add(UP, TimeSeries { samples, ..TimeSeries::default() });
        assert_eq!(write(&server, &request).await.status, 204);
    }
    assert_eq!(values(&server, "up").await, [[json!(1.0)], [json!(2.0)], [json!(3.0)]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_sent_again_stores_nothing_twice() {
    let (_dir, server) = start();
    let request = up();
    for _ in 0..2 {
        let answer = write(&server, &request).await;
        assert_eq!((answer.status, answer.written), (204, Some([1, 0, 0])));
    }
    server.flush().await;
    assert_eq!(write(&server, &request).await.status, 204);
    assert_eq!(values(&server, "up").await, [[json!(1.0)]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn native_histograms_metadata_and_start_times_are_kept() {
    let (_dir, server) = start();
    let now = now_ms();
    let span = |offset, length| Span { offset, length };
    let exponential = Histogram {
        count_int: 24,
        sum: 10.5,
        zero_count_int: 1,
        positive_spans: vec![span(0, 3), span(2, 2)],
        positive_deltas: vec![1, 2, 1, 3, 1],
        timestamp: now,
        ..Histogram::default()
    };
    let custom = Histogram {
        count_int: 30,
        sum: 60.0,
        schema: -53,
        positive_spans: vec![span(0, 6)],
        positive_deltas: vec![2, 1, 2, 3, -1, -2],
        custom_values: vec![0.1, 0.5, 1.0, 2.5, 5.0, 10.0],
        timestamp: now,
        ..Histogram::default()
    };
    let mut request = Request::new();
    let metadata =
        Metadata { metric_type: 3, help_ref: request.symbol("Latency."), unit_ref: request.symbol("seconds") };
    let series = |histogram| TimeSeries {
        histograms: vec![histogram],
        metadata: Some(metadata.clone()),
        ..TimeSeries::default()
    };
    request.add(&[("__name__", "exponential")], series(exponential)).add(&[("__name__", "custom")], series(custom));
    let mut counted = sample(5.0, now);
    counted.start_timestamp = now - 60_000;
    request.add(&[("__name__", "requests_total")], TimeSeries { samples: vec![counted], ..TimeSeries::default() });
    let answer = write(&server, &request).await;
    assert_eq!((answer.status, answer.written), (204, Some([1, 2, 0])), "{}", answer.body);
    server.flush().await;
    let rows = server
        .rows(
            "SELECT count, scale, positive_offset, positive_counts, unit FROM histograms WHERE metric = 'exponential'",
        )
        .await;
    assert_eq!(rows, [[json!(24), json!(0), json!(-1), json!([1, 3, 4, 0, 0, 7, 8]), json!("s")]]);
    let rows = server.rows("SELECT sum, bounds, bucket_counts FROM histograms WHERE metric = 'custom'").await;
    assert_eq!(rows, [[json!(60.0), json!([0.1, 0.5, 1.0, 2.5, 5.0, 10.0]), json!([2, 3, 5, 8, 7, 5, 0])]]);
    let age = "SELECT CAST(date_part('epoch', time - start_time) AS BIGINT) FROM raw.samples";
    assert_eq!(server.rows(age).await, [[json!(60)]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn exemplars_are_not_stored_and_the_answer_does_not_pretend() {
    let (_dir, server) = start();
    let mut request = up();
    let labels_refs = vec![request.symbol("trace_id"), request.symbol("abc")];
    request.timeseries[0].exemplars = vec![Exemplar { labels_refs, value: 1.0, timestamp: now_ms() }];
    let answer = write(&server, &request).await;
    assert_eq!((answer.status, answer.written), (204, Some([1, 0, 0])));
    assert!(server.get("/metrics").await.1.contains("driftwatt_ingest_exemplars_skipped_total 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn overload_is_503_with_a_time_to_come_again() {
    let (_dir, server) = start_with(&[("DRIFTWATT_INGEST__REQUESTS_IN_FLIGHT_MAX", "1")]);
    // A request whose body does not come holds the only place.
    let mut held = tokio::net::TcpStream::connect(&server.http).await.unwrap();
    let head = format!("POST /api/v1/write HTTP/1.1\r\nhost: x\r\ncontent-type: {V2}\r\ncontent-length: 10\r\n\r\n");
    held.write_all(head.as_bytes()).await.unwrap();
    let overloaded = async {
        loop {
            let answer = write(&server, &up()).await;
            if answer.status != 204 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(20), overloaded).await.unwrap();
    assert_eq!((answer.status, answer.written), (503, Some([0, 0, 0])), "{}", answer.body);
    assert_eq!(answer.retry_after.as_deref(), Some("1"));
    held.write_all(&[0; 10]).await.unwrap();
    let mut end = [0; 12];
    held.read_exact(&mut end).await.unwrap();
    assert_eq!(&end, b"HTTP/1.1 400");
    assert_eq!(write(&server, &up()).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_503_with_a_time_to_come_again() {
    // No disk has as much free.
    let (_dir, server) = start_with(&[("DRIFTWATT_STORE__DISK_FREE_MIN", "10000000GiB")]);
    let answer = write(&server, &up()).await;
    assert_eq!((answer.status, answer.written, answer.retry_after.as_deref()), (503, Some([0, 0, 0]), Some("5")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_where_the_settings_name_one() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.toml");
    std::fs::write(&config, "[ingest]\ntokens = [\"secret\"]\n").unwrap();
    let mut command = std::process::Command::new("sh");
    let script = format!("exec {} \"$@\" --config {}", env!("CARGO_BIN_EXE_driftwatt"), config.display());
    command.args(["-c", &script, "sh"]);
    let server = Server::start_command(command, &dir.path().join("data"), &[]);
    assert_eq!(write(&server, &up()).await.status, 401);
    let headers = [("content-type", V2), ("content-encoding", "snappy"), ("authorization", "Bearer secret")];
    assert_eq!(post(&server, compressed(&up()), &headers).await.status, 204);
    let response = reqwest::get(format!("http://{}/api/v1/write", server.http)).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["allow"].to_str().unwrap()), (405, "POST"));
}
