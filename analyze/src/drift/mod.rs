//! Drift: does the current window of an input still look like the reference?
//!
//! Definitions, errors and sources: `docs/drift.md`; the job and its table: `docs/analysis.md`.

#[cfg(test)]
mod calibration_tests;
pub mod category_counts;
pub mod chi_square;
pub mod comparison;
pub mod compat;
pub mod contingency;
pub mod decision;
pub mod distance;
pub mod exact_sum;
pub mod explain;
pub mod feature_state;
mod histogram;
pub mod multiplicity;
pub mod numeric;
mod observed;
#[cfg(test)]
mod property_tests;
mod read;
pub mod reference_window;
mod request;
mod score;
pub mod segments;
pub mod sort;
mod state_bytes;
pub mod statistics;
#[cfg(test)]
mod statistics_tests;
#[cfg(test)]
mod tests;
pub mod two_sample;

pub use request::{DriftRequest, Filter, Side, Source, Subject, VALUES_MAX};
pub use score::{DriftScore, SideSummary};

use datafusion::prelude::SessionContext;
use driftwatt_store::Store;

use crate::error::{Error, Result};
use comparison::{CompareError, Comparison};
use decision::{Decision, Evidence, Gate, Level, Thresholds, decide, leave_one_out_psi};
use explain::contributions;
use observed::Observed;

/// Result table of this job.
pub const TABLE: &str = "drift_scores";

/// Scores the current side against the reference, decides and, given a store, writes the score to `drift_scores`.
///
/// The reference's own variation is learnt from its windows as long as the current one. A change that is not critical must have
/// been there in the window before, too, which is read and scored for it.
///
/// # Errors
/// [`Error::MixedSimulated`] where a side mixes simulated and real data; [`Error::Incomparable`] for histograms without common
/// bins; query and store errors.
pub async fn score(
    ctx: &SessionContext,
    store: Option<&Store>,
    request: &DriftRequest,
    thresholds: &Thresholds,
    now_us: i64,
) -> Result<DriftScore> {
    let length_us = request.current.window.end_us - request.current.window.start_us;
    let pair = async |source| -> Result<(Observed, Observed)> {
        let reference = read(ctx, source, "reference", request, &request.reference, Some(length_us)).await?;
        Ok((reference, read(ctx, source, "current", request, &request.current, None).await?))
    };
    let (mut source, mut sides) = match request.source {
        Source::Histograms => (Source::Histograms, pair(Source::Histograms).await?),
        Source::Auto | Source::Samples => (Source::Samples, pair(Source::Samples).await?),
    };
    let no_samples = sides.0.summary.row_count == 0 && sides.1.summary.row_count == 0;
    if request.source == Source::Auto && no_samples && matches!(request.subject, Subject::Metric(_)) {
        (source, sides) = (Source::Histograms, pair(Source::Histograms).await?);
    }
    let (reference, current) = sides;
    let score = match compare(request, &reference, &current)? {
        None => DriftScore {
            request: request.clone(),
            source,
            decision: Decision::nothing_to_compare(format!(
                "{} reference and {} current values: widen the empty window, or check that it was collected",
                reference.values.count(),
                current.values.count()
            )),
            reference: reference.summary,
            current: current.summary,
            comparison: None,
            bins: vec![],
            reference_window_count: 0,
        },
        Some(comparison) => {
            let windows = reference.window_counts(&comparison, thresholds.values_min);
            let judged = Judged { comparison: &comparison, leave_one_out: &leave_one_out_psi(&windows), thresholds };
            let mut decision = judged.decide(0);
            // What is critical, or nothing, needs no window before.
            if decision.level == Level::Warn {
                let before = windows_before(ctx, source, request, &reference, &judged).await?;
                decision = judged.decide(before);
            }
            let [reference, current] =
                [(reference, 0), (current, 1)].map(|(side, at)| summary_with_quantiles(side.summary, &comparison, at));
            DriftScore {
                request: request.clone(),
                source,
                reference,
                current,
                bins: contributions(&comparison),
                reference_window_count: windows.len(),
                comparison: Some(comparison),
                decision,
            }
        }
    };
    if let Some(store) = store {
        store.write_result(TABLE, score.to_batch(now_us)?).await?;
    }
    Ok(score)
}

/// A comparison with the noise of its reference.
struct Judged<'a> {
    comparison: &'a Comparison,
    leave_one_out: &'a [f64],
    thresholds: &'a Thresholds,
}

impl Judged<'_> {
    fn decide(&self, windows_before: u32) -> Decision {
        let evidence =
            Evidence { leave_one_out: self.leave_one_out, q_value: None, windows_before, gate: Gate::NotDeclared };
        decide(self.comparison, &evidence, self.thresholds)
    }
}

/// Windows directly before the current one, as many as a warning needs, that are beyond every limit themselves.
async fn windows_before(
    ctx: &SessionContext,
    source: Source,
    request: &DriftRequest,
    reference: &Observed,
    judged: &Judged<'_>,
) -> Result<u32> {
    let mut side = request.current.clone();
    for count in 0..judged.thresholds.persistence.saturating_sub(1) {
        side.window = side.window.before();
        let before = read(ctx, source, "current", request, &side, None).await?;
        let Some(comparison) = compare(request, reference, &before)? else { return Ok(count) };
        if (Judged { comparison: &comparison, ..*judged }).decide(0).level == Level::None {
            return Ok(count);
        }
    }
    Ok(judged.thresholds.persistence.saturating_sub(1))
}

async fn read(
    ctx: &SessionContext,
    source: Source,
    name: &'static str,
    request: &DriftRequest,
    side: &Side,
    length_us: Option<i64>,
) -> Result<Observed> {
    match source {
        Source::Histograms => read::histograms(ctx, name, &request.subject, side, length_us).await,
        Source::Auto | Source::Samples => read::samples(ctx, name, &request.subject, side, length_us).await,
    }
}

/// None where a side is empty.
fn compare(request: &DriftRequest, reference: &Observed, current: &Observed) -> Result<Option<Comparison>> {
    match reference.values.compare(&current.values) {
        Ok(comparison) => Ok(Some(comparison)),
        Err(CompareError::Empty { .. }) => Ok(None),
        Err(CompareError::Layout { reason }) => {
            Err(Error::Incomparable { metric: request.subject.name().to_owned(), reason })
        }
    }
}

/// Histograms give quantiles only where both sides are compared.
fn summary_with_quantiles(summary: SideSummary, comparison: &Comparison, side: usize) -> SideSummary {
    let Some(numeric) = &comparison.numeric else { return summary };
    let of = |pair: (f64, f64)| Some(if side == 0 { pair.0 } else { pair.1 });
    SideSummary {
        median: summary.median.or_else(|| of(numeric.median)),
        p95: summary.p95.or_else(|| of(numeric.p95)),
        ..summary
    }
}
