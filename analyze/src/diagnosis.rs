//! System or AI? Why the latency of a service changed: the machines, the model, or what it was asked.
//!
//! A closed decomposition over known physics, robust change scores, and the courage to abstain; no learned graph. Steps:
//! [`onset`] places the change, [`split`] divides it between inputs, load and system (they sum exactly), [`bootstrap`] says how
//! sure that is, [`standardised`] checks it without a regression, [`inputs`] and [`system_rank`] look at either side,
//! [`localise`] asks where, and [`verdict`] decides. Pure: no clock, no I/O, and one seed gives one result.

pub mod bootstrap;
pub mod cost_model;
mod error;
pub mod inputs;
pub mod latency_buckets;
pub mod localise;
pub mod minute_series;
pub mod onset;
pub mod reader;
pub mod regression_sums;
pub mod report;
pub mod robust;
#[doc(hidden)]
pub mod scenario;
pub mod sentence;
pub mod service_window;
pub mod split;
pub mod standardised;
pub mod system_rank;
pub mod table_function;
pub mod telemetry;
pub mod verdict;

use std::ops::Range;

pub use error::Error;

use crate::simulated_fleet::Rng;
use bootstrap::{BootstrapRules, Estimate};
use cost_model::CostModel;
use inputs::{CategoryChange, FeatureChange};
use localise::Localised;
use minute_series::MinuteSeries;
use onset::{Onset, OnsetRules, Sides};
use service_window::{Dimension, Event, Role, ServiceWindow};
use split::{SideSums, Split};
use standardised::Standardised;
use system_rank::{RankedSignal, StarvedGpu};
use telemetry::{Missing, Status};
use verdict::{Cause, Confidence, Findings, Verdict, VerdictRules};

/// Minutes around an onset in which events are listed.
const EVENT_MINUTES: f64 = 15.0;
/// Largest difference of clocks at which signals and requests are ordered in time, seconds.
const SKEW_S_MAX: f64 = 60.0;
/// Largest difference of clocks at which they are joined at all, seconds.
const SKEW_JOIN_S_MAX: f64 = 300.0;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Minutes that are taken for normal; the change is sought after them.
    pub reference: Range<usize>,
    /// Minute after the last one that is looked at.
    pub to: usize,
    /// Minute of the change, where it is known (an alert, a person); else it is searched for.
    pub at: Option<usize>,
}

/// Limits of the diagnosis.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// Of the onset.
    pub onset: OnsetRules,
    /// Of the intervals.
    pub bootstrap: BootstrapRules,
    /// Of the decision.
    pub verdict: VerdictRules,
    /// Fewest requests of a side. Default 500.
    pub rows_min: u64,
    /// Share of the requests that must carry an input. Default 0.9.
    pub input_coverage_min: f64,
    /// Share of the requests that must have counterparts of equal cost, below which confidence is low. Default 0.7.
    pub overlap_min: f64,
    /// Difference between the split and its check, as a share of the change, above which confidence is low. Default 0.25.
    pub disagreement_max: f64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            onset: OnsetRules::default(),
            bootstrap: BootstrapRules::default(),
            verdict: VerdictRules::default(),
            rows_min: 500,
            input_coverage_min: 0.9,
            overlap_min: 0.7,
            disagreement_max: 0.25,
        }
    }
}

/// Numbers behind a verdict.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Requests compared on each side.
    pub counts: (u64, u64),
    /// The split.
    pub split: Split,
    /// Part at equal inputs (load and system), with its interval.
    pub conditional_ms: Estimate,
    /// Part of the inputs, with its interval.
    pub input_ms: Estimate,
    /// The check; none where no cell is comparable.
    pub standardised: Option<Standardised>,
    /// Inputs, largest part first.
    pub features: Vec<FeatureChange>,
    /// Categories that moved.
    pub categories: Vec<CategoryChange>,
    /// Signals, strongest first.
    pub signals: Vec<RankedSignal>,
    /// A GPU that waits for something else.
    pub starved_gpu: Option<StarvedGpu>,
    /// Where the change at equal inputs sits.
    pub localised: Vec<Localised>,
    /// Offered work after over before, less 1.
    pub work_growth: Option<f64>,
    /// Causes, largest first.
    pub causes: Vec<Cause>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnosis {
    /// Service.
    pub service: String,
    /// Whether the telemetry is simulated.
    pub simulated: bool,
    /// Verdict.
    pub verdict: Verdict,
    /// How sure.
    pub confidence: Confidence,
    /// Why, one sentence each.
    pub reasons: Vec<String>,
    /// Oddities.
    pub status: Vec<Status>,
    /// What is missing; then the verdict is inconclusive.
    pub missing: Vec<Missing>,
    /// When; none where nothing changed.
    pub onset: Option<Onset>,
    /// What was compared; none where no side could be formed.
    pub sides: Option<Sides>,
    /// Deployments and configuration changes within 15 minutes of the onset: listed whatever the figures say.
    pub events: Vec<Event>,
    /// Figures; none where nothing changed or too little is known.
    pub comparison: Option<Comparison>,
}

/// Diagnoses one service.
///
/// # Errors
/// [`Error`] where columns disagree or the question does not fit the window; missing telemetry is no error but a verdict.
pub fn diagnose(window: &ServiceWindow, question: &Question, rules: &Rules) -> Result<Diagnosis, Error> {
    window.validate()?;
    check_question(window, question, rules)?;
    let reference = window.rows(question.reference.start, question.reference.end);
    let reference_model = CostModel::new(window, std::slice::from_ref(&reference), rules.input_coverage_min);
    let series = MinuteSeries::new(window, reference_model.as_ref());
    let onset = match question.at {
        Some(minute) => Some(given(&series, minute)),
        None => onset::detect(&series, &question.reference, question.to, &rules.onset),
    };
    let Some(onset) = onset else { return Ok(quiet(window, question, reference_model.is_some())) };
    let events = window.events.iter().filter(|event| (event.minute - onset.minute as f64).abs() <= EVENT_MINUTES);
    let mut diagnosis = Diagnosis { events: events.cloned().collect(), ..blank(window) };
    let sides = onset::sides(&onset, question.reference.start, question.to, &rules.onset);
    match sides {
        Some(sides) => {
            compare(&mut diagnosis, window, &series, &onset, &sides, rules);
            diagnosis.sides = Some(sides);
        }
        None => inconclusive(&mut diagnosis, Missing::Requests, "a side of the change is too short to compare"),
    }
    diagnosis.onset = Some(onset);
    Ok(diagnosis)
}

fn check_question(window: &ServiceWindow, question: &Question, rules: &Rules) -> Result<(), Error> {
    let Range { start, end } = question.reference;
    let fits = start + rules.onset.side_minutes_min <= end && end < question.to && question.to <= window.minute_count;
    if fits && question.at.is_none_or(|at| (start..question.to).contains(&at)) {
        return Ok(());
    }
    let (reference_minutes, minute_count) = (end.saturating_sub(start), window.minute_count);
    Err(Error::Question { from: start, to: question.to, reference_minutes, minute_count })
}

fn blank(window: &ServiceWindow) -> Diagnosis {
    Diagnosis {
        service: window.service.clone(),
        simulated: window.simulated,
        verdict: Verdict::None,
        confidence: Confidence::High,
        reasons: Vec::new(),
        status: Vec::new(),
        missing: Vec::new(),
        onset: None,
        sides: None,
        events: Vec::new(),
        comparison: None,
    }
}

fn inconclusive(diagnosis: &mut Diagnosis, missing: Missing, reason: &str) {
    diagnosis.verdict = Verdict::Inconclusive;
    diagnosis.confidence = Confidence::Low;
    diagnosis.missing.push(missing);
    diagnosis.reasons.push(reason.to_owned());
}

/// An onset that somebody names: the minute is believed, give or take one.
fn given(series: &MinuteSeries, minute: usize) -> Onset {
    let series = if series.residual.is_empty() { onset::Watched::P50 } else { onset::Watched::Residual };
    Onset { series, alarm_minute: None, minute, interval: (minute.saturating_sub(1), minute + 1), shift: f64::NAN }
}

/// Nothing alarms: no change, unless something is missing that could hide one.
fn quiet(window: &ServiceWindow, question: &Question, inputs_known: bool) -> Diagnosis {
    let mut diagnosis = blank(window);
    let sides = Sides { before: question.reference.clone(), after: question.reference.end..question.to };
    diagnosis.missing = telemetry::missing(window, &sides, inputs_known);
    diagnosis.sides = Some(sides);
    if diagnosis.missing.is_empty() {
        diagnosis
            .reasons
            .push("neither latency, nor inputs, nor latency at equal inputs left their usual range".into());
        return diagnosis;
    }
    diagnosis.verdict = Verdict::Inconclusive;
    diagnosis.confidence = Confidence::Low;
    diagnosis.reasons.push("nothing left its usual range, but what is missing could hide a change".into());
    diagnosis.reasons.extend(diagnosis.missing.iter().map(|missing| missing.how_to_send().to_owned()));
    diagnosis
}

/// Compares the sides and fills the diagnosis.
fn compare(
    diagnosis: &mut Diagnosis,
    window: &ServiceWindow,
    series: &MinuteSeries,
    onset: &Onset,
    sides: &Sides,
    rules: &Rules,
) {
    let rows = [&sides.before, &sides.after].map(|side| window.rows(side.start, side.end));
    let model = CostModel::new(window, &rows, rules.input_coverage_min);
    diagnosis.missing = telemetry::missing(window, sides, model.is_some());
    diagnosis.status = telemetry::left_out(window, sides, rules.input_coverage_min);
    let skew = window.clock_skew_s.unwrap_or(0.0).abs();
    if skew > SKEW_S_MAX {
        diagnosis.status.push(Status::ClockSkew { seconds: skew });
    }
    if skew > SKEW_JOIN_S_MAX {
        diagnosis.missing.push(Missing::CommonClock);
    }
    if let Some(minute) = second_change(series, onset, sides) {
        diagnosis.status.push(Status::OverlappingIncidents { minute });
    }
    let clocks_agree = skew <= SKEW_S_MAX;
    let compared = model.and_then(|model| figures(window, &model, onset, sides, clocks_agree, rules));
    let counts = compared
        .as_ref()
        .map_or_else(|| (window.request_count(&rows[0]), window.request_count(&rows[1])), |(c, _)| c.counts);
    if counts.0.min(counts.1) < rules.rows_min {
        diagnosis.status.push(Status::FewRequests { before: counts.0, after: counts.1 });
        diagnosis.missing.push(Missing::Requests);
    }
    diagnosis.verdict = Verdict::Inconclusive;
    if let Some((comparison, decision)) = compared {
        diagnosis.reasons = decision.reasons;
        if diagnosis.missing.is_empty() {
            diagnosis.verdict = decision.verdict;
        }
        if comparison.split.supported_share < rules.overlap_min {
            diagnosis.status.push(Status::LowOverlap { coverage: comparison.split.supported_share });
        }
        if comparison.work_growth.is_none() {
            diagnosis.status.push(Status::ArrivalsUnknown);
        }
        diagnosis.comparison = Some(comparison);
    } else if diagnosis.missing.is_empty() {
        diagnosis.missing.push(Missing::Requests);
    }
    diagnosis.reasons.extend(diagnosis.missing.iter().map(|missing| missing.how_to_send().to_owned()));
    diagnosis.confidence = confidence(diagnosis, rules);
}

/// A second, comparable change within the window after the first.
fn second_change(series: &MinuteSeries, onset: &Onset, sides: &Sides) -> Option<usize> {
    let values = if series.residual.is_empty() { &series.log_p50 } else { &series.residual };
    let place = onset::place(&values[..sides.after.end], sides.after.start, 5)?;
    let first = if onset.shift.is_finite() { onset.shift.abs() } else { 0.0 };
    (place.strength >= 30.0 && place.shift.abs() >= f64::max(0.05, 0.5 * first)).then_some(place.minute)
}

fn figures(
    window: &ServiceWindow,
    model: &CostModel,
    onset: &Onset,
    sides: &Sides,
    clocks_agree: bool,
    rules: &Rules,
) -> Option<(Comparison, verdict::Decision)> {
    let old = split::minute_sums(model, window, sides.before.clone());
    let new = split::minute_sums(model, window, sides.after.clone());
    let (before, after) = (split::merged(model, &old), split::merged(model, &new));
    let whole = split::split(model, &before, &after)?;
    let [input_ms, output_ms, asked_ms, load_ms, conditional_ms] = estimates(model, &whole, &old, &new, rules);
    let rows = [&sides.before, &sides.after].map(|side| window.rows(side.start, side.end));
    let slower = conditional_ms.value >= 0.0;
    let signals = system_rank::rank(model, window, onset, sides, slower, clocks_agree);
    let localised = localise::localise(model, window, &rows[0], &rows[1]);
    let work_growth = work_growth(window, &whole, sides);
    let findings = Findings {
        before_ms: whole.before_ms,
        asked_ms,
        output_ms,
        input_ms,
        conditional_ms,
        conditional_known: whole.server.is_some(),
        load_ms,
        signals: &signals,
        localised: &localised,
        work_growth,
        version_distance: inputs::label_distance(window, Dimension::Version, &rows[0], &rows[1]),
        finish_distance: inputs::label_distance(window, Dimension::FinishReason, &rows[0], &rows[1]),
    };
    let decision = verdict::decide(&findings, &rules.verdict);
    let comparison = Comparison {
        counts: (before.count(), after.count()),
        conditional_ms,
        input_ms,
        standardised: standardised::standardise(model, window, sides),
        features: inputs::feature_changes(model, window, &whole, &rows[0], &rows[1]),
        categories: inputs::category_changes(window, &rows[0], &rows[1]),
        starved_gpu: if slower { system_rank::starved_gpu(&signals) } else { None },
        causes: decision.causes.clone(),
        split: whole,
        signals,
        localised,
        work_growth,
    };
    Some((comparison, decision))
}

/// Input, output, other input, load, and conditional part, each with its interval.
fn estimates(model: &CostModel, whole: &Split, old: &[SideSums], new: &[SideSums], rules: &Rules) -> [Estimate; 5] {
    let mut rng = Rng::new(rules.bootstrap.seed);
    let mut draws: [Vec<f64>; 5] = Default::default();
    for _ in 0..rules.bootstrap.draws {
        let mut drawn = |minutes: &[SideSums]| {
            let places = bootstrap::draw_blocks(minutes.len(), rules.bootstrap.block_minutes, &mut rng);
            split::merged(model, places.iter().map(|&place| &minutes[place]))
        };
        let (before, after) = (drawn(old), drawn(new));
        if let Some(split) = split::split(model, &before, &after) {
            for (draws, part) in draws.iter_mut().zip(parts(&split)) {
                draws.push(part);
            }
        }
    }
    let mut values = parts(whole).into_iter();
    draws.map(|draws| Estimate::new(values.next().unwrap_or(f64::NAN), draws))
}

fn parts(split: &Split) -> [f64; 5] {
    let output = split.by_role.iter().find(|(role, _)| *role == Role::OutputTokens).map_or(0.0, |(_, part)| *part);
    [split.input_ms, output, split.input_ms - output, split.load_ms, split.load_ms + split.system_ms]
}

/// Growth of the offered work: arrivals times the cost of their inputs, per replica where replicas are known.
fn work_growth(window: &ServiceWindow, split: &Split, sides: &Sides) -> Option<f64> {
    let mean = |values: &[f32], side: &Range<usize>| {
        let known: Vec<f64> = values[side.clone()].iter().map(|&v| f64::from(v)).filter(|v| v.is_finite()).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64).filter(|mean| *mean > 0.0)
    };
    let arrivals = mean(&window.arrivals, &sides.after)? / mean(&window.arrivals, &sides.before)?;
    Some(arrivals * (1.0 + split.input_ms / split.before_ms) - 1.0)
}

/// Lowered by everything that speaks against the verdict or could not be checked.
fn confidence(diagnosis: &Diagnosis, rules: &Rules) -> Confidence {
    let Some(comparison) = &diagnosis.comparison else { return Confidence::Low };
    if diagnosis.verdict == Verdict::Inconclusive {
        return Confidence::Low;
    }
    let split = &comparison.split;
    let Some(check) = &comparison.standardised else { return Confidence::Low };
    let size = split.input_ms.abs().max(comparison.conditional_ms.value.abs()).max(0.05 * split.before_ms);
    let disagreement = (check.conditional_ms - comparison.conditional_ms.value).abs() / size;
    let overlapping = diagnosis.status.iter().any(|status| matches!(status, Status::OverlappingIncidents { .. }));
    let overlap = check.coverage.min(split.supported_share);
    if overlap < rules.overlap_min || disagreement > rules.disagreement_max || overlapping {
        return Confidence::Low;
    }
    let opposed = split.log_system * comparison.conditional_ms.value < 0.0
        && comparison.conditional_ms.value.abs() >= rules.verdict.material_share * split.before_ms;
    let explained = match diagnosis.verdict {
        Verdict::System => comparison.signals.first().is_some_and(|signal| signal.in_time && signal.kind.is_fault()),
        _ => true,
    };
    let odd = !diagnosis.status.is_empty() || !diagnosis.events.is_empty();
    if opposed || odd || !explained { Confidence::Medium } else { Confidence::High }
}
