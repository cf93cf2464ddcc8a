//! Statistics and histogram alignment against vectors computed with NumPy and SciPy.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    histogram::{Exponential, MergedHistogram},
    statistics::*,
};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../tests/data/drift_vectors.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|item| item.as_f64().unwrap()).collect()
}

fn counts(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|item| item.as_u64().unwrap()).collect()
}

fn sorted(value: &Value) -> Vec<f64> {
    let mut values = numbers(value);
    values.sort_by(f64::total_cmp);
    values
}

#[track_caller]
fn check(what: &str, actual: f64, expected: &Value, relative: f64, absolute: f64) {
    let expected = if expected == "inf" { f64::INFINITY } else { expected.as_f64().unwrap() };
    let near = actual == expected || (actual - expected).abs() <= absolute.max(relative * expected.abs());
    assert!(near, "{what}: {actual} instead of {expected}");
}

#[test]
fn numeric_vectors() {
    for case in vectors()["numeric"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let (reference, current) = (sorted(&case["ref"]), sorted(&case["cur"]));
        let near = |what: &str, actual, expected| check(&format!("{name} {what}"), actual, expected, 1e-9, 1e-12);
        let ks = kolmogorov_smirnov(&reference, &current);
        near("ks", ks, &case["ks"]);
        let p_value = kolmogorov_p_value(ks, reference.len() as u64, current.len() as u64);
        check(&format!("{name} ks p"), p_value, &case["ks_p"], 1e-6, 1e-12);
        let w1 = wasserstein(&reference, &current);
        near("w1", w1, &case["w1"]);
        let std = standard_deviation(&reference).unwrap();
        near("std", std, &case["ref_std"]);
        if !case["w1_over_std"].is_null() {
            near("w1/std", w1 / std, &case["w1_over_std"]);
        }
        let cuts = decile_cuts(&reference);
        let expected_cuts = case["inner_edges"].as_array().unwrap();
        assert_eq!(cuts.len(), expected_cuts.len(), "{name} cuts {cuts:?}");
        cuts.iter().zip(expected_cuts).for_each(|(cut, expected)| near("cut", *cut, expected));
        let (p, q) = (bin_counts(&reference, &cuts), bin_counts(&current, &cuts));
        assert_eq!((&p, &q), (&counts(&case["ref_counts"]), &counts(&case["cur_counts"])), "{name} counts");
        near("psi", psi(&p, &q, 0.0), &case["psi_unsmoothed"]);
        near("smoothed psi", psi(&p, &q, 0.5), &case["psi_add_half"]);
        near("js", jensen_shannon(&p, &q), &case["js_distance_base2"]);
    }
}

#[test]
fn histogram_vectors() {
    for case in vectors()["histogram_only"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let (p, q, expect) = (counts(&case["ref_counts"]), counts(&case["cur_counts"]), &case["expect"]);
        let near = |what: &str, actual, expected| check(&format!("{name} {what}"), actual, expected, 1e-9, 1e-12);
        let (lower, upper) = kolmogorov_smirnov_bounds(&p, &q);
        near("ks lower", lower, &expect["ks_lower"]);
        near("ks upper", upper, &expect["ks_upper"]);
        let (w1, radius) = wasserstein_binned(&numbers(&case["edges"]), &p, &q);
        near("w1", w1, &expect["w1_uniform_in_bin"]);
        near("w1 radius", radius, &expect["w1_radius"]);
        near("psi", psi(&p, &q, 0.5), &expect["psi_add_half"]);
        near("js", jensen_shannon(&p, &q), &expect["js_distance_base2"]);
    }
}

fn exponential(scale: i32, offset: i64, counts: &[u64]) -> MergedHistogram {
    let positive = counts.iter().enumerate().map(|(at, count)| (offset + at as i64, *count)).collect();
    let mut merged = MergedHistogram::default();
    let zero = (0, 0.0);
    merged.add_exponential(Exponential {
        scale,
        zero_count: zero.0,
        zero_threshold: zero.1,
        positive,
        negative: BTreeMap::new(),
    });
    merged
}

#[test]
fn exponential_histograms_hold_the_raw_statistics_in_their_bounds() {
    let vectors = vectors();
    let group = &vectors["exp_histogram_from_raw"];
    let (raw_ks, raw_w1) = (group["raw_ks"].as_f64().unwrap(), group["raw_w1"].as_f64().unwrap());
    for case in group["cases"].as_array().unwrap() {
        let (scale, offset) = (case["scale"].as_i64().unwrap() as i32, case["offset"].as_i64().unwrap());
        let side = |name: &str| exponential(scale, offset, &counts(&case[name]));
        let aligned = side("ref_counts").align(side("cur_counts")).unwrap();
        let (lower, upper) = kolmogorov_smirnov_bounds(&aligned.reference, &aligned.current);
        check("ks lower", lower, &case["ks_lower"], 1e-9, 1e-12);
        check("ks upper", upper, &case["ks_upper"], 1e-9, 1e-12);
        let (w1, radius) = wasserstein_binned(&aligned.edges, &aligned.reference, &aligned.current);
        check("w1", w1, &case["w1_uniform_in_bin"], 1e-9, 1e-9);
        assert!(lower <= raw_ks + 1e-12 && raw_ks <= upper + 1e-12, "scale {scale}");
        assert!((w1 - raw_w1).abs() <= radius, "scale {scale}");
    }
}

#[test]
fn the_noise_limit_shrinks_with_the_samples() {
    // 434 a side is where a PSI of 0.1 over ten bins becomes meaningful at 99 % (Yurdakul 2018).
    assert!(psi_noise_critical(10, 433, 433).unwrap() > 0.1);
    assert!(psi_noise_critical(10, 434, 434).unwrap() < 0.1);
    assert_eq!(psi_noise_critical(1, 100, 100), None);
    assert_eq!(psi_noise_critical(10, 0, 100), None);
}

#[test]
fn snapped_cuts_are_bucket_edges_near_the_deciles() {
    assert_eq!(snapped_decile_cuts(&[50, 50]), [1]);
    assert_eq!(snapped_decile_cuts(&[10; 10]), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(merge_bins(&[1, 2, 3, 4], &[1, 3]), [1, 5, 4]);
    assert_eq!(snapped_decile_cuts(&[7]), [0usize; 0]);
}
