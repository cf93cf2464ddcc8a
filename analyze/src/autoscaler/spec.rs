//! What an autoscaler is told.

use std::collections::BTreeMap;

use serde::Serialize;

use super::SpecError;

const WINDOW_S_MAX: u32 = 3_600;
const PERIOD_S_MAX: u32 = 1_800;

/// `spec` of a `HorizontalPodAutoscaler`, without its target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HpaSpec {
    /// `minReplicas`, at least 1.
    pub min_replicas: u32,
    /// `maxReplicas`.
    pub max_replicas: u32,
    /// `metrics`; the largest proposal counts.
    pub metrics: Vec<Metric>,
    /// `behavior`. Without one the controller's own rules hold, which differ: [`Behavior::default`] allows 4 pods *more* or twice
    /// as many every 15 s, they allow `max(4, twice)` in *all* at every sync.
    pub behavior: Option<Behavior>,
}

/// A metric with its target. Values are thousandths of the metric's unit (a core, a byte, a request).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Metric {
    /// `Resource`, `Utilization`: usage over requests.
    Utilization {
        /// Which resource.
        resource: Resource,
        /// Percent of the requests.
        percent: u32,
    },
    /// `Resource`, `AverageValue`.
    ResourceAverage {
        /// Which resource.
        resource: Resource,
        /// Per pod.
        per_pod_milli: i64,
    },
    /// `Pods`, `AverageValue`.
    Pods {
        /// Name in the custom metrics API.
        name: String,
        /// Per pod.
        per_pod_milli: i64,
    },
    /// `External` (or `Object`), `AverageValue`: a total that is shared by the pods.
    ExternalAverage {
        /// Name in the external metrics API.
        name: String,
        /// Label selector.
        labels: BTreeMap<String, String>,
        /// Per pod.
        per_pod_milli: i64,
    },
    /// `External` (or `Object`), `Value`: a value that more pods bring down.
    ExternalValue {
        /// Name in the external metrics API.
        name: String,
        /// Label selector.
        labels: BTreeMap<String, String>,
        /// In all.
        value_milli: i64,
    },
}

/// A resource that pods request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// Cores.
    Cpu,
    /// Bytes.
    Memory,
}

/// `behavior`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Behavior {
    /// `scaleUp`.
    pub scale_up: ScalingRules,
    /// `scaleDown`.
    pub scale_down: ScalingRules,
}

/// Rules of one direction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScalingRules {
    /// `stabilizationWindowSeconds`, 0 to 3600.
    pub stabilization_window_s: u32,
    /// `selectPolicy`.
    pub select_policy: SelectPolicy,
    /// `policies`.
    pub policies: Vec<Policy>,
    /// `tolerance`, a share of 1; the controller's own where none.
    pub tolerance: Option<f64>,
}

/// How much may change in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// Unit of `value`.
    pub unit: PolicyUnit,
    /// Pods, or percent of those at the start of the period.
    pub value: u32,
    /// `periodSeconds`, 1 to 1800.
    pub period_s: u32,
}

/// Unit of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum PolicyUnit {
    /// Pods.
    Pods,
    /// Percent.
    Percent,
}

/// Which of several policies holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum SelectPolicy {
    /// The one that allows the largest change.
    Max,
    /// The one that allows the smallest change.
    Min,
    /// None: this direction is off.
    Disabled,
}

/// Flags of the controller manager.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ControllerSettings {
    /// `--horizontal-pod-autoscaler-sync-period`. Default 15 s.
    pub sync_period_s: f64,
    /// `--horizontal-pod-autoscaler-tolerance`. Default 0.1.
    pub tolerance: f64,
    /// `--horizontal-pod-autoscaler-downscale-stabilization`, where an autoscaler has no behavior. Default 300 s.
    pub downscale_stabilization_s: f64,
    /// `--horizontal-pod-autoscaler-cpu-initialization-period`. Default 300 s.
    pub cpu_initialization_s: f64,
    /// `--horizontal-pod-autoscaler-initial-readiness-delay`. Default 30 s.
    pub initial_readiness_delay_s: f64,
}

impl Default for ControllerSettings {
    fn default() -> Self {
        Self {
            sync_period_s: 15.0,
            tolerance: 0.1,
            downscale_stabilization_s: 300.0,
            cpu_initialization_s: 300.0,
            initial_readiness_delay_s: 30.0,
        }
    }
}

impl Default for Behavior {
    /// What the API server fills in: up by the larger of 4 pods and 100 % every 15 s at once, down by 100 % every 15 s after 300 s.
    fn default() -> Self {
        let policy = |unit, value| Policy { unit, value, period_s: 15 };
        Self {
            scale_up: ScalingRules {
                stabilization_window_s: 0,
                select_policy: SelectPolicy::Max,
                policies: vec![policy(PolicyUnit::Pods, 4), policy(PolicyUnit::Percent, 100)],
                tolerance: None,
            },
            scale_down: ScalingRules {
                stabilization_window_s: 300,
                select_policy: SelectPolicy::Max,
                policies: vec![policy(PolicyUnit::Percent, 100)],
                tolerance: None,
            },
        }
    }
}

impl Resource {
    /// Its name in Kubernetes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }
}

impl Metric {
    /// What it measures.
    pub fn name(&self) -> &str {
        match self {
            Self::Utilization { resource, .. } | Self::ResourceAverage { resource, .. } => resource.as_str(),
            Self::Pods { name, .. } | Self::ExternalAverage { name, .. } | Self::ExternalValue { name, .. } => name,
        }
    }

    /// The target: percent, or thousandths.
    pub(super) fn target(&self) -> i64 {
        match self {
            Self::Utilization { percent, .. } => i64::from(*percent),
            Self::ResourceAverage { per_pod_milli, .. }
            | Self::Pods { per_pod_milli, .. }
            | Self::ExternalAverage { per_pod_milli, .. } => *per_pod_milli,
            Self::ExternalValue { value_milli, .. } => *value_milli,
        }
    }
}

impl ScalingRules {
    fn validate(&self, direction: &'static str) -> Result<(), SpecError> {
        if self.stabilization_window_s > WINDOW_S_MAX {
            return Err(SpecError::Window { direction, seconds: self.stabilization_window_s });
        }
        let in_range = |policy: &Policy| policy.value > 0 && (1..=PERIOD_S_MAX).contains(&policy.period_s);
        if self.policies.is_empty() || !self.policies.iter().all(in_range) {
            return Err(SpecError::Policy { direction });
        }
        match self.tolerance {
            Some(tolerance) if !(tolerance.is_finite() && tolerance >= 0.0) => {
                Err(SpecError::Tolerance { direction, tolerance })
            }
            _ => Ok(()),
        }
    }
}

impl HpaSpec {
    /// Checks what the API server checks.
    ///
    /// # Errors
    /// [`SpecError`] naming the field and its range.
    pub fn validate(&self) -> Result<(), SpecError> {
        if self.min_replicas == 0 || self.max_replicas < self.min_replicas {
            return Err(SpecError::Bounds { min: self.min_replicas, max: self.max_replicas });
        }
        if self.metrics.is_empty() {
            return Err(SpecError::NoMetric);
        }
        if let Some(metric) = self.metrics.iter().find(|metric| metric.target() <= 0) {
            return Err(SpecError::Target { metric: metric.name().to_owned(), milli: metric.target() });
        }
        let Some(behavior) = &self.behavior else { return Ok(()) };
        behavior.scale_up.validate("scaleUp")?;
        behavior.scale_down.validate("scaleDown")
    }

    /// Tolerances as `(down, up)`.
    pub(super) fn tolerances(&self, settings: &ControllerSettings) -> (f64, f64) {
        let of = |rules: Option<&ScalingRules>| rules.and_then(|rules| rules.tolerance).unwrap_or(settings.tolerance);
        let behavior = self.behavior.as_ref();
        (of(behavior.map(|behavior| &behavior.scale_down)), of(behavior.map(|behavior| &behavior.scale_up)))
    }
}
