//! Many features and segments in one run: each against its reference and against its season, judged together.

use datafusion::prelude::SessionContext;
use driftwatt_store::{ErrorKind, Store};
use serde::Serialize;

use super::{
    TABLE,
    decision::{Status, Thresholds},
    features::segments,
    hourly::StateShelf,
    measure::{Inputs, Measured, Sides, measure, measure_against},
    multiplicity::benjamini_hochberg,
    observed::Observed,
    other_scores::OtherScore,
    reference_window::{ReferenceKind, SEASONAL_WEEKS_MIN, season_text, seasonal_windows},
    request::{DriftRequest, Filter, Side, Source, Subject},
    score::DriftScore,
    score_table::score_table,
    segments::{MixShift, SegmentCounts, mix_shift},
};
use crate::{
    error::{Error, Result},
    gates::StreamGates,
    window::{HOUR_US, Window},
};

/// Stored states that are read at once, of several features: of categories a state may have 40 KB.
const READ_AHEAD: i64 = 4_096;
/// Segments of one label that are scored by themselves: those with the most rows.
pub const SEGMENTS_MAX: usize = 20;

/// What a run looks at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunRequest {
    /// The features.
    pub subjects: Vec<Subject>,
    /// The label by whose values each is scored, too.
    pub by: Option<String>,
    /// What they should look like.
    pub reference: Side,
    /// How that was chosen.
    pub reference_kind: ReferenceKind,
    /// What they look like.
    pub current: Side,
    /// Where the values come from.
    pub source: Source,
    /// What is computed beside each score, and decides nothing.
    pub also: Vec<OtherScore>,
}

/// A comparison that could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Name of the feature.
    pub subject: String,
    /// The segment; none for the whole feature.
    pub segment: Option<Filter>,
    /// What it was to be compared with: the reference of the run, or the season beside it.
    pub reference_kind: ReferenceKind,
    /// Why not, and what to do.
    pub reason: String,
}

impl Refused {
    /// Of `request`; an error that no other feature or segment can be blamed for is handed on.
    fn new(request: &DriftRequest, error: Error) -> Result<Self> {
        if error.kind() != ErrorKind::Invalid {
            return Err(error);
        }
        Ok(Self {
            subject: request.subject.label(),
            segment: request.segment.clone(),
            reference_kind: request.reference_kind,
            reason: error.to_string(),
        })
    }
}

/// What a run found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DriftRun {
    /// What was asked.
    pub request: RunRequest,
    /// Scores against the reference, by status and then by impact (severity times declared weight), each feature with its segments
    /// behind it.
    pub scores: Vec<DriftScore>,
    /// Scores against the same hours of the weeks before, for those of `scores` that have at least two such weeks.
    pub seasonal: Vec<DriftScore>,
    /// Features, segments and seasons without a score.
    pub refused: Vec<Refused>,
}

/// Scores every feature, whole and by segments, against the reference and its season, adjusts the p-values of each of the two
/// families (Benjamini and Hochberg 1995), decides and, given a store, writes all scores to `drift_scores`.
///
/// Features that share a metric or a person's traffic are positively dependent, under which the false discovery rate holds,
/// too (Benjamini and Yekutieli 2001, theorem 1.2).
///
/// # Errors
/// Query and store errors; what is wrong with one feature or segment is in [`DriftRun::refused`].
pub async fn run(
    ctx: &SessionContext,
    store: Option<&Store>,
    request: &RunRequest,
    thresholds: &Thresholds,
    now_us: i64,
) -> Result<DriftRun> {
    let shelf = match (request.source, store) {
        (Source::States, None) => return Err(Error::StatesNotKept),
        (Source::States, Some(store)) => Some(StateShelf::new(ctx, store, now_us)),
        _ => None,
    };
    let gates = StreamGates::load(ctx, request.current.span().start_us).await?;
    let inputs = Inputs { ctx, shelf, gates, also: request.also.clone() };
    let ahead = features_ahead(request);
    let mut found = Found::default();
    for (at, subject) in request.subjects.iter().enumerate() {
        if let Some(shelf) = inputs.shelf.as_ref().filter(|_| at % ahead == 0) {
            let next = &request.subjects[at..(at + ahead).min(request.subjects.len())];
            shelf.read_ahead(next, &request.current.filters, &all_windows(request)).await?;
        }
        let whole = DriftRequest {
            subject: subject.clone(),
            source: request.source,
            reference: request.reference.clone(),
            reference_kind: request.reference_kind,
            current: request.current.clone(),
            segment: None,
        };
        match feature(&inputs, &whole, request.by.as_deref(), thresholds).await {
            Ok(own) => found.extend(own),
            Err(error) => found.refused.push(Refused::new(&whole, error)?),
        }
    }
    if let Some(shelf) = &inputs.shelf {
        shelf.finish().await?;
    }
    let mut scores = decided(found.scores, thresholds);
    for (score, shift) in scores.iter_mut().zip(found.shifts) {
        score.mix_shift = shift;
    }
    let seasonal = decided(found.seasonal, thresholds);
    let run = DriftRun { request: request.clone(), scores: by_impact(scores), seasonal, refused: found.refused };
    if let Some(store) = store
        && !run.scores.is_empty()
    {
        let all: Vec<&DriftScore> = run.scores.iter().chain(&run.seasonal).collect();
        store.write_result(TABLE, score_table(&all, now_us)?).await?;
    }
    Ok(run)
}

/// Scores each of `subjects` in `after` against `before`, for whoever compares two windows: no season stands beside them, no window
/// before is looked at, and nothing is recorded. The scores in the order of the subjects, then what has none.
///
/// # Errors
/// Query errors; what is wrong with one feature is among those without a score.
pub(crate) async fn between(
    ctx: &SessionContext,
    subjects: &[Subject],
    filters: &[Filter],
    (before, after): (Window, Window),
) -> Result<(Vec<DriftScore>, Vec<Refused>)> {
    let thresholds = Thresholds { persistence: 1, ..Thresholds::default() };
    let gates = StreamGates::load(ctx, after.start_us).await?;
    let inputs = Inputs { ctx, shelf: None, gates, also: Vec::new() };
    let side = |window: Window| Side { windows: vec![window], filters: filters.to_vec() };
    let (mut measured, mut refused) = (Vec::new(), Vec::new());
    for subject in subjects {
        let request = DriftRequest {
            subject: subject.clone(),
            source: Source::Auto,
            reference: side(before),
            reference_kind: ReferenceKind::Pinned,
            current: side(after),
            segment: None,
        };
        match measure(&inputs, &request, &thresholds).await {
            Ok((found, _sides)) => measured.push(found),
            Err(error) => refused.push(Refused::new(&request, error)?),
        }
    }
    Ok((decided(measured, &thresholds), refused))
}

/// Features whose states are read at once.
fn features_ahead(request: &RunRequest) -> usize {
    let hours: i64 = all_windows(request).iter().map(|window| (window.end_us - window.start_us) / HOUR_US).sum();
    usize::try_from(READ_AHEAD / hours.max(1)).unwrap_or(1).max(1)
}

/// Reference, window under test, and season.
fn all_windows(request: &RunRequest) -> Vec<Window> {
    let season = match request.reference_kind {
        ReferenceKind::Seasonal => vec![],
        ReferenceKind::Pinned | ReferenceKind::Trailing => seasonal_windows(request.current.span()),
    };
    [&request.reference.windows[..], &request.current.windows[..], &season].concat()
}

/// Measured, not decided.
#[derive(Default)]
struct Found {
    scores: Vec<Measured>,
    /// One for each of `scores`; none but for a whole feature with segments.
    shifts: Vec<Option<MixShift>>,
    seasonal: Vec<Measured>,
    refused: Vec<Refused>,
}

impl Found {
    fn push(&mut self, measured: Measured) {
        self.scores.push(measured);
        self.shifts.push(None);
    }

    /// Adds what `measured` is against the same hours of the weeks before, its current side as it was read; nothing where fewer than
    /// two of them have values. What is wrong with a season takes nothing from the score that it stands beside.
    async fn add_season(
        &mut self,
        inputs: &Inputs<'_>,
        measured: &Measured,
        current: &Observed,
        thresholds: &Thresholds,
    ) -> Result<()> {
        let request = &measured.request;
        if request.reference_kind == ReferenceKind::Seasonal {
            return Ok(());
        }
        let seasonal = request.against(ReferenceKind::Seasonal, seasonal_windows(request.current.span()));
        match measure_against(inputs, &seasonal, measured.source, current, thresholds).await {
            Ok((season, reference)) if weeks(&reference) >= SEASONAL_WEEKS_MIN => self.seasonal.push(season),
            Ok(_) => {}
            Err(error) => self.refused.push(Refused::new(&seasonal, error)?),
        }
        Ok(())
    }

    fn extend(&mut self, other: Self) {
        self.scores.extend(other.scores);
        self.shifts.extend(other.shifts);
        self.seasonal.extend(other.seasonal);
        self.refused.extend(other.refused);
    }
}

/// One feature, whole and by the values of the label `by`, each with its season.
async fn feature(
    inputs: &Inputs<'_>,
    whole: &DriftRequest,
    by: Option<&str>,
    thresholds: &Thresholds,
) -> Result<Found> {
    let (measured, sides) = measure(inputs, whole, thresholds).await?;
    enough_weeks(whole, &sides[0])?;
    let mut found = Found::default();
    found.add_season(inputs, &measured, &sides[1], thresholds).await?;
    let has_season = !found.seasonal.is_empty();
    found.push(measured);
    let Some(key) = by else { return Ok(found) };
    let mut counts = Some(vec![]);
    for segment in segments(inputs.ctx, whole, key, SEGMENTS_MAX).await? {
        let own = whole.of_segment(&segment);
        let (measured, own_sides) = match measure(inputs, &own, thresholds).await {
            Ok(measured) => measured,
            Err(error) => {
                found.refused.push(Refused::new(&own, error)?);
                counts = None;
                continue;
            }
        };
        let of_segment = counts_of(&found.scores[0], &sides, &segment, &own_sides);
        counts = counts.zip(of_segment).map(|(mut all, one)| {
            all.push(one);
            all
        });
        if let Err(error) = enough_weeks(&own, &own_sides[0]) {
            found.refused.push(Refused::new(&own, error)?);
            continue;
        }
        if has_season {
            found.add_season(inputs, &measured, &own_sides[1], thresholds).await?;
        }
        found.push(measured);
    }
    found.shifts[0] = counts.and_then(|counts| shift_of(&found.scores[0], counts));
    Ok(found)
}

/// Weeks of a seasonal reference that have values.
fn weeks(reference: &Observed) -> usize {
    reference.windows.iter().filter(|week| week.count() > 0).count()
}

/// One week is no season to compare with.
///
/// # Errors
/// [`Error::TooFewWeeks`] where a seasonal reference has values in fewer than [`SEASONAL_WEEKS_MIN`] of them.
fn enough_weeks(request: &DriftRequest, reference: &Observed) -> Result<()> {
    let found = weeks(reference);
    if request.reference_kind != ReferenceKind::Seasonal || found >= SEASONAL_WEEKS_MIN {
        return Ok(());
    }
    let (metric, weeks) = (request.subject.label(), season_text(request.current.span()));
    Err(Error::TooFewWeeks { metric, found, weeks, weeks_min: SEASONAL_WEEKS_MIN })
}

/// A segment's counts in the bins of the whole; none where the sides were thinned out or do not fit them.
fn counts_of(whole: &Measured, sides: &Sides, segment: &Filter, own: &Sides) -> Option<SegmentCounts> {
    let comparison = whole.comparison.as_ref()?;
    let is_thinned = |side: &Observed| side.summary.used_count < side.summary.value_count;
    if sides.iter().chain(own).any(is_thinned) {
        return None;
    }
    Some(SegmentCounts {
        segment: segment.value.clone(),
        reference: sides[0].counts_in(comparison, &own[0].values)?,
        current: sides[0].counts_in(comparison, &own[1].values)?,
    })
}

/// The split, with what no segment holds as a segment of its own; none where the segments do not add up.
fn shift_of(whole: &Measured, mut counts: Vec<SegmentCounts>) -> Option<MixShift> {
    let comparison = whole.comparison.as_ref()?;
    let rest = |all: Vec<u64>, side: fn(&SegmentCounts) -> &Vec<u64>| -> Option<Vec<u64>> {
        let mut rest = all;
        for segment in &counts {
            for (left, count) in rest.iter_mut().zip(side(segment)) {
                *left = left.checked_sub(*count)?;
            }
        }
        Some(rest)
    };
    let reference = rest(comparison.reference_counts(), |segment| &segment.reference)?;
    let current = rest(comparison.current_counts(), |segment| &segment.current)?;
    if counts.is_empty() {
        return None;
    }
    if reference.iter().chain(&current).any(|count| *count > 0) {
        counts.push(SegmentCounts { segment: "(others)".to_owned(), reference, current });
    }
    mix_shift(&counts)
}

/// Decides on a family. Comparisons of too few values are no tests and no part of it; a family of one has no q-value.
fn decided(measured: Vec<Measured>, thresholds: &Thresholds) -> Vec<DriftScore> {
    let tests: Vec<usize> = (0..measured.len()).filter(|at| measured[*at].p_value(thresholds).is_some()).collect();
    let p_values: Vec<f64> = tests.iter().filter_map(|at| measured[*at].p_value(thresholds)).collect();
    let mut q_values = vec![None; measured.len()];
    if tests.len() > 1 {
        for (at, q) in tests.into_iter().zip(benjamini_hochberg(&p_values)) {
            q_values[at] = Some(q);
        }
    }
    measured.into_iter().zip(q_values).map(|(measured, q)| measured.decide(q, thresholds)).collect()
}

/// Features by the impact of their worst score, each with its segments behind it by theirs.
fn by_impact(scores: Vec<DriftScore>) -> Vec<DriftScore> {
    let mut features: Vec<Vec<DriftScore>> = vec![];
    for score in scores {
        match features.last_mut() {
            Some(feature) if score.request.segment.is_some() => feature.push(score),
            _ => features.push(vec![score]),
        }
    }
    let rank = |score: &DriftScore| {
        let status = match score.decision.status {
            Status::Critical => 3,
            Status::Warn => 2,
            Status::GateFailed | Status::InsufficientData => 0,
            Status::Ok => 1,
        };
        (status, (score.impact.unwrap_or(0.0) * 1e6) as u64)
    };
    for feature in &mut features {
        feature[1..].sort_by_key(|score| std::cmp::Reverse(rank(score)));
    }
    features.sort_by_key(|feature| std::cmp::Reverse(feature.iter().map(rank).max()));
    features.into_iter().flatten().collect()
}

impl DriftRun {
    /// The worst of all scores: an alarm of any; else a whole feature that could not be judged, which is no pass; else ok.
    pub fn status(&self) -> Status {
        let any = |status: Status| self.scores.iter().any(|score| score.decision.status == status);
        let unjudged = self.scores.iter().any(|score| {
            score.request.segment.is_none()
                && !matches!(score.decision.status, Status::Ok | Status::Warn | Status::Critical)
        });
        let refused = self.not_scored().any(|refused| refused.segment.is_none());
        match () {
            () if any(Status::Critical) => Status::Critical,
            () if any(Status::Warn) => Status::Warn,
            () if unjudged || refused || self.scores.is_empty() => Status::InsufficientData,
            () => Status::Ok,
        }
    }

    /// Features and segments that were not compared with the reference of the run.
    pub(crate) fn not_scored(&self) -> impl Iterator<Item = &Refused> {
        self.refused.iter().filter(|refused| refused.reference_kind == self.request.reference_kind)
    }

    /// The score against the season that stands beside `score`.
    pub fn season_of(&self, score: &DriftScore) -> Option<&DriftScore> {
        self.seasonal.iter().find(|other| {
            other.request.subject == score.request.subject && other.request.segment == score.request.segment
        })
    }

    /// The run as JSON.
    ///
    /// # Errors
    /// [`crate::Error::Json`] if it cannot be written.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }
}
