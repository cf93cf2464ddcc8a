//! Requests built by the OpenTelemetry crates, decoded here.

use driftwatt_store::{AttributeValue, HistogramShape, Kind, SampleColumns, SeriesId, Temporality, WriteBatch};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value},
    metrics::v1::{
        Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
        NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint,
        exponential_histogram_data_point::Buckets, metric::Data, number_data_point::Value as Number,
        summary_data_point::ValueAtQuantile,
    },
    resource::v1::Resource,
};
use prost::Message;

use super::*;

const NOW: i64 = 1_800_000_000_000_000;
const NANOS: u64 = NOW as u64 * 1000;

fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(any(value)), ..KeyValue::default() }
}

fn text(value: &str) -> Value {
    Value::StringValue(value.into())
}

fn number(value: Number) -> NumberDataPoint {
    NumberDataPoint {
        attributes: vec![attribute("k", text("v"))],
        start_time_unix_nano: NANOS - 60_000_000_000,
        time_unix_nano: NANOS + 999,
        value: Some(value),
        ..NumberDataPoint::default()
    }
}

fn histogram() -> HistogramDataPoint {
    HistogramDataPoint {
        attributes: vec![attribute("route", text("/"))],
        time_unix_nano: NANOS,
        count: 6,
        sum: Some(10.5),
        min: Some(0.5),
        max: Some(4.0),
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![1.0, 2.0],
        ..HistogramDataPoint::default()
    }
}

fn exponential() -> ExponentialHistogramDataPoint {
    ExponentialHistogramDataPoint {
        time_unix_nano: NANOS,
        count: 10,
        sum: Some(-1.0),
        scale: -3,
        zero_count: 4,
        zero_threshold: 0.25,
        positive: Some(Buckets { offset: -2, bucket_counts: vec![1, 300, 0].into_iter().map(|c| c % 299).collect() }),
        negative: Some(Buckets { offset: 7, bucket_counts: vec![4] }),
        ..ExponentialHistogramDataPoint::default()
    }
}

fn summary() -> SummaryDataPoint {
    let quantile = |quantile, value| ValueAtQuantile { quantile, value };
    SummaryDataPoint {
        time_unix_nano: NANOS,
        count: 3,
        sum: 6.0,
        quantile_values: vec![quantile(0.5, 2.0), quantile(0.9, f64::NAN), quantile(1.0, 3.0)],
        ..SummaryDataPoint::default()
    }
}

fn metric(name: &str, data: Data) -> Metric {
    Metric { name: name.into(), unit: "s".into(), description: "d".into(), data: Some(data), ..Metric::default() }
}

fn gauge(name: &str, data_points: Vec<NumberDataPoint>) -> Metric {
    metric(name, Data::Gauge(Gauge { data_points }))
}

fn histograms(data_points: Vec<HistogramDataPoint>) -> Metric {
    metric("h", Data::Histogram(Histogram { data_points, aggregation_temporality: 1 }))
}

fn exponentials(data_points: Vec<ExponentialHistogramDataPoint>) -> Metric {
    metric("e", Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality: 2 }))
}

fn request(metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let scope = InstrumentationScope {
        name: "lib".into(),
        version: "1".into(),
        attributes: vec![attribute("s", Value::BoolValue(true))],
        ..InstrumentationScope::default()
    };
    let resource = Resource { attributes: vec![attribute("service.name", text("api"))], ..Resource::default() };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource),
            scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }],
            ..ResourceMetrics::default()
        }],
    }
}

pub(super) fn every_kind() -> ExportMetricsServiceRequest {
    let sum = |value, aggregation_temporality, is_monotonic| {
        Data::Sum(Sum { data_points: vec![number(value)], aggregation_temporality, is_monotonic })
    };
    let mut with_exemplar = number(Number::AsDouble(0.1));
    with_exemplar.exemplars = vec![Exemplar { span_id: vec![1; 8], ..Exemplar::default() }];
    let stale = NumberDataPoint { flags: 1, value: None, ..number(Number::AsInt(0)) };
    request(vec![
        gauge("g", vec![with_exemplar, number(Number::AsInt(-7)), stale]),
        metric("delta", sum(Number::AsInt(i64::MAX), 1, true)),
        metric("cumulative", sum(Number::AsDouble(2.5), 2, false)),
        histograms(vec![histogram(), HistogramDataPoint { flags: 1, time_unix_nano: NANOS, ..Default::default() }]),
        exponentials(vec![exponential()]),
        metric("s", Data::Summary(Summary { data_points: vec![summary()] })),
    ])
}

pub(super) fn decoder(limits: Limits) -> Decoder {
    Decoder::new(&Config { now: || NOW, limits, ..Config::default() })
}

fn decode_bytes(bytes: &[u8]) -> Decoded {
    decoder(Limits::default()).decode(bytes).unwrap()
}

fn decode(request: &ExportMetricsServiceRequest) -> Decoded {
    decode_bytes(&request.encode_to_vec())
}

/// The points of `metrics` are refused for `reason`, `count` of them; a good gauge beside them is kept.
#[track_caller]
fn refused(reason: Reason, count: u64, metrics: Vec<Metric>) {
    refused_with(Limits::default(), reason, count, metrics);
}

#[track_caller]
fn refused_with(limits: Limits, reason: Reason, count: u64, mut metrics: Vec<Metric>) {
    metrics.push(gauge("good", vec![number(Number::AsInt(1))]));
    let decoded = decoder(limits).decode(&request(metrics).encode_to_vec()).unwrap();
    let rows: Vec<_> = decoded.batch.rejections.iter().map(|row| (row.reason.as_str(), row.count)).collect();
    assert_eq!(rows, [(reason.code, count)]);
    assert_eq!(decoded.rejected_count, count);
    let kept: Vec<_> = decoded.batch.series.iter().map(|series| &*series.definition.metric).collect();
    assert!(kept.contains(&"good"), "{kept:?}");
}

#[test]
fn numbers_of_every_form_are_kept_as_sent() {
    let batch = decode(&every_kind()).batch;
    assert_eq!(batch.rejections, []);
    let samples = &batch.samples;
    let (int, double, none) = (SampleColumns::INT, SampleColumns::DOUBLE, SampleColumns::NO_VALUE);
    assert_eq!(samples.form, [double, int, none, int, double]);
    let bits = [0.1f64.to_bits(), (-7i64) as u64, 0, i64::MAX as u64, 2.5f64.to_bits()];
    assert_eq!(samples.bits, bits);
    assert!(samples.time.iter().all(|time| *time == NOW), "nanoseconds are floored");
    assert!(samples.start_time.iter().all(|time| *time == NOW - 60_000_000));
    assert_eq!(samples.series, [0, 0, 0, 1, 2]);

    let gauge = &batch.series[0].definition;
    assert_eq!((&*gauge.metric, &*gauge.unit, &*gauge.description), ("g", "s", "d"));
    assert_eq!((&*gauge.scope_name, &*gauge.scope_version), ("lib", "1"));
    assert_eq!(*gauge.resource, [("service.name".into(), AttributeValue::String("api".into()))]);
    assert_eq!(*gauge.scope, [("s".into(), AttributeValue::Bool(true))]);
    assert_eq!(gauge.point, [("k".into(), AttributeValue::String("v".into()))]);
    let shape = |index: usize| {
        let definition = &batch.series[index].definition;
        (definition.kind, definition.temporality, definition.monotonic)
    };
    assert_eq!(shape(0), (Kind::Gauge, Temporality::Unspecified, false));
    assert_eq!(shape(1), (Kind::Sum, Temporality::Delta, true));
    assert_eq!(shape(2), (Kind::Sum, Temporality::Cumulative, false));
}

#[test]
fn histograms_of_every_shape_are_kept_as_sent() {
    let batch = decode(&every_kind()).batch;
    let [explicit, stale, exponential, summary] = batch.histograms.as_slice() else { panic!("{:?}", batch.histograms) };
    assert_eq!((explicit.count, explicit.sum, explicit.min, explicit.max), (6, Some(10.5), Some(0.5), Some(4.0)));
    assert_eq!((explicit.start_time, explicit.time, explicit.recorded), (0, NOW, true));
    assert_eq!(explicit.shape, HistogramShape::Explicit { counts: vec![1, 2, 3] });
    assert_eq!(batch.series[explicit.series as usize].definition.bounds, [1.0, 2.0]);
    assert_eq!(batch.series[explicit.series as usize].definition.temporality, Temporality::Delta);
    assert!(!stale.recorded);
    let expected = HistogramShape::Exponential {
        scale: -3,
        zero_count: 4,
        zero_threshold: 0.25,
        positive_offset: -2,
        positive_counts: vec![1, 1, 0],
        negative_offset: 7,
        negative_counts: vec![4],
    };
    assert_eq!((exponential.count, exponential.sum, exponential.min), (10, Some(-1.0), None));
    assert_eq!(exponential.shape, expected);
    let expected = HistogramShape::Summary { quantiles: vec![0.5, 1.0], values: vec![2.0, 3.0] };
    assert_eq!((summary.count, summary.sum, &summary.shape), (3, Some(6.0), &expected));
}

#[test]
fn every_attribute_type_is_kept() {
    let list = Value::ArrayValue(ArrayValue { values: vec![any(Value::IntValue(-1)), AnyValue { value: None }] });
    let map = Value::KvlistValue(KeyValueList { values: vec![attribute("n", Value::DoubleValue(0.5))] });
    let mut point = number(Number::AsInt(1));
    point.attributes = vec![
        attribute("bytes", Value::BytesValue(vec![0, 255])),
        attribute("list", list),
        attribute("map", map),
        KeyValue { key: "none".into(), ..KeyValue::default() },
    ];
    let batch = decode(&request(vec![gauge("g", vec![point])])).batch;
    let expected = [
        ("bytes".to_owned(), AttributeValue::Bytes(vec![0, 255])),
        ("list".to_owned(), AttributeValue::Array(vec![AttributeValue::Int(-1), AttributeValue::Empty])),
        ("map".to_owned(), AttributeValue::Map(vec![("n".into(), AttributeValue::Double(0.5))])),
        ("none".to_owned(), AttributeValue::Empty),
    ];
    assert_eq!(batch.series[0].definition.point, expected);
}

#[test]
fn repeated_keys_are_accepted_and_counted_once_per_series() {
    let mut point = number(Number::AsInt(1));
    point.attributes = vec![attribute("k", text("old")), attribute("k", text("new"))];
    let decoded = decode(&request(vec![gauge("g", vec![point.clone(), point])]));
    assert_eq!((decoded.rejected_count, decoded.duplicate_key_count), (0, 1));
    assert_eq!(decoded.batch.series[0].definition.point, [("k".into(), AttributeValue::String("new".into()))]);
}

#[test]
fn attribute_order_does_not_split_a_series_and_the_cache_gives_the_same_answer() {
    let (a, b) = (attribute("a", text("1")), attribute("b", text("2")));
    let mut points = vec![number(Number::AsInt(1)), number(Number::AsInt(2))];
    points[0].attributes = vec![a.clone(), b.clone()];
    points[1].attributes = vec![b, a];
    let bytes = request(vec![gauge("g", points)]).encode_to_vec();
    let decoder = decoder(Limits::default());
    let first = decoder.decode(&bytes).unwrap().batch;
    let ids: Vec<_> = first.samples.series.iter().map(|index| first.series[*index as usize].id).collect();
    assert_eq!((ids.len(), ids[0]), (2, ids[1]));
    assert_eq!(decoder.decode(&bytes).unwrap().batch, first);
}

/// Fields of a message in reverse order.
fn reversed(message: &[u8], nested: impl Fn(u32, &[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut fields = Vec::new();
    let mut reader = Reader::new(Slice { bytes: message, offset: 0 });
    while let Some(field) = reader.next().unwrap() {
        let mut bytes = Vec::new();
        match (field.slice(), field.fixed64(), field.varint()) {
            (Ok(slice), _, _) => {
                let value = nested(field.number, slice.bytes);
                prost::encoding::bytes::encode(field.number, &value, &mut bytes);
            }
            (_, Ok(value), _) => prost::encoding::fixed64::encode(field.number, &value, &mut bytes),
            (_, _, Ok(value)) => prost::encoding::uint64::encode(field.number, &value, &mut bytes),
            _ => panic!("field {} has an unexpected type", field.number),
        }
        fields.push(bytes);
    }
    fields.reverse();
    fields.concat()
}

#[test]
fn field_order_does_not_matter() {
    let plain = |_: u32, bytes: &[u8]| bytes.to_vec();
    let data = |number: u32, bytes: &[u8]| if number == 1 { reversed(bytes, plain) } else { bytes.to_vec() };
    let metric = |number: u32, bytes: &[u8]| if number >= 5 { reversed(bytes, data) } else { bytes.to_vec() };
    let scope = |number: u32, bytes: &[u8]| if number == 2 { reversed(bytes, metric) } else { bytes.to_vec() };
    let resource = |number: u32, bytes: &[u8]| if number == 2 { reversed(bytes, scope) } else { bytes.to_vec() };
    // One point per metric and one quantile, because the order of those is kept.
    let mut request = every_kind();
    for metric in &mut request.resource_metrics[0].scope_metrics[0].metrics {
        match &mut metric.data {
            Some(Data::Gauge(gauge)) => gauge.data_points.truncate(1),
            Some(Data::Histogram(histogram)) => histogram.data_points.truncate(1),
            Some(Data::Summary(summary)) => summary.data_points[0].quantile_values.truncate(1),
            _ => {}
        }
    }
    let expected = decode(&request).batch;
    let bytes = reversed(&request.encode_to_vec(), |_, bytes| reversed(bytes, resource));
    let found = decode_bytes(&bytes).batch;
    assert_eq!(found.point_count(), expected.point_count());
    let ids = |batch: &WriteBatch| {
        let mut ids: Vec<_> = batch.series.iter().map(|series| series.id).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&found), ids(&expected));
    let values = |batch: &WriteBatch| {
        let samples = &batch.samples;
        let mut values: Vec<_> = (0..samples.len())
            .map(|row| (batch.series[samples.series[row] as usize].id, samples.time[row], samples.bits[row]))
            .collect();
        values.sort();
        values
    };
    assert_eq!(values(&found), values(&expected));
}

#[test]
fn a_request_cut_anywhere_is_an_error_or_a_prefix_and_never_a_panic() {
    let bytes = every_kind().encode_to_vec();
    for end in 1..bytes.len() {
        let error = decoder(Limits::default()).decode(&bytes[..end]).unwrap_err();
        assert!(error.offset <= end, "{error}");
    }
    assert_eq!(decode_bytes(&[]).batch, WriteBatch::default());
}

#[test]
fn a_flipped_bit_anywhere_is_never_a_panic() {
    let bytes = every_kind().encode_to_vec();
    let decoder = decoder(Limits::default());
    let mut accepted = 0;
    for index in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[index / 8] ^= 1 << (index % 8);
        accepted += u32::from(decoder.decode(&flipped).is_ok());
    }
    assert!(accepted > 0);
}

#[test]
fn bad_times_are_refused() {
    let at =
        |time_unix_nano: u64| NumberDataPoint { time_unix_nano, start_time_unix_nano: 0, ..number(Number::AsInt(1)) };
    refused(Reason::TIMESTAMP_MISSING, 1, vec![gauge("g", vec![at(0)])]);
    refused(Reason::TIMESTAMP_TOO_NEW, 2, vec![gauge("g", vec![at(NANOS + 601_000_000_000), at(u64::MAX)])]);
    refused(Reason::TIMESTAMP_TOO_OLD, 1, vec![gauge("g", vec![at(NANOS - 396 * 86_400 * 1_000_000_000)])]);
    let backwards = NumberDataPoint { start_time_unix_nano: NANOS + 1000, ..number(Number::AsInt(1)) };
    refused(Reason::START_AFTER_TIME, 1, vec![gauge("g", vec![backwards])]);
    let edges = [NANOS + 600_000_000_000, NANOS - 395 * 86_400 * 1_000_000_000].map(at).to_vec();
    assert_eq!(decode(&request(vec![gauge("g", edges)])).batch.point_count(), 2);
}

#[test]
fn bad_values_are_refused() {
    let nan = vec![number(Number::AsDouble(f64::NAN)), number(Number::AsDouble(f64::INFINITY))];
    refused(Reason::VALUE_NOT_FINITE, 2, vec![gauge("g", nan)]);
    refused(
        Reason::VALUE_MISSING,
        1,
        vec![gauge("g", vec![NumberDataPoint { value: None, ..number(Number::AsInt(1)) }])],
    );
    refused(
        Reason::VALUE_NOT_FINITE,
        1,
        vec![histograms(vec![HistogramDataPoint { sum: Some(f64::NAN), ..histogram() }])],
    );
    let stale_nan = NumberDataPoint { flags: 1, ..number(Number::AsDouble(f64::NAN)) };
    assert_eq!(decode(&request(vec![gauge("g", vec![stale_nan])])).batch.samples.form, [SampleColumns::NO_VALUE]);
}

#[test]
fn bad_metrics_are_refused_with_all_their_points() {
    let points = || vec![number(Number::AsInt(1)); 3];
    refused(Reason::METRIC_NAME_EMPTY, 3, vec![gauge("", points())]);
    refused(Reason::METRIC_NAME_TOO_LONG, 3, vec![gauge(&"n".repeat(1025), points())]);
    refused(Reason::METRIC_TYPE_MISSING, 0, vec![Metric { name: "none".into(), ..Metric::default() }]);
    let sum = Sum { data_points: points(), aggregation_temporality: 0, is_monotonic: true };
    refused(Reason::TEMPORALITY_MISSING, 3, vec![metric("sum", Data::Sum(sum))]);
}

#[test]
fn bad_attributes_are_refused() {
    let with = |attributes| vec![gauge("g", vec![NumberDataPoint { attributes, ..number(Number::AsInt(1)) }; 2])];
    refused(Reason::ATTRIBUTE_KEY_EMPTY, 2, with(vec![attribute("", text("v"))]));
    refused(Reason::ATTRIBUTE_KEY_TOO_LONG, 2, with(vec![attribute(&"k".repeat(1025), text("v"))]));
    refused(Reason::ATTRIBUTE_VALUE_TOO_LONG, 2, with(vec![attribute("k", text(&"v".repeat((64 << 10) + 1)))]));
    let many = (0..127).map(|index| attribute(&index.to_string(), text("v"))).collect();
    refused(Reason::ATTRIBUTES_TOO_MANY, 2, with(many));
    let mut deep = any(Value::IntValue(1));
    for _ in 0..20 {
        deep = any(Value::ArrayValue(ArrayValue { values: vec![deep] }));
    }
    refused(
        Reason::ATTRIBUTE_TOO_DEEP,
        2,
        with(vec![KeyValue { key: "k".into(), value: Some(deep), ..Default::default() }]),
    );
    let fits = with(vec![attribute("k", text(&"v".repeat(64 << 10)))]);
    assert_eq!(decode(&request(fits)).batch.point_count(), 2);
}

#[test]
fn invalid_utf8_is_refused_alone() {
    let mut bytes = request(vec![gauge("abcdef", vec![number(Number::AsInt(1))])]).encode_to_vec();
    let at = bytes.windows(6).position(|window| window == b"abcdef").unwrap();
    bytes[at] = 0xff;
    let decoded = decode_bytes(&bytes);
    assert_eq!((decoded.batch.rejections[0].reason.as_str(), decoded.rejected_count), ("invalid_utf8", 1));
    let mut bytes = request(vec![gauge("m", vec![number(Number::AsInt(1))])]).encode_to_vec();
    let at = bytes.windows(3).position(|window| window == b"api").unwrap();
    bytes[at] = 0xff;
    let rejection = &decode_bytes(&bytes).batch.rejections[0];
    assert_eq!((rejection.reason.as_str(), rejection.metric.as_str()), ("invalid_utf8", "m"));
}

#[test]
fn bad_histograms_are_refused() {
    let check = |reason, point| refused(reason, 1, vec![histograms(vec![point])]);
    check(Reason::BUCKET_COUNT_MISMATCH, HistogramDataPoint { count: 7, ..histogram() });
    check(Reason::BUCKET_BOUNDS_MISMATCH, HistogramDataPoint { bucket_counts: vec![3, 3], ..histogram() });
    check(Reason::BUCKET_BOUNDS_MISMATCH, HistogramDataPoint { bucket_counts: vec![], ..histogram() });
    check(Reason::BOUNDS_NOT_INCREASING, HistogramDataPoint { explicit_bounds: vec![2.0, 1.0], ..histogram() });
    check(Reason::BOUNDS_NOT_INCREASING, HistogramDataPoint { explicit_bounds: vec![1.0, 1.0], ..histogram() });
    check(Reason::BOUNDS_NOT_FINITE, HistogramDataPoint { explicit_bounds: vec![1.0, f64::INFINITY], ..histogram() });
    check(Reason::BUCKETS_TOO_MANY, HistogramDataPoint { bucket_counts: vec![0; 10_001], ..histogram() });
    check(Reason::COUNT_TOO_LARGE, HistogramDataPoint { count: u64::MAX, ..histogram() });
    let overflowing = vec![u64::MAX, 7, 0];
    check(Reason::BUCKET_COUNT_MISMATCH, HistogramDataPoint { bucket_counts: overflowing, ..histogram() });
}

#[test]
fn bad_exponential_histograms_and_summaries_are_refused() {
    type Point = ExponentialHistogramDataPoint;
    let check = |reason, point| refused(reason, 1, vec![exponentials(vec![point])]);
    check(Reason::SCALE_OUT_OF_RANGE, Point { scale: 21, ..exponential() });
    check(Reason::SCALE_OUT_OF_RANGE, Point { scale: -11, ..exponential() });
    check(Reason::BUCKET_COUNT_MISMATCH, Point { zero_count: 5, ..exponential() });
    check(Reason::ZERO_THRESHOLD_OUT_OF_RANGE, Point { zero_threshold: -1.0, ..exponential() });
    let buckets = |offset, bucket_counts| Some(Buckets { offset, bucket_counts });
    check(Reason::BUCKET_OFFSET_OUT_OF_RANGE, Point { negative: buckets(i32::MAX, vec![4]), ..exponential() });
    check(Reason::BUCKETS_TOO_MANY, Point { negative: buckets(0, vec![0; 10_001]), ..exponential() });
    let quantile = vec![ValueAtQuantile { quantile: 1.5, value: 1.0 }];
    let point = SummaryDataPoint { quantile_values: quantile, ..summary() };
    refused(Reason::QUANTILE_OUT_OF_RANGE, 1, vec![metric("s", Data::Summary(Summary { data_points: vec![point] }))]);
}

#[test]
fn new_series_are_refused_at_the_limit_and_known_ones_continue() {
    let limits = Limits { series_per_metric_max: 10, ..Limits::default() };
    let points: Vec<_> = (0..25)
        .map(|index| {
            let attributes = vec![attribute("k", Value::IntValue(index))];
            NumberDataPoint { attributes, ..number(Number::AsInt(index)) }
        })
        .collect();
    refused_with(limits.clone(), Reason::CARDINALITY_LIMIT, 15, vec![gauge("g", points.clone())]);
    let decoder = decoder(limits);
    let bytes = request(vec![gauge("g", points)]).encode_to_vec();
    for _ in 0..2 {
        let decoded = decoder.decode(&bytes).unwrap();
        assert_eq!((decoded.batch.point_count(), decoded.rejected_count), (10, 15));
    }
}

#[test]
fn json_equals_protobuf() {
    let json = include_str!("testdata/every_kind.json");
    let found = decode_bytes(&crate::json::transcode(json.as_bytes()).unwrap());
    let (found, expected) = (by_id(found.batch), by_id(decode(&every_kind()).batch));
    assert_eq!(found, expected);
}

/// Points with the id of their series in place of its index; how often a series stands in a batch means nothing.
fn by_id(mut batch: WriteBatch) -> (WriteBatch, Vec<SeriesId>) {
    let numbers = batch.samples.series.iter().chain(batch.histograms.iter().map(|point| &point.series));
    let ids = numbers.map(|index| batch.series[*index as usize].id).collect();
    batch.samples.series.fill(0);
    batch.histograms.iter_mut().for_each(|point| point.series = 0);
    batch.series.sort_by_key(|series| series.id);
    batch.series.dedup();
    (batch, ids)
}

#[test]
fn bad_json_is_an_error_with_its_place() {
    for (json, expected) in [
        ("{", "EOF"),
        ("[]", "an object"),
        ("{} x", "trailing"),
        (r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":5}]}]}]}"#, "field name"),
        (
            r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"sum":{"aggregationTemporality":"X"}}]}]}]}"#,
            "unknown name",
        ),
        (r#"{"resourceMetrics":[[[]]]}"#, "list inside the list"),
    ] {
        let error = crate::json::transcode(json.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{json}: {error}");
    }
    // A skipped field is skipped without recursion; a known one recurses, up to the parser's limit.
    let skipped = format!(r#"{{"x":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    assert!(crate::json::transcode(skipped.as_bytes()).unwrap().is_empty());
    let (open, close) = (r#"{"arrayValue":{"values":["#.repeat(1000), "]}}".repeat(1000));
    let deep = format!(r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{{"value":{open}{close}}}]}}}}]}}"#);
    assert!(crate::json::transcode(deep.as_bytes()).unwrap_err().to_string().contains("recursion limit"));
}

#[test]
fn exemplars_are_counted_and_not_stored() {
    let exemplars = vec![Exemplar { span_id: vec![1; 8], ..Exemplar::default() }; 2];
    let points = [
        gauge("g", vec![NumberDataPoint { exemplars: exemplars.clone(), ..number(Number::AsInt(1)) }]),
        histograms(vec![HistogramDataPoint { exemplars: exemplars.clone(), ..histogram() }]),
        exponentials(vec![ExponentialHistogramDataPoint { exemplars, ..exponential() }]),
    ];
    let decoded = decode_bytes(&request(points.to_vec()).encode_to_vec());
    assert_eq!((decoded.exemplar_count, decoded.batch.point_count()), (6, 3));
}
