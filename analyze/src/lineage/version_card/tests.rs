//! Golden numbers, computed by hand; the arithmetic stands beside each.

use super::super::deployment::Release;
use super::*;

#[track_caller]
fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 5e-5 * expected.abs().max(1.0), "{found} is not {expected}");
}

fn release(version: &str) -> Release {
    Release { model: "resnet".to_owned(), version: version.to_owned() }
}

/// 20 minutes: in the odd ones 40 requests at `low_ms`, in the even ones 60 at `high_ms`.
fn side(low_ms: f64, high_ms: f64) -> SideAggregates {
    let mut side = SideAggregates { window_minutes: 20, minutes_seen: 20, ..SideAggregates::default() };
    for minute in 0..20 {
        let (latency_ms, requests) = if minute % 2 == 0 { (low_ms, 40u32) } else { (high_ms, 60) };
        let n = f64::from(requests);
        side.latency_ms.add_minute(latency_ms * n, requests.into());
        side.latency_ms_squared += latency_ms * latency_ms * n;
        side.cost.add_minute(0.002 * n, requests.into());
        side.errors.add_minute(0.0, requests.into());
    }
    side
}

#[test]
fn mean_and_interval_are_those_computed_by_hand() {
    // x_b: 40·100 = 4 000 and 60·120 = 7 200, ten times each; Σx = 112 000, Σn = 1 000, r = 112.
    // Residuals: 4 000 − 112·40 = −480 and 7 200 − 112·60 = 480; sum of squares 20 · 230 400 = 4 608 000.
    // Variance 20/19 · 4 608 000 / 1 000² = 4.850526; root 2.202391; times 1.959964 = 4.316607.
    let mean = side(100.0, 120.0).latency_ms.mean().unwrap();
    close(mean.value, 112.0);
    close(mean.low, 107.683_393);
    close(mean.high, 116.316_607);
    assert_eq!(mean.n, 1_000);
}

#[test]
fn the_card_is_the_one_computed_by_hand() {
    // After: 4 400 and 8 400; Σx = 128 000, r = 128; residuals −720 and 720; variance 20/19 · 20 · 518 400 / 10⁶
    // = 10.913684; root 3.303587; half width 6.474911.
    // Difference 16; half width √(4.316607² + 6.474911²) = √(18.633096 + 41.924473) = 7.781874.
    let (before, after) = (side(100.0, 120.0), side(110.0, 140.0));
    let equal = Estimate { value: 15.0, low: 8.0, high: 22.0, n: 1_000 };
    let between = Between { inputs_equal: Some(equal), ..Between::default() };
    let card = version_card((release("2.9"), release("2.10")), (&before, &after), &between, &CardRules::default());
    let mean = card.row(Measure::LatencyMean).unwrap();
    let difference = mean.difference.unwrap();
    close(difference.value, 16.0);
    close(difference.low, 8.218_126);
    close(difference.high, 23.781_874);
    assert_eq!(mean.verdict, Verdict::Worse);
    assert_eq!(card.row(Measure::LatencyInputsEqual).unwrap().verdict, Verdict::Worse);
    assert_eq!(card.row(Measure::CostPerRequest).unwrap().verdict, Verdict::NoDifference);
    assert_eq!((card.coverage_before, card.requests_after), (1.0, 1_000));
    let missing = &card.row(Measure::Accuracy).unwrap().verdict;
    assert!(matches!(missing, Verdict::NotJudged(reason) if reason.contains("/api/v1/labels")), "{missing:?}");
}

#[test]
fn shares_and_their_difference_are_those_of_the_literature() {
    // Newcombe (1998), table II, line (a): 56/70 against 48/80, method 10: 0.0524 to 0.3339.
    // Minutes of one request each make the design effect 1·m/(m−1); it is divided out by hand below.
    let of = |hits: u32, total: u32| {
        let mut sums = MinuteSums::default();
        (0..total).for_each(|index| sums.add_minute(if index < hits { 1.0 } else { 0.0 }, 1));
        sums
    };
    let (many, few) = (of(56, 70).share().unwrap(), of(48, 80).share().unwrap());
    let found = difference(&few, &many);
    assert!((found.value - 0.2).abs() < 1e-12);
    // The factor m/(m−1) widens the published interval by less than 1 %.
    assert!((found.low - 0.0524).abs() < 0.002, "{found:?}");
    assert!((found.high - 0.3339).abs() < 0.002, "{found:?}");

    // No hit in 1 000: Wilson's upper end is z²/(n + z²) = 3.841459/1 003.841459 = 0.003827.
    let mut none = MinuteSums::default();
    (0..10).for_each(|_| none.add_minute(0.0, 100));
    let none = none.share().unwrap();
    assert_eq!((none.value, none.low), (0.0, 0.0));
    close(none.high, 0.003_827);
}

#[test]
fn a_share_that_swings_between_minutes_is_less_sure() {
    let (mut steady, mut swinging) = (MinuteSums::default(), MinuteSums::default());
    for minute in 0..20 {
        steady.add_minute(10.0, 100);
        swinging.add_minute(if minute % 2 == 0 { 20.0 } else { 0.0 }, 100);
    }
    let width = |sums: &MinuteSums| sums.share().map(|share| share.high - share.low).unwrap();
    assert!(width(&swinging) > 2.0 * width(&steady));
}

#[test]
fn quantiles_are_those_computed_by_hand() {
    // 100 requests: 50 up to 10 ms, 40 up to 20 ms, 10 up to 50 ms. Rank 50 is 10 ms; rank 95 lies half way in the
    // third bucket, 35 ms. Half width of the share at p50: 1.959964 · √(0.25/100) = 0.0979982, so ranks 40.20018 and
    // 59.79982: 8.040036 ms and 10 + 10 · 9.79982/40 = 12.449955 ms.
    let buckets = LatencyBuckets { bounds_ms: vec![10.0, 20.0, 50.0], counts: vec![50, 40, 10, 0] };
    let median = buckets.quantile(0.5, 1.0).unwrap();
    close(median.value, 10.0);
    close(median.low, 8.040_036);
    close(median.high, 12.449_955);
    close(buckets.quantile(0.95, 1.0).unwrap().value, 35.0);

    let open = LatencyBuckets { bounds_ms: vec![10.0], counts: vec![50, 50] };
    assert_eq!(open.quantile(0.95, 1.0), None);
    assert_eq!(LatencyBuckets::default().quantile(0.5, 1.0), None);
}

#[test]
fn sums_merge_to_the_sums_of_all_minutes() {
    let (mut all, mut first, mut second) = (MinuteSums::default(), MinuteSums::default(), MinuteSums::default());
    for minute in 0..10u32 {
        let (numerator, requests) = (f64::from(minute * minute), u64::from(minute) + 1);
        all.add_minute(numerator, requests);
        (if minute < 4 { &mut first } else { &mut second }).add_minute(numerator, requests);
    }
    first.merge(&second);
    assert_eq!(first, all);
    let mut buckets = LatencyBuckets { bounds_ms: vec![1.0], counts: vec![1, 2] };
    assert!(buckets.merge(&LatencyBuckets { bounds_ms: vec![1.0], counts: vec![3, 4] }));
    assert_eq!(buckets.counts, [4, 6]);
    assert!(!buckets.merge(&LatencyBuckets { bounds_ms: vec![2.0], counts: vec![3, 4] }));
}

#[test]
fn too_little_is_not_judged_and_says_how_much_is_missing() {
    let check = |change: fn(&mut SideAggregates), expected: &str| {
        let (before, mut after) = (side(100.0, 120.0), side(200.0, 220.0));
        change(&mut after);
        let card =
            version_card((release("1"), release("2")), (&before, &after), &Between::default(), &CardRules::default());
        match &card.row(Measure::LatencyMean).unwrap().verdict {
            Verdict::NotJudged(reason) => assert!(reason.contains(expected), "{reason}"),
            other => panic!("{other:?}"),
        }
    };
    check(
        |after| after.latency_ms = MinuteSums { minutes: 20, n: 400.0, x: 1.0, ..after.latency_ms },
        "400 requests after",
    );
    check(|after| after.latency_ms.minutes = 7, "7 minutes after");
    check(|after| after.window_minutes = 60, "telemetry in 33 % of the minutes after");
    check(|after| after.latency_ms = MinuteSums::default(), "send http.server.request.duration");
}

#[test]
fn drift_is_what_the_drift_job_calls_so() {
    let (before, after) = (side(1.0, 1.0), side(1.0, 1.0));
    let judged = |is_drift: Option<bool>| {
        let between = Between { drift: Some(DriftReading { score: 0.3, is_drift, n: 900 }), ..Between::default() };
        let card = version_card((release("1"), release("2")), (&before, &after), &between, &CardRules::default());
        card.row(Measure::Drift).unwrap().clone()
    };
    assert_eq!(judged(Some(true)).verdict, Verdict::Changed);
    assert_eq!(judged(Some(false)).verdict, Verdict::NoDifference);
    assert_eq!(judged(None).after.unwrap().value, 0.3);
    assert!(matches!(judged(None).verdict, Verdict::NotJudged(_)));
    let card =
        version_card((release("1"), release("2")), (&before, &after), &Between::default(), &CardRules::default());
    assert!(matches!(&card.row(Measure::Drift).unwrap().verdict, Verdict::NotJudged(why) if why.contains("send")));
}

/// 20 minutes of 50 requests that cost `cost` each minute.
fn costing(cost: f64, requests: u64) -> SideAggregates {
    let mut costing = SideAggregates { window_minutes: 20, minutes_seen: 20, ..SideAggregates::default() };
    (0..20).for_each(|_| costing.cost.add_minute(cost, requests));
    costing
}

#[test]
fn a_unit_cost_that_moves_with_the_load_alone_is_not_held_against_a_release() {
    let judged = |before: SideAggregates, after: SideAggregates| {
        let card =
            version_card((release("1"), release("2")), (&before, &after), &Between::default(), &CardRules::default());
        card.row(Measure::CostPerRequest).unwrap().clone()
    };
    // 0.10 a minute for 50 requests is 0.002 a request, 6.00 an hour; 0.15 is 0.003 and 9.00.
    let dearer = judged(costing(0.10, 50), costing(0.15, 50));
    close(dearer.before.unwrap().value, 0.002);
    close(dearer.difference.unwrap().value, 0.001);
    assert_eq!(dearer.verdict, Verdict::Worse);
    assert_eq!(judged(costing(0.15, 50), costing(0.10, 50)).verdict, Verdict::Better);
    // Half the requests at the same 6.00 an hour: 3 000 and 1 500 an hour.
    let of_load = judged(costing(0.10, 50), costing(0.10, 25));
    assert_eq!(
        of_load.verdict,
        Verdict::NotJudged(
            "it moved with the load (3000 -> 1500 requests an hour), while an hour cost 6.00 -> 6.00".into()
        )
    );
    assert!(matches!(judged(costing(0.10, 25), costing(0.10, 50)).verdict, Verdict::NotJudged(_)));
    // Twice the machines for half of the requests more is the release's.
    assert_eq!(judged(costing(0.10, 50), costing(0.20, 75)).verdict, Verdict::Worse);
}

#[test]
fn accuracy_is_judged_from_a_hundred_labels() {
    // Two minutes of equal shares on each side: the spread between minutes is 0, and the interval Wilson's.
    let of = |right: u64, n: u64| {
        let mut labelled = SideAggregates::default();
        (0..2).for_each(|_| labelled.right.add_minute(right as f64 / 2.0, n / 2));
        labelled
    };
    let judged = |before: SideAggregates, after: SideAggregates| {
        let card =
            version_card((release("1"), release("2")), (&before, &after), &Between::default(), &CardRules::default());
        card.row(Measure::Accuracy).unwrap().clone()
    };
    let row = judged(of(180, 200), of(160, 200));
    // Wilson at 180 of 200: centre (0.9 + 3.841459/400) / (1 + 3.841459/200) = 0.892462, half width 1.959964/1.019207 ·
    // √(0.09/200 + 3.841459/160 000) = 0.041868; at 160 of 200 0.794346 and 0.055202.
    // Difference −0.1; down √((0.8 − 0.739145)² + (0.934330 − 0.9)²) = 0.069870, up √((0.849548 − 0.8)² + (0.9 − 0.850594)²) =
    // 0.069971.
    let difference = row.difference.unwrap();
    close(difference.value, -0.1);
    close(difference.low, -0.169_870);
    close(difference.high, -0.030_029);
    assert_eq!(row.verdict, Verdict::Worse);
    assert_eq!(judged(of(160, 200), of(180, 200)).verdict, Verdict::Better);
    let few = judged(of(180, 200), of(40, 50));
    assert_eq!(few.verdict, Verdict::NotJudged("50 labels after the move, 100 are needed".into()));
    assert_eq!(few.after.unwrap().n, 50);
}
