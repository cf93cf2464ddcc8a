//! Drift statistics as pure functions.
//!
//! Values are finite; "sorted" is ascending. `n` is the reference's size, `m` the current window's.

use super::chi_square;

/// The `q` quantile of sorted values: linear between order statistics at `(n - 1) q` (Hyndman and Fan type 7, NumPy's default).
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = last as f64 * q;
    let below = (at.floor() as usize).min(last);
    let (low, high) = (sorted[below], sorted[(below + 1).min(last)]);
    let part = at - below as f64;
    if (high - low).is_infinite() {
        return Some(low * (1.0 - part) + high * part);
    }
    // Interpolating from the nearer end is exact at both ends, which keeps equal quantiles equal.
    Some(if part < 0.5 { low + (high - low) * part } else { high - (high - low) * (1.0 - part) })
}

/// Mean; none of no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Population standard deviation (`ddof` 0), two passes; none of no values.
pub fn standard_deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    Some((values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt())
}

/// The cuts of the reference's deciles, equal ones once: `B` bins `(-inf, c0], (c0, c1], …, (ck, inf)` with `B <= 10`.
///
/// Outer bins are open, so no outlier moves a cut.
pub fn decile_cuts(sorted_reference: &[f64]) -> Vec<f64> {
    let mut cuts: Vec<f64> = (1..10).filter_map(|k| quantile(sorted_reference, f64::from(k) / 10.0)).collect();
    cuts.dedup();
    cuts
}

/// Counts of `sorted` in the right-closed bins between `cuts`.
pub fn bin_counts(sorted: &[f64], cuts: &[f64]) -> Vec<u64> {
    let mut counts = Vec::with_capacity(cuts.len() + 1);
    let mut start = 0;
    for cut in cuts {
        let end = sorted.partition_point(|value| value <= cut);
        counts.push((end - start) as u64);
        start = end;
    }
    counts.push((sorted.len() - start) as u64);
    counts
}

pub(crate) fn shares(counts: &[u64], pseudo_count: f64) -> Vec<f64> {
    let total = counts.iter().sum::<u64>() as f64 + pseudo_count * counts.len() as f64;
    counts.iter().map(|&count| (count as f64 + pseudo_count) / total).collect()
}

/// Population stability index `sum (q - p) ln(q / p)` of binned counts.
///
/// `pseudo_count` is added to every bin of both sides before dividing by the total; 0.5 (Jeffreys) keeps an empty bin finite, 0 is
/// the textbook form, infinite where one side's bin is empty. Source: Siddiqi, *Credit Risk Scorecards*; Yurdakul 2018.
pub fn psi(reference: &[u64], current: &[u64], pseudo_count: f64) -> f64 {
    let (p, q) = (shares(reference, pseudo_count), shares(current, pseudo_count));
    p.iter().zip(&q).filter(|(p, q)| p != q).map(|(p, q)| (q - p) * (q / p).ln()).sum()
}

/// The PSI that two samples of one distribution exceed in 1 % of cases: `chi2(0.99, B - 1) (1/n + 1/m)`.
///
/// Under no change `PSI / (1/n + 1/m)` tends to a chi-square with `B - 1` degrees of freedom. Source: Yurdakul 2018. None below
/// two bins or when a side is empty.
pub fn psi_noise_critical(bin_count: usize, n: u64, m: u64) -> Option<f64> {
    let quantile = chi_square::upper_quantile(0.01, bin_count.checked_sub(1)?)?;
    (n > 0 && m > 0).then(|| quantile * (1.0 / n as f64 + 1.0 / m as f64))
}

/// Jensen-Shannon distance in base 2, the square root of the divergence, in `[0, 1]`; no smoothing.
///
/// Source: Lin 1991; Endres and Schindelin 2003 for the root being a metric.
pub fn jensen_shannon(reference: &[u64], current: &[u64]) -> f64 {
    let (p, q) = (shares(reference, 0.0), shares(current, 0.0));
    let term = |share: f64, middle: f64| if share > 0.0 { share * (share / middle).log2() } else { 0.0 };
    let divergence: f64 = p.iter().zip(&q).map(|(&p, &q)| term(p, (p + q) / 2.0) + term(q, (p + q) / 2.0)).sum();
    (divergence / 2.0).clamp(0.0, 1.0).sqrt()
}

/// Walks the pooled order of two sorted samples: calls `visit(value, next_value, F, G)` for each distinct value.
///
/// Both indices advance by comparisons turned into numbers, because a branch on random data is mispredicted half the time.
pub(crate) fn walk_distributions(
    reference: &[f64],
    current: &[f64],
    mut visit: impl FnMut(f64, Option<f64>, f64, f64),
) {
    let (n, m) = (reference.len() as f64, current.len() as f64);
    let (mut i, mut j) = (0, 0);
    let head = |side: &[f64], at: usize| side.get(at).copied().unwrap_or(f64::INFINITY);
    let (mut a, mut b) = (head(reference, 0), head(current, 0));
    while i < reference.len() || j < current.len() {
        let value = if a < b { a } else { b };
        i += usize::from(a <= value);
        j += usize::from(b <= value);
        a = head(reference, i);
        b = head(current, j);
        let next = if a < b { a } else { b };
        // Equal values are one step: only after the last of them are both functions right.
        if next > value {
            visit(value, (next < f64::INFINITY).then_some(next), i as f64 / n, j as f64 / m);
        }
    }
}

/// Two-sample Kolmogorov-Smirnov statistic `sup |F - G|` of sorted samples, neither empty.
pub fn kolmogorov_smirnov(reference: &[f64], current: &[f64]) -> f64 {
    let mut largest = 0.0f64;
    walk_distributions(reference, current, |_, _, f, g| largest = largest.max((f - g).abs()));
    largest
}

/// Asymptotic two-sided p-value of a KS statistic: `Q(D sqrt(n m / (n + m)))` with the Kolmogorov distribution's survival function.
///
/// Source: Smirnov 1948. Information only: at large `n` it is tiny for differences that do not matter.
pub fn kolmogorov_p_value(statistic: f64, n: u64, m: u64) -> f64 {
    let (n, m) = (n as f64, m as f64);
    kolmogorov_survival(statistic * (n * m / (n + m)).sqrt())
}

fn kolmogorov_survival(x: f64) -> f64 {
    use std::f64::consts::PI;
    if x <= 0.0 {
        return 1.0;
    }
    // Both series are exact; each converges in a few terms on its side of 1.
    if x < 1.0 {
        let series: f64 = (1..=20).map(|k| (-(f64::from(2 * k - 1) * PI).powi(2) / (8.0 * x * x)).exp()).sum();
        return (1.0 - (2.0 * PI).sqrt() / x * series).clamp(0.0, 1.0);
    }
    let term = |k: i32| if k % 2 == 1 { 1.0 } else { -1.0 } * (-2.0 * f64::from(k * k) * x * x).exp();
    (2.0 * (1..=20).map(term).sum::<f64>()).clamp(0.0, 1.0)
}

/// Wasserstein-1 distance, the area between the two distribution functions, in the unit of the values; sorted, neither empty.
///
/// Source: Vallender 1974 (the one-dimensional form).
pub fn wasserstein(reference: &[f64], current: &[f64]) -> f64 {
    let mut area = 0.0;
    walk_distributions(reference, current, |value, next, f, g| {
        if let Some(next) = next {
            area += (next - value) * (f - g).abs();
        }
    });
    area
}

/// The interval that holds the KS statistic of values known only by bin.
///
/// `lower = max |F_i - G_i|` at the edges, `upper = max(F_i - G_(i-1), G_i - F_(i-1))`: within a bin a distribution function can
/// be anywhere between its ends.
pub fn kolmogorov_smirnov_bounds(reference: &[u64], current: &[u64]) -> (f64, f64) {
    let (p, q) = (shares(reference, 0.0), shares(current, 0.0));
    let (mut f, mut g, mut lower, mut upper) = (0.0f64, 0.0f64, 0.0f64, 0.0f64);
    for (p, q) in p.iter().zip(&q) {
        let (f_next, g_next) = (f + p, g + q);
        lower = lower.max((f_next - g_next).abs());
        upper = upper.max(f_next - g).max(g_next - f);
        (f, g) = (f_next, g_next);
    }
    (lower, upper.min(1.0))
}

/// Wasserstein-1 of binned values spread evenly in each bin, and the radius around it that holds the true distance.
///
/// `edges` are finite and one longer than the counts. `radius = sum width (p + q) / 2`: no bin's mass moves further than
/// half a width on average (triangle inequality).
pub fn wasserstein_binned(edges: &[f64], reference: &[u64], current: &[u64]) -> (f64, f64) {
    let (p, q) = (shares(reference, 0.0), shares(current, 0.0));
    let (mut difference, mut area, mut radius) = (0.0f64, 0.0, 0.0);
    for ((p, q), ends) in p.iter().zip(&q).zip(edges.windows(2)) {
        let width = ends[1] - ends[0];
        let (start, end) = (difference, difference + p - q);
        let (a, b) = (start.abs(), end.abs());
        // Where the difference changes sign inside the bin, the area is two triangles, not a trapezium.
        area += width * if start * end < 0.0 { (a * a + b * b) / (2.0 * (a + b)) } else { (a + b) / 2.0 };
        radius += width * (p + q) / 2.0;
        difference = end;
    }
    (area, radius)
}

/// The `q` quantile of values spread evenly in their bins; none when empty. Within one bin width of the true quantile.
pub fn quantile_binned(edges: &[f64], counts: &[u64], q: f64) -> Option<f64> {
    let total = counts.iter().map(|&count| count as f64).sum::<f64>();
    let target = q.clamp(0.0, 1.0) * total;
    let mut below = 0.0;
    let mut last = None;
    for (&count, ends) in counts.iter().zip(edges.windows(2)) {
        let count = count as f64;
        if count > 0.0 {
            if below + count >= target {
                return Some(ends[0] + (ends[1] - ends[0]) * ((target - below) / count));
            }
            last = Some(ends[1]);
        }
        below += count;
    }
    last
}

/// Mean and population standard deviation of binned values spread evenly in each bin; none when empty.
pub fn moments_binned(edges: &[f64], counts: &[u64]) -> Option<(f64, f64)> {
    let total = counts.iter().sum::<u64>() as f64;
    let bins = || counts.iter().map(|&count| count as f64).zip(edges.windows(2).map(|ends| (ends[0], ends[1])));
    let mean = bins().map(|(count, (low, high))| count * (low + high) / 2.0).sum::<f64>() / total;
    let spread = |(low, high): (f64, f64)| ((low + high) / 2.0 - mean).powi(2) + (high - low).powi(2) / 12.0;
    let variance = bins().map(|(count, ends)| count * spread(ends)).sum::<f64>() / total;
    (total > 0.0).then(|| (mean, variance.sqrt()))
}

/// The bin edges (as indices `1..bins`) nearest to the reference's deciles, equal ones once: cuts for [`psi`] of binned values.
pub fn snapped_decile_cuts(reference: &[u64]) -> Vec<usize> {
    let cumulative: Vec<f64> = shares(reference, 0.0)
        .into_iter()
        .scan(0.0, |sum, share| {
            *sum += share;
            Some(*sum)
        })
        .collect();
    let inner = cumulative.len().saturating_sub(1);
    let distance = |at: &usize, decile: f64| (cumulative[*at] - decile).abs();
    let nearest = |k: i32| {
        let decile = f64::from(k) / 10.0;
        (0..inner).min_by(|a, b| distance(a, decile).total_cmp(&distance(b, decile)))
    };
    let mut cuts: Vec<usize> = (1..10).filter_map(nearest).map(|at| at + 1).collect();
    cuts.dedup();
    cuts
}

/// Sums counts between cuts given as indices.
pub fn merge_bins(counts: &[u64], cuts: &[usize]) -> Vec<u64> {
    let starts = std::iter::once(0).chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain([counts.len()]);
    starts.zip(ends).map(|(start, end)| counts[start..end].iter().sum()).collect()
}
