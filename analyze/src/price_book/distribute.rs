//! Who pays for what nobody holds, as the price book says.

use serde::{Deserialize, Serialize};

use super::PriceBookError;

/// How costs that are nobody's by themselves are given to the workloads; what is left out stays a part of the bill of its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distribute {
    /// Of what nobody held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<DistributeBy>,
    /// Of what serves all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<DistributeBy>,
    /// Of what is not an asset: fees, commitments that were not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overhead: Option<DistributeBy>,
}

/// `"uniform"`, `"share"` or `{ metric = "NAME" }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DistributeBy {
    /// The same to each holder.
    Uniform,
    /// By what each pays for the same resource, or in all where nobody holds that resource.
    Share,
    /// By a stored number metric of the services: what a counter gained, the mean of a gauge.
    Metric(String),
}

impl Distribute {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn check(&self) -> Result<(), PriceBookError> {
        match self.metrics().any(|metric| metric.trim().is_empty()) {
            true => Err(PriceBookError::DistributeMetric),
            false => Ok(()),
        }
    }

    /// Each part of the bill with how it is given.
    pub fn parts(&self) -> [(&'static str, Option<&DistributeBy>); 3] {
        [("idle", self.idle.as_ref()), ("shared", self.shared.as_ref()), ("overhead", self.overhead.as_ref())]
    }

    /// Metrics that have to be read, some twice.
    pub fn metrics(&self) -> impl Iterator<Item = &str> {
        self.parts().into_iter().filter_map(|(_, by)| match by {
            Some(DistributeBy::Metric(metric)) => Some(metric.as_str()),
            _ => None,
        })
    }
}
