//! Who is told to have parts of cards, day by day.

use std::collections::HashMap;

use super::{
    Holder, JOB,
    read::Card,
    sharers::{Sharer, Told},
};
use crate::{
    error::Result,
    rows::{Rows, SIMULATED},
    window::{Window, time_literal},
};

/// SQL for the series of cards that several have, with the labels of each.
pub(super) fn query(window: Window) -> String {
    let (start, end) = (time_literal(window.start_us), time_literal(window.end_us));
    format!(
        "SELECT {SIMULATED} AS simulated, coalesce(host_name, '') AS host, gpu_id, mig_id, service_name AS service, team, \
         k8s_namespace AS namespace, k8s_pod AS pod, model_name AS model, model_version, {JOB} AS job, date, concat(coalesce(source, ''), ' ', \
         coalesce(service_instance_id, ''), ' ', coalesce(attributes['instance'], '')) AS exporter, max(share) AS share, \
         CAST(min(first_time) AS BIGINT) AS first_us, CAST(max(last_time) AS BIGINT) AS last_us \
         FROM system.gpu_series WHERE role IN ('gpu.utilization', 'gpu.memory.used', 'gpu.power') \
         AND gpu_id IS NOT NULL AND (mig_id IS NOT NULL OR shared_by > 1) AND last_time >= {start} AND first_time < {end} \
         AND date >= CAST({start} AS DATE) AND date <= CAST({end} AS DATE) \
         GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13"
    )
}

/// What the answer says of each card.
pub(super) fn by_card(rows: &Rows) -> Result<HashMap<Card, Vec<Told>>> {
    let (simulated, hosts, ids) = (rows.flags("simulated")?, rows.texts("host")?, rows.texts("gpu_id")?);
    let (slices, shares) = (rows.texts("mig_id")?, rows.numbers("share")?);
    let (first, last) = (rows.integers("first_us")?, rows.integers("last_us")?);
    let exporters = rows.texts("exporter")?;
    let labels = ["service", "team", "namespace", "pod", "model", "model_version", "job"];
    let [services, teams, namespaces, pods, models, versions, jobs] = labels.map(|name| rows.texts(name));
    let labels = [services?, teams?, namespaces?, pods?, models?, versions?, jobs?];
    let mut told: HashMap<Card, Vec<Told>> = HashMap::new();
    for row in 0..rows.len() {
        let [service, team, namespace, pod, model, model_version, job] =
            [0, 1, 2, 3, 4, 5, 6].map(|at| labels[at][row].clone());
        let holder = Holder { service, team, namespace, pod, model, model_version, job };
        let (Some(gpu_id), Some(first), Some(last)) = (ids[row].clone(), first[row], last[row]) else { continue };
        if holder == Holder::default() {
            continue;
        }
        let slice = slices[row].clone();
        let fraction = slice.as_ref().and(shares[row]).filter(|share| *share > 0.0 && *share <= 1.0);
        let sharer = Sharer::new(holder, slice, fraction, first, last);
        let card = (simulated[row], hosts[row].clone().unwrap_or_default(), gpu_id);
        told.entry(card).or_default().push(Told { sharer, exporter: exporters[row].clone().unwrap_or_default() });
    }
    Ok(told)
}
