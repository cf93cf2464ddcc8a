//! The series of a role view: what each means, which device it is of, and which of them say the same.

use driftwatt_store::PROMOTED;

use super::{LABELS, ROLE_LABELS, quoted};
use crate::roles::{Asked, CLAIMS_FUNCTION, LabelKey, ROLE_FUNCTION, RoleOf, RoleTable, View, label};

/// What the table says of a series, as fields of `role_of`.
const FACTS: [&str; 19] = [
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
    "counts_since",
    "rest",
];

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

/// The series that have a role as `asked`, one row each and day, with labels and what the table says of them; for
/// [`Asked::Any`] also those without a role.
pub(crate) fn resolved(asked: Asked, table: &RoleTable, function: &RoleOf) -> String {
    let arguments = function.label_columns().iter().map(|column| format!(", {column}")).collect::<String>();
    let no_keys = Vec::new();
    let labels = LABELS.iter().chain(&ROLE_LABELS).map(|column| {
        let keys = table.labels.get(*column).unwrap_or(&no_keys);
        match *column {
            "attributes" if asked == Asked::Terms => {
                "attributes, found['rest_attributes'] AS rest_attributes".to_owned()
            }
            "attributes" => "attributes".to_owned(),
            _ => format!("{} AS {column}", label_column(column, keys)),
        }
    });
    let facts = FACTS.map(|fact| {
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
        quoted(&asked.text()),
        if asked == Asked::Any { "" } else { "WHERE found['role'] IS NOT NULL" },
    )
}

/// SQL for what a series of `view` is about, as text: a card, a host, a pod, or who sent it.
fn device(view: View) -> String {
    let itself = "concat('series ', CAST(series_id AS VARCHAR))";
    match view {
        // A name such as `0` is a device only with its host; a UUID is one everywhere. A series without a device is its own.
        View::Gpu => format!(
            "CASE WHEN part IS NULL OR gpu_id IS NULL THEN {itself} WHEN length(gpu_id) >= 36 THEN gpu_id \
             ELSE concat(gpu_id, ' of ', coalesce(host_name, '')) END"
        ),
        View::System => format!(
            "CASE WHEN scope = 'node' AND coalesce(host_name, k8s_node) IS NOT NULL \
             THEN concat('node ', coalesce(host_name, k8s_node)) \
             WHEN scope IN ('pod', 'container') AND k8s_pod IS NOT NULL \
             THEN concat('pod ', coalesce(k8s_namespace, ''), '/', k8s_pod, '/', coalesce(k8s_container, '')) \
             ELSE {itself} END"
        ),
        View::Latency | View::Inputs | View::Models => {
            let labels = LABELS.iter().filter(|label| **label != "attributes");
            let known = labels.map(|label| format!("coalesce({label}, '')")).collect::<Vec<_>>();
            format!("concat({})", known.join(", '|', "))
        }
    }
}

/// `series` with, for series of a device, until when another series says the same of the device (`copied_until`), and
/// from when to when a source that stands before it in the table does (`better_from`, `better_until`).
///
/// Decided on series and days, not on points: the points stay a plain scan. If an earlier series of the same device ends
/// last at `copied_until`, it began before this one, so it covers this one's points up to there.
pub(super) fn deduplicated(view: View, series: &str) -> String {
    let never = "CAST(NULL AS TIMESTAMP)";
    let (claim, precedence) = match view {
        View::Gpu => (
            "concat(CASE WHEN card THEN '' ELSE coalesce(mig_id, '') END, '|', coalesce(CAST(place AS VARCHAR), ''), '|', \
             coalesce(part, ''))",
            // What is said of the card goes before what is said of its slices, which would add up to it once more.
            "CASE WHEN card OR mig_id IS NULL THEN rank ELSE rank + 1000000 END",
        ),
        View::System => ("series_id", "rank"),
        View::Latency | View::Inputs | View::Models => {
            return format!(
                "(SELECT *, {never} AS copied_until, {never} AS better_from, {never} AS better_until, \
                 CAST(1 AS BIGINT) AS shared_by FROM {series})"
            );
        }
    };
    let decided = ["copied_until", "shared_by", "better_from", "better_until"];
    let decided = decided.map(|column| format!("claims['{column}'] AS {column}")).join(", ");
    format!(
        "(SELECT *, {decided} FROM (SELECT *, {CLAIMS_FUNCTION}({device}, {claim}, {precedence}, first_time, last_time, \
         series_id) OVER (PARTITION BY date, role) AS claims FROM {series}))",
        device = device(view),
    )
}

/// SQL for whether the row at `time` of a series `d` is said better by another series.
pub(super) fn is_copy(time: &str) -> String {
    format!("({time} <= d.copied_until OR ({time} >= d.better_from AND {time} <= d.better_until))")
}

/// Of `series`, from which `role` (SQL) follows, those that are needed: not where a source reports the role itself.
///
/// `reported_from` and `reported_until` say when one does. Ten minutes around belong to it, so that of two sources with
/// times of their own only one speaks at the turn of a day.
pub(super) fn unreported(view: View, series: &str, role: &str, table: &RoleTable, function: &RoleOf) -> String {
    let device = device(view);
    format!(
        "(SELECT * FROM (SELECT * FROM {series}) e LEFT JOIN (SELECT date AS on_date, role AS reported_role, \
         {device} AS of_device, min(first_time) - INTERVAL '10 minutes' AS reported_from, \
         max(last_time) + INTERVAL '10 minutes' AS reported_until FROM {} GROUP BY 1, 2, 3) c \
         ON e.date = c.on_date AND {role} = c.reported_role AND e.derived_device = c.of_device \
         WHERE NOT coalesce(first_time >= reported_from AND last_time <= reported_until, false))",
        resolved(Asked::Reported(view), table, function)
    )
}

/// `series` with what each is about in `view`.
pub(crate) fn with_device(view: View, series: &str) -> String {
    format!("(SELECT *, {} AS derived_device FROM {series})", device(view))
}

/// SQL for whether no source reports the role itself at `time`.
pub(super) fn is_unreported(time: &str) -> String {
    format!("NOT coalesce({time} >= d.reported_from AND {time} <= d.reported_until, false)")
}
