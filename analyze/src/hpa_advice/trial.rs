//! Candidates, replayed until one is within budget.

use chrono_tz::Tz;

use super::{
    Advice, AdviceRules, Candidate, Examined, FloorWindow, HpaProposal, Warning, floor,
    signal::{self, Choice},
};
use crate::{
    autoscaler::{
        Behavior, HpaSpec, Metric, Policy, PolicyUnit, ReplayedHpa, ScalingRules, SelectPolicy, Signal, SpecError,
    },
    demand::Demand,
    replay::{Fixed, Replay, ReplayRules, replay},
};

const WEEK_HOURS: f64 = 168.0;
/// The longest window that the API takes.
const WINDOW_S_MAX: f64 = 3_600.0;
/// A scale-down waits for at least this many cold starts, since a mistake costs one.
const DOWN_COLD_STARTS: f64 = 3.0;
/// Usual targets, then tighter ones, which scale out earlier.
const TARGET_FACTORS: [f64; 3] = [1.0, 0.8, 0.6];

/// Everything that candidates share.
pub(super) struct Trial<'a> {
    demand: &'a Demand,
    start_count: u32,
    zone: Tz,
    lead_s: f64,
    rules: &'a AdviceRules,
    pub(super) replay_rules: ReplayRules,
}

impl<'a> Trial<'a> {
    pub(super) fn new(examined: &Examined<'_>, demand: &'a Demand, rules: &'a AdviceRules) -> Self {
        Self {
            demand,
            start_count: examined.shape.replica_count,
            zone: examined.zone,
            lead_s: rules.replay.cold_start_s + rules.settings.sync_period_s,
            rules,
            replay_rules: ReplayRules { gpus_per_replica: examined.gpus_per_replica(), ..rules.replay },
        }
    }

    pub(super) fn replay_current(
        &self,
        examined: &Examined<'_>,
        warnings: &mut Vec<Warning>,
    ) -> Result<Option<Replay>, SpecError> {
        let Some(spec) = examined.existing else {
            let mut fixed = Fixed(self.start_count);
            return Ok(Some(replay(self.demand, self.start_count, &mut fixed, &self.replay_rules)));
        };
        let (signals, found) = signal::of_existing(spec, examined, self.rules);
        warnings.extend(found.into_iter().filter(|warning| !warnings.contains(warning)).collect::<Vec<_>>());
        match signals {
            Ok(signals) => Ok(Some(self.replay(spec.clone(), signals)?)),
            Err(metric) => {
                warnings.push(Warning::ExistingUnknown(metric));
                Ok(None)
            }
        }
    }

    pub(super) fn replay(&self, spec: HpaSpec, signals: Vec<Signal>) -> Result<Replay, SpecError> {
        let mut hpa = ReplayedHpa::new(spec, signals, self.rules.settings)?;
        Ok(replay(self.demand, self.start_count, &mut hpa, &self.replay_rules))
    }

    /// The smallest of the hours' minima that stays within budget, with the usual targets before tighter ones.
    pub(super) fn flat(&self, choice: &Choice, floors: &[u32], max: u32) -> Result<Option<Candidate>, SpecError> {
        let mut minima = floors.to_vec();
        minima.sort_unstable();
        minima.dedup();
        for min in minima {
            if let Some(found) = self.within(choice, min, max, &[])? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    pub(super) fn seasonal(
        &self,
        choice: &mut Choice,
        floors: &[u32],
        max: u32,
    ) -> Result<Option<Candidate>, SpecError> {
        let Some(base) = floors.iter().copied().min() else { return Ok(None) };
        let (windows, merged) = floor::windows(floors, base, self.rules.windows_max);
        if windows.is_empty() {
            return Ok(None);
        }
        if merged {
            choice.warnings.push(Warning::WindowsMerged);
        }
        self.within(choice, base, max, &windows)
    }

    fn within(
        &self,
        choice: &Choice,
        min: u32,
        max: u32,
        windows: &[FloorWindow],
    ) -> Result<Option<Candidate>, SpecError> {
        for factor in TARGET_FACTORS {
            let spec = HpaSpec {
                min_replicas: min,
                max_replicas: max.max(min),
                metrics: choice.tightened(factor),
                behavior: Some(behavior(self.rules.replay.cold_start_s)),
            };
            let (mut timed, mut signals) = (spec.clone(), choice.signals.clone());
            if !windows.is_empty() {
                timed.metrics.iter_mut().for_each(as_total);
            }
            for (index, window) in windows.iter().enumerate() {
                timed.metrics.push(Metric::ExternalAverage {
                    name: format!("cron-{index}"),
                    labels: Default::default(),
                    per_pod_milli: 1_000,
                });
                signals.push(Signal::Schedule(window.hour_floors(self.demand.start_us, self.zone, self.lead_s)));
            }
            let replay = self.replay(timed, signals)?;
            if replay.within(&self.replay_rules) {
                return Ok(Some(Candidate { spec, windows: windows.to_vec(), replay }));
            }
        }
        Ok(None)
    }

    pub(super) fn conclude(
        &self,
        examined: &Examined<'_>,
        warnings: Vec<Warning>,
        replay_current: Option<Replay>,
        flat: Option<Candidate>,
        seasonal: Option<Candidate>,
    ) -> Advice {
        let cheaper = |replicas: f64, than: f64| replicas < than * (1.0 - self.rules.saving_share_min);
        // A schedule is more to look after: it has to save something over one minimum.
        let seasonal = seasonal
            .filter(|it| flat.as_ref().is_none_or(|flat| cheaper(it.replay.replica_mean, flat.replay.replica_mean)));
        let Some(best) = seasonal.as_ref().or(flat.as_ref()) else {
            let reason =
                "no autoscaler that was tried keeps the replay within budget: demand rises faster than replicas start";
            return Advice::Keep { reason: reason.into(), warnings };
        };
        let best = best.replay;
        if let Some(current) = &replay_current
            && current.within(&self.replay_rules)
            && !cheaper(best.replica_mean, current.replica_mean)
        {
            let reason = format!(
                "{:.1} replicas run on average and serve within budget; the best autoscaler needs {:.1}",
                current.replica_mean, best.replica_mean
            );
            return Advice::Keep { reason, warnings };
        }
        let gpus = f64::from(examined.gpus_per_replica());
        let gpu_hours =
            replay_current.as_ref().map(|current| (current.replica_mean - best.replica_mean) * gpus * WEEK_HOURS);
        let over = |replay: &Replay| replay.over_share().unwrap_or(1.0) * 100.0;
        let now = replay_current.as_ref().map_or_else(
            || "unknown".to_owned(),
            |current| format!("{:.1} replicas and {:.2} %", current.replica_mean, over(current)),
        );
        let explanation = format!(
            "{}: replayed, the autoscaler runs {:.1} replicas on average and {:.2} % of minutes lack capacity (now: {now})",
            examined.shape.service,
            best.replica_mean,
            over(&best)
        );
        Advice::Change(Box::new(HpaProposal {
            service: examined.shape.service.clone(),
            flat,
            seasonal,
            zone: examined.zone,
            lead_minutes: (self.lead_s / 60.0).ceil().min(59.0) as u32,
            warnings,
            replay_current,
            gpu_hours,
            explanation,
        }))
    }
}

/// KEDA gives sums to the autoscaler, which then knows no missing pods.
fn as_total(metric: &mut Metric) {
    if let Metric::Pods { name, per_pod_milli } = metric {
        *metric = Metric::ExternalAverage {
            name: std::mem::take(name),
            labels: Default::default(),
            per_pod_milli: *per_pod_milli,
        };
    }
}

/// Up as Kubernetes does by itself; down by a quarter a minute after the largest of several cold starts.
fn behavior(cold_start_s: f64) -> Behavior {
    let window_s = (cold_start_s * DOWN_COLD_STARTS).clamp(300.0, WINDOW_S_MAX);
    Behavior {
        scale_down: ScalingRules {
            stabilization_window_s: window_s as u32,
            select_policy: SelectPolicy::Max,
            policies: vec![Policy { unit: PolicyUnit::Percent, value: 25, period_s: 60 }],
            tolerance: None,
        },
        ..Behavior::default()
    }
}
