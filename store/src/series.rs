//! What a series is: the metric stream a point belongs to, with an identity that needs no coordination.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use serde::Serialize;
use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// 64-bit id of a series: XXH3-64 of its identity text. Stored as the signed integer with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId(pub u64);

impl SeriesId {
    /// The value of the `series_id` column.
    pub fn to_column(self) -> i64 {
        self.0.cast_signed()
    }
}

/// OpenTelemetry point kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Last value.
    Gauge = 0,
    /// Sum, delta or cumulative, monotonic or not.
    Sum = 1,
    /// Histogram with explicit bounds.
    Histogram = 2,
    /// Histogram with base-2 exponential buckets.
    ExponentialHistogram = 3,
    /// Quantiles computed by the client.
    Summary = 4,
}

impl Kind {
    /// The value of the `kind` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Sum => "sum",
            Self::Histogram => "histogram",
            Self::ExponentialHistogram => "exponential_histogram",
            Self::Summary => "summary",
        }
    }

    pub(crate) fn from_u8(value: u8) -> Option<Self> {
        [Self::Gauge, Self::Sum, Self::Histogram, Self::ExponentialHistogram, Self::Summary]
            .get(value as usize)
            .copied()
    }
}

/// OpenTelemetry aggregation temporality.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Temporality {
    /// Not applicable (gauges, summaries).
    Unspecified = 0,
    /// Change since the last report.
    Delta = 1,
    /// Total since `start_time`.
    Cumulative = 2,
}

impl Temporality {
    /// The value of the `temporality` column; empty text when not applicable.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "",
            Self::Delta => "delta",
            Self::Cumulative => "cumulative",
        }
    }

    pub(crate) fn from_u8(value: u8) -> Option<Self> {
        [Self::Unspecified, Self::Delta, Self::Cumulative].get(value as usize).copied()
    }
}

/// Value of an attribute, every OTLP `AnyValue` case.
#[derive(Debug, Clone, PartialEq)]
pub enum AttributeValue {
    /// No value set.
    Empty,
    /// Text.
    String(String),
    /// Boolean.
    Bool(bool),
    /// 64-bit integer.
    Int(i64),
    /// Double; NaN and infinities keep their name in text form.
    Double(f64),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// List of values.
    Array(Vec<AttributeValue>),
    /// Nested attributes.
    Map(Attributes),
}

/// Attributes sorted by key, each key once.
pub type Attributes = Vec<(String, AttributeValue)>;

impl AttributeValue {
    /// OTLP's JSON form without the wrapper, typed: text, numbers and booleans as themselves, bytes as `{"$bytes": hex}`.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Empty => Value::Null,
            Self::String(text) => json!(text),
            Self::Bool(value) => json!(value),
            Self::Int(value) => json!(value),
            Self::Double(value) if value.is_finite() => json!({ "$double": value }),
            Self::Double(value) => json!({ "$double": value.to_string() }),
            Self::Bytes(bytes) => json!({ "$bytes": hex(bytes) }),
            Self::Array(values) => Value::Array(values.iter().map(Self::to_json).collect()),
            Self::Map(attributes) => attributes_json(attributes),
        }
    }

    /// What a label or MAP column shows: scalars as plain text, lists and maps as JSON.
    pub fn to_text(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::String(text) => text.clone(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Double(value) => value.to_string(),
            Self::Bytes(bytes) => hex(bytes),
            Self::Array(_) | Self::Map(_) => self.to_json().to_string(),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

fn attributes_json(attributes: &Attributes) -> Value {
    // Ordered here and not left to `Map`, whose order depends on a feature that any dependency may switch on.
    let sorted: BTreeMap<_, _> = attributes.iter().map(|(key, value)| (key.clone(), value.to_json())).collect();
    Value::Object(sorted.into_iter().collect::<Map<_, _>>())
}

/// Everything that makes a series itself, and its description (which does not).
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesDefinition {
    /// Metric name as received.
    pub metric: Arc<str>,
    /// UCUM unit as received.
    pub unit: Arc<str>,
    /// Free text; not part of the identity.
    pub description: Arc<str>,
    /// Point kind.
    pub kind: Kind,
    /// Aggregation temporality.
    pub temporality: Temporality,
    /// Whether a sum only grows.
    pub monotonic: bool,
    /// Upper bounds of explicit histogram buckets, increasing; empty for other kinds.
    pub bounds: Vec<f64>,
    /// Resource attributes, shared by the series of a resource (see [`Interner`](crate::Interner)).
    pub resource: Arc<Attributes>,
    /// Instrumentation scope name.
    pub scope_name: Arc<str>,
    /// Instrumentation scope version.
    pub scope_version: Arc<str>,
    /// Instrumentation scope attributes.
    pub scope: Arc<Attributes>,
    /// Data point attributes.
    pub point: Attributes,
}

/// A series with its ids.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// 64-bit id, the join key.
    pub id: SeriesId,
    /// 128-bit fingerprint that detects a collision of ids.
    pub fingerprint: u128,
    /// What the ids were computed from.
    pub definition: SeriesDefinition,
}

impl Series {
    /// Computes the ids of `definition`. Attributes are sorted by key; of a repeated key the last value stays.
    pub fn new(mut definition: SeriesDefinition) -> Arc<Self> {
        for shared in [&mut definition.resource, &mut definition.scope] {
            // Copied only if there is something to sort: an interned list is sorted.
            if !is_sorted(shared) {
                sort(Arc::make_mut(shared));
            }
        }
        sort(&mut definition.point);
        let identity = definition.identity();
        Arc::new(Self {
            id: SeriesId(xxh3_64(identity.as_bytes())),
            fingerprint: xxh3_128(identity.as_bytes()),
            definition,
        })
    }

    /// The identity text: canonical JSON, the preimage of both hashes. Computed anew: it is longer than all the rest.
    pub fn identity(&self) -> String {
        self.definition.identity()
    }
}

/// What the allocator adds to each block, about.
const BLOCK_SIZE_BYTES: usize = 16;
/// The counters of an `Arc`.
const COUNTERS_SIZE_BYTES: usize = 2 * size_of::<usize>();

impl Series {
    /// Bytes of memory that this series takes, blocks of the allocator included. An estimate from capacities; of what it
    /// shares with other series, its part.
    pub fn size_bytes(&self) -> usize {
        let definition = &self.definition;
        let texts = [
            &definition.metric,
            &definition.unit,
            &definition.description,
            &definition.scope_name,
            &definition.scope_version,
        ];
        let lists = [&definition.resource, &definition.scope];
        let list_size =
            |list: &Attributes| block(COUNTERS_SIZE_BYTES + size_of_val(list)) + attributes_size_bytes(list);
        block(COUNTERS_SIZE_BYTES + size_of::<Self>())
            + texts.into_iter().map(|text| part(text, block(COUNTERS_SIZE_BYTES + text.len()))).sum::<usize>()
            + lists.into_iter().map(|list| part(list, list_size(list))).sum::<usize>()
            + attributes_size_bytes(&definition.point)
            + block(definition.bounds.capacity() * size_of::<f64>())
    }
}

/// The part of one holder of `shared`, which takes `size_bytes`.
fn part<T: ?Sized>(shared: &Arc<T>, size_bytes: usize) -> usize {
    size_bytes.div_ceil(Arc::strong_count(shared))
}

fn block(size_bytes: usize) -> usize {
    if size_bytes == 0 { 0 } else { size_bytes + BLOCK_SIZE_BYTES }
}

fn attributes_size_bytes(attributes: &Attributes) -> usize {
    let contents = attributes.iter().map(|(key, value)| block(key.capacity()) + value.size_bytes());
    block(attributes.capacity() * size_of::<(String, AttributeValue)>()) + contents.sum::<usize>()
}

impl AttributeValue {
    /// Bytes outside of the value itself.
    fn size_bytes(&self) -> usize {
        match self {
            Self::Empty | Self::Bool(_) | Self::Int(_) | Self::Double(_) => 0,
            Self::String(text) => block(text.capacity()),
            Self::Bytes(bytes) => block(bytes.capacity()),
            Self::Array(values) => {
                block(values.capacity() * size_of::<Self>()) + values.iter().map(Self::size_bytes).sum::<usize>()
            }
            Self::Map(attributes) => attributes_size_bytes(attributes),
        }
    }
}

/// The identity text: these fields in this order.
#[derive(Serialize)]
struct Identity<'a> {
    metric: &'a str,
    unit: &'a str,
    kind: &'static str,
    temporality: &'static str,
    monotonic: bool,
    bounds: &'a [f64],
    resource: Value,
    scope_name: &'a str,
    scope_version: &'a str,
    scope: Value,
    point: Value,
}

/// Whether keys increase, so that none is repeated.
fn is_sorted(attributes: &Attributes) -> bool {
    attributes.is_sorted_by(|a, b| a.0 < b.0)
}

/// Sorts by key; of a repeated key the last value stays.
pub(crate) fn sort(attributes: &mut Attributes) {
    if is_sorted(attributes) {
        return;
    }
    // The sort is stable, so of equal keys the last received is last, and reversing lets `dedup` keep it.
    attributes.sort_by(|a, b| a.0.cmp(&b.0));
    attributes.reverse();
    attributes.dedup_by(|later, earlier| later.0 == earlier.0);
    attributes.reverse();
}

impl SeriesDefinition {
    fn identity(&self) -> String {
        let identity = Identity {
            metric: &self.metric,
            unit: &self.unit,
            kind: self.kind.as_str(),
            temporality: self.temporality.as_str(),
            monotonic: self.monotonic,
            bounds: &self.bounds,
            resource: attributes_json(&self.resource),
            scope_name: &self.scope_name,
            scope_version: &self.scope_version,
            scope: attributes_json(&self.scope),
            point: attributes_json(&self.point),
        };
        serde_json::to_string(&identity).expect("text keys and plain values always serialise")
    }

    /// The value of `key`: point attributes first, then scope, then resource.
    pub fn attribute(&self, key: &str) -> Option<&AttributeValue> {
        [&self.point, &*self.scope, &*self.resource]
            .into_iter()
            .find_map(|attributes| attributes.iter().find(|(name, _)| name == key).map(|(_, value)| value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(point: Attributes) -> SeriesDefinition {
        SeriesDefinition {
            metric: "m".into(),
            unit: "1".into(),
            description: "".into(),
            kind: Kind::Gauge,
            temporality: Temporality::Unspecified,
            monotonic: false,
            bounds: vec![],
            resource: vec![].into(),
            scope_name: "".into(),
            scope_version: "".into(),
            scope: vec![].into(),
            point,
        }
    }

    #[test]
    fn identity_ignores_attribute_order_and_keeps_the_last_of_repeated_keys() {
        let text = |value: &str| AttributeValue::String(value.into());
        let one =
            Series::new(definition(vec![("a".into(), text("old")), ("b".into(), text("y")), ("a".into(), text("x"))]));
        let two = Series::new(definition(vec![("b".into(), text("y")), ("a".into(), text("x"))]));
        assert_eq!(one.id, two.id);
        assert_eq!(one.definition.point, two.definition.point);
    }

    #[test]
    fn identity_tells_types_apart() {
        let values = [
            AttributeValue::Int(1),
            AttributeValue::Double(1.0),
            AttributeValue::String("1".into()),
            AttributeValue::Bytes(vec![1]),
        ];
        let ids: std::collections::HashSet<_> =
            values.into_iter().map(|value| Series::new(definition(vec![("k".into(), value)])).id).collect();
        assert_eq!(ids.len(), 4);
    }
}
