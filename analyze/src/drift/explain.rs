//! Why a window did or did not alarm: its bins with their parts of the score, the limits, the reasons.

use std::fmt;

use serde::Serialize;

use super::{comparison::Comparison, decision::Decision, decision::Thresholds, distance::JEFFREYS, statistics};

/// One bin's part of the PSI.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BinContribution {
    /// Category or range.
    pub label: String,
    /// Share of the reference, not smoothed.
    pub share_reference: f64,
    /// Share of the current window, not smoothed.
    pub share_current: f64,
    /// `(q - p) ln(q / p)` of the smoothed shares; never negative.
    pub contribution: f64,
}

/// Everything a person needs to believe or doubt a verdict.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Bins, in order; their contributions sum to the PSI.
    pub bins: Vec<BinContribution>,
    /// PSI.
    pub psi: f64,
    /// Warn and critical limit of PSI.
    pub limits: (f64, f64),
    /// The decision.
    pub decision: Decision,
}

/// Explains a decision.
pub fn explain(comparison: &Comparison, decision: &Decision, thresholds: &Thresholds) -> Explanation {
    let (reference, current) = (comparison.reference_counts(), comparison.current_counts());
    let (p, q) = (statistics::shares(&reference, 0.0), statistics::shares(&current, 0.0));
    let (p_smooth, q_smooth) = (statistics::shares(&reference, JEFFREYS), statistics::shares(&current, JEFFREYS));
    let bin = |(at, bin): (usize, &super::comparison::Bin)| BinContribution {
        label: bin.label.clone(),
        share_reference: p[at],
        share_current: q[at],
        contribution: (q_smooth[at] - p_smooth[at]) * (q_smooth[at] / p_smooth[at]).ln(),
    };
    Explanation {
        bins: comparison.bins.iter().enumerate().map(bin).collect(),
        psi: comparison.psi,
        limits: (thresholds.psi_warn, thresholds.psi_critical),
        decision: decision.clone(),
    }
}

impl Explanation {
    /// The `count` bins with the largest contribution, largest first.
    pub fn top_bins(&self, count: usize) -> Vec<&BinContribution> {
        let mut bins: Vec<&BinContribution> = self.bins.iter().collect();
        bins.sort_by(|a, b| b.contribution.total_cmp(&a.contribution));
        bins.truncate(count);
        bins
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (warn, critical) = self.limits;
        writeln!(f, "PSI {:.4} (warn {warn}, critical {critical}): {:?}", self.psi, self.decision.status)?;
        for bin in &self.bins {
            let (p, q) = (100.0 * bin.share_reference, 100.0 * bin.share_current);
            writeln!(f, "  {:<28} {p:>6.2} % -> {q:>6.2} %  {:+.4}", bin.label, bin.contribution)?;
        }
        self.decision.reasons.iter().try_for_each(|reason| writeln!(f, "- {reason}"))
    }
}
