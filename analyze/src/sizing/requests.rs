//! CPU and memory requests of a container, and what may not be touched of them.
//!
//! CPU is the largest 95th percentile of any hour of any pod, so that neither a quiet weekend nor a quiet pod can drag it down (the
//! complaint against decaying histograms); memory is the largest peak, since memory above the limit kills. Both get a margin of
//! 15 %. A kill for lack of memory and a CPU that is held back by its limit are evidence of a need that was never seen: they
//! raise, and forbid to lower. Limits are raised where needed and never lowered, since a peak between two points is not seen.
//! Source of percentile, margin, floors and OOM bump: Kubernetes VPA recommender and Robusta KRR.

use serde::Serialize;

use crate::{manifest::ContainerResources, veto::Veto};

/// Points below which nothing is said (KRR).
const POINT_COUNT_MIN: u64 = 100;
const MARGIN: f64 = 1.15;
const OOM_FACTOR: f64 = 1.2;
const OOM_BYTES_MIN: f64 = 100.0 * MEBIBYTE;
const MEBIBYTE: f64 = 1_048_576.0;
/// Nothing is lowered below these; what is smaller today stays.
const CORES_MIN: f64 = 0.025;
const MEMORY_BYTES_MIN: f64 = 250.0 * MEBIBYTE;
/// Less than this is no change: a rollout costs more.
const CHANGE_SHARE_MIN: f64 = 0.10;
/// Share of the time from which a limit holds CPU back, and what it is raised by then: one step, seen again by the next run.
const THROTTLED_SHARE_MIN: f64 = 0.05;
const THROTTLED_FACTOR: f64 = 1.5;
/// Pods above the steady state during a rollout (`maxSurge` of a Deployment).
const SURGE_SHARE: f64 = 0.25;

/// What all pods of a container used.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct ContainerUse {
    /// Points of CPU.
    pub cpu_point_count: u64,
    /// Mean of all pods, cores.
    pub cpu_mean: Option<f64>,
    /// Largest 95th percentile of any hour of any pod, cores.
    pub cpu_p95: Option<f64>,
    /// Points of memory.
    pub memory_point_count: u64,
    /// Mean of all pods, bytes.
    pub memory_mean: Option<f64>,
    /// Largest point of any pod, bytes.
    pub memory_peak: Option<f64>,
    /// Containers killed for lack of memory.
    pub oom_count: u32,
    /// Mean share of the time in which the CPU limit held work back, in the worst hour of any pod.
    pub throttled_share: Option<f64>,
}

/// What may not be touched, whatever the use says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Guard {
    /// Against lowering anything.
    pub lowering: Vec<Veto>,
    /// Whether an autoscaler scales by CPU, or by memory, over the requests: any other request would move its replicas.
    pub scaled_by: [bool; 2],
}

/// Requests and limits to set, and why not more of them is changed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Proposed {
    /// What to set; as today where nothing changes.
    pub to: ContainerResources,
    /// Whether a request or limit rises, and whether a request falls.
    pub raises: bool,
    /// See `raises`.
    pub lowers: bool,
    /// What would be lowered but for these.
    pub held_back: Vec<Veto>,
    /// Why each value is as it is, as parts of a sentence.
    pub reasons: Vec<String>,
}

/// Sums of requests; none where one is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Quota {
    /// CPU, cores.
    pub cores: Option<f64>,
    /// Memory, bytes.
    pub memory_bytes: Option<f64>,
}

/// A request or limit with what it is called and how its values are written.
struct Resource<'a> {
    name: &'static str,
    text: fn(f64) -> String,
    request: Option<f64>,
    need: Option<f64>,
    floor: f64,
    /// Values are rounded up to a multiple of this.
    step: f64,
    forbids_lowering: &'a [Veto],
    is_scaled_by: bool,
}

impl ContainerUse {
    /// CPU that the busiest hour needs, cores; unknown with too few points.
    pub fn cores_needed(&self) -> Option<f64> {
        self.cpu_p95.filter(|_| self.cpu_point_count >= POINT_COUNT_MIN).map(|cores| cores * MARGIN)
    }

    /// Memory that the peak needs, bytes. `limit_bytes` is where a kill happened, if one did.
    pub fn memory_needed(&self, limit_bytes: Option<f64>) -> Option<f64> {
        let known = self.memory_point_count >= POINT_COUNT_MIN;
        let peak = self.memory_peak.filter(|_| known).map(|bytes| bytes * MARGIN);
        // A kill is evidence by itself: the peak that it needed was never seen.
        let killed_at = limit_bytes.or(self.memory_peak).filter(|_| self.oom_count > 0);
        let bumped = killed_at.map(|bytes| (bytes * OOM_FACTOR).max(bytes + OOM_BYTES_MIN));
        [peak, bumped].into_iter().flatten().reduce(f64::max)
    }

    /// Whether its CPU limit held it back so often that its use does not show its need.
    pub fn is_throttled(&self) -> bool {
        self.throttled_share.is_some_and(|share| share >= THROTTLED_SHARE_MIN)
    }
}

/// Requests and limits that cover `used`; `today` is what is set.
pub fn propose(used: &ContainerUse, today: &ContainerResources, guard: &Guard) -> Proposed {
    let mut proposed = Proposed { to: *today, ..Proposed::default() };
    let mut forbids_cpu = guard.lowering.clone();
    if let Some(share) = used.throttled_share.filter(|_| used.is_throttled()) {
        forbids_cpu.push(Veto::CpuThrottled(share));
    }
    let mut forbids_memory = guard.lowering.clone();
    if used.oom_count > 0 {
        forbids_memory.push(Veto::RecentOom(used.oom_count));
    }
    let [by_cpu, by_memory] = guard.scaled_by;
    let cpu = Resource {
        name: "CPU",
        text: cores_text,
        request: today.cpu_request,
        need: used.cores_needed(),
        floor: CORES_MIN,
        step: 0.001,
        forbids_lowering: &forbids_cpu,
        is_scaled_by: by_cpu,
    };
    let memory = Resource {
        name: "memory",
        text: bytes_text,
        request: today.memory_request,
        need: used.memory_needed(today.memory_limit),
        floor: MEMORY_BYTES_MIN,
        step: MEBIBYTE,
        forbids_lowering: &forbids_memory,
        is_scaled_by: by_memory,
    };
    proposed.to.cpu_request = cpu.request_to(&mut proposed);
    proposed.to.memory_request = memory.request_to(&mut proposed);
    let throttled_to = today.cpu_limit.filter(|_| used.is_throttled()).map(|limit| limit * THROTTLED_FACTOR);
    let cpu_limit = cpu.limit_to(today.cpu_limit, throttled_to, proposed.to.cpu_request, &mut proposed);
    let memory_limit = memory.limit_to(today.memory_limit, memory.need, proposed.to.memory_request, &mut proposed);
    (proposed.to.cpu_limit, proposed.to.memory_limit) = (cpu_limit, memory_limit);
    proposed
}

impl Resource<'_> {
    /// Up to whole steps; a rounding error is none.
    fn rounded(&self, value: f64) -> f64 {
        (value / self.step - 1e-6).ceil() * self.step
    }

    /// The request to set.
    fn request_to(&self, proposed: &mut Proposed) -> Option<f64> {
        let Some(need) = self.need else { return self.request };
        let text = self.text;
        let Some(request) = self.request else {
            let to = self.rounded(need.max(self.floor));
            proposed.raises = true;
            proposed.reasons.push(format!("{} is not requested and needs {}", self.name, text(to)));
            return Some(to);
        };
        // What is small already is not raised to the floor, which only ends a reduction.
        let to = self.rounded(need.max(self.floor.min(request)));
        if (to - request).abs() < request * CHANGE_SHARE_MIN {
            return Some(request);
        }
        if self.is_scaled_by {
            push_new(&mut proposed.held_back, &Veto::HpaScalesBy(self.name));
            return Some(request);
        }
        if to > request {
            proposed.raises = true;
        } else if self.forbids_lowering.is_empty() {
            proposed.lowers = true;
        } else {
            self.forbids_lowering.iter().for_each(|veto| push_new(&mut proposed.held_back, veto));
            return Some(request);
        }
        proposed.reasons.push(format!("{} {}", self.name, arrow(Some(request), to, text)));
        Some(to)
    }

    /// The limit to set: as it is, or up to what is needed and requested; none where there is none today.
    fn limit_to(
        &self,
        limit: Option<f64>,
        need: Option<f64>,
        request: Option<f64>,
        proposed: &mut Proposed,
    ) -> Option<f64> {
        let limit = limit?;
        // A request above its limit is refused by Kubernetes, whatever the size of the change.
        let least = limit.max(request.unwrap_or(0.0));
        let to = need
            .filter(|need| *need >= limit * (1.0 + CHANGE_SHARE_MIN))
            .map_or(least, |need| self.rounded(need.max(least)));
        if to > limit {
            proposed.raises = true;
            proposed.reasons.push(format!("limit of {} {}", self.name, arrow(Some(limit), to, self.text)));
        }
        Some(to)
    }
}

fn push_new(vetoes: &mut Vec<Veto>, veto: &Veto) {
    if !vetoes.contains(veto) {
        vetoes.push(veto.clone());
    }
}

/// `4.00 → 1.15 cores`: the unit once, where both have the same.
pub(crate) fn arrow(from: Option<f64>, to: f64, text: fn(f64) -> String) -> String {
    let (from, to) = (from.map_or_else(|| "none".to_owned(), text), text(to));
    match (from.rsplit_once(' '), to.rsplit_once(' ')) {
        (Some((number, unit)), Some((_, other))) if unit == other => format!("{number} → {to}"),
        _ => format!("{from} → {to}"),
    }
}

/// Cores for people, to the thousandth below one.
pub(crate) fn cores_text(cores: f64) -> String {
    if cores < 1.0 { format!("{cores:.3} cores") } else { format!("{cores:.2} cores") }
}

/// Bytes for people: MiB below one GiB.
pub(crate) fn bytes_text(bytes: f64) -> String {
    let mib = bytes / MEBIBYTE;
    if mib < 1_024.0 { format!("{mib:.0} MiB") } else { format!("{:.2} GiB", mib / 1_024.0) }
}

/// Namespace quota for containers of `(requests, most pods)` while all roll out at once; unknown when one is unknown.
pub fn quota(containers: &[(ContainerResources, u32)]) -> Quota {
    let count = |pods: u32| f64::from(pods) + (f64::from(pods) * SURGE_SHARE).ceil();
    let sum = |of: fn(&ContainerResources) -> Option<f64>| {
        containers.iter().map(|(resources, pods)| Some(of(resources)? * count(*pods))).sum()
    };
    Quota { cores: sum(|of| of.cpu_request), memory_bytes: sum(|of| of.memory_request) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: f64 = 1_073_741_824.0;

    fn used(cpu_p95: f64, memory_peak: f64) -> ContainerUse {
        ContainerUse {
            cpu_point_count: 1_000,
            cpu_mean: Some(cpu_p95 / 2.0),
            cpu_p95: Some(cpu_p95),
            memory_point_count: 1_000,
            memory_mean: Some(memory_peak / 2.0),
            memory_peak: Some(memory_peak),
            ..ContainerUse::default()
        }
    }

    fn today(cpu: f64, memory: f64) -> ContainerResources {
        ContainerResources {
            cpu_request: Some(cpu),
            memory_request: Some(memory),
            cpu_limit: Some(cpu * 2.0),
            memory_limit: Some(memory),
        }
    }

    fn close(a: Option<f64>, b: f64) -> bool {
        // Whole MiB.
        a.is_some_and(|a| (a - b).abs() < 1e-3 * b)
    }

    #[test]
    fn what_is_not_used_is_lowered_and_limits_stay() {
        let found = propose(&used(1.0, 2.0 * GIB), &today(4.0, 16.0 * GIB), &Guard::default());
        assert!(close(found.to.cpu_request, 1.15) && close(found.to.memory_request, 2.3 * GIB), "{found:?}");
        assert_eq!((found.to.cpu_limit, found.to.memory_limit), (Some(8.0), Some(16.0 * GIB)));
        assert_eq!((found.raises, found.lowers, found.held_back), (false, true, vec![]));
        assert_eq!(found.reasons, ["CPU 4.00 → 1.15 cores", "memory 16.00 → 2.30 GiB"]);
        // A tenth more or less is no change.
        let same = propose(&used(1.0, 2.0 * GIB), &today(1.2, 2.4 * GIB), &Guard::default());
        assert_eq!((same.to, same.raises, same.lowers), (today(1.2, 2.4 * GIB), false, false));
        // Small sidecars end at the floor, and what is below it stays.
        let small = |cpu, memory| propose(&used(0.001, MEBIBYTE), &today(cpu, memory), &Guard::default()).to;
        assert!(close(small(1.0, GIB).cpu_request, 0.025) && close(small(1.0, GIB).memory_request, 250.0 * MEBIBYTE));
        assert_eq!(small(0.01, 64.0 * MEBIBYTE), today(0.01, 64.0 * MEBIBYTE));
    }

    #[test]
    fn a_kill_raises_and_nothing_of_memory_is_lowered_after_it() {
        let killed = ContainerUse { oom_count: 2, ..used(1.0, GIB) };
        let found = propose(&killed, &today(4.0, 2.0 * GIB), &Guard::default());
        // 2 GiB x 1.2; CPU is lowered all the same.
        assert!(close(found.to.memory_request, 2.4 * GIB) && close(found.to.memory_limit, 2.4 * GIB), "{found:?}");
        assert!(found.raises && found.lowers && close(found.to.cpu_request, 1.15));
        // Small limits get 100 MiB more, and a kill counts without points.
        let unseen = ContainerUse { oom_count: 1, ..ContainerUse::default() };
        let found = propose(&unseen, &today(0.1, 100.0 * MEBIBYTE), &Guard::default());
        assert!(close(found.to.memory_limit, 200.0 * MEBIBYTE) && found.to.cpu_request == Some(0.1), "{found:?}");
        // A request far above the limit's bump is not lowered to it.
        let large = ContainerResources { memory_request: Some(8.0 * GIB), memory_limit: None, ..today(1.15, 0.0) };
        let found = propose(&killed, &large, &Guard::default());
        assert_eq!((found.to.memory_request, found.held_back), (Some(8.0 * GIB), vec![Veto::RecentOom(2)]));
    }

    #[test]
    fn a_cpu_that_is_held_back_keeps_its_request_and_gets_a_larger_limit() {
        let throttled = ContainerUse { throttled_share: Some(0.2), ..used(0.5, 2.0 * GIB) };
        let found = propose(&throttled, &today(1.0, 2.3 * GIB), &Guard::default());
        assert_eq!((found.to.cpu_request, found.to.cpu_limit), (Some(1.0), Some(3.0)), "2 x 1.5");
        assert_eq!((found.held_back.clone(), found.raises), (vec![Veto::CpuThrottled(0.2)], true));
        let little = ContainerUse { throttled_share: Some(0.04), ..throttled };
        assert!(close(propose(&little, &today(1.0, 2.3 * GIB), &Guard::default()).to.cpu_request, 0.575));
    }

    #[test]
    fn too_few_points_say_nothing_and_vetoes_let_raises_through() {
        let few = ContainerUse { cpu_point_count: 99, memory_point_count: 99, ..used(0.1, GIB) };
        assert_eq!(propose(&few, &today(4.0, 16.0 * GIB), &Guard::default()).to, today(4.0, 16.0 * GIB));
        let guard = Guard { lowering: vec![Veto::NoWeekend], scaled_by: [false, false] };
        let found = propose(&used(1.0, 4.0 * GIB), &today(4.0, 2.0 * GIB), &guard);
        assert_eq!((found.to.cpu_request, found.held_back), (Some(4.0), vec![Veto::NoWeekend]));
        assert!(close(found.to.memory_request, 4.6 * GIB) && close(found.to.memory_limit, 4.6 * GIB));
        // An autoscaler by CPU over requests: neither up nor down.
        let scaled = Guard { scaled_by: [true, false], ..Guard::default() };
        for cores in [0.1, 10.0] {
            let found = propose(&used(cores, 2.0 * GIB), &today(4.0, 2.3 * GIB), &scaled);
            assert_eq!((found.to.cpu_request, found.held_back), (Some(4.0), vec![Veto::HpaScalesBy("CPU")]));
        }
        // Nothing requested today.
        let found = propose(&used(1.0, 2.0 * GIB), &ContainerResources::default(), &Guard::default());
        assert!(close(found.to.cpu_request, 1.15) && close(found.to.memory_request, 2.3 * GIB) && found.raises);
        assert_eq!((found.to.cpu_limit, found.to.memory_limit), (None, None), "no limit is made up");
    }

    #[test]
    fn a_quota_holds_all_pods_and_those_of_a_rollout() {
        let one = ContainerResources { memory_request: Some(GIB), ..today(1.5, GIB) };
        // 4 pods and one of surge.
        assert_eq!(quota(&[(one, 4)]), Quota { cores: Some(7.5), memory_bytes: Some(5.0 * GIB) });
        assert_eq!(quota(&[(one, 4), (ContainerResources::default(), 1)]), Quota::default());
    }
}
