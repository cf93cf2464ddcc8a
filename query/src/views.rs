//! The views analysts query, as SQL over `raw`.
//!
//! Roles and labels are resolved on `raw.series`, which is small, and joined to the points by series, metric and day.
//! `series` stands on the left of every join: the engine builds its hash table from the left side where it has no
//! statistics, and pushes the series it found into the scan of the points. `metric` is a join key, so that a predicate on
//! it reaches both scans; a predicate on the role becomes one on the metric by the rule `MetricsOfRole`.

use driftwatt_store::PROMOTED;

use crate::roles::{ANY_VIEW, LabelKey, ROLE_FUNCTION, RoleOf, RoleTable, View, label};

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

/// A label of a role view: its promoted column, then the attributes that the table lists for it.
fn label_column(column: &str, keys: &[LabelKey]) -> String {
    let promoted = PROMOTED.iter().find(|promoted| promoted.column == column);
    let stored: &[&str] = promoted.map_or(&[], |promoted| promoted.keys);
    let own = promoted.map(|_| column.to_owned());
    let rest = keys.iter().filter(|key| !stored.contains(&key.key.as_str())).flat_map(|key| {
        let spelled = Some(label(&key.key)).filter(|spelled| *spelled != key.key);
        std::iter::once(key.key.clone()).chain(spelled)
    });
    let candidates: Vec<_> = own.into_iter().chain(rest.map(|key| format!("attributes[{}]", quoted(&key)))).collect();
    let found = match candidates.as_slice() {
        [] => "CAST(NULL AS VARCHAR)".to_owned(),
        [only] => only.clone(),
        several => format!("coalesce({})", several.join(", ")),
    };
    match keys.iter().find_map(|key| key.uuid_prefix.as_ref()) {
        // 36 characters are a bare UUID.
        Some(prefix) => format!(
            "CASE WHEN length({found}) = 36 AND substr({found}, 9, 1) = '-' THEN concat({}, {found}) ELSE {found} END",
            quoted(prefix)
        ),
        None => found,
    }
}

/// The series that have a role in `view`, one row each and day, with labels and what the table says of them; for `any`
/// also those without a role.
pub(crate) fn resolved(view: &str, table: &RoleTable, function: &RoleOf) -> String {
    let arguments = function.label_columns().iter().map(|column| format!(", {column}")).collect::<String>();
    let no_keys = Vec::new();
    let labels = LABELS.iter().chain(&ROLE_LABELS).map(|column| {
        let keys = table.labels.get(*column).unwrap_or(&no_keys);
        if *column == "attributes" {
            (*column).to_owned()
        } else {
            format!("{} AS {column}", label_column(column, keys))
        }
    });
    let facts = [
        "role",
        "view",
        "unit",
        "multiplier",
        "divisor",
        "blank_from",
        "min",
        "max",
        "scope",
        "rung",
        "source",
        "source_unit",
        "rank",
        "place",
        "card",
        "contradicts",
        "part",
    ];
    let facts = facts.map(|fact| {
        // `view` is a keyword, and `unit` the declared one.
        let name = if fact == "unit" { "canonical_unit" } else { fact };
        format!("found['{fact}'] AS \"{name}\"")
    });
    format!(
        "(SELECT series_id, metric, date, first_time, last_time, kind, temporality, unit AS declared_unit, {}, {} FROM \
         (SELECT *, {ROLE_FUNCTION}({}, metric, unit, attributes{arguments}) AS found FROM raw.series) \
         {})",
        labels.collect::<Vec<_>>().join(", "),
        facts.join(", "),
        quoted(view),
        if view == ANY_VIEW { "" } else { "WHERE found['role'] IS NOT NULL" },
    )
}

/// [`resolved`] with, for series of a device, until when another series says the same of the device (`copied_until`), and
/// from when to when a source that stands before it in the table does (`better_from`, `better_until`).
///
/// Decided on series and days, not on points: the points stay a plain scan. If an earlier series of the same device ends
/// last at `copied_until`, it began before this one, so it covers this one's points up to there.
fn deduplicated(view: View, table: &RoleTable, function: &RoleOf) -> String {
    let series = resolved(view.name(), table, function);
    if view != View::Gpu {
        let never = "CAST(NULL AS TIMESTAMP)";
        return format!(
            "(SELECT *, {never} AS copied_until, {never} AS better_from, {never} AS better_until, \
             CAST(1 AS BIGINT) AS shared_by FROM {series})"
        );
    }
    let same = "PARTITION BY date, role, gpu_id, device, slice, place, part";
    let better =
        "PARTITION BY date, role, gpu_id, device ORDER BY precedence RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING";
    // A name such as `0` is a device only with its host; a UUID is one everywhere. A series without a device is its own.
    let device = "CASE WHEN part IS NULL OR gpu_id IS NULL THEN CAST(series_id AS VARCHAR) \
                  WHEN length(gpu_id) >= 36 THEN '' ELSE coalesce(host_name, '') END";
    let slice = "CASE WHEN card THEN '' ELSE coalesce(mig_id, '') END";
    // What is said of the card goes before what is said of its slices, which would add up to it once more.
    let precedence = "CASE WHEN card OR mig_id IS NULL THEN rank ELSE rank + 1000000 END";
    format!(
        "(SELECT *, \
         max(last_time) OVER ({same} ORDER BY first_time, series_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) \
         AS copied_until, count(*) OVER ({same}) AS shared_by, \
         min(first_time) OVER ({better}) AS better_from, max(last_time) OVER ({better}) AS better_until FROM \
         (SELECT *, {device} AS device, {slice} AS slice, {precedence} AS precedence FROM {series}))"
    )
}

/// The share of the card that a row speaks for: a MIG profile `2g.20gb` is two of its compute slices.
const SHARE: &str = "CASE WHEN d.mig_id IS NULL OR d.card THEN 1.0 \
     ELSE CAST(nullif(regexp_replace(d.mig_profile, '^([0-9]+)g\\..*$', '\\1'), d.mig_profile) AS DOUBLE) \
     / CASE WHEN d.gpu_model LIKE '%A30%' THEN 4.0 ELSE 7.0 END END";

/// A role view: points of every metric that has a role in `view`, in canonical units.
pub(crate) fn roles(view: View, table: &RoleTable, function: &RoleOf) -> String {
    let series = deduplicated(view, table, function);
    let labels = columns_of("d", &LABELS);
    // What a source says of a slice is not said of the card, whatever it usually speaks for.
    let scope = "CASE WHEN d.scope = 'device' AND d.mig_id IS NOT NULL AND NOT d.card THEN 'mig' ELSE d.scope END";
    let more =
        format!("{scope} AS scope, d.rung, d.source, {}, {SHARE} AS share, d.shared_by", columns_of("d", &ROLE_LABELS));
    let copy =
        |time: &str| format!("({time} <= d.copied_until OR ({time} >= d.better_from AND {time} <= d.better_until))");
    let attribution = |time: &str| {
        format!(
            "CASE WHEN {} THEN 'device_copy' WHEN d.part IS NOT NULL AND d.gpu_id IS NULL THEN 'unknown' \
             ELSE 'exact' END AS attribution",
            copy(time)
        )
    };
    let numbers = format!(
        "SELECT time, role, CASE WHEN quality = 'ok' AND attribution <> 'device_copy' THEN reported END AS value, \
         canonical_unit AS unit, {plain}, metric, CAST(NULL AS BIGINT) AS count, CAST(NULL AS DOUBLE) AS sum, series_id, \
         quality, attribution, reported, scope, rung, source, {role_labels}, share, shared_by FROM \
         (SELECT *, CASE WHEN stored IS NULL THEN 'stale' WHEN reported IS NULL THEN 'blank' \
         WHEN isnan(reported) OR abs(reported) > {f64_max} OR reported < min OR reported > max THEN 'implausible' \
         ELSE 'ok' END AS quality FROM \
         (SELECT s.time, d.role, s.value AS stored, \
         CASE WHEN NOT isnan(s.value) AND s.value >= d.blank_from THEN NULL \
         ELSE s.value * d.multiplier / d.divisor END AS reported, d.min, d.max, d.canonical_unit, {labels}, s.metric, \
         s.series_id, {attribution}, {more} FROM {series} d JOIN raw.samples s ON {on}))",
        // A role without an upper bound has no place for infinity either.
        f64_max = format_args!("{:e}", f64::MAX),
        plain = LABELS.join(", "),
        role_labels = ROLE_LABELS.join(", "),
        attribution = attribution("s.time"),
        on = on("s"),
    );
    if !matches!(view, View::Latency | View::Inputs | View::Models) {
        return numbers;
    }
    format!(
        "{numbers} UNION ALL \
         SELECT h.time, d.role, CASE WHEN h.count > 0 THEN h.sum / h.count * d.multiplier / d.divisor END AS value, \
         d.canonical_unit AS unit, {labels}, h.metric, h.count, h.sum * d.multiplier / d.divisor AS sum, h.series_id, \
         CASE WHEN h.count IS NULL THEN 'stale' ELSE 'ok' END AS quality, {attribution}, \
         CASE WHEN h.count > 0 THEN h.sum / h.count * d.multiplier / d.divisor END AS reported, {more} \
         FROM {series} d JOIN raw.histograms h ON {on}",
        attribution = attribution("h.time"),
        on = on("h"),
    )
}
