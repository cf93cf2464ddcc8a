//! Distances between two binned distributions that need no smoothing, and what PSI shows beyond sampling.
//!
//! `p` is the reference, `q` the current window, bin by bin. Merging bins never raises any of them (data-processing
//! inequality), so a value from buckets is a lower bound of the value from raw data.

use super::{chi_square, statistics::psi, statistics::shares};

/// Jeffreys prior: half an observation in every bin.
pub const JEFFREYS: f64 = 0.5;

/// PSI beyond what sampling alone adds on average: `max(0, psi - (B - 1)(1/n + 1/m))`.
///
/// Source: the mean of the chi-square limit, Yurdakul 2018.
pub fn psi_excess(psi: f64, bin_count: usize, n: u64, m: u64) -> f64 {
    let degrees = bin_count.saturating_sub(1) as f64;
    if degrees == 0.0 {
        return 0.0;
    }
    (psi - degrees * (1.0 / n as f64 + 1.0 / m as f64)).max(0.0)
}

/// The probability of a PSI this large from sampling alone: chi-square survival of `psi / (1/n + 1/m)`; none below two bins.
///
/// Source: Yurdakul 2018. Asymptotic; with Jeffreys smoothing it errs to the safe side at small `n`.
pub fn psi_p_value(psi: f64, bin_count: usize, n: u64, m: u64) -> Option<f64> {
    if n == 0 || m == 0 {
        return None;
    }
    chi_square::survival(psi / (1.0 / n as f64 + 1.0 / m as f64), bin_count.checked_sub(1)?)
}

/// Headline PSI: Jeffreys smoothed.
pub fn psi_jeffreys(reference: &[u64], current: &[u64]) -> f64 {
    psi(reference, current, JEFFREYS)
}

/// Kullback-Leibler divergence `sum p ln(p / q)` in nats; infinite where `q` is empty and `p` is not.
pub fn kullback_leibler(reference: &[u64], current: &[u64]) -> f64 {
    let (p, q) = (shares(reference, 0.0), shares(current, 0.0));
    p.iter().zip(&q).filter(|(p, _)| **p > 0.0).map(|(p, q)| p * (p / q).ln()).sum()
}

/// Total variation `(1/2) sum |p - q|`, in `[0, 1]`.
pub fn total_variation(reference: &[u64], current: &[u64]) -> f64 {
    let (p, q) = (shares(reference, 0.0), shares(current, 0.0));
    p.iter().zip(&q).map(|(p, q)| (p - q).abs()).sum::<f64>() / 2.0
}

/// Hellinger distance `sqrt((1/2) sum (sqrt p - sqrt q)^2)`, in `[0, 1]`. Source: Hellinger 1909.
pub fn hellinger(reference: &[u64], current: &[u64]) -> f64 {
    let (p, q) = (shares(reference, 0.0), shares(current, 0.0));
    (p.iter().zip(&q).map(|(p, q)| (p.sqrt() - q.sqrt()).powi(2)).sum::<f64>() / 2.0).sqrt()
}

/// Largest difference of a share, in `[0, 1]`.
pub fn l_infinity(reference: &[u64], current: &[u64]) -> f64 {
    let (p, q) = (shares(reference, 0.0), shares(current, 0.0));
    p.iter().zip(&q).map(|(p, q)| (p - q).abs()).fold(0.0, f64::max)
}
