//! The score: comparison, decision, and their text and table forms.

use datafusion::arrow::array::RecordBatch;
use serde::Serialize;

use super::{
    comparison::Comparison,
    decision::{Decision, Status},
    explain::{BinContribution, top_bins},
    numeric::NumericChange,
    request::{DriftRequest, Side, Source},
};
use crate::{error::Result, result_table::ResultTable, window::time_text};

/// Bins that a text shows.
const TOP_BINS: usize = 5;

/// One side: what was read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SideSummary {
    /// Window and filters.
    pub side: Side,
    /// Rows read: samples or histogram points.
    pub row_count: u64,
    /// Finite values, or observations in the histograms.
    pub value_count: u64,
    /// Values scored; fewer than `value_count` where the limit cut them.
    pub used_count: u64,
    /// Share of 100 equal slots of the window that hold a value. Inputs are events without an interval, so this and not a
    /// sample count says how much of the window was seen.
    pub covered: f64,
    /// Whether the data is simulated.
    pub simulated: bool,
    /// Mean of the values.
    pub mean: Option<f64>,
    /// Median; from histograms that of a bucket.
    pub median: Option<f64>,
    /// 95th percentile; from histograms that of a bucket.
    pub p95: Option<f64>,
    /// The SQL that read it.
    pub query: String,
}

/// Drift between two windows of one subject.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DriftScore {
    /// What was asked.
    pub request: DriftRequest,
    /// Where the values came from: samples or histograms.
    pub source: Source,
    /// The reference side.
    pub reference: SideSummary,
    /// The current side.
    pub current: SideSummary,
    /// Every score; none where a side is empty.
    pub comparison: Option<Comparison>,
    /// Verdict, with why. Only `ok` is a pass.
    pub decision: Decision,
    /// Bins with their parts of the PSI.
    pub bins: Vec<BinContribution>,
    /// Windows of the reference that its own variation was learnt from.
    pub reference_window_count: usize,
}

impl SideSummary {
    pub(crate) fn empty(side: &Side) -> Self {
        Self {
            side: side.clone(),
            row_count: 0,
            value_count: 0,
            used_count: 0,
            covered: 0.0,
            simulated: false,
            mean: None,
            median: None,
            p95: None,
            query: String::new(),
        }
    }

    fn line(&self, name: &str) -> String {
        let filters: Vec<String> =
            self.side.filters.iter().map(|filter| format!("{}={}", filter.key, filter.value)).collect();
        let number = |value: Option<f64>| value.map_or_else(|| "–".into(), |value| format!("{value:.4}"));
        let cut = if self.used_count < self.value_count {
            format!(" (every {}th scored)", self.value_count.div_ceil(self.used_count.max(1)))
        } else {
            String::new()
        };
        format!(
            "{name:<10} {} to {}  {}\n           {} values{cut} in {:.0} % of the window's slots, mean {}, p50 {}, p95 {}\n",
            time_text(self.side.window.start_us),
            time_text(self.side.window.end_us),
            filters.join(" "),
            self.value_count,
            self.covered * 100.0,
            number(self.mean),
            number(self.median),
            number(self.p95),
        )
    }
}

impl DriftScore {
    /// Whether a side is simulated.
    pub fn simulated(&self) -> bool {
        self.reference.simulated || self.current.simulated
    }

    fn numeric(&self) -> Option<&NumericChange> {
        self.comparison.as_ref()?.numeric.as_ref()
    }

    /// A few lines for a terminal.
    pub fn to_text(&self) -> String {
        let source = if self.source == Source::Histograms { "histograms" } else { "samples" };
        let mark = if self.simulated() { " [SIMULATED DATA]" } else { "" };
        let decision = &self.decision;
        let status = decision.status.as_str().replace('_', " ").to_uppercase();
        let mut text = format!("{}: {status}{mark}, from {source}\n", self.request.subject.name());
        if let Some(severity) = decision.severity.filter(|_| decision.status != Status::InsufficientData) {
            text += &format!("severity {severity:.0} of 100, confidence {}\n", decision.confidence.as_str());
        }
        text += &format!("\n{}{}\n", self.reference.line("reference"), self.current.line("current"));
        text += &decision.reasons.iter().map(|reason| format!("- {reason}\n")).collect::<String>();
        if let Some(comparison) = &self.comparison {
            text += &scores_text(comparison);
            text += &format!("\n{:<28} {:>11} {:>11} {:>8}\n", "most of it in", "reference", "current", "PSI");
            for bin in top_bins(&self.bins, TOP_BINS) {
                let [reference, current] = [bin.share_reference, bin.share_current].map(|share| share * 100.0);
                text += &format!("{:<28} {reference:>9.2} % {current:>9.2} % {:>8.4}\n", bin.label, bin.contribution);
            }
        }
        text
    }

    /// The score as JSON.
    ///
    /// # Errors
    /// [`crate::Error::Json`] if it cannot be written.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    pub(crate) fn to_batch(&self, now_us: i64) -> Result<RecordBatch> {
        let mut table = ResultTable::new(now_us, 1);
        let (reference, current) = (&self.reference, &self.current);
        let (comparison, numeric) = (self.comparison.as_ref(), self.numeric());
        let decision = &self.decision;
        let count = |value: u64| [i64::try_from(value).ok()];
        let score = |of: fn(&Comparison) -> f64| [comparison.map(of)];
        let some_score = |of: fn(&Comparison) -> Option<f64>| [comparison.and_then(of)];
        let change = |of: fn(&NumericChange) -> Option<f64>| [numeric.and_then(of)];
        table
            .text("subject", self.request.subject.name())
            .text("source", if self.source == Source::Histograms { "histograms" } else { "samples" })
            .text("status", decision.status.as_str())
            .numbers("severity", [decision.severity])
            .text("confidence", decision.confidence.as_str())
            .text("reasons", &decision.reasons.join("\n"))
            .flags("simulated", [self.simulated()])
            .time("reference_from", reference.side.window.start_us)
            .time("reference_to", reference.side.window.end_us)
            .time("current_from", current.side.window.start_us)
            .time("current_to", current.side.window.end_us)
            .integers("reference_value_count", count(reference.value_count))
            .integers("current_value_count", count(current.value_count))
            .integers("reference_row_count", count(reference.row_count))
            .integers("current_row_count", count(current.row_count))
            .numbers("reference_coverage", [Some(reference.covered)])
            .numbers("current_coverage", [Some(current.covered)])
            .numbers("reference_median", [reference.median])
            .numbers("current_median", [current.median])
            .numbers("psi", score(|comparison| comparison.psi))
            .numbers("psi_excess", score(|comparison| comparison.psi_excess))
            .numbers("psi_noise", some_score(|comparison| comparison.psi_noise))
            .numbers("psi_p_value", some_score(|comparison| comparison.psi_p_value))
            .numbers("learnt_noise", [decision.learnt_noise])
            .integers("reference_window_count", count(self.reference_window_count as u64))
            .integers("persistence_count", [Some(i64::from(decision.persistence_count))])
            .numbers("jensen_shannon", score(|comparison| comparison.jensen_shannon))
            .numbers("total_variation", score(|comparison| comparison.total_variation))
            .numbers("hellinger", score(|comparison| comparison.hellinger))
            .numbers("l_infinity", score(|comparison| comparison.l_infinity))
            .numbers("cramers_v", some_score(|comparison| comparison.cramers_v))
            .numbers("ks_lower", change(|numeric| Some(numeric.ks.0)))
            .numbers("ks_upper", change(|numeric| Some(numeric.ks.1)))
            .numbers("ks_p_value", change(|numeric| Some(numeric.ks_p_value)))
            .numbers("wasserstein", change(|numeric| numeric.wasserstein))
            .numbers("wasserstein_radius", change(|numeric| numeric.wasserstein_radius))
            .numbers("wasserstein_scaled", change(|numeric| numeric.wasserstein_scaled))
            .numbers("wasserstein_log", change(|numeric| numeric.wasserstein_log))
            .text("bins", &serde_json::to_string(&self.bins)?)
            .text("parameters", &serde_json::to_string(&self.request)?)
            .text("reference_query", &reference.query)
            .text("current_query", &current.query);
        table.finish()
    }
}

fn scores_text(comparison: &Comparison) -> String {
    let number = |value: Option<f64>| value.map_or_else(|| "–".into(), |value| format!("{value:.4}"));
    let mut text = format!(
        "\nPSI              {:.4} over {} bins, {:.4} beyond the mean of sampling\n",
        comparison.psi,
        comparison.bins.len(),
        comparison.psi_excess
    );
    if let Some(numeric) = &comparison.numeric {
        let (lower, upper) = numeric.ks;
        let ks = if lower == upper { format!("{lower:.4}") } else { format!("between {lower:.4} and {upper:.4}") };
        let radius = match numeric.wasserstein_radius {
            Some(0.0) => String::new(),
            Some(radius) => format!(" ± {radius:.4}"),
            None => " (an outer bucket has no end: no bound)".into(),
        };
        text += &format!("KS               {ks} (p {:.2e}, information only)\n", numeric.ks_p_value);
        text += &format!(
            "Wasserstein      {}{radius}; in robust deviations of the reference {}\n",
            number(numeric.wasserstein),
            number(numeric.wasserstein_scaled)
        );
        if let Some(log) = numeric.wasserstein_log {
            text += &format!("                 by a factor of {:.2}\n", log.exp());
        }
    }
    text + &format!("Jensen-Shannon   {:.4} (0 same, 1 disjoint)\n", comparison.jensen_shannon)
}
