//! `system.role_series` and `system.role_warnings`: how the vocabulary applies to what is stored.

use crate::{
    profiling::PROFILING_TABLE,
    roles::{Asked, RoleOf, RoleTable, View},
    views::{LABELS, ROLE_LABELS, resolved, with_device},
};

/// Every series since yesterday with its role, if it has one, and the row of `roles` (`place`) that gave it.
pub(crate) fn role_series(table: &RoleTable, function: &RoleOf) -> String {
    format!(
        "SELECT date, series_id, metric, \"view\", role, declared_unit, source_unit, canonical_unit AS unit, \
         multiplier / divisor AS scale, contradicts, scope, source, place, kind, temporality, {}, \
         first_time, last_time FROM {} WHERE date >= CAST(now() - INTERVAL '1 day' AS DATE)",
        LABELS.iter().chain(&ROLE_LABELS).copied().collect::<Vec<_>>().join(", "),
        resolved(Asked::Any, table, function)
    )
}

/// What looks wrong since yesterday: one row per kind, metric and device.
pub(crate) fn role_warnings(table: &RoleTable, function: &RoleOf) -> String {
    let all = resolved(Asked::Any, table, function);
    let gpu = resolved(Asked::Reported(View::Gpu), table, function);
    let recent = "date >= CAST(now() - INTERVAL '1 day' AS DATE)";
    let unit = format!(
        "SELECT 'unit_contradicts' AS kind, date, metric, role, host_name, gpu_id, \
         concat('declared unit ', declared_unit, ' contradicts ', source_unit, ', which was used; ', \
         CAST(count(*) AS VARCHAR), ' series') AS message \
         FROM {all} WHERE contradicts AND {recent} GROUP BY date, metric, role, host_name, gpu_id, declared_unit, source_unit"
    );
    let points = "JOIN raw.samples s ON s.series_id = d.series_id AND s.metric = d.metric AND s.date = d.date";
    let sources = two_sources(&with_device(View::Gpu, &gpu), "gpu_id IS NOT NULL AND part IS NOT NULL", recent);
    let system = with_device(View::System, &resolved(Asked::Reported(View::System), table, function));
    let of_host = two_sources(&system, "derived_device NOT LIKE 'series %'", recent);
    let changed = changed_units(&all, recent);
    let (values, differing) = (doubtful_values(&all, recent, points), differing_copies(&gpu, recent, points));
    let profiling = lost_profiling(&resolved(Asked::Profiling(View::Gpu), table, function));
    [unit, values, sources, of_host, profiling, changed, differing].join(" UNION ALL ")
}

/// Cards, hosts and pods of which two sources report the same role: one of them counts.
fn two_sources(series: &str, is_of_device: &str, recent: &str) -> String {
    format!(
        "SELECT 'two_sources' AS kind, date, min(metric) AS metric, role, min(host_name) AS host_name, \
         min(gpu_id) AS gpu_id, concat(first_value(source ORDER BY rank), ' holds, ', \
         last_value(source ORDER BY rank), ' does not count') AS message \
         FROM {series} WHERE {is_of_device} AND {recent} \
         GROUP BY date, role, derived_device HAVING count(DISTINCT source) > 1"
    )
}

/// Senders whose unit of one metric is not always the same: each value is converted by the unit that came with it.
fn changed_units(all: &str, recent: &str) -> String {
    let said = "CASE declared_unit WHEN '' THEN 'no unit' ELSE declared_unit END";
    format!(
        "SELECT 'unit_changed' AS kind, max(date) AS date, metric, role, host_name, gpu_id, \
         concat('the unit was ', min({said}), ' and ', max({said}), '; each value was converted by the unit it came with') \
         AS message FROM {all} WHERE role IS NOT NULL AND {recent} \
         GROUP BY metric, role, host_name, gpu_id, service_name, service_instance_id \
         HAVING count(DISTINCT concat(multiplier / divisor, ' ', canonical_unit)) > 1"
    )
}

/// Values outside the bounds of their role, which the views leave out, and percent sources that may send ratios: both in one
/// pass over the points.
fn doubtful_values(all: &str, recent: &str, points: &str) -> String {
    let reported = "s.value * d.multiplier / d.divisor";
    let is_absurd = format!(
        "(d.blank_from IS NULL OR s.value < d.blank_from) \
         AND ({reported} < d.min OR {reported} > d.max OR abs({reported}) > {f64_max:e})",
        f64_max = f64::MAX
    );
    format!(
        "SELECT kind, date, metric, role, host_name, gpu_id, CASE kind WHEN 'implausible_values' \
         THEN concat(CAST(absurd_count AS VARCHAR), ' values are implausible for this role and do not count, such as ', \
         CAST(absurd AS VARCHAR)) ELSE 'a percent source whose largest value of the day is at most 1: if it sends ratios, \
         give it unit 1 in your role file' END AS message FROM \
         (SELECT d.date, d.metric, d.role, d.host_name, d.gpu_id, max(s.value) AS largest, \
         max(d.source_unit) AS source_unit, sum(CASE WHEN {is_absurd} THEN 1 ELSE 0 END) AS absurd_count, \
         first_value(CASE WHEN {is_absurd} THEN {reported} END \
         ORDER BY CASE WHEN {is_absurd} THEN abs({reported}) END DESC NULLS LAST) AS absurd \
         FROM (SELECT * FROM {all} WHERE role IS NOT NULL AND {recent}) d {points} \
         GROUP BY d.date, d.metric, d.role, d.host_name, d.gpu_id) \
         CROSS JOIN (VALUES ('implausible_values'), ('percent_never_above_1')) AS kinds(kind) \
         WHERE CASE kind WHEN 'implausible_values' THEN absurd_count > 0 \
         ELSE source_unit = '%' AND largest > 0 AND largest <= 1 END"
    )
}

/// Cards whose profiler lost its counters; the views leave these zeros out.
fn lost_profiling(measures: &str) -> String {
    format!(
        "SELECT 'profiling_lost' AS kind, d.date, min(d.metric) AS metric, CAST(NULL AS VARCHAR) AS role, \
         min(d.host_name) AS host_name, d.gpu_id, concat('every profiling counter was 0 while the GPU was busy, ', \
         CAST(count(*) AS VARCHAR), ' values: another profiler owns the counters; these zeros are not idleness and do not count') \
         AS message FROM {measures} d JOIN {PROFILING_TABLE} s \
         ON s.series_id = d.series_id AND s.metric = d.metric AND s.date = d.date \
         WHERE s.missing AND s.time >= date_trunc('day', now() - INTERVAL '1 day') GROUP BY d.date, d.gpu_id"
    )
}

/// Devices whose series differ only in whose work they name, and yet have different values at one time: exporters that can
/// measure each pod apart say so by nothing else.
fn differing_copies(gpu: &str, recent: &str, points: &str) -> String {
    format!(
        "SELECT 'shared_values_differ' AS kind, date, min(metric) AS metric, role, min(host_name) AS host_name, gpu_id, \
         concat('the series that share this GPU had different values at ', CAST(count(*) AS VARCHAR), \
         ' times: the exporter measures each pod apart, and only one of them counts') AS message FROM \
         (SELECT d.date, min(d.metric) AS metric, d.role, d.host_name, d.gpu_id FROM \
         (SELECT *, count(*) OVER (PARTITION BY date, role, gpu_id, host_name, mig_id, place, part) AS shared_by \
         FROM {gpu} WHERE part IS NOT NULL AND gpu_id IS NOT NULL AND {recent}) d {points} \
         WHERE d.shared_by > 1 AND (d.blank_from IS NULL OR s.value < d.blank_from) \
         GROUP BY d.date, d.role, d.gpu_id, d.host_name, d.mig_id, d.place, d.part, s.time \
         HAVING min(s.value) <> max(s.value)) GROUP BY date, role, gpu_id"
    )
}
