//! What numbers have beyond bins: Kolmogorov-Smirnov, Wasserstein in three scales, quantiles and direction.

use std::cmp::Ordering;

use serde::Serialize;

use super::{comparison::ColumnOptions, histogram::AlignedHistograms, statistics};
use crate::format::significant;

/// A normal distribution's interquartile range in standard deviations.
const IQR_OF_NORMAL: f64 = 1.349;

/// Numeric scores of one window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NumericChange {
    /// Interval that holds the KS statistic; both ends equal from raw values.
    pub ks: (f64, f64),
    /// Asymptotic p of the lower end: information only, at large `n` it is tiny for differences that do not matter.
    pub ks_p_value: f64,
    /// Wasserstein distance in the unit of the column; none where it passes the range of a double.
    pub wasserstein: Option<f64>,
    /// Radius around it that holds the true distance: 0 from raw values, none where an open bucket has no end.
    pub wasserstein_radius: Option<f64>,
    /// Wasserstein of values clipped to the reference's 0.5 % and 99.5 % quantiles, over the reference's robust deviation.
    ///
    /// No outlier moves it: neither the distance nor the scale. None where the reference has no spread at all.
    pub wasserstein_scaled: Option<f64>,
    /// Clipped Wasserstein of `ln x`: "a factor of e^w"; none unless the column is log-like and positive.
    pub wasserstein_log: Option<f64>,
    /// Median of reference and current window.
    pub median: (f64, f64),
    /// 95 % quantile of reference and current window.
    pub p95: (f64, f64),
}

impl NumericChange {
    /// Sign of the median's change.
    pub fn direction(&self) -> Ordering {
        self.median.1.partial_cmp(&self.median.0).unwrap_or(Ordering::Equal)
    }
}

/// The reference's decile cuts, and a cut just below each value that holds more than a tenth of it, which so has its own bin.
///
/// A value below which a bin of the reference would be empty needs none.
pub fn reference_cuts(sorted: &[f64]) -> Vec<f64> {
    let mut cuts = Vec::with_capacity(12);
    let mut start = 0;
    for cut in statistics::decile_cuts(sorted) {
        let below = sorted.partition_point(|value| *value < cut);
        let end = sorted.partition_point(|value| *value <= cut);
        if (end - below) * 10 > sorted.len() && below > start {
            cuts.push(cut.next_down());
        }
        cuts.push(cut);
        start = end;
    }
    cuts
}

/// The ranges of right-closed, open-ended bins; ends that look alike in six digits are written whole.
pub(crate) fn labels(cuts: &[f64]) -> Vec<String> {
    let short: Vec<String> = cuts.iter().map(|cut| significant(*cut, 6)).collect();
    let are_told_apart = short.windows(2).all(|pair| pair[0] != pair[1]);
    let inner = if are_told_apart { short } else { cuts.iter().map(f64::to_string).collect() };
    let ends = [vec!["-inf".to_owned()], inner, vec!["inf".to_owned()]].concat();
    ends.windows(2).map(|pair| format!("({}, {}]", pair[0], pair[1])).collect()
}

/// Quantiles that scale and clip a distance.
struct Scale {
    low: f64,
    high: f64,
    /// None where the reference is constant and the unit's resolution unknown.
    unit: Option<f64>,
    is_log_like: bool,
}

fn scale_of(quantile: impl Fn(f64) -> f64, min: f64, options: ColumnOptions) -> Scale {
    let (low, high) = (quantile(0.005), quantile(0.995));
    let spread = (quantile(0.75) - quantile(0.25)) / IQR_OF_NORMAL;
    let floor = 0.05 * (quantile(0.95) - quantile(0.05));
    let unit = spread.max(floor).max(options.resolution);
    let looks_log_like = min > 0.0 && quantile(0.99) > 5.0 * quantile(0.5);
    let is_log_like = options.is_log_like.unwrap_or(looks_log_like);
    Scale { low, high, unit: (unit > 0.0 && unit.is_finite()).then_some(unit), is_log_like }
}

/// From raw values, sorted and not empty.
pub(crate) fn of_samples(reference: &[f64], current: &[f64], options: ColumnOptions) -> NumericChange {
    let quantile = |side: &[f64], q: f64| statistics::quantile(side, q).unwrap_or(f64::NAN);
    let scale = scale_of(|q| quantile(reference, q), reference[0], options);
    // A constant reference clips everything away: then the distance is taken as it is.
    let (low, high) = if scale.low < scale.high { (scale.low, scale.high) } else { (f64::MIN, f64::MAX) };
    let log_low = low.max(f64::MIN_POSITIVE);
    let (mut ks, mut area, mut clipped, mut log_area) = (0.0f64, 0.0, 0.0, 0.0);
    statistics::walk_distributions(reference, current, |value, next, f, g| {
        let difference = (f - g).abs();
        ks = ks.max(difference);
        let Some(next) = next else { return };
        area += (next - value) * difference;
        let (start, end) = (value.max(low), next.min(high));
        if start < end {
            clipped += (end - start) * difference;
            if scale.is_log_like && end > log_low {
                log_area += ln_ratio(start.max(log_low), end) * difference;
            }
        }
    });
    let (n, m) = (reference.len() as u64, current.len() as u64);
    let is_positive = reference[0] > 0.0 && current[0] > 0.0;
    NumericChange {
        ks: (ks, ks),
        ks_p_value: statistics::kolmogorov_p_value(ks, n, m),
        wasserstein: Some(area).filter(|area| area.is_finite()),
        wasserstein_radius: Some(0.0),
        wasserstein_scaled: scale.unit.map(|unit| clipped / unit).filter(|scaled| scaled.is_finite()),
        wasserstein_log: (scale.is_log_like && is_positive).then_some(log_area),
        median: (quantile(reference, 0.5), quantile(current, 0.5)),
        p95: (quantile(reference, 0.95), quantile(current, 0.95)),
    }
}

/// `ln(end / start)`, `0 < start <= end`: three terms of the inverse hyperbolic tangent where they are exact to a double.
fn ln_ratio(start: f64, end: f64) -> f64 {
    let part = (end - start) / (end + start);
    if part < 0.004 {
        let square = part * part;
        return 2.0 * part * (1.0 + square * (1.0 / 3.0 + square * (1.0 / 5.0)));
    }
    (end / start).ln()
}

/// From bins both sides share; neither side empty. Values are taken as spread evenly in their bucket; the outermost bins that
/// the clip cuts keep their mass in what is left of them, an error below one bin's width times its share.
pub(crate) fn of_histograms(aligned: &AlignedHistograms, options: ColumnOptions) -> NumericChange {
    let (edges, p, q) = (&aligned.edges, &aligned.reference, &aligned.current);
    let quantile = |counts: &[u64], q: f64| statistics::quantile_binned(edges, counts, q).unwrap_or(f64::NAN);
    let scale = scale_of(|at| quantile(p, at), quantile(p, 0.0), options);
    let (low, high) = if scale.low < scale.high { (scale.low, scale.high) } else { (f64::MIN, f64::MAX) };
    let clip = |edge: &f64| edge.clamp(low, high);
    let clipped_edges: Vec<f64> = edges.iter().map(clip).collect();
    let (clipped, _) = statistics::wasserstein_binned(&clipped_edges, p, q);
    let is_positive = quantile(p, 0.0) >= 0.0 && quantile(q, 0.0) >= 0.0 && low > 0.0;
    let log_edges: Vec<f64> = clipped_edges.iter().map(|edge| edge.max(f64::MIN_POSITIVE).ln()).collect();
    let (log_area, _) = statistics::wasserstein_binned(&log_edges, p, q);
    let (area, radius) = statistics::wasserstein_binned(edges, p, q);
    let ks = statistics::kolmogorov_smirnov_bounds(p, q);
    let (n, m) = (p.iter().sum(), q.iter().sum());
    NumericChange {
        ks,
        ks_p_value: statistics::kolmogorov_p_value(ks.0, n, m),
        wasserstein: Some(area).filter(|area| area.is_finite()),
        wasserstein_radius: (!aligned.unbounded && radius.is_finite()).then_some(radius),
        wasserstein_scaled: scale.unit.map(|unit| clipped / unit).filter(|scaled| scaled.is_finite()),
        wasserstein_log: (scale.is_log_like && is_positive).then_some(log_area),
        median: (quantile(p, 0.5), quantile(q, 0.5)),
        p95: (quantile(p, 0.95), quantile(q, 0.95)),
    }
}
