//! Statistics and histogram alignment against vectors computed with NumPy and SciPy.

use serde_json::Value;

use super::{
    chi_square, compat,
    contingency::{chi_square_homogeneity, cramers_v, cramers_v_corrected, g_test},
    distance::*,
    histogram::{Exponential, MergedHistogram},
    multiplicity::*,
    statistics::*,
    two_sample::*,
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

/// p-values the vectors' tool truncates: a series cut at 1e-7, so that smaller ones are its noise.
const P_TRUNCATED: f64 = 1e-6;

#[test]
fn numeric_vectors() {
    for case in vectors()["numeric"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let (reference, current) = (sorted(&case["ref"]), sorted(&case["cur"]));
        let near = |what: &str, actual, expected| check(&format!("{name} {what}"), actual, expected, 1e-9, 1e-12);
        let near_p = |what: &str, actual, expected| check(&format!("{name} {what}"), actual, expected, 1e-6, 1e-60);
        let expect = &case["expect"];
        let (n, m) = (reference.len(), current.len());
        let ks = kolmogorov_smirnov(&reference, &current);
        near("ks", ks, &expect["ks"]["stat"]);
        if !expect["ks"]["p_kolmogorov_limit"].is_null() {
            near_p("ks p", kolmogorov_p_value(ks, n as u64, m as u64), &expect["ks"]["p_kolmogorov_limit"]);
        }
        near_p("ks exact p", kolmogorov_exact_p_value(ks, n, m).unwrap(), &expect["ks"]["p_exact"]);
        let w1 = wasserstein(&reference, &current);
        near("w1", w1, &expect["w1"]["raw"]);
        near("std", standard_deviation(&reference).unwrap(), &expect["w1"]["ref_std_ddof0"]);
        let iqr = quantile(&reference, 0.75).unwrap() - quantile(&reference, 0.25).unwrap();
        near("iqr", iqr, &expect["w1"]["ref_iqr"]);
        let energy = energy_distance(&reference, &current);
        near("energy", energy, &expect["energy"]["scipy"]);
        near("energy squared", energy * energy, &expect["energy"]["squared"]);
        rank_tests(&reference, &current, name, expect);
        for (key, bins) in [("ref_quantile_bins_4", 4), ("ref_quantile_bins_10", 10)] {
            quantile_bins(&reference, &current, &format!("{name} {key}"), &case[key], bins);
        }
    }
}

fn rank_tests(reference: &[f64], current: &[f64], name: &str, expect: &Value) {
    if !expect["cvm"].is_null() {
        let (statistic, p_value) = cramer_von_mises_asymptotic(reference, current);
        check(&format!("{name} cvm"), statistic, &expect["cvm"]["stat"], 1e-9, 1e-12);
        check(&format!("{name} cvm p"), p_value, &expect["cvm"]["p_asymptotic"], 1e-5, P_TRUNCATED);
        if !expect["cvm"]["p_exact"].is_null() {
            let exact = cramer_von_mises(reference, current).p_value.unwrap();
            check(&format!("{name} cvm exact p"), exact, &expect["cvm"]["p_exact"], 1e-6, 1e-12);
        }
    }
    let expect = &expect["anderson_darling_ksample"];
    if !expect.is_null() {
        let test = anderson_darling(reference, current).unwrap();
        check(&format!("{name} ad"), test.midrank, &expect["stat_midrank"], 1e-9, 1e-12);
        check(&format!("{name} ad right"), test.right, &expect["stat_right"], 1e-9, 1e-12);
        check(&format!("{name} ad p"), test.p_value, &expect["p_midrank"], 1e-6, 1e-12);
    }
}

fn quantile_bins(reference: &[f64], current: &[f64], name: &str, case: &Value, bins: usize) {
    let mut cuts: Vec<f64> = (1..bins).map(|k| quantile(reference, k as f64 / bins as f64).unwrap()).collect();
    cuts.dedup();
    if bins == 10 {
        assert_eq!(cuts, decile_cuts(reference));
    }
    let expected_cuts = numbers(&case["inner_edges"]);
    assert_eq!(cuts.len(), expected_cuts.len(), "{name} cuts {cuts:?}");
    for (cut, expected) in cuts.iter().zip(&expected_cuts) {
        assert!((cut - expected).abs() <= 1e-9 * expected.abs(), "{name} cut {cut} instead of {expected}");
    }
    let (p, q) = (bin_counts(reference, &cuts), bin_counts(current, &cuts));
    assert_eq!((&p, &q), (&counts(&case["ref_counts"]), &counts(&case["cur_counts"])), "{name} counts");
    binned(&p, &q, name, &case["expect"]);
}

/// PSI with shares raised to at least `floor`, as deepchecks does.
fn floored_psi(p: &[u64], q: &[u64], floor: f64) -> f64 {
    let raise = |side: &[u64]| -> Vec<f64> { shares(side, 0.0).into_iter().map(|share| share.max(floor)).collect() };
    raise(p).iter().zip(raise(q)).map(|(p, q)| (q - p) * (q / p).ln()).sum()
}

/// Every expected value of binned counts; a value the tool did not compute is absent.
fn binned(p: &[u64], q: &[u64], name: &str, expect: &Value) {
    let (n, m) = (p.iter().sum::<u64>(), q.iter().sum::<u64>());
    // Bins that are empty on both sides have no degree of freedom.
    let bins = p.iter().zip(q).filter(|(p, q)| **p + **q > 0).count();
    let js = jensen_shannon(p, q);
    let chi = chi_square_homogeneity(p, q);
    let g = g_test(p, q);
    let mean = (bins as f64 - 1.0) * (1.0 / n as f64 + 1.0 / m as f64);
    let critical = chi_square::upper_quantile(0.05, bins - 1).map(|x| x * (1.0 / n as f64 + 1.0 / m as f64));
    let (ks_lower, _) = kolmogorov_smirnov_bounds(p, q);
    let all = [
        ("psi_unsmoothed", Some(psi(p, q, 0.0))),
        ("psi_add0.5", Some(psi_jeffreys(p, q))),
        ("psi_add1.0", Some(psi(p, q, 1.0))),
        ("psi_floor_1e-4", Some(floored_psi(p, q, 1e-4))),
        ("psi_floor_0.01_deepchecks", Some(floored_psi(p, q, 0.01))),
        ("psi_evidently_fill", Some(compat::evidently_psi(p, q))),
        ("kl_ref_to_cur_nats", Some(kullback_leibler(p, q))),
        ("kl_cur_to_ref_nats", Some(kullback_leibler(q, p))),
        ("js_distance_base2", Some(js)),
        ("js_distance_nats", Some(compat::evidently_js(p, q))),
        ("js_divergence_base2", Some(js * js)),
        ("hellinger", Some(hellinger(p, q))),
        ("total_variation", Some(total_variation(p, q))),
        ("l_infinity", Some(l_infinity(p, q))),
        ("ks_on_bins", Some(ks_lower)),
        ("cramers_v", cramers_v(p, q)),
        ("cramers_v_bias_corrected", cramers_v_corrected(p, q)),
        ("psi_null_mean_(B-1)(1/n+1/m)", Some(mean)),
        ("psi_null_crit_95", critical),
    ];
    for (key, actual) in all {
        if !expect[key].is_null() {
            check(&format!("{name} {key}"), actual.unwrap(), &expect[key], 1e-9, 1e-12);
        }
    }
    for (key, test) in [("chi2_homogeneity", chi), ("g_test", g)] {
        if !expect[key].is_null() {
            let test = test.unwrap();
            check(&format!("{name} {key}"), test.statistic, &expect[key]["stat"], 1e-9, 1e-12);
            check(&format!("{name} {key} p"), test.p_value, &expect[key]["p"], 1e-6, 1e-60);
            if key == "chi2_homogeneity" {
                assert_eq!(test.degrees as u64, expect[key]["dof"].as_u64().unwrap(), "{name} {key}");
                check(&format!("{name} expected"), test.expected_min, &expect[key]["min_expected"], 1e-9, 0.0);
            }
        }
    }
    let fit = &expect["chi2_gof_expected_scaled_ref"];
    if !fit.is_null() {
        check(&format!("{name} fit"), compat::evidently_chi_square_p(p, q).unwrap(), &fit["p"], 1e-6, 1e-60);
    }
}

#[test]
fn categorical_vectors() {
    for case in vectors()["categorical"].as_array().unwrap() {
        let (p, q) = (counts(&case["ref_counts"]), counts(&case["cur_counts"]));
        binned(&p, &q, case["name"].as_str().unwrap(), &case["expect"]);
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
        binned(&p, &q, name, &expect["discrete"]);
    }
}

#[test]
fn multiplicity_vectors() {
    let vectors = vectors();
    let family = &vectors["multiple_testing"];
    let p_values = numbers(&family["p"]);
    let all = [
        ("bonferroni", bonferroni(&p_values)),
        ("holm", holm(&p_values)),
        ("bh", benjamini_hochberg(&p_values)),
        ("by", benjamini_yekutieli(&p_values)),
    ];
    for (key, adjusted) in all {
        for (actual, expected) in adjusted.iter().zip(family[key].as_array().unwrap()) {
            check(key, *actual, expected, 1e-9, 1e-12);
        }
        let rejected = adjusted.iter().filter(|p| **p <= 0.05).count() as u64;
        assert_eq!(rejected, family["rejected_at_0.05"][key].as_u64().unwrap(), "{key}");
    }
}

#[test]
fn closed_forms_of_shifted_normals() {
    use statrs::function::erf::{erf, erf_inv};
    let cdf = |x: f64| (1.0 + erf(x / 2f64.sqrt())) / 2.0;
    for case in vectors()["closed_form"].as_array().unwrap() {
        let shift = case["cur"][0].as_f64().unwrap();
        let cuts: Vec<f64> = (1..10).map(|k| 2f64.sqrt() * erf_inv(2.0 * f64::from(k) / 10.0 - 1.0)).collect();
        let counts = |shift: f64| -> Vec<u64> {
            let ends: Vec<f64> =
                [0.0].into_iter().chain(cuts.iter().map(|cut| cdf(cut - shift))).chain([1.0]).collect();
            ends.windows(2).map(|pair| ((pair[1] - pair[0]) * 1e17).round() as u64).collect()
        };
        check("psi of deciles", psi(&counts(0.0), &counts(shift), 0.0), &case["psi_ref_deciles"], 1e-9, 0.0);
        let captured = case["psi_ref_deciles"].as_f64().unwrap() / case["psi_continuous"].as_f64().unwrap();
        assert!((0.92..0.97).contains(&captured), "{captured}");
        // A grid of quantiles of each side approaches the continuous distances.
        let grid = |shift: f64| -> Vec<f64> {
            (0..20_000).map(|at| shift + 2f64.sqrt() * erf_inv((2.0 * f64::from(at) + 1.0) / 20_000.0 - 1.0)).collect()
        };
        let (reference, current) = (grid(0.0), grid(shift));
        check("w1", wasserstein(&reference, &current), &case["w1"], 1e-9, 0.0);
        check("ks", kolmogorov_smirnov(&reference, &current), &case["ks"], 0.0, 1e-4);
    }
}

#[test]
fn evidently_vectors() {
    let vectors = vectors();
    for case in vectors["evidently_numeric"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let numeric = vectors["numeric"].as_array().unwrap();
        let input = numeric.iter().find(|input| input["name"] == *name).unwrap();
        let (reference, current) = (sorted(&input["ref"]), sorted(&input["cur"]));
        let (p, q) = compat::evidently_bins(&reference, &current);
        assert_eq!(p.len() as u64, case["expect"]["_n_bins"].as_u64().unwrap(), "{name} bins");
        let all = [
            ("psi", compat::evidently_psi(&p, &q)),
            ("jensenshannon", compat::evidently_js(&p, &q)),
            ("wasserstein", compat::evidently_wasserstein(&reference, &current)),
            ("kl_div", compat::evidently_kl(&p, &q)),
            ("hellinger", compat::evidently_hellinger(&reference, &current)),
            ("ed", compat::evidently_energy(&reference, &current)),
        ];
        for (key, actual) in all {
            // 1 - (Bhattacharyya coefficient) cancels in the tool: 1e-9 of a small distance is beyond its own rounding.
            check(&format!("{name} {key}"), actual, &case["expect"][key][0], 1e-9, 1e-12);
        }
        let ks = kolmogorov_smirnov(&reference, &current);
        let p_value = kolmogorov_exact_p_value(ks, reference.len(), current.len()).unwrap();
        check(&format!("{name} ks p"), p_value, &case["expect"]["ks"][0], 1e-6, 1e-60);
        let anderson = anderson_darling(&reference, &current).unwrap();
        check(&format!("{name} ad p"), anderson.p_value, &case["expect"]["anderson"][0], 1e-6, 1e-12);
    }
    for (case, input) in
        vectors["evidently_categorical"].as_array().unwrap().iter().zip(vectors["categorical"].as_array().unwrap())
    {
        let name = case["name"].as_str().unwrap();
        let (p, q) = (counts(&input["ref_counts"]), counts(&input["cur_counts"]));
        let all = [
            ("psi", compat::evidently_psi(&p, &q)),
            ("jensenshannon", compat::evidently_js(&p, &q)),
            ("hellinger", hellinger(&p, &q)),
        ];
        for (key, actual) in all {
            check(&format!("{name} {key}"), actual, &case["expect"][key][0], 1e-9, 1e-11);
        }
        let expected = &case["expect"]["chisquare"][0];
        match compat::evidently_chi_square_p(&p, &q) {
            Some(actual) => check(&format!("{name} chi"), actual, expected, 1e-6, 1e-60),
            None => assert!(expected.is_null(), "{name}"),
        }
    }
}

#[test]
fn nannyml_and_sagemaker_follow_their_definitions() {
    // 2 + log2(1 + 0) bins at n = 4: log2(4) + 1 = 3 bins of [1, 4]; 9 is in the bin for the rest.
    let js = compat::nannyml_js(&[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 3.0, 9.0]);
    assert!((js - jensen_shannon(&[1, 1, 2, 0], &[1, 1, 1, 1])).abs() < 1e-15, "{js}");
    assert_eq!(compat::sagemaker_linf(0.2, 100, 100, false), 0.2);
    assert_eq!(compat::sagemaker_linf(0.2, 100, 100, true), 0.0);
    assert!((compat::sagemaker_linf(0.2, 10_000, 10_000, true) - (0.2 - 1.8 * 2f64.sqrt() / 100.0)).abs() < 1e-15);
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
        negative: [].into_iter().collect(),
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

#[test]
fn quartiles_and_median_deviation_of_the_quality_vectors() {
    let vectors = vectors();
    let case = &vectors["data_quality"];
    let mut values: Vec<f64> = case["values"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
    values.sort_by(f64::total_cmp);
    let median = quantile(&values, 0.5).unwrap();
    let mut deviations: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
    deviations.sort_by(f64::total_cmp);
    let expect = &case["expect"];
    check("q1", quantile(&values, 0.25).unwrap(), &expect["q1_type7"], 1e-9, 0.0);
    check("q3", quantile(&values, 0.75).unwrap(), &expect["q3_type7"], 1e-9, 0.0);
    check("median", median, &expect["median"], 1e-9, 0.0);
    check("mad", quantile(&deviations, 0.5).unwrap(), &expect["mad"], 1e-9, 0.0);
}
