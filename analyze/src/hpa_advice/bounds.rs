//! Other bounds for the autoscaler that a service has: its own metrics and targets, replayed between them.
//!
//! Its `behavior` is told by nobody, so it is left alone, and replayed as the controller's own: what changes is what a patch of two
//! numbers can carry out and take back.

use serde::Serialize;

use super::{AdviceRules, COVERAGE_MIN, Examined, Warning, floor, signal, trial::Trial};
use crate::{
    autoscaler::{HpaSpec, SpecError},
    demand::Envelope,
    replay::Replay,
    sizing::required,
};

const WEEK_HOURS: f64 = 168.0;

/// What the replay says of an autoscaler that is there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BoundsAdvice {
    /// As it is.
    pub current: Replay,
    /// Least and most replicas of before and after, with the proof; none where the bounds may stay.
    pub proposed: Option<BoundsChange>,
    /// Warnings.
    pub warnings: Vec<Warning>,
    /// One sentence for people.
    pub explanation: String,
}

/// Other bounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BoundsChange {
    /// Least and most replicas today.
    pub from: (u32, u32),
    /// To set.
    pub to: (u32, u32),
    /// Proof.
    pub replay: Replay,
    /// GPU-hours a week that it frees, negative where it takes more.
    pub gpu_hours: f64,
}

/// What to do about the bounds of `existing`, or why nothing can be said.
///
/// # Errors
/// [`SpecError`] where it is one that Kubernetes refuses.
pub fn bounds(
    examined: &Examined<'_>,
    existing: &HpaSpec,
    rules: &AdviceRules,
) -> Result<Result<BoundsAdvice, String>, SpecError> {
    let coverage = examined.demand.coverage();
    if coverage < COVERAGE_MIN {
        return Ok(Err(format!("{:.1} % of its GPU time was measured, 90 % is needed", coverage * 100.0)));
    }
    let demand = &examined.demand.averaged(rules.average_minutes);
    let envelope = Envelope::new(demand, examined.zone, examined.calendar);
    let Some(size) = required(&envelope, examined.shape, &rules.sizing) else {
        return Ok(Err("no hour of the week is known outside holidays and deploys: examine a longer time".into()));
    };
    let (signals, warnings) = signal::of_existing(existing, examined, rules);
    let signals = match signals {
        Ok(signals) => signals,
        Err(metric) => return Ok(Err(format!("its metric {metric} is not measured here, so it cannot be replayed"))),
    };
    let trial = Trial::new(examined, demand, rules);
    let replayed = |min: u32, max: u32| {
        trial.replay(HpaSpec { min_replicas: min, max_replicas: max, ..existing.clone() }, signals.clone())
    };
    let from = (existing.min_replicas, existing.max_replicas);
    let current = replayed(from.0, from.1)?;
    let mut minima = floor::floors(
        &envelope,
        examined.gpus_per_replica(),
        rules.sizing.usable_share,
        rules.replay.cold_start_s,
        rules.replicas_min,
    );
    minima.sort_unstable();
    minima.dedup();
    let max = from.1.max(size.replica_count);
    let mut proposed = None;
    for min in minima {
        let replay = replayed(min, max.max(min))?;
        if replay.within(&trial.replay_rules) {
            let gpus = f64::from(examined.gpus_per_replica());
            let gpu_hours = (current.replica_mean - replay.replica_mean) * gpus * WEEK_HOURS;
            proposed = Some(BoundsChange { from, to: (min, max.max(min)), replay, gpu_hours });
            break;
        }
    }
    let is_enough = |found: &BoundsChange| {
        found.to != from
            && (!current.within(&trial.replay_rules)
                || found.replay.replica_mean < current.replica_mean * (1.0 - rules.saving_share_min))
    };
    let proposed = proposed.filter(is_enough);
    let over = |replay: &Replay| replay.over_share().unwrap_or(1.0) * 100.0;
    let mut explanation = format!(
        "replayed between its {} and {} replicas it runs {:.1} on average and {:.2} % of minutes lack capacity",
        from.0,
        from.1,
        current.replica_mean,
        over(&current)
    );
    match &proposed {
        Some(found) => {
            explanation += &format!(
                "; between {} and {} it runs {:.1} and {:.2} %",
                found.to.0,
                found.to.1,
                found.replay.replica_mean,
                over(&found.replay)
            );
        }
        None if current.within(&trial.replay_rules) => explanation += "; no other bounds save enough",
        None => explanation += "; no bounds keep it within budget: demand rises faster than replicas start",
    }
    Ok(Ok(BoundsAdvice { current, proposed, warnings, explanation }))
}
