//! The decision: which parts of the change matter, what each may be called, and when to abstain.

use super::{
    bootstrap::Estimate,
    localise::Localised,
    service_window::{Dimension, SignalKind},
    system_rank::{MOVED_SCORE_MIN, RankedSignal},
};
pub use crate::drift::decision::Confidence;

/// What the latency change is due to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing material changed.
    None,
    /// Other inputs.
    Input,
    /// Another model version, or another behaviour of the model.
    Model,
    /// Slower (or faster) machines.
    System,
    /// More work than the machines can take without queueing.
    Saturation,
    /// Two of these, each of weight.
    Mixed,
    /// The telemetry does not tell.
    Inconclusive,
}

impl Verdict {
    /// Name in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Input => "input",
            Self::Model => "model",
            Self::System => "system",
            Self::Saturation => "saturation",
            Self::Mixed => "mixed",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// Limits of the decision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VerdictRules {
    /// Smallest material part, as a share of the mean before. Default 0.05.
    pub material_share: f64,
    /// Standard errors that a part must pass. Default 2.6.
    pub errors_min: f64,
    /// Share of the larger part from which the smaller makes the verdict mixed. Default 0.2.
    pub mixed_share: f64,
    /// Change of the offered work from which load explains a queue. Default 0.05.
    pub work_growth_min: f64,
    /// Distance of the version or finish-reason mix from which it moved. Default 0.2 and 0.05.
    pub version_moved: f64,
    /// See `version_moved`.
    pub finish_moved: f64,
}

impl Default for VerdictRules {
    fn default() -> Self {
        Self {
            material_share: 0.05,
            errors_min: 2.6,
            mixed_share: 0.2,
            work_growth_min: 0.05,
            version_moved: 0.2,
            finish_moved: 0.05,
        }
    }
}

/// What the decision reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings<'a> {
    /// Mean latency before, milliseconds.
    pub before_ms: f64,
    /// Part of the inputs without output tokens.
    pub asked_ms: Estimate,
    /// Part of output tokens.
    pub output_ms: Estimate,
    /// Both.
    pub input_ms: Estimate,
    /// Part at equal inputs: load and system.
    pub conditional_ms: Estimate,
    /// Whether inputs occur on both sides, so that this part is measured.
    pub conditional_known: bool,
    /// Part of the reported load in it (batch, queue).
    pub load_ms: Estimate,
    /// Ranked signals.
    pub signals: &'a [RankedSignal],
    /// Localisation.
    pub localised: &'a [Localised],
    /// Offered work after over before, less 1, a replica where replicas are known; none where arrivals are unknown.
    pub work_growth: Option<f64>,
    /// Distance of the version mixes, where versions are known.
    pub version_distance: Option<f64>,
    /// Distance of the finish-reason mixes, where known.
    pub finish_distance: Option<f64>,
}

/// One cause and its milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cause {
    /// Verdict that it alone would give.
    pub verdict: Verdict,
    /// Its part of the change of the mean.
    pub part_ms: Estimate,
    /// Whether it passes the limits.
    pub material: bool,
}

/// Verdict, parts and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Verdict.
    pub verdict: Verdict,
    /// Causes, largest first.
    pub causes: Vec<Cause>,
    /// Sentences that led to it.
    pub reasons: Vec<String>,
}

/// Decides.
pub fn decide(findings: &Findings<'_>, rules: &VerdictRules) -> Decision {
    let mut reasons = Vec::new();
    let model_moved = model_moved(findings, rules, &mut reasons);
    let conditional = conditional_cause(findings, rules, &mut reasons);
    let mut causes = Vec::new();
    let mut add = |verdict: Verdict, part_ms: Estimate| {
        let material = is_material(findings, part_ms, rules);
        causes.push(Cause { verdict, part_ms, material });
    };
    if model_moved {
        add(Verdict::Input, findings.asked_ms);
        add(Verdict::Model, findings.output_ms);
    } else {
        add(Verdict::Input, findings.input_ms);
    }
    add(conditional, findings.conditional_ms);
    if !findings.conditional_known && conditional == Verdict::Inconclusive {
        reasons.push("inputs and machines (or the version) changed together".into());
        return Decision { verdict: Verdict::Inconclusive, causes, reasons };
    }
    causes.sort_by(|a, b| b.part_ms.value.abs().total_cmp(&a.part_ms.value.abs()));
    let verdict = combine(&causes, rules, &mut reasons);
    Decision { verdict, causes, reasons }
}

/// Whether output length counts as the model's doing.
fn model_moved(findings: &Findings<'_>, rules: &VerdictRules, reasons: &mut Vec<String>) -> bool {
    let passes = |distance: Option<f64>, limit: f64| distance.is_some_and(|distance| distance >= limit);
    let version = passes(findings.version_distance, rules.version_moved);
    let finish = passes(findings.finish_distance, rules.finish_moved);
    if version {
        reasons
            .push("the model version changed between the two windows: output length counts as model behaviour".into());
    } else if finish && findings.output_ms.value != 0.0 {
        reasons.push("finish reasons changed between the two windows: output length counts as model behaviour".into());
    }
    version || finish
}

/// What the change at equal inputs is called.
fn conditional_cause(findings: &Findings<'_>, rules: &VerdictRules, reasons: &mut Vec<String>) -> Verdict {
    if findings.conditional_known && !is_material(findings, findings.conditional_ms, rules) {
        return Verdict::System;
    }
    let fault = explaining(findings, SignalKind::is_fault);
    let queue = explaining(findings, SignalKind::is_queue);
    let version = findings.version_distance.is_some_and(|distance| distance >= rules.version_moved);
    let machine = findings.localised.iter().find(|group| {
        group.is_local() && matches!(group.dimension, Dimension::Host | Dimension::Gpu | Dimension::Zone)
    });
    if !findings.conditional_known {
        reasons.push(
            "no request after the change resembles one before: the machines are judged by their signals alone".into(),
        );
        return if fault.is_some() || version { Verdict::Inconclusive } else { Verdict::System };
    }
    if let Some(fault) = fault {
        if version {
            let name = fault.kind.as_str();
            reasons.push(format!("the model version and {name} moved together: time cannot tell them apart"));
            return Verdict::Inconclusive;
        }
        reasons.push(format!("{} moved with the slowdown, at the same time or before", fault.kind.as_str()));
        return Verdict::System;
    }
    if version {
        reasons.push("the same requests take another time on the new version, and no machine signal moved".into());
        return Verdict::Model;
    }
    let grew = findings.work_growth.is_some_and(|growth| growth >= rules.work_growth_min);
    let by_load = findings.load_ms.value / findings.conditional_ms.value >= 0.5;
    let waits = queue.is_some() || by_load;
    if findings.conditional_ms.value > 0.0 && grew && waits {
        reasons.push("more work was offered, requests wait, and no machine signal is abnormal".into());
        return Verdict::Saturation;
    }
    if findings.conditional_ms.value < 0.0 && findings.work_growth.is_some_and(|g| g <= -rules.work_growth_min) && waits
    {
        reasons.push("less work was offered and requests wait less".into());
        return Verdict::Saturation;
    }
    if let Some(group) = machine {
        let (dimension, value) = (group.dimension.as_str(), &group.value);
        reasons.push(format!("no signal moved, but the slowdown sits on {dimension} {value}"));
        return Verdict::System;
    }
    reasons.push(
        "requests at equal inputs changed, yet no machine signal moved, no version changed and no host stands out"
            .into(),
    );
    Verdict::Inconclusive
}

/// The strongest signal of a kind that moved in time and *where* the change is: on the container that holds it, or on half of
/// the containers. One disk that got slower on one of many hosts explains nothing that all of them show.
pub fn explaining<'a>(findings: &Findings<'a>, wanted: fn(SignalKind) -> bool) -> Option<&'a RankedSignal> {
    let moved = |signal: &&RankedSignal| (signal.in_time || signal.kind.is_queue()) && signal.score >= MOVED_SCORE_MIN;
    findings.signals.iter().filter(moved).filter(|signal| wanted(signal.kind)).find(|signal| {
        let same = |other: &&RankedSignal| other.kind == signal.kind;
        let all = findings.signals.iter().filter(same).count();
        let with_it = findings.signals.iter().filter(same).filter(moved).count();
        let holds = |group: &Localised| {
            let here = signal.container.as_ref().is_some_and(|(d, v)| *d == group.dimension && *v == group.value);
            here && group.is_local()
        };
        2 * with_it >= all || findings.localised.iter().any(holds)
    })
}

/// Whether a part passes both limits.
fn is_material(findings: &Findings<'_>, part: Estimate, rules: &VerdictRules) -> bool {
    let limit = f64::max(rules.material_share * findings.before_ms, rules.errors_min * part.standard_error);
    part.value.abs() >= limit
}

fn combine(causes: &[Cause], rules: &VerdictRules, reasons: &mut Vec<String>) -> Verdict {
    let largest = causes.iter().filter(|cause| cause.material).map(|c| c.part_ms.value.abs()).fold(0.0, f64::max);
    let heavy: Vec<Verdict> = causes
        .iter()
        .filter(|cause| cause.material && cause.part_ms.value.abs() >= rules.mixed_share * largest)
        .map(|cause| cause.verdict)
        .collect();
    match heavy.as_slice() {
        [] => {
            reasons.push("no part of the change is material".into());
            Verdict::None
        }
        verdicts if verdicts.contains(&Verdict::Inconclusive) => Verdict::Inconclusive,
        [one] => *one,
        // Longer inputs that fill the queue are one cause, demand; its larger effect names it.
        [first @ (Verdict::Input | Verdict::Saturation), Verdict::Input | Verdict::Saturation] => {
            reasons.push("the inputs raise the work, and the work makes requests wait: one cause".into());
            *first
        }
        [first, rest @ ..] if rest.iter().all(|verdict| verdict == first) => *first,
        _ => Verdict::Mixed,
    }
}
