//! Scaling decisions derived by hand from the published algorithm.

use super::*;

const MANY: u32 = 1_000;

fn policy(unit: PolicyUnit, value: u32, period_s: u32) -> Policy {
    Policy { unit, value, period_s }
}

fn rules(stabilization_window_s: u32, select_policy: SelectPolicy, policies: &[Policy]) -> ScalingRules {
    ScalingRules { stabilization_window_s, select_policy, policies: policies.to_vec(), tolerance: None }
}

/// Nothing but the metrics: no window and policies that allow everything.
fn instant() -> Behavior {
    let all = rules(0, SelectPolicy::Max, &[policy(PolicyUnit::Pods, MANY, 15)]);
    Behavior { scale_up: all.clone(), scale_down: all }
}

fn spec(metrics: Vec<Metric>) -> HpaSpec {
    HpaSpec { min_replicas: 1, max_replicas: 100, metrics, behavior: Some(instant()) }
}

fn cpu(percent: u32) -> Metric {
    Metric::Utilization { resource: Resource::Cpu, percent }
}

fn queue(per_pod_milli: i64) -> Metric {
    Metric::Pods { name: "queue".into(), per_pod_milli }
}

fn shared(per_pod_milli: i64) -> Metric {
    Metric::ExternalAverage { name: "queue".into(), labels: Default::default(), per_pod_milli }
}

/// Ready for long; requests one core.
fn pod() -> Pod {
    Pod {
        phase: Phase::Running,
        deleting: false,
        start_s: Some(-10_000.0),
        readiness: Some(Readiness { ready: true, since_s: -9_990.0 }),
        cpu_request_milli: Some(1_000),
        memory_request_milli: Some(1_000),
    }
}

/// Started this second, loads its model.
fn starting(time_s: f64) -> Pod {
    Pod { start_s: Some(time_s), readiness: Some(Readiness { ready: false, since_s: time_s }), ..pod() }
}

fn sample(milli: i64) -> Option<Sample> {
    Some(Sample { milli, time_s: 0.0, window_s: 30.0 })
}

fn per_pod(milli: &[i64]) -> Reading {
    Reading::PerPod(milli.iter().map(|milli| sample(*milli)).collect())
}

fn decide_among(spec: HpaSpec, current: u32, pods: Vec<Pod>, readings: Vec<Reading>) -> Decision {
    let mut hpa = Hpa::new(spec, ControllerSettings::default()).unwrap();
    hpa.sync(0.0, current, &Observation { pods, readings })
}

/// The decision for `milli.len()` ready pods.
fn decide(metric: Metric, milli: &[i64]) -> u32 {
    decide_among(spec(vec![metric]), milli.len() as u32, vec![pod(); milli.len()], vec![per_pod(milli)]).replicas
}

#[test]
fn utilization_scales_by_the_ratio_rounded_up() {
    // 3 x 900 of 3 x 1000 is 90 %; 90 / 70 = 1.286; x 3 = 3.86.
    assert_eq!(decide(cpu(70), &[900; 3]), 4);
    // A sum, not a mean of shares: (100 + 200 + 2400) x 100 / 3000 = 90 %.
    assert_eq!(decide(cpu(70), &[100, 200, 2_400]), 4);
    // 35 / 70 = 0.5; x 5 = 2.5.
    assert_eq!(decide(cpu(70), &[350; 5]), 3);
    // Whole percent: 77.9 % is cut to 77; 77 / 70 = 1.1 is within 0.1.
    assert_eq!(decide(cpu(70), &[779; 10]), 10);
    // 78 / 70 = 1.114; x 10 = 11.14.
    assert_eq!(decide(cpu(70), &[780; 10]), 12);
}

#[test]
fn the_tolerance_is_inclusive_on_both_sides() {
    // 77 / 70 = 1.1 and 63 / 70 = 0.9 are the edges.
    assert_eq!(decide(cpu(70), &[770; 10]), 10);
    assert_eq!(decide(cpu(70), &[630; 10]), 10);
    // 62 / 70 = 0.886; x 10 = 8.86.
    assert_eq!(decide(cpu(70), &[620; 10]), 9);
}

#[test]
fn each_direction_may_have_its_own_tolerance() {
    let mut own = spec(vec![cpu(70)]);
    if let Some(behavior) = &mut own.behavior {
        behavior.scale_up.tolerance = Some(0.02);
        behavior.scale_down.tolerance = Some(0.3);
    }
    let decide = |milli| decide_among(own.clone(), 10, vec![pod(); 10], vec![per_pod(&[milli; 10])]).replicas;
    // 72 / 70 = 1.029 is over 1.02; x 10 = 10.29.
    assert_eq!(decide(720), 11);
    // 71 / 70 = 1.014 is not.
    assert_eq!(decide(710), 10);
    // 52 / 70 = 0.743 is within 0.3.
    assert_eq!(decide(520), 10);
    // 48 / 70 = 0.686 is not; x 10 = 6.86.
    assert_eq!(decide(480), 7);
}

#[test]
fn values_per_pod_are_cut_to_thousandths() {
    // (11 + 11 + 12) / 3 = 11 after the cut; 11 / 10 = 1.1 is within. The exact 1.133 would be 4.
    assert_eq!(decide(queue(10), &[11, 11, 12]), 3);
    // (30 + 40) / 2 = 35; 35 / 10 = 3.5; x 2 = 7.
    assert_eq!(decide(queue(10), &[30, 40]), 7);
    // 1.6 GB of 1 GB: 1.6 x 2 = 3.2.
    let memory = Metric::ResourceAverage { resource: Resource::Memory, per_pod_milli: 1_000_000_000_000 };
    assert_eq!(decide(memory, &[1_600_000_000_000; 2]), 4);
}

#[test]
fn a_shared_total_is_divided_by_the_target_and_tolerates_per_pod() {
    let decide = |pods: usize, current, total| {
        decide_among(spec(vec![shared(10)]), current, vec![pod(); pods], vec![Reading::Total(total)]).replicas
    };
    // 120 / (10 x 10) = 1.2: ceil(120 / 10).
    assert_eq!(decide(10, 10, 120), 12);
    // 109 / 100 = 1.09 is within, though 109 / 10 rounds to 11.
    assert_eq!(decide(10, 10, 109), 10);
    // 11 pods where 10 are set, as in a rollout: 100 / 110 = 0.909 is within, and the number of pods is kept.
    assert_eq!(decide(11, 10, 100), 11);
    // 5 / 100 = 0.05: ceil(0.5).
    assert_eq!(decide(10, 10, 5), 1);
}

#[test]
fn a_value_scales_the_ready_pods() {
    let latency = Metric::ExternalValue { name: "latency_ms".into(), labels: Default::default(), value_milli: 300 };
    let half_ready = vec![pod(), pod(), starting(0.0), starting(0.0)];
    let decide =
        |value| decide_among(spec(vec![latency.clone()]), 4, half_ready.clone(), vec![Reading::Total(value)]).replicas;
    // 900 / 300 = 3; x 2 ready = 6.
    assert_eq!(decide(900), 6);
    // 320 / 300 = 1.067 is within.
    assert_eq!(decide(320), 4);
    // 400 / 300 = 1.33; x 2 = 2.67: fewer than are set, and for a value nothing forbids it.
    assert_eq!(decide(400), 3);
}

#[test]
fn the_largest_of_several_metrics_counts_and_an_error_forbids_only_fewer() {
    let both = || spec(vec![cpu(70), queue(10)]);
    let failed = || Reading::Failed("no series".into());
    let decide = |cpu: Reading, queue: Reading| decide_among(both(), 3, vec![pod(); 3], vec![cpu, queue]);
    // 90 / 70 x 3 = 3.86 and 20 / 10 x 3 = 6.
    assert_eq!(decide(per_pod(&[900; 3]), per_pod(&[20; 3])).replicas, 6);
    // CPU alone asks for 4: more is allowed.
    let up = decide(per_pod(&[900; 3]), failed());
    assert_eq!((up.replicas, up.reason, up.errors.len()), (4, Reason::DesiredWithinRange, 1));
    // 20 / 70 x 3 = 0.86: fewer is not.
    let down = decide(per_pod(&[200; 3]), failed());
    assert_eq!((down.replicas, down.reason, down.proposed), (3, Reason::FailedMetrics, None));
    // 70 / 70 asks for the 3 there are, which is no fewer.
    assert_eq!(decide(per_pod(&[700; 3]), failed()).reason, Reason::DesiredWithinRange);
    let none = decide(failed(), failed());
    assert_eq!((none.replicas, none.reason, none.errors.len()), (3, Reason::FailedMetrics, 2));
    // A metric that nobody read failed as well.
    let unread = decide_among(both(), 3, vec![pod(); 3], vec![per_pod(&[200; 3])]);
    assert_eq!(unread.reason, Reason::FailedMetrics);
}

#[test]
fn missing_pods_hold_the_target_down_and_are_idle_up() {
    let decide = |percent, seen: &[i64], missing: usize| {
        let mut samples: Vec<_> = seen.iter().map(|milli| sample(*milli)).collect();
        samples.extend(vec![None; missing]);
        let count = samples.len();
        decide_among(spec(vec![cpu(percent)]), count as u32, vec![pod(); count], vec![Reading::PerPod(samples)])
            .replicas
    };
    // Down: 20 / 50 = 0.4; the missing one at 100 %: (600 + 1000) x 100 / 4000 = 40; 0.8 x 4 = 3.2. Without it ceil(0.4 x 3) = 2.
    assert_eq!(decide(50, &[200; 3], 1), 4);
    // (5 x 200 + 1000) x 100 / 6000 = 33; 0.66 x 6 = 3.96.
    assert_eq!(decide(50, &[200; 5], 1), 4);
    // A target over 100 %: at 150 %, (3 x 600 + 2 x 1500) x 100 / 5000 = 96; 0.64 x 5 = 3.2. At 100 % it would be 2.53.
    assert_eq!(decide(150, &[600; 3], 2), 4);
    // Up: 90 / 50 = 1.8; two idle ones: 1800 x 100 / 4000 = 45; 0.9 turns the direction: nothing.
    assert_eq!(decide(50, &[900; 2], 2), 4);
    // 2700 x 100 / 5000 = 54; 1.08 is within: nothing.
    assert_eq!(decide(50, &[900; 3], 2), 5);
    // 3600 x 100 / 5000 = 72; 1.44 x 5 = 7.2.
    assert_eq!(decide(50, &[900; 4], 1), 8);
    // Down would turn up: 44 / 50 = 0.88; (440 + 4 x 1000) x 100 / 5000 = 88; 1.76: nothing.
    assert_eq!(decide(50, &[440; 1], 4), 5);
    // 50 / 50 = 1: neither, so the missing one stays out.
    assert_eq!(decide(50, &[500; 3], 1), 4);
}

#[test]
fn missing_values_per_pod_are_the_target_down() {
    let samples = vec![sample(2), sample(2), None, None];
    // 2 / 10 = 0.2; (2 + 2 + 10 + 10) / 4 = 6; 0.6 x 4 = 2.4.
    let got = decide_among(spec(vec![queue(10)]), 4, vec![pod(); 4], vec![Reading::PerPod(samples)]);
    assert_eq!(got.replicas, 3);
}

#[test]
fn pods_that_start_are_idle_up_and_not_there_down() {
    let pods = || vec![pod(), pod(), pod(), starting(0.0), starting(0.0)];
    let decide = |milli| decide_among(spec(vec![cpu(50)]), 5, pods(), vec![per_pod(&[milli; 5])]).replicas;
    // 100 / 50 = 2; 3000 x 100 / 5000 = 60; 1.2 x 5 = 6. Their own samples do not count.
    assert_eq!(decide(1_000), 6);
    // 20 / 50 = 0.4; x 3 that count = 1.2.
    assert_eq!(decide(200), 2);
    // A pod that is not scheduled yet starts for every metric: (30 + 30) / 4 = 15; 1.5 x 4 = 6.
    let pending = Pod { phase: Phase::Pending, ..pod() };
    let got = decide_among(spec(vec![queue(10)]), 4, vec![pod(), pod(), pending, pending], vec![per_pod(&[30; 2])]);
    assert_eq!(got.replicas, 6);
}

#[test]
fn pods_that_stop_or_failed_are_not_there() {
    let (stopping, failed) = (Pod { deleting: true, ..pod() }, Pod { phase: Phase::Failed, ..pod() });
    // 90 / 50 = 1.8; x 2 that count = 3.6.
    let got = decide_among(spec(vec![cpu(50)]), 4, vec![pod(), pod(), stopping, failed], vec![per_pod(&[900; 4])]);
    assert_eq!(got.replicas, 4);
    // The total is shared by the two that are left: 60 / (10 x 2) = 3: ceil(60 / 10).
    let got = decide_among(spec(vec![shared(10)]), 4, vec![pod(), pod(), stopping, failed], vec![Reading::Total(60)]);
    assert_eq!(got.replicas, 6);
}

#[test]
fn readiness_decides_whether_the_cpu_of_a_pod_counts() {
    let decide = |third: Pod, time_s: f64, window_s: f64| {
        let samples = vec![sample(800), sample(800), Some(Sample { milli: 1_000, time_s, window_s })];
        let mut hpa = Hpa::new(spec(vec![cpu(50)]), ControllerSettings::default()).unwrap();
        let observation = Observation { pods: vec![pod(), pod(), third], readings: vec![Reading::PerPod(samples)] };
        hpa.sync(time_s, 3, &observation).replicas
    };
    let of = |start_s, ready, since_s| Pod {
        start_s: Some(start_s),
        readiness: Some(Readiness { ready, since_s }),
        ..pod()
    };
    // Counting: (800 + 800 + 1000) x 100 / 3000 = 86; 1.72 x 3 = 5.16. Starting: 1600 x 100 / 3000 = 53; 1.06 is within.
    let (counts, starts) = (6, 3);
    // 500 s old and past the 300 s: unready since 5 s after its start (< 30 s), so it never was ready.
    assert_eq!(decide(of(0.0, false, 5.0), 500.0, 30.0), starts);
    // Unready since 200 s after its start: it was ready and failed.
    assert_eq!(decide(of(0.0, false, 200.0), 500.0, 30.0), counts);
    // 40 s old, ready for 20 s: a window of 30 s reaches back into the start, one of 15 s does not.
    assert_eq!(decide(of(60.0, true, 80.0), 100.0, 30.0), starts);
    assert_eq!(decide(of(60.0, true, 80.0), 100.0, 15.0), counts);
    // Unready within the 300 s.
    assert_eq!(decide(of(60.0, false, 80.0), 100.0, 15.0), starts);
    // Without a condition nothing is known.
    assert_eq!(decide(Pod { readiness: None, ..pod() }, 100.0, 15.0), starts);
}

#[test]
fn metrics_that_cannot_be_computed_say_why() {
    let error = |metrics, pods, reading| decide_among(spec(vec![metrics]), 2, pods, vec![reading]).errors.remove(0).1;
    // One pod without a request is enough, even one that stops.
    let without = Pod { cpu_request_milli: None, deleting: true, ..pod() };
    let missing = error(cpu(70), vec![pod(), without], per_pod(&[900; 2]));
    assert_eq!(missing, MetricError::MissingRequest { resource: "cpu" });
    assert_eq!(error(cpu(70), Vec::new(), per_pod(&[])), MetricError::NoPods);
    assert_eq!(error(cpu(70), vec![starting(0.0); 2], per_pod(&[900; 2])), MetricError::NoSamples);
    assert_eq!(error(cpu(70), vec![pod(); 2], Reading::Total(900)), MetricError::WrongReading);
    let zero = Pod { cpu_request_milli: Some(0), ..pod() };
    assert_eq!(error(cpu(70), vec![zero; 2], per_pod(&[900; 2])), MetricError::NoSamples);
}

#[test]
fn bounds_hold_with_and_without_metrics() {
    let bounded = || HpaSpec { min_replicas: 2, max_replicas: 10, ..spec(vec![queue(10)]) };
    let decide = |count: usize, milli: i64| {
        let got = decide_among(bounded(), count as u32, vec![pod(); count], vec![per_pod(&vec![milli; count])]);
        (got.replicas, got.reason, got.proposed)
    };
    // 20 / 10 x 8 = 16, 0 / 10 x 8 = 0.
    assert_eq!(decide(8, 20), (10, Reason::TooManyReplicas, Some(16)));
    assert_eq!(decide(8, 0), (2, Reason::TooFewReplicas, Some(0)));
    // Outside the bounds the metrics are not asked.
    assert_eq!(decide(12, 20), (10, Reason::AboveMaximum, None));
    assert_eq!(decide(1, 20), (2, Reason::BelowMinimum, None));
    assert_eq!(decide(0, 20), (0, Reason::ScalingDisabled, None));
}

/// Syncs in turn, each at its time with the proposal that `ExternalAverage` makes of that total; returns the replicas after each.
fn series(behavior: Option<Behavior>, start: u32, steps: &[(f64, i64)]) -> Vec<u32> {
    let mut replicas = start;
    let mut hpa = Hpa::new(HpaSpec { behavior, ..spec(vec![shared(1_000)]) }, ControllerSettings::default()).unwrap();
    let mut sync = |(time_s, wanted): &(f64, i64)| {
        let observation =
            Observation { pods: vec![pod(); replicas as usize], readings: vec![Reading::Total(wanted * 1_000)] };
        replicas = hpa.sync(*time_s, replicas, &observation).replicas;
        replicas
    };
    steps.iter().map(&mut sync).collect()
}

#[test]
fn by_default_four_pods_or_twice_as_many_are_added_in_fifteen_seconds() {
    // max(2 + 4, 2 x 2) = 6; max(6 + 4, 12) = 12; max(16, 24) = 24.
    let default = || Some(Behavior::default());
    assert_eq!(series(default(), 2, &[(0.0, 20), (15.0, 20), (30.0, 20)]), [6, 12, 20]);
    // 10 s later the 4 of t = 0 still count: 6 - 4 = 2 at the start of the period, so 6 again.
    assert_eq!(series(default(), 2, &[(0.0, 20), (10.0, 20), (15.0, 20)]), [6, 6, 12]);
    // Without a behavior max(4, 2 x 1) = 4 in all, with the default max(1 + 4, 2) = 5.
    assert_eq!(series(None, 1, &[(0.0, 20), (1.0, 20)]), [4, 8]);
    assert_eq!(series(default(), 1, &[(0.0, 20), (1.0, 20)]), [5, 5]);
}

#[test]
fn scale_down_waits_for_the_window() {
    let steps = |last: f64| [(0.0, 4), (150.0, 4), (299.0, 4), (last, 4)];
    // The 10 found at t = 0 count as a proposal. At 300 s they are no younger than the window of a behavior,
    assert_eq!(series(Some(Behavior::default()), 10, &steps(300.0)), [10, 10, 10, 4]);
    // but no older than the controller's own.
    assert_eq!(series(None, 10, &steps(300.0)), [10, 10, 10, 10]);
    assert_eq!(series(None, 10, &steps(301.0)), [10, 10, 10, 4]);
    // A spike at 120 s holds up what follows until 420 s: the largest of the window.
    let spike = [(0.0, 4), (120.0, 8), (300.0, 4), (419.0, 4), (420.0, 4)];
    assert_eq!(series(Some(Behavior::default()), 10, &spike), [10, 10, 8, 8, 4]);
}

#[test]
fn scale_up_takes_the_least_of_its_window() {
    let mut slow = instant();
    slow.scale_up.stabilization_window_s = 60;
    // The 4 found at t = 0 hold until 60 s; then the least since is the 6 of 30 s, from 90 s on it is 8.
    let steps = [(0.0, 8), (15.0, 8), (30.0, 6), (60.0, 8), (75.0, 8), (90.0, 8)];
    assert_eq!(series(Some(slow), 4, &steps), [4, 4, 4, 6, 6, 8]);
}

#[test]
fn policies_limit_a_period() {
    let down = |select, policies: &[Policy]| Some(Behavior { scale_down: rules(0, select, policies), ..instant() });
    let two = policy(PolicyUnit::Pods, 2, 60);
    // 10 - 2; at 15 s the period started with 8 + 2; at 60 s it is over.
    let steps = [(0.0, 3), (15.0, 3), (59.0, 3), (60.0, 3), (120.0, 3)];
    assert_eq!(series(down(SelectPolicy::Max, &[two]), 10, &steps), [8, 8, 8, 6, 4]);
    // 25 x 0.9 = 22.5 is cut.
    let tenth = policy(PolicyUnit::Percent, 10, 60);
    assert_eq!(series(down(SelectPolicy::Max, &[tenth]), 25, &[(0.0, 3)]), [22]);
    // 80 - 4 = 76 and 80 x 0.9 = 72: the smallest and the largest change.
    let both = [policy(PolicyUnit::Pods, 4, 60), tenth];
    assert_eq!(series(down(SelectPolicy::Min, &both), 80, &[(0.0, 3)]), [76]);
    assert_eq!(series(down(SelectPolicy::Max, &both), 80, &[(0.0, 3)]), [72]);
    assert_eq!(series(down(SelectPolicy::Disabled, &both), 80, &[(0.0, 3)]), [80]);
    // Up: 3 x 1.1 = 3.3 is rounded up, or it would never grow.
    let up = |select, policies: &[Policy]| Some(Behavior { scale_up: rules(0, select, policies), ..instant() });
    assert_eq!(series(up(SelectPolicy::Max, &[tenth]), 3, &[(0.0, 9)]), [4]);
    // min(10 + 1, 10 x 1.5) = 11.
    let least = [policy(PolicyUnit::Pods, 1, 60), policy(PolicyUnit::Percent, 50, 60)];
    assert_eq!(series(up(SelectPolicy::Min, &least), 10, &[(0.0, 40)]), [11]);
    assert_eq!(series(up(SelectPolicy::Disabled, &least), 10, &[(0.0, 40)]), [10]);
}

#[test]
fn what_was_added_in_a_period_may_be_removed_on_top() {
    let behavior =
        Behavior { scale_down: rules(0, SelectPolicy::Max, &[policy(PolicyUnit::Pods, 2, 60)]), ..instant() };
    // 8 - 4 added = 4 at the start of the period, less 2: 2 are allowed, 3 are wanted. Without the addition 6 would be the least.
    assert_eq!(series(Some(behavior), 4, &[(0.0, 8), (30.0, 3)]), [8, 3]);
}

#[test]
fn a_specification_outside_the_api_is_refused() {
    let refused = |spec: HpaSpec| Hpa::new(spec, ControllerSettings::default()).unwrap_err().to_string();
    assert!(refused(HpaSpec { min_replicas: 0, ..spec(vec![cpu(70)]) }).contains("KEDA"));
    assert!(refused(HpaSpec { min_replicas: 9, max_replicas: 8, ..spec(vec![cpu(70)]) }).contains("maxReplicas is 8"));
    assert!(refused(spec(Vec::new())).contains("at least one metric"));
    assert!(refused(spec(vec![cpu(0)])).contains("target of cpu"));
    let with =
        |scale_up: ScalingRules| HpaSpec { behavior: Some(Behavior { scale_up, ..instant() }), ..spec(vec![cpu(70)]) };
    let one = [policy(PolicyUnit::Pods, 1, 15)];
    assert!(refused(with(rules(3_601, SelectPolicy::Max, &one))).contains("3601"));
    assert!(refused(with(rules(0, SelectPolicy::Max, &[]))).contains("scaleUp"));
    assert!(refused(with(rules(0, SelectPolicy::Max, &[policy(PolicyUnit::Pods, 1, 1_801)]))).contains("1800"));
    let tolerance = ScalingRules { tolerance: Some(f64::NAN), ..rules(0, SelectPolicy::Max, &one) };
    assert!(refused(with(tolerance)).contains("tolerance"));
}
