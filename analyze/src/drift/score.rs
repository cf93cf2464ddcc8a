//! The score: comparison, decision, and their text and table forms.

use serde::Serialize;

use super::{
    comparison::Comparison,
    decision::{Decision, Status},
    explain::{BinContribution, top_bins},
    numeric::NumericChange,
    other_scores::OtherValue,
    reference_window::season_text,
    request::{DriftRequest, Filter, Side, Source, Subject},
    segments::MixShift,
};
use crate::{error::Result, format::significant, window::time_text};

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
    /// What was asked for beside it, and decides nothing.
    pub others: Vec<OtherValue>,
    /// Verdict, with why. Only `ok` is a pass.
    pub decision: Decision,
    /// What the feature weighs, as declared; 1 where nobody did.
    pub weight: f64,
    /// Severity times weight: what to look at first among those of one status; none where nothing was compared.
    pub impact: Option<f64>,
    /// Bins with their parts of the PSI.
    pub bins: Vec<BinContribution>,
    /// Windows of the reference that its own variation was learnt from.
    pub reference_window_count: usize,
    /// Benjamini-Hochberg q-value over the run; none for a run of one, or where too few values were no test.
    pub q_value: Option<f64>,
    /// Of a run by segments: how much of the change is who sends, and how much what each sends.
    pub mix_shift: Option<MixShift>,
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
        let filters: Vec<String> = self.side.filters.iter().map(Filter::text).collect();
        let number = |value: Option<f64>| value.map_or_else(|| "–".into(), |value| significant(value, 6));
        let cut = if self.used_count < self.value_count {
            format!(" (every {}th scored)", self.value_count.div_ceil(self.used_count.max(1)))
        } else {
            String::new()
        };
        let weeks =
            if self.side.windows.len() > 1 { format!(", {} windows", self.side.windows.len()) } else { String::new() };
        format!(
            "{name:<10} {} to {}{weeks}  {}\n           {} values{cut} in {:.0} % of the window's slots, mean {}, p50 {}, p95 {}\n",
            time_text(self.side.span().start_us),
            time_text(self.side.span().end_us),
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

    /// The headline score; none where a side is empty.
    pub fn psi(&self) -> Option<f64> {
        self.comparison.as_ref().map(|comparison| comparison.psi)
    }

    pub(crate) fn numeric(&self) -> Option<&NumericChange> {
        self.comparison.as_ref()?.numeric.as_ref()
    }

    /// Where the values came from, in a word.
    pub(crate) fn source_text(&self) -> &'static str {
        match (&self.request.subject, self.source) {
            (_, Source::States) => "states",
            (Subject::Category { .. }, _) => "categories",
            (_, Source::Histograms) => "histograms",
            _ => "samples",
        }
    }

    /// The declared weight and what it makes of the severity; none where the feature weighs what all do.
    pub(crate) fn weight_text(&self) -> Option<String> {
        let impact = self.impact.filter(|_| self.weight != 1.0)?;
        Some(format!("impact {impact:.0} by its weight {}", self.weight))
    }

    /// A few lines for a terminal.
    pub fn to_text(&self) -> String {
        let source = self.source_text();
        let mark = if self.simulated() { " [SIMULATED DATA]" } else { "" };
        let decision = &self.decision;
        let status = decision.status.as_str().replace('_', " ").to_uppercase();
        let segment = self.request.segment.as_ref();
        let segment = segment.map_or_else(String::new, |segment| format!(" of {}", segment.text()));
        let mut text = format!("{}{segment}: {status}{mark}, from {source}\n", self.request.subject.label());
        if let Some(severity) = decision.severity.filter(|_| decision.status != Status::InsufficientData) {
            text += &format!("severity {severity:.0} of 100, confidence {}", decision.confidence.as_str());
            text += &self.weight_text().map_or_else(String::new, |weight| format!(", {weight}"));
            text += "\n";
        }
        text += &format!("\n{}{}\n", self.reference.line("reference"), self.current.line("current"));
        text += &decision.reasons.iter().map(|reason| format!("- {reason}\n")).collect::<String>();
        if let Some(comparison) = &self.comparison {
            text += &scores_text(comparison);
            if !self.others.is_empty() {
                text += "\nNo part of the decision:\n";
                text += &self.others.iter().map(OtherValue::line).collect::<String>();
            }
            text += &format!("\n{:<28} {:>11} {:>11} {:>8}\n", "most of it in", "reference", "current", "PSI");
            for bin in top_bins(&self.bins, TOP_BINS) {
                let [reference, current] = [bin.share_reference, bin.share_current].map(|share| share * 100.0);
                text += &format!("{:<28} {reference:>9.2} % {current:>9.2} % {:>8.4}\n", bin.label, bin.contribution);
            }
        }
        text
    }

    /// The same, with a line for the score against the season.
    pub fn to_text_beside(&self, season: Option<&Self>) -> String {
        let mut text = self.to_text();
        if let Some(season) = season {
            let psi = season.psi().map_or_else(|| "–".into(), |psi| format!("{psi:.4}"));
            let status = season.decision.status.as_str().replace('_', " ");
            let weeks = season_text(season.request.current.span());
            text += &format!("\nAgainst what there is of {weeks}: PSI {psi}, {status}\n");
        }
        text
    }

    /// The score as JSON, with the score against the season as `seasonal`.
    ///
    /// # Errors
    /// [`crate::Error::Json`] if it cannot be written.
    pub fn to_json_beside(&self, season: Option<&Self>) -> Result<String> {
        let mut value = serde_json::to_value(self)?;
        value["seasonal"] = serde_json::to_value(season)?;
        Ok(serde_json::to_string_pretty(&value)?)
    }
}

fn scores_text(comparison: &Comparison) -> String {
    let number = |value: Option<f64>| value.map_or_else(|| "–".into(), |value| significant(value, 5));
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
            Some(radius) => format!(" ± {}", significant(radius, 3)),
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
    if let Some(categories) = &comparison.categories {
        for (what, names, share) in [
            ("new", &categories.new, categories.new_share),
            ("vanished", &categories.vanished, categories.vanished_share),
        ] {
            let shown: Vec<&str> = names.iter().take(10).map(String::as_str).collect();
            let more = if names.len() > 10 { format!(" and {} more", names.len() - 10) } else { String::new() };
            if !names.is_empty() {
                text += &format!("{what:<16} {}{more}: {:.2} % of the values\n", shown.join(", "), share * 100.0);
            }
        }
    }
    text + &format!("Jensen-Shannon   {:.4} (0 same, 1 disjoint)\n", comparison.jensen_shannon)
}
