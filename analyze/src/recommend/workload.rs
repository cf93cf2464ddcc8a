//! What Kubernetes and the services tell of workloads: names, requests, usage and the signals that an autoscaler could follow.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use datafusion::prelude::SessionContext;

use crate::{
    error::Result,
    gpu_minutes::Holder,
    hpa_advice::{Measured, Requests, ServiceSignals},
    manifest::{Target, WorkloadKind},
    rows::{Rows, SIMULATED},
    window::Window,
};

/// Simulated or not, and a name.
type Key = (bool, String);

/// A pod: its name is one within its namespace, which not every source sends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PodName {
    namespace: Option<String>,
    pub(super) pod: String,
}

/// What is told of all services.
#[derive(Debug, Default)]
pub(super) struct Workloads {
    named: Vec<Named>,
    /// Of all pods of a name, by namespace.
    pods: HashMap<Key, BTreeMap<Option<String>, PodUse>>,
    signals: HashMap<Key, ServiceSignals>,
    llm: BTreeSet<Key>,
    pub(super) queries: Vec<String>,
}

/// A workload as a series names it.
#[derive(Debug)]
struct Named {
    simulated: bool,
    service: Option<String>,
    pod: Option<String>,
    namespace: Option<String>,
    kind: WorkloadKind,
    name: String,
}

/// Simulated or not, namespace and name of a `ReplicaSet`.
type ReplicaSet = (bool, Option<String>, String);

/// Workloads by the name of their pods.
pub(super) struct Owners<'a>(HashMap<(bool, &'a str), Vec<&'a Named>>);

/// Sums over the containers of a pod, and of how many.
#[derive(Debug, Clone, Copy, Default)]
struct PodUse {
    cpu_request: Told,
    memory_request: Told,
    cpu_usage: Told,
    memory_usage: Told,
}

#[derive(Debug, Clone, Copy, Default)]
struct Told {
    sum: Option<f64>,
    container_count: i64,
}

/// What is told of one service.
#[derive(Debug)]
pub(super) struct Workload {
    /// The workload, or why it is not known.
    pub(super) target: Result<Target, String>,
    pub(super) requests: Requests,
    pub(super) signals: ServiceSignals,
    pub(super) serves_llm: bool,
    pub(super) namespace: Option<String>,
}

impl Workloads {
    pub(super) async fn read(ctx: &SessionContext, window: Window) -> Result<Self> {
        let mut found = Self::default();
        found.read_names(ctx, window).await?;
        found.read_pods(ctx, window).await?;
        found.read_signals(ctx, window).await?;
        Ok(found)
    }

    async fn rows(&mut self, ctx: &SessionContext, query: String) -> Result<Rows> {
        let rows = Rows::query(ctx, &query).await?;
        self.queries.push(query);
        Ok(rows)
    }

    /// Only what names workloads.
    pub(super) async fn read_owners(ctx: &SessionContext, window: Window) -> Result<Self> {
        let mut found = Self::default();
        found.read_names(ctx, window).await?;
        Ok(found)
    }

    async fn read_names(&mut self, ctx: &SessionContext, window: Window) -> Result<()> {
        // kube-state-metrics tells of pods the ReplicaSet, and of that the Deployment.
        let query = format!(
            "SELECT DISTINCT {SIMULATED} AS simulated, service_name AS service, k8s_pod AS pod, k8s_namespace AS namespace, \
             attributes['k8s.deployment.name'] AS deployment, attributes['k8s.statefulset.name'] AS stateful, \
             attributes['k8s.daemonset.name'] AS daemon, attributes['owner_kind'] AS owner_kind, \
             attributes['owner_name'] AS owner_name, attributes['replicaset'] AS replica_set \
             FROM raw.series WHERE (attributes['k8s.deployment.name'] IS NOT NULL OR \
             attributes['k8s.statefulset.name'] IS NOT NULL OR attributes['k8s.daemonset.name'] IS NOT NULL OR \
             attributes['owner_name'] IS NOT NULL) AND {}",
            window.series_condition()
        );
        let rows = self.rows(ctx, query).await?;
        let simulated = rows.flags("simulated")?;
        let [services, pods, namespaces] = ["service", "pod", "namespace"].map(|name| rows.texts(name));
        let (services, pods, namespaces) = (services?, pods?, namespaces?);
        let (deployments, stateful, daemons) =
            (rows.texts("deployment")?, rows.texts("stateful")?, rows.texts("daemon")?);
        let (owner_kinds, owner_names, replica_sets) =
            (rows.texts("owner_kind")?, rows.texts("owner_name")?, rows.texts("replica_set")?);
        let of_deployment = (0..rows.len()).filter_map(|row| {
            let is_deployment = owner_kinds[row].as_deref() == Some("Deployment");
            let replica_set = replica_sets[row].clone().filter(|_| is_deployment)?;
            Some(((simulated[row], namespaces[row].clone(), replica_set), owner_names[row].clone()?))
        });
        let of_deployment: HashMap<ReplicaSet, String> = of_deployment.collect();
        for row in 0..rows.len() {
            let owner = owner_names[row].clone().filter(|_| replica_sets[row].is_none());
            let named = match (&deployments[row], &stateful[row], &daemons[row], owner_kinds[row].as_deref(), owner) {
                (Some(name), ..) => Some((WorkloadKind::Deployment, name.clone())),
                (_, Some(name), ..) => Some((WorkloadKind::StatefulSet, name.clone())),
                (_, _, Some(name), ..) => Some((WorkloadKind::DaemonSet, name.clone())),
                (.., Some("StatefulSet"), Some(name)) => Some((WorkloadKind::StatefulSet, name)),
                (.., Some("DaemonSet"), Some(name)) => Some((WorkloadKind::DaemonSet, name)),
                (.., Some("ReplicaSet"), Some(name)) => of_deployment
                    .get(&(simulated[row], namespaces[row].clone(), name))
                    .map(|name| (WorkloadKind::Deployment, name.clone())),
                _ => None,
            };
            let Some((kind, name)) = named else { continue };
            let (service, pod, namespace) = (services[row].clone(), pods[row].clone(), namespaces[row].clone());
            self.named.push(Named { simulated: simulated[row], service, pod, namespace, kind, name });
        }
        Ok(())
    }

    /// The workloads by pod.
    pub(super) fn owners(&self) -> Owners<'_> {
        let mut by_pod: HashMap<(bool, &str), Vec<&Named>> = HashMap::new();
        for named in &self.named {
            if let Some(pod) = &named.pod {
                by_pod.entry((named.simulated, pod)).or_default().push(named);
            }
        }
        Owners(by_pod)
    }

    async fn read_pods(&mut self, ctx: &SessionContext, window: Window) -> Result<()> {
        // Containers add up to their pod; where a source tells of the pod itself as well, that is a copy.
        let query = format!(
            "SELECT simulated, namespace, pod, role, coalesce(sum(CASE WHEN container <> '' THEN mean END), max(mean)) \
             AS total, sum(CASE WHEN container <> '' THEN 1 ELSE 0 END) AS containers FROM (SELECT {SIMULATED} AS simulated, \
             k8s_namespace AS namespace, k8s_pod AS pod, coalesce(k8s_container, '') AS container, role, \
             avg(value) AS mean FROM system \
             WHERE role IN ('cpu.request', 'memory.request', 'cpu.usage', 'memory.working_set') AND k8s_pod IS NOT NULL \
             AND coalesce(k8s_container, '') <> 'POD' AND {} AND value IS NOT NULL GROUP BY 1, 2, 3, 4, 5) \
             GROUP BY 1, 2, 3, 4",
            window.condition("time")
        );
        let rows = self.rows(ctx, query).await?;
        let (simulated, pods, roles) = (rows.flags("simulated")?, rows.texts("pod")?, rows.texts("role")?);
        let namespaces = rows.texts("namespace")?;
        let (totals, containers) = (rows.numbers("total")?, rows.integers("containers")?);
        for row in 0..rows.len() {
            let Some(pod) = pods[row].clone() else { continue };
            let of_name = self.pods.entry((simulated[row], pod)).or_default();
            let of = of_name.entry(namespaces[row].clone()).or_default();
            let told = Told { sum: totals[row], container_count: containers[row].unwrap_or(0) };
            match roles[row].as_deref() {
                Some("cpu.request") => of.cpu_request = told,
                Some("memory.request") => of.memory_request = told,
                Some("cpu.usage") => of.cpu_usage = told,
                _ => of.memory_usage = told,
            }
        }
        Ok(())
    }

    async fn read_signals(&mut self, ctx: &SessionContext, window: Window) -> Result<()> {
        let query = format!(
            "SELECT {SIMULATED} AS simulated, service_name AS service, role, max(metric) AS metric, avg(value) AS mean FROM latency \
             WHERE role IN ('queue.length', 'kv_cache.utilization', 'latency.ttft', 'latency.tpot') AND service_name IS NOT NULL \
             AND {} GROUP BY 1, 2, 3",
            window.condition("time")
        );
        let rows = self.rows(ctx, query).await?;
        let (simulated, services, roles) = (rows.flags("simulated")?, rows.texts("service")?, rows.texts("role")?);
        let (metrics, means) = (rows.texts("metric")?, rows.numbers("mean")?);
        for row in 0..rows.len() {
            let Some(service) = services[row].clone() else { continue };
            let key = (simulated[row], service);
            let measured = metrics[row].as_deref().zip(means[row]);
            let measured = measured.map(|(metric, mean)| Measured { metric: prometheus_name(metric), mean });
            let signals = self.signals.entry(key.clone()).or_default();
            match roles[row].as_deref() {
                Some("queue.length") => signals.queue = measured,
                Some("kv_cache.utilization") => {
                    signals.kv_cache = measured;
                    self.llm.insert(key);
                }
                _ => drop(self.llm.insert(key)),
            }
        }
        Ok(())
    }

    /// What is told of `service`, which runs in `pods`.
    pub(super) fn of(&self, service: &str, simulated: bool, pods: &BTreeSet<PodName>) -> Workload {
        let key = (simulated, service.to_owned());
        let uses: Vec<PodUse> = pods.iter().filter_map(|pod| self.use_of(simulated, pod)).collect();
        let mean = |of: fn(&PodUse) -> Option<f64>| {
            let known: Vec<f64> = uses.iter().filter_map(of).collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
        };
        // One container without a request leaves the autoscaler without a percentage: so is a pod without one.
        let all = |of: fn(&PodUse) -> Option<f64>| uses.iter().all(|pod| of(pod).is_some()).then(|| mean(of)).flatten();
        let requests = Requests {
            cpu_cores: all(|pod| pod.cpu_request.of_all(pod.cpu_usage)),
            memory_bytes: all(|pod| pod.memory_request.of_all(pod.memory_usage)),
        };
        let signals = ServiceSignals {
            cpu_cores_mean: mean(|pod| pod.cpu_usage.sum),
            memory_bytes_mean: mean(|pod| pod.memory_usage.sum),
            ..self.signals.get(&key).cloned().unwrap_or_default()
        };
        let (target, namespace) = self.target(service, simulated, pods);
        Workload { target, requests, signals, serves_llm: self.llm.contains(&key), namespace }
    }

    /// What is told of `pod`; nothing where that may be another's of its name.
    fn use_of(&self, simulated: bool, pod: &PodName) -> Option<PodUse> {
        let of_name = self.pods.get(&(simulated, pod.pod.clone()))?;
        let same = || of_name.iter().filter(|(namespace, _)| pod.may_be_in(namespace.as_ref()));
        // Without a namespace it may be any of them.
        let is_one = same().filter(|(namespace, _)| namespace.is_some()).count() <= 1;
        // What is told of its own namespace goes before what is told of none.
        same().rev().map(|(_, told)| *told).reduce(PodUse::or).filter(|_| is_one)
    }

    fn target(
        &self,
        service: &str,
        simulated: bool,
        pods: &BTreeSet<PodName>,
    ) -> (Result<Target, String>, Option<String>) {
        // Few of all pods are ours: most are ruled out by their name.
        let pod_names: HashSet<&str> = pods.iter().map(|pod| pod.pod.as_str()).collect();
        let is_ours = |named: &&Named| {
            named.simulated == simulated
                && (named.service.as_deref() == Some(service)
                    || named.pod.as_ref().is_some_and(|name| {
                        pod_names.contains(name.as_str())
                            && pods.iter().any(|pod| pod.pod == *name && pod.may_be_in(named.namespace.as_ref()))
                    }))
        };
        let mut names: BTreeMap<(&str, &str), WorkloadKind> = BTreeMap::new();
        let mut without_namespace = None;
        for named in self.named.iter().filter(is_ours) {
            match &named.namespace {
                Some(namespace) => drop(names.insert((namespace, &named.name), named.kind)),
                None => without_namespace = Some(&named.name),
            }
        }
        let mut found = names.iter();
        match (found.next(), found.next(), without_namespace) {
            (Some(((namespace, name), kind)), None, _) => {
                let target = Target::new(namespace, *kind, name).map_err(|error| error.to_string());
                (target, Some((*namespace).to_owned()))
            }
            (Some(_), Some(_), _) => {
                let names: Vec<String> = names.keys().map(|(namespace, name)| format!("{namespace}/{name}")).collect();
                (Err(format!("several workloads are named ({}): which one to change is not known", names.join(", "))), None)
            }
            (None, _, Some(name)) => (Err(format!("the namespace of {name} is not known: send k8s.namespace.name")), None),
            (None, _, None) => {
                (Err("its workload is not known: send k8s.deployment.name (or k8s.statefulset.name) and k8s.namespace.name".into()), None)
            }
        }
    }
}

impl Owners<'_> {
    /// Namespace, kind and name of the workload of a pod; none where it is not told, or two are.
    pub(super) fn of(
        &self,
        simulated: bool,
        namespace: Option<&String>,
        pod: &str,
    ) -> Option<(Option<&str>, WorkloadKind, &str)> {
        let named = self.0.get(&(simulated, pod))?;
        let fits = |named: &&&Named| namespace.zip(named.namespace.as_ref()).is_none_or(|(own, other)| own == other);
        let found: BTreeSet<(Option<&str>, WorkloadKind, &str)> =
            named.iter().filter(fits).map(|one| (one.namespace.as_deref(), one.kind, one.name.as_str())).collect();
        // A source without a namespace tells of the same workload once more.
        let told: BTreeSet<(WorkloadKind, &str)> = found.iter().map(|(_, kind, name)| (*kind, *name)).collect();
        found.last().copied().filter(|_| told.len() == 1)
    }
}

/// The name that Prometheus, and with it an adapter of custom metrics, has for a metric of OpenTelemetry.
fn prometheus_name(metric: &str) -> String {
    metric.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | ':') { c } else { '_' }).collect()
}

impl PodName {
    pub(super) fn new(namespace: Option<String>, pod: String) -> Self {
        Self { namespace, pod }
    }

    /// The pod of `holder`, if it is in one.
    pub(super) fn of(holder: &Holder) -> Option<Self> {
        Some(Self { namespace: holder.namespace.clone(), pod: holder.pod.clone()? })
    }

    /// The pod of `known` that it is, where it has no namespace and only one there has its name.
    pub(super) fn among(self, known: &BTreeSet<Self>) -> Self {
        let mut same = known.iter().filter(|other| other.namespace.is_some() && other.pod == self.pod);
        match (&self.namespace, same.next(), same.next()) {
            (None, Some(only), None) => only.clone(),
            _ => self,
        }
    }

    /// Whether nothing says that it is in another namespace.
    pub(super) fn may_be_in(&self, namespace: Option<&String>) -> bool {
        self.namespace.as_ref().zip(namespace).is_none_or(|(own, other)| own == other)
    }
}

impl PodUse {
    /// What one source tells, and what only another does.
    fn or(self, other: Self) -> Self {
        let or = |own: Told, other: Told| if own.sum.is_some() { own } else { other };
        Self {
            cpu_request: or(self.cpu_request, other.cpu_request),
            memory_request: or(self.memory_request, other.memory_request),
            cpu_usage: or(self.cpu_usage, other.cpu_usage),
            memory_usage: or(self.memory_usage, other.memory_usage),
        }
    }
}

impl Told {
    /// The sum, unless `seen` is of more containers.
    fn of_all(self, seen: Self) -> Option<f64> {
        self.sum.filter(|sum| *sum > 0.0 && self.container_count >= seen.container_count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_session::{Sample, labels, session};

    fn name(namespace: Option<&str>) -> BTreeSet<PodName> {
        BTreeSet::from([PodName { namespace: namespace.map(str::to_owned), pod: "api-0".to_owned() }])
    }

    #[tokio::test]
    async fn a_pod_is_one_within_its_namespace() {
        let says = |role, value, namespace: &str| Sample {
            time_us: 0,
            role,
            value,
            labels: match namespace {
                "" => labels(&[("k8s_pod", "api-0")]),
                namespace => labels(&[("k8s_pod", "api-0"), ("k8s_namespace", namespace)]),
            },
            simulated: false,
        };
        let mut samples = vec![says("cpu.request", 2.0, "prod"), says("cpu.request", 8.0, "test")];
        let window = Window::new(0, 1).unwrap();
        let read = |samples: &[Sample]| {
            let ctx = session(samples, &[]);
            async move { Workloads::read(&ctx, window).await.unwrap() }
        };
        let workloads = read(&samples).await;
        let cpus = |of: &Workloads, pods: &BTreeSet<PodName>| of.of("api", false, pods).requests.cpu_cores;
        assert_eq!(cpus(&workloads, &name(Some("prod"))), Some(2.0));
        assert_eq!(cpus(&workloads, &name(Some("other"))), None);
        assert_eq!(cpus(&workloads, &name(None)), None, "it may be either");
        // A source that sends no namespace tells of the one pod of the name.
        samples.retain(|sample| sample.value < 8.0);
        samples.push(says("cpu.usage", 1.5, ""));
        let workloads = read(&samples).await;
        for pods in [name(Some("prod")), name(None)] {
            let told = workloads.of("api", false, &pods);
            assert_eq!((told.requests.cpu_cores, told.signals.cpu_cores_mean), (Some(2.0), Some(1.5)));
        }
        let both: BTreeSet<PodName> = [name(None), name(Some("prod"))].into_iter().flatten().collect();
        assert_eq!(name(None).pop_first().unwrap().among(&both), name(Some("prod")).pop_first().unwrap());
    }
}
