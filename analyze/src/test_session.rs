//! A session with the views that the query crate makes, filled by a test.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{
            ArrayRef, Date32Array, Float64Array, Int64Array, MapBuilder, RecordBatch, StringArray, StringBuilder,
            TimestampMicrosecondArray,
        },
        datatypes::{Field, Schema},
    },
    catalog::{MemTable, MemorySchemaProvider},
    prelude::{SessionConfig, SessionContext},
};
use driftwatt_store::{PROMOTED, histograms_schema, series_schema};

/// One sample of a view.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    pub(crate) time_us: i64,
    pub(crate) role: &'static str,
    pub(crate) value: f64,
    pub(crate) labels: Vec<(&'static str, String)>,
    pub(crate) simulated: bool,
}

/// One row of `raw.series`.
#[derive(Debug, Clone, Default)]
pub(crate) struct SeriesRow {
    pub(crate) last_us: i64,
    pub(crate) labels: Vec<(&'static str, String)>,
    pub(crate) simulated: bool,
    pub(crate) attributes: Vec<(&'static str, &'static str)>,
    /// Name, kind and temporality; null where empty. A sum goes up.
    pub(crate) metric: [&'static str; 3],
}

fn times(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
}

fn label(labels: &[(&'static str, String)], column: &str) -> Option<String> {
    labels.iter().find(|(name, _)| *name == column).map(|(_, value)| value.clone())
}

fn attributes(simulated: impl Iterator<Item = bool>) -> ArrayRef {
    maps(simulated.map(|simulated| (simulated, vec![])))
}

/// Labels of a sample that have no column of their own.
fn other_labels(sample: &Sample) -> Vec<(&'static str, &str)> {
    let has_column = |name: &str| {
        ["metric", "scope", "mig_id", "source", "shared_by"].contains(&name)
            || PROMOTED.iter().any(|promoted| promoted.column == name)
    };
    let others = sample.labels.iter().filter(|(name, _)| !has_column(name));
    others.map(|(name, value)| (*name, value.as_str())).collect()
}

fn maps<'a>(rows: impl Iterator<Item = (bool, Vec<(&'static str, &'a str)>)>) -> ArrayRef {
    let mut builder = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for (simulated, others) in rows {
        let simulated = simulated.then_some(("driftwatt.simulated", "true"));
        for (key, value) in simulated.iter().chain(&others) {
            builder.keys().append_value(key);
            builder.values().append_value(value);
        }
        builder.append(true).unwrap();
    }
    Arc::new(builder.finish())
}

/// Number of the series of a sample: by its role and labels.
fn series_id(sample: &Sample) -> i64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    (sample.role, &sample.labels, sample.simulated).hash(&mut hasher);
    hasher.finish().cast_signed()
}

/// `system.gpu_series`: a row for each sample, which says the same several times.
fn gpu_series(samples: &[Sample]) -> RecordBatch {
    let batch = view(samples);
    let mut columns: Vec<(String, ArrayRef)> =
        batch.schema().fields().iter().map(|field| field.name().clone()).zip(batch.columns().iter().cloned()).collect();
    let shared_by =
        |sample: &Sample| label(&sample.labels, "shared_by").and_then(|count| count.parse().ok()).unwrap_or(1);
    columns.push(("shared_by".into(), Arc::new(Int64Array::from_iter_values(samples.iter().map(shared_by)))));
    columns.push(("first_time".into(), times(samples.iter().map(|sample| sample.time_us))));
    columns.push(("last_time".into(), times(samples.iter().map(|sample| sample.time_us))));
    let days = samples.iter().map(|sample| sample.time_us.div_euclid(crate::window::DAY_US) as i32);
    columns.push(("date".into(), Arc::new(Date32Array::from_iter_values(days))));
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| Field::new(name, column.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, column)| column).collect())
        .unwrap()
}

/// Share of the card: slice `one` is a seventh of it, any other two.
fn share(sample: &Sample) -> f64 {
    match label(&sample.labels, "mig_id").as_deref() {
        Some("one") => 1.0 / 7.0,
        Some(_) => 2.0 / 7.0,
        None => 1.0,
    }
}

fn view(samples: &[Sample]) -> RecordBatch {
    let text = |values: Vec<Option<String>>| Arc::new(StringArray::from(values)) as ArrayRef;
    let roles = || samples.iter().map(|sample| Some(sample.role.to_owned())).collect::<Vec<_>>();
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("time".into(), times(samples.iter().map(|sample| sample.time_us))),
        ("role".into(), text(roles())),
        (
            "metric".into(),
            text(samples.iter().map(|one| label(&one.labels, "metric").or(Some(one.role.into()))).collect()),
        ),
        ("count".into(), Arc::new(Int64Array::from(vec![1; samples.len()]))),
        ("sum".into(), Arc::new(Float64Array::from_iter_values(samples.iter().map(|sample| sample.value)))),
        ("share".into(), Arc::new(Float64Array::from_iter_values(samples.iter().map(share)))),
        (
            "scope".into(),
            text(samples.iter().map(|sample| label(&sample.labels, "scope").or(Some("node".into()))).collect()),
        ),
        ("series_id".into(), Arc::new(Int64Array::from_iter_values(samples.iter().map(series_id)))),
        ("value".into(), Arc::new(Float64Array::from_iter_values(samples.iter().map(|sample| sample.value)))),
        ("attributes".into(), maps(samples.iter().map(|sample| (sample.simulated, other_labels(sample))))),
    ];
    for column in PROMOTED.iter().map(|promoted| promoted.column).chain(["mig_id", "source"]) {
        let values = samples.iter().map(|sample| label(&sample.labels, column)).collect();
        columns.push((column.into(), text(values)));
    }
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| Field::new(name, column.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, column)| column).collect())
        .unwrap()
}

fn series(rows: &[SeriesRow]) -> RecordBatch {
    let schema = series_schema();
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            "series_id" => Arc::new(Int64Array::from_iter_values(0..rows.len() as i64)),
            "first_time" | "last_time" => times(rows.iter().map(|row| row.last_us)),
            "attributes" => maps(rows.iter().map(|row| (row.simulated, row.attributes.clone()))),
            "date" => Arc::new(Date32Array::from_iter_values(
                rows.iter().map(|row| row.last_us.div_euclid(crate::window::DAY_US) as i32),
            )),
            "monotonic" => {
                let sums = rows.iter().map(|row| Some(row.metric[1] == "sum"));
                Arc::new(sums.collect::<datafusion::arrow::array::BooleanArray>())
            }
            name @ ("metric" | "kind" | "temporality") => {
                let at = ["metric", "kind", "temporality"].iter().position(|known| *known == name).unwrap();
                let texts = rows.iter().map(|row| Some(row.metric[at]).filter(|text| !text.is_empty()));
                Arc::new(texts.collect::<StringArray>())
            }
            name if PROMOTED.iter().any(|promoted| promoted.column == name) => {
                Arc::new(StringArray::from(rows.iter().map(|row| label(&row.labels, name)).collect::<Vec<_>>()))
            }
            _ => datafusion::arrow::array::new_null_array(field.data_type(), rows.len()),
        }
    });
    let columns: Vec<ArrayRef> = columns.collect();
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .zip(&columns)
        .map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true))
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn register(ctx: &SessionContext, name: &str, batch: RecordBatch) {
    let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
    ctx.register_table(name, Arc::new(table)).unwrap();
}

/// Replaces `raw.histograms` and `raw.series` by cumulative explicit histograms of metric `h` with `bounds`; a point is
/// `(series_id, start_us, time_us, counts)`, and series `i` belongs to service `s<i>`.
pub(crate) fn register_histograms(ctx: &SessionContext, bounds: &[f64], points: &[(i64, i64, i64, Vec<i64>)]) {
    use datafusion::arrow::{
        array::{ListArray, new_null_array},
        datatypes::{Float64Type, Int64Type},
    };
    let counts = || -> ArrayRef {
        let lists = points.iter().map(|point| Some(point.3.iter().copied().map(Some).collect::<Vec<_>>()));
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists))
    };
    let bounds = || -> ArrayRef {
        let lists = (0..2).map(|_| Some(bounds.iter().copied().map(Some).collect::<Vec<_>>()));
        Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(lists))
    };
    let build = |schema: Arc<Schema>, of: &dyn Fn(&str) -> Option<ArrayRef>, rows: usize| {
        let columns: Vec<ArrayRef> = schema
            .fields()
            .iter()
            .map(|field| of(field.name()).unwrap_or_else(|| new_null_array(field.data_type(), rows)))
            .collect();
        let fields = schema.fields().iter().zip(&columns);
        let fields: Vec<Field> =
            fields.map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true)).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    };
    let integers = |values: Vec<i64>| Some(Arc::new(Int64Array::from(values)) as ArrayRef);
    let text = |value: &str, rows: usize| Some(Arc::new(StringArray::from(vec![value; rows])) as ArrayRef);
    let dates = |rows: usize| Some(Arc::new(Date32Array::from(vec![0; rows])) as ArrayRef);
    let histograms = |name: &str| match name {
        "metric" => text("h", points.len()),
        "series_id" => integers(points.iter().map(|point| point.0).collect()),
        "start_time" => Some(times(points.iter().map(|point| point.1))),
        "time" => Some(times(points.iter().map(|point| point.2))),
        "count" => integers(points.iter().map(|point| point.3.iter().sum()).collect()),
        "bucket_counts" => Some(counts()),
        "date" => dates(points.len()),
        _ => None,
    };
    let series = |name: &str| match name {
        "metric" => text("h", 2),
        "series_id" => integers(vec![0, 1]),
        "temporality" => text("cumulative", 2),
        "service_name" => Some(Arc::new(StringArray::from(vec!["s0", "s1"])) as ArrayRef),
        "bounds" => Some(bounds()),
        "attributes" => Some(attributes([false, false].into_iter())),
        "date" => dates(2),
        _ => None,
    };
    for (name, batch) in [
        ("raw.histograms", build(histograms_schema(), &histograms, points.len())),
        ("raw.series", build(series_schema(), &series, 2)),
    ] {
        ctx.deregister_table(name).unwrap();
        register(ctx, name, batch);
    }
}

/// Makes `raw.increases` of the points of `metric`: series, time, value, and what it gained since the point before.
pub(crate) fn register_increases(ctx: &SessionContext, metric: &str, points: &[(i64, i64, f64, Option<f64>)]) {
    let days = points.iter().map(|point| point.1.div_euclid(crate::window::DAY_US) as i32);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("metric", Arc::new(StringArray::from(vec![metric; points.len()]))),
        ("series_id", Arc::new(Int64Array::from_iter_values(points.iter().map(|point| point.0)))),
        ("date", Arc::new(Date32Array::from_iter_values(days))),
        ("time", times(points.iter().map(|point| point.1))),
        ("value", Arc::new(Float64Array::from_iter_values(points.iter().map(|point| point.2)))),
        ("increase", Arc::new(points.iter().map(|point| point.3).collect::<Float64Array>())),
    ];
    register(
        ctx,
        "raw.increases",
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
            .unwrap(),
    );
}

/// A session whose views `gpu`, `system`, `inputs` and `metrics` hold `samples` by role, and whose `raw.series` holds `rows`.
pub(crate) fn session(samples: &[Sample], rows: &[SeriesRow]) -> SessionContext {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_information_schema(true));
    ctx.catalog("datafusion").unwrap().register_schema("raw", Arc::new(MemorySchemaProvider::new())).unwrap();
    let of = |keep: &dyn Fn(&str) -> bool| -> Vec<Sample> {
        samples.iter().filter(|sample| keep(sample.role)).cloned().collect()
    };
    register(&ctx, "gpu", view(&of(&|role| role.starts_with("gpu."))));
    ctx.catalog("datafusion").unwrap().register_schema("system", Arc::new(MemorySchemaProvider::new())).unwrap();
    register(&ctx, "system.gpu_series", gpu_series(&of(&|role| role.starts_with("gpu."))));
    let latencies = ["latency.", "queue.", "kv_cache.", "requests."];
    let is_latency = |role: &str| latencies.iter().any(|start| role.starts_with(start));
    register(&ctx, "latency", view(&of(&is_latency)));
    register(&ctx, "inputs", view(&of(&|role| role.starts_with("input.") || role.starts_with("output."))));
    register(
        &ctx,
        "system",
        view(&of(&|role| {
            ["cpu.", "memory.", "collector.", "container.", "replicas.", "quota."]
                .iter()
                .any(|start| role.starts_with(start))
        })),
    );
    register(&ctx, "metrics", view(samples));
    register(&ctx, "raw.series", series(rows));
    let histograms = RecordBatch::new_empty(histograms_schema());
    register(&ctx, "raw.histograms", histograms);
    ctx
}

/// Adds the result table `name` to a session.
pub(crate) fn add_result(ctx: &SessionContext, name: &str, batch: RecordBatch) {
    let catalog = ctx.catalog("datafusion").unwrap();
    if catalog.schema("reports").is_none() {
        catalog.register_schema("reports", Arc::new(MemorySchemaProvider::new())).unwrap();
    }
    let name = format!("reports.{name}");
    ctx.deregister_table(name.as_str()).unwrap();
    register(ctx, &name, batch);
}

/// Labels from pairs.
pub(crate) fn labels(pairs: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    pairs.iter().map(|(column, value)| (*column, (*value).to_owned())).collect()
}
