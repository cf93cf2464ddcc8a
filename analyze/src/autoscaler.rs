//! The Horizontal Pod Autoscaler of Kubernetes (`autoscaling/v2`) as a state machine without a cluster or a clock.
//!
//! Given the same pods and metrics at the same times it decides as the controller does, down to its integer arithmetic: values
//! are thousandths ("milli") in 64-bit integers, percentages are cut to whole ones, and replicas round up.
//!
//! Source: `kubernetes/kubernetes` `pkg/controller/podautoscaler` (`horizontal.go`, `replica_calculator.go`, `metrics/utilization.go`)
//! and `pkg/apis/autoscaling/v2/defaults.go`, as of 1.33, which brought a tolerance of its own for each direction.

mod behavior;
mod calculator;
mod error;
#[cfg(test)]
mod golden_tests;
mod observation;
mod replayed;
mod spec;

use serde::Serialize;

use behavior::{History, Limited};
pub use error::{MetricError, SpecError};
pub use observation::{Observation, Phase, Pod, Readiness, Reading, Sample};
pub use replayed::{HourFloors, ReplayedHpa, Signal};
pub use spec::{
    Behavior, ControllerSettings, HpaSpec, Metric, Policy, PolicyUnit, Resource, ScalingRules, SelectPolicy,
};

/// One autoscaler and what it remembers.
#[derive(Debug, Clone)]
pub struct Hpa {
    spec: HpaSpec,
    settings: ControllerSettings,
    history: History,
}

/// What one sync decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Replicas that the target is set to; those it has when nothing changes.
    pub replicas: u32,
    /// What the metrics asked for, before windows, policies and bounds; none where they were not asked or gave no answer.
    pub proposed: Option<u32>,
    /// Why.
    pub reason: Reason,
    /// Metrics that could not be computed, by their index.
    pub errors: Vec<(usize, MetricError)>,
}

/// Why a sync decided as it did, in the words of the autoscaler's conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Reason {
    /// The target was scaled to zero by hand.
    ScalingDisabled,
    /// More replicas than the maximum ran.
    AboveMaximum,
    /// Fewer replicas than the minimum ran.
    BelowMinimum,
    /// No metric gave an answer, or one failed while the others asked for fewer replicas.
    FailedMetrics,
    /// A smaller proposal of the scale-up window holds it back.
    ScaleUpStabilized,
    /// A larger proposal of the scale-down window holds it up.
    ScaleDownStabilized,
    /// Policies allow no more at this time.
    ScaleUpLimit,
    /// Policies allow no fewer at this time.
    ScaleDownLimit,
    /// The maximum.
    TooManyReplicas,
    /// The minimum.
    TooFewReplicas,
    /// The proposal as it is.
    DesiredWithinRange,
}

impl Hpa {
    /// An autoscaler that has seen nothing yet.
    ///
    /// # Errors
    /// [`SpecError`] where the API server would refuse `spec`.
    pub fn new(spec: HpaSpec, settings: ControllerSettings) -> Result<Self, SpecError> {
        spec.validate()?;
        Ok(Self { spec, settings, history: History::default() })
    }

    /// The specification.
    pub fn spec(&self) -> &HpaSpec {
        &self.spec
    }

    /// Decides at `time_s` (seconds from any origin, never going back) for a target that is set to `current` replicas.
    ///
    /// The decision counts as carried out: its change enters the periods of the policies.
    pub fn sync(&mut self, time_s: f64, current: u32, observation: &Observation) -> Decision {
        self.history.start(time_s, current);
        let decision = self.decide(time_s, current, observation);
        if decision.replicas != current
            && let Some(behavior) = &self.spec.behavior
        {
            self.history.record_change(time_s, current, decision.replicas, behavior);
        }
        decision
    }

    fn decide(&mut self, time_s: f64, current: u32, observation: &Observation) -> Decision {
        let spec = &self.spec;
        let without_metrics = |replicas, reason| Decision { replicas, proposed: None, reason, errors: Vec::new() };
        if current == 0 {
            return without_metrics(0, Reason::ScalingDisabled);
        }
        if current > spec.max_replicas {
            return without_metrics(spec.max_replicas, Reason::AboveMaximum);
        }
        if current < spec.min_replicas {
            return without_metrics(spec.min_replicas, Reason::BelowMinimum);
        }
        let (proposed, errors) = self.propose(time_s, current, observation);
        let Some(proposed) = proposed else {
            return Decision { replicas: current, proposed, reason: Reason::FailedMetrics, errors };
        };
        let Limited { replicas, reason } = match &self.spec.behavior {
            Some(behavior) => self.history.limit(time_s, current, proposed, &self.spec, behavior),
            None => self.history.limit_without_behavior(time_s, current, proposed, &self.spec, &self.settings),
        };
        Decision { replicas, proposed: Some(proposed), reason, errors }
    }

    /// The largest proposal over the metrics; none where all failed, or some did and the others ask for fewer replicas.
    fn propose(
        &self,
        time_s: f64,
        current: u32,
        observation: &Observation,
    ) -> (Option<u32>, Vec<(usize, MetricError)>) {
        let (mut largest, mut errors) = (None, Vec::new());
        for (index, metric) in self.spec.metrics.iter().enumerate() {
            let reading = observation.readings.get(index);
            let calculation = calculator::Calculation {
                time_s,
                current,
                pods: &observation.pods,
                tolerances: self.spec.tolerances(&self.settings),
                settings: &self.settings,
            };
            match calculation.replicas(metric, reading) {
                Ok(replicas) => largest = largest.max(Some(replicas)),
                Err(error) => errors.push((index, error)),
            }
        }
        let blocked = !errors.is_empty() && largest.is_some_and(|largest| largest < current);
        (largest.filter(|_| !blocked), errors)
    }
}
