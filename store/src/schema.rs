//! Arrow schemas of the durable tables, `date` (the partition) last.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use crate::state::WalTable;

/// A label with a column of its own, and the attribute keys that fill it, first match wins.
#[derive(Debug, Clone, Copy)]
pub struct Promoted {
    /// Column name.
    pub column: &'static str,
    /// Attribute keys in order of preference.
    pub keys: &'static [&'static str],
}

/// Promoted attributes in column order.
pub const PROMOTED: &[Promoted] = &[
    Promoted { column: "service_name", keys: &["service.name"] },
    Promoted { column: "service_namespace", keys: &["service.namespace"] },
    Promoted { column: "service_instance_id", keys: &["service.instance.id"] },
    Promoted { column: "host_name", keys: &["host.name", "Hostname", "hostname"] },
    Promoted { column: "k8s_cluster", keys: &["k8s.cluster.name"] },
    Promoted { column: "k8s_namespace", keys: &["k8s.namespace.name", "exported_namespace", "namespace"] },
    Promoted { column: "k8s_node", keys: &["k8s.node.name"] },
    Promoted { column: "k8s_pod", keys: &["k8s.pod.name", "exported_pod", "pod"] },
    Promoted { column: "k8s_container", keys: &["k8s.container.name", "exported_container", "container"] },
    Promoted { column: "gpu_id", keys: &["hw.id", "UUID", "gpu_uuid"] },
    Promoted { column: "gpu_model", keys: &["hw.model", "modelName"] },
    Promoted {
        column: "model_name",
        keys: &["driftwatt.model.name", "gen_ai.request.model", "gen_ai.response.model", "model_name"],
    },
    Promoted { column: "model_version", keys: &["driftwatt.model.version", "model_version"] },
    Promoted { column: "deployment_environment", keys: &["deployment.environment.name", "deployment.environment"] },
    Promoted { column: "team", keys: &["driftwatt.team", "team", "owner"] },
    Promoted { column: "region", keys: &["cloud.region", "region"] },
];

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", item, true)))
}

fn map() -> DataType {
    let entry = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)]);
    DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entry), false)), false)
}

fn schema(fields: Vec<Field>) -> SchemaRef {
    Arc::new(Schema::new(fields))
}

/// `samples` as queries see it: one row is one number data point, sorted by `(metric, series_id, time)`.
///
/// `value` is the nearest double; `value_int` is set where the source sent an integer that a double cannot hold.
pub fn samples_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        schema(vec![
            Field::new("metric", DataType::Utf8, false),
            Field::new("series_id", DataType::Int64, false),
            Field::new("start_time", timestamp(), true),
            Field::new("time", timestamp(), false),
            Field::new("value", DataType::Float64, true),
            Field::new("value_int", DataType::Int64, true),
            Field::new("date", DataType::Date32, false),
        ])
    });
    Arc::clone(&SCHEMA)
}

/// `samples` as files hold it: the value is `scaled / 10^exponent` where `scaled` is not null, else `value`.
pub(crate) fn samples_file_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        schema(vec![
            Field::new("metric", DataType::Utf8, false),
            Field::new("series_id", DataType::Int64, false),
            Field::new("start_time", timestamp(), true),
            Field::new("time", timestamp(), false),
            Field::new("scaled", DataType::Int64, true),
            Field::new("exponent", DataType::Int32, true),
            Field::new("value", DataType::Float64, true),
            Field::new("date", DataType::Date32, false),
        ])
    });
    Arc::clone(&SCHEMA)
}

/// What queries see of `table`, whose Delta log says `stored`: the same columns, except for the values of `samples`.
pub(crate) fn public_schema(table: &str, stored: &SchemaRef) -> SchemaRef {
    if table == WalTable::Samples.name() { samples_schema() } else { Arc::clone(stored) }
}

/// `histograms`: one row is one explicit or exponential histogram or summary data point.
pub fn histograms_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        schema(vec![
            Field::new("metric", DataType::Utf8, false),
            Field::new("series_id", DataType::Int64, false),
            Field::new("start_time", timestamp(), true),
            Field::new("time", timestamp(), false),
            Field::new("count", DataType::Int64, true),
            Field::new("sum", DataType::Float64, true),
            Field::new("min", DataType::Float64, true),
            Field::new("max", DataType::Float64, true),
            Field::new("bucket_counts", list(DataType::Int64), true),
            Field::new("scale", DataType::Int32, true),
            Field::new("zero_count", DataType::Int64, true),
            Field::new("zero_threshold", DataType::Float64, true),
            Field::new("positive_offset", DataType::Int32, true),
            Field::new("positive_counts", list(DataType::Int64), true),
            Field::new("negative_offset", DataType::Int32, true),
            Field::new("negative_counts", list(DataType::Int64), true),
            Field::new("quantiles", list(DataType::Float64), true),
            Field::new("quantile_values", list(DataType::Float64), true),
            Field::new("date", DataType::Date32, false),
        ])
    });
    Arc::clone(&SCHEMA)
}

/// `series`: one row is one series active on that day. `fingerprint` is 32 hex digits; `identity` is the canonical JSON
/// that both ids hash; `attributes` holds what has no column of its own, point before scope before resource.
pub fn series_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let mut fields = vec![
            Field::new("metric", DataType::Utf8, false),
            Field::new("series_id", DataType::Int64, false),
            Field::new("fingerprint", DataType::Utf8, false),
            Field::new("kind", DataType::Utf8, false),
            Field::new("unit", DataType::Utf8, false),
            Field::new("description", DataType::Utf8, false),
            Field::new("temporality", DataType::Utf8, false),
            Field::new("monotonic", DataType::Boolean, false),
            Field::new("bounds", list(DataType::Float64), true),
        ];
        fields.extend(PROMOTED.iter().map(|label| Field::new(label.column, DataType::Utf8, true)));
        fields.extend([
            Field::new("attributes", map(), false),
            Field::new("identity", DataType::Utf8, false),
            Field::new("first_time", timestamp(), false),
            Field::new("last_time", timestamp(), false),
            Field::new("date", DataType::Date32, false),
        ]);
        schema(fields)
    });
    Arc::clone(&SCHEMA)
}

/// `rejections`: one row counts the points of one request that were refused for one reason.
pub fn rejections_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        schema(vec![
            Field::new("time", timestamp(), false),
            Field::new("reason", DataType::Utf8, false),
            Field::new("metric", DataType::Utf8, false),
            Field::new("count", DataType::Int64, false),
            Field::new("message", DataType::Utf8, false),
            Field::new("date", DataType::Date32, false),
        ])
    });
    Arc::clone(&SCHEMA)
}
