//! The views analysts query, as SQL over `raw`.
//!
//! Roles and labels are resolved on `raw.series`, which is small, and joined to the points by `(series_id, date)`; the
//! list of metric names is repeated on the points, so that only files and row groups with those metrics are read.

use driftwatt_store::PROMOTED;

use crate::roles::{Role, View};

/// Labels in the order of the contract; `team` and `region` came later.
const LABELS: &str = "d.service_name, d.service_instance_id, d.host_name, d.k8s_namespace, d.k8s_pod, d.gpu_id, \
     d.gpu_model, d.model_name, d.model_version, d.deployment_environment, d.attributes, d.team, d.region";

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// `metrics`: number points with their labels.
pub(crate) fn metrics() -> String {
    format!(
        "SELECT s.time, s.metric, s.value, d.kind, d.unit, d.temporality, s.series_id, {LABELS} \
         FROM raw.samples s JOIN raw.series d ON s.series_id = d.series_id AND s.date = d.date"
    )
}

/// `histograms`: histogram and summary points with their labels and bounds.
pub(crate) fn histograms() -> String {
    format!(
        "SELECT h.time, h.start_time, h.metric, h.count, h.sum, h.min, h.max, d.bounds, h.bucket_counts, h.scale, \
         h.zero_count, h.zero_threshold, h.positive_offset, h.positive_counts, h.negative_offset, h.negative_counts, \
         h.quantiles, h.quantile_values, d.kind, d.unit, d.temporality, h.series_id, {LABELS} \
         FROM raw.histograms h JOIN raw.series d ON h.series_id = d.series_id AND h.date = d.date"
    )
}

/// The SQL condition under which a series has `role`.
fn condition(role: &Role) -> String {
    let mut condition = format!("metric = {}", quoted(&role.metric));
    for (key, value) in &role.when {
        let column = match PROMOTED.iter().find(|label| label.keys.contains(&key.as_str())) {
            Some(label) => label.column.to_owned(),
            None => format!("attributes[{}]", quoted(key)),
        };
        condition += &format!(" AND {column} = {}", quoted(value));
    }
    condition
}

fn case(rows: &[&Role], value: impl Fn(&Role) -> String) -> String {
    let arms: Vec<_> = rows.iter().map(|role| format!("WHEN {} THEN {}", condition(role), value(role))).collect();
    format!("CASE {} END", arms.join(" "))
}

/// A role view: points of every metric that has a role in `view`, in canonical units.
pub(crate) fn roles(view: View, table: &[Role]) -> String {
    let rows: Vec<&Role> = table.iter().filter(|role| role.view == view).collect();
    let mut names: Vec<_> = rows.iter().map(|role| quoted(&role.metric)).collect();
    names.dedup();
    let names = names.join(", ");
    let blank = |role: &Role| role.blank_from.map_or("NULL".to_owned(), |from| format!("CAST({from:?} AS DOUBLE)"));
    let known = format!(
        "(SELECT *, {} AS canonical_unit, CAST({} AS DOUBLE) AS factor, CAST({} AS DOUBLE) AS blank_from \
         FROM (SELECT *, {} AS role FROM raw.series WHERE metric IN ({names})) WHERE role IS NOT NULL)",
        case(&rows, |role| quoted(&role.unit)),
        case(&rows, |role| format!("{:?}", role.scale)),
        case(&rows, blank),
        case(&rows, |role| quoted(&role.role)),
    );
    let numbers = format!(
        "SELECT s.time, d.role, CASE WHEN d.blank_from IS NOT NULL AND s.value >= d.blank_from THEN NULL \
         ELSE s.value * d.factor END AS value, d.canonical_unit AS unit, {LABELS}, s.metric, \
         CAST(NULL AS BIGINT) AS count, CAST(NULL AS DOUBLE) AS sum, s.series_id \
         FROM (SELECT * FROM raw.samples WHERE metric IN ({names})) s \
         JOIN {known} d ON s.series_id = d.series_id AND s.date = d.date"
    );
    if !matches!(view, View::Latency | View::Inputs) {
        return numbers;
    }
    format!(
        "{numbers} UNION ALL \
         SELECT h.time, d.role, CASE WHEN h.count > 0 THEN h.sum / h.count * d.factor END AS value, \
         d.canonical_unit AS unit, {LABELS}, h.metric, h.count, h.sum * d.factor AS sum, h.series_id \
         FROM (SELECT * FROM raw.histograms WHERE metric IN ({names})) h \
         JOIN {known} d ON h.series_id = d.series_id AND h.date = d.date"
    )
}
