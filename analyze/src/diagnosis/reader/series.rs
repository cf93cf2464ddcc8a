//! Series of a role view: what each is, and what names it.

use std::collections::BTreeMap;

use datafusion::prelude::SessionContext;

use super::Desk;
use crate::{
    error::Result,
    rows::Rows,
    window::{Window, time_literal},
};

/// Labels that a role view has as columns, beside `attributes`.
pub(in crate::diagnosis) const LABELS: [&str; 14] = [
    "service_instance_id",
    "host_name",
    "k8s_namespace",
    "k8s_pod",
    "k8s_node",
    "k8s_container",
    "gpu_id",
    "gpu_model",
    "model_name",
    "model_version",
    "deployment_environment",
    "team",
    "region",
    "service_name",
];
/// Most services that an error names.
const SERVICES_SHOWN: usize = 20;

/// One series in one role.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    pub(super) id: i64,
    pub(super) role: String,
    pub(super) metric: String,
    pub(super) simulated: bool,
    /// Whether its points say how many requests they stand for.
    pub(super) is_counted: bool,
    /// Points in the window.
    pub(super) points: u64,
    /// Requests in the window, as far as points are counted.
    pub(super) requests: f64,
    /// First and last point, UTC microseconds.
    pub(super) times_us: (i64, i64),
    /// Columns and attributes by name.
    pub(super) labels: BTreeMap<String, String>,
}

impl Series {
    /// A label by any of its names, the first that is there.
    pub(super) fn label(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.labels.get(*name)).map(String::as_str)
    }

    /// The machine that it is about: the node before the host, since in a pod the host's name is the pod's.
    pub(super) fn machine(&self) -> Option<&str> {
        self.label(&["k8s_node", "host_name", "k8s_pod", "service_instance_id"])
    }
}

/// The condition of `roles` in the window on a role view.
pub(super) fn condition(span: Window, roles: &[&str], whose: &str) -> String {
    let roles: Vec<String> = roles.iter().map(|role| format!("'{role}'")).collect();
    // A point at the end of a minute speaks of that minute: the window is open below and closed above.
    let time = format!("time > {} AND time <= {}", time_literal(span.start_us), time_literal(span.end_us));
    format!("role IN ({}) AND {time} AND {whose} AND value IS NOT NULL", roles.join(", "))
}

/// The series of `view` in `roles` that `whose` selects and that have points in the window.
pub(super) async fn read(desk: &mut Desk<'_>, view: &str, roles: &[&str], whose: &str) -> Result<Vec<Series>> {
    let labels = LABELS.map(|label| format!("max({label}) AS {label}")).join(", ");
    let query = format!(
        "SELECT role, series_id, metric, count(*) AS points, count(count) AS counted, coalesce(sum(count), 0) AS requests, \
         CAST(min(time) AS BIGINT) AS first_us, CAST(max(time) AS BIGINT) AS last_us, \
         {labels}, first_value(attributes) AS attributes \
         FROM {view} WHERE {} GROUP BY role, series_id, metric ORDER BY role, metric, series_id",
        condition(desk.span, roles, whose)
    );
    let rows = Rows::query(desk.ctx, &query).await?;
    desk.queries.push(query);
    let (ids, role, metric) = (rows.integers("series_id")?, rows.texts("role")?, rows.texts("metric")?);
    let (points, counted) = (rows.integers("points")?, rows.integers("counted")?);
    let requests = rows.numbers("requests")?;
    let (first, last) = (rows.integers("first_us")?, rows.integers("last_us")?);
    let mut all: Vec<BTreeMap<String, String>> = rows.text_maps("attributes")?;
    for label in LABELS {
        for (labels, value) in all.iter_mut().zip(rows.texts(label)?) {
            labels.extend(value.map(|value| (label.to_owned(), value)));
        }
    }
    Ok(all
        .into_iter()
        .enumerate()
        .map(|(row, labels)| Series {
            id: ids[row].unwrap_or_default(),
            role: role[row].clone().unwrap_or_default(),
            metric: metric[row].clone().unwrap_or_default(),
            simulated: labels.get("driftwatt.simulated").is_some_and(|value| value == "true"),
            is_counted: counted[row].unwrap_or(0) > 0,
            points: points[row].unwrap_or(0).unsigned_abs(),
            requests: requests[row].unwrap_or(0.0),
            times_us: (first[row].unwrap_or_default(), last[row].unwrap_or_default()),
            labels,
        })
        .collect())
}

/// Some services that sent latencies in the window.
pub(super) async fn services(ctx: &SessionContext, span: Window) -> Result<Vec<String>> {
    let query = format!(
        "SELECT DISTINCT service_name FROM raw.series WHERE service_name IS NOT NULL AND last_time >= {} AND first_time <= {} \
         AND date >= CAST({} AS DATE) AND date <= CAST({} AS DATE) ORDER BY 1 LIMIT {SERVICES_SHOWN}",
        time_literal(span.start_us),
        time_literal(span.end_us),
        time_literal(span.start_us),
        time_literal(span.end_us)
    );
    Ok(Rows::query(ctx, &query).await?.texts("service_name")?.into_iter().flatten().collect())
}
