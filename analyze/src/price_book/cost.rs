//! What something costs, with the part that has no price kept beside the part that has.

use std::{
    iter::Sum,
    ops::{Add, AddAssign},
};

use crate::money::Money;

/// A cost in the currency of the price book.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// At list prices, of what has a price.
    pub list: Money,
    /// What is paid, of what has a price.
    pub effective: Money,
    /// Unit-hours (GPU, vCPU or GB for one hour) that have no price, so that the whole cost is unknown.
    pub unpriced_hours: f64,
}

impl Cost {
    /// Nothing.
    pub const ZERO: Self = Self { list: Money::ZERO, effective: Money::ZERO, unpriced_hours: 0.0 };

    /// What is paid; none where a part has no price, because the known part would read as the whole.
    pub fn total(&self) -> Option<Money> {
        (self.unpriced_hours <= 0.0).then_some(self.effective)
    }

    /// The same at list prices.
    pub fn list_total(&self) -> Option<Money> {
        (self.unpriced_hours <= 0.0).then_some(self.list)
    }

    /// Whether there is neither money nor an unpriced hour in it.
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// Splits by `weights` so that the parts sum to this cost exactly; none where no weight is positive.
    pub fn split(&self, weights: &[f64]) -> Option<Vec<Self>> {
        let (lists, effectives) = (self.list.split(weights)?, self.effective.split(weights)?);
        let sum: f64 = weights.iter().filter(|weight| **weight > 0.0).sum();
        let parts = lists.into_iter().zip(effectives).zip(weights);
        Some(
            parts
                .map(|((list, effective), weight)| Self {
                    list,
                    effective,
                    unpriced_hours: self.unpriced_hours * (weight.max(0.0) / sum),
                })
                .collect(),
        )
    }
}

impl Add for Cost {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            list: self.list + other.list,
            effective: self.effective + other.effective,
            unpriced_hours: self.unpriced_hours + other.unpriced_hours,
        }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::ZERO, Add::add)
    }
}
