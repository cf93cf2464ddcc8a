//! The score: statistics, verdict, and its text and table forms.

use datafusion::arrow::array::RecordBatch;
use serde::Serialize;

use super::{
    request::{DriftRequest, Side, Source},
    statistics,
};
use crate::{error::Result, result_table::ResultTable, window::time_text};

/// PSI above which a change is worth an alarm, if it is also beyond noise.
pub const PSI_THRESHOLD: f64 = 0.1;
/// Values per side below which there is no verdict.
pub const VALUES_MIN: u64 = 30;

/// What the statistics say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// PSI is above [`PSI_THRESHOLD`] and beyond what sampling noise explains.
    Drift,
    /// It is not.
    NoDrift,
    /// A side has fewer than [`VALUES_MIN`] values: a status, not a pass.
    NotEnoughData,
}

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
    /// Median; none from histograms.
    pub median: Option<f64>,
    /// 95th percentile; none from histograms.
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
    /// Bins of PSI and Jensen-Shannon.
    pub bin_count: usize,
    /// Population stability index over the reference's deciles, Jeffreys-smoothed. The headline.
    pub psi: Option<f64>,
    /// PSI that sampling noise alone exceeds in 1 % of cases.
    pub psi_noise_critical: Option<f64>,
    /// Jensen-Shannon distance, base 2, in `[0, 1]`.
    pub jensen_shannon: Option<f64>,
    /// Kolmogorov-Smirnov statistic; from histograms its lower bound.
    pub ks_lower: Option<f64>,
    /// The same; from histograms its upper bound.
    pub ks_upper: Option<f64>,
    /// Asymptotic p-value of the statistic (of the lower bound, from histograms). Information only.
    pub ks_p_value: Option<f64>,
    /// Wasserstein-1 distance in the unit of the values.
    pub wasserstein: Option<f64>,
    /// From histograms, how far the true distance can be from `wasserstein`; none where an outer bucket has no end.
    pub wasserstein_radius: Option<f64>,
    /// `wasserstein` over the reference's standard deviation; none where that is 0.
    pub wasserstein_over_std: Option<f64>,
    /// What it means.
    pub verdict: Verdict,
    /// Why, in one sentence.
    pub reason: String,
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

impl Verdict {
    /// `drift`, `no drift` or `not enough data`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drift => "drift",
            Self::NoDrift => "no drift",
            Self::NotEnoughData => "not enough data",
        }
    }
}

impl DriftScore {
    pub(crate) fn new(request: &DriftRequest, source: Source, reference: SideSummary, current: SideSummary) -> Self {
        Self {
            request: request.clone(),
            source,
            reference,
            current,
            bin_count: 0,
            psi: None,
            psi_noise_critical: None,
            jensen_shannon: None,
            ks_lower: None,
            ks_upper: None,
            ks_p_value: None,
            wasserstein: None,
            wasserstein_radius: None,
            wasserstein_over_std: None,
            verdict: Verdict::NotEnoughData,
            reason: String::new(),
        }
    }

    /// Whether a side is simulated.
    pub fn simulated(&self) -> bool {
        self.reference.simulated || self.current.simulated
    }

    pub(crate) fn set_binned(&mut self, reference: &[u64], current: &[u64]) {
        let (n, m) = (self.reference.used_count, self.current.used_count);
        self.bin_count = reference.len();
        self.psi = Some(statistics::psi(reference, current, 0.5));
        self.psi_noise_critical = statistics::psi_noise_critical(reference.len(), n, m);
        self.jensen_shannon = Some(statistics::jensen_shannon(reference, current));
    }

    pub(crate) fn decide(mut self) -> Self {
        let (n, m) = (self.reference.used_count, self.current.used_count);
        let critical = self.psi_noise_critical.unwrap_or(0.0);
        let psi = self.psi.filter(|_| n >= VALUES_MIN && m >= VALUES_MIN);
        (self.verdict, self.reason) = match psi {
            None => (
                Verdict::NotEnoughData,
                format!("{n} reference and {m} current values; a verdict takes {VALUES_MIN} on each side"),
            ),
            Some(psi) if psi > PSI_THRESHOLD && psi > critical => (
                Verdict::Drift,
                format!("PSI {psi:.4} is above {PSI_THRESHOLD} and beyond sampling noise ({critical:.4} at 99 %)"),
            ),
            Some(psi) if psi > PSI_THRESHOLD => (
                Verdict::NoDrift,
                format!("PSI {psi:.4} is above {PSI_THRESHOLD} but within sampling noise ({critical:.4} at 99 %)"),
            ),
            Some(psi) => (Verdict::NoDrift, format!("PSI {psi:.4} is not above {PSI_THRESHOLD}")),
        };
        self
    }

    /// A few lines for a terminal.
    pub fn to_text(&self) -> String {
        let number = |value: Option<f64>| value.map_or_else(|| "–".into(), |value| format!("{value:.4}"));
        let source = if self.source == Source::Histograms { "histograms" } else { "samples" };
        let mark = if self.simulated() { " [SIMULATED DATA]" } else { "" };
        let ks = match (self.ks_lower, self.ks_upper) {
            (Some(lower), Some(upper)) if lower != upper => format!("between {lower:.4} and {upper:.4}"),
            (lower, _) => number(lower),
        };
        let radius = match (self.source, self.wasserstein_radius) {
            (Source::Histograms, Some(radius)) => format!(" ± {radius:.4}"),
            (Source::Histograms, None) if self.wasserstein.is_some() => {
                " (an outer bucket has no end: no bound)".into()
            }
            _ => String::new(),
        };
        format!(
            "{}: {}{mark}, from {source}\n{}\n\n{}{}\n\
             PSI              {} over {} bins; sampling noise up to {}\n\
             KS               {ks} (p {}, information only)\n\
             Wasserstein      {}{radius}; over the reference's standard deviation {}\n\
             Jensen-Shannon   {} (0 same, 1 disjoint)\n",
            self.request.subject.name(),
            self.verdict.as_str().to_uppercase(),
            self.reason,
            self.reference.line("reference"),
            self.current.line("current"),
            number(self.psi),
            self.bin_count,
            number(self.psi_noise_critical),
            self.ks_p_value.map_or_else(|| "–".into(), |p| format!("{p:.2e}")),
            number(self.wasserstein),
            number(self.wasserstein_over_std),
            number(self.jensen_shannon),
        )
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
        let count = |value: u64| [i64::try_from(value).ok()];
        table
            .text("subject", self.request.subject.name())
            .text("source", if self.source == Source::Histograms { "histograms" } else { "samples" })
            .text("verdict", self.verdict.as_str())
            .text("reason", &self.reason)
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
            .numbers("psi", [self.psi])
            .numbers("psi_noise_critical", [self.psi_noise_critical])
            .integers("bin_count", count(self.bin_count as u64))
            .numbers("ks_lower", [self.ks_lower])
            .numbers("ks_upper", [self.ks_upper])
            .numbers("ks_p_value", [self.ks_p_value])
            .numbers("wasserstein", [self.wasserstein])
            .numbers("wasserstein_radius", [self.wasserstein_radius])
            .numbers("wasserstein_over_std", [self.wasserstein_over_std])
            .numbers("jensen_shannon", [self.jensen_shannon])
            .text("parameters", &serde_json::to_string(&self.request)?)
            .text("reference_query", &reference.query)
            .text("current_query", &current.query);
        table.finish()
    }
}
