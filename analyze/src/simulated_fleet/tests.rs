//! Verdicts on a small simulated fleet, and what the simulation itself is like.

use super::{
    verdicts::{Tally, judge, verdict},
    *,
};
use crate::recommendation::{LedgerState, Verdict};

#[test]
fn shrink_verdicts_hold_in_the_weeks_that_follow() {
    let tallies = judge(7, 42, 60);
    let all = tallies.iter().fold(Tally::default(), |sum, (_, tally)| sum.plus(*tally));
    // One instant a minute overstates the peaks of small fleets, so fewer are found than at 15 s (`docs/idle.md`).
    assert!(all.precision().unwrap() >= 0.98 && all.recall().unwrap() >= 0.60, "{tallies:?}");
    assert!(all.shrinkable_count >= 10, "the question must be asked: {tallies:?}");
    for (kind, tally) in tallies.iter().filter(|(kind, _)| !kind.is_measured()) {
        assert_eq!(tally.unknown_count, tally.service_count, "{kind:?} got a verdict");
    }
    let measured = |kind: Kind| tallies.iter().find(|(of, _)| *of == kind).unwrap().1;
    assert_eq!(measured(Kind::Busy).right_count + measured(Kind::Busy).wrong_count, 0);
    assert_eq!(measured(Kind::Seasonal).unknown_count, 0, "a working exporter is not taken for a hung one");
}

#[test]
fn most_samples_of_a_serving_fleet_are_zero_while_memory_is_held() {
    let service = SimulatedService::new(Kind::Seasonal, 5);
    let samples = service.samples(0, 60);
    assert_eq!(samples, SimulatedService::new(Kind::Seasonal, 5).samples(0, 60), "a seed is a fleet");
    let zero = samples.iter().filter(|sample| sample.duty == Some(0.0)).count() as f64 / samples.len() as f64;
    assert!((0.5..0.95).contains(&zero), "{zero}");
    assert!(samples.iter().all(|sample| sample.memory_bytes.unwrap() > GIB));
    let mean = samples.iter().filter_map(|sample| sample.duty).sum::<f64>() / samples.len() as f64;
    let observed = &service.demand()[..OBSERVED_DAYS * DAY_MINUTES];
    let truth = observed.iter().sum::<f64>() / observed.len() as f64 / service.gpu_count as f64;
    assert!((mean / truth - 0.95).abs() < 0.05, "samples are honest: {mean} of {truth}, this replica gets 95 %");
}

#[test]
fn a_recommendation_explains_itself_and_moves_through_the_ledger() {
    let service = SimulatedService::new(Kind::IdleHeld, 3);
    let Verdict::Shrink(got) = verdict(&service, 60) else { panic!("an idle service") };
    assert_eq!(got.proposed as usize, service.gpu_count - service.gpu_count / 4);
    let list = got.saving_list.unwrap();
    assert!((list.expected - f64::from(got.current - got.proposed) * 168.0 * 4.0).abs() < 1e-6);
    assert!(list.low <= list.expected && list.expected <= list.high);
    assert!(got.explanation.contains("replicas was busy on average"), "{}", got.explanation);
    let until_us = got.expires_us;
    let late = LedgerState::Proposed.advanced(LedgerState::Accepted(until_us), until_us);
    assert!(late.unwrap_err().to_string().contains("past its expiry"));
    let accepted = LedgerState::Proposed.advanced(LedgerState::Accepted(until_us - 1), until_us).unwrap();
    assert!(accepted.advanced(LedgerState::Rejected(0), until_us).is_err());
    let hours = got.gpu_hours.expected;
    let realised = LedgerState::Realised { predicted: hours, realised: hours };
    assert_eq!(accepted.advanced(realised, until_us), Ok(realised));
    assert!(LedgerState::Proposed.advanced(realised, until_us).is_err());
}
