//! Results from Prometheus' promql/promqltest/testdata/{histograms,native_histograms}.test.

use super::*;

fn run(offset: i32, counts: &[f64]) -> Run {
    // Prometheus numbers a bucket by its upper, OpenTelemetry by its lower bound.
    Run { offset: offset - 1, counts: counts.to_vec() }
}

fn native(scale: i32, count: f64, sum: f64, zero: (f64, f64), positive: &[f64], negative: &[f64]) -> Histogram {
    let (zero_count, zero_threshold) = zero;
    let (positive, negative) = (run(0, positive), run(0, negative));
    let shape = Shape::Exponential(Exponential { scale, zero_count, zero_threshold, positive, negative });
    Histogram { count, sum: Some(sum), min: None, max: None, shape }
}

/// From cumulative counts up to each bound and in all.
fn classic(bounds: &[f64], cumulative: &[f64], sum: f64) -> Histogram {
    let before = std::iter::once(&0.0).chain(cumulative);
    let counts: Vec<f64> = cumulative.iter().zip(before).map(|(up_to, before)| up_to - before).collect();
    let shape = Shape::Explicit(Explicit { bounds: bounds.to_vec(), counts });
    Histogram { count: cumulative[cumulative.len() - 1], sum: Some(sum), min: None, max: None, shape }
}

fn check(found: f64, prometheus: f64) {
    let close = (found - prometheus).abs() <= 1e-9 * prometheus.abs().max(1e-300);
    assert!(close || found == prometheus || (found.is_nan() && prometheus.is_nan()), "{found} is not {prometheus}");
}

fn check_quantiles(of: &Histogram, quantiles: &[(f64, f64)]) {
    for (q, prometheus) in quantiles {
        check(of.quantile(*q), *prometheus);
    }
}

#[test]
fn quantiles_of_classic_histograms() {
    let positive = classic(&[0.0, 0.1, 0.2, 1.0], &[0.0, 50.0, 70.0, 110.0, 110.0], 330.0);
    check_quantiles(&positive, &[(0.0, 0.0), (0.25, 0.055), (0.5, 0.125), (0.75, 0.45), (1.0, 1.0)]);
    check_quantiles(&positive, &[(-0.1, f64::NEG_INFINITY), (1.01, f64::INFINITY), (f64::NAN, f64::NAN)]);
    let negative = classic(&[-0.25, -0.2, -0.1, 0.3], &[0.0, 10.0, 20.0, 20.0, 20.0], 80.0);
    check_quantiles(&negative, &[(0.0, -0.25), (0.25, -0.225), (0.5, -0.2), (0.75, -0.15), (1.0, -0.1)]);
    let even = classic(&[0.0, 2.0, 4.0, 6.0], &[0.0, 10.0, 20.0, 30.0, 30.0], 0.0);
    check_quantiles(&even, &[(1.0 / 6.0, 1.0), (0.5, 3.0), (5.0 / 6.0, 5.0)]);
    check_quantiles(&classic(&[], &[4.0], 1.0), &[(0.5, f64::NAN)]);
    check_quantiles(&classic(&[1.0], &[0.0, 0.0], 0.0), &[(0.5, f64::NAN)]);
    check_quantiles(&classic(&[1.0, 2.0], &[0.0, 0.0, 5.0], 50.0), &[(0.5, 2.0)]);
}

#[test]
fn spread_of_classic_histograms() {
    let positive = classic(&[0.0, 0.1, 0.2, 1.0], &[0.0, 50.0, 70.0, 110.0, 110.0], 330.0);
    let negative = classic(&[-0.25, -0.2, -0.1, 0.3], &[0.0, 10.0, 20.0, 20.0, 20.0], 80.0);
    check(positive.mean(), 3.0);
    check(positive.variance(), 7.527_045_454_545_455);
    check(positive.variance().sqrt(), 2.743_546_145_874_979_5);
    check(negative.variance(), 17.536_562_5);
}

#[test]
fn shares_of_classic_histograms() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let even = classic(&[0.0, 2.0, 4.0, 6.0], &[0.0, 10.0, 20.0, 30.0, 30.0], 0.0);
    check(even.fraction(0.0, 4.0), 2.0 / 3.0);
    check(even.fraction(0.0, 3.5), 0.583_333_333_333_333_4);
    let positive = classic(&[1.0, 2.0, 3.0], &[1.0, 3.0, 6.0, 100.0], 0.0);
    for (lower, upper, share) in [
        (0.0, 1.5, 0.02),
        (-inf, inf, 1.0),
        (4.0, 5.0, 0.0),
        (2.0, 5.0, 0.03),
        (400.0, inf, 0.94),
        (2.0, 3.5, 0.03),
        (0.5, 2.0, 0.025),
        (1.0, 3.0, 0.05),
        (-10.0, -5.0, 0.0),
        (nan, 1.0, nan),
        (3.0, 2.0, 0.0),
    ] {
        check(positive.fraction(lower, upper), share);
    }
    let negative = classic(&[-3.0, -2.0, -1.0], &[10.0, 12.0, 15.0, 100.0], 0.0);
    check(negative.fraction(-4.0, -2.0), 0.02);
    check(negative.fraction(-inf, -1.5), 0.135);
    check(negative.fraction(0.0, 1.0), 0.0);
    let crossing = classic(&[-2.0, -1.0, 0.0, 1.0], &[5.0, 10.0, 15.0, 20.0, 100.0], 0.0);
    check(crossing.fraction(-1.0, 1.0), 0.1);
    check(classic(&[0.5, 1.0], &[2.5, 7.5, 100.0], 0.0).fraction(0.1, 0.75), 0.045);
}

#[test]
fn quantiles_of_native_histograms() {
    let buckets = [2.0, 3.0, 0.0, 1.0, 4.0];
    let zero = (2.0, 0.001);
    let positive = native(0, 12.0, 100.0, zero, &buckets, &[]);
    let of_positive = [
        (1.001, f64::INFINITY),
        (1.0, 16.0),
        (0.99, 15.670_724_761_390_83),
        (0.9, 12.996_038_341_699_77),
        (0.6, 4.594_793_419_988_138),
        (0.5, 1.587_401_051_968_199_4),
        (0.1, 0.0006),
        (0.083_333_333_333_333_33, 0.0005),
        (0.0, 0.0),
        (-1.0, f64::NEG_INFINITY),
    ];
    check_quantiles(&positive, &of_positive);
    let negative = native(0, 12.0, 100.0, zero, &[], &buckets);
    check_quantiles(&negative, &[(1.0, 0.0), (0.99, -0.000_06), (0.9, -0.0006), (0.5, -1.587_401_051_968_199_6)]);
    check_quantiles(&negative, &[(0.1, -12.996_038_341_699_768), (0.0, -16.0)]);
    let both = native(0, 24.0, 100.0, (4.0, 0.001), &buckets, &buckets);
    check_quantiles(&both, &[(0.99, 15.348_225_909_204_23), (0.9, 10.556_063_286_183_155)]);
    check_quantiles(&both, &[(0.7, 1.203_025_036_082_116_4), (0.55, 0.0006), (0.5, 0.0), (0.45, -0.0006)]);
    check_quantiles(&both, &[(0.3, -1.203_025_036_082_116_9), (0.01, -15.348_225_909_204_23), (0.0, -16.0)]);
    for (scale, of_second, of_third) in
        [(-1, 2.0, 8.0), (0, 2f64.sqrt(), 8f64.sqrt()), (1, 1.189_207_115_002_721, 1.681_792_830_507_429)]
    {
        check(native(scale, 5.0, 6.0, (0.0, 0.0), &[0.0, 5.0], &[]).quantile(0.5), of_second);
        check(native(scale, 5.0, 6.0, (0.0, 0.0), &[0.0, 0.0, 5.0], &[]).quantile(0.5), of_third);
        check(native(scale, 5.0, 6.0, (0.0, 0.0), &[], &[0.0, 5.0]).quantile(0.5), -of_second);
    }
    let balanced = native(0, 8.0, 0.0, (0.0, 0.0), &[1.0, 2.0, 1.0], &[1.0, 2.0, 1.0]);
    check(balanced.quantile(0.5), 0.5);
    check(balanced.fraction(0.0, 4.0), 0.5);
    check(native(0, 1.0, 0.25, (1.0, 0.5), &[], &[]).quantile(0.5), 0.0);
}

#[test]
fn shares_of_native_histograms() {
    let inf = f64::INFINITY;
    let of = native(0, 12.0, 100.0, (2.0, 0.001), &[2.0, 3.0, 0.0, 1.0, 4.0], &[]);
    for (lower, upper, share) in [
        (0.0, inf, 1.0),
        (-inf, 0.0, 0.0),
        (-0.001, 0.0, 0.0),
        (0.0, 0.001, 0.166_666_666_666_666_66),
        (0.001, inf, 0.833_333_333_333_333_4),
        (0.0, 0.0005, 0.083_333_333_333_333_33),
        (1.0, 2.0, 0.25),
        (0.0, 1.5, 0.479_573_958_513_622_4),
        (1.5, 2.0, 0.103_759_374_819_710_91),
        (1.0, 8.0, 0.333_333_333_333_333_3),
        (0.0, 6.0, 0.632_080_208_393_429_7),
        (1.0, 6.0, 0.298_746_875_060_096_34),
        (1.5, 6.0, 0.152_506_249_879_807_24),
        (-2.0, -1.0, 0.0),
        (42.0, 3.5, 0.0),
        (-inf, inf, 1.0),
    ] {
        check(of.fraction(lower, upper), share);
    }
}

#[test]
fn spread_of_native_histograms() {
    let low = native(2, 4.0, 10.0, (0.0, 0.0), &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0], &[]);
    check(low.variance().sqrt(), 1.078_799_318_004_381_1);
    check(low.variance(), 1.163_807_968_526_718);
    let high = native(8, 10.0, 10.0, (0.0, 0.0), &[1.0, 2.0, 3.0, 4.0], &[]);
    check(high.variance().sqrt(), 0.004_896_031_389_823_746_5);
    let ten = native(0, 10.0, -100.0, (0.0, 0.0), &[], &[0.0, 0.0, 0.0, 0.0, 10.0]);
    check(ten.variance(), 1.725_830_020_304_794);
    let wide = [0., 0., 1., 1., 1., 0., 1., 1., 0., 0., 3., 0., 0., 0., 1., 0., 0., 1.];
    check(native(0, 10.0, -112_946.0, (0.0, 0.0), &[], &wide).variance(), 759_352_122.193_994_5);
}

#[test]
fn a_sum_has_the_lower_scale_and_the_larger_zero_bucket() {
    // {{schema:-1 sum:4 count:1 buckets:[1] offset:1}}+{{schema:0 sum:4 count:4 buckets:[2 2] offset:1}}
    let mut low = native(-1, 1.0, 4.0, (0.0, 0.0), &[0.0, 1.0], &[]);
    low.add(&native(0, 4.0, 4.0, (0.0, 0.0), &[0.0, 2.0, 2.0], &[]), 1.0).unwrap();
    low.settle();
    assert_eq!((low.count, low.sum, low.fraction(1.0, 4.0)), (5.0, Some(8.0), 1.0));
    let Shape::Exponential(shape) = &low.shape else { panic!("{low:?}") };
    assert_eq!((shape.scale, &shape.positive), (-1, &run(1, &[5.0])));
    // The threshold 1.5 cuts the bucket (1, 2], which goes to the zero bucket whole.
    let mut zero = native(0, 4.0, 4.0, (1.0, 0.001), &[1.0, 1.0, 1.0], &[]);
    zero.add(&native(0, 1.0, 0.0, (1.0, 1.5), &[], &[]), 1.0).unwrap();
    zero.settle();
    let Shape::Exponential(shape) = &zero.shape else { panic!("{zero:?}") };
    assert_eq!((shape.zero_count, shape.zero_threshold, &shape.positive), (4.0, 2.0, &run(2, &[1.0])));
}

#[test]
fn far_apart_buckets_do_not_take_memory_for_those_between() {
    let far = |offset| Run { offset, counts: vec![1.0] };
    let mut sum = native(20, 1.0, 1.0, (0.0, 0.0), &[], &[]);
    let mut other = sum.clone();
    for (of, offset) in [(&mut sum, i32::MIN), (&mut other, i32::MAX)] {
        let Shape::Exponential(shape) = &mut of.shape else { panic!("{of:?}") };
        shape.positive = far(offset);
    }
    sum.add(&other, 1.0).unwrap();
    let Shape::Exponential(shape) = &sum.shape else { panic!("{sum:?}") };
    assert!(shape.positive.counts.len() <= 16_384, "{}", shape.positive.counts.len());
    assert_eq!((sum.count, shape.positive.counts.iter().sum::<f64>(), shape.scale), (2.0, 2.0, 2));
}

#[test]
fn a_sum_of_other_bounds_has_those_of_both() {
    let mut one = classic(&[1.0, 2.0, 4.0], &[1.0, 3.0, 6.0, 10.0], 20.0);
    one.add(&classic(&[1.0, 3.0, 4.0], &[5.0, 5.0, 5.0, 6.0], 9.0), 1.0).unwrap();
    assert_eq!(one, classic(&[1.0, 4.0], &[6.0, 11.0, 16.0], 29.0));
    let mut mixed = classic(&[1.0], &[1.0, 1.0], 1.0);
    assert!(mixed.add(&native(0, 1.0, 1.0, (0.0, 0.0), &[1.0], &[]), 1.0).is_err());
}

#[test]
fn rebinning_is_exact_at_bounds_that_are_there() {
    let of = classic(&[1.0, 2.0, 4.0], &[1.0, 3.0, 6.0, 10.0], 20.0);
    assert_eq!(of.with_bounds(&[2.0, 4.0]).unwrap(), classic(&[2.0, 4.0], &[3.0, 6.0, 10.0], 20.0));
    assert_eq!(of.with_bounds(&[3.0]).unwrap(), classic(&[3.0], &[4.5, 10.0], 20.0));
    assert!(of.with_bounds(&[2.0, 1.0]).is_err());
    assert!(of.with_scale(0).is_err());
    let fine = native(1, 4.0, 1.0, (0.0, 0.0), &[0.0, 1.0, 1.0, 2.0], &[]);
    let coarse = fine.with_scale(0).unwrap();
    let Shape::Exponential(shape) = &coarse.shape else { panic!("{coarse:?}") };
    assert_eq!((shape.scale, &shape.positive, coarse.count), (0, &run(1, &[2.0, 2.0]), 4.0));
    assert!(fine.with_scale(2).is_err());
}

#[test]
fn the_quantile_is_within_its_bounds() {
    let of = classic(&[1.0, 2.0, 4.0], &[1.0, 3.0, 6.0, 10.0], 20.0);
    assert_eq!(of.quantile_bounds(0.3), Some((1.0, 2.0)));
    assert_eq!(of.quantile_bounds(0.95), Some((4.0, f64::INFINITY)));
    let told = Histogram { max: Some(7.0), ..of };
    assert_eq!(told.quantile_bounds(0.95), Some((4.0, 7.0)));
    assert_eq!(told.quantile_bounds(1.5), None);
}
