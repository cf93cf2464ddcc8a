//! What the containers of each workload asked for and used, hour by hour.
//!
//! Read day by day, so that memory follows the workloads and the points of one day, whatever the window: of a day only hours are
//! kept, of pods only what their workload needs.

use std::collections::{BTreeMap, HashMap};

use datafusion::prelude::SessionContext;

use super::super::{
    oom::OomKills,
    workload::{Owners, PodName},
};
use crate::{
    error::Result,
    manifest::{ContainerResources, Target, WorkloadKind},
    rows::{Rows, SIMULATED},
    sizing::requests::ContainerUse,
    window::{DAY_US, HOUR_US, MINUTE_US, Window},
};

/// Slots of an hour in which a pod is seen or not.
const SLOTS: usize = 12;
const SLOT_US: i64 = 5 * MINUTE_US;

/// A container of a workload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ContainerKey {
    pub(super) simulated: bool,
    pub(super) namespace: Option<String>,
    /// Kind and name; the pod alone where no workload is told.
    pub(super) workload: std::result::Result<(WorkloadKind, String), String>,
    pub(super) container: String,
}

/// What its pods did.
#[derive(Debug, Clone, Default)]
pub(super) struct Usage {
    pub(super) service: Option<String>,
    pub(super) criticality: Option<String>,
    /// By hours since the epoch.
    pub(super) hours: BTreeMap<i64, Hour>,
    /// Slots in which a pod was there, and of them with CPU and with memory.
    pod_slots: u64,
    measured_slots: [u64; 2],
    /// Most pods at once.
    pub(super) pod_count_max: u32,
    pub(super) used: ContainerUse,
    sums: [f64; 2],
    /// Request and limit of CPU, then of memory, each with the hour that it is of.
    resources: [Option<(i64, f64)>; 4],
}

/// The busiest pod of an hour; not a number where not measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hour {
    cpu_p95: f32,
    pub(super) cpu_peak: f32,
    pub(super) memory_peak: f32,
    /// A bit for each slot in which a pod was measured.
    slots: u16,
}

/// Of all containers.
#[derive(Debug, Default)]
pub(super) struct ContainerUsages {
    pub(super) by_container: BTreeMap<ContainerKey, Usage>,
    /// Points read.
    pub(super) row_count: u64,
    pub(super) queries: Vec<String>,
}

/// One answer about a container of a pod in an hour.
struct PodHour {
    hour: i64,
    /// p95, peak, sum and number of points of CPU; peak, sum and number of memory.
    cpu: [Option<f64>; 4],
    memory: [Option<f64>; 3],
    throttled: Option<f64>,
    /// Slots with any point, with CPU, with memory.
    slots: [u16; 3],
    resources: [Option<f64>; 4],
}

fn query(day: Window) -> String {
    let of = |role: &str| format!("CASE role WHEN '{role}' THEN value END");
    let slot = format!("(1 << ((CAST(time AS BIGINT) / {SLOT_US}) % {SLOTS}))");
    let (cpu, memory) = (of("cpu.usage"), of("memory.working_set"));
    format!(
        "SELECT {SIMULATED} AS simulated, k8s_namespace AS namespace, k8s_pod AS pod, k8s_container AS container, \
         CAST(time AS BIGINT) / {HOUR_US} AS hour, max(service_name) AS service, \
         max(attributes['service.criticality']) AS criticality, \
         percentile_cont({cpu}, 0.95) AS cpu_p95, max({cpu}) AS cpu_peak, sum({cpu}) AS cpu_sum, count({cpu}) AS cpu_count, \
         max({memory}) AS memory_peak, sum({memory}) AS memory_sum, count({memory}) AS memory_count, \
         avg({}) AS throttled, bit_or({slot}) AS slots, \
         bit_or(CASE role WHEN 'cpu.usage' THEN {slot} ELSE 0 END) AS cpu_slots, \
         bit_or(CASE role WHEN 'memory.working_set' THEN {slot} ELSE 0 END) AS memory_slots, \
         max({}) AS cpu_request, max({}) AS cpu_limit, max({}) AS memory_request, max({}) AS memory_limit FROM system \
         WHERE role IN ('cpu.usage', 'memory.working_set', 'cpu.throttled', 'cpu.request', 'cpu.limit', 'memory.request', \
         'memory.limit') AND k8s_pod IS NOT NULL AND k8s_container <> '' AND k8s_container <> 'POD' AND {} \
         AND value IS NOT NULL AND NOT isnan(value) GROUP BY 1, 2, 3, 4, 5",
        of("cpu.throttled"),
        of("cpu.request"),
        of("cpu.limit"),
        of("memory.request"),
        of("memory.limit"),
        day.condition("time")
    )
}

impl ContainerUsages {
    /// What is told in `window`, cut into UTC days.
    pub(super) async fn read(
        ctx: &SessionContext,
        window: Window,
        owners: &Owners<'_>,
        oom: &OomKills,
    ) -> Result<Self> {
        let mut found = Self::default();
        let mut killed: BTreeMap<(bool, Option<String>, String, String), ContainerKey> = BTreeMap::new();
        let mut from_us = window.start_us;
        while from_us < window.end_us {
            let until_us = ((from_us.div_euclid(DAY_US) + 1) * DAY_US).min(window.end_us);
            let query = query(Window::new(from_us, until_us)?);
            let rows = Rows::query(ctx, &query).await?;
            found.add_day(&rows, owners, &mut killed, oom)?;
            found.queries.push(query);
            from_us = until_us;
        }
        // One question is like the other: the first shows how to ask.
        found.queries.truncate(1);
        for ((simulated, namespace, pod, container), key) in killed {
            let count = oom.of_container(simulated, &PodName::new(namespace, pod), &container);
            if let Some(usage) = found.by_container.get_mut(&key) {
                usage.used.oom_count += count;
            }
        }
        Ok(found)
    }

    fn add_day(
        &mut self,
        rows: &Rows,
        owners: &Owners<'_>,
        killed: &mut BTreeMap<(bool, Option<String>, String, String), ContainerKey>,
        oom: &OomKills,
    ) -> Result<()> {
        let simulated = rows.flags("simulated")?;
        let [namespaces, pods, containers] = ["namespace", "pod", "container"].map(|name| rows.texts(name));
        let (namespaces, pods, containers) = (namespaces?, pods?, containers?);
        let (services, criticalities) = (rows.texts("service")?, rows.texts("criticality")?);
        let hours = PodHour::all(rows)?;
        // Pods at once, by slot: only of this day.
        let mut at_once: HashMap<(ContainerKey, i64), [u32; SLOTS]> = HashMap::new();
        for (row, hour) in hours.into_iter().enumerate() {
            let (Some(pod), Some(container)) = (pods[row].clone(), containers[row].clone()) else { continue };
            let namespace = namespaces[row].clone();
            let owner = owners.of(simulated[row], namespace.as_ref(), &pod);
            let key = ContainerKey {
                simulated: simulated[row],
                namespace: namespace.clone().or_else(|| owner.and_then(|(told, ..)| told.map(str::to_owned))),
                workload: match owner {
                    Some((_, kind, name)) => Ok((kind, name.to_owned())),
                    None => Err(services[row].clone().unwrap_or_else(|| pod.clone())),
                },
                container: container.clone(),
            };
            self.row_count += hour.point_count();
            for (slot, count) in at_once.entry((key.clone(), hour.hour)).or_default().iter_mut().enumerate() {
                *count += u32::from(hour.slots[0] >> slot & 1);
            }
            let usage = self.by_container.entry(key.clone()).or_default();
            usage.service = usage.service.take().or_else(|| services[row].clone());
            usage.criticality = usage.criticality.take().or_else(|| criticalities[row].clone());
            usage.add(&hour);
            let name = PodName::new(namespace.clone(), pod.clone());
            if oom.of_container(simulated[row], &name, &container) > 0 {
                killed.insert((simulated[row], namespace, pod, container), key);
            }
        }
        for ((key, _), counts) in at_once {
            let most = counts.into_iter().max().unwrap_or(0);
            if let Some(usage) = self.by_container.get_mut(&key) {
                usage.pod_count_max = usage.pod_count_max.max(most);
            }
        }
        Ok(())
    }
}

impl PodHour {
    fn all(rows: &Rows) -> Result<Vec<Self>> {
        let hours = rows.integers("hour")?;
        let numbers = |names: [&str; 4]| -> Result<Vec<[Option<f64>; 4]>> {
            let columns = names.iter().map(|name| rows.numbers(name)).collect::<Result<Vec<_>>>()?;
            Ok((0..rows.len()).map(|row| [0, 1, 2, 3].map(|at| columns[at][row])).collect())
        };
        let cpu = numbers(["cpu_p95", "cpu_peak", "cpu_sum", "cpu_count"])?;
        let memory = numbers(["memory_peak", "memory_sum", "memory_count", "throttled"])?;
        let resources = numbers(["cpu_request", "cpu_limit", "memory_request", "memory_limit"])?;
        let slots = ["slots", "cpu_slots", "memory_slots"].map(|name| rows.integers(name));
        let [any, of_cpu, of_memory] = slots;
        let (any, of_cpu, of_memory) = (any?, of_cpu?, of_memory?);
        let bits = |bits: Option<i64>| u16::try_from(bits.unwrap_or(0)).unwrap_or(0);
        let all = (0..rows.len()).filter_map(|row| {
            let [peak, sum, count, throttled] = memory[row];
            Some(Self {
                hour: hours[row]?,
                cpu: cpu[row],
                memory: [peak, sum, count],
                throttled,
                slots: [bits(any[row]), bits(of_cpu[row]), bits(of_memory[row])],
                resources: resources[row],
            })
        });
        Ok(all.collect())
    }

    fn point_count(&self) -> u64 {
        (self.cpu[3].unwrap_or(0.0) + self.memory[2].unwrap_or(0.0)) as u64
    }
}

impl Usage {
    fn add(&mut self, of: &PodHour) {
        let largest = |known: &mut Option<f64>, value: Option<f64>| {
            *known = known.iter().copied().chain(value).reduce(f64::max);
        };
        let [p95, cpu_peak, cpu_sum, cpu_count] = of.cpu;
        let [memory_peak, memory_sum, memory_count] = of.memory;
        largest(&mut self.used.cpu_p95, p95);
        largest(&mut self.used.memory_peak, memory_peak);
        largest(&mut self.used.throttled_share, of.throttled);
        self.used.cpu_point_count += cpu_count.unwrap_or(0.0) as u64;
        self.used.memory_point_count += memory_count.unwrap_or(0.0) as u64;
        self.sums[0] += cpu_sum.unwrap_or(0.0);
        self.sums[1] += memory_sum.unwrap_or(0.0);
        let mean = |sum: f64, count: u64| (count > 0).then(|| sum / count as f64);
        self.used.cpu_mean = mean(self.sums[0], self.used.cpu_point_count);
        self.used.memory_mean = mean(self.sums[1], self.used.memory_point_count);
        let count = |slots: u16| u64::from(slots.count_ones());
        self.pod_slots += count(of.slots[0]);
        self.measured_slots[0] += count(of.slots[1]);
        self.measured_slots[1] += count(of.slots[2]);
        let hour = self.hours.entry(of.hour).or_insert(Hour::UNKNOWN);
        let of_hour =
            |known: &mut f32, value: Option<f64>| *known = known.max(value.map_or(f32::NAN, |value| value as f32));
        of_hour(&mut hour.cpu_p95, p95);
        of_hour(&mut hour.cpu_peak, cpu_peak);
        of_hour(&mut hour.memory_peak, memory_peak);
        hour.slots |= of.slots[1] & of.slots[2];
        for (known, value) in self.resources.iter_mut().zip(of.resources) {
            // What a rollout changed counts from then on; of pods of one hour the larger.
            let newest = value.map(|value| (of.hour, value));
            *known = known.iter().copied().chain(newest).reduce(|a, b| match a.0.cmp(&b.0) {
                std::cmp::Ordering::Less => b,
                std::cmp::Ordering::Greater => a,
                std::cmp::Ordering::Equal => (a.0, a.1.max(b.1)),
            });
        }
    }

    /// Requests and limits as they were last told.
    pub(super) fn resources(&self) -> ContainerResources {
        let [cpu_request, cpu_limit, memory_request, memory_limit] =
            self.resources.map(|told| told.map(|(_, value)| value));
        // A request of zero is none, as for the scheduler.
        let positive = |value: Option<f64>| value.filter(|value| *value > 0.0);
        ContainerResources {
            cpu_request: positive(cpu_request),
            memory_request: positive(memory_request),
            cpu_limit: positive(cpu_limit),
            memory_limit: positive(memory_limit),
        }
    }

    /// Hours that its pods ran, together.
    pub(super) fn pod_hours(&self) -> f64 {
        self.pod_slots as f64 / SLOTS as f64
    }

    /// The smaller of two shares: of the time of its pods, and of the time since it was first seen, that was measured.
    pub(super) fn coverage(&self, window: Window) -> f64 {
        let Some(first) = self.hours.keys().next() else { return 0.0 };
        let measured = self.measured_slots[0].min(self.measured_slots[1]);
        let of_pods = measured as f64 / self.pod_slots.max(1) as f64;
        let seen: u32 = self.hours.values().map(|hour| hour.slots.count_ones()).sum();
        let since_us = window.end_us - (first * HOUR_US).max(window.start_us);
        // The first slot begins before the first point.
        let of_time = f64::from(seen) / (since_us as f64 / SLOT_US as f64 - 1.0).max(1.0);
        of_pods.min(of_time).min(1.0)
    }

    /// Days that are measured.
    pub(super) fn days(&self) -> f64 {
        let seen: u32 = self.hours.values().map(|hour| hour.slots.count_ones()).sum();
        f64::from(seen) / (SLOTS * 24) as f64
    }

    /// How alike the means of the busiest pods of both halves of the window are, 0 to 1.
    pub(super) fn stability(&self) -> f64 {
        let known: Vec<f64> =
            self.hours.values().filter(|hour| !hour.cpu_p95.is_nan()).map(|hour| f64::from(hour.cpu_p95)).collect();
        let mean = |half: &[f64]| half.iter().sum::<f64>() / half.len().max(1) as f64;
        let (first, second) = known.split_at(known.len() / 2);
        let (first, second) = (mean(first), mean(second));
        if first.max(second) > 0.0 { first.min(second) / first.max(second) } else { 1.0 }
    }
}

impl Hour {
    const UNKNOWN: Self = Self { cpu_p95: f32::NAN, cpu_peak: f32::NAN, memory_peak: f32::NAN, slots: 0 };
}

impl ContainerKey {
    /// What people call it.
    pub(super) fn subject(&self) -> String {
        let workload = self.workload.as_ref().map_or_else(String::as_str, |(_, name)| name.as_str());
        let namespace = self.namespace.as_ref().map(|name| format!("{name}/")).unwrap_or_default();
        format!("{namespace}{workload}/{}", self.container)
    }

    /// What a patch is of, or what is missing.
    pub(super) fn target(&self) -> std::result::Result<Target, String> {
        let (Some(namespace), Ok((kind, name))) = (&self.namespace, &self.workload) else {
            return Err("its workload is not known: send k8s.deployment.name (or k8s.statefulset.name, k8s.daemonset.name) and \
                        k8s.namespace.name with its metrics, or kube_pod_owner and kube_replicaset_owner of kube-state-metrics"
                .to_owned());
        };
        Target::new(namespace, *kind, name).map_err(|error| error.to_string())
    }
}
