//! A sum of doubles that does not depend on the order of addition.
//!
//! Floating-point addition is not associative, so sums of hourly states would differ from a weekly state in their last
//! bits. This fixed-point accumulator spans the whole range of a double and adds without rounding. Source: Neal 2015,
//! *Fast exact summation using small and large superaccumulators*.

/// Limbs of 32 bits from 2^-1074 up, with room for 2^64 additions of the largest double.
pub(crate) const LIMBS: usize = 68;
/// Additions after which a limb could overflow without carrying.
const ADDITIONS_MAX: u32 = 1 << 29;
const LIMB_MASK: i64 = 0xffff_ffff;

/// An exact sum; infinite and NaN terms are counted apart and make the value infinite.
#[derive(Debug, Clone)]
pub struct ExactSum {
    limbs: [i64; LIMBS],
    additions: u32,
    overflowed: u64,
}

impl Default for ExactSum {
    fn default() -> Self {
        Self { limbs: [0; LIMBS], additions: 0, overflowed: 0 }
    }
}

impl PartialEq for ExactSum {
    fn eq(&self, other: &Self) -> bool {
        self.overflowed == other.overflowed && self.carried() == other.carried()
    }
}

impl ExactSum {
    /// Adds one term.
    pub fn add(&mut self, term: f64) {
        if !term.is_finite() {
            self.overflowed += 1;
            return;
        }
        let bits = term.to_bits();
        let exponent = ((bits >> 52) & 0x7ff) as usize;
        let fraction = bits & ((1 << 52) - 1);
        let (mantissa, position) = if exponent == 0 { (fraction, 0) } else { (fraction | (1 << 52), exponent - 1) };
        let wide = u128::from(mantissa) << (position % 32);
        let first = position / 32;
        for (part, limb) in self.limbs[first..first + 3].iter_mut().enumerate() {
            let chunk = ((wide >> (32 * part)) & 0xffff_ffff) as i64;
            *limb += if term.is_sign_negative() { -chunk } else { chunk };
        }
        self.additions += 1;
        if self.additions >= ADDITIONS_MAX {
            self.limbs = self.carried();
            self.additions = 1;
        }
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.limbs = self.carried();
        for (limb, add) in self.limbs.iter_mut().zip(other.carried()) {
            *limb += add;
        }
        self.limbs = self.carried();
        self.additions = 1;
        self.overflowed += other.overflowed;
    }

    /// The sum as the nearest double, within one unit in the last place; infinite if a term was, or past the range.
    pub fn value(&self) -> f64 {
        if self.overflowed > 0 {
            return f64::INFINITY;
        }
        let mut limbs = self.carried();
        let negative = limbs[LIMBS - 1] < 0;
        if negative {
            limbs = carry(limbs.map(|limb| -limb));
        }
        let Some(top) = limbs.iter().rposition(|limb| *limb != 0) else { return 0.0 };
        let first = top.saturating_sub(2);
        let whole = limbs[first..=top].iter().rev().fold(0u128, |sum, &limb| (sum << 32) | limb as u128);
        let exponent = 32 * first as i32 - 1074;
        let half = exponent / 2;
        let magnitude = whole as f64 * f64::from(half).exp2() * f64::from(exponent - half).exp2();
        if negative { -magnitude } else { magnitude }
    }

    /// Terms that were infinite or not a number.
    pub(crate) fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// The canonical limbs: all but the last in `0..2^32`.
    pub(crate) fn carried(&self) -> [i64; LIMBS] {
        carry(self.limbs)
    }

    /// From canonical limbs, as stored.
    pub(crate) fn from_parts(limbs: [i64; LIMBS], overflowed: u64) -> Self {
        Self { limbs: carry(limbs), additions: 1, overflowed }
    }
}

fn carry(mut limbs: [i64; LIMBS]) -> [i64; LIMBS] {
    let mut carried = 0;
    for limb in &mut limbs[..LIMBS - 1] {
        let sum = *limb + carried;
        *limb = sum & LIMB_MASK;
        carried = sum >> 32;
    }
    limbs[LIMBS - 1] += carried;
    limbs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancels_where_doubles_do_not() {
        let mut sum = ExactSum::default();
        for term in [1e308, 1.0, -1e308, 1e-300, 5e-324, -0.25] {
            sum.add(term);
        }
        assert_eq!(sum.value(), 0.75);
        let mut negative = ExactSum::default();
        for term in [-3.5, 1e300, -1e300, 0.25] {
            negative.add(term);
        }
        assert_eq!(negative.value(), -3.25);
        negative.merge(&sum);
        assert_eq!(negative.value(), -2.5);
    }

    #[test]
    fn range_ends_are_kept() {
        let mut sum = ExactSum::default();
        sum.add(f64::MAX);
        assert_eq!(sum.value(), f64::MAX);
        sum.add(f64::MAX);
        assert_eq!(sum.value(), f64::INFINITY);
        sum.add(-f64::MAX);
        assert_eq!(sum.value(), f64::MAX);
        let mut tiny = ExactSum::default();
        tiny.add(5e-324);
        assert_eq!(tiny.value(), 5e-324);
    }
}
