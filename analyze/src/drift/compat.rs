//! Other tools' numbers from their own definitions, so that a threshold in use elsewhere can be carried over.
//!
//! Never the default: equal-width bins are blinded by one outlier, and fixed thresholds alarm on small samples.

use super::{distance, statistics, two_sample};

/// Distinct reference values above which Evidently bins a numeric column.
const EVIDENTLY_DISTINCT_MAX: usize = 20;

/// Counts of both sides in the bins that Evidently makes (0.7.23, `get_binned_data`); sorted, finite, neither empty.
///
/// Above 20 distinct reference values: equal-width bins over both sides by Sturges' rule, else the distinct values.
pub fn evidently_bins(reference: &[f64], current: &[f64]) -> (Vec<u64>, Vec<u64>) {
    let mut distinct = reference.to_vec();
    distinct.dedup();
    if distinct.len() > EVIDENTLY_DISTINCT_MAX {
        let edges = sturges_edges(reference, current, reference.len() + current.len());
        return (counts_in(reference, &edges), counts_in(current, &edges));
    }
    let values = union(reference, current);
    let counts = |side: &[f64]| {
        let count = |value: &f64| (side.partition_point(|x| x <= value) - side.partition_point(|x| x < value)) as u64;
        values.iter().map(count).collect()
    };
    (counts(reference), counts(current))
}

/// Evidently's PSI of counts: an empty share becomes 1e-4, or the smallest share over 1e6 where that is at most 1e-4.
pub fn evidently_psi(reference: &[u64], current: &[u64]) -> f64 {
    let (p, q) = (evidently_fill(reference), evidently_fill(current));
    p.iter().zip(&q).map(|(p, q)| (p - q) * (p / q).ln()).sum()
}

/// Evidently's Kullback-Leibler divergence of counts, nats, after the same filling and normalised again.
pub fn evidently_kl(reference: &[u64], current: &[u64]) -> f64 {
    let (p, q) = (evidently_fill(reference), evidently_fill(current));
    let (p_sum, q_sum) = (p.iter().sum::<f64>(), q.iter().sum::<f64>());
    p.iter().zip(&q).map(|(p, q)| p / p_sum * (p / p_sum / (q / q_sum)).ln()).sum()
}

/// Evidently's Jensen-Shannon distance of counts: natural logarithm, so at most 0.8326.
pub fn evidently_js(reference: &[u64], current: &[u64]) -> f64 {
    statistics::jensen_shannon(reference, current) * std::f64::consts::LN_2.sqrt()
}

/// Evidently's Wasserstein distance over `max(standard deviation of the reference, 0.001)`; sorted, neither empty.
pub fn evidently_wasserstein(reference: &[f64], current: &[f64]) -> f64 {
    let deviation = statistics::standard_deviation(reference).unwrap_or(0.0);
    statistics::wasserstein(reference, current) / deviation.max(0.001)
}

/// Evidently's Hellinger distance of numeric values: Sturges' rule over the set of distinct values.
pub fn evidently_hellinger(reference: &[f64], current: &[f64]) -> f64 {
    let distinct = union(reference, current).len();
    let edges = sturges_edges(reference, current, distinct);
    distance::hellinger(&counts_in(reference, &edges), &counts_in(current, &edges))
}

/// Evidently's energy distance, unscaled.
pub fn evidently_energy(reference: &[f64], current: &[f64]) -> f64 {
    two_sample::energy_distance(reference, current)
}

/// Evidently's chi-square p: goodness of fit with the reference's counts scaled to the current size as the expectation.
///
/// A category new in the current window gives 0; a single category has no degree of freedom: none.
pub fn evidently_chi_square_p(reference: &[u64], current: &[u64]) -> Option<f64> {
    let (n, m) = (reference.iter().sum::<u64>() as f64, current.iter().sum::<u64>() as f64);
    let term = |(&a, &b): (&u64, &u64)| {
        let expected = a as f64 * m / n;
        if a == 0 && b == 0 { 0.0 } else { (b as f64 - expected).powi(2) / expected }
    };
    let statistic = reference.iter().zip(current).map(term).sum();
    super::chi_square::survival(statistic, reference.len().checked_sub(1)?)
}

/// NannyML's Jensen-Shannon distance (0.13): base 2, Doane's bins of the reference, one more bin for what is outside them.
pub fn nannyml_js(reference: &[f64], current: &[f64]) -> f64 {
    let edges = doane_edges(reference);
    let mut p = counts_in(reference, &edges);
    let mut q = counts_in(current, &edges);
    p.push(reference.len() as u64 - p.iter().sum::<u64>());
    q.push(current.len() as u64 - q.iter().sum::<u64>());
    statistics::jensen_shannon(&p, &q)
}

/// SageMaker Model Monitor's L-infinity distance: of shares for categories; for numbers pass the KS statistic instead.
///
/// `robust` takes off what sampling may add, `1.8 sqrt((n + m) / (n m))`. Source: Deequ, `Distance.selectMetrics`.
pub fn sagemaker_linf(simple: f64, n: u64, m: u64, robust: bool) -> f64 {
    let (n, m) = (n as f64, m as f64);
    if robust { (simple - 1.8 * ((n + m) / (n * m)).sqrt()).max(0.0) } else { simple }
}

fn evidently_fill(counts: &[u64]) -> Vec<f64> {
    let shares = statistics::shares(counts, 0.0);
    let smallest = shares.iter().copied().filter(|share| *share > 0.0).fold(f64::INFINITY, f64::min);
    let fill = if smallest <= 1e-4 { smallest / 1e6 } else { 1e-4 };
    shares.into_iter().map(|share| if share == 0.0 { fill } else { share }).collect()
}

fn union(reference: &[f64], current: &[f64]) -> Vec<f64> {
    let mut values = [reference, current].concat();
    values.sort_unstable_by(f64::total_cmp);
    values.dedup();
    values
}

fn sturges_edges(reference: &[f64], current: &[f64], count: usize) -> Vec<f64> {
    let ends = |side: &[f64]| Some((*side.first()?, *side.last()?));
    let (Some((a, b)), Some((c, d))) = (ends(reference), ends(current)) else { return vec![] };
    equal_width_edges(a.min(c), b.max(d), (count as f64).log2() + 1.0)
}

fn doane_edges(reference: &[f64]) -> Vec<f64> {
    let (Some(&low), Some(&high)) = (reference.first(), reference.last()) else { return vec![] };
    let n = reference.len() as f64;
    let (mean, deviation) =
        (statistics::mean(reference).unwrap_or(low), statistics::standard_deviation(reference).unwrap_or(0.0));
    if n <= 2.0 || deviation <= 0.0 {
        return equal_width_edges(low, high, 1.0);
    }
    let skewness = reference.iter().map(|x| ((x - mean) / deviation).powi(3)).sum::<f64>() / n;
    let skewness_deviation = (6.0 * (n - 2.0) / ((n + 1.0) * (n + 3.0))).sqrt();
    equal_width_edges(low, high, 1.0 + n.log2() + (1.0 + skewness.abs() / skewness_deviation).log2())
}

/// NumPy's `histogram_bin_edges`: `ceil` of the wanted number of bins; a constant gets half a unit each way.
fn equal_width_edges(low: f64, high: f64, wanted: f64) -> Vec<f64> {
    let (low, high, wanted) = if low == high { (low - 0.5, high + 0.5, 1.0) } else { (low, high, wanted) };
    let bins = wanted.ceil();
    let step = (high - low) / bins;
    let inner = (0..bins as usize).map(|at| low + at as f64 * step);
    inner.chain([high]).collect()
}

/// Counts in `[e0, e1), …, [ek-1, ek]`, as `numpy.histogram`; values outside are in no bin.
fn counts_in(sorted: &[f64], edges: &[f64]) -> Vec<u64> {
    let below = |edge: &f64| sorted.partition_point(|value| value < edge) as u64;
    let last = edges.len().saturating_sub(1);
    let mut starts: Vec<u64> = edges.iter().take(last).map(below).collect();
    starts.extend(edges.last().map(|edge| sorted.partition_point(|value| value <= edge) as u64));
    starts.windows(2).map(|pair| pair[1] - pair[0]).collect()
}
