//! Jobs of pods: the telemetry of a card names the pod, another source the job of that.

use std::collections::{BTreeSet, HashMap};

use datafusion::prelude::SessionContext;

use super::{GpuMinutes, Holder};
use crate::{error::Result, rows::Rows, window::Window};

/// Names the job of every holder whose pod has one; the SQL, if anything was asked.
pub(super) async fn name(ctx: &SessionContext, minutes: &mut GpuMinutes) -> Result<Option<String>> {
    let sharers = || minutes.gpus.iter().flat_map(|gpu| &gpu.sharers).map(|sharer| &sharer.holder);
    let is_asked = |holder: &&Holder| holder.job.is_none() && holder.pod.is_some();
    if !minutes.holders.iter().chain(sharers()).any(|holder| is_asked(&holder)) {
        return Ok(None);
    }
    let query = query(minutes.window);
    let rows = Rows::query(ctx, &query).await?;
    let (namespaces, pods, jobs) = (rows.texts("namespace")?, rows.texts("pod")?, rows.texts("job")?);
    let mut of_pods: HashMap<String, BTreeSet<(Option<String>, String)>> = HashMap::new();
    for ((namespace, pod), job) in namespaces.into_iter().zip(pods).zip(jobs) {
        if let Some((pod, job)) = pod.zip(job) {
            of_pods.entry(pod).or_default().insert((namespace, job));
        }
    }
    let name = |holder: &mut Holder| {
        let Some(told) = holder.pod.as_ref().filter(|_| holder.job.is_none()).and_then(|pod| of_pods.get(pod)) else {
            return;
        };
        let is_its = |namespace: &Option<String>| {
            namespace.as_ref().zip(holder.namespace.as_ref()).is_none_or(|(told, own)| told == own)
        };
        // Of two jobs nobody knows which it is.
        let its: BTreeSet<&String> = told.iter().filter(|(at, _)| is_its(at)).map(|(_, job)| job).collect();
        holder.job = its.first().filter(|_| its.len() == 1).map(|job| (*job).clone());
    };
    minutes.holders.iter_mut().for_each(name);
    minutes.gpus.iter_mut().flat_map(|gpu| &mut gpu.sharers).for_each(|sharer| name(&mut sharer.holder));
    Ok(Some(query))
}

/// SQL of the job that a series of a pod tells: by the attributes of Kubernetes, or by the owner that kube-state-metrics tells.
pub(crate) const POD_JOB: &str =
    "coalesce(attributes['k8s.job.name'], CASE attributes['owner_kind'] WHEN 'Job' THEN attributes['owner_name'] END)";

fn query(window: Window) -> String {
    format!(
        "SELECT DISTINCT k8s_namespace AS namespace, k8s_pod AS pod, {POD_JOB} AS job FROM raw.series \
         WHERE k8s_pod IS NOT NULL AND (attributes['k8s.job.name'] <> '' OR attributes['owner_kind'] = 'Job') \
         AND {}",
        window.series_condition()
    )
}
