//! An autoscaler inside a replay: what its metrics would have shown under the replayed load.
//!
//! Within a minute it syncs every sync period and sees the load of that minute. Replicas that start run without a sample, as a
//! server does that loads its model; their CPU is that of a start and ignored.

use chrono_tz::Tz;

use super::{ControllerSettings, Hpa, HpaSpec, Metric, Observation, Phase, Pod, Readiness, Reading, Sample, SpecError};
use crate::{
    replay::{STEP_S, Scaler, waiting},
    window::local_hour_of_week,
};

/// Percentages are taken of a request of this size; any fine one gives the same.
const REQUEST_MILLI: i64 = 1_000_000;
/// Since when replicas that serve are ready: long before any window.
const LONG_AGO_S: f64 = -1e9;

/// How a metric follows the load of a replica (demand over what it can do, 0 and up). Values are in the metric's unit, or in percent
/// of the requests.
#[derive(Debug, Clone, PartialEq)]
pub enum Signal {
    /// In proportion, as GPU duty, CPU and KV cache do.
    Proportional {
        /// At a load of 1.
        at_full: f64,
        /// Never more than this.
        cap: Option<f64>,
    },
    /// Always the same, as memory that holds a model.
    Constant(f64),
    /// Requests that wait, per replica: the M/M/c queue (Sakasegawa 1977) plus what a minute over capacity leaves.
    Queue {
        /// GPUs of a replica.
        gpus_per_replica: u32,
        /// GPU-seconds of a request.
        service_time_s: f64,
    },
    /// Replicas by the clock, whatever the load: KEDA's cron trigger.
    Schedule(HourFloors),
}

/// Fewest replicas by hour of the week.
#[derive(Debug, Clone, PartialEq)]
pub struct HourFloors {
    /// Second 0 of the replay, UTC microseconds.
    pub start_us: i64,
    /// Local time of the hours.
    pub zone: Tz,
    /// Each hour's replicas are wanted this many seconds ahead, so that they are warm when it begins.
    pub lead_s: f64,
    /// 168 values from Monday 00:00; 0 where no window is open; KEDA reports 1, which no minimum is below.
    pub replicas: Vec<u32>,
}

/// A [`Scaler`] that decides as the autoscaler does.
#[derive(Debug, Clone)]
pub struct ReplayedHpa {
    hpa: Hpa,
    signals: Vec<Signal>,
    replicas: Option<u32>,
}

impl ReplayedHpa {
    /// An autoscaler whose metrics show `signals`, one each.
    ///
    /// # Errors
    /// [`SpecError`] for a specification that Kubernetes refuses, and [`SpecError::NoSignal`] for a metric without a signal: it
    /// cannot be replayed.
    pub fn new(spec: HpaSpec, signals: Vec<Signal>, settings: ControllerSettings) -> Result<Self, SpecError> {
        if let Some(metric) = spec.metrics.get(signals.len()) {
            return Err(SpecError::NoSignal { metric: metric.name().to_owned() });
        }
        Ok(Self { hpa: Hpa::new(spec, settings)?, signals, replicas: None })
    }

    fn observe(&self, time_s: f64, ready: u32, starting: u32, load: f64) -> Observation {
        let pod = |is_ready: bool| Pod {
            phase: Phase::Running,
            deleting: false,
            start_s: Some(if is_ready { LONG_AGO_S } else { time_s }),
            readiness: Some(Readiness { ready: is_ready, since_s: if is_ready { LONG_AGO_S } else { time_s } }),
            cpu_request_milli: Some(REQUEST_MILLI),
            memory_request_milli: Some(REQUEST_MILLI),
        };
        let pods = (0..ready).map(|_| pod(true)).chain((0..starting).map(|_| pod(false))).collect();
        let read = |(metric, signal): (&Metric, &Signal)| {
            let value = signal.per_replica(time_s, ready, load);
            match metric {
                Metric::ExternalAverage { .. } if matches!(signal, Signal::Schedule(_)) => Reading::Total(milli(value)),
                Metric::ExternalAverage { .. } => Reading::Total(milli(value * f64::from(ready))),
                Metric::ExternalValue { .. } => Reading::Total(milli(value)),
                Metric::Utilization { .. } => {
                    per_pod(time_s, ready, (value / 100.0 * REQUEST_MILLI as f64).round() as i64)
                }
                Metric::ResourceAverage { .. } | Metric::Pods { .. } => per_pod(time_s, ready, milli(value)),
            }
        };
        Observation { pods, readings: self.hpa.spec().metrics.iter().zip(&self.signals).map(read).collect() }
    }
}

impl Scaler for ReplayedHpa {
    fn desired(&mut self, time_s: f64, ready: u32, utilization: f64) -> u32 {
        let mut replicas = self.replicas.unwrap_or(ready);
        let syncs = (STEP_S / self.hpa.settings.sync_period_s).round().max(1.0) as u32;
        for sync in 0..syncs {
            let at_s = time_s + f64::from(sync) * STEP_S / f64::from(syncs);
            // Those that start are the first to go.
            let serving = ready.min(replicas);
            let load = utilization * f64::from(ready) / f64::from(serving.max(1));
            let observation = self.observe(at_s, serving, replicas - serving, load);
            replicas = self.hpa.sync(at_s, replicas, &observation).replicas;
        }
        self.replicas = Some(replicas);
        replicas
    }
}

impl Signal {
    fn per_replica(&self, time_s: f64, ready: u32, load: f64) -> f64 {
        match self {
            Self::Proportional { at_full, cap } => (at_full * load).min(cap.unwrap_or(f64::INFINITY)),
            Self::Constant(value) => *value,
            Self::Queue { gpus_per_replica, service_time_s } => {
                let gpus = f64::from(ready * gpus_per_replica).max(1.0);
                let left_over = (load - 1.0).max(0.0) * STEP_S * f64::from(*gpus_per_replica) / service_time_s;
                waiting(load, gpus) / f64::from(ready.max(1)) + left_over
            }
            Self::Schedule(floors) => f64::from(floors.at(time_s)),
        }
    }
}

impl HourFloors {
    /// Replicas at `time_s` seconds of the replay.
    pub fn at(&self, time_s: f64) -> u32 {
        self.of_hour(time_s).max(self.of_hour(time_s + self.lead_s))
    }

    fn of_hour(&self, time_s: f64) -> u32 {
        let hour = local_hour_of_week(self.start_us + (time_s * 1e6) as i64, self.zone);
        hour.and_then(|hour| self.replicas.get(hour).copied()).unwrap_or(0)
    }
}

fn milli(value: f64) -> i64 {
    (value * 1_000.0).round() as i64
}

fn per_pod(time_s: f64, ready: u32, milli: i64) -> Reading {
    // Zipped with the pods: those that start have no entry, so no sample.
    Reading::PerPod((0..ready).map(|_| Some(Sample { milli, time_s, window_s: 0.0 })).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        demand::Demand,
        gpu_state::{Cause, GpuState, Interval},
        replay::{ReplayRules, replay},
        window::MINUTE_US,
    };

    fn demand(minutes: impl Iterator<Item = f64>) -> Demand {
        let minutes: Vec<f64> = minutes.collect();
        let mut demand = Demand::new(0, minutes.len() as i64 * MINUTE_US);
        let of = |(minute, duty): (usize, &f64)| Interval {
            start_us: minute as i64 * MINUTE_US,
            end_us: (minute as i64 + 1) * MINUTE_US,
            state: GpuState::Busy,
            cause: Cause::Working,
            duty: Some(*duty),
        };
        demand.add_gpu(&minutes.iter().enumerate().map(of).collect::<Vec<_>>());
        demand
    }

    fn duty_hpa(min: u32, max: u32) -> ReplayedHpa {
        let metric = Metric::Pods { name: "gpu_duty".into(), per_pod_milli: 50_000 };
        let spec = HpaSpec {
            min_replicas: min,
            max_replicas: max,
            metrics: vec![metric],
            behavior: Some(super::super::Behavior::default()),
        };
        let duty = Signal::Proportional { at_full: 100.0, cap: Some(100.0) };
        ReplayedHpa::new(spec, vec![duty], ControllerSettings::default()).unwrap()
    }

    #[test]
    fn one_step_of_load_is_followed_up_at_once_and_down_after_five_minutes() {
        // Duty of 2.0 GPUs at 4 replicas is 50 %: nothing. At 3.6 GPUs 90 %: ceil(1.8 x 4) = 8 at the first sync of minute 5; the four
        // that start then count as idle (4 x 90 / 8 = 45 %, ratio 0.9), so no second doubling; they serve from minute 7 on.
        let mut hpa = duty_hpa(2, 20);
        let load = |minute: usize| if (5..10).contains(&minute) { 3.6 } else { 2.0 };
        let got: Vec<u32> = (0..20)
            .scan(4, |ready, minute| {
                let wanted = hpa.desired(minute as f64 * 60.0, *ready, load(minute) / f64::from(*ready));
                *ready = if minute == 5 { 4 } else { wanted };
                Some(wanted)
            })
            .collect();
        assert_eq!(got[..5], [4; 5]);
        assert_eq!(got[5..10], [8; 5], "45 % of 50 % is within the tolerance");
        // From minute 10 on 2.0 / 8 = 25 %: ceil(0.5 x 8) = 4 is proposed. The last proposal of 8 was made at 9:45; at 14:45 it is 300 s
        // old and out of the window, so minute 14 ends with 4.
        assert_eq!(got[10..14], [8; 4]);
        assert_eq!(got[14..], [4; 6]);
    }

    #[test]
    fn a_replay_with_the_autoscaler_costs_less_than_its_peak() {
        let day = demand((0..2_880).map(|minute| if (540..1_080).contains(&(minute % 1_440)) { 6.0 } else { 1.0 }));
        let rules = ReplayRules::default();
        let got = replay(&day, 4, &mut duty_hpa(3, 16), &rules);
        assert!(got.replica_mean < 8.0 && got.replica_mean > 3.0, "{got:?}");
        assert!(
            got.over_minute_count > 0 && got.over_minute_count < 30,
            "a step of five GPUs outruns a cold start: {got:?}"
        );
    }

    #[test]
    fn a_metric_without_a_signal_is_not_replayed() {
        let spec = duty_hpa(2, 4).hpa.spec().clone();
        let error = ReplayedHpa::new(spec, Vec::new(), ControllerSettings::default()).unwrap_err();
        assert!(error.to_string().contains("gpu_duty"), "{error}");
    }

    #[test]
    fn a_schedule_follows_local_hours() {
        // 2026-03-29 00:00 UTC is 01:00 in Berlin, a Sunday; at 01:00 UTC the clock jumps from 02:00 to 03:00.
        let start_us = chrono::DateTime::parse_from_rfc3339("2026-03-29T00:00:00Z").unwrap().timestamp_micros();
        let replicas = (0..168).map(|hour| if hour == 6 * 24 + 3 { 7 } else { 0 }).collect();
        let floors = HourFloors { start_us, zone: chrono_tz::Europe::Berlin, lead_s: 0.0, replicas };
        assert_eq!([0.0, 3_599.0, 3_600.0, 7_199.0, 7_200.0].map(|time_s| floors.at(time_s)), [0, 0, 7, 7, 0]);
        let ahead = HourFloors { lead_s: 300.0, ..floors };
        assert_eq!([3_299.0, 3_300.0, 7_199.0, 7_200.0].map(|time_s| ahead.at(time_s)), [0, 7, 7, 0]);
    }
}
