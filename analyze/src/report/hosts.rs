//! What is told of hosts: size and use, what pods asked for and used, and what monitoring itself takes.

use std::collections::{BTreeMap, BTreeSet};

use super::{asker::Asker, present::Present, usage::Stats};
use crate::{
    error::Result,
    gpu_minutes::sharers::BRIDGED_US,
    price_book::Period,
    rows::SIMULATED,
    window::{DAY_US, MINUTE_US},
};

/// Simulated or not, and a name.
pub(super) type HostKey = (bool, String);

/// One host.
#[derive(Debug, Clone, Default)]
pub(super) struct Host {
    /// From its first to its last point.
    pub(super) here: Option<Period>,
    pub(super) vcpus: Option<f64>,
    pub(super) memory_gb: Option<f64>,
    pub(super) cpu: Stats,
    pub(super) memory: Stats,
    /// vCPUs that collectors use.
    pub(super) collector_cpus: Option<f64>,
    /// Memory that collectors use, gigabytes.
    pub(super) collector_gb: Option<f64>,
}

/// What one container or pod asked for and used on one UTC day.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PodDay {
    pub(super) host: HostKey,
    pub(super) namespace: Option<String>,
    pub(super) pod: String,
    pub(super) service: Option<String>,
    pub(super) team: Option<String>,
    /// Whether a pod or a container says so: of two, the larger counts.
    pub(super) scope: String,
    pub(super) period: Period,
    pub(super) cpu_request: Option<f64>,
    pub(super) cpu_usage: Option<f64>,
    pub(super) memory_request: Option<f64>,
    pub(super) memory_usage: Option<f64>,
}

/// All hosts that say anything of themselves.
#[derive(Debug, Clone, Default)]
pub(super) struct Hosts {
    pub(super) by_name: BTreeMap<HostKey, Host>,
    pub(super) pods: Vec<PodDay>,
    /// Points of hosts.
    pub(super) row_count: u64,
}

const HOST: &str = "coalesce(host_name, k8s_node)";

/// Until when the last of `count` points speaks: as long as they are usually apart, at least a minute and at most as long as a
/// silence is bridged.
fn spoken_until(first_us: i64, last_us: i64, count: u64, end_us: i64) -> i64 {
    let steps = i64::try_from(count).unwrap_or(i64::MAX) - 1;
    let step_us = if steps > 0 { (last_us - first_us) / steps } else { MINUTE_US };
    (last_us + step_us.clamp(MINUTE_US, BRIDGED_US)).min(end_us)
}

impl Hosts {
    pub(super) async fn read(asker: &mut Asker<'_>, present: &Present) -> Result<Self> {
        let mut hosts = Self::default();
        if present.has(&["cpu.utilization", "cpu.time", "memory.used", "cpu.count", "memory.total"]) {
            hosts.read_hosts(asker).await?;
        }
        if present.has(&["collector.cpu.usage", "collector.cpu.time", "collector.memory.used"]) {
            hosts.read_collectors(asker).await?;
        }
        let of_pods = ["cpu.request", "cpu.usage", "cpu.time", "memory.request", "memory.working_set", "memory.used"];
        if present.has_pods() && present.has(&of_pods) {
            hosts.read_pods(asker).await?;
        }
        Ok(hosts)
    }

    async fn read_hosts(&mut self, asker: &mut Asker<'_>) -> Result<()> {
        let query = format!(
            "SELECT {SIMULATED} AS simulated, {HOST} AS host, role, avg(value) AS average, \
             percentile_cont(value, 0.95) AS p95, max(value) AS peak, count(*) AS points, \
             CAST(min(time) AS BIGINT) AS first_us, CAST(max(time) AS BIGINT) AS last_us FROM system \
             WHERE role IN ('cpu.utilization', 'memory.used', 'cpu.count', 'memory.total') AND scope = 'node' AND {} \
             GROUP BY 1, 2, 3",
            asker.points()
        );
        let rows = asker.rows("hosts", query).await?;
        let (simulated, names, roles) = (rows.flags("simulated")?, rows.texts("host")?, rows.texts("role")?);
        let (averages, p95s, peaks) = (rows.numbers("average")?, rows.numbers("p95")?, rows.numbers("peak")?);
        let (points, first, last) = (rows.integers("points")?, rows.integers("first_us")?, rows.integers("last_us")?);
        for row in 0..rows.len() {
            let (Some(name), Some(first), Some(last)) = (names[row].clone(), first[row], last[row]) else { continue };
            let host = self.by_name.entry((simulated[row], name)).or_default();
            let count = points[row].unwrap_or(0).unsigned_abs();
            self.row_count += count;
            let stats = Stats { average: averages[row], p95: p95s[row], peak: peaks[row], count };
            let here = Period { start_us: first, end_us: spoken_until(first, last, count, asker.window.end_us) };
            host.here = Some(host.here.map_or(here, |known| Period {
                start_us: known.start_us.min(here.start_us),
                end_us: known.end_us.max(here.end_us),
            }));
            match roles[row].as_deref() {
                Some("cpu.utilization") => host.cpu = stats,
                Some("memory.used") => host.memory = stats,
                Some("cpu.count") => host.vcpus = stats.peak,
                _ => host.memory_gb = stats.peak.map(|bytes| bytes / 1e9),
            }
        }
        Ok(())
    }

    async fn read_collectors(&mut self, asker: &mut Asker<'_>) -> Result<()> {
        let query = format!(
            "SELECT simulated, host, role, sum(mean) AS mean FROM (SELECT {SIMULATED} AS simulated, {HOST} AS host, role, \
             series_id, avg(value) AS mean FROM system WHERE role IN ('collector.cpu.usage', 'collector.memory.used') AND {} \
             GROUP BY 1, 2, 3, 4) GROUP BY 1, 2, 3",
            asker.points()
        );
        let rows = asker.rows("monitoring itself", query).await?;
        let (simulated, names, roles) = (rows.flags("simulated")?, rows.texts("host")?, rows.texts("role")?);
        let means = rows.numbers("mean")?;
        for row in 0..rows.len() {
            let Some(name) = names[row].clone() else { continue };
            let host = self.by_name.entry((simulated[row], name)).or_default();
            match roles[row].as_deref() {
                Some("collector.cpu.usage") => host.collector_cpus = means[row],
                _ => host.collector_gb = means[row].map(|bytes| bytes / 1e9),
            }
        }
        Ok(())
    }

    async fn read_pods(&mut self, asker: &mut Asker<'_>) -> Result<()> {
        let mean = |role: &str| format!("avg(CASE role WHEN '{role}' THEN value END)");
        // Of the role that is told most often: every role has points of its own.
        let roles = ["cpu.request", "cpu.usage", "memory.request", "memory.working_set", "memory.used"];
        let counts = roles.map(|role| format!("count(CASE role WHEN '{role}' THEN value END)"));
        let query = format!(
            "SELECT {SIMULATED} AS simulated, {HOST} AS host, k8s_namespace AS namespace, k8s_pod AS pod, k8s_container, \
             max(service_name) AS service, max(team) AS team, scope, CAST(time AS BIGINT) / {DAY_US} AS day, \
             greatest({}) AS points, CAST(min(time) AS BIGINT) AS first_us, CAST(max(time) AS BIGINT) AS last_us, {} AS cpu_request, \
             {} AS cpu_usage, {} AS memory_request, coalesce({}, {}) AS memory_usage FROM system \
             WHERE role IN ('cpu.request', 'cpu.usage', 'memory.request', 'memory.working_set', 'memory.used') \
             AND scope IN ('pod', 'container') AND k8s_pod IS NOT NULL AND {} \
             GROUP BY 1, 2, 3, 4, 5, 8, 9 ORDER BY 1, 2, 3, 4, 5, 8, 9",
            counts.join(", "),
            mean("cpu.request"),
            mean("cpu.usage"),
            mean("memory.request"),
            mean("memory.working_set"),
            mean("memory.used"),
            asker.points()
        );
        let rows = asker.rows("requests and use of pods", query).await?;
        let simulated = rows.flags("simulated")?;
        let texts = ["host", "namespace", "pod", "k8s_container", "service", "team", "scope"];
        let [hosts, namespaces, pods, containers, services, teams, scopes] = texts.map(|name| rows.texts(name));
        let (hosts, namespaces, pods, containers) = (hosts?, namespaces?, pods?, containers?);
        let (services, teams, scopes) = (services?, teams?, scopes?);
        let (first, last) = (rows.integers("first_us")?, rows.integers("last_us")?);
        let points = rows.integers("points")?;
        let numbers = ["cpu_request", "cpu_usage", "memory_request", "memory_usage"].map(|name| rows.numbers(name));
        let [cpu_request, cpu_usage, memory_request, memory_usage] = numbers;
        let (cpu_request, cpu_usage) = (cpu_request?, cpu_usage?);
        let (memory_request, memory_usage) = (memory_request?, memory_usage?);
        let gigabytes = |bytes: Option<f64>| bytes.map(|bytes| bytes / 1e9);
        let who = |row: usize| (simulated[row], [&hosts, &namespaces, &pods, &containers, &scopes].map(|of| &of[row]));
        for row in 0..rows.len() {
            let (Some(host), Some(pod), Some(first_us), Some(last_us)) =
                (hosts[row].clone(), pods[row].clone(), first[row], last[row])
            else {
                continue;
            };
            // Whoever is there before and after midnight was there at midnight, too.
            let next = Some(row + 1).filter(|next| *next < rows.len() && who(*next) == who(row));
            let goes_on = next.and_then(|next| first[next]).filter(|next_us| next_us - last_us <= BRIDGED_US);
            let count = points[row].unwrap_or(0).unsigned_abs();
            let end_us = goes_on
                .unwrap_or_else(|| spoken_until(first_us, last_us, count, asker.window.end_us))
                .min(asker.window.end_us);
            self.pods.push(PodDay {
                host: (simulated[row], host),
                namespace: namespaces[row].clone(),
                pod,
                service: services[row].clone(),
                team: teams[row].clone(),
                scope: scopes[row].clone().unwrap_or_default(),
                period: Period { start_us: first_us, end_us },
                cpu_request: cpu_request[row],
                cpu_usage: cpu_usage[row],
                memory_request: gigabytes(memory_request[row]),
                memory_usage: gigabytes(memory_usage[row]),
            });
        }
        Ok(())
    }

    /// Hosts whose pods say what they hold.
    pub(super) fn with_pods(&self) -> BTreeSet<&HostKey> {
        self.pods.iter().map(|pod| &pod.host).collect()
    }
}
