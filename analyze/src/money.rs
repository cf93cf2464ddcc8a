//! Amounts of money as integers, so that parts can be made to sum to the whole exactly.
//!
//! Invariant: splitting and rounding never create or lose a micro-unit; what rounding leaves over goes to the parts with
//! the largest remainders (Hamilton's method), ties to the first.

use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign, Neg, Sub},
};

/// Micro-units of one unit of currency.
const MICROS_PER_UNIT: f64 = 1e6;
/// Decimals of an amount.
const MICRO_DIGITS: u32 = 6;

/// An amount in micro-units (1/1 000 000) of a currency, which the price book names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i128);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// `micros` millionths of a unit.
    pub const fn from_micros(micros: i128) -> Self {
        Self(micros)
    }

    /// `units` of currency, rounded once, half away from zero; what is not a number is an error of the caller and gives 0.
    pub fn from_units(units: f64) -> Self {
        Self((units * MICROS_PER_UNIT).round() as i128)
    }

    /// Millionths of a unit.
    pub const fn micros(self) -> i128 {
        self.0
    }

    /// Units of currency, for ratios and charts; not exact past 15 digits.
    pub fn units(self) -> f64 {
        self.0 as f64 / MICROS_PER_UNIT
    }

    /// This amount times `factor`, rounded once.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self((self.0 as f64 * factor).round() as i128)
    }

    /// Rounded to `digits` decimals, half away from zero.
    #[must_use]
    pub fn rounded(self, digits: u32) -> Self {
        let step = step(digits);
        let half = if self.0 < 0 { -step / 2 } else { step / 2 };
        Self((self.0 + half) / step * step)
    }

    /// Text with exactly `digits` decimals, such as `12.30`, rounded half away from zero.
    pub fn to_text(self, digits: u32) -> String {
        let digits = digits.min(MICRO_DIGITS);
        let scaled = self.rounded(digits).0 / step(digits);
        let sign = if scaled < 0 { "-" } else { "" };
        let (magnitude, unit) = (scaled.unsigned_abs(), 10_u128.pow(digits));
        if digits == 0 {
            return format!("{sign}{magnitude}");
        }
        format!("{sign}{}.{:0width$}", magnitude / unit, magnitude % unit, width = digits as usize)
    }

    /// Splits this amount by `weights`; the parts sum to it exactly.
    ///
    /// Returns one part per weight; a weight that is not a positive finite number gets nothing. `None` where no weight
    /// is positive, because then nobody says who pays.
    pub fn split(self, weights: &[f64]) -> Option<Vec<Self>> {
        let clean: Vec<f64> = weights.iter().map(|w| if w.is_finite() && *w > 0.0 { *w } else { 0.0 }).collect();
        let largest = clean.iter().copied().fold(0.0, f64::max);
        // Scaled by the largest: a sum of huge weights must not become infinite.
        let sum: f64 = clean.iter().map(|w| w / largest).sum();
        if largest <= 0.0 {
            return None;
        }
        let ideal: Vec<f64> = clean.iter().map(|w| self.0 as f64 * (w / largest / sum)).collect();
        let parts: Vec<i128> = ideal.iter().map(|share| share.floor() as i128).collect();
        let remainders: Vec<f64> = ideal.iter().map(|share| share - share.floor()).collect();
        let eligible: Vec<usize> = (0..clean.len()).filter(|&at| clean[at] > 0.0).collect();
        Some(hand_out(self.0 - parts.iter().sum::<i128>(), 1, parts, &remainders, eligible))
    }
}

/// Rounds `parts` to `digits` decimals so that they sum to their rounded total.
///
/// Every part is within one step of its own value. Largest-remainder method.
pub fn round_parts(parts: &[Money], digits: u32) -> Vec<Money> {
    let step = step(digits);
    let total = parts.iter().copied().sum::<Money>().rounded(digits).0;
    let floors: Vec<i128> = parts.iter().map(|part| part.0.div_euclid(step) * step).collect();
    let remainders: Vec<f64> = parts.iter().map(|part| part.0.rem_euclid(step) as f64).collect();
    // An exact part is the last to be moved: a line of nothing must not show a cent.
    let mut eligible: Vec<usize> = (0..parts.len()).filter(|&at| remainders[at] > 0.0).collect();
    if eligible.is_empty() {
        eligible = (0..parts.len()).collect();
    }
    hand_out(total - floors.iter().sum::<i128>(), step, floors, &remainders, eligible)
}

/// Adds `left` in steps to the `eligible` parts, largest remainder first.
fn hand_out(left: i128, step: i128, mut parts: Vec<i128>, remainders: &[f64], mut eligible: Vec<usize>) -> Vec<Money> {
    if eligible.is_empty() {
        return parts.into_iter().map(Money).collect();
    }
    eligible.sort_by(|&a, &b| remainders[b].total_cmp(&remainders[a]).then(a.cmp(&b)));
    let (steps, count) = (left / step, eligible.len() as i128);
    // More than one step each only where the floating-point shares of a huge amount were off.
    let (each, extra) = (steps.div_euclid(count), steps.rem_euclid(count));
    for (rank, &at) in eligible.iter().enumerate() {
        parts[at] += step * (each + i128::from((rank as i128) < extra));
    }
    parts.into_iter().map(Money).collect()
}

fn step(digits: u32) -> i128 {
    10_i128.pow(MICRO_DIGITS.saturating_sub(digits))
}

impl Add for Money {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Money {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Neg for Money {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Money {
    /// All six decimals: exact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text(MICRO_DIGITS))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cents(parts: &[Money]) -> Vec<String> {
        parts.iter().map(|part| part.to_text(2)).collect()
    }

    #[test]
    fn thirds_of_a_unit_sum_to_it() {
        let parts = Money::from_units(1.0).split(&[1.0, 1.0, 1.0]).unwrap();
        assert_eq!(parts.iter().map(|part| part.micros()).collect::<Vec<_>>(), [333_334, 333_333, 333_333]);
        assert_eq!(cents(&round_parts(&parts, 2)), ["0.34", "0.33", "0.33"]);
        assert_eq!(cents(&round_parts(&[Money::ZERO, parts[0], parts[1]], 2)), ["0.00", "0.34", "0.33"]);
    }

    #[test]
    fn a_split_without_weights_is_refused() {
        assert_eq!(Money::from_units(1.0).split(&[]), None);
        assert_eq!(Money::from_units(1.0).split(&[0.0, f64::NAN, -1.0]), None);
        let parts = Money::from_units(1.0).split(&[f64::MAX, f64::MAX, 0.0]).unwrap();
        assert_eq!(cents(&parts), ["0.50", "0.50", "0.00"]);
    }

    #[test]
    fn texts_are_rounded_half_away_from_zero() {
        for (units, digits, text) in
            [(1.005, 2, "1.01"), (-1.005, 2, "-1.01"), (-0.001, 2, "0.00"), (1234.5, 0, "1235"), (0.0005, 3, "0.001")]
        {
            assert_eq!(Money::from_units(units).to_text(digits), text);
        }
        assert_eq!(Money::from_micros(-1_000_001).to_string(), "-1.000001");
    }

    proptest! {
        #[test]
        fn parts_sum_to_the_whole(
            micros in -1_000_000_000_000_000_000_i128..1_000_000_000_000_000_000,
            weights in prop::collection::vec(0.0_f64..1e9, 1..40),
            digits in 0_u32..=6,
        ) {
            let whole = Money::from_micros(micros);
            if let Some(parts) = whole.split(&weights) {
                prop_assert_eq!(parts.iter().copied().sum::<Money>(), whole);
                prop_assert!(parts.iter().zip(&weights).all(|(part, weight)| *weight > 0.0 || *part == Money::ZERO));
                let rounded = round_parts(&parts, digits);
                prop_assert_eq!(rounded.iter().copied().sum::<Money>(), whole.rounded(digits));
                for (rounded, part) in rounded.iter().zip(&parts) {
                    prop_assert!((rounded.0 - part.0).abs() <= step(digits), "{rounded} of {part}");
                }
            }
        }
    }
}
