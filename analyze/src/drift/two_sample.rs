//! Two-sample tests on raw values beyond the headline scores; on demand, because their cost or their p-value is not for
//! every window. Samples are sorted ascending, finite and not empty.

use std::collections::BTreeMap;

use super::statistics::walk_distributions;

/// Products of the sizes up to which the exact KS p-value is computed.
pub const EXACT_KS_PAIRS_MAX: u64 = 10_000_000;
/// Sizes up to which the Cramer-von Mises p-value is exact, as in SciPy.
pub const EXACT_CVM_SIZE_MAX: usize = 20;

/// A statistic with its p-value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TestResult {
    /// The statistic.
    pub statistic: f64,
    /// The p-value; none where it is not computed.
    pub p_value: Option<f64>,
}

/// Exact two-sided p-value of a KS statistic for sizes `n` and `m` without ties (conservative with ties); none past
/// [`EXACT_KS_PAIRS_MAX`] or for an empty side.
///
/// The lattice-path recursion on the upper tail: only positive terms, so tiny p-values keep their relative accuracy.
/// Source: Hodges 1958; Schröer and Trenkler 1995.
pub fn kolmogorov_exact_p_value(statistic: f64, n: usize, m: usize) -> Option<f64> {
    let pairs = (n as u64).checked_mul(m as u64).filter(|pairs| (1..=EXACT_KS_PAIRS_MAX).contains(pairs))?;
    let (rows, columns) = (n as f64, m as f64);
    // The statistic is a multiple of 1 / (n m): compare in the middle between two of them.
    let limit = (0.5 + (statistic * pairs as f64 - 1e-7).floor()) / pairs as f64;
    let outside = |i: usize, j: usize| (i as f64 / rows - j as f64 / columns).abs() >= limit;
    let mut tail = vec![0.0; m + 1];
    for j in 1..=m {
        tail[j] = if outside(0, j) { 1.0 } else { tail[j - 1] };
    }
    for i in 1..=n {
        if outside(i, 0) {
            tail[0] = 1.0;
        }
        for j in 1..=m {
            let total = (i + j) as f64;
            tail[j] = if outside(i, j) { 1.0 } else { tail[j] * i as f64 / total + tail[j - 1] * j as f64 / total };
        }
    }
    Some(tail[m].clamp(0.0, 1.0))
}

/// Energy distance `sqrt(2 integral (F - G)^2)`, in the square root of the column's unit. Source: Székely and Rizzo 2013.
pub fn energy_distance(reference: &[f64], current: &[f64]) -> f64 {
    let mut area = 0.0;
    walk_distributions(reference, current, |value, next, f, g| {
        if let Some(next) = next {
            area += (next - value) * (f - g).powi(2);
        }
    });
    (2.0 * area).sqrt()
}

/// Cramer-von Mises two-sample test with mid-ranks; p exact up to [`EXACT_CVM_SIZE_MAX`] per side, else asymptotic.
///
/// Source: Anderson 1962; exact: Xiao, Gordon and Yakovlev 2006.
pub fn cramer_von_mises(reference: &[f64], current: &[f64]) -> TestResult {
    let (statistic, p_asymptotic) = cramer_von_mises_asymptotic(reference, current);
    let exact = reference.len().max(current.len()) <= EXACT_CVM_SIZE_MAX;
    let p_value = if exact { cramer_von_mises_exact(reference, current) } else { p_asymptotic };
    TestResult { statistic, p_value: Some(p_value) }
}

/// The statistic and its asymptotic p-value.
pub fn cramer_von_mises_asymptotic(reference: &[f64], current: &[f64]) -> (f64, f64) {
    let (n, m) = (reference.len() as f64, current.len() as f64);
    let (pairs, total) = (n * m, n + m);
    let statistic = rank_sum(reference, current) / (pairs * total) - (4.0 * pairs - 1.0) / (6.0 * total);
    let mean = (1.0 + 1.0 / total) / 6.0;
    let spread = (total + 1.0) * (4.0 * pairs * total - 3.0 * (n * n + m * m) - 2.0 * pairs);
    let variance = spread / (45.0 * total * total * 4.0 * pairs);
    let normal = 1.0 / 6.0 + (statistic - mean) / (45.0 * variance).sqrt();
    // Below this the limit's distribution function is zero in a double.
    let p_value = if normal < 0.003 { 1.0 } else { (1.0 - cramer_von_mises_limit(normal)).max(0.0) };
    (statistic, p_value)
}

/// `n sum (r_i - i)^2 + m sum (s_j - j)^2` over mid-ranks in the pooled sample.
fn rank_sum(reference: &[f64], current: &[f64]) -> f64 {
    let mid_rank = |value: &f64| {
        let below = reference.partition_point(|x| x < value) + current.partition_point(|x| x < value);
        let upto = reference.partition_point(|x| x <= value) + current.partition_point(|x| x <= value);
        (below + upto + 1) as f64 / 2.0
    };
    let side = |sample: &[f64]| {
        let terms = sample.iter().enumerate().map(|(at, value)| (mid_rank(value) - (at + 1) as f64).powi(2));
        sample.len() as f64 * terms.sum::<f64>()
    };
    side(reference) + side(current)
}

/// The limit's distribution function. Source: Csörgő and Faraway 1996, equation 1.2.
fn cramer_von_mises_limit(x: f64) -> f64 {
    use statrs::function::gamma::ln_gamma;
    let mut sum = 0.0;
    for k in 0..60 {
        let k = f64::from(k);
        let y = 4.0 * k + 1.0;
        let q = y * y / (16.0 * x);
        let weight = (ln_gamma(k + 0.5) - ln_gamma(k + 1.0)).exp() / (std::f64::consts::PI.powf(1.5) * x.sqrt());
        let term = weight * y.sqrt() * (-q).exp() * bessel_k_quarter(q);
        sum += term;
        if term < 1e-17 {
            break;
        }
    }
    sum
}

/// Modified Bessel function `K_(1/4)(x)`, `x > 0`: trapezium rule on `integral exp(-x cosh t) cosh(t / 4)`, which converges
/// double exponentially.
fn bessel_k_quarter(x: f64) -> f64 {
    const STEP: f64 = 1.0 / 64.0;
    let mut sum = (-x).exp() / 2.0;
    for at in 1..4_096 {
        let t = f64::from(at) * STEP;
        let term = (-x * t.cosh()).exp() * (t / 4.0).cosh();
        sum += term;
        if term < sum * 1e-18 {
            break;
        }
    }
    sum * STEP
}

fn cramer_von_mises_exact(reference: &[f64], current: &[f64]) -> f64 {
    let (m, n) = (reference.len() as i64, current.len() as i64);
    let lcm = m * n / gcd(m, n);
    let (a, b, pairs) = (lcm / m, lcm / n, (m * n) as f64);
    let scaled = (lcm * lcm * (m + n)) as f64 * (6.0 * rank_sum(reference, current) - pairs * (4.0 * pairs - 1.0));
    let limit = (scaled / (6.0 * pairs * pairs)).floor() as i64;
    // Number of lattice paths to (u, v) by the value they reached.
    let mut paths: Vec<BTreeMap<i64, f64>> = vec![BTreeMap::new(); m as usize + 1];
    paths[0].insert(0, 1.0);
    for u in 0..=n {
        let mut left: BTreeMap<i64, f64> = BTreeMap::new();
        for (v, reached) in paths.iter_mut().enumerate() {
            for (value, count) in std::mem::take(reached) {
                *left.entry(value).or_insert(0.0) += count;
            }
            let step = (a * v as i64 - b * u).pow(2);
            left = left.into_iter().map(|(value, count)| (value + step, count)).collect();
            reached.clone_from(&left);
        }
    }
    let last = &paths[m as usize];
    last.range(limit..).map(|(_, count)| count).sum::<f64>() / last.values().sum::<f64>()
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Anderson-Darling k-sample test of two samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AndersonDarling {
    /// Normalised statistic with mid-ranks, for data with ties.
    pub midrank: f64,
    /// Normalised statistic with right-continuous distribution functions.
    pub right: f64,
    /// p of the mid-rank form, interpolated, clamped to `[0.001, 0.25]`: the table ends there.
    pub p_value: f64,
}

/// Anderson-Darling test; none below four values in total or when all are equal. Source: Scholz and Stephens 1987.
pub fn anderson_darling(reference: &[f64], current: &[f64]) -> Option<AndersonDarling> {
    let (n, m) = (reference.len() as f64, current.len() as f64);
    let total = n + m;
    if reference.first()? == current.last()? && reference.last()? == current.first()? || total < 4.0 {
        return None;
    }
    let (mut midrank, mut right) = (0.0, 0.0);
    let (mut before, mut a_before, mut b_before) = (0.0, 0.0, 0.0);
    let distinct = {
        let mut distinct = 0.0;
        walk_distributions(reference, current, |_, _, _, _| distinct += 1.0);
        distinct
    };
    walk_distributions(reference, current, |_, next, f, g| {
        let (a, b) = ((f * n).round(), (g * m).round());
        // Without ties every multiplicity is one.
        let ties = if distinct == total { 1.0 } else { a + b - before };
        let rank = before + ties / 2.0;
        let (mid_a, mid_b) = ((a + a_before) / 2.0, (b + b_before) / 2.0);
        let scale = rank * (total - rank) - total * ties / 4.0;
        let square = |count: f64, rank: f64, size: f64| (total * count - rank * size).powi(2) / size;
        midrank += ties / total * (square(mid_a, rank, n) + square(mid_b, rank, m)) / scale;
        if next.is_some() {
            let rank = a + b;
            right += ties / total * (square(a, rank, n) + square(b, rank, m)) / (rank * (total - rank));
        }
        (before, a_before, b_before) = (a + b, a, b);
    });
    let deviation = anderson_darling_deviation(n, m);
    let midrank = (midrank * (total - 1.0) / total - 1.0) / deviation;
    Some(AndersonDarling { midrank, right: (right - 1.0) / deviation, p_value: anderson_darling_p_value(midrank) })
}

/// Standard deviation of the statistic under no difference, two samples.
fn anderson_darling_deviation(n: f64, m: f64) -> f64 {
    let total = n + m;
    let sizes = 1.0 / n + 1.0 / m;
    let (mut partial, mut g) = (0.0, 0.0);
    for at in 2..total as u64 {
        partial += 1.0 / (total - at as f64 + 1.0);
        g += partial / at as f64;
    }
    let h = partial + 1.0;
    let k = 2.0;
    let a = (4.0 * g - 6.0) * (k - 1.0) + (10.0 - 6.0 * g) * sizes;
    let b = (2.0 * g - 4.0) * k * k + 8.0 * h * k + (2.0 * g - 14.0 * h - 4.0) * sizes - 8.0 * h + 4.0 * g - 6.0;
    let c = (6.0 * h + 2.0 * g - 2.0) * k * k + (4.0 * h - 4.0 * g + 6.0) * k + (2.0 * h - 6.0) * sizes + 4.0 * h;
    let d = (2.0 * h + 6.0) * k * k - 4.0 * h * k;
    let variance = ((a * total + b) * total + c) * total + d;
    (variance / ((total - 1.0) * (total - 2.0) * (total - 3.0))).sqrt()
}

/// Quadratic least-squares fit of the logarithm of the table's levels over its critical values for two samples.
fn anderson_darling_p_value(statistic: f64) -> f64 {
    // The table's three columns add up for two samples. Source: Scholz and Stephens 1987, table 2.
    const CRITICAL: [f64; 7] = [0.325, 1.226, 1.961, 1.96 + 1.149 - 0.391, 3.752, 4.592, 6.546];
    const LEVEL: [f64; 7] = [0.25, 0.1, 0.05, 0.025, 0.01, 0.005, 0.001];
    if statistic < CRITICAL[0] {
        return LEVEL[0];
    }
    if statistic > CRITICAL[6] {
        return LEVEL[6];
    }
    // Orthogonal polynomials on the table's points: no badly conditioned normal equations.
    let centre = CRITICAL.iter().sum::<f64>() / 7.0;
    let second = CRITICAL.iter().map(|x| (x - centre).powi(2)).sum::<f64>();
    let third = CRITICAL.iter().map(|x| (x - centre).powi(3)).sum::<f64>();
    let basis = |x: f64| {
        let x = x - centre;
        [1.0, x, x * x - x * third / second - second / 7.0]
    };
    let fitted: f64 = (0..3)
        .map(|degree| {
            let at = |(x, level): (&f64, &f64)| basis(*x)[degree] * level.ln();
            let norm: f64 = CRITICAL.iter().map(|x| basis(*x)[degree].powi(2)).sum();
            CRITICAL.iter().zip(&LEVEL).map(at).sum::<f64>() / norm * basis(statistic)[degree]
        })
        .sum();
    fitted.exp()
}
