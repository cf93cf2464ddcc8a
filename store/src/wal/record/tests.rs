//! Round trips, and bytes that are no record.

use std::sync::Arc;

use proptest::prelude::*;

use super::{Definitions, SeriesBook, attributes::DEPTH_MAX};
use crate::{
    series::{AttributeValue, Attributes, Kind, Series, SeriesDefinition, Temporality},
    write_batch::{HistogramPoint, HistogramShape, Rejection, SampleColumns, WriteBatch},
};

/// The first record of a segment.
fn encode(batch: &WriteBatch) -> Vec<u8> {
    record(&mut Definitions::default(), batch)
}

fn record(definitions: &mut Definitions, batch: &WriteBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    definitions.put(&batch.series, &mut bytes);
    bytes.extend_from_slice(&super::encode(batch));
    bytes
}

fn decode(bytes: &[u8]) -> Result<WriteBatch, super::reader::DecodeError> {
    super::decode(bytes, &mut SeriesBook::default()).map(|record| record.batch)
}

/// Text that tells every difference, the bits of doubles included (`==` takes NaN for different and zeros for equal).
fn exact(batch: &WriteBatch) -> String {
    fn double_bits(value: &AttributeValue, bits: &mut Vec<u64>) {
        match value {
            AttributeValue::Double(value) => bits.push(value.to_bits()),
            AttributeValue::Array(values) => values.iter().for_each(|value| double_bits(value, bits)),
            AttributeValue::Map(attributes) => attributes.iter().for_each(|(_, value)| double_bits(value, bits)),
            _ => {}
        }
    }
    let mut bits = Vec::new();
    for series in &batch.series {
        let definition = &series.definition;
        bits.extend(definition.bounds.iter().map(|bound| bound.to_bits()));
        for (_, value) in definition.resource.iter().chain(definition.scope.iter()).chain(&definition.point) {
            double_bits(value, &mut bits);
        }
    }
    for point in &batch.histograms {
        bits.extend([point.sum, point.min, point.max].into_iter().flatten().map(f64::to_bits));
        match &point.shape {
            HistogramShape::Explicit { .. } => {}
            HistogramShape::Exponential { zero_threshold, .. } => bits.push(zero_threshold.to_bits()),
            HistogramShape::Summary { quantiles, values } => {
                bits.extend(quantiles.iter().chain(values).map(|value| value.to_bits()));
            }
        }
    }
    format!("{batch:?} {bits:?}")
}

fn check_round_trip(batch: &WriteBatch) {
    assert_eq!(exact(&decode(&encode(batch)).unwrap()), exact(batch));
}

fn definition(metric: &str, resource: Attributes, point: Attributes) -> SeriesDefinition {
    SeriesDefinition {
        metric: metric.into(),
        unit: "1".into(),
        description: "".into(),
        kind: Kind::Gauge,
        temporality: Temporality::Unspecified,
        monotonic: false,
        bounds: vec![],
        resource: resource.into(),
        scope_name: "scope".into(),
        scope_version: "".into(),
        scope: vec![].into(),
        point,
    }
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::String(value.into())
}

/// One sample per series, as a steady exporter sends them.
fn steady_batch(series_count: u32) -> WriteBatch {
    let resource: Attributes = (0..20).map(|key| (format!("resource.key.{key}"), text("a resource value"))).collect();
    let mut batch = WriteBatch::default();
    for index in 0..series_count {
        let point = vec![("gpu".to_owned(), AttributeValue::Int(i64::from(index)))];
        batch.series.push(Series::new(definition("hw.gpu.utilization", resource.clone(), point)));
        batch.samples.push(index, 0, 1_700_000_000_000_000, 0.5f64.to_bits(), SampleColumns::DOUBLE);
    }
    batch
}

#[test]
fn shared_text_is_stored_once() {
    let (one, many) = (encode(&steady_batch(1)).len(), encode(&steady_batch(101)).len());
    // Per series: id twice, 10 bytes of references, 11 of point attributes, 8 of value.
    assert!(many - one <= 100 * 48, "{one} bytes for 1 series, {many} for 101");
}

#[test]
fn not_a_number_and_negative_zero_keep_their_bits() {
    let nan = f64::from_bits(0x7ff8_dead_beef_0001);
    let zeros = |zero: f64| vec![("zero".to_owned(), AttributeValue::Double(zero))];
    let mut histogram = definition("h", zeros(-0.0), vec![("nan".into(), AttributeValue::Double(nan))]);
    histogram.bounds = vec![-0.0, nan];
    let mut batch = WriteBatch {
        series: vec![Series::new(definition("g", zeros(0.0), vec![])), Series::new(histogram)],
        ..WriteBatch::default()
    };
    batch.samples.push(0, i64::MIN, i64::MAX, nan.to_bits(), SampleColumns::DOUBLE);
    batch.samples.push(1, 0, 0, u64::MAX, SampleColumns::INT);
    batch.samples.push(1, 0, 0, 0, SampleColumns::NO_VALUE);
    batch.histograms.push(HistogramPoint {
        series: 1,
        start_time: -1,
        time: 1,
        recorded: false,
        count: u64::MAX,
        sum: Some(nan),
        min: Some(-0.0),
        max: None,
        shape: HistogramShape::Summary { quantiles: vec![nan], values: vec![] },
    });
    check_round_trip(&batch);
}

#[test]
fn a_segment_defines_a_series_twice_and_one_lost_record_costs_only_itself() {
    let mut batch = steady_batch(10);
    // A series that stands in a request twice is still defined by two records.
    batch.series.push(Arc::clone(&batch.series[0]));
    batch.samples.push(10, 0, 1_700_000_000_000_001, 0, SampleColumns::INT);
    let mut definitions = Definitions::default();
    let records: Vec<_> = (0..4).map(|_| record(&mut definitions, &batch)).collect();
    assert_eq!(records[0].len(), records[1].len());
    assert!(records[2].len() < records[1].len() / 2 && records[2] == records[3]);
    for lost in 0..4 {
        let mut book = SeriesBook::default();
        for (index, bytes) in records.iter().enumerate().filter(|(index, _)| *index != lost) {
            let decoded = super::decode(bytes, &mut book).unwrap();
            assert_eq!((exact(&decoded.batch), decoded.lost_point_count), (exact(&batch), 0), "{index} without {lost}");
        }
    }
}

#[test]
fn points_of_series_that_nothing_defines_are_left_out_and_counted() {
    let (known, mut both) = (steady_batch(2), steady_batch(4));
    let mut definitions = Definitions::default();
    let first = record(&mut definitions, &known);
    record(&mut definitions, &both);
    record(&mut definitions, &both);
    both.series.rotate_left(1);
    let last = record(&mut definitions, &both);
    let mut book = SeriesBook::default();
    super::decode(&first, &mut book).unwrap();
    let decoded = super::decode(&last, &mut book).unwrap();
    assert_eq!(decoded.lost_point_count, 2);
    let ids = |batch: &WriteBatch| batch.series.iter().map(|series| series.id).collect::<Vec<_>>();
    assert_eq!(ids(&decoded.batch), [known.series[1].id, known.series[0].id]);
    assert_eq!(decoded.batch.samples.series, [0, 1]);
    assert!(super::is_consistent(&decoded.batch));
}

#[test]
fn values_nested_too_deep_become_text_and_stay_readable() {
    let nested = |depth| (0..depth).fold(AttributeValue::Empty, |value, _| AttributeValue::Array(vec![value]));
    let series = |depth| Series::new(definition("g", vec![], vec![("deep".into(), nested(depth))]));
    check_round_trip(&WriteBatch { series: vec![series(DEPTH_MAX)], ..WriteBatch::default() });
    let decoded = decode(&encode(&WriteBatch { series: vec![series(DEPTH_MAX + 2)], ..WriteBatch::default() }));
    let expected = (0..DEPTH_MAX).fold(text("[[null]]"), |value, _| AttributeValue::Array(vec![value]));
    assert_eq!(decoded.unwrap().series[0].definition.point[0].1, expected);
}

#[test]
fn claimed_sizes_over_the_bytes_that_follow_are_refused() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let empty = [2, 0, 0, 0, 0, 0, 0, 0, 0];
    for prefix in (1..empty.len()).map(|size| &empty[..size]).chain([&[2, 1][..]]) {
        let error = decode(&[prefix, &huge].concat()).unwrap_err();
        assert_eq!(error.reason, "count over what follows", "after {prefix:?}");
    }
}

#[test]
fn the_worked_example_of_the_format_page() {
    let mut batch = WriteBatch {
        series: vec![Series::new(definition("m", vec![("host".into(), text("a"))], vec![]))],
        ..WriteBatch::default()
    };
    batch.samples.push(0, 0, 1_000_000, 0.5f64.to_bits(), SampleColumns::DOUBLE);
    let hex: String = encode(&batch).iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = [
        // Version; strings m, 1, "", scope, host, a; lists {host: a}, {}.
        "02",
        "06 016d 0131 00 0573636f7065 04686f7374 0161",
        "02 01040105 00",
        // One definition.
        "01 a09d6983ac15558c 00 01 02 03 02 00 00 00 01 01",
        // Points of one series; one sample; no histograms; no strings, no rejections.
        "01 a09d6983ac15558c",
        "01 000000000000e03f 0100000000 010000000000000000 0140420f0000000000 0100",
        "00",
        "00 00",
    ];
    assert_eq!(hex, expected.concat().replace(' ', ""));
}

fn double() -> impl Strategy<Value = f64> {
    prop_oneof![any::<u64>().prop_map(f64::from_bits), Just(0.0), Just(-0.0)]
}

fn attribute_value() -> impl Strategy<Value = AttributeValue> {
    let leaf = prop_oneof![
        Just(AttributeValue::Empty),
        "[a-c]{0,2}".prop_map(AttributeValue::String),
        any::<String>().prop_map(AttributeValue::String),
        any::<bool>().prop_map(AttributeValue::Bool),
        any::<i64>().prop_map(AttributeValue::Int),
        double().prop_map(AttributeValue::Double),
        prop::collection::vec(any::<u8>(), 0..5).prop_map(AttributeValue::Bytes),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(AttributeValue::Array),
            prop::collection::vec(("[a-c]{0,2}", inner), 0..4).prop_map(AttributeValue::Map),
        ]
    })
}

fn attributes() -> impl Strategy<Value = Attributes> {
    prop::collection::vec(("[a-d]{0,2}", attribute_value()), 0..4)
}

fn series() -> impl Strategy<Value = Arc<Series>> {
    let kinds = [Kind::Gauge, Kind::Sum, Kind::Histogram, Kind::ExponentialHistogram, Kind::Summary];
    let temporalities = [Temporality::Unspecified, Temporality::Delta, Temporality::Cumulative];
    let texts = ("[a-c]{0,3}", any::<String>(), any::<String>(), "[a-c]?", "[0-9]?");
    let identity = (prop::sample::select(kinds.to_vec()), prop::sample::select(temporalities.to_vec()), any::<bool>());
    let lists = (attributes(), attributes(), attributes());
    (texts, identity, prop::collection::vec(double(), 0..4), lists).prop_map(|(texts, identity, bounds, lists)| {
        let (metric, unit, description, scope_name, scope_version) = texts;
        let (kind, temporality, monotonic) = identity;
        let (resource, scope, point) = lists;
        Series::new(SeriesDefinition {
            metric: metric.into(),
            unit: unit.into(),
            description: description.into(),
            kind,
            temporality,
            monotonic,
            bounds,
            resource: resource.into(),
            scope_name: scope_name.into(),
            scope_version: scope_version.into(),
            scope: scope.into(),
            point,
        })
    })
}

fn shape() -> impl Strategy<Value = HistogramShape> {
    let counts = || prop::collection::vec(prop_oneof![0..9u64, any::<u64>()], 0..6);
    let doubles = || prop::collection::vec(double(), 0..4);
    let side = move || (any::<i32>(), counts());
    prop_oneof![
        counts().prop_map(|counts| HistogramShape::Explicit { counts }),
        (any::<i32>(), any::<u64>(), double(), side(), side()).prop_map(
            |(scale, zero_count, zero_threshold, positive, negative)| HistogramShape::Exponential {
                scale,
                zero_count,
                zero_threshold,
                positive_offset: positive.0,
                positive_counts: positive.1,
                negative_offset: negative.0,
                negative_counts: negative.1,
            }
        ),
        (doubles(), doubles()).prop_map(|(quantiles, values)| HistogramShape::Summary { quantiles, values }),
    ]
}

fn optional() -> impl Strategy<Value = Option<f64>> {
    prop::option::of(double())
}

fn batch() -> impl Strategy<Value = WriteBatch> {
    let times = || prop_oneof![Just(0), any::<i64>()];
    prop::collection::vec(series(), 1..4).prop_flat_map(move |mut series| {
        // The same identity with another description is the same series.
        series.sort_by_key(|series| series.id);
        series.dedup_by_key(|series| series.id);
        let index = 0..series.len() as u32;
        let sample = (index.clone(), times(), times(), any::<u64>(), 0..=SampleColumns::NO_VALUE);
        let numbers = (any::<bool>(), any::<u64>(), optional(), optional(), optional());
        let rejection = (any::<i64>(), "[a-c]{0,3}", any::<String>(), any::<u64>(), any::<String>());
        let columns = (
            prop::collection::vec(sample, 0..12),
            prop::collection::vec((index, times(), times(), numbers, shape()), 0..4),
            prop::collection::vec(rejection, 0..3),
        );
        columns.prop_map(move |(samples, histograms, rejections)| {
            let mut batch = WriteBatch { series: series.clone(), ..WriteBatch::default() };
            samples.into_iter().for_each(|(series, start, time, bits, form)| {
                batch.samples.push(series, start, time, bits, form);
            });
            batch.histograms.extend(histograms.into_iter().map(|(series, start_time, time, numbers, shape)| {
                let (recorded, count, sum, min, max) = numbers;
                HistogramPoint { series, start_time, time, recorded, count, sum, min, max, shape }
            }));
            batch.rejections.extend(rejections.into_iter().map(|(time, reason, metric, count, message)| Rejection {
                time,
                reason,
                metric,
                count,
                message,
            }));
            batch
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn records_round_trip(batch in batch()) {
        prop_assert_eq!(exact(&decode(&encode(&batch)).unwrap()), exact(&batch));
    }

    /// No bytes panic or allocate without bound, and what decodes is consistent.
    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(prop_oneof![0..4u8, any::<u8>()], 0..200)) {
        if let Some(version) = bytes.first_mut() {
            *version = 2;
        }
        if let Ok(batch) = decode(&bytes) {
            prop_assert!(super::is_consistent(&batch));
        }
    }

    /// Nor do damaged records, which get further.
    #[test]
    fn damaged_records_never_panic(batch in batch(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = encode(&batch).to_vec();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
            prop_assert!(decode(&bytes).is_err());
        } else {
            bytes[at] = byte;
            if let Ok(batch) = decode(&bytes) {
                prop_assert!(super::is_consistent(&batch));
            }
        }
    }
}
