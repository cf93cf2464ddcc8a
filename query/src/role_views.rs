//! `system.role_series` and `system.role_warnings`: how the vocabulary applies to what is stored.

use crate::{
    roles::{ANY_VIEW, RoleOf, RoleTable, View},
    views::{LABELS, ROLE_LABELS, resolved},
};

/// Every series since yesterday with its role, if it has one, and the row of `roles` (`place`) that gave it.
pub(crate) fn role_series(table: &RoleTable, function: &RoleOf) -> String {
    format!(
        "SELECT date, series_id, metric, \"view\", role, declared_unit, source_unit, canonical_unit AS unit, \
         multiplier / divisor AS scale, contradicts, scope, source, place, kind, temporality, {}, \
         first_time, last_time FROM {} WHERE date >= CAST(now() - INTERVAL '1 day' AS DATE)",
        LABELS.iter().chain(&ROLE_LABELS).copied().collect::<Vec<_>>().join(", "),
        resolved(ANY_VIEW, table, function)
    )
}

/// What looks wrong since yesterday: one row per kind, metric and device.
pub(crate) fn role_warnings(table: &RoleTable, function: &RoleOf) -> String {
    let all = resolved(ANY_VIEW, table, function);
    let gpu = resolved(View::Gpu.name(), table, function);
    let recent = "date >= CAST(now() - INTERVAL '1 day' AS DATE)";
    let unit = format!(
        "SELECT 'unit_contradicts' AS kind, date, metric, role, host_name, gpu_id, \
         concat('declared unit ', declared_unit, ' contradicts ', source_unit, ', which was used; ', \
         CAST(count(*) AS VARCHAR), ' series') AS message \
         FROM {all} WHERE contradicts AND {recent} GROUP BY date, metric, role, host_name, gpu_id, declared_unit, source_unit"
    );
    let points = "JOIN raw.samples s ON s.series_id = d.series_id AND s.metric = d.metric AND s.date = d.date";
    let scale = format!(
        "SELECT 'percent_never_above_1' AS kind, d.date, d.metric, d.role, d.host_name, d.gpu_id, \
         'a percent source whose largest value of the day is at most 1: if it sends ratios, give it unit 1 in your role file' \
         AS message FROM (SELECT * FROM {all} WHERE source_unit = '%' AND {recent}) d {points} \
         GROUP BY d.date, d.metric, d.role, d.host_name, d.gpu_id HAVING max(s.value) > 0 AND max(s.value) <= 1"
    );
    let sources = format!(
        "SELECT 'two_sources' AS kind, date, min(metric) AS metric, role, min(host_name) AS host_name, gpu_id, \
         concat(first_value(source ORDER BY rank), ' holds, ', last_value(source ORDER BY rank), ' does not count') AS message \
         FROM {gpu} WHERE gpu_id IS NOT NULL AND part IS NOT NULL AND {recent} \
         GROUP BY date, role, gpu_id HAVING count(DISTINCT source) > 1"
    );
    let rungs = "'engine_active', 'sm_active', 'sm_occupancy', 'tensor_active', 'dram_active', 'pipe_active'";
    let profiling = format!(
        "SELECT 'profiling_lost' AS kind, d.date, min(CASE WHEN d.rung <> 'duty_cycle' THEN d.metric END) AS metric, \
         CAST(NULL AS VARCHAR) AS role, min(d.host_name) AS host_name, d.gpu_id, \
         'every profiling counter is 0 while the GPU is busy: another profiler owns the counters; these zeros are not idleness' \
         AS message FROM (SELECT * FROM {gpu} WHERE rung IN ('duty_cycle', {rungs}) AND gpu_id IS NOT NULL \
         AND role NOT LIKE 'gpu.process.%' AND {recent}) d {points} \
         GROUP BY d.date, d.gpu_id HAVING max(CASE WHEN d.rung <> 'duty_cycle' THEN s.value END) = 0 \
         AND max(CASE WHEN d.role = 'gpu.utilization' AND (d.blank_from IS NULL OR s.value < d.blank_from) \
         THEN s.value END) > 0"
    );
    let changed = changed_units(&all, recent);
    let (implausible, differing) = (implausible_values(&all, recent, points), differing_copies(&gpu, recent, points));
    [unit, scale, sources, profiling, changed, implausible, differing].join(" UNION ALL ")
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

/// Values outside the bounds of their role, which the views leave out.
fn implausible_values(all: &str, recent: &str, points: &str) -> String {
    let reported = "s.value * d.multiplier / d.divisor";
    format!(
        "SELECT 'implausible_values' AS kind, d.date, d.metric, d.role, d.host_name, d.gpu_id, \
         concat(CAST(count(*) AS VARCHAR), ' values are implausible for this role and do not count, such as ', \
         CAST(first_value({reported} ORDER BY abs({reported}) DESC) AS VARCHAR)) AS message \
         FROM (SELECT * FROM {all} WHERE role IS NOT NULL AND {recent}) d {points} \
         WHERE (d.blank_from IS NULL OR s.value < d.blank_from) \
         AND ({reported} < d.min OR {reported} > d.max OR abs({reported}) > {f64_max:e}) \
         GROUP BY d.date, d.metric, d.role, d.host_name, d.gpu_id",
        f64_max = f64::MAX
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
