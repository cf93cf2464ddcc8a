//! Laws that hold for any data, and data that is bad.

use super::{
    comparison::*, decision::*, distance::*, feature_state::*, numeric::reference_cuts, sort::sort_values,
    statistics::*,
};

/// SplitMix64: the same data in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    pub(crate) fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (2.0 * std::f64::consts::PI * self.uniform()).cos()
    }
}

pub(crate) fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    sort_values(&mut values, &mut Vec::new());
    values
}

fn state_of(values: &[f64]) -> FeatureState {
    let mut state = FeatureState::default();
    values.iter().for_each(|value| state.record(Some(*value)));
    state
}

/// An hour's state in one of several shapes: values of any magnitude, exponential points of any scale, explicit points.
fn hourly(random: &mut Random, hour: u64) -> FeatureState {
    let mut state = FeatureState::default();
    for at in 0..40 {
        let value = random.normal() * 10f64.powi((hour % 7) as i32 * 3 - 9);
        state.record(if at % 13 == 0 { None } else { Some(if at % 17 == 0 { f64::NAN } else { value }) });
        state.record_category(Some(&format!("tenant-{}", random.next() % 1_500)), 1 + random.next() % 3);
    }
    let counts: Vec<u64> = (0..20).map(|_| random.next() % 9).collect();
    let scale = (random.next() % 12) as i32 - 3;
    let point = ExponentialPoint {
        scale,
        zero_count: 3,
        zero_threshold: if hour.is_multiple_of(5) { 1e-6 } else { 0.0 },
        positive: (-7, &counts),
        negative: (3, &counts[..4]),
        sum: Some(random.normal()),
        min: None,
        max: None,
    };
    state.add_exponential(&point).unwrap();
    let explicit = ExplicitPoint {
        bounds: if hour.is_multiple_of(2) { &[1.0, 5.0] } else { &[1.0, 2.0] },
        counts: &[1, 2, 3],
        sum: None,
        min: None,
        max: None,
    };
    state.add_explicit(&explicit).unwrap();
    state
}

#[test]
fn a_week_is_its_hours_in_any_order() {
    let mut random = Random(1);
    let mut hours: Vec<FeatureState> = (0..168).map(|hour| hourly(&mut random, hour)).collect();
    let fold = |hours: &[FeatureState]| {
        let mut week = FeatureState::default();
        hours.iter().for_each(|hour| week.merge(hour));
        week
    };
    let week = fold(&hours);
    for _ in 0..5 {
        for at in (1..hours.len()).rev() {
            hours.swap(at, random.next() as usize % (at + 1));
        }
        assert_eq!(fold(&hours), week);
        // As a tree: days first.
        let days: Vec<FeatureState> = hours.chunks(24).map(fold).collect();
        assert_eq!(fold(&days), week);
    }
    assert!(week.scale().unwrap() < 5, "downscaled and recorded");
    let bytes = week.to_bytes();
    assert_eq!(FeatureState::from_bytes(&bytes).unwrap(), week);
    // As the version before wrote it.
    let unsealed = [&[1], &bytes[1..bytes.len() - 4]].concat();
    assert_eq!(FeatureState::from_bytes(&unsealed).unwrap(), week);
    for end in 0..bytes.len() {
        assert!(FeatureState::from_bytes(&bytes[..end]).is_err(), "cut at {end}");
    }
    for at in 0..bytes.len() {
        for bit in [0x01, 0x80, 0xff] {
            let mut broken = bytes.clone();
            broken[at] ^= bit;
            assert!(FeatureState::from_bytes(&broken).is_err(), "bits {bit:#x} of byte {at}");
        }
    }
}

#[test]
fn states_of_raw_values_know_their_moments() {
    let state = state_of(&[0.0, 1.0, 2.0, 3.0, -1.0]);
    assert_eq!((state.count(), state.zero(), state.sum(), state.sum_of_squares()), (5, 1, Some(5.0), Some(15.0)));
    assert_eq!((state.min(), state.max(), state.variance()), (Some(-1.0), Some(3.0), Some(2.0)));
    let mut unknown = state;
    let point = ExplicitPoint { bounds: &[1.0], counts: &[1, 1], sum: None, min: None, max: None };
    unknown.add_explicit(&point).unwrap();
    assert_eq!((unknown.sum(), unknown.sum_of_squares(), unknown.variance()), (None, None, None));
}

#[test]
fn scores_are_bounded_symmetric_and_fall_when_bins_merge() {
    let mut random = Random(2);
    for _ in 0..500 {
        let counts = |random: &mut Random| -> Vec<u64> { (0..12).map(|_| random.next() % 50 + 1).collect() };
        let (p, q) = (counts(&mut random), counts(&mut random));
        let coarse = |side: &[u64]| -> Vec<u64> { side.chunks(3).map(|chunk| chunk.iter().sum()).collect() };
        type Score = fn(&[u64], &[u64]) -> f64;
        let scores: [Score; 5] =
            [|p, q| psi(p, q, 0.0), jensen_shannon, total_variation, hellinger, |p, q| kullback_leibler(p, q)];
        for (at, score) in scores.iter().enumerate() {
            let value = score(&p, &q);
            assert!(value >= 0.0 && (at == 0 || at == 4 || value <= 1.0));
            assert!(at == 4 || (value - score(&q, &p)).abs() < 1e-12);
            assert!(score(&coarse(&p), &coarse(&q)) <= value + 1e-12, "score {at}");
            assert!(score(&p, &p).abs() < 1e-15);
        }
        assert!(l_infinity(&p, &q) <= 1.0 && psi_jeffreys(&p, &q) >= 0.0);
    }
}

#[test]
fn raw_scores_are_inside_the_intervals_of_histograms() {
    let mut random = Random(3);
    for round in 0..40 {
        let draw = |random: &mut Random, shift: f64| -> Vec<f64> {
            (0..600).map(|_| (random.normal() * (0.3 + f64::from(round) / 20.0) + shift).exp()).collect()
        };
        let (a, b) = (draw(&mut random, 0.0), draw(&mut random, f64::from(round) / 40.0));
        let binned = Comparison::of_states(&state_of(&a), &state_of(&b), ColumnOptions::default()).unwrap();
        let raw = Comparison::of_samples(&sorted(a), &sorted(b), ColumnOptions::default()).unwrap();
        let (raw, binned) = (raw.numeric.unwrap(), binned.numeric.unwrap());
        assert!(binned.ks.0 <= raw.ks.0 + 1e-12 && raw.ks.0 <= binned.ks.1 + 1e-12);
        let error = (binned.wasserstein.unwrap() - raw.wasserstein.unwrap()).abs();
        assert!(error <= binned.wasserstein_radius.unwrap() * (1.0 + 1e-9));
        let scaled = (raw.wasserstein_scaled.unwrap(), binned.wasserstein_scaled.unwrap());
        assert!((scaled.0 - scaled.1).abs() < 0.03 + 0.05 * scaled.0, "{scaled:?}");
    }
}

#[test]
fn one_value_of_any_size_moves_scores_no_more_than_one_row() {
    let mut random = Random(4);
    let reference = sorted((0..2_000).map(|_| random.normal()).collect());
    let current: Vec<f64> = (0..2_000).map(|_| random.normal() + 0.3).collect();
    let score = |changed: f64| {
        let mut values = current.clone();
        values[0] = changed;
        Comparison::of_samples(&reference, &sorted(values), ColumnOptions::default()).unwrap()
    };
    let moved = |value: f64| {
        let scores = score(value);
        let numeric = scores.numeric.unwrap();
        [scores.psi, scores.jensen_shannon, scores.total_variation, numeric.ks.0, numeric.wasserstein_scaled.unwrap()]
    };
    // A row moved to just above the reference's largest value does to these scores what 1e300 does.
    assert_eq!(moved(1e300), moved(reference[1_999] + 10.0));
    let mut outlier = reference.clone();
    outlier[1_999] = 1e300;
    let with = Comparison::of_samples(&outlier, &sorted(current.clone()), ColumnOptions::default()).unwrap();
    let without = Comparison::of_samples(&reference, &sorted(current), ColumnOptions::default()).unwrap();
    assert!(
        (with.psi - without.psi).abs() < 1e-3 && (with.numeric.unwrap().ks.0 - without.numeric.unwrap().ks.0) < 1e-3
    );
}

#[test]
fn a_frequent_value_has_its_own_bin() {
    let mut values: Vec<f64> = (0..700u32).map(f64::from).collect();
    values.extend([350.0; 300]);
    let values = sorted(values);
    let cuts = reference_cuts(&values);
    let at = cuts.iter().position(|cut| *cut == 350.0).unwrap();
    assert_eq!(cuts[at - 1], 350f64.next_down());
    assert_eq!(bin_counts(&values, &cuts)[at], 301);
    assert_eq!(reference_cuts(&[5.0; 50]), [5.0]);
}

fn verdict(reference: &[f64], current: &[f64]) -> Decision {
    let comparison = Comparison::of_samples(reference, current, ColumnOptions::default()).unwrap();
    let evidence = Evidence { leave_one_out: &[], q_value: None, windows_before: 0, gate: Gate::Passed };
    decide(&comparison, &evidence, &Thresholds::default())
}

#[test]
fn bad_input_has_a_status() {
    let empty = Comparison::of_samples(&[], &[1.0], ColumnOptions::default());
    assert_eq!(empty, Err(CompareError::Empty { side: "reference" }));
    let nulls = {
        let mut state = FeatureState::default();
        (0..500).for_each(|_| state.record(None));
        (0..5).for_each(|_| state.record(Some(f64::INFINITY)));
        state
    };
    let full = state_of(&[1.0; 500]);
    let all_null = Comparison::of_states(&full, &nulls, ColumnOptions::default());
    assert_eq!(all_null, Err(CompareError::Empty { side: "current window" }));
    assert_eq!((nulls.null(), nulls.non_finite(), nulls.count()), (500, 5, 0));
    assert_eq!(verdict(&[1.0], &[2.0]).status, Status::InsufficientData);
    assert_eq!(verdict(&[5.0; 300], &[5.0; 300]).status, Status::Ok);
    assert_eq!(verdict(&[5.0; 300], &[7.0; 300]).status, Status::Critical);
    let huge = sorted((0..400).map(|at| if at % 2 == 0 { 1e308 } else { -1e308 }).collect());
    let decision = verdict(&huge, &[0.0; 400]);
    assert!(decision.severity.is_some_and(f64::is_finite) && decision.status == Status::Critical);
    let binned = Comparison::of_states(&state_of(&huge), &state_of(&[0.0; 400]), ColumnOptions::default()).unwrap();
    assert!(binned.psi > 1.0 && binned.psi.is_finite());
    let mut explicit = FeatureState::default();
    let point = ExplicitPoint { bounds: &[1.0], counts: &[300, 300], sum: None, min: None, max: None };
    explicit.add_explicit(&point).unwrap();
    let mixed = Comparison::of_states(&full, &explicit, ColumnOptions::default());
    assert!(matches!(mixed, Err(CompareError::Layout { .. })));
    assert!(explicit.add_explicit(&ExplicitPoint { counts: &[1], ..point.clone() }).is_err());
    assert_eq!(explicit.add_explicit(&ExplicitPoint { bounds: &[f64::NAN], ..point.clone() }), Err(StateError::Bounds));
    let overflow = explicit.add_explicit(&ExplicitPoint { counts: &[u64::MAX, 1], ..point });
    assert_eq!(overflow, Err(StateError::CountOverflow));
}

#[test]
fn an_alarm_needs_every_condition() {
    let mut random = Random(5);
    let reference = sorted((0..3_000).map(|_| random.normal()).collect());
    let current = sorted((0..3_000).map(|_| random.normal() + 0.4).collect());
    let comparison = Comparison::of_samples(&reference, &current, ColumnOptions::default()).unwrap();
    let quiet = [0.01; 8];
    let base = Evidence { leave_one_out: &quiet, q_value: Some(0.001), windows_before: 1, gate: Gate::Passed };
    let limits = Thresholds::default();
    let warned = decide(&comparison, &base, &limits);
    assert_eq!((warned.status, warned.confidence), (Status::Warn, Confidence::High), "{:?}", warned.reasons);
    let status = |evidence: &Evidence<'_>| decide(&comparison, evidence, &limits).status;
    assert_eq!(status(&Evidence { windows_before: 0, ..base.clone() }), Status::Ok);
    assert_eq!(status(&Evidence { leave_one_out: &[0.2; 8], ..base.clone() }), Status::Ok);
    assert_eq!(status(&Evidence { q_value: Some(0.2), ..base.clone() }), Status::Ok);
    // What would be critical, against a reference that varies as much: no alarm, and no confidence in that either.
    let far = Thresholds { psi_warn: 0.01, psi_critical: 0.02, ..limits.clone() };
    let unsteady = decide(&comparison, &Evidence { leave_one_out: &[0.9; 8], ..base.clone() }, &far);
    let says = unsteady.reasons.iter().any(|reason| reason.contains("--reference FROM/TO"));
    assert_eq!((unsteady.status, unsteady.confidence, says), (Status::Ok, Confidence::Low, true), "{unsteady:?}");
    assert_eq!(status(&Evidence { gate: Gate::Failed("missing share".into()), ..base.clone() }), Status::GateFailed);
    let strict = Thresholds { values_min: 5_000, ..limits.clone() };
    assert_eq!(decide(&comparison, &base, &strict).status, Status::InsufficientData);
    let sum: f64 = super::explain::contributions(&comparison).iter().map(|bin| bin.contribution).sum();
    assert!((sum - comparison.psi).abs() < 1e-12);
    assert!(warned.reasons.iter().any(|reason| reason.contains("learnt: PSI")), "{:?}", warned.reasons);
}
