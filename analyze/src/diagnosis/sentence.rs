//! The verdict in words: one sentence with numbers, then evidence in the order in which a person should look: machines first,
//! then the model and its inputs.

use super::{
    Comparison, Diagnosis,
    inputs::{CategoryChange, FeatureChange},
    service_window::{Dimension, Role, SignalKind},
    system_rank::{CHANGE_MIN, MOVED_SCORE_MIN, RankedSignal},
    verdict::Verdict,
};

/// What a finding is about, for whoever wants to look it up.
#[derive(Debug, Clone, PartialEq)]
pub enum EvidenceSubject {
    /// A deployment, a restart.
    Event,
    /// A signal of one container; none is the whole service.
    Signal(SignalKind, Option<(Dimension, String)>),
    /// A group of requests.
    Place(Dimension, String),
    /// Latency of all requests.
    Latency,
    /// An input.
    Input(Role),
    /// An attribute whose values came, went or moved.
    Category(String),
}

/// One finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// What was found, with its size.
    pub finding: String,
    /// What it is about.
    pub subject: EvidenceSubject,
    /// Effect on the mean latency, milliseconds, with its 95 % interval, where it has one.
    pub effect_ms: Option<(f64, (f64, f64))>,
    /// Minute of its onset, where it has one.
    pub onset_minute: Option<usize>,
    /// What would show that it is wrong.
    pub falsified_by: &'static str,
    /// What a person checks next.
    pub next_check: &'static str,
}

/// The verdict in one plain sentence.
pub fn sentence(diagnosis: &Diagnosis) -> String {
    let label = if diagnosis.simulated { "Simulated: " } else { "" };
    let service = &diagnosis.service;
    let Some(comparison) = &diagnosis.comparison else {
        let why = diagnosis.reasons.join("; ");
        return match diagnosis.verdict {
            Verdict::None => format!("{label}{service}: nothing changed; {why}."),
            _ => format!("{label}{service}: the cause cannot be told; {why}."),
        };
    };
    let moved = movement(comparison);
    let cause = match diagnosis.verdict {
        Verdict::None => "no part of that is larger than chance or 5 %".to_owned(),
        Verdict::Inconclusive => format!("the cause cannot be told: {}", diagnosis.reasons.join("; ")),
        Verdict::Saturation => {
            format!("{}, because more work is offered than the replicas take at once", parts(comparison))
        }
        Verdict::Input => format!("{}{}", parts(comparison), unchanged(comparison)),
        _ => parts(comparison),
    };
    format!("{label}{service}: {moved}; {cause}.")
}

/// Most signals that are named as unchanged.
const UNCHANGED_SHOWN: usize = 4;

/// Signs of faulty machines that were looked at and did not move.
fn unchanged(comparison: &Comparison) -> String {
    let mut kinds: Vec<SignalKind> = Vec::new();
    for signal in comparison.signals.iter().filter(|signal| signal.kind.is_fault()) {
        let moved =
            comparison.signals.iter().any(|other| other.kind == signal.kind && other.change.abs() >= CHANGE_MIN);
        if !moved && !kinds.contains(&signal.kind) {
            kinds.push(signal.kind);
        }
    }
    kinds.sort_unstable();
    let names: Vec<&str> = kinds.into_iter().take(UNCHANGED_SHOWN).map(SignalKind::as_str).collect();
    if names.is_empty() { String::new() } else { format!("; unchanged: {}", names.join(", ")) }
}

/// `p95 rose 41 % (1200 ms to 1690 ms)`.
fn movement(comparison: &Comparison) -> String {
    let split = &comparison.split;
    let (name, (before, after)) = match comparison.standardised.as_ref().and_then(|check| check.p95_ms) {
        Some(p95_ms) => ("p95", p95_ms),
        None => ("mean latency", (split.before_ms, split.after_ms)),
    };
    let word = if after >= before { "rose" } else { "fell" };
    format!("{name} {word} {:.0} % ({before:.0} ms to {after:.0} ms)", 100.0 * (after / before - 1.0).abs())
}

/// Each material cause with its milliseconds of the mean.
fn parts(comparison: &Comparison) -> String {
    let split = &comparison.split;
    let causes = comparison.causes.iter().filter(|cause| cause.material).map(|cause| {
        let what = match cause.verdict {
            Verdict::Input => comparison.features.first().map_or("other inputs".to_owned(), feature_text),
            Verdict::Model => "another model version or behaviour".to_owned(),
            Verdict::Saturation => "waiting for other requests".to_owned(),
            _ => machine_text(comparison),
        };
        format!("{:+.0} ms from {what}", cause.part_ms.value)
    });
    let causes: Vec<String> = causes.collect();
    format!("of {:+.0} ms in the mean, {}", split.after_ms - split.before_ms, causes.join(" and "))
}

fn feature_text(change: &FeatureChange) -> String {
    let role = change.role.as_str();
    // Where the typical request is as before, it is the others that moved the mean.
    let moved = change.medians.filter(|(old, new)| (new - old).abs() >= 0.05 * old);
    let (name, (before, after)) = moved.map_or(("mean", change.means), |medians| ("median", medians));
    let mut text = format!("{role} ({name} {} to {})", number(before), number(after));
    if let Some(cap) = &change.cap_lost {
        let above = 100.0 * cap.above.1;
        text += &format!(", {above:.0} % of them above {}, the size they were scaled down to before", number(cap.cap));
    }
    if let Some(mix) = &change.mix {
        let (value, before, after) = &mix.segment;
        text += &format!(
            ", as {} {value} went from {:.0} % to {:.0} % of requests",
            mix.label,
            100.0 * before,
            100.0 * after
        );
    }
    text
}

fn machine_text(comparison: &Comparison) -> String {
    let place = comparison.localised.iter().find(|group| group.is_local());
    let place = place.map_or(String::new(), |group| format!(" on {} {}", group.dimension.as_str(), group.value));
    match comparison.signals.iter().find(|signal| is_cause(signal)) {
        Some(signal) => format!("machines{place} ({})", signal_text(signal)),
        None => format!("machines{place}"),
    }
}

fn is_cause(signal: &RankedSignal) -> bool {
    signal.kind.is_fault() && signal.in_time && signal.score >= MOVED_SCORE_MIN
}

fn signal_text(signal: &RankedSignal) -> String {
    format!("{} {} to {}", signal.kind.as_str(), number(signal.medians.0), number(signal.medians.1))
}

/// Evidence in the order to check it: events, machine signals, place, inputs.
pub fn evidence(diagnosis: &Diagnosis) -> Vec<Evidence> {
    let mut found: Vec<Evidence> = diagnosis
        .events
        .iter()
        .map(|event| Evidence {
            finding: format!("{} within 15 minutes of the change", event.what),
            subject: EvidenceSubject::Event,
            effect_ms: None,
            onset_minute: Some(event.minute.max(0.0) as usize),
            falsified_by: "the change stays after a rollback",
            next_check: "ask who made it, and roll it back on one replica",
        })
        .collect();
    let Some(comparison) = &diagnosis.comparison else { return found };
    for signal in comparison.signals.iter().filter(|signal| signal.score >= MOVED_SCORE_MIN).take(3) {
        let place = signal.container.as_ref().map_or("the service", |(_, value)| value);
        found.push(Evidence {
            finding: format!("{} on {place}", signal_text(signal)),
            subject: EvidenceSubject::Signal(signal.kind, signal.container.clone()),
            effect_ms: None,
            onset_minute: signal.onset_minute,
            falsified_by: "requests on containers where it did not move changed as much",
            next_check: next_check(signal.kind),
        });
    }
    if let Some(starved) = &comparison.starved_gpu {
        let by = starved.by.map_or("something unmeasured", SignalKind::as_str);
        let (before, after) = (100.0 * starved.utilisation.0, 100.0 * starved.utilisation.1);
        found.push(Evidence {
            finding: format!(
                "GPU utilisation fell from {before:.0} % to {after:.0} % while requests slowed: it waits, for {by}"
            ),
            subject: EvidenceSubject::Signal(SignalKind::GpuUtilisation, None),
            effect_ms: None,
            onset_minute: None,
            falsified_by: "fewer requests arrived",
            next_check: "look at the processor, disk and network that feed the GPU",
        });
    }
    for group in comparison.localised.iter().filter(|group| group.is_local()) {
        let (dimension, value, share) = (group.dimension.as_str(), &group.value, 100.0 * group.share_removed);
        found.push(Evidence {
            finding: format!("without {dimension} {value}, {share:.0} % of the change at equal inputs is gone"),
            subject: EvidenceSubject::Place(group.dimension, group.value.clone()),
            effect_ms: None,
            onset_minute: None,
            falsified_by: "the change stays when it takes no requests",
            next_check: "drain it and watch the latency of the others",
        });
    }
    found.extend(sides(comparison, diagnosis.onset.as_ref().map(|onset| onset.minute)));
    found.extend(comparison.categories.iter().take(CATEGORIES_SHOWN).map(category));
    found
}

/// The two parts of the change.
fn sides(comparison: &Comparison, onset_minute: Option<usize>) -> [Evidence; 2] {
    let conditional = comparison.conditional_ms;
    let at_equal_inputs = Evidence {
        finding: "change at equal inputs (load and machines)".to_owned(),
        subject: EvidenceSubject::Latency,
        effect_ms: Some((conditional.value, conditional.interval)),
        onset_minute,
        falsified_by: "requests of equal size took as long before",
        next_check: "replay one recorded request on an idle replica",
    };
    let inputs = comparison.features.first().map_or("inputs".to_owned(), feature_text);
    let at_new_inputs = comparison.standardised.as_ref().and_then(|check| check.counterfactual_p95_ms);
    let at_new_inputs = at_new_inputs.map_or(String::new(), |p95| {
        format!("; the former server would have had a p95 of {p95:.0} ms with these inputs")
    });
    let by_inputs = Evidence {
        finding: format!("change by what was asked: {inputs}{at_new_inputs}"),
        subject: comparison
            .features
            .first()
            .map_or(EvidenceSubject::Latency, |feature| EvidenceSubject::Input(feature.role)),
        effect_ms: Some((comparison.input_ms.value, comparison.input_ms.interval)),
        onset_minute,
        falsified_by: "latency stays changed among requests of the former size",
        next_check: "ask the client or tenant what it sends since then",
    };
    [at_equal_inputs, by_inputs]
}

/// Most categories that are named.
const CATEGORIES_SHOWN: usize = 3;

fn category(change: &CategoryChange) -> Evidence {
    let (before, after) = (100.0 * change.shares.0, 100.0 * change.shares.1);
    let new = if change.is_new { " (new)" } else { "" };
    Evidence {
        finding: format!("{} {}{new} went from {before:.0} % to {after:.0} % of requests", change.label, change.value),
        subject: EvidenceSubject::Category(change.label.clone()),
        effect_ms: None,
        onset_minute: None,
        falsified_by: "latency changed as much among the requests of the others",
        next_check: "ask what changed there, and compare its requests with those of the others",
    }
}

fn next_check(kind: SignalKind) -> &'static str {
    match kind {
        SignalKind::GpuClock | SignalKind::GpuThrottle => "read the throttle reasons, temperature and power limit",
        SignalKind::XidErrors | SignalKind::EccErrors => "read the kernel log for XID codes and take the GPU out",
        SignalKind::CpuStarvation | SignalKind::CpuUtilisation => "look for quota and neighbours on the host",
        SignalKind::MemoryPressure | SignalKind::MemoryUsage => "look for the process that grew on the host",
        SignalKind::GpuMemoryUsage => "look for what else holds memory of the GPU, and at the batch size",
        SignalKind::DiskLatency | SignalKind::IoPressure => "look for who reads or writes, and at the disk's health",
        SignalKind::NetworkRetransmits | SignalKind::NetworkDrops => {
            "look at the switch, the cable and other hosts of the zone"
        }
        SignalKind::Replicas => "find out why replicas left",
        SignalKind::QueueLength | SignalKind::KvCacheUsage => "add replicas, or limit what is admitted",
        SignalKind::GpuUtilisation => "compare with the number of requests",
    }
}

/// Three significant digits.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::{
        Rules, diagnose,
        scenario::{Kind, simulate},
    };

    #[test]
    fn images_no_longer_scaled_down_are_named_with_their_milliseconds() {
        let scenario = simulate(Kind::Resolution, 5, 2_000);
        let diagnosis = diagnose(&scenario.window, &scenario.question, &Rules::default()).unwrap();
        let text = sentence(&diagnosis);
        assert!(text.starts_with("Simulated: ") && text.contains("p95 rose"), "{text}");
        assert!(text.contains("ms from megapixels") && text.contains("scaled down to before"), "{text}");
        println!("{text}");
    }

    #[test]
    fn missing_telemetry_is_named_and_a_deployment_comes_first() {
        let scenario = simulate(Kind::MissingTelemetry, 0, 2_000);
        let diagnosis = diagnose(&scenario.window, &scenario.question, &Rules::default()).unwrap();
        assert!(sentence(&diagnosis).contains("driftwatt.input.tokens"), "{}", sentence(&diagnosis));
        let scenario = simulate(Kind::SlowerVersion, 0, 2_000);
        let diagnosis = diagnose(&scenario.window, &scenario.question, &Rules::default()).unwrap();
        assert!(evidence(&diagnosis)[0].finding.starts_with("deployment"), "{:?}", evidence(&diagnosis)[0]);
    }
}
