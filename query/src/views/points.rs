//! Rows of role views that are points as a source reports them.

use super::{
    LABELS, ROLE_LABELS, columns_of, on,
    series::{deduplicated, is_copy, resolved},
};
use crate::{
    profiling::PROFILING_TABLE,
    roles::{Asked, RoleOf, RoleTable, View},
};

/// The share of the card that a row speaks for: a MIG profile `2g.20gb` is two of its compute slices.
const SHARE: &str = "CASE WHEN d.mig_id IS NULL OR d.card THEN 1.0 \
     ELSE CAST(nullif(regexp_replace(d.mig_profile, '^([0-9]+)g\\..*$', '\\1'), d.mig_profile) AS DOUBLE) \
     / CASE WHEN d.gpu_model LIKE '%A30%' THEN 4.0 ELSE 7.0 END END";

/// SQL for the attribution of the row at `time` of a series `d`.
pub(super) fn attribution(time: &str) -> String {
    format!(
        "CASE WHEN {} THEN 'device_copy' WHEN d.part IS NOT NULL AND d.gpu_id IS NULL THEN 'unknown' \
         ELSE 'exact' END AS attribution",
        is_copy(time)
    )
}

/// The last columns of a role view, of a series `d`.
pub(super) fn more() -> String {
    // What a source says of a slice is not said of the card, whatever it usually speaks for.
    let scope = "CASE WHEN d.scope = 'device' AND d.mig_id IS NOT NULL AND NOT d.card THEN 'mig' ELSE d.scope END";
    format!("{scope} AS scope, d.rung, d.source, {}, {SHARE} AS share, d.shared_by", columns_of("d", &ROLE_LABELS))
}

/// The columns of a role view, from one of numbers with `reported`, `quality` and the rest by name.
pub(super) fn number_columns() -> String {
    format!(
        "time, role, CASE WHEN quality IN ('ok', 'reset') AND attribution <> 'device_copy' THEN reported END AS value, \
         canonical_unit AS unit, {}, metric, CAST(NULL AS BIGINT) AS count, CAST(NULL AS DOUBLE) AS sum, series_id, \
         quality, attribution, reported, scope, rung, source, {}, share, shared_by",
        LABELS.join(", "),
        ROLE_LABELS.join(", "),
    )
}

/// SQL for whether `reported` cannot be meant so. A role without an upper bound has no place for infinity either.
pub(super) fn is_implausible() -> String {
    format!("isnan(reported) OR abs(reported) > {:e} OR reported < min OR reported > max", f64::MAX)
}

/// Every series and day of the view `gpu` that reports a role, with what its rows have in common.
pub(crate) fn gpu_series(table: &RoleTable, function: &RoleOf) -> String {
    format!(
        "SELECT d.date, d.series_id, d.metric, d.role, d.canonical_unit AS unit, {labels}, {more}, d.first_time, d.last_time \
         FROM {series} d",
        labels = columns_of("d", &LABELS),
        more = more(),
        series = deduplicated(View::Gpu, &resolved(Asked::Reported(View::Gpu), table, function)),
    )
}

/// Number points.
pub(super) fn numbers(view: View, table: &RoleTable, function: &RoleOf) -> String {
    number_points(view, Asked::Plain(view), "raw.samples", "false", table, function)
}

/// Number points of measures that a profiler gives.
pub(super) fn profiling(table: &RoleTable, function: &RoleOf) -> String {
    number_points(View::Gpu, Asked::Profiling(View::Gpu), PROFILING_TABLE, "s.missing", table, function)
}

fn number_points(
    view: View,
    asked: Asked,
    points: &str,
    missing: &str,
    table: &RoleTable,
    function: &RoleOf,
) -> String {
    format!(
        "SELECT {columns} FROM (SELECT *, CASE WHEN stored IS NULL THEN 'stale' WHEN reported IS NULL THEN 'blank' \
         WHEN {implausible} THEN 'implausible' WHEN is_missing THEN 'missing' ELSE 'ok' END AS quality FROM \
         (SELECT s.time, d.role, s.value AS stored, {missing} AS is_missing, \
         CASE WHEN NOT isnan(s.value) AND s.value >= d.blank_from THEN NULL \
         ELSE s.value * d.multiplier / d.divisor END AS reported, d.min, d.max, d.canonical_unit, {labels}, s.metric, \
         s.series_id, {attribution}, {more} FROM {series} d JOIN {points} s ON {on}))",
        columns = number_columns(),
        implausible = is_implausible(),
        labels = columns_of("d", &LABELS),
        attribution = attribution("s.time"),
        more = more(),
        series = deduplicated(view, &resolved(asked, table, function)),
        on = on("s"),
    )
}

/// Histogram points that say themselves what came since the point before.
pub(super) fn delta_histograms(view: View, table: &RoleTable, function: &RoleOf) -> String {
    let mean = "CASE WHEN h.count > 0 THEN h.sum / h.count * d.multiplier / d.divisor END";
    format!(
        "SELECT h.time, d.role, {mean} AS value, d.canonical_unit AS unit, {labels}, h.metric, h.count, \
         h.sum * d.multiplier / d.divisor AS sum, h.series_id, \
         CASE WHEN h.count IS NULL THEN 'stale' ELSE 'ok' END AS quality, {attribution}, {mean} AS reported, {more} \
         FROM {series} d JOIN raw.histograms h ON {on} WHERE d.temporality = 'delta'",
        labels = columns_of("d", &LABELS),
        attribution = attribution("h.time"),
        more = more(),
        series = deduplicated(view, &resolved(Asked::Reported(view), table, function)),
        on = on("h"),
    )
}
