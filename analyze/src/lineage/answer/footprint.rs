//! What a service runs on now, counted from its series.

use std::collections::BTreeMap;

use datafusion::prelude::SessionContext;

use crate::{
    error::Result,
    lineage::{deployment::Target, findings::Footprint, sightings::of_service, timeline::Timeline},
    rows::Rows,
    window::{MINUTE_US, Window},
};

/// Who sent nothing for so long does not count as there.
const RECENT_US: i64 = 15 * MINUTE_US;

/// Instances, nodes and GPUs of each environment of `service` in the last quarter of an hour. What its series do not name is
/// unknown; an environment without any telemetry then is left out.
pub(super) async fn read(
    ctx: &SessionContext,
    service: &str,
    timelines: &BTreeMap<Target, Timeline>,
    now_us: i64,
) -> Result<BTreeMap<Target, Footprint>> {
    let recent = Window::new(now_us - RECENT_US, now_us + MINUTE_US)?;
    let query = format!(
        "SELECT deployment_environment AS environment, count(DISTINCT coalesce(service_instance_id, k8s_pod)) AS replicas, \
         count(DISTINCT coalesce(k8s_node, host_name)) AS nodes, count(DISTINCT gpu_id) AS gpus \
         FROM raw.series WHERE {} GROUP BY 1",
        of_service(service, recent)
    );
    let rows = Rows::query(ctx, &query).await?;
    let environments = rows.texts("environment")?;
    let (replicas, nodes, gpus) = (rows.integers("replicas")?, rows.integers("nodes")?, rows.integers("gpus")?);
    // No name is counted as none, and then the number is unknown.
    let count = |value: Option<i64>| value.filter(|&count| count > 0).and_then(|count| u32::try_from(count).ok());
    let target_of = |environment: &Option<String>| {
        let named = timelines.keys().find(|target| target.environment == *environment);
        // Telemetry without an environment is of the only one.
        named.or_else(|| timelines.keys().next().filter(|_| environment.is_none() && timelines.len() == 1)).cloned()
    };
    let footprint = |row: usize| {
        let footprint = Footprint { replicas: count(replicas[row]), nodes: count(nodes[row]), gpus: count(gpus[row]) };
        Some((target_of(&environments[row])?, footprint))
    };
    Ok((0..rows.len()).filter_map(footprint).collect())
}
