//! CPU and memory requests of containers, and the quota that follows.
//!
//! CPU is the largest 95th percentile over the hours of the week, so that a quiet weekend cannot drag it down (the complaint against
//! decaying histograms); memory is the largest peak, since memory above the limit kills. Both get a margin of 15 %.
//! Source of percentile, margin, floors and OOM bump: Kubernetes VPA recommender and Robusta KRR.

use serde::Serialize;

use crate::demand::percentile;

/// Points below which nothing is said (KRR).
const POINT_COUNT_MIN: usize = 100;
const MARGIN: f64 = 1.15;
const OOM_FACTOR: f64 = 1.2;
const OOM_BYTES_MIN: f64 = 100.0 * 1024.0 * 1024.0;
const CORES_MIN: f64 = 0.025;
const MEMORY_BYTES_MIN: f64 = 250.0 * 1024.0 * 1024.0;
/// Pods above the steady state during a rollout (`maxSurge` of a Deployment).
const SURGE_SHARE: f64 = 0.25;

/// Usage of one pod's container.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PodUsage {
    /// `(hour of week, cores)`.
    pub cores: Vec<(usize, f64)>,
    /// Memory, bytes.
    pub memory_bytes: Vec<f64>,
    /// Limit at which it was killed for memory last, bytes.
    pub oom_limit_bytes: Option<f64>,
}

/// Requests to propose; unknown with too little data.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Requests {
    /// CPU, cores.
    pub cores: Option<f64>,
    /// Memory, bytes; also the limit to set.
    pub memory_bytes: Option<f64>,
}

/// Requests that cover the busiest of `pods`.
pub fn requests(pods: &[PodUsage]) -> Requests {
    let largest = |values: &mut dyn Iterator<Item = f64>| values.reduce(f64::max);
    Requests {
        cores: largest(&mut pods.iter().filter_map(cores)).map(|cores| (cores * MARGIN).max(CORES_MIN)),
        memory_bytes: largest(&mut pods.iter().filter_map(memory_bytes)).map(|bytes| bytes.max(MEMORY_BYTES_MIN)),
    }
}

/// Namespace quota for pods of `(requests, most replicas)` while all roll out at once; unknown when one is unknown.
pub fn quota(containers: &[(Requests, u32)]) -> Requests {
    let count = |replicas: u32| f64::from(replicas) + (f64::from(replicas) * SURGE_SHARE).ceil();
    Requests {
        cores: containers.iter().map(|(requests, replicas)| Some(requests.cores? * count(*replicas))).sum(),
        memory_bytes: containers
            .iter()
            .map(|(requests, replicas)| Some(requests.memory_bytes? * count(*replicas)))
            .sum(),
    }
}

fn cores(pod: &PodUsage) -> Option<f64> {
    if pod.cores.len() < POINT_COUNT_MIN {
        return None;
    }
    let mut by_hour = pod.cores.clone();
    by_hour.sort_by_key(|(hour, _)| *hour);
    let hours = by_hour.chunk_by(|a, b| a.0 == b.0);
    hours
        .filter_map(|hour| percentile(&mut hour.iter().map(|(_, cores)| *cores).collect::<Vec<_>>(), 0.95))
        .reduce(f64::max)
}

fn memory_bytes(pod: &PodUsage) -> Option<f64> {
    let bumped = pod.oom_limit_bytes.map(|limit| (limit * OOM_FACTOR).max(limit + OOM_BYTES_MIN));
    let known = pod.memory_bytes.len() >= POINT_COUNT_MIN;
    let peak = pod.memory_bytes.iter().copied().reduce(f64::max).filter(|_| known).map(|bytes| bytes * MARGIN);
    // A kill is evidence by itself: the peak that it needed was never seen.
    [peak, bumped].into_iter().flatten().reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_week_does_not_hide_the_busy_hour_and_kills_count() {
        let mut cores: Vec<(usize, f64)> = (0..168).flat_map(|hour| [(hour, 0.1); 20]).collect();
        cores.extend([(40, 4.0); 40]);
        let pod = PodUsage { cores, memory_bytes: vec![1e9; 200], oom_limit_bytes: Some(2e9) };
        let got = requests(&[pod.clone(), PodUsage::default()]);
        assert!((got.cores.unwrap() - 4.6).abs() < 1e-9);
        assert!((got.memory_bytes.unwrap() - 2.4e9).abs() < 1.0);
        assert_eq!(requests(&[PodUsage { memory_bytes: vec![1e9; 99], ..PodUsage::default() }]), Requests::default());
        // 4 replicas and one of surge.
        assert!((quota(&[(got, 4)]).cores.unwrap() - 23.0).abs() < 1e-9);
        assert_eq!(quota(&[(got, 4), (Requests::default(), 1)]).cores, None);
    }
}
