use super::*;

const NOW_US: i64 = 1_000 * MINUTE_US;

pub(super) fn release(version: &str) -> Release {
    Release { model: "resnet".to_owned(), version: version.to_owned() }
}

pub(super) fn target() -> Target {
    Target { service: "resize".to_owned(), environment: Some("production".to_owned()) }
}

pub(super) fn at(minute: i64, evidence: Evidence) -> Observation {
    Observation { target: target(), time_us: minute * MINUTE_US, evidence, received_us: minute * MINUTE_US }
}

pub(super) fn mark(minute: i64, version: &str) -> Observation {
    at(minute, Evidence::Mark { release: release(version) })
}

pub(super) fn alias(not_before: i64, minute: i64, version: &str) -> Observation {
    let release = (!version.is_empty()).then(|| release(version));
    at(minute, Evidence::Alias { alias: "champion".to_owned(), release, not_before_us: not_before * MINUTE_US })
}

pub(super) fn seen(instance: &str, from: i64, until: i64, version: &str) -> Observation {
    let until_us = until * MINUTE_US;
    at(from, Evidence::Sighting { instance: instance.to_owned(), release: release(version), until_us })
}

fn timeline(observations: &[Observation]) -> Timeline {
    timelines(observations, &TimelineRules::default(), NOW_US).remove(&target()).unwrap()
}

/// Each interval as `minute status`, where a claim of another release follows in brackets.
fn check(observations: &[Observation], expected: &[&str]) {
    let built = timeline(observations);
    let said: Vec<String> = built.intervals.iter().map(text).collect();
    assert_eq!(said, expected);
}

fn text(interval: &Interval) -> String {
    let names = |releases: &[Release]| releases.iter().map(|one| one.version.as_str()).collect::<Vec<_>>().join("|");
    let status = match &interval.status {
        Status::Known { release, basis, confidence } => format!("{} {basis:?} {confidence:?}", release.version),
        Status::Mixed(releases) => format!("mixed {}", names(releases)),
        Status::Flapping(releases) => format!("flapping {}", names(releases)),
        Status::Uncertain(releases) => format!("uncertain {}", names(releases)),
        Status::Unknown(reason) => format!("unknown {reason:?}"),
    };
    let claimed = interval.claimed.as_ref().map_or(String::new(), |claim| format!(" ({})", claim.version));
    format!("{} {status}{claimed}", interval.from_us / MINUTE_US)
}

#[test]
fn statements_hold_until_the_next_one() {
    check(&[mark(5, "2"), mark(20, "3"), mark(30, "2")], &["5 2 Mark Stated", "20 3 Mark Stated", "30 2 Mark Stated"]);
}

#[test]
fn an_alias_that_moved_between_two_polls_is_uncertain_in_between() {
    check(
        &[alias(5, 5, "2"), alias(19, 20, "3"), alias(40, 41, "")],
        &["5 2 Alias Stated", "19 uncertain 2|3", "20 3 Alias Stated", "40 uncertain 3", "41 unknown Withdrawn"],
    );
}

#[test]
fn moves_noticed_by_polls_that_took_a_while_stay_in_order() {
    check(
        &[alias(5, 5, "2"), alias(9, 20, "3"), alias(19, 30, "4")],
        &["5 2 Alias Stated", "9 uncertain 2|3", "19 uncertain 2|3|4", "20 uncertain 3|4", "30 4 Alias Stated"],
    );
}

#[test]
fn a_mark_dates_the_alias_move_that_was_noticed_later() {
    check(
        &[alias(5, 5, "2"), mark(20, "3"), alias(18, 22, "3")],
        &["5 2 Alias Stated", "20 3 Mark Stated", "22 3 Alias Stated"],
    );
}

#[test]
fn statements_whose_order_is_not_known_stay_uncertain() {
    check(
        &[mark(5, "2"), mark(20, "4"), alias(18, 22, "3")],
        &["5 2 Mark Stated", "18 uncertain 2|3|4", "20 uncertain 3|4"],
    );
    check(&[mark(5, "2"), mark(5, "3")], &["5 uncertain 2|3"]);
    check(&[mark(5, "2"), alias(5, 5, "3")], &["5 2 Mark Stated"]);
}

#[test]
fn reports_win_over_an_alias_that_no_instance_has_loaded() {
    check(
        &[alias(5, 5, "2"), seen("a", 6, 40, "2"), alias(20, 20, "3"), seen("b", 41, 1_000, "3")],
        &["5 2 Alias Stated", "6 2 Telemetry Confirmed", "20 2 Telemetry Confirmed (3)", "41 3 Telemetry Confirmed"],
    );
}

#[test]
fn a_restart_changes_nothing_and_a_rolling_update_is_mixed() {
    let observations =
        [seen("a", 5, 20, "2"), seen("b", 22, 50, "2"), seen("c", 22, 60, "2"), seen("d", 48, 1_000, "3")];
    check(&observations, &["5 2 Telemetry Confirmed", "48 mixed 2|3", "60 3 Telemetry Confirmed"]);
    let built = timeline(&observations);
    assert_eq!(built.spans.len(), 4);
    let of = |instance: &str, minute: i64| built.at_instance(instance, minute * MINUTE_US).release().cloned();
    assert_eq!((of("c", 55), of("d", 55), of("nobody", 55)), (Some(release("2")), Some(release("3")), None));
    assert_eq!(of("nobody", 70), Some(release("3")));
}

#[test]
fn a_silence_is_bridged_between_equals_and_uncertain_between_others() {
    check(
        &[seen("a", 5, 20, "2"), seen("a", 60, 70, "2"), seen("a", 100, 110, "3")],
        &[
            "5 2 Telemetry Confirmed",
            "25 2 Telemetry Inferred",
            "60 2 Telemetry Confirmed",
            "75 uncertain 2|3",
            "100 3 Telemetry Confirmed",
            "115 unknown NotSeen",
        ],
    );
}

#[test]
fn a_statement_in_a_silence_settles_it_unless_the_next_report_contradicts() {
    check(
        &[seen("a", 5, 20, "2"), mark(40, "3"), seen("a", 60, 1_000, "3")],
        &["5 2 Telemetry Confirmed", "25 2 Telemetry Inferred", "40 3 Mark Stated", "60 3 Telemetry Confirmed"],
    );
    check(
        &[seen("a", 5, 20, "2"), mark(40, "3"), seen("a", 60, 1_000, "2")],
        &["5 2 Telemetry Confirmed", "25 2 Telemetry Inferred", "40 uncertain 2|3", "60 2 Telemetry Confirmed (3)"],
    );
}

#[test]
fn labels_that_flap_get_no_release() {
    let swing: Vec<Observation> =
        (0..6).map(|step| seen("a", 100 + 4 * step, 103 + 4 * step, if step % 2 == 0 { "3" } else { "2" })).collect();
    let mut observations = vec![seen("a", 5, 99, "2"), seen("a", 124, 1_000, "3")];
    observations.extend(swing);
    check(&observations, &["5 2 Telemetry Confirmed", "100 flapping 2|3", "124 3 Telemetry Confirmed"]);
}

#[test]
fn one_flap_may_begin_where_another_ends() {
    let reports: Vec<_> = ["2", "3", "2", "3", "4", "3", "4"]
        .iter()
        .zip(0..)
        .map(|(version, minute)| seen("a", minute, minute, version))
        .collect();
    let built = timeline(&reports);
    let covered = built.intervals.windows(2).all(|pair| pair[0].to_us == Some(pair[1].from_us));
    assert!(
        covered && built.intervals.iter().any(|interval| matches!(interval.status, Status::Flapping(_))),
        "{built:?}"
    );
}

#[test]
fn a_mark_after_an_older_one_of_the_same_release_leaves_the_later_alias_open() {
    // The alias may have moved to 2 before or after the rollback to 1.
    check(&[mark(10, "2"), mark(20, "1"), alias(5, 30, "2")], &["5 uncertain 1|2"]);
}

#[test]
fn a_quick_rollback_is_no_flapping() {
    let observations = [seen("a", 5, 99, "2"), seen("b", 100, 104, "3"), seen("c", 105, 1_000, "2")];
    check(&observations, &["5 2 Telemetry Confirmed", "100 3 Telemetry Confirmed", "105 2 Telemetry Confirmed"]);
    let moves = timeline(&observations).moves();
    let rollbacks: Vec<_> = moves.iter().map(|one| (one.to.version.as_str(), one.rollback)).collect();
    assert_eq!(rollbacks, [("3", false), ("2", true)]);
}

#[test]
fn the_future_is_planned_and_not_told() {
    let built = timeline(&[mark(5, "2"), mark(2_000, "3")]);
    assert_eq!(built.planned, [mark(2_000, "3")]);
    assert_eq!(built.at(NOW_US).release(), Some(&release("2")));
    assert_eq!(built.at(2_000 * MINUTE_US), Status::Unknown(UnknownReason::Future));
    assert_eq!(built.at(4 * MINUTE_US), Status::Unknown(UnknownReason::NoEvidence));
}

#[test]
fn a_clock_that_is_ahead_is_refused_with_its_instance() {
    let built = timeline(&[mark(5, "2"), seen("a", 1_030, 1_040, "3")]);
    let ahead_us = 30 * MINUTE_US;
    assert_eq!(built.rejected[0].1, ObservationError::ClockAhead { instance: "a".to_owned(), ahead_us });
    assert_eq!(built.at(NOW_US).release(), Some(&release("2")));
}

#[test]
fn late_evidence_changes_the_past() {
    let before = timeline(&[mark(5, "2"), mark(30, "4")]);
    let after = timeline(&[mark(30, "4"), mark(20, "3"), mark(5, "2")]);
    let told = |built: &Timeline| built.at(25 * MINUTE_US).release().cloned();
    assert_eq!((told(&before), told(&after)), (Some(release("2")), Some(release("3"))));
}

#[test]
fn targets_do_not_mix() {
    let mut staging = mark(20, "3");
    staging.target.environment = Some("staging".to_owned());
    let built = timelines(&[mark(5, "2"), staging], &TimelineRules::default(), NOW_US);
    assert_eq!(built.len(), 2);
    assert_eq!(built[&target()].at(NOW_US).release(), Some(&release("2")));
}
