//! The fields of OTLP/JSON that are kept: name, number, type.
//!
//! Exemplars (with their hexadecimal ids) and entity references are not stored, so they are absent and get skipped.
//!
//! Source: `opentelemetry/proto/metrics/v1/metrics.proto` and `common.proto`, version 1.

/// Fields of one message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) fields: &'static [Field],
}

/// One field.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) number: u32,
    pub(super) kind: Kind,
}

/// How a value is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Text,
    Base64,
    Double,
    Fixed64,
    SFixed64,
    Uint32,
    Uint64,
    Int64,
    Sint32,
    Bool,
    /// Names of the values 0, 1, 2, …
    Enum(&'static [&'static str]),
    Message(&'static Message),
}

const fn field(name: &'static str, number: u32, kind: Kind) -> Field {
    Field { name, number, kind }
}

/// `ExportMetricsServiceRequest`.
pub(super) static REQUEST: Message =
    Message { fields: &[field("resourceMetrics", 1, Kind::Message(&RESOURCE_METRICS))] };

static RESOURCE_METRICS: Message = Message {
    fields: &[field("resource", 1, Kind::Message(&RESOURCE)), field("scopeMetrics", 2, Kind::Message(&SCOPE_METRICS))],
};

static RESOURCE: Message = Message { fields: &[field("attributes", 1, Kind::Message(&KEY_VALUE))] };

static SCOPE_METRICS: Message =
    Message { fields: &[field("scope", 1, Kind::Message(&SCOPE)), field("metrics", 2, Kind::Message(&METRIC))] };

static SCOPE: Message = Message {
    fields: &[
        field("name", 1, Kind::Text),
        field("version", 2, Kind::Text),
        field("attributes", 3, Kind::Message(&KEY_VALUE)),
    ],
};

static METRIC: Message = Message {
    fields: &[
        field("name", 1, Kind::Text),
        field("description", 2, Kind::Text),
        field("unit", 3, Kind::Text),
        field("gauge", 5, Kind::Message(&GAUGE)),
        field("sum", 7, Kind::Message(&SUM)),
        field("histogram", 9, Kind::Message(&HISTOGRAM)),
        field("exponentialHistogram", 10, Kind::Message(&EXPONENTIAL_HISTOGRAM)),
        field("summary", 11, Kind::Message(&SUMMARY)),
    ],
};

const TEMPORALITY: Kind = Kind::Enum(&[
    "AGGREGATION_TEMPORALITY_UNSPECIFIED",
    "AGGREGATION_TEMPORALITY_DELTA",
    "AGGREGATION_TEMPORALITY_CUMULATIVE",
]);

static GAUGE: Message = Message { fields: &[field("dataPoints", 1, Kind::Message(&NUMBER_POINT))] };

static SUM: Message = Message {
    fields: &[
        field("dataPoints", 1, Kind::Message(&NUMBER_POINT)),
        field("aggregationTemporality", 2, TEMPORALITY),
        field("isMonotonic", 3, Kind::Bool),
    ],
};

static HISTOGRAM: Message = Message {
    fields: &[field("dataPoints", 1, Kind::Message(&HISTOGRAM_POINT)), field("aggregationTemporality", 2, TEMPORALITY)],
};

static EXPONENTIAL_HISTOGRAM: Message = Message {
    fields: &[
        field("dataPoints", 1, Kind::Message(&EXPONENTIAL_POINT)),
        field("aggregationTemporality", 2, TEMPORALITY),
    ],
};

static SUMMARY: Message = Message { fields: &[field("dataPoints", 1, Kind::Message(&SUMMARY_POINT))] };

static NUMBER_POINT: Message = Message {
    fields: &[
        field("startTimeUnixNano", 2, Kind::Fixed64),
        field("timeUnixNano", 3, Kind::Fixed64),
        field("asDouble", 4, Kind::Double),
        field("asInt", 6, Kind::SFixed64),
        field("attributes", 7, Kind::Message(&KEY_VALUE)),
        field("flags", 8, Kind::Uint32),
    ],
};

static HISTOGRAM_POINT: Message = Message {
    fields: &[
        field("startTimeUnixNano", 2, Kind::Fixed64),
        field("timeUnixNano", 3, Kind::Fixed64),
        field("count", 4, Kind::Fixed64),
        field("sum", 5, Kind::Double),
        field("bucketCounts", 6, Kind::Fixed64),
        field("explicitBounds", 7, Kind::Double),
        field("attributes", 9, Kind::Message(&KEY_VALUE)),
        field("flags", 10, Kind::Uint32),
        field("min", 11, Kind::Double),
        field("max", 12, Kind::Double),
    ],
};

static EXPONENTIAL_POINT: Message = Message {
    fields: &[
        field("attributes", 1, Kind::Message(&KEY_VALUE)),
        field("startTimeUnixNano", 2, Kind::Fixed64),
        field("timeUnixNano", 3, Kind::Fixed64),
        field("count", 4, Kind::Fixed64),
        field("sum", 5, Kind::Double),
        field("scale", 6, Kind::Sint32),
        field("zeroCount", 7, Kind::Fixed64),
        field("positive", 8, Kind::Message(&BUCKETS)),
        field("negative", 9, Kind::Message(&BUCKETS)),
        field("flags", 10, Kind::Uint32),
        field("min", 12, Kind::Double),
        field("max", 13, Kind::Double),
        field("zeroThreshold", 14, Kind::Double),
    ],
};

static BUCKETS: Message =
    Message { fields: &[field("offset", 1, Kind::Sint32), field("bucketCounts", 2, Kind::Uint64)] };

static SUMMARY_POINT: Message = Message {
    fields: &[
        field("startTimeUnixNano", 2, Kind::Fixed64),
        field("timeUnixNano", 3, Kind::Fixed64),
        field("count", 4, Kind::Fixed64),
        field("sum", 5, Kind::Double),
        field("quantileValues", 6, Kind::Message(&QUANTILE)),
        field("attributes", 7, Kind::Message(&KEY_VALUE)),
        field("flags", 8, Kind::Uint32),
    ],
};

static QUANTILE: Message = Message { fields: &[field("quantile", 1, Kind::Double), field("value", 2, Kind::Double)] };

static KEY_VALUE: Message =
    Message { fields: &[field("key", 1, Kind::Text), field("value", 2, Kind::Message(&ANY_VALUE))] };

static ANY_VALUE: Message = Message {
    fields: &[
        field("stringValue", 1, Kind::Text),
        field("boolValue", 2, Kind::Bool),
        field("intValue", 3, Kind::Int64),
        field("doubleValue", 4, Kind::Double),
        field("arrayValue", 5, Kind::Message(&VALUES)),
        field("kvlistValue", 6, Kind::Message(&KEY_VALUES)),
        field("bytesValue", 7, Kind::Base64),
    ],
};

static VALUES: Message = Message { fields: &[field("values", 1, Kind::Message(&ANY_VALUE))] };
static KEY_VALUES: Message = Message { fields: &[field("values", 1, Kind::Message(&KEY_VALUE))] };
