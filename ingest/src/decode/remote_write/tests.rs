//! Requests built with message types of the tests' own, decoded here.

use driftwatt_store::{AttributeValue, HistogramShape, Kind, SampleColumns, Temporality, fuzzing::mutated};
use prost::Message;

use super::{super::tests::decoder, *};
use crate::{config::Limits, fuzzing};

const NOW: i64 = 1_800_000_000_000_000;
const NOW_MS: i64 = NOW / 1000;
const STALE: u64 = 0x7ff0_0000_0000_0002;

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(uint32, repeated, tag = "1")]
    labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    histograms: Vec<Histogram>,
    #[prost(message, repeated, tag = "4")]
    exemplars: Vec<Sample>,
    #[prost(message, optional, tag = "5")]
    metadata: Option<Metadata>,
    #[prost(int64, tag = "6")]
    created_timestamp: i64,
    #[prost(string, tag = "99")]
    of_a_later_version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
    #[prost(int64, tag = "3")]
    start_timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(int32, tag = "1")]
    metric_type: i32,
    #[prost(uint32, tag = "3")]
    help_ref: u32,
    #[prost(uint32, tag = "4")]
    unit_ref: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    count_int: Option<u64>,
    #[prost(double, optional, tag = "2")]
    count_float: Option<f64>,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint32, tag = "4")]
    schema: i32,
    #[prost(double, tag = "5")]
    zero_threshold: f64,
    #[prost(uint64, optional, tag = "6")]
    zero_count_int: Option<u64>,
    #[prost(double, optional, tag = "7")]
    zero_count_float: Option<f64>,
    #[prost(message, repeated, tag = "8")]
    negative_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "9")]
    negative_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "10")]
    negative_counts: Vec<f64>,
    #[prost(message, repeated, tag = "11")]
    positive_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "12")]
    positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    positive_counts: Vec<f64>,
    #[prost(int32, tag = "14")]
    reset_hint: i32,
    #[prost(int64, tag = "15")]
    timestamp: i64,
    #[prost(double, repeated, tag = "16")]
    custom_values: Vec<f64>,
    #[prost(int64, tag = "17")]
    start_timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<OldTimeSeries>,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<OldMetadata>,
}

#[derive(Clone, PartialEq, Message)]
struct OldTimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct OldMetadata {
    #[prost(int32, tag = "1")]
    metric_type: i32,
    #[prost(string, tag = "2")]
    metric_family_name: String,
    #[prost(string, tag = "4")]
    help: String,
    #[prost(string, tag = "5")]
    unit: String,
}

impl Request {
    fn new() -> Self {
        Self { symbols: vec![String::new()], timeseries: vec![] }
    }

    fn symbol(&mut self, text: &str) -> u32 {
        let known = self.symbols.iter().position(|symbol| symbol == text);
        known.unwrap_or_else(|| {
            self.symbols.push(text.to_owned());
            self.symbols.len() - 1
        }) as u32
    }

    fn with(mut self, labels: &[(&str, &str)], series: TimeSeries) -> Self {
        let labels_refs = labels.iter().flat_map(|(name, value)| [self.symbol(name), self.symbol(value)]).collect();
        self.timeseries.push(TimeSeries { labels_refs, ..series });
        self
    }
}

fn sample(value: f64) -> TimeSeries {
    TimeSeries { samples: vec![Sample { value, timestamp: NOW_MS, start_timestamp: 0 }], ..TimeSeries::default() }
}

fn histogram(histogram: Histogram) -> TimeSeries {
    TimeSeries { histograms: vec![Histogram { timestamp: NOW_MS, ..histogram }], ..TimeSeries::default() }
}

fn one(labels: &[(&str, &str)], series: TimeSeries) -> Request {
    Request::new().with(labels, series)
}

fn decode(request: &Request) -> Decoded {
    decoder(Limits::default()).decode_remote_write(&request.encode_to_vec(), WriteMessage::V2).unwrap()
}

#[track_caller]
fn refused(reason: Reason, request: &Request) {
    let good = [("__name__", "good")];
    let decoded = decode(&request.clone().with(&good, sample(1.0)));
    let reasons: Vec<_> = decoded.batch.rejections.iter().map(|row| (row.reason.as_str(), row.count)).collect();
    assert_eq!(reasons, [(reason.code, 1)]);
    assert_eq!((decoded.rejected_count, decoded.batch.samples.len()), (1, 1), "the good sample beside it is kept");
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::String(value.into())
}

#[test]
fn labels_find_their_place() {
    let labels = [
        ("__name__", "m"),
        ("otel_scope_version", "2"),
        ("job", "shop/api"),
        ("zone", "a"),
        ("instance", "h:1"),
        ("otel_scope_name", "lib"),
        ("nothing", ""),
    ];
    let decoded = decode(&one(&labels, sample(0.5)));
    let definition = &decoded.batch.series[0].definition;
    let resource = [("service.instance.id", "h:1"), ("service.name", "api"), ("service.namespace", "shop")];
    assert_eq!(*definition.resource, resource.map(|(key, value)| (key.to_owned(), text(value))));
    assert_eq!((&*definition.scope_name, &*definition.scope_version), ("lib", "2"));
    assert_eq!(definition.point, [("zone".to_owned(), text("a"))]);
    assert_eq!((&*definition.metric, decoded.batch.samples.bits[0]), ("m", 0.5_f64.to_bits()));
    assert_eq!(decoded.batch.samples.time[0], NOW);
    for job in ["a/b/c", "/a", "a/", "plain"] {
        let decoded = decode(&one(&[("__name__", "m"), ("job", job)], sample(1.0)));
        assert_eq!(*decoded.batch.series[0].definition.resource, [("service.name".to_owned(), text(job))]);
    }
}

#[test]
fn order_of_labels_and_of_samples_does_not_matter() {
    let labels = [("__name__", "m"), ("a", "1"), ("b", "2")];
    let mut request = one(&labels, sample(1.0));
    let reversed: Vec<_> = labels.into_iter().rev().collect();
    let earlier = Sample { value: 2.0, timestamp: NOW_MS - 3_600_000, start_timestamp: 0 };
    request = request.with(&reversed, TimeSeries { samples: vec![earlier], ..TimeSeries::default() });
    let decoded = decode(&request);
    assert_eq!(decoded.batch.series[0].id, decoded.batch.series[1].id);
    assert_eq!(decoded.batch.samples.time, [NOW, NOW - 3_600_000_000]);
}

#[test]
fn bad_labels_refuse_their_series_alone() {
    refused(Reason::METRIC_NAME_EMPTY, &one(&[("job", "x")], sample(1.0)));
    refused(Reason::METRIC_NAME_EMPTY, &one(&[], sample(1.0)));
    refused(Reason::METRIC_NAME_EMPTY, &one(&[("__name__", "")], sample(1.0)));
    refused(Reason::ATTRIBUTE_KEY_EMPTY, &one(&[("__name__", "m"), ("", "x")], sample(1.0)));
    refused(Reason::LABEL_REPEATED, &one(&[("__name__", "m"), ("a", "x"), ("a", "y")], sample(1.0)));
    refused(Reason::METRIC_NAME_TOO_LONG, &one(&[("__name__", &"m".repeat(1025))], sample(1.0)));
    let long = "x".repeat(70_000);
    refused(Reason::ATTRIBUTE_VALUE_TOO_LONG, &one(&[("__name__", "m"), ("a", &long)], sample(1.0)));
    refused(Reason::ATTRIBUTE_KEY_TOO_LONG, &one(&[("__name__", "m"), (&long, "a")], sample(1.0)));
    let names: Vec<String> = (0..129).map(|number| format!("label_{number}")).collect();
    let mut many: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
    many.push(("__name__", "m"));
    refused(Reason::ATTRIBUTES_TOO_MANY, &one(&many, sample(1.0)));
    many[0].1 = "";
    refused(Reason::ATTRIBUTES_TOO_MANY, &one(&many, sample(1.0)));
    many.remove(0);
    assert_eq!(decode(&one(&many, sample(1.0))).rejected_count, 0, "as many as are allowed");
}

#[test]
fn bad_references_refuse_their_series_alone() {
    let mut odd = one(&[("__name__", "m")], sample(1.0));
    odd.timeseries[0].labels_refs.push(1);
    refused(Reason::LABELS_ODD, &odd);
    let mut beyond = one(&[("__name__", "m")], sample(1.0));
    beyond.timeseries[0].labels_refs[1] = 1000;
    refused(Reason::SYMBOL_OUT_OF_RANGE, &beyond);
    let metadata = Some(Metadata { metric_type: 1, help_ref: 999, unit_ref: 0 });
    refused(Reason::SYMBOL_OUT_OF_RANGE, &one(&[("__name__", "m")], TimeSeries { metadata, ..sample(1.0) }));
}

#[test]
fn symbols_must_begin_with_the_empty_text() {
    let mut request = one(&[("__name__", "m")], sample(1.0));
    request.symbols.remove(0);
    let decoder = decoder(Limits::default());
    let error = decoder.decode_remote_write(&request.encode_to_vec(), WriteMessage::V2).unwrap_err();
    assert!(error.reason.contains("first of symbols"), "{error}");
    let many = Request { symbols: vec![String::new(); 500_001], timeseries: vec![] };
    assert!(decoder.decode_remote_write(&many.encode_to_vec(), WriteMessage::V2).is_err());
}

#[test]
fn text_that_is_no_utf8_is_refused() {
    let mut bytes = one(&[("__name__", "m"), ("a", "break")], sample(1.0)).encode_to_vec();
    let at = bytes.windows(5).position(|window| window == b"break").unwrap();
    bytes[at] = 0xff;
    let decoded = decoder(Limits::default()).decode_remote_write(&bytes, WriteMessage::V2).unwrap();
    assert_eq!(decoded.batch.rejections[0].reason, Reason::INVALID_UTF8.code);
}

#[test]
fn times_are_checked() {
    let at = |timestamp| {
        let samples = vec![Sample { value: 1.0, timestamp, start_timestamp: 0 }];
        one(&[("__name__", "m")], TimeSeries { samples, ..TimeSeries::default() })
    };
    refused(Reason::TIMESTAMP_MISSING, &at(0));
    refused(Reason::TIMESTAMP_TOO_NEW, &at(NOW_MS + 601_000));
    refused(Reason::TIMESTAMP_TOO_NEW, &at(i64::MAX));
    refused(Reason::TIMESTAMP_TOO_OLD, &at(NOW_MS - 400 * 86_400_000));
    refused(Reason::TIMESTAMP_TOO_OLD, &at(-1));
    assert_eq!(decode(&at(NOW_MS + 599_000)).rejected_count, 0);
}

#[test]
fn special_values_are_kept_or_become_markers() {
    for (bits, form) in [
        (f64::INFINITY.to_bits(), SampleColumns::DOUBLE),
        (f64::NEG_INFINITY.to_bits(), SampleColumns::DOUBLE),
        (STALE, SampleColumns::NO_VALUE),
        (f64::NAN.to_bits(), SampleColumns::NO_VALUE),
    ] {
        let samples = decode(&one(&[("__name__", "m")], sample(f64::from_bits(bits)))).batch.samples;
        assert_eq!(samples.form, [form], "{bits:x}");
        assert_eq!(samples.bits, [if form == SampleColumns::DOUBLE { bits } else { 0 }]);
    }
}

#[test]
fn metadata_says_kind_unit_and_description() {
    let mut request = Request::new();
    let (help_ref, unit_ref) = (request.symbol("Time spent."), request.symbol("seconds"));
    let metadata = Some(Metadata { metric_type: 1, help_ref, unit_ref });
    let started = Sample { value: 3.0, timestamp: NOW_MS, start_timestamp: NOW_MS - 5 };
    let late = Sample { value: 3.0, timestamp: NOW_MS, start_timestamp: NOW_MS + 5 };
    let series = TimeSeries { samples: vec![started, late], metadata, ..TimeSeries::default() };
    let decoded = decode(&request.with(&[("__name__", "time")], series));
    let definition = &decoded.batch.series[0].definition;
    assert_eq!((&*definition.unit, &*definition.description), ("s", "Time spent."));
    assert_eq!((definition.kind, definition.temporality), (Kind::Sum, Temporality::Cumulative));
    assert!(definition.monotonic);
    // A start after the sample is the sender's clock, and no reason to lose the sample.
    assert_eq!(decoded.batch.samples.start_time, [NOW - 5000, 0]);
    let created = TimeSeries { created_timestamp: NOW_MS - 7, ..sample(1.0) };
    assert_eq!(decode(&one(&[("__name__", "a_total")], created.clone())).batch.samples.start_time, [NOW - 7000]);
    assert_eq!(decode(&one(&[("__name__", "gauge")], created)).batch.samples.start_time, [0]);
}

fn old(name: &str, labels: &[(&str, &str)]) -> OldTimeSeries {
    let labels = labels.iter().copied().chain([("__name__", name)]);
    OldTimeSeries {
        labels: labels.map(|(name, value)| Label { name: name.into(), value: value.into() }).collect(),
        samples: vec![Sample { value: 1.0, timestamp: NOW_MS, start_timestamp: 0 }],
        histograms: vec![],
    }
}

#[test]
fn metadata_of_the_first_version_is_remembered() {
    let decoder = decoder(Limits::default());
    let decode =
        |request: WriteRequest| decoder.decode_remote_write(&request.encode_to_vec(), WriteMessage::V1).unwrap();
    let series = || WriteRequest { timeseries: vec![old("power", &[("job", "x")])], metadata: vec![] };
    assert_eq!(decode(series()).batch.series[0].definition.kind, Kind::Gauge);
    let metadata = OldMetadata {
        metric_type: 1,
        metric_family_name: "power".into(),
        help: "Energy.".into(),
        unit: "joules".into(),
    };
    assert_eq!(decode(WriteRequest { timeseries: vec![], metadata: vec![metadata] }).batch.point_count(), 0);
    let decoded = decode(series());
    let definition = &decoded.batch.series[0].definition;
    assert_eq!((definition.kind, &*definition.unit, &*definition.description), (Kind::Sum, "J", "Energy."));
}

fn spans(spans: &[(i32, u32)]) -> Vec<Span> {
    spans.iter().map(|(offset, length)| Span { offset: *offset, length: *length }).collect()
}

fn native() -> Histogram {
    Histogram {
        count_int: Some(14),
        sum: 12.5,
        schema: 2,
        zero_threshold: 0.001,
        zero_count_int: Some(1),
        positive_spans: spans(&[(-1, 2), (1, 1)]),
        positive_deltas: vec![2, 1, -1],
        negative_spans: spans(&[(4, 1)]),
        negative_deltas: vec![6],
        ..Histogram::default()
    }
}

#[test]
fn exponential_buckets_are_shifted_by_one_and_filled() {
    let labels = [("__name__", "h")];
    let floats = Histogram {
        count_int: None,
        count_float: Some(14.0),
        zero_count_int: None,
        zero_count_float: Some(1.0),
        positive_deltas: vec![],
        positive_counts: vec![2.0, 3.0, 2.0],
        negative_deltas: vec![],
        negative_counts: vec![6.0],
        ..native()
    };
    for native in [native(), floats] {
        let decoded = decode(&one(&labels, histogram(native)));
        assert_eq!(decoded.batch.rejections, []);
        let point = &decoded.batch.histograms[0];
        assert_eq!((point.time, point.recorded, point.count, point.sum), (NOW, true, 14, Some(12.5)));
        // Bucket -1 of Prometheus is (2^-0.5, 2^-0.25], which OpenTelemetry counts as -2.
        let expected = HistogramShape::Exponential {
            scale: 2,
            zero_count: 1,
            zero_threshold: 0.001,
            positive_offset: -2,
            positive_counts: vec![2, 3, 0, 2],
            negative_offset: 3,
            negative_counts: vec![6],
        };
        assert_eq!(point.shape, expected);
        let definition = &decoded.batch.series[0].definition;
        assert_eq!((definition.kind, definition.temporality), (Kind::ExponentialHistogram, Temporality::Cumulative));
    }
}

#[test]
fn gauge_histograms_have_no_temporality() {
    let gauge = Histogram { reset_hint: 3, start_timestamp: NOW_MS - 5, ..native() };
    let decoded = decode(&one(&[("__name__", "h")], histogram(gauge)));
    assert_eq!(decoded.batch.series[0].definition.temporality, Temporality::Unspecified);
    assert_eq!(decoded.batch.histograms[0].start_time, 0);
    let counted = Histogram { start_timestamp: NOW_MS - 5, ..native() };
    let decoded = decode(&one(&[("__name__", "h")], histogram(counted)));
    assert_eq!(decoded.batch.histograms[0].start_time, NOW - 5000);
}

#[test]
fn custom_buckets_are_explicit_ones() {
    let custom = Histogram {
        count_int: Some(7),
        sum: 3.0,
        schema: -53,
        positive_spans: spans(&[(1, 1), (1, 1)]),
        positive_deltas: vec![3, 1],
        custom_values: vec![0.1, 0.5, 1.0],
        ..Histogram::default()
    };
    let labels = [("__name__", "h")];
    // A sample of the same labels next to it must not inherit the bounds.
    let decoded = decode(&one(&labels, histogram(custom.clone())).with(&labels, sample(1.0)));
    assert_eq!(decoded.batch.series[0].definition.bounds, [0.1, 0.5, 1.0]);
    assert_eq!(decoded.batch.series[0].definition.kind, Kind::Histogram);
    assert!(decoded.batch.series[1].definition.bounds.is_empty());
    assert_eq!(decoded.batch.histograms[0].shape, HistogramShape::Explicit { counts: vec![0, 3, 0, 4] });
    let long = Histogram { positive_spans: spans(&[(3, 2)]), ..custom.clone() };
    refused(Reason::BUCKET_BOUNDS_MISMATCH, &one(&labels, histogram(long)));
    let falling = Histogram { custom_values: vec![0.5, 0.1, 1.0], ..custom };
    refused(Reason::BOUNDS_NOT_INCREASING, &one(&labels, histogram(falling)));
}

#[test]
fn an_empty_and_a_stale_histogram_are_points() {
    let decoded = decode(&one(&[("__name__", "h")], histogram(Histogram::default())));
    assert_eq!((decoded.batch.histograms[0].recorded, decoded.batch.histograms[0].count), (true, 0));
    let stale = Histogram { sum: f64::from_bits(STALE), ..Histogram::default() };
    let decoded = decode(&one(&[("__name__", "h")], histogram(stale)));
    assert!(!decoded.batch.histograms[0].recorded);
    let nan = Histogram { sum: f64::NAN, ..native() };
    assert_eq!(decode(&one(&[("__name__", "h")], histogram(nan))).batch.histograms[0].sum, None);
}

#[test]
fn bad_native_histograms_are_refused_alone() {
    let check = |reason, bad: Histogram| refused(reason, &one(&[("__name__", "h")], histogram(bad)));
    check(Reason::BUCKET_COUNT_MISMATCH, Histogram { count_int: Some(99), ..native() });
    check(Reason::NATIVE_SCHEMA_UNKNOWN, Histogram { schema: 9, ..native() });
    check(Reason::NATIVE_COUNT_INVALID, Histogram { positive_deltas: vec![2, -3, 5], ..native() });
    check(Reason::NATIVE_COUNT_INVALID, Histogram { positive_deltas: vec![i64::MAX, 1, 0], ..native() });
    let halves = Histogram { count_float: Some(0.5), count_int: None, ..Histogram::default() };
    check(Reason::NATIVE_COUNT_INVALID, halves);
    check(Reason::NATIVE_SPANS_MISMATCH, Histogram { positive_deltas: vec![2, 1], ..native() });
    check(Reason::NATIVE_SPANS_MISMATCH, Histogram { positive_deltas: vec![2, 1, -1, 0], ..native() });
    check(Reason::NATIVE_SPANS_MISMATCH, Histogram { positive_spans: spans(&[(0, 2), (-2, 1)]), ..native() });
    check(Reason::BUCKETS_TOO_MANY, Histogram { positive_spans: spans(&[(0, 2), (i32::MAX, 1)]), ..native() });
    check(Reason::BUCKET_OFFSET_OUT_OF_RANGE, Histogram { positive_spans: spans(&[(i32::MIN, 3)]), ..native() });
    check(Reason::ZERO_THRESHOLD_OUT_OF_RANGE, Histogram { zero_threshold: -1.0, ..native() });
    check(Reason::COUNT_TOO_LARGE, Histogram { count_int: Some(u64::MAX), ..native() });
}

#[test]
fn exemplars_are_counted_and_not_stored() {
    let exemplars = vec![Sample::default(); 3];
    let decoded = decode(&one(&[("__name__", "m")], TimeSeries { exemplars, ..sample(1.0) }));
    assert_eq!((decoded.exemplar_count, decoded.batch.point_count(), decoded.rejected_count), (3, 1, 0));
}

#[test]
fn the_series_limit_refuses_new_series_and_lets_known_ones_go_on() {
    let decoder = decoder(Limits { series_per_metric_max: 1, ..Limits::default() });
    let request =
        one(&[("__name__", "m"), ("a", "1")], sample(1.0)).with(&[("__name__", "m"), ("a", "2")], sample(1.0));
    for _ in 0..2 {
        let decoded = decoder.decode_remote_write(&request.encode_to_vec(), WriteMessage::V2).unwrap();
        assert_eq!((decoded.batch.samples.len(), decoded.rejected_count), (1, 1));
        assert_eq!(decoded.batch.rejections[0].reason, Reason::CARDINALITY_LIMIT.code);
    }
}

#[test]
fn fields_of_a_later_version_are_skipped() {
    let series = TimeSeries { of_a_later_version: "x".into(), ..sample(1.0) };
    assert_eq!(decode(&one(&[("__name__", "m")], series)).batch.samples.len(), 1);
}

fn everything() -> (Vec<u8>, Vec<u8>) {
    let mut request = one(&[("__name__", "m"), ("job", "a/b"), ("x", "y")], sample(1.5));
    let metadata =
        Some(Metadata { metric_type: 3, help_ref: request.symbol("help"), unit_ref: request.symbol("bytes") });
    let custom = Histogram {
        count_int: Some(3),
        schema: -53,
        positive_spans: spans(&[(0, 1)]),
        positive_deltas: vec![3],
        custom_values: vec![0.5],
        ..Histogram::default()
    };
    request = request.with(&[("__name__", "h")], TimeSeries { metadata, ..histogram(native()) });
    request = request.with(&[("__name__", "c"), ("le", "1")], histogram(custom));
    let first = WriteRequest {
        timeseries: vec![old("a_total", &[("job", "x"), ("k", "v")]), old("b_bucket", &[("le", "+Inf")])],
        metadata: vec![OldMetadata { metric_type: 3, metric_family_name: "b".into(), ..OldMetadata::default() }],
    };
    (request.encode_to_vec(), first.encode_to_vec())
}

#[test]
fn mutated_requests_are_refused_or_can_be_stored() {
    const CASES: u32 = 10_000;
    let (second, first) = everything();
    let decoder = decoder(Limits::default());
    for (corpus, is_second) in [(second, true), (first, false)] {
        assert!(fuzzing::remote_write(&decoder, &corpus, is_second));
        let mut state = 0x5eed;
        let run = |_| {
            u32::from(fuzzing::remote_write(&decoder, &mutated(&mut state, std::slice::from_ref(&corpus)), is_second))
        };
        let accepted: u32 = (0..CASES).map(run).sum();
        assert!(accepted > CASES / 50 && accepted < CASES, "{accepted} accepted: the mutations say little");
    }
}
