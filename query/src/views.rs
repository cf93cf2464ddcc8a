//! The views analysts query, as SQL over `raw`.
//!
//! Roles and labels are resolved on `raw.series`, which is small, and joined to the points by series, metric and day.
//! `series` stands on the left of every join: the engine builds its hash table from the left side where it has no
//! statistics, and pushes the series it found into the scan of the points. `metric` is a join key, and its names are
//! repeated on the points of role views, so that a predicate on it reaches both scans.

use driftwatt_store::PROMOTED;

use crate::roles::{Role, View};

/// Labels in the order of the contract; `team` and `region` came later.
const LABELS: &str = "d.service_name, d.service_instance_id, d.host_name, d.k8s_namespace, d.k8s_pod, d.gpu_id, \
     d.gpu_model, d.model_name, d.model_version, d.deployment_environment, d.attributes, d.team, d.region";

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The join of points `alias` with their series `d`.
fn on(alias: &str) -> String {
    format!("{alias}.series_id = d.series_id AND {alias}.metric = d.metric AND {alias}.date = d.date")
}

/// `metrics`: number points with their labels.
pub(crate) fn metrics() -> String {
    format!(
        "SELECT s.time, s.metric, s.value, d.kind, d.unit, d.temporality, s.series_id, {LABELS} \
         FROM raw.series d JOIN raw.samples s ON {}",
        on("s")
    )
}

/// `histograms`: histogram and summary points with their labels and bounds.
pub(crate) fn histograms() -> String {
    format!(
        "SELECT h.time, h.start_time, h.metric, h.count, h.sum, h.min, h.max, d.bounds, h.bucket_counts, h.scale, \
         h.zero_count, h.zero_threshold, h.positive_offset, h.positive_counts, h.negative_offset, h.negative_counts, \
         h.quantiles, h.quantile_values, d.kind, d.unit, d.temporality, h.series_id, {LABELS} \
         FROM raw.series d JOIN raw.histograms h ON {}",
        on("h")
    )
}

/// The SQL condition under which a series has `role`.
fn condition(role: &Role) -> String {
    let mut condition = names(role);
    for (key, value) in &role.when {
        let column = match PROMOTED.iter().find(|label| label.keys.contains(&key.as_str())) {
            Some(label) => label.column.to_owned(),
            None => format!("attributes[{}]", quoted(key)),
        };
        condition += &format!(" AND {column} = {}", quoted(value));
    }
    condition
}

/// The SQL condition on the name only.
fn names(role: &Role) -> String {
    match role.prefix() {
        // A range, unlike LIKE, needs no escapes and prunes files as an equality does.
        Some((first, end)) => format!("(metric >= {} AND metric < {})", quoted(first), quoted(&end)),
        None => format!("metric = {}", quoted(&role.metric)),
    }
}

/// The condition that picks every metric of `rows`.
fn any_name(rows: &[&Role]) -> String {
    let mut exact: Vec<_> =
        rows.iter().filter(|role| role.prefix().is_none()).map(|role| quoted(&role.metric)).collect();
    exact.sort();
    exact.dedup();
    let prefixes = rows.iter().filter(|role| role.prefix().is_some()).map(|role| names(role));
    let listed = (!exact.is_empty()).then(|| format!("metric IN ({})", exact.join(", ")));
    listed.into_iter().chain(prefixes).collect::<Vec<_>>().join(" OR ")
}

fn case(rows: &[&Role], value: impl Fn(&Role) -> String) -> String {
    let arms: Vec<_> = rows.iter().map(|role| format!("WHEN {} THEN {}", condition(role), value(role))).collect();
    format!("CASE {} END", arms.join(" "))
}

fn role_name(role: &Role) -> String {
    match (role.role.strip_suffix('*'), role.prefix()) {
        (Some(start), Some((prefix, _))) => {
            format!("concat({}, substr(metric, {}))", quoted(start), prefix.chars().count() + 1)
        }
        _ => quoted(&role.role),
    }
}

/// A role view: points of every metric that has a role in `view`, in canonical units.
pub(crate) fn roles(view: View, table: &[Role]) -> String {
    let rows: Vec<&Role> = table.iter().filter(|role| role.view == view).collect();
    let listed = any_name(&rows);
    let blank = |role: &Role| role.blank_from.map_or("NULL".to_owned(), |from| format!("CAST({from:?} AS DOUBLE)"));
    let known = format!(
        "(SELECT *, {} AS canonical_unit, CAST({} AS DOUBLE) AS factor, CAST({} AS DOUBLE) AS blank_from \
         FROM (SELECT *, {} AS role FROM raw.series WHERE {listed}) WHERE role IS NOT NULL)",
        case(&rows, |role| if role.unit == "*" { "unit".to_owned() } else { quoted(&role.unit) }),
        case(&rows, |role| format!("{:?}", role.scale)),
        case(&rows, blank),
        case(&rows, role_name),
    );
    let numbers = format!(
        "SELECT s.time, d.role, CASE WHEN d.blank_from IS NOT NULL AND s.value >= d.blank_from THEN NULL \
         ELSE s.value * d.factor END AS value, d.canonical_unit AS unit, {LABELS}, s.metric, \
         CAST(NULL AS BIGINT) AS count, CAST(NULL AS DOUBLE) AS sum, s.series_id \
         FROM {known} d JOIN (SELECT * FROM raw.samples WHERE {listed}) s ON {}",
        on("s")
    );
    if !matches!(view, View::Latency | View::Inputs) {
        return numbers;
    }
    format!(
        "{numbers} UNION ALL \
         SELECT h.time, d.role, CASE WHEN h.count > 0 THEN h.sum / h.count * d.factor END AS value, \
         d.canonical_unit AS unit, {LABELS}, h.metric, h.count, h.sum * d.factor AS sum, h.series_id \
         FROM {known} d JOIN (SELECT * FROM raw.histograms WHERE {listed}) h ON {}",
        on("h")
    )
}
