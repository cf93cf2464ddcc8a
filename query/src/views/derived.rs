//! Rows of role views that follow from counters: what they gained since the point before.

use std::collections::BTreeMap;

use super::{
    LABELS, ROLE_LABELS, columns_of, on,
    points::{attribution, is_implausible, more, number_columns},
    quoted,
    series::{deduplicated, is_copy, is_unreported, resolved, unreported, with_device},
};
use crate::roles::{Asked, Definition, Quotient, RoleOf, RoleTable, View, label};

/// Of a point `s` of `raw.increases` and its series `d`: whether the counter began anew since the point before, and says when.
///
/// A process says so of its counters. Those of the machine and the driver must also have fallen: senders give them a start of
/// their own, and the counter goes on.
const BEGAN: &str = "(s.begun AND (s.reset OR d.counts_since = 'process'))";

/// What the counter gained: the stored `amount` where it began anew, else its `increase`. Null where that cannot be known: what
/// a counter of the driver lost when it fell, and whether a counter of the machine or the driver went on that has a new start
/// and did not fall.
fn gained(amount: &str, increase: &str) -> String {
    format!(
        "CASE WHEN d.temporality = 'delta' OR {BEGAN} THEN s.{amount} \
         WHEN s.begun OR (s.reset AND d.counts_since = 'driver') THEN NULL ELSE s.{increase} END"
    )
}

/// Whether a reset lay between, or may have.
const WAS_RESET: &str = "(d.temporality <> 'delta' AND s.since IS NOT NULL AND (s.reset OR s.begun))";

/// Whether the value is one, and not what the source says for none.
const NOT_BLANK: &str = "(d.blank_from IS NULL OR s.value < d.blank_from)";

/// The seconds in which the counter gained it.
fn seconds() -> String {
    let start = "CASE WHEN s.start_time < s.time THEN s.start_time END";
    let from = format!(
        "CASE WHEN d.temporality = 'delta' THEN coalesce({start}, s.since) WHEN {BEGAN} THEN s.start_time ELSE s.since END"
    );
    format!("(CAST(s.time AS BIGINT) - CAST({from} AS BIGINT)) / 1e6")
}

/// What counters gained per second, as the role that this is.
pub(super) fn rates(view: View, table: &RoleTable, function: &RoleOf) -> String {
    let series = with_device(view, &resolved(Asked::Rate(view), table, function));
    let series = deduplicated(view, &unreported(view, &series, "e.role", table, function));
    format!(
        "SELECT {columns} FROM (SELECT *, CASE WHEN reported IS NULL THEN 'reset' WHEN {implausible} THEN 'implausible' \
         WHEN was_reset THEN 'reset' ELSE 'ok' END AS quality FROM \
         (SELECT *, gained * multiplier / divisor / seconds AS reported FROM \
         (SELECT s.time, d.role, {gained} AS gained, {seconds} AS seconds, {WAS_RESET} AS was_reset, d.multiplier, \
         d.divisor, d.min, d.max, d.canonical_unit, {labels}, s.metric, s.series_id, {attribution}, {more} \
         FROM {series} d JOIN raw.increases s ON {on} WHERE s.value IS NOT NULL AND {NOT_BLANK} AND {unreported}) \
         WHERE seconds > 0 AND (gained IS NOT NULL OR was_reset)))",
        columns = number_columns(),
        implausible = is_implausible(),
        gained = gained("value", "increase"),
        seconds = seconds(),
        labels = columns_of("d", &LABELS),
        attribution = attribution("s.time"),
        more = more(),
        on = on("s"),
        unreported = is_unreported("s.time"),
    )
}

/// Histograms that count up, as what came since the point before.
pub(super) fn histograms(view: View, table: &RoleTable, function: &RoleOf) -> String {
    let mean = "CASE WHEN gained > 0 THEN gained_sum / gained END";
    format!(
        "SELECT time, role, {mean} AS value, canonical_unit AS unit, {plain}, metric, gained AS count, \
         gained_sum AS sum, series_id, CASE WHEN count IS NULL THEN 'stale' WHEN was_reset THEN 'reset' ELSE 'ok' END \
         AS quality, attribution, {mean} AS reported, scope, rung, source, {role_labels}, share, shared_by FROM \
         (SELECT s.time, d.role, d.canonical_unit, s.count, {gained} AS gained, \
         {gained_sum} * d.multiplier / d.divisor AS gained_sum, {WAS_RESET} AS was_reset, {labels}, s.metric, s.series_id, \
         {attribution}, {more} FROM {series} d JOIN raw.histogram_increases s ON {on} WHERE d.temporality <> 'delta') \
         WHERE count IS NULL OR gained IS NOT NULL",
        plain = LABELS.join(", "),
        role_labels = ROLE_LABELS.join(", "),
        gained = gained("count", "count_increase"),
        gained_sum = gained("sum", "sum_increase"),
        labels = columns_of("d", &LABELS),
        attribution = attribution("s.time"),
        more = more(),
        series = deduplicated(view, &resolved(Asked::Reported(view), table, function)),
        on = on("s"),
    )
}

/// The roles of `view` that are one counter over another, an arm each: so one that is not asked for is dropped.
pub(super) fn quotients(view: View, table: &RoleTable, function: &RoleOf) -> Vec<String> {
    let of_view = table.definitions.iter().filter(|(_, definition)| definition.view == view);
    let quotients = of_view.filter_map(|(role, definition)| Some((role, definition, definition.quotient.as_ref()?)));
    quotients.map(|(role, definition, quotient)| self::quotient(role, definition, quotient, table, function)).collect()
}

fn quotient(role: &str, definition: &Definition, quotient: &Quotient, table: &RoleTable, function: &RoleOf) -> String {
    let view = definition.view;
    let Quotient { of, per, unless } = quotient;
    let counters = std::iter::once(of).chain(per).map(|counter| quoted(counter)).collect::<Vec<_>>().join(", ");
    let terms = format!("(SELECT * FROM {} WHERE role IN ({counters}))", resolved(Asked::Terms, table, function));
    let mut series = with_device(view, &terms);
    if !unless.is_empty() {
        // A source that does not tell what is left out apart gives no share, and must not stand before one that does.
        series = format!(
            "(SELECT * FROM (SELECT *, max(CASE WHEN {} THEN 1 ELSE 0 END) OVER (PARTITION BY date, source, derived_device) \
             AS tells_apart FROM {series}) WHERE tells_apart = 1)",
            excluded(unless, "attributes")
        );
    }
    let series = deduplicated(view, &unreported(view, &series, &quoted(role), table, function));
    let excluded = excluded(unless, "d.attributes");
    let of = quoted(of);
    let below = per.iter().map(|per| format!("sum(CASE WHEN counter = {} THEN gained END)", quoted(per)));
    let needs = if unless.is_empty() { "" } else { " AND excluded_count > 0" };
    let named: Vec<&str> = LABELS.iter().chain(&ROLE_LABELS).filter(|label| **label != "attributes").copied().collect();
    let (count, sum) = match view {
        View::Latency | View::Inputs | View::Models => ("CAST(below AS BIGINT)", "above"),
        View::Gpu | View::System => ("CAST(NULL AS BIGINT)", "CAST(NULL AS DOUBLE)"),
    };
    format!(
        "SELECT time, {role} AS role, CASE WHEN quality <> 'implausible' THEN reported END AS value, {unit} AS unit, \
         {labels}, metric, {count} AS count, {sum} AS sum, series_id, quality, 'exact' AS attribution, reported, scope, \
         {rung} AS rung, source, {role_labels}, 1.0 AS share, CAST(1 AS BIGINT) AS shared_by FROM \
         (SELECT *, CASE WHEN {implausible} THEN 'implausible' WHEN was_reset THEN 'reset' ELSE 'ok' END AS quality FROM \
         (SELECT *, above / below AS reported, {min} AS min, {max} AS max FROM \
         (SELECT time, source, rest, {named}, first_value(rest_attributes) AS attributes, min(scope) AS scope, \
         min(CASE WHEN counter = {of} THEN metric END) AS metric, min(CASE WHEN counter = {of} THEN series_id END) \
         AS series_id, sum(CASE WHEN counter = {of} AND NOT excluded THEN gained END) AS above, \
         coalesce({below}) AS below, sum(CASE WHEN excluded THEN 1 ELSE 0 END) AS excluded_count, \
         bool_or(was_reset) AS was_reset FROM \
         (SELECT s.time, d.role AS counter, s.metric, s.series_id, {gained} * d.multiplier / d.divisor AS gained, \
         {WAS_RESET} AS was_reset, {excluded} AS excluded, d.source, d.rest, d.rest_attributes, d.scope, {series_labels} \
         FROM {series} d JOIN raw.increases s ON {on} WHERE s.value IS NOT NULL AND {NOT_BLANK} \
         AND {unreported} AND NOT coalesce({is_copy}, false)) \
         WHERE gained IS NOT NULL GROUP BY time, source, rest, {named}) \
         WHERE above IS NOT NULL AND below > 0{needs}))",
        role = quoted(role),
        unit = quoted(&definition.unit),
        rung = definition.rung.as_ref().map_or("CAST(NULL AS VARCHAR)".to_owned(), |rung| quoted(rung)),
        labels = LABELS.join(", "),
        role_labels = ROLE_LABELS.join(", "),
        implausible = is_implausible(),
        min = bound(definition.min),
        max = bound(definition.max),
        named = named.join(", "),
        below = below.collect::<Vec<_>>().join(", "),
        series_labels = columns_of("d", &named),
        gained = gained("value", "increase"),
        is_copy = is_copy("s.time"),
        on = on("s"),
        unreported = is_unreported("s.time"),
    )
}

fn bound(bound: Option<f64>) -> String {
    bound.map_or("CAST(NULL AS DOUBLE)".to_owned(), |bound| format!("{bound:e}"))
}

/// SQL for whether a series with `attributes` has one of these, and one of its values.
fn excluded(unless: &BTreeMap<String, String>, attributes: &str) -> String {
    let conditions = unless.iter().map(|(keys, values)| {
        let spelled = keys.split('|').flat_map(|key| [key.to_owned(), label(key)]);
        let keys: Vec<_> = spelled.map(|key| format!("{attributes}[{}]", quoted(&key))).collect();
        let values: Vec<_> = values.split('|').map(quoted).collect();
        format!("coalesce({}, '') IN ({})", keys.join(", "), values.join(", "))
    });
    let conditions: Vec<_> = conditions.collect();
    if conditions.is_empty() { "false".to_owned() } else { format!("({})", conditions.join(" OR ")) }
}
