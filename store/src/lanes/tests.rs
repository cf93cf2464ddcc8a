use proptest::prelude::*;

use super::*;

fn double(value: f64) -> Sample {
    Sample::new(0, 0, value.to_bits(), SampleColumns::DOUBLE)
}

fn int(value: i64) -> Sample {
    Sample::new(0, 0, value.cast_unsigned(), SampleColumns::INT)
}

/// Value and integer of each sample after a way through the lanes.
fn round_trip(samples: &[Sample]) -> Vec<(Option<u64>, Option<i64>)> {
    let exponent = run_exponent(std::iter::once(samples));
    let lanes: Vec<_> = samples.iter().map(|sample| Lanes::new(sample, exponent)).collect();
    let scaled: Int64Array = lanes.iter().map(|lanes| lanes.decimal.map(|decimal| decimal.0)).collect();
    let exponent: Int32Array = lanes.iter().map(|lanes| lanes.decimal.map(|decimal| decimal.1)).collect();
    let value: Float64Array = lanes.iter().map(|lanes| lanes.double).collect();
    let doubles = values(&scaled, &exponent, &value).unwrap();
    let integers = integers(&scaled, &exponent);
    doubles.iter().map(|double| double.map(f64::to_bits)).zip(integers.iter()).collect()
}

/// What a sample shows, whether it has been through the lanes or not.
fn shown(sample: &Sample) -> (Option<u64>, Option<i64>) {
    match sample.form() {
        SampleColumns::INT => {
            let int = sample.bits.cast_signed();
            (Some((int as f64).to_bits()), beyond_double(int))
        }
        SampleColumns::NO_VALUE => (None, None),
        _ => (Some(sample.bits), None),
    }
}

fn check(samples: &[Sample]) {
    assert_eq!(round_trip(samples), samples.iter().map(shown).collect::<Vec<_>>());
}

/// A decimal number with `digits` digits after the point, as a program prints and parses it.
fn decimal(units: i64, digits: u32) -> Sample {
    double(format!("{units}e-{digits}").parse().unwrap())
}

fn any_sample() -> impl Strategy<Value = Sample> {
    let odd = [
        0.0,
        -0.0,
        f64::NAN,
        f64::from_bits(0x7ff0_0000_0000_dead),
        f64::from_bits(0xfff8_0000_0000_0001),
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MIN_POSITIVE / 3.0,
        f64::from_bits(1),
        f64::MAX,
        9_007_199_254_740_991.0,
        9_007_199_254_740_992.0,
        -9_007_199_254_740_993.0,
        0.1 + 0.2,
    ];
    let ints = [i64::MIN, i64::MAX, (1 << 53) - 1, 1 << 53, (1 << 53) + 1, -(1 << 53) - 1, 0];
    prop_oneof![
        any::<u64>().prop_map(|bits| double(f64::from_bits(bits))),
        (any::<i32>(), 0u32..10).prop_map(|(units, digits)| decimal(units.into(), digits)),
        (-(1i64 << 53)..1 << 53, 0u32..10).prop_map(|(units, digits)| decimal(units, digits)),
        (0..odd.len()).prop_map(move |index| double(odd[index])),
        any::<i64>().prop_map(int),
        (0..ints.len()).prop_map(move |index| int(ints[index])),
        Just(Sample::new(0, 0, 0, SampleColumns::NO_VALUE)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn any_run_comes_back_bit_for_bit(samples in prop::collection::vec(any_sample(), 0..60)) {
        check(&samples);
    }

    #[test]
    fn decimals_of_up_to_nine_digits_are_scaled(
        units in prop::collection::vec(-1_000_000_000_000i64..1_000_000_000_000, 1..60),
        digits in 0u32..10,
    ) {
        // Few enough digits in all that rounding the product cannot miss the integer.
        let samples: Vec<_> = units.iter().map(|units| decimal(*units, digits)).collect();
        let exponent = run_exponent(std::iter::once(&*samples)).unwrap();
        prop_assert!(exponent as u32 <= digits);
        prop_assert!(samples.iter().all(|sample| Lanes::new(sample, Some(exponent)).decimal.is_some()));
        check(&samples);
    }
}

#[test]
fn the_smallest_exponent_is_found_whatever_the_order() {
    for (values, exponent) in [
        (vec![1.0, 2.0, -3.0], Some(0)),
        (vec![0.5, 0.25, 1.0], Some(2)),
        (vec![1.0, 12.345678, 0.1], Some(6)),
        (vec![1.0 / 3.0, 2.0 / 3.0], None),
        (vec![f64::NAN; 4], None),
        (vec![], Some(0)),
    ] {
        let samples: Vec<_> = values.iter().copied().map(double).collect();
        assert_eq!(run_exponent(std::iter::once(&*samples)), exponent, "{values:?}");
    }
}

#[test]
fn a_few_odd_values_do_not_turn_a_run_into_doubles() {
    let mut samples: Vec<_> = (0..64).map(|n| decimal(n, 2)).collect();
    samples[10] = double(f64::NAN);
    samples[20] = double(0.1 + 0.2);
    assert_eq!(run_exponent(std::iter::once(&*samples)), Some(2));
    check(&samples);
    samples.truncate(24);
    assert_eq!(run_exponent(std::iter::once(&*samples)), None);
    check(&samples);
}

#[test]
fn integers_of_a_run_of_doubles_keep_exponent_zero() {
    let samples = [int(i64::MAX), double(0.25), int(7), double(1e300)];
    assert_eq!(Lanes::new(&samples[0], Some(2)).decimal, Some((i64::MAX, 0)));
    check(&samples);
}

#[test]
fn an_exponent_that_is_no_power_is_an_error() {
    for exponent in [Some(23), Some(-1), None] {
        let column = Int32Array::from(vec![exponent]);
        assert!(values(&Int64Array::from(vec![1]), &column, &Float64Array::from(vec![None])).is_err());
    }
}
