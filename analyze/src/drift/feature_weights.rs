//! What a change of each feature matters, as its owners declare it: `[drift.weights]`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::delivery::DeliveryError;

/// Largest weight.
const WEIGHT_MAX: f64 = 1_000.0;

/// Weights by the name of the feature (`driftwatt.input.pixels`, `requests[language]`); what is not declared weighs 1.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct FeatureWeights(BTreeMap<String, f64>);

impl FeatureWeights {
    /// Checks declared weights.
    ///
    /// # Errors
    /// [`DeliveryError::Setting`] for one that is not between 0 and 1 000.
    pub fn new(declared: BTreeMap<String, f64>) -> Result<Self, DeliveryError> {
        for (feature, weight) in &declared {
            if !(0.0..=WEIGHT_MAX).contains(weight) {
                let reason = format!("is {weight}; write 0 (looked at last) to {WEIGHT_MAX}, 1 is what others weigh");
                return Err(DeliveryError::Setting { setting: format!("drift.weights.{feature:?}"), reason });
            }
        }
        Ok(Self(declared))
    }

    /// The weight of `feature`.
    pub fn of(&self, feature: &str) -> f64 {
        self.0.get(feature).copied().unwrap_or(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_declared_weighs_one_and_what_is_no_weight_is_refused() {
        let weights = FeatureWeights::new(BTreeMap::from([("a".into(), 3.0), ("b[c]".into(), 0.0)])).unwrap();
        assert_eq!([weights.of("a"), weights.of("b[c]"), weights.of("d")], [3.0, 0.0, 1.0]);
        for weight in [-1.0, f64::NAN, f64::INFINITY, 1_001.0] {
            let error = FeatureWeights::new(BTreeMap::from([("a".into(), weight)])).unwrap_err().to_string();
            assert!(error.contains("drift.weights.\"a\""), "{error}");
        }
    }
}
