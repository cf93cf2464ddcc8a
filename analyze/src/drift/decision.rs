//! From scores to an alarm: effect and sampling noise and learnt noise and persistence and size and gate, all of them.

use serde::Serialize;

use super::{
    category_counts::{CATEGORIES_MAX, OTHER},
    comparison::{Basis, Comparison},
    feature_weights::FeatureWeights,
    statistics,
};

/// What to do where the learnt noise hides what is critical by its size.
const UNSTEADY: &str = "the reference varies more than the critical limit itself, as one does that holds the change already: compare with a \
                        time before it (--reference FROM/TO), or with the season";

/// Limits of one column.
#[derive(Debug, Clone, PartialEq)]
pub struct Thresholds {
    /// PSI from which a change is worth a warning: 0.1 is a shift of 0.32 standard deviations of a normal.
    pub psi_warn: f64,
    /// PSI from which it is critical: 0.25 is half a standard deviation.
    pub psi_critical: f64,
    /// Jensen-Shannon limits (warn, critical) that count as an effect too; off by default.
    pub jensen_shannon: Option<(f64, f64)>,
    /// Scaled Wasserstein limits (warn, critical) that count as an effect too; off by default.
    pub wasserstein_scaled: Option<(f64, f64)>,
    /// Observations that each side needs.
    pub values_min: u64,
    /// Reference windows from which noise can be learnt.
    pub windows_min: usize,
    /// Learnt noise is this times the 95 % quantile of the leave-one-out scores.
    pub learnt_factor: f64,
    /// False discovery rate that a q-value may have.
    pub q_max: f64,
    /// Windows in a row that a warning needs; critical needs one.
    pub persistence: u32,
    /// What each feature weighs in the rank; no part of any verdict.
    pub weights: FeatureWeights,
}

impl Confidence {
    /// Its name in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            psi_warn: 0.1,
            psi_critical: 0.25,
            jensen_shannon: None,
            wasserstein_scaled: None,
            values_min: 200,
            windows_min: 8,
            learnt_factor: 1.25,
            q_max: 0.05,
            persistence: 2,
            weights: FeatureWeights::default(),
        }
    }
}

/// Outcome of the data gate for this window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// All rules passed.
    Passed,
    /// No rule is declared; said in the reasons.
    NotDeclared,
    /// A rule failed, with its name: no drift is judged on such data.
    Failed(String),
}

/// What a decision is based on besides the comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence<'a> {
    /// PSI of each reference window against the others, see [`leave_one_out_psi`].
    pub leave_one_out: &'a [f64],
    /// Benjamini-Hochberg q-value over the run's columns and segments; none for a run of one.
    pub q_value: Option<f64>,
    /// Windows directly before this one that were beyond every limit themselves.
    pub windows_before: u32,
    /// The gate.
    pub gate: Gate,
}

/// How far a window is beyond the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Below.
    None,
    /// Warn limit reached.
    Warn,
    /// Critical limit reached.
    Critical,
}

/// Verdict on one window; only `Ok` is a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Judged, no alarm.
    Ok,
    /// Warning.
    Warn,
    /// Critical.
    Critical,
    /// Too few observations on a side to judge.
    InsufficientData,
    /// The data did not pass its gate.
    GateFailed,
}

impl Status {
    /// Its name, as in the column `status` of `drift_scores`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Critical => "critical",
            Self::InsufficientData => "insufficient_data",
            Self::GateFailed => "gate_failed",
        }
    }

    /// Whether this is to be told to somebody as drift.
    pub fn is_alarm(self) -> bool {
        matches!(self, Self::Warn | Self::Critical)
    }
}

/// How much the verdict can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// Noise could not be learnt, or a side is small.
    Low,
    /// Learnt noise, but fewer than 1 000 observations on a side.
    Medium,
    /// Learnt noise and enough observations.
    High,
}

/// The decision with what it rests on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    /// Verdict.
    pub status: Status,
    /// How far this window alone is beyond every limit; the next window's persistence counts it.
    pub level: Level,
    /// Windows in a row beyond every limit, this one included.
    pub persistence_count: u32,
    /// The larger of sampling noise and learnt noise; none where neither is known.
    pub noise_floor: Option<f64>,
    /// Learnt noise; none below the needed number of windows.
    pub learnt_noise: Option<f64>,
    /// `100 (1 - exp(-excess / 0.25))`: PSI 0.1 is 33, 0.25 is 63, 0.5 is 86; none where nothing was compared.
    pub severity: Option<f64>,
    /// Trust.
    pub confidence: Confidence,
    /// Sentences that say why, in the order of the rules.
    pub reasons: Vec<String>,
}

impl Decision {
    /// That of a side without anything to compare.
    pub(crate) fn nothing_to_compare(reason: String) -> Self {
        Self {
            status: Status::InsufficientData,
            level: Level::None,
            persistence_count: 0,
            noise_floor: None,
            learnt_noise: None,
            severity: None,
            confidence: Confidence::Low,
            reasons: vec![reason],
        }
    }
}

/// PSI of each window against all others, on common bins (`windows × bins` counts); a window or rest without data has none.
///
/// The window is left out of what it is compared with: a reference that holds its own chunk makes thresholds too tight. The
/// cuts stay those of the whole reference, one window's part in them is small.
pub fn leave_one_out_psi(windows: &[Vec<u64>]) -> Vec<f64> {
    let bins = windows.iter().map(Vec::len).max().unwrap_or(0);
    let mut total = vec![0u64; bins];
    for window in windows {
        total.iter_mut().zip(window).for_each(|(sum, count)| *sum += count);
    }
    let score = |window: &Vec<u64>| {
        let rest: Vec<u64> = total.iter().zip(window).map(|(sum, count)| sum - count).collect();
        let has_data = window.iter().any(|count| *count > 0) && rest.iter().any(|count| *count > 0);
        (has_data && window.len() == bins).then(|| super::distance::psi_jeffreys(&rest, window))
    };
    windows.iter().filter_map(score).collect()
}

/// Noise that the reference itself shows: `factor` times the 95 % quantile (type 7); none below `windows_min` scores.
pub fn learnt_noise(leave_one_out: &[f64], thresholds: &Thresholds) -> Option<f64> {
    let mut scores: Vec<f64> = leave_one_out.iter().copied().filter(|score| score.is_finite()).collect();
    if scores.len() < thresholds.windows_min {
        return None;
    }
    scores.sort_unstable_by(f64::total_cmp);
    Some(thresholds.learnt_factor * statistics::quantile(&scores, 0.95)?)
}

/// Decides on one window.
pub fn decide(comparison: &Comparison, evidence: &Evidence<'_>, thresholds: &Thresholds) -> Decision {
    let learnt = learnt_noise(evidence.leave_one_out, thresholds);
    let smaller = comparison.n_reference.min(comparison.n_current);
    let mut decision = Decision {
        status: Status::Ok,
        level: Level::None,
        persistence_count: 0,
        noise_floor: [comparison.psi_noise, learnt].into_iter().flatten().reduce(f64::max),
        learnt_noise: learnt,
        severity: Some(severity(comparison.psi_excess)),
        confidence: match learnt {
            None => Confidence::Low,
            Some(_) if smaller < 1_000 => Confidence::Medium,
            Some(_) => Confidence::High,
        },
        reasons: vec![],
    };
    if let Gate::Failed(rule) = &evidence.gate {
        decision.reasons.push(format!("gate failed: {rule}; drift is not judged on data that did not pass"));
        return Decision { status: Status::GateFailed, ..decision };
    }
    if evidence.gate == Gate::NotDeclared {
        decision.reasons.push("no gate is declared for this data".to_owned());
    }
    if smaller < thresholds.values_min {
        decision.reasons.push(format!(
            "insufficient data: {} reference and {} current values, {} are needed on each side",
            comparison.n_reference, comparison.n_current, thresholds.values_min
        ));
        return Decision { status: Status::InsufficientData, confidence: Confidence::Low, ..decision };
    }
    decision.reasons.extend(overflow_text(comparison));
    let effect = effect(comparison, thresholds, &mut decision.reasons);
    let beyond_noise = is_beyond_noise(comparison, evidence, thresholds, learnt, &mut decision.reasons);
    decision.level = if beyond_noise { effect } else { Level::None };
    let is_unsteady = learnt.is_some_and(|noise| comparison.psi >= thresholds.psi_critical && comparison.psi <= noise);
    if is_unsteady {
        // A reference that holds the change already varies as much as the change.
        decision.confidence = Confidence::Low;
        decision.reasons.push(UNSTEADY.to_owned());
    }
    persist(&mut decision, evidence, thresholds);
    decision
}

/// What of the values has no name any more; none where all have.
fn overflow_text(comparison: &Comparison) -> Option<String> {
    let other = comparison.bins.iter().find(|bin| comparison.basis == Basis::Categories && bin.label == OTHER)?;
    let [reference, current] = [(other.reference, comparison.n_reference), (other.current, comparison.n_current)]
        .map(|(count, all)| count as f64 / all.max(1) as f64 * 100.0);
    Some(format!(
        "categories: more than {CATEGORIES_MAX} names, so {reference:.0} % of the reference and {current:.0} % of the window are \
         {OTHER}, and a change among those is not seen"
    ))
}

fn persist(decision: &mut Decision, evidence: &Evidence<'_>, thresholds: &Thresholds) {
    if decision.level == Level::None {
        return;
    }
    decision.persistence_count = evidence.windows_before.saturating_add(1);
    let lasts = decision.persistence_count >= thresholds.persistence;
    decision.status = match decision.level {
        Level::Critical => Status::Critical,
        _ if lasts => Status::Warn,
        _ => Status::Ok,
    };
    let needed = if decision.level == Level::Critical { 1 } else { thresholds.persistence };
    decision
        .reasons
        .push(format!("window {} in a row beyond every limit, {needed} needed", decision.persistence_count));
}

/// `100 (1 - exp(-excess / 0.25))`.
pub fn severity(psi_excess: f64) -> f64 {
    100.0 * (1.0 - (-psi_excess / 0.25).exp())
}

/// Severity times the column's weight: what to look at first.
pub fn impact(severity: f64, weight: f64) -> f64 {
    severity * weight
}

fn effect(comparison: &Comparison, thresholds: &Thresholds, reasons: &mut Vec<String>) -> Level {
    let psi = ("PSI", Some(comparison.psi), Some((thresholds.psi_warn, thresholds.psi_critical)));
    let js = ("Jensen-Shannon", Some(comparison.jensen_shannon), thresholds.jensen_shannon);
    let scaled = comparison.numeric.as_ref().and_then(|numeric| numeric.wasserstein_scaled);
    let wasserstein = ("scaled Wasserstein", scaled, thresholds.wasserstein_scaled);
    let mut highest = Level::None;
    for (name, value, limits) in [psi, js, wasserstein] {
        let (Some(value), Some((warn, critical))) = (value, limits) else { continue };
        let (level, text) = if value >= critical {
            (Level::Critical, format!("at or above the critical limit {critical}"))
        } else if value >= warn {
            (Level::Warn, format!("at or above the warn limit {warn}"))
        } else {
            (Level::None, format!("below the warn limit {warn}"))
        };
        reasons.push(format!("effect: {name} {value:.4} is {text}"));
        highest = highest.max(level);
    }
    highest
}

fn is_beyond_noise(
    comparison: &Comparison,
    evidence: &Evidence<'_>,
    thresholds: &Thresholds,
    learnt: Option<f64>,
    reasons: &mut Vec<String>,
) -> bool {
    let psi = comparison.psi;
    let mut beyond = true;
    match comparison.psi_noise {
        Some(noise) => {
            beyond &= psi > noise;
            let side = if psi > noise { "above" } else { "within" };
            reasons.push(format!("sampling: PSI {psi:.4} is {side} the 99 % limit {noise:.4} of unchanged samples"));
        }
        None => {
            beyond = false;
            reasons.push("sampling: both sides are in one bin, nothing can differ".to_owned());
        }
    }
    match learnt {
        Some(noise) => {
            beyond &= psi > noise;
            let side = if psi > noise { "above" } else { "within" };
            reasons.push(format!("learnt: PSI {psi:.4} is {side} the reference's own variation {noise:.4}"));
        }
        None => reasons.push(format!(
            "learnt: {} reference windows, {} are needed to learn its own variation; confidence is low",
            evidence.leave_one_out.len(),
            thresholds.windows_min
        )),
    }
    if let Some(q) = evidence.q_value {
        beyond &= q <= thresholds.q_max;
        let side = if q <= thresholds.q_max { "within" } else { "above" };
        let shown = super::run_text::q_text(q);
        reasons.push(format!("multiplicity: q {shown} is {side} the false discovery rate {}", thresholds.q_max));
    }
    beyond
}
