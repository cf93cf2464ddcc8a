//! Proof of a size: past demand served again by the proposed replicas, minute by minute, as a fluid queue.
//!
//! A minute whose demand is unknown is left out and counted, never taken as 0.

use serde::Serialize;

use crate::demand::Demand;

/// Seconds of a step.
pub(crate) const STEP_S: f64 = 60.0;
/// A full minute waits in the backlog; from here on the formula of the queue has no value.
const LOAD_MAX: f64 = 0.99;

/// What sets the replicas during a replay.
pub trait Scaler {
    /// Replicas wanted at `time_s` seconds from the start, when `ready` serve at `utilization` (demand plus queue over what they
    /// can do, 0 and up).
    fn desired(&mut self, time_s: f64, ready: u32, utilization: f64) -> u32;
}

/// Replicas that never change.
#[derive(Debug, Clone, Copy)]
pub struct Fixed(pub u32);

/// What a replay may cost, and how a replica behaves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ReplayRules {
    /// GPUs of a replica.
    pub gpus_per_replica: u32,
    /// Share of a GPU above which a minute counts as over capacity. Default 0.80.
    pub usable_share: f64,
    /// Seconds until a started replica serves. Default 90.
    pub cold_start_s: f64,
    /// Seconds of queue at which clients give up. Default 60.
    pub timeout_s: f64,
    /// Seconds of GPU time of one request. Default 1.
    pub service_time_s: f64,
    /// Budget: share of minutes over capacity. Default 0.001 (ten minutes of a week).
    pub over_share_max: f64,
    /// Budget: share of demanded GPU-seconds left unserved. Default 0.0001.
    pub unserved_share_max: f64,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Replay {
    /// Minutes replayed.
    pub minute_count: usize,
    /// Minutes of unknown demand, left out.
    pub unknown_minute_count: usize,
    /// Minutes whose demand exceeded the usable capacity: SLO misses.
    pub over_minute_count: usize,
    /// GPU-seconds demanded.
    pub demanded_gpu_s: f64,
    /// GPU-seconds given up.
    pub unserved_gpu_s: f64,
    /// Mean seconds that a unit of demand waited.
    pub queue_s_mean: f64,
    /// Longest wait, seconds.
    pub queue_s_max: f64,
    /// Mean replicas paid for, starting ones included.
    pub replica_mean: f64,
}

impl Scaler for Fixed {
    fn desired(&mut self, _: f64, _: u32, _: f64) -> u32 {
        self.0
    }
}

impl Default for ReplayRules {
    fn default() -> Self {
        Self {
            gpus_per_replica: 1,
            usable_share: 0.80,
            cold_start_s: 90.0,
            timeout_s: 60.0,
            service_time_s: 1.0,
            over_share_max: 0.001,
            unserved_share_max: 0.0001,
        }
    }
}

/// Serves `demand` with the replicas that `scaler` wants, starting from `start_count`.
///
/// Waiting is the backlog over the capacity, plus the M/M/c wait of the minute, since work also queues in minutes that are not full.
pub fn replay(demand: &Demand, start_count: u32, scaler: &mut dyn Scaler, rules: &ReplayRules) -> Replay {
    let (mut result, mut backlog, mut waited) = (Replay::default(), 0.0, 0.0);
    let mut ready = start_count;
    let mut starting: Vec<f64> = Vec::new();
    for (minute, value) in demand.minutes().enumerate() {
        let time_s = minute as f64 * STEP_S;
        ready += starting.extract_if(.., |ready_s| *ready_s <= time_s).count() as u32;
        let Some(value) = value else {
            result.unknown_minute_count += 1;
            continue;
        };
        let gpus = f64::from(ready * rules.gpus_per_replica);
        let (arrived, capacity) = (value * STEP_S, gpus * STEP_S);
        backlog = (backlog + arrived - capacity).max(0.0);
        let kept = backlog.min(gpus * rules.timeout_s);
        result.unserved_gpu_s += backlog - kept;
        backlog = kept;
        let wait_s = wait(value, gpus, rules) + if gpus > 0.0 { backlog / gpus } else { 0.0 };
        waited += wait_s * arrived;
        result.minute_count += 1;
        result.demanded_gpu_s += arrived;
        result.over_minute_count += usize::from(value > gpus * rules.usable_share);
        result.queue_s_max = result.queue_s_max.max(wait_s);
        result.replica_mean += f64::from(ready) + starting.len() as f64;
        let utilization = if capacity > 0.0 { (arrived + backlog) / capacity } else { 0.0 };
        let (wanted, running) = (scaler.desired(time_s, ready, utilization), ready + starting.len() as u32);
        if wanted > running {
            starting.extend((running..wanted).map(|_| time_s + rules.cold_start_s));
        } else {
            let spare = (running - wanted) as usize;
            let unstarted = spare.min(starting.len());
            starting.truncate(starting.len() - unstarted);
            ready -= (spare - unstarted) as u32;
        }
    }
    result.replica_mean /= result.minute_count.max(1) as f64;
    result.queue_s_mean = if result.demanded_gpu_s > 0.0 { waited / result.demanded_gpu_s } else { 0.0 };
    result
}

impl Replay {
    /// Share of minutes over capacity; none when nothing was replayed.
    pub fn over_share(&self) -> Option<f64> {
        (self.minute_count > 0).then(|| self.over_minute_count as f64 / self.minute_count as f64)
    }

    /// Whether the size may be proposed. An empty replay proves nothing.
    pub fn within(&self, rules: &ReplayRules) -> bool {
        self.over_share().is_some_and(|share| share <= rules.over_share_max)
            && self.unserved_gpu_s <= rules.unserved_share_max * self.demanded_gpu_s
    }
}

fn wait(demand: f64, gpus: f64, rules: &ReplayRules) -> f64 {
    if gpus <= 0.0 {
        return rules.timeout_s;
    }
    let load = (demand / gpus).min(LOAD_MAX);
    // Little's law: what waits, over what arrives in a second.
    if load > 0.0 { rules.service_time_s * waiting(load, gpus) / (load * gpus) } else { 0.0 }
}

/// Requests that wait on average at `load` (0 and up) of `gpus`: ρ^√(2(c+1)) / (1 − ρ).
///
/// Source: Sakasegawa, "An approximation formula L_q ≈ α·ρ^β/(1−ρ)", 1977, for M/M/c.
pub(crate) fn waiting(load: f64, gpus: f64) -> f64 {
    let load = load.clamp(0.0, LOAD_MAX);
    load.powf((2.0 * (gpus + 1.0)).sqrt()) / (1.0 - load)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        gpu_state::{Cause, GpuState, Interval},
        window::MINUTE_US,
    };

    fn demand(minutes: &[f64]) -> Demand {
        let mut demand = Demand::new(0, minutes.len() as i64 * MINUTE_US);
        let of = |(minute, duty): (usize, &f64)| Interval {
            start_us: minute as i64 * MINUTE_US,
            end_us: (minute as i64 + 1) * MINUTE_US,
            state: GpuState::Busy,
            cause: Cause::Working,
            duty: duty.is_finite().then_some(*duty),
        };
        demand.add_gpu(&minutes.iter().enumerate().map(of).collect::<Vec<_>>());
        demand
    }

    #[test]
    fn overload_queues_then_gives_up() {
        // Two GPUs; 5 arrive for one minute: 180 GPU-s wait, 120 within the timeout of 60 s, 60 are given up.
        let past = demand(&[1.0, 5.0, 0.0, f64::NAN, 0.0]);
        let got = replay(&past, 2, &mut Fixed(2), &ReplayRules::default());
        assert_eq!((got.minute_count, got.unknown_minute_count, got.over_minute_count), (4, 1, 1));
        assert!((got.unserved_gpu_s - 60.0).abs() < 1e-9, "{got:?}");
        assert!(got.queue_s_max >= 60.0 && !got.within(&ReplayRules::default()));
        assert!(replay(&past, 9, &mut Fixed(9), &ReplayRules::default()).within(&ReplayRules::default()));
        assert!(
            !replay(&demand(&[f64::NAN]), 9, &mut Fixed(9), &ReplayRules::default()).within(&ReplayRules::default())
        );
    }

    #[test]
    fn a_scaler_pays_for_cold_start_before_it_serves() {
        struct ToFour;
        impl Scaler for ToFour {
            fn desired(&mut self, _: f64, _: u32, utilization: f64) -> u32 {
                if utilization > 0.9 { 4 } else { 2 }
            }
        }
        // Overloaded from minute 0; the two new replicas serve from minute 2 on.
        let got = replay(&demand(&[3.0, 3.0, 3.0, 3.0]), 2, &mut ToFour, &ReplayRules::default());
        assert_eq!(got.over_minute_count, 2);
        assert!((got.replica_mean - (2.0 + 4.0 + 4.0 + 4.0) / 4.0).abs() < 1e-9, "{got:?}");
    }
}
