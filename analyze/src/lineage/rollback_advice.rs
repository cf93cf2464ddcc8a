//! Whether to go back to the release before, with the evidence for and against.
//!
//! Advice to roll back is given only where the evidence is complete: the change is the release's own (inputs held
//! equal), the release before is known exactly and can still be used, and nothing else moved in the same windows. In
//! all other cases the answer says what is missing.

use super::deployment::Release;
use super::timeline::{Interval, Status, Timeline};
use super::version_card::{Measure, Row, Verdict, VersionCard};
use crate::window::Window;

/// Whether the artifact of the release before can be deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    /// The registry has it, ready.
    Ready,
    /// The registry does not have it any more, or not ready, with what it says.
    NotUsable(String),
    /// No registry was asked.
    NotKnown,
}

/// What to do about a release.
#[derive(Debug, Clone, PartialEq)]
pub enum Advice {
    /// Go back.
    RollBack {
        /// The exact release to go back to.
        to: Release,
        /// Measures that became worse.
        reasons: Vec<Row>,
    },
    /// Something is worse and something is better: a person weighs them.
    Weigh {
        /// The release before.
        before: Release,
        /// Measures that became worse.
        against: Vec<Row>,
        /// Measures that became better.
        in_favour: Vec<Row>,
    },
    /// Nothing that was judged is worse.
    Keep {
        /// Measures that were not judged, so that "nothing worse" does not cover them.
        not_judged: Vec<Measure>,
    },
    /// The evidence does not suffice, with each thing that is missing and how to supply it.
    NotEnough {
        /// What is missing.
        missing: Vec<String>,
    },
}

/// Measures that speak about the release itself. Raw latency does not: inputs may have changed with it. Nor does drift,
/// which is of the inputs alone.
const OWN_MEASURES: &[Measure] =
    &[Measure::LatencyInputsEqual, Measure::CostPerRequest, Measure::ErrorShare, Measure::Accuracy];

/// Advises about the release that the card's move led to.
///
/// `timeline` is that of the card's service, `before` and `after` the windows of the card, and `availability` is of the
/// release before.
pub fn advise(
    card: &VersionCard,
    timeline: &Timeline,
    (before, after): (Window, Window),
    availability: &Availability,
) -> Advice {
    let of = |verdict: &Verdict| -> Vec<Row> {
        let own = card.rows.iter().filter(|row| OWN_MEASURES.contains(&row.measure));
        own.filter(|row| row.verdict == *verdict).cloned().collect()
    };
    let (worse, better) = (of(&Verdict::Worse), of(&Verdict::Better));
    let not_judged: Vec<Measure> =
        OWN_MEASURES.iter().copied().filter(|&measure| reason(card, measure).is_some()).collect();
    let mut missing = unclean(timeline, before, &card.from, "before");
    missing.extend(unclean(timeline, after, &card.to, "after"));
    if not_judged.len() == OWN_MEASURES.len() || (worse.is_empty() && raw_latency_is_worse(card)) {
        missing.extend(not_judged.iter().filter_map(|&measure| reason(card, measure)));
    }
    if !missing.is_empty() {
        return Advice::NotEnough { missing };
    }
    if worse.is_empty() {
        return Advice::Keep { not_judged };
    }
    match availability {
        Availability::NotUsable(reason) => {
            let text = format!("{} {} cannot be deployed: {reason}", card.from.model, card.from.version);
            Advice::NotEnough { missing: vec![text] }
        }
        Availability::NotKnown => {
            let text = format!(
                "whether {} {} can still be deployed: connect the model registry",
                card.from.model, card.from.version
            );
            Advice::NotEnough { missing: vec![text] }
        }
        Availability::Ready if !better.is_empty() => {
            Advice::Weigh { before: card.from.clone(), against: worse, in_favour: better }
        }
        Availability::Ready => Advice::RollBack { to: card.from.clone(), reasons: worse },
    }
}

/// Latency rose, and whether the release did it is not known.
fn raw_latency_is_worse(card: &VersionCard) -> bool {
    let worse = |measure| card.row(measure).is_some_and(|row| row.verdict == Verdict::Worse);
    let raw = [Measure::LatencyMean, Measure::LatencyP50, Measure::LatencyP95];
    raw.into_iter().any(worse) && reason(card, Measure::LatencyInputsEqual).is_some()
}

/// Why a measure was not judged; `None` where it was.
fn reason(card: &VersionCard, measure: Measure) -> Option<String> {
    match card.row(measure).map(|row| &row.verdict) {
        Some(Verdict::NotJudged(reason)) => Some(reason.clone()),
        Some(_) => None,
        None => Some(format!("the card has no row for {measure:?}")),
    }
}

/// What keeps a window from being that of one release.
fn unclean(timeline: &Timeline, window: Window, expected: &Release, side: &str) -> Vec<String> {
    let mut found = Vec::new();
    if window.start_us >= window.end_us {
        found.push(format!("the window {side} the move is empty"));
        return found;
    }
    let within = |interval: &&Interval| {
        interval.from_us < window.end_us && interval.to_us.is_none_or(|to_us| to_us > window.start_us)
    };
    let mut covered = false;
    for interval in timeline.intervals.iter().filter(within) {
        covered |= interval.from_us <= window.start_us;
        match &interval.status {
            Status::Known { release, .. } if release == expected => {}
            Status::Known { release, .. } => {
                found.push(format!(
                    "{} {} ran {side} the move, too: choose a shorter window",
                    release.model, release.version
                ));
            }
            Status::Mixed(_) => {
                found.push(format!("several releases ran at once {side} the move: choose a window without them"))
            }
            Status::Flapping(_) => {
                found.push(format!("version labels flap {side} the move: give each instance one label"))
            }
            Status::Uncertain(_) | Status::Unknown(_) => {
                found.push(format!("which release ran {side} the move is not known throughout: send driftwatt.model.version, or mark deployments"));
            }
        }
    }
    if !covered {
        found.push(format!(
            "which release ran at the start of the window {side} the move is not known: choose a later start"
        ));
    }
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::super::deployment::{Evidence, Observation, Target};
    use super::super::timeline::{TimelineRules, timelines};
    use super::super::version_card::Estimate;
    use super::*;

    const WINDOWS: (Window, Window) = (Window { start_us: 10, end_us: 100 }, Window { start_us: 100, end_us: 200 });

    fn release(version: &str) -> Release {
        Release { model: "resnet".to_owned(), version: version.to_owned() }
    }

    fn timeline(marks: &[(i64, &str)]) -> Timeline {
        let target = Target { service: "resize".to_owned(), environment: None };
        let mark = |&(time_us, version): &(i64, &str)| {
            let evidence = Evidence::Mark { release: release(version) };
            Observation { target: target.clone(), time_us, evidence, received_us: time_us }
        };
        let observations: Vec<Observation> = marks.iter().map(mark).collect();
        timelines(&observations, &TimelineRules::default(), 1_000).remove(&target).unwrap()
    }

    fn card(verdicts: &[(Measure, Verdict)]) -> VersionCard {
        let row = |measure: Measure| {
            let chosen = verdicts.iter().find(|(of, _)| *of == measure).map(|(_, verdict)| verdict.clone());
            let estimate = Some(Estimate { value: 1.0, low: 0.5, high: 1.5, n: 900 });
            let verdict = chosen.unwrap_or(Verdict::NoDifference);
            Row { measure, before: estimate, after: estimate, difference: estimate, verdict }
        };
        VersionCard {
            from: release("2.9"),
            to: release("2.10"),
            coverage_before: 1.0,
            coverage_after: 1.0,
            requests_before: 900,
            requests_after: 900,
            rows: OWN_MEASURES.iter().copied().chain([Measure::LatencyMean, Measure::Drift]).map(row).collect(),
        }
    }

    fn missing(advice: &Advice) -> String {
        match advice {
            Advice::NotEnough { missing } => missing.join("\n"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_release_that_is_worse_goes_back_to_the_exact_one_before() {
        let clean = timeline(&[(1, "2.9"), (100, "2.10")]);
        let worse = card(&[(Measure::ErrorShare, Verdict::Worse)]);
        match advise(&worse, &clean, WINDOWS, &Availability::Ready) {
            Advice::RollBack { to, reasons } => {
                assert_eq!((to, reasons.len()), (release("2.9"), 1));
                assert_eq!(reasons[0].measure, Measure::ErrorShare);
            }
            other => panic!("{other:?}"),
        }
        let both = card(&[(Measure::LatencyInputsEqual, Verdict::Worse), (Measure::Accuracy, Verdict::Better)]);
        assert!(matches!(advise(&both, &clean, WINDOWS, &Availability::Ready), Advice::Weigh { .. }));
        assert_eq!(advise(&card(&[]), &clean, WINDOWS, &Availability::NotKnown), Advice::Keep { not_judged: vec![] });
    }

    #[test]
    fn slower_alone_is_no_reason_while_inputs_may_have_changed() {
        let clean = timeline(&[(1, "2.9"), (100, "2.10")]);
        let split = Verdict::NotJudged("inputs are not held equal".to_owned());
        let slower = card(&[(Measure::LatencyMean, Verdict::Worse), (Measure::LatencyInputsEqual, split)]);
        assert_eq!(missing(&advise(&slower, &clean, WINDOWS, &Availability::Ready)), "inputs are not held equal");
        let explained = card(&[(Measure::LatencyMean, Verdict::Worse)]);
        assert!(matches!(advise(&explained, &clean, WINDOWS, &Availability::Ready), Advice::Keep { .. }));
        let drifted = card(&[(Measure::Drift, Verdict::Worse)]);
        assert!(matches!(advise(&drifted, &clean, WINDOWS, &Availability::Ready), Advice::Keep { .. }));
    }

    #[test]
    fn short_evidence_gives_no_advice() {
        let worse = card(&[(Measure::ErrorShare, Verdict::Worse)]);
        let check = |marks: &[(i64, &str)], availability: &Availability, expected: &str| {
            let said = missing(&advise(&worse, &timeline(marks), WINDOWS, availability));
            assert!(said.contains(expected), "{said}");
        };
        let clean = [(1, "2.9"), (100, "2.10")];
        check(&clean, &Availability::NotKnown, "connect the model registry");
        check(&clean, &Availability::NotUsable("deleted".to_owned()), "resnet 2.9 cannot be deployed: deleted");
        check(&[(1, "2.9"), (100, "2.10"), (150, "2.11")], &Availability::Ready, "resnet 2.11 ran after the move, too");
        check(&[(50, "2.9"), (100, "2.10")], &Availability::Ready, "at the start of the window before");
        check(
            &[(1, "2.9"), (1, "2.8"), (100, "2.10")],
            &Availability::Ready,
            "before the move is not known throughout",
        );
        let unjudged = Verdict::NotJudged("7 requests after the move, 500 are needed".to_owned());
        let all: Vec<_> = OWN_MEASURES.iter().map(|&measure| (measure, unjudged.clone())).collect();
        let said = missing(&advise(&card(&all), &timeline(&clean), WINDOWS, &Availability::Ready));
        assert!(said.contains("500 are needed"), "{said}");
    }
}
