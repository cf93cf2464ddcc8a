//! Cards that are told of by one exporter or several.

use super::*;

/// `exporter` says that `pod` of `service` has the card in these minutes.
fn told(exporter: &str, pod: &str, service: &str, from: i64, until: i64) -> Told {
    let name = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Told {
        exporter: exporter.to_owned(),
        sharer: Sharer {
            holder: Holder { pod: name(pod), service: name(service), ..Holder::default() },
            slice: None,
            fraction: None,
            period: Period { start_us: from * MINUTE_US, end_us: until * MINUTE_US },
        },
    }
}

/// `POD SERVICE FROM UNTIL`, where every point speaks for `step` minutes.
fn check_steps(told: &[Told], step: usize, expected: &[&str]) {
    for told in [told.to_vec(), told.iter().rev().cloned().collect()] {
        let sharers = once_each(told, |_| step);
        let text = |sharer: &Sharer| {
            let label = |label: &Option<String>| label.clone().unwrap_or_else(|| "–".to_owned());
            let minute = |time_us: i64| time_us / MINUTE_US;
            let (pod, service) = (label(&sharer.holder.pod), label(&sharer.holder.service));
            format!("{pod} {service} {} {}", minute(sharer.period.start_us), minute(sharer.period.end_us))
        };
        assert_eq!(sharers.iter().map(text).collect::<Vec<_>>(), expected);
    }
}

fn check(told: &[Told], expected: &[&str]) {
    check_steps(told, 1, expected);
}

#[test]
fn two_exporters_that_name_one_pod_tell_of_one_sharer() {
    check(&[told("x", "a", "", 0, 60), told("y", "a", "chat", 10, 70)], &["a chat 0 70"]);
    let mut spaces = [told("x", "a", "", 0, 60), told("y", "a", "", 0, 60)];
    spaces[0].sharer.holder.namespace = Some("prod".into());
    check(&spaces, &["a – 0 60"]);
    spaces[1].sharer.holder.namespace = Some("test".into());
    assert_eq!(once_each(spaces.to_vec(), |_| 1).len(), 2, "pods of one name in two namespaces");
}

#[test]
fn what_is_told_without_a_pod_counts_only_while_no_pod_is_named() {
    check(
        &[told("x", "a", "", 10, 60), told("y", "", "exporter", 0, 100)],
        &["– exporter 0 10", "a – 10 60", "– exporter 60 100"],
    );
}

#[test]
fn of_exporters_that_contradict_each_other_one_is_believed_and_one_may_name_several() {
    check(&[told("x", "", "chat", 0, 60), told("y", "", "node", 0, 60)], &["– chat 0 60"]);
    let several = [told("x", "", "node", 0, 60), told("y", "", "chat", 0, 60), told("y", "", "batch", 30, 60)];
    check(&several, &["– chat 0 60", "– batch 30 60"]);
    check(&[told("x", "", "chat", 0, 60), told("x", "", "batch", 0, 60)], &["– batch 0 60", "– chat 0 60"]);
}

#[test]
fn pods_of_several_exporters_share_and_those_that_follow_each_other_do_not() {
    let at_once = [told("x", "a", "", 0, 60), told("y", "b", "", 20, 60)];
    check(&at_once, &["a – 0 60", "b – 20 60"]);
    assert_eq!(most_at_once(&once_each(at_once.to_vec(), |_| 1)), 2);
    let in_turn = [told("x", "a", "", 0, 60), told("x", "b", "", 60, 90), told("x", "a", "", 200, 260)];
    check(&in_turn, &["a – 0 60", "b – 60 90", "a – 200 260"]);
    assert_eq!(most_at_once(&once_each(in_turn.to_vec(), |_| 1)), 1);
    assert_eq!(most_at_once(&[]), 0);
}

#[test]
fn a_pod_whose_version_changes_keeps_both_of_its_times() {
    let version = |exporter, version: &str, service, from, until| {
        let mut told = told(exporter, "a", service, from, until);
        told.sharer.holder.model_version = Some(version.to_owned()).filter(|version| !version.is_empty());
        told
    };
    let told = vec![version("x", "1", "", 0, 60), version("x", "2", "", 60, 120), version("y", "", "chat", 0, 120)];
    let sharers = once_each(told, |_| 1);
    let versions: Vec<_> =
        sharers.iter().map(|one| (one.holder.model_version.as_deref(), one.period.hours())).collect();
    assert_eq!(versions, [(Some("1"), 1.0), (Some("2"), 1.0)]);
    assert!(sharers.iter().all(|one| one.holder.service.as_deref() == Some("chat")), "{sharers:?}");
}

#[test]
fn days_of_one_holder_are_one_stretch() {
    check(&[told("x", "a", "chat", 0, 1_440), told("x", "a", "chat", 1_440, 2_000)], &["a chat 0 2000"]);
    check(&[told("x", "a", "chat", 0, 100), told("x", "a", "chat", 161, 200)], &["a chat 0 100", "a chat 161 200"]);
}

#[test]
fn the_last_point_speaks_for_its_step_unless_somebody_begins_before() {
    // A point every five minutes: the last is that of minute 55.
    check_steps(&[told("x", "a", "", 0, 56)], 5, &["a – 0 60"]);
    check_steps(&[told("x", "a", "", 0, 56), told("x", "b", "", 58, 91)], 5, &["a – 0 58", "b – 58 95"]);
}
