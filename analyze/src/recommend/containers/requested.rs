//! What a container requested in a window: the measure of what a change of its requests came to.

use std::collections::BTreeSet;

use datafusion::prelude::SessionContext;

use super::super::{
    oom::OomKills,
    workload::{PodName, Workloads},
};
use crate::{
    error::Result,
    rows::{Rows, SIMULATED, literal},
    window::{HOUR_US, Window},
};

/// A container of a workload, as the table of recommendations has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ContainerName {
    pub(crate) simulated: bool,
    pub(crate) namespace: Option<String>,
    /// Kind and name.
    pub(crate) workload: Option<String>,
    pub(crate) container: String,
}

/// Sums over the pods of a container.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Requested {
    /// Hours in which a pod told of its requests, over the hours of the window.
    pub(crate) coverage: f64,
    /// Hours of pods.
    pub(crate) pod_hours: f64,
    /// Hours of requested vCPUs, and of gigabytes (1e9 bytes).
    pub(crate) cpu_hours: f64,
    pub(crate) gb_hours: f64,
    /// Kills for lack of memory.
    pub(crate) oom_count: u32,
}

/// What `of` requested in `window`; hours without a point are left out, and lower the coverage.
pub(crate) async fn requested(ctx: &SessionContext, of: &ContainerName, window: Window) -> Result<Requested> {
    let workloads = Workloads::read_owners(ctx, window).await?;
    let owners = workloads.owners();
    let oom = OomKills::read(ctx, window).await?;
    let namespace =
        of.namespace.as_ref().map(|name| format!("AND k8s_namespace = {}", literal(name))).unwrap_or_default();
    let query = format!(
        "SELECT k8s_namespace AS namespace, k8s_pod AS pod, CAST(time AS BIGINT) / {HOUR_US} AS hour, \
         avg(CASE role WHEN 'cpu.request' THEN value END) AS cpu, avg(CASE role WHEN 'memory.request' THEN value END) AS memory \
         FROM system WHERE role IN ('cpu.request', 'memory.request') AND {SIMULATED} = {} AND k8s_container = {} {namespace} \
         AND k8s_pod IS NOT NULL AND {} AND value IS NOT NULL GROUP BY 1, 2, 3",
        of.simulated,
        literal(&of.container),
        window.condition("time")
    );
    let rows = Rows::query(ctx, &query).await?;
    let (namespaces, pods, hours) = (rows.texts("namespace")?, rows.texts("pod")?, rows.integers("hour")?);
    let (cpus, memories) = (rows.numbers("cpu")?, rows.numbers("memory")?);
    let (mut found, mut seen, mut of_workload) = (Requested::default(), BTreeSet::new(), BTreeSet::new());
    for row in 0..rows.len() {
        let (Some(pod), Some(hour)) = (pods[row].clone(), hours[row]) else { continue };
        let owner = owners.of(of.simulated, namespaces[row].as_ref(), &pod);
        let workload = owner.map(|(_, kind, name)| format!("{} {name}", kind.as_str()));
        if workload != of.workload {
            continue;
        }
        seen.insert(hour);
        found.pod_hours += 1.0;
        found.cpu_hours += cpus[row].unwrap_or(0.0);
        found.gb_hours += memories[row].unwrap_or(0.0) / 1e9;
        of_workload.insert(PodName::new(namespaces[row].clone(), pod));
    }
    found.coverage = (seen.len() as f64 / window.hours()).min(1.0);
    found.oom_count = of_workload.iter().map(|pod| oom.of_container(of.simulated, pod, &of.container)).sum();
    Ok(found)
}
