//! Quotas of namespaces: what all containers together should be allowed to request.

use std::collections::BTreeMap;

use datafusion::prelude::SessionContext;
use serde::Serialize;

use super::{ContainerVerdict, RecommendRequest, ServiceManifests};
use crate::{
    error::Result,
    manifest::{self, ContainerResources, Folder},
    rows::{Rows, SIMULATED},
    sizing::requests::{Quota, bytes_text, cores_text, quota},
    window::Window,
};

/// Less than this is no change.
const CHANGE_SHARE_MIN: f64 = 0.10;

/// The quota that the requests of a namespace need.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QuotaAdvice {
    /// Whether the data comes from a generator.
    pub simulated: bool,
    /// Namespace.
    pub namespace: String,
    /// Containers in the sum, one each of a workload.
    pub container_count: usize,
    /// Containers whose requests are not known, so that neither is the sum.
    pub unknown_count: usize,
    /// Requests of all pods at once, as proposed, a quarter more for a rollout.
    pub needed: Quota,
    /// Name of the quota that is there, where one is told.
    pub name: Option<String>,
    /// What it allows.
    pub hard: Quota,
    /// Why.
    pub why: String,
    /// Whether another quota is suggested.
    pub is_change: bool,
    /// Files, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifests: Option<ServiceManifests>,
}

/// Simulated or not, and a namespace.
type Key = (bool, String);

/// Name of the quota, and what it allows.
type Told = BTreeMap<Key, (String, Quota)>;

/// The advice for every namespace with containers, and the SQL that read the quotas; `most_pods` are those of each verdict at once.
pub(super) async fn read(
    ctx: &SessionContext,
    request: &RecommendRequest,
    verdicts: &[ContainerVerdict],
    most_pods: &[u32],
) -> Result<(Vec<QuotaAdvice>, Option<String>)> {
    let mut by_namespace: BTreeMap<Key, Vec<(ContainerResources, u32)>> = BTreeMap::new();
    for (of, pods) in verdicts.iter().zip(most_pods) {
        let Some(namespace) = of.namespace.clone() else { continue };
        let resources = of.change().map_or(of.today, |change| change.to);
        by_namespace.entry((of.simulated, namespace)).or_default().push((resources, *pods));
    }
    if by_namespace.is_empty() {
        return Ok((vec![], None));
    }
    let (told, query) = hard(ctx, request.window).await?;
    let advice = by_namespace.into_iter().map(|(key, containers)| {
        let told = told.get(&key);
        advice(key, &containers, told, request)
    });
    Ok((advice.collect(), Some(query)))
}

/// Quotas as kube-state-metrics tells them last. Of several of one namespace that which allows the least CPU, then memory, is taken
/// whole: a patch must not give one what another sets.
async fn hard(ctx: &SessionContext, window: Window) -> Result<(Told, String)> {
    let query = format!(
        "SELECT {SIMULATED} AS simulated, k8s_namespace AS namespace, attributes['resourcequota'] AS name, \
         attributes['resource'] AS resource, last_value(value ORDER BY time) AS value FROM system \
         WHERE role = 'quota.hard' AND attributes['resourcequota'] IS NOT NULL AND attributes['resource'] IN \
         ('requests.cpu', 'cpu', 'requests.memory', 'memory') AND k8s_namespace IS NOT NULL AND {} AND value IS NOT NULL \
         GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4",
        window.condition("time")
    );
    let rows = Rows::query(ctx, &query).await?;
    let (simulated, namespaces, names) = (rows.flags("simulated")?, rows.texts("namespace")?, rows.texts("name")?);
    let (resources, values) = (rows.texts("resource")?, rows.numbers("value")?);
    let mut by_name: BTreeMap<(Key, String), Quota> = BTreeMap::new();
    for row in 0..rows.len() {
        let (Some(namespace), Some(name), Some(value)) = (namespaces[row].clone(), names[row].clone(), values[row])
        else {
            continue;
        };
        let of = by_name.entry(((simulated[row], namespace), name)).or_default();
        let is_cpu = resources[row].as_deref().is_some_and(|resource| resource.ends_with("cpu"));
        let known = if is_cpu { &mut of.cores } else { &mut of.memory_bytes };
        *known = known.iter().copied().chain([value]).reduce(f64::min);
    }
    let mut told = Told::new();
    for ((key, name), hard) in by_name {
        let binds = |other: &Quota| {
            let of = |quota: &Quota| [quota.cores, quota.memory_bytes].map(|value| value.unwrap_or(f64::INFINITY));
            of(&hard).partial_cmp(&of(other)).is_some_and(std::cmp::Ordering::is_lt)
        };
        if told.get(&key).is_none_or(|(_, other)| binds(other)) {
            told.insert(key, (name, hard));
        }
    }
    Ok((told, query))
}

fn advice(
    (simulated, namespace): Key,
    containers: &[(ContainerResources, u32)],
    told: Option<&(String, Quota)>,
    request: &RecommendRequest,
) -> QuotaAdvice {
    let is_unknown = |(of, _): &&(ContainerResources, u32)| of.cpu_request.is_none() || of.memory_request.is_none();
    let unknown_count = containers.iter().filter(is_unknown).count();
    let needed = quota(containers);
    let hard = told.map(|(_, quota)| *quota).unwrap_or_default();
    let differs = |needed: Option<f64>, hard: Option<f64>| match (needed, hard) {
        (Some(needed), Some(hard)) => (needed - hard).abs() > hard * CHANGE_SHARE_MIN,
        _ => false,
    };
    let is_short =
        |needed: Option<f64>, hard: Option<f64>| needed.zip(hard).is_some_and(|(needed, hard)| needed > hard);
    let is_known = needed != Quota::default();
    let is_change = is_known
        && (told.is_none() || differs(needed.cores, hard.cores) || differs(needed.memory_bytes, hard.memory_bytes));
    let known = |value: Option<f64>, text: fn(f64) -> String| value.map_or_else(|| "unknown".to_owned(), text);
    let sums = format!("{} and {}", known(needed.cores, cores_text), known(needed.memory_bytes, bytes_text));
    let why = if !is_known {
        format!(
            "{unknown_count} of {} containers have requests that are not known, so their sum is not either",
            containers.len()
        )
    } else if told.is_none() {
        format!("no quota is told; all pods at once and a rollout request {sums}")
    } else if is_short(needed.cores, hard.cores) || is_short(needed.memory_bytes, hard.memory_bytes) {
        format!("a rollout of all would be refused: it requests {sums}")
    } else if is_change {
        format!("all pods at once and a rollout request {sums}")
    } else {
        format!("it fits: all pods at once and a rollout request {sums}")
    };
    let mut advice = QuotaAdvice {
        simulated,
        namespace,
        container_count: containers.len(),
        unknown_count,
        needed,
        name: told.map(|(name, _)| name.clone()),
        hard,
        why,
        is_change,
        manifests: None,
    };
    advice.manifests = request.manifests.as_ref().filter(|_| is_change).map(|_| advice.files());
    advice
}

impl QuotaAdvice {
    fn files(&self) -> ServiceManifests {
        let mut made = ServiceManifests { folders: vec![], notes: vec![] };
        let existing = self.name.as_deref().map(|name| (name, &self.hard));
        match manifest::resource_quota(&self.namespace, existing, &self.needed, &self.why) {
            Ok(change) => made.folders.push(Folder::new(
                "quota",
                "Apply the requests first: the sum is of what is proposed. A quota refuses pods that request nothing.\n\n",
                change,
            )),
            Err(error) => made.notes.push(format!("no files: {error}")),
        }
        made
    }
}
