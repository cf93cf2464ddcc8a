//! The views analysts query, as SQL over `raw`.
//!
//! Roles and labels are resolved on `raw.series`, which is small, and joined to the points by series, metric and day.
//! `series` stands on the left of every join: the engine builds its hash table from the left side where it has no
//! statistics, and pushes the series it found into the scan of the points. `metric` is a join key, so that a predicate on
//! it reaches both scans; a predicate on the role becomes one on the metric by the rule `MetricsOfRole`.
//!
//! A role view is a union of arms, each over points of one kind. The rule drops the arms that cannot have the role that is
//! asked for, so that a question about a gauge does not read counters.

mod derived;
mod points;
mod series;

use crate::roles::{RoleOf, RoleTable, View};

pub(crate) use points::gpu_series;
pub(crate) use series::{resolved, with_device};

/// Labels in the order of the contract; `team` and `region` came later.
pub(crate) const LABELS: [&str; 13] = [
    "service_name",
    "service_instance_id",
    "host_name",
    "k8s_namespace",
    "k8s_pod",
    "gpu_id",
    "gpu_model",
    "model_name",
    "model_version",
    "deployment_environment",
    "attributes",
    "team",
    "region",
];

/// Further labels of the role views.
pub(crate) const ROLE_LABELS: [&str; 4] = ["k8s_node", "k8s_container", "mig_id", "mig_profile"];

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn columns_of(alias: &str, names: &[&str]) -> String {
    names.iter().map(|name| format!("{alias}.{name}")).collect::<Vec<_>>().join(", ")
}

/// The join of points `alias` with their series `d`.
fn on(alias: &str) -> String {
    format!("{alias}.series_id = d.series_id AND {alias}.metric = d.metric AND {alias}.date = d.date")
}

/// `metrics`: number points with their labels.
pub(crate) fn metrics() -> String {
    format!(
        "SELECT s.time, s.metric, s.value, d.kind, d.unit, d.temporality, s.series_id, {} \
         FROM raw.series d JOIN raw.samples s ON {}",
        columns_of("d", &LABELS),
        on("s")
    )
}

/// `histograms`: histogram and summary points with their labels and bounds.
pub(crate) fn histograms() -> String {
    format!(
        "SELECT h.time, h.start_time, h.metric, h.count, h.sum, h.min, h.max, d.bounds, h.bucket_counts, h.scale, \
         h.zero_count, h.zero_threshold, h.positive_offset, h.positive_counts, h.negative_offset, h.negative_counts, \
         h.quantiles, h.quantile_values, d.kind, d.unit, d.temporality, h.series_id, {} \
         FROM raw.series d JOIN raw.histograms h ON {}",
        columns_of("d", &LABELS),
        on("h")
    )
}

/// A role view: points of every metric that has a role in `view`, and what follows from them, in canonical units.
pub(crate) fn roles(view: View, table: &RoleTable, function: &RoleOf) -> String {
    let mut arms = vec![points::numbers(view, table, function), derived::rates(view, table, function)];
    if view == View::Gpu {
        arms.push(points::profiling(table, function));
    }
    if matches!(view, View::Latency | View::Inputs | View::Models) {
        arms.push(points::delta_histograms(view, table, function));
        arms.push(derived::histograms(view, table, function));
    }
    arms.extend(derived::quotients(view, table, function));
    arms.join(" UNION ALL ")
}
