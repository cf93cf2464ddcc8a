//! How a service should scale by itself, proven by a replay of what it went through.
//!
//! Bounds come from the demand envelope, targets from what is measured (requests that wait and KV cache before GPU duty before CPU),
//! and nothing is proposed that the replay with the autoscaler's own algorithm finds over budget.

mod bounds;
mod floor;
mod signal;
#[cfg(test)]
mod tests;
mod trial;
mod warning;

use chrono_tz::Tz;
use serde::Serialize;

use crate::{
    autoscaler::{ControllerSettings, HpaSpec, SpecError},
    demand::{Calendar, Demand, Envelope},
    replay::{Replay, ReplayRules},
    sizing::{ServiceShape, SizingRules, required},
};
pub use bounds::{BoundsAdvice, BoundsChange, bounds};
pub use floor::FloorWindow;
use trial::Trial;
pub use warning::Warning;

const DAYS_MIN: f64 = 7.0;
/// Days that a week may lack and still count.
const DAYS_SLACK: f64 = 0.05;
const COVERAGE_MIN: f64 = 0.90;

/// A metric as measured over the window.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Its name in the custom metrics API.
    pub metric: String,
    /// Mean per replica, in the metric's unit.
    pub mean: f64,
}

/// What is measured of a service; none where it is not.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ServiceSignals {
    /// Requests that wait.
    pub queue: Option<Measured>,
    /// KV cache in use, 0 to 1.
    pub kv_cache: Option<Measured>,
    /// GPU duty, percent.
    pub gpu_duty: Option<Measured>,
    /// Mean cores used by a replica.
    pub cpu_cores_mean: Option<f64>,
    /// Mean memory used by a replica, bytes.
    pub memory_bytes_mean: Option<f64>,
}

/// Requests of one replica; none where a container has none.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Requests {
    /// Cores.
    pub cpu_cores: Option<f64>,
    /// Bytes.
    pub memory_bytes: Option<f64>,
}

/// A service and what is known of it.
#[derive(Debug, Clone)]
pub struct Examined<'a> {
    /// As it runs.
    pub shape: &'a ServiceShape,
    /// Its demand.
    pub demand: &'a Demand,
    /// Time zone of its users.
    pub zone: Tz,
    /// Unusual days.
    pub calendar: &'a Calendar,
    /// Requests.
    pub requests: Requests,
    /// Signals.
    pub signals: ServiceSignals,
    /// The autoscaler it has.
    pub existing: Option<&'a HpaSpec>,
    /// Whether it serves a language model.
    pub serves_llm: bool,
}

/// Defaults of the advice.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AdviceRules {
    /// Replay, its budget and the cold start.
    pub replay: ReplayRules,
    /// Sizing of the largest demand.
    pub sizing: SizingRules,
    /// Flags of the controller.
    pub settings: ControllerSettings,
    /// Minutes that demand is averaged over. Default 5, as for verdicts.
    pub average_minutes: usize,
    /// Fewest replicas where nothing says otherwise. Default 2.
    pub replicas_min: u32,
    /// Most replicas where nothing asks for more. Default 10.
    pub replicas_max: u32,
    /// Maximum over what the largest demand requires. Default 1.5: a maximum only caps a mistake.
    pub max_factor: f64,
    /// CPU target, percent of requests. Default 70.
    pub cpu_percent: u32,
    /// Memory target, percent of requests. Default 80.
    pub memory_percent: u32,
    /// KV cache target, share. Default 0.70: preemption begins near 1.
    pub kv_cache_share: f64,
    /// GPU duty target, percent. Default 60.
    pub duty_percent: u32,
    /// Seconds that a queue may take to clear. Default 5.
    pub queue_wait_s: f64,
    /// Windows of a schedule. Default 8.
    pub windows_max: usize,
    /// Share of replica-hours that a change has to save. Default 0.05.
    pub saving_share_min: f64,
}

/// What is advised.
#[derive(Debug, Clone, PartialEq)]
pub enum Advice {
    /// Too little is measured to say anything: why.
    Unknown(String),
    /// No metric can carry an autoscaler: what is missing.
    Refused(Vec<Warning>),
    /// Leave it as it is: why, and what is wrong with it all the same.
    Keep {
        /// Why.
        reason: String,
        /// About the present setting and the signals.
        warnings: Vec<Warning>,
    },
    /// Scale like this.
    Change(Box<HpaProposal>),
}

/// An autoscaler that the replay finds within budget.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HpaProposal {
    /// Service.
    pub service: String,
    /// With one minimum for all hours: a plain autoscaler.
    pub flat: Option<Candidate>,
    /// With a minimum by the clock: KEDA.
    pub seasonal: Option<Candidate>,
    /// Local time of the windows.
    #[serde(serialize_with = "crate::window::serialize_zone")]
    pub zone: Tz,
    /// Minutes by which windows open ahead of their hour.
    pub lead_minutes: u32,
    /// Warnings.
    pub warnings: Vec<Warning>,
    /// The same demand with the present setting; none where that cannot be replayed.
    pub replay_current: Option<Replay>,
    /// GPU-hours a week that the better form frees, negative where it takes more; none where the present is unknown.
    pub gpu_hours: Option<f64>,
    /// One sentence for people.
    pub explanation: String,
}

/// A specification with its proof.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// Specification, without the metrics of the windows.
    pub spec: HpaSpec,
    /// Minimum by the clock; empty for a plain autoscaler.
    pub windows: Vec<FloorWindow>,
    /// Proof.
    pub replay: Replay,
}

impl Default for AdviceRules {
    fn default() -> Self {
        Self {
            replay: ReplayRules::default(),
            sizing: SizingRules::default(),
            settings: ControllerSettings::default(),
            average_minutes: 5,
            replicas_min: 2,
            replicas_max: 10,
            max_factor: 1.5,
            cpu_percent: 70,
            memory_percent: 80,
            kv_cache_share: 0.70,
            duty_percent: 60,
            queue_wait_s: 5.0,
            windows_max: 8,
            saving_share_min: 0.05,
        }
    }
}

impl Examined<'_> {
    fn gpus_per_replica(&self) -> u32 {
        self.shape.gpus_per_replica.max(1)
    }
}

/// The advice for one service.
///
/// # Errors
/// [`SpecError`] where the present autoscaler is one that Kubernetes refuses.
pub fn advise(examined: &Examined<'_>, rules: &AdviceRules) -> Result<Advice, SpecError> {
    let coverage = examined.demand.coverage();
    let demand = &examined.demand.averaged(rules.average_minutes);
    let envelope = Envelope::new(demand, examined.zone, examined.calendar);
    if coverage < COVERAGE_MIN {
        let percent = coverage * 100.0;
        return Ok(Advice::Unknown(format!("{percent:.1} % of its GPU time was measured, 90 % is needed")));
    }
    let Some(size) = required(&envelope, examined.shape, &rules.sizing) else {
        let reason = "no hour of the week is known outside holidays and deploys: examine a longer time";
        return Ok(Advice::Unknown(reason.into()));
    };
    let mut choice = signal::choose(examined, rules);
    if choice.metrics.is_empty() {
        return Ok(Advice::Refused(choice.warnings));
    }
    let trial = Trial::new(examined, demand, rules);
    let days = examined.demand.days();
    let short = days < DAYS_MIN * COVERAGE_MIN - DAYS_SLACK;
    if short {
        choice.warnings.push(Warning::LittleData(days));
    }
    if envelope.unknown_hour_count() > 0 {
        choice.warnings.push(Warning::UnknownHours(envelope.unknown_hour_count()));
    }
    let replay_current = trial.replay_current(examined, &mut choice.warnings)?;
    let largest = (f64::from(size.replica_count) * rules.max_factor).ceil() as u32;
    let max = if short { largest.max(rules.replicas_max) } else { largest.max(size.replica_count + 1) };
    let floors = floor::floors(
        &envelope,
        examined.gpus_per_replica(),
        rules.sizing.usable_share,
        rules.replay.cold_start_s,
        rules.replicas_min,
    );
    let flat = trial.flat(&choice, &floors, max)?;
    // A clock needs at least one of each hour.
    let seasonal = if short { None } else { trial.seasonal(&mut choice, &floors, max)? };
    Ok(trial.conclude(examined, choice.warnings, replay_current, flat, seasonal))
}
