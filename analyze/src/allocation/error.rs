//! What a fleet must not be.
#![expect(missing_docs, reason = "the messages name the fields")]

use super::{Claim, Fleet, Resource};

/// A fleet that cannot be allocated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AllocationError {
    #[error("asset {asset:?} has a capacity of {capacity}; it must be a number that is not negative")]
    Capacity { asset: String, capacity: f64 },
    #[error("card {asset:?} has a capacity of {capacity}; give every card an asset of its own with capacity 1")]
    Card { asset: String, capacity: f64 },
    #[error("{holder:?} holds {amount} of {asset:?} as its {what}; it must be a number {range}")]
    Amount { holder: String, asset: String, what: &'static str, amount: f64, range: &'static str },
    #[error("{holder:?} claims {asset:?} as {claim}; CPU and memory are held by amount, cards by slice or share")]
    Claim { holder: String, asset: String, claim: &'static str },
    #[error("asset {asset:?} or a holding of it has an open or empty period; give it a start and a later end")]
    Period { asset: String },
}

/// Refuses amounts that cannot be.
pub(super) fn check(fleet: &Fleet) -> Result<(), AllocationError> {
    for asset in &fleet.assets {
        let (name, capacity) = (asset.name.clone(), asset.capacity);
        if !(capacity.is_finite() && capacity >= 0.0) {
            return Err(AllocationError::Capacity { asset: name, capacity });
        }
        if asset.resource == Resource::Gpu && capacity != 1.0 {
            return Err(AllocationError::Card { asset: name, capacity });
        }
    }
    let assets = fleet.assets.iter().map(|asset| (&asset.name, asset.period));
    for (name, period) in assets.chain(fleet.holdings.iter().map(|holding| (&holding.asset, holding.period))) {
        if period.start_us == i64::MIN || period.end_us == i64::MAX || period.end_us <= period.start_us {
            return Err(AllocationError::Period { asset: name.clone() });
        }
    }
    for holding in &fleet.holdings {
        let is_card = holding.resource == Resource::Gpu;
        let claim = match holding.claim {
            Claim::Amount { .. } => "an amount",
            Claim::Slice { .. } => "a slice",
            Claim::Shared { .. } => "a share",
        };
        if is_card == matches!(holding.claim, Claim::Amount { .. }) {
            let (holder, asset) = (holding.holder.clone(), holding.asset.clone());
            return Err(AllocationError::Claim { holder, asset, claim });
        }
        for (what, amount, least, most, range) in amounts(holding.claim) {
            // A weight of 0 would be a holder that never pays.
            let too_small = amount < least || (what == "weight" && amount <= 0.0);
            if !amount.is_finite() || too_small || amount > most {
                let (holder, asset) = (holding.holder.clone(), holding.asset.clone());
                return Err(AllocationError::Amount { holder, asset, what, amount, range });
            }
        }
    }
    Ok(())
}

fn amounts(claim: Claim) -> Vec<(&'static str, f64, f64, f64, &'static str)> {
    let not_negative =
        |what, value: Option<f64>| value.map(|value| (what, value, 0.0, f64::MAX, "that is not negative"));
    let part = |what, value: Option<f64>| value.map(|value| (what, value, 0.0, 1.0, "from 0 to 1"));
    let both = match claim {
        Claim::Amount { request, usage } => [not_negative("request", request), not_negative("usage", usage)],
        Claim::Slice { fraction, busy } => [part("fraction", Some(fraction)), part("busy part", busy)],
        Claim::Shared { weight, busy } => [Some(("weight", weight, 0.0, f64::MAX, "above 0")), part("busy part", busy)],
    };
    both.into_iter().flatten().collect()
}
