//! One comparison as it is measured: both sides read, compared, and what a decision on it needs.

use datafusion::prelude::SessionContext;

use super::{
    comparison::{CompareError, Comparison},
    decision::{Decision, Evidence, Gate, Level, Thresholds, decide, impact, leave_one_out_psi},
    explain::contributions,
    hourly::StateShelf,
    observed::Observed,
    other_scores::{OtherScore, OtherValue},
    read,
    reference_window::ReferenceKind,
    request::{DriftRequest, Side, Source, Subject},
    score::{DriftScore, SideSummary},
};
use crate::{
    error::{Error, Result},
    gates::{StreamGates, StreamVerdict},
};

/// What was measured, without the values.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    pub(crate) request: DriftRequest,
    pub(crate) source: Source,
    /// Reference, then current.
    sides: [SideSummary; 2],
    counts: [u64; 2],
    /// None where a side is empty.
    pub(crate) comparison: Option<Comparison>,
    leave_one_out: Vec<f64>,
    windows_before: u32,
    gate: Gate,
    others: Vec<OtherValue>,
}

/// What sides are read from.
pub(crate) struct Inputs<'a> {
    pub(crate) ctx: &'a SessionContext,
    /// Where hourly states are read from; none where only points are.
    pub(crate) shelf: Option<StateShelf<'a>>,
    /// What checked points say.
    pub(crate) gates: StreamGates,
    /// What is computed beside each score.
    pub(crate) also: Vec<OtherScore>,
}

/// Both sides with their values: reference, then current.
pub(crate) type Sides = [Observed; 2];

/// Reads both sides, compares them and, where a decision would need it, looks at the windows before.
pub(crate) async fn measure(
    inputs: &Inputs<'_>,
    request: &DriftRequest,
    thresholds: &Thresholds,
) -> Result<(Measured, Sides)> {
    let length_us = request.current.length_us();
    let pair = async |source| -> Result<Sides> {
        let reference = read_side(inputs, source, "reference", request, &request.reference, Some(length_us)).await?;
        Ok([reference, read_side(inputs, source, "current", request, &request.current, None).await?])
    };
    let (mut source, mut sides) = match request.source {
        Source::Histograms => (Source::Histograms, pair(Source::Histograms).await?),
        Source::States => (Source::States, pair(Source::States).await?),
        Source::Auto | Source::Samples => (Source::Samples, pair(Source::Samples).await?),
    };
    let no_samples = sides.iter().all(|side| side.summary.row_count == 0);
    if request.source == Source::Auto && no_samples && matches!(request.subject, Subject::Metric(_)) {
        (source, sides) = (Source::Histograms, pair(Source::Histograms).await?);
    }
    let measured = Measured::of(inputs, request, source, [&sides[0], &sides[1]], thresholds).await?;
    Ok((measured, sides))
}

/// The same for a `current` side that was read from `source` before; the answer has the reference side.
pub(crate) async fn measure_against(
    inputs: &Inputs<'_>,
    request: &DriftRequest,
    source: Source,
    current: &Observed,
    thresholds: &Thresholds,
) -> Result<(Measured, Observed)> {
    let length_us = Some(request.current.length_us());
    let reference = read_side(inputs, source, "reference", request, &request.reference, length_us).await?;
    let measured = Measured::of(inputs, request, source, [&reference, current], thresholds).await?;
    Ok((measured, reference))
}

impl Measured {
    /// Compares two sides: reference, then current.
    async fn of(
        inputs: &Inputs<'_>,
        request: &DriftRequest,
        source: Source,
        sides: [&Observed; 2],
        thresholds: &Thresholds,
    ) -> Result<Self> {
        let mut measured = Self {
            request: request.clone(),
            source,
            counts: sides.map(|side| side.values.count()),
            sides: sides.map(|side| side.summary.clone()),
            comparison: None,
            leave_one_out: vec![],
            windows_before: 0,
            gate: gate(inputs, request),
            others: vec![],
        };
        let Some(comparison) = compare(request, sides[0], sides[1])? else { return Ok(measured) };
        measured.others = inputs.also.iter().map(|other| other.of(&sides[0].values, &sides[1].values)).collect();
        measured.leave_one_out = leave_one_out_psi(&sides[0].window_counts(&comparison, thresholds.values_min));
        let [reference, current] = measured.sides;
        measured.sides =
            [summary_with_quantiles(reference, &comparison, 0), summary_with_quantiles(current, &comparison, 1)];
        // What is critical, or nothing, needs no window before; a q-value can only take from it.
        if measured.level(&comparison, thresholds) == Level::Warn {
            measured.windows_before = measured.count_before(inputs, sides[0], thresholds).await?;
        }
        measured.comparison = Some(comparison);
        Ok(measured)
    }

    /// The p-value of a test, which a side of too few values is not.
    pub(crate) fn p_value(&self, thresholds: &Thresholds) -> Option<f64> {
        let comparison = self.comparison.as_ref()?;
        let smaller = comparison.n_reference.min(comparison.n_current);
        (smaller >= thresholds.values_min).then(|| comparison.psi_p_value.unwrap_or(1.0))
    }

    fn evidence(&self, q_value: Option<f64>) -> Evidence<'_> {
        Evidence {
            leave_one_out: &self.leave_one_out,
            q_value,
            windows_before: self.windows_before,
            gate: self.gate.clone(),
        }
    }

    fn level(&self, comparison: &Comparison, thresholds: &Thresholds) -> Level {
        decide(comparison, &self.evidence(None), thresholds).level
    }

    /// Windows directly before the current one, as many as a warning needs, that are beyond every limit themselves. A seasonal
    /// reference goes back with them, for each window has a season of its own.
    async fn count_before(&self, inputs: &Inputs<'_>, reference: &Observed, thresholds: &Thresholds) -> Result<u32> {
        let mut request = self.request.clone();
        let needed = thresholds.persistence.saturating_sub(1);
        for count in 0..needed {
            request.current = request.current.before();
            let current = read_side(inputs, self.source, "current", &request, &request.current, None).await?;
            let comparison = if request.reference_kind == ReferenceKind::Seasonal {
                let length_us = request.current.length_us();
                let before = |window: &crate::Window| crate::Window {
                    start_us: window.start_us - length_us,
                    end_us: window.end_us - length_us,
                };
                request.reference.windows = request.reference.windows.iter().map(before).collect();
                let own = read_side(inputs, self.source, "reference", &request, &request.reference, None).await?;
                compare(&request, &own, &current)?
            } else {
                compare(&request, reference, &current)?
            };
            let Some(comparison) = comparison else { return Ok(count) };
            if self.level(&comparison, thresholds) == Level::None {
                return Ok(count);
            }
        }
        Ok(needed)
    }

    /// The score with its decision; `q_value` is that of the run.
    pub(crate) fn decide(self, q_value: Option<f64>, thresholds: &Thresholds) -> DriftScore {
        let decision = match &self.comparison {
            None => Decision::nothing_to_compare(format!(
                "{} reference and {} current values: widen the empty window, or check that it was collected",
                self.counts[0], self.counts[1]
            )),
            Some(comparison) => {
                let mut decision = decide(comparison, &self.evidence(q_value), thresholds);
                decision.reasons.extend(new_categories(comparison));
                decision
            }
        };
        let [reference, current] = self.sides;
        let weight = thresholds.weights.of(&self.request.subject.label());
        DriftScore {
            weight,
            impact: decision.severity.map(|severity| impact(severity, weight)),
            request: self.request,
            source: self.source,
            reference,
            current,
            bins: self.comparison.as_ref().map(contributions).unwrap_or_default(),
            reference_window_count: self.leave_one_out.len(),
            comparison: self.comparison,
            others: self.others,
            decision,
            q_value,
            mix_shift: None,
        }
    }
}

/// What the checks of the points of the window under test say.
fn gate(inputs: &Inputs<'_>, request: &DriftRequest) -> Gate {
    let metric = request.subject.name();
    match inputs.gates.verdict(metric, &request.current.filters, request.current.span()) {
        StreamVerdict::Unknown => Gate::NotDeclared,
        StreamVerdict::Passed => Gate::Passed,
        StreamVerdict::Failed(rules) => Gate::Failed(rules),
    }
}

fn new_categories(comparison: &Comparison) -> Option<String> {
    let change = comparison.categories.as_ref().filter(|change| !change.new.is_empty())?;
    let weight = if change.new_is_material { "more than chance rows" } else { "as few as chance rows" };
    Some(format!("categories: {} new with {:.2} % of the window, {weight}", change.new.len(), change.new_share * 100.0))
}

async fn read_side(
    inputs: &Inputs<'_>,
    source: Source,
    name: &'static str,
    request: &DriftRequest,
    side: &Side,
    length_us: Option<i64>,
) -> Result<Observed> {
    let ctx = inputs.ctx;
    match (&request.subject, source) {
        (subject, Source::States) => {
            let shelf = inputs.shelf.as_ref().ok_or(Error::StatesNotKept)?;
            let both = [&request.reference.windows[..], &request.current.windows[..]].concat();
            read::states(shelf, name, subject, side, &both, length_us).await
        }
        (Subject::Category { key, .. }, _) => read::categories(ctx, name, &request.subject, key, side, length_us).await,
        (_, Source::Histograms) => read::histograms(ctx, name, &request.subject, side, length_us).await,
        (_, Source::Auto | Source::Samples) => read::samples(ctx, name, &request.subject, side, length_us).await,
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
