//! Remote write over the wire: rules for what one request may hold, and when a sender comes again.
//!
//! Which rule of the specification each test is about: the table in `docs/remote-write.md`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    server::{Server, start, start_with},
    write_request::{
        Exemplar, FirstExemplar, FirstTimeSeries, Histogram, Label, Metadata, Request, Span, TimeSeries, V1, V2,
        WriteRequest, compressed, now_ms, post, sample, write, write_first,
    },
};

fn up() -> Request {
    let mut request = Request::new();
    request.add_sample(&[("__name__", "up")], 1.0);
    request
}

async fn values(server: &Server) -> Vec<Vec<Value>> {
    server.rows("SELECT metric, value FROM raw.samples ORDER BY metric, time").await
}

/// The frames of snappy's other format, which the specification forbids.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut framed = b"\xff\x06\x00\x00sNaPpY\x01".to_vec();
    framed.extend_from_slice(&(bytes.len() as u32 + 4).to_le_bytes()[..3]);
    framed.extend_from_slice(&[0; 4]);
    framed.extend_from_slice(bytes);
    framed
}

#[tokio::test(flavor = "multi_thread")]
async fn only_snappy_blocks_are_read_whatever_the_message() {
    let (_dir, server) = start();
    let plain = snap::raw::Decoder::new().decompress_vec(&compressed(&up())).unwrap();
    for content_type in [V1, V2] {
        let headers = [("content-type", content_type), ("content-encoding", "snappy")];
        for body in [framed(&plain), plain.clone()] {
            let answer = post(&server, body, &headers).await;
            assert_eq!(answer.status, 400, "{content_type}: {}", answer.body);
            assert!(answer.body.contains("snappy"), "{}", answer.body);
        }
    }
    assert!(values(&server).await.is_empty());
    // Senders from before the specification did not name the encoding.
    assert_eq!(post(&server, compressed(&up()), &[("content-type", V2)]).await.status, 204);
    assert_eq!(values(&server).await, [[json!("up"), json!(1.0)]]);
}

fn first(labels: &[(&str, &str)]) -> FirstTimeSeries {
    let label = |(name, value): &(&str, &str)| Label { name: (*name).into(), value: (*value).into() };
    FirstTimeSeries { labels: labels.iter().map(label).collect(), ..FirstTimeSeries::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_write_of_version_one_is_400_and_keeps_the_rest() {
    let (_dir, server) = start();
    let now = now_ms();
    let with_sample =
        |labels: &[(&str, &str)], time| FirstTimeSeries { samples: vec![sample(1.0, time)], ..first(labels) };
    let timeseries = vec![
        with_sample(&[("__name__", "kept"), ("empty", "")], now),
        with_sample(&[("__name__", "future")], now + 86_400_000),
        with_sample(&[("__name__", "")], now),
        with_sample(&[("", "x"), ("__name__", "no_label_name")], now),
        with_sample(&[("__name__", "kept"), ("b", "1"), ("a", "1")], now),
    ];
    let answer = write_first(&server, &WriteRequest { timeseries, metadata: vec![] }).await;
    assert_eq!((answer.status, answer.written), (400, None));
    assert!(
        answer.body.starts_with("3 points were refused and must not be sent again, 2 were stored"),
        "{}",
        answer.body
    );
    for reason in ["timestamp_too_new", "metric_name_empty", "attribute_key_empty"] {
        assert!(answer.body.contains(reason), "{reason} not in {}", answer.body);
    }
    assert_eq!(values(&server).await, [[json!("kept"), json!(1.0)], [json!("kept"), json!(1.0)]]);
    // A label without a value is one that is not there; the order of labels does not matter.
    let attributes = "SELECT attributes['empty'], attributes['a'], attributes['b'] FROM raw.series ORDER BY 2";
    let expected = [[Value::Null, json!("1"), json!("1")], [Value::Null, Value::Null, Value::Null]];
    assert_eq!(server.rows(attributes).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_may_come_in_parts_mix_kinds_or_have_no_points() {
    let (_dir, server) = start();
    let (now, labels) = (now_ms(), [("__name__", "m"), ("job", "j")]);
    let native = Histogram { count_int: 1, sum: 1.0, zero_count_int: 1, timestamp: now, ..Histogram::default() };
    let one = |value, time| TimeSeries { samples: vec![sample(value, time)], ..TimeSeries::default() };
    let mut request = Request::new();
    request.add(&labels, one(1.0, now - 2000));
    request.add(&labels, one(2.0, now - 1000));
    request.add(&labels, TimeSeries { histograms: vec![native], ..one(3.0, now) });
    request.add(&labels, TimeSeries::default());
    let answer = write(&server, &request).await;
    assert_eq!((answer.status, answer.written), (204, Some([3, 1, 0])), "{}", answer.body);
    assert_eq!(values(&server).await, [1.0, 2.0, 3.0].map(|value| [json!("m"), json!(value)]));
    assert_eq!(server.rows("SELECT count(*) FROM raw.histograms").await, [[json!(1)]]);
    assert_eq!(server.rows("SELECT count(DISTINCT series_id) FROM raw.samples").await, [[json!(1)]]);
    // Labels that were left out are none.
    let mut nameless = Request::new();
    nameless.add(&[], one(1.0, now));
    let answer = write(&server, &nameless).await;
    assert_eq!((answer.status, answer.written), (400, Some([0, 0, 0])));
    assert!(answer.body.contains("metric_name_empty: 1 points"), "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_values_at_one_time_the_last_stands() {
    let (_dir, server) = start();
    let now = now_ms();
    let mut request = Request::new();
    let samples = vec![sample(1.0, now), sample(2.0, now)];
    request.add(&[("__name__", "m")], TimeSeries { samples, ..TimeSeries::default() });
    assert_eq!(write(&server, &request).await.status, 204);
    assert_eq!(values(&server).await, [[json!("m"), json!(2.0)]]);
    server.flush().await;
    let mut request = Request::new();
    request.add(&[("__name__", "m")], TimeSeries { samples: vec![sample(3.0, now)], ..TimeSeries::default() });
    assert_eq!(write(&server, &request).await.status, 204);
    assert_eq!(values(&server).await, [[json!("m"), json!(3.0)]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_of_zero_is_none_and_one_after_the_sample_is_not_used() {
    let (_dir, server) = start();
    let now = now_ms();
    let mut request = Request::new();
    for (name, start) in [("a_total", 0), ("b_total", now - 5000), ("c_total", now + 5000)] {
        let counted = crate::write_request::Sample { start_timestamp: start, ..sample(1.0, now) };
        request.add(&[("__name__", name)], TimeSeries { samples: vec![counted], ..TimeSeries::default() });
    }
    let timed = Histogram { start_timestamp: now - 7000, timestamp: now, ..Histogram::default() };
    request.add(&[("__name__", "h")], TimeSeries { histograms: vec![timed], ..TimeSeries::default() });
    assert_eq!(write(&server, &request).await.status, 204);
    let age = "SELECT CAST(date_part('epoch', time - start_time) AS BIGINT) FROM raw.";
    let ages = server.rows(&format!("{age}samples ORDER BY metric")).await;
    assert_eq!(ages, [[Value::Null], [json!(5)], [Value::Null]]);
    assert_eq!(server.rows(&format!("{age}histograms")).await, [[json!(7)]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_of_a_later_version_is_as_good_as_none() {
    let (_dir, server) = start();
    let mut request = Request::new();
    for name in ["level", "requests_total"] {
        let metadata = Metadata { metric_type: 99, ..Metadata::default() };
        let samples = vec![sample(1.0, now_ms())];
        request.add(&[("__name__", name)], TimeSeries { samples, metadata: Some(metadata), ..TimeSeries::default() });
    }
    assert_eq!(write(&server, &request).await.status, 204);
    let kinds = server.rows("SELECT metric, kind FROM raw.series ORDER BY metric").await;
    assert_eq!(kinds, [[json!("level"), json!("gauge")], [json!("requests_total"), json!("sum")]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_no_utf8_is_refused_alone() {
    let (_dir, server) = start();
    let mut request = up();
    request.add_sample(&[("__name__", "m"), ("a", "break")], 1.0);
    let mut plain = snap::raw::Decoder::new().decompress_vec(&compressed(&request)).unwrap();
    let at = plain.windows(5).position(|window| window == b"break").unwrap();
    plain[at] = 0xff;
    let body = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
    let answer = post(&server, body, &[("content-type", V2), ("content-encoding", "snappy")]).await;
    assert_eq!((answer.status, answer.written), (400, Some([1, 0, 0])));
    assert!(answer.body.contains("invalid_utf8"), "{}", answer.body);
    assert_eq!(values(&server).await, [[json!("up"), json!(1.0)]]);
}

/// Exponential buckets 1, 3, 4 with one observation in the zero bucket, as a sender counts in `f64`.
fn float_histogram(counts: [f64; 3], timestamp: i64) -> Histogram {
    Histogram {
        count_float: 1.0 + counts.iter().sum::<f64>(),
        zero_count_float: 1.0,
        sum: 10.5,
        positive_spans: vec![Span { offset: 0, length: 3 }],
        positive_counts: counts.to_vec(),
        timestamp,
        ..Histogram::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn float_and_gauge_histograms_are_stored_where_their_counts_are_whole() {
    let (_dir, server) = start();
    let now = now_ms();
    let one = |histogram| TimeSeries { histograms: vec![histogram], ..TimeSeries::default() };
    let mut request = Request::new();
    request.add(&[("__name__", "float")], one(float_histogram([1.0, 3.0, 4.0], now)));
    let gauge = Histogram { reset_hint: 3, ..float_histogram([1.0, 3.0, 4.0], now) };
    request.add(&[("__name__", "gauge")], one(gauge));
    let negative = Histogram {
        count_int: 5,
        negative_spans: vec![Span { offset: 1, length: 2 }],
        negative_deltas: vec![2, 1],
        timestamp: now,
        ..Histogram::default()
    };
    request.add(&[("__name__", "negative")], one(negative));
    // As a recording rule over rate() gives them, and of a schema that is not defined.
    request.add(&[("__name__", "halves")], one(float_histogram([0.5, 1.5, 2.0], now)));
    request.add(&[("__name__", "schema")], one(Histogram { schema: 9, timestamp: now, ..Histogram::default() }));
    let answer = write(&server, &request).await;
    assert_eq!((answer.status, answer.written), (400, Some([0, 3, 0])), "{}", answer.body);
    assert!(answer.body.contains("native_count_invalid: 1 points (such as metric \"halves\")"), "{}", answer.body);
    assert!(answer.body.contains("native_schema_unknown: 1 points (such as metric \"schema\")"), "{}", answer.body);
    let columns =
        "metric, temporality, count, zero_count, positive_offset, positive_counts, negative_offset, negative_counts";
    let stored = server.rows(&format!("SELECT {columns} FROM histograms ORDER BY metric")).await;
    let positive = |metric: &str, temporality: &str| json!([metric, temporality, 9, 1, -1, [1, 3, 4], 0, []]);
    let negative = json!(["negative", "cumulative", 5, 0, 0, [], 0, [2, 3]]);
    assert_eq!(json!(stored), json!([positive("float", "cumulative"), positive("gauge", ""), negative]));
}

#[tokio::test(flavor = "multi_thread")]
async fn version_one_may_hold_native_histograms_and_exemplars() {
    let (_dir, server) = start();
    let now = now_ms();
    let native = Histogram { count_int: 3, zero_count_int: 3, sum: 0.5, timestamp: now, ..Histogram::default() };
    let custom = Histogram {
        count_int: 3,
        sum: 2.0,
        schema: -53,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_deltas: vec![1, 1],
        custom_values: vec![0.5],
        timestamp: now,
        ..Histogram::default()
    };
    let exemplar = FirstExemplar { labels: vec![], value: 0.1, timestamp: now };
    let timeseries = vec![
        FirstTimeSeries { histograms: vec![native], exemplars: vec![exemplar], ..first(&[("__name__", "native")]) },
        FirstTimeSeries { histograms: vec![custom], ..first(&[("__name__", "custom")]) },
    ];
    let answer = write_first(&server, &WriteRequest { timeseries, metadata: vec![] }).await;
    assert_eq!(answer.status, 204, "{}", answer.body);
    let stored =
        server.rows("SELECT metric, kind, count, zero_count, bounds, bucket_counts FROM histograms ORDER BY 1").await;
    let expected =
        json!([["custom", "histogram", 3, null, [0.5], [1, 2]], ["native", "exponential_histogram", 3, 3, null, null]]);
    assert_eq!(json!(stored), expected);
    assert!(server.get("/metrics").await.1.contains("driftwatt_ingest_exemplars_skipped_total 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn exemplars_alone_are_no_failure_and_none_is_said_to_be_written() {
    let (_dir, server) = start();
    let mut request = Request::new();
    let labels_refs = vec![request.symbol("trace_id"), request.symbol("abc")];
    let exemplars = vec![Exemplar { labels_refs, value: 1.0, timestamp: now_ms() }; 3];
    request.add(&[("__name__", "m")], TimeSeries { exemplars, ..TimeSeries::default() });
    let answer = write(&server, &request).await;
    assert_eq!((answer.status, answer.written), (204, Some([0, 0, 0])));
    assert!(server.get("/metrics").await.1.contains("driftwatt_ingest_exemplars_skipped_total 3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn series_refused_only_for_now_are_429_and_welcome_later() {
    let (_dir, server) = start_with(&[("DRIFTWATT_INGEST__NEW_SERIES_PER_MINUTE_MAX", "2")]);
    // The count begins anew with each minute of the clock.
    let left_ms = 60_000 - now_ms() % 60_000;
    if left_ms < 10_000 {
        tokio::time::sleep(Duration::from_millis(left_ms as u64)).await;
    }
    let mut request = Request::new();
    for name in ["a", "b", "c"] {
        request.add_sample(&[("__name__", name)], 1.0);
    }
    let answer = write(&server, &request).await;
    assert_eq!((answer.status, answer.written), (429, Some([2, 0, 0])), "{}", answer.body);
    assert_eq!(answer.retry_after.as_deref(), Some("60"));
    assert!(
        answer.body.starts_with("1 points were refused for now, 2 were stored: new_series_rate"),
        "{}",
        answer.body
    );
    // What will never be stored does not make the whole request hopeless.
    let future = sample(1.0, now_ms() + 86_400_000);
    request.add(&[("__name__", "a")], TimeSeries { samples: vec![future], ..TimeSeries::default() });
    let answer = write(&server, &request).await;
    assert_eq!((answer.status, answer.written), (429, Some([2, 0, 0])), "{}", answer.body);
    assert_eq!(values(&server).await, [[json!("a"), json!(1.0)], [json!("b"), json!(1.0)]]);
}

#[test]
fn the_page_of_rules_names_tests_that_are_there() {
    let page = include_str!("../../docs/remote-write.md");
    let sources = [
        include_str!("remote_write.rs"),
        include_str!("remote_write_rules.rs"),
        include_str!("../../ingest/src/remote_write.rs"),
        include_str!("../../ingest/src/decode/remote_write/tests.rs"),
    ];
    let mut named = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| rule ")) {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let tests: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "no test in {row}");
        for test in &tests {
            let is_there = sources.iter().any(|source| source.contains(&format!("fn {test}()")));
            assert!(is_there, "no test {test}, of {row}");
        }
        named += tests.len();
    }
    assert!(named > 40, "{named}");
}
