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
pub use score::{DriftScore, PSI_THRESHOLD, SideSummary, VALUES_MIN, Verdict};

use datafusion::prelude::SessionContext;
use driftwatt_store::Store;

use crate::error::{Error, Result};

/// Result table of this job.
pub const TABLE: &str = "drift_scores";

/// Scores the current side against the reference and, given a store, writes the score to `drift_scores`.
///
/// # Errors
/// [`Error::MixedSimulated`] where a side mixes simulated and real data; [`Error::Incomparable`] for histograms without common
/// bins; query and store errors.
pub async fn score(
    ctx: &SessionContext,
    store: Option<&Store>,
    request: &DriftRequest,
    now_us: i64,
) -> Result<DriftScore> {
    let score = match request.source {
        Source::Samples => from_samples(ctx, request).await?,
        Source::Histograms => from_histograms(ctx, request).await?,
        Source::Auto => {
            let score = from_samples(ctx, request).await?;
            let no_samples = score.reference.row_count == 0 && score.current.row_count == 0;
            if no_samples && matches!(request.subject, Subject::Metric(_)) {
                from_histograms(ctx, request).await?
            } else {
                score
            }
        }
    };
    if let Some(store) = store {
        store.write_result(TABLE, score.to_batch(now_us)?).await?;
    }
    Ok(score)
}

async fn from_samples(ctx: &SessionContext, request: &DriftRequest) -> Result<DriftScore> {
    let (reference, reference_summary) = read::samples(ctx, "reference", &request.subject, &request.reference).await?;
    let (current, current_summary) = read::samples(ctx, "current", &request.subject, &request.current).await?;
    let (n, m) = (reference.len() as u64, current.len() as u64);
    let mut score = DriftScore::new(request, Source::Samples, reference_summary, current_summary);
    if n > 0 && m > 0 {
        let cuts = statistics::decile_cuts(&reference);
        score.set_binned(&statistics::bin_counts(&reference, &cuts), &statistics::bin_counts(&current, &cuts));
        let ks = statistics::kolmogorov_smirnov(&reference, &current);
        (score.ks_lower, score.ks_upper) = (Some(ks), Some(ks));
        score.ks_p_value = Some(statistics::kolmogorov_p_value(ks, n, m));
        let distance = statistics::wasserstein(&reference, &current);
        score.wasserstein = Some(distance);
        score.wasserstein_over_std =
            statistics::standard_deviation(&reference).filter(|std| *std > 0.0).map(|std| distance / std);
    }
    Ok(score.decide())
}

async fn from_histograms(ctx: &SessionContext, request: &DriftRequest) -> Result<DriftScore> {
    let (reference, reference_summary) =
        read::histograms(ctx, "reference", &request.subject, &request.reference).await?;
    let (current, current_summary) = read::histograms(ctx, "current", &request.subject, &request.current).await?;
    let (n, m) = (reference.count(), current.count());
    let mut score = DriftScore::new(request, Source::Histograms, reference_summary, current_summary);
    if n > 0 && m > 0 {
        let incomparable = |reason| Error::Incomparable { metric: request.subject.name().to_owned(), reason };
        let aligned = reference.align(current).map_err(incomparable)?;
        let (p, q) = (&aligned.reference, &aligned.current);
        let cuts = statistics::snapped_decile_cuts(p);
        score.set_binned(&statistics::merge_bins(p, &cuts), &statistics::merge_bins(q, &cuts));
        let (lower, upper) = statistics::kolmogorov_smirnov_bounds(p, q);
        (score.ks_lower, score.ks_upper) = (Some(lower), Some(upper));
        score.ks_p_value = Some(statistics::kolmogorov_p_value(lower, n, m));
        let (distance, radius) = statistics::wasserstein_binned(&aligned.edges, p, q);
        let reference_moments = statistics::moments_binned(&aligned.edges, p);
        score.wasserstein = Some(distance);
        score.wasserstein_radius = (!aligned.unbounded).then_some(radius);
        score.wasserstein_over_std = reference_moments.filter(|(_, std)| *std > 0.0).map(|(_, std)| distance / std);
        score.reference.mean = reference_moments.map(|(mean, _)| mean);
        score.current.mean = statistics::moments_binned(&aligned.edges, q).map(|(mean, _)| mean);
    }
    Ok(score.decide())
}
