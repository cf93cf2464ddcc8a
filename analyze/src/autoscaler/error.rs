//! What is wrong with an autoscaler or its metrics.

/// A specification that the API server refuses.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// Bounds that hold nothing.
    #[error(
        "maxReplicas is {max}, minReplicas is {min}: set 1 <= minReplicas <= maxReplicas (zero replicas need KEDA)"
    )]
    Bounds {
        /// Lower bound.
        min: u32,
        /// Upper bound.
        max: u32,
    },
    /// No metric.
    #[error("metrics is empty: name at least one metric and its target")]
    NoMetric,
    /// A target that divides by nothing.
    #[error("the target of {metric} is {milli} thousandths: set one above 0")]
    Target {
        /// Metric.
        metric: String,
        /// As given.
        milli: i64,
    },
    /// A window outside the API's range.
    #[error("stabilizationWindowSeconds of {direction} is {seconds}: set 0 to 3600")]
    Window {
        /// `scaleUp` or `scaleDown`.
        direction: &'static str,
        /// As given.
        seconds: u32,
    },
    /// No policy, or one outside the API's range.
    #[error("policies of {direction}: give at least one, with a value above 0 and periodSeconds of 1 to 1800")]
    Policy {
        /// `scaleUp` or `scaleDown`.
        direction: &'static str,
    },
    /// A tolerance that is no share.
    #[error("tolerance of {direction} is {tolerance}: set a number of 0 or more")]
    Tolerance {
        /// `scaleUp` or `scaleDown`.
        direction: &'static str,
        /// As given.
        tolerance: f64,
    },
    /// Nothing tells what a metric would have shown.
    #[error("no signal is known for the metric {metric}, so the autoscaler cannot be replayed: send that metric")]
    NoSignal {
        /// Metric.
        metric: String,
    },
}

/// Why a metric gives no answer at a sync.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricError {
    /// The metrics API did not answer.
    #[error("unable to get the metric: {0}")]
    Unavailable(String),
    /// A value per pod where a total is needed, or the other way round.
    #[error(
        "the reading is of another kind than the metric: give values per pod for Resource and Pods, a total for External"
    )]
    WrongReading,
    /// Nothing is selected.
    #[error("no pods match the selector")]
    NoPods,
    /// All pods are starting, stopping or without a sample.
    #[error("no pod that counts has a sample (they may not be ready)")]
    NoSamples,
    /// A percentage of nothing.
    #[error("a pod requests no {resource}: set resources.requests.{resource} on every container")]
    MissingRequest {
        /// `cpu` or `memory`.
        resource: &'static str,
    },
}
