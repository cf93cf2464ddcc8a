//! Why a manifest cannot be written.

/// A name or a value that Kubernetes would refuse.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not a DNS-1123 subdomain.
    #[error(
        "{field} {name:?} is no Kubernetes name: use up to 253 of a-z, 0-9, '-' and '.', beginning and ending with a letter or digit"
    )]
    Name {
        /// Which name.
        field: &'static str,
        /// As given.
        name: String,
    },
    /// Not a positive number.
    #[error("{field} is {value}: it has to be a number above 0")]
    Amount {
        /// Which amount.
        field: &'static str,
        /// As given.
        value: f64,
    },
    /// KEDA reads metrics from Prometheus, and its address is not known.
    #[error("the metric {metric} needs a Prometheus that KEDA can query: set the server address")]
    NoPrometheus {
        /// Metric.
        metric: String,
    },
    /// A metric that KEDA has no trigger for.
    #[error("the metric {metric} has no form in KEDA: use the plain autoscaler")]
    NoTrigger {
        /// Metric.
        metric: String,
    },
    /// A metric that the chart of `helm create` has no value for.
    #[error("the metric {metric} has no value in a chart of helm create: use the plain autoscaler")]
    NoHelmValue {
        /// Metric.
        metric: String,
    },
    /// A specification that the API server refuses.
    #[error(transparent)]
    Spec(#[from] crate::autoscaler::SpecError),
}
