//! Where a score comes from: the bins with their parts of it.

use serde::Serialize;

use super::{comparison::Comparison, distance::JEFFREYS, statistics};

/// One bin's part of the PSI.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BinContribution {
    /// Category or range.
    pub label: String,
    /// Share of the reference, not smoothed.
    pub share_reference: f64,
    /// Share of the current window, not smoothed.
    pub share_current: f64,
    /// `(q - p) ln(q / p)` of the smoothed shares; never negative. They sum to the PSI.
    pub contribution: f64,
}

/// The bins of a comparison, in their order.
pub fn contributions(comparison: &Comparison) -> Vec<BinContribution> {
    let (reference, current) = (comparison.reference_counts(), comparison.current_counts());
    let (p, q) = (statistics::shares(&reference, 0.0), statistics::shares(&current, 0.0));
    let (p_smooth, q_smooth) = (statistics::shares(&reference, JEFFREYS), statistics::shares(&current, JEFFREYS));
    let bin = |(at, bin): (usize, &super::comparison::Bin)| BinContribution {
        label: bin.label.clone(),
        share_reference: p[at],
        share_current: q[at],
        contribution: (q_smooth[at] - p_smooth[at]) * (q_smooth[at] / p_smooth[at]).ln(),
    };
    comparison.bins.iter().enumerate().map(bin).collect()
}

/// The `count` bins with the largest contribution, largest first.
pub fn top_bins(bins: &[BinContribution], count: usize) -> Vec<&BinContribution> {
    let mut bins: Vec<_> = bins.iter().collect();
    bins.sort_by(|a, b| b.contribution.total_cmp(&a.contribution));
    bins.truncate(count);
    bins
}
