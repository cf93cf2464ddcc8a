//! Rows as OTLP: a gauge for each column of numbers, a counter of deltas for each column that is counted.

use driftwatt_analyze::dated_rows::{Cell, DatedFile, DatedRows};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::KeyValue,
    metrics::v1::{DataPointFlags, NumberDataPoint, number_data_point::Value},
};

use crate::otlp::{attribute, delta_counter, gauge, point, resource_metrics};

/// Points of one request: a few megabytes with their labels.
const POINTS_PER_REQUEST: usize = 10_000;
/// What its metrics call their instrumentation scope.
const SCOPE: &str = "driftwatt.import";
/// The label that tells the points of one file from those of others.
pub(super) const DATASET: &str = "driftwatt.dataset";

/// What the points of a file are called.
#[derive(Debug, Clone)]
pub(super) struct Naming {
    pub(super) prefix: String,
    pub(super) dataset: String,
    pub(super) service: Option<String>,
}

impl Naming {
    /// The metric of a column.
    pub(super) fn metric(&self, column: &str) -> String {
        format!("{}{column}", self.prefix)
    }
}

/// The requests for some rows, each with the number of rows up to its end.
pub(super) fn of_rows(
    file: &DatedFile,
    rows: DatedRows,
    naming: &Naming,
) -> impl Iterator<Item = (ExportMetricsServiceRequest, u64)> + use<> {
    let (values, categories, labels) = (
        file.values().map(|column| naming.metric(column)).collect::<Vec<_>>(),
        file.categories().map(|column| (naming.metric(column), column.to_owned())).collect::<Vec<_>>(),
        file.labels().map(str::to_owned).collect::<Vec<_>>(),
    );
    let mut resource = vec![attribute(DATASET, naming.dataset.clone())];
    resource.extend(naming.service.as_ref().map(|service| attribute("service.name", service.clone())));
    let step = (POINTS_PER_REQUEST / (values.len() + categories.len()).max(1)).max(1);
    let count = rows.times_us.len();
    (0..count).step_by(step).map(move |from| {
        let range = from..(from + step).min(count);
        let labels_of = |row: usize| -> Vec<KeyValue> {
            let pairs = labels.iter().zip(&rows.labels);
            pairs.filter_map(|(name, texts)| Some(attribute(name, texts[row].clone()?))).collect()
        };
        let dated = |row: usize| Some((row, nanos(rows.times_us[row]?)?));
        let times: Vec<(usize, u64, Vec<KeyValue>)> =
            range.clone().filter_map(dated).map(|(row, time)| (row, time, labels_of(row))).collect();
        let gauges = values.iter().zip(&rows.values).map(|(metric, cells)| {
            gauge(metric, "1", times.iter().map(|(row, time, labels)| value(cells[*row], *time, labels)).collect())
        });
        let counters = categories.iter().zip(&rows.categories).map(|((metric, column), texts)| {
            delta_counter(metric, "{row}", times.iter().map(|of| counted(column, texts[of.0].as_ref(), of)).collect())
        });
        let metrics = gauges.chain(counters).collect();
        let resource_metrics = vec![resource_metrics(SCOPE, resource.clone(), metrics)];
        (ExportMetricsServiceRequest { resource_metrics }, rows.first_row + range.end as u64)
    })
}

/// Nanoseconds of a time after 1970; what is before is no time of OTLP.
fn nanos(time_us: i64) -> Option<u64> {
    u64::try_from(time_us).ok()?.checked_mul(1_000)
}

/// An empty cell is a point without a value: that something is missing is known, too.
fn value(cell: Cell, time: u64, labels: &[KeyValue]) -> NumberDataPoint {
    match cell {
        Cell::Integer(number) => point(time, Value::AsInt(number), labels),
        Cell::Double(number) => point(time, Value::AsDouble(number), labels),
        Cell::Missing => NumberDataPoint {
            attributes: labels.to_vec(),
            time_unix_nano: time,
            flags: DataPointFlags::NoRecordedValueMask as u32,
            ..NumberDataPoint::default()
        },
    }
}

/// One row with the category `text`.
fn counted(column: &str, text: Option<&String>, (_, time, labels): &(usize, u64, Vec<KeyValue>)) -> NumberDataPoint {
    let mut labels = labels.clone();
    labels.extend(text.map(|text| attribute(column, text.clone())));
    NumberDataPoint { start_time_unix_nano: time.saturating_sub(1_000), ..point(*time, Value::AsInt(1), &labels) }
}
