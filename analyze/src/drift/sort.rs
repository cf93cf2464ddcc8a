//! Ascending order of doubles by radix, because sorting is most of the cost of raw scores.

/// Below this many values a comparison sort is faster.
const RADIX_MIN: usize = 4_096;
const DIGIT_BITS: u32 = 11;
const DIGITS: usize = 6;
const BUCKETS: usize = 1 << DIGIT_BITS;

/// Sorts finite values ascending; `-0.0` goes before `0.0`.
///
/// Cost: at most 6 passes of 16 bytes a value, fewer where digits are constant as in integers; `scratch` grows to the length.
pub fn sort_values(values: &mut Vec<f64>, scratch: &mut Vec<f64>) {
    if values.len() < RADIX_MIN {
        values.sort_unstable_by(f64::total_cmp);
        return;
    }
    let mut counts = vec![[0usize; BUCKETS]; DIGITS];
    for value in values.iter() {
        let key = key(*value);
        for (digit, counts) in counts.iter_mut().enumerate() {
            counts[bucket(key, digit)] += 1;
        }
    }
    scratch.clear();
    scratch.resize(values.len(), 0.0);
    for (digit, counts) in counts.iter_mut().enumerate() {
        if counts.contains(&values.len()) {
            continue;
        }
        let mut start = 0;
        for count in counts.iter_mut() {
            start += std::mem::replace(count, start);
        }
        for &value in values.iter() {
            let next = &mut counts[bucket(key(value), digit)];
            scratch[*next] = value;
            *next += 1;
        }
        std::mem::swap(values, scratch);
    }
}

fn bucket(key: u64, digit: usize) -> usize {
    (key >> (digit as u32 * DIGIT_BITS)) as usize & (BUCKETS - 1)
}

/// An integer in the order of `total_cmp`.
fn key(value: f64) -> u64 {
    let bits = value.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | (1 << 63) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_a_comparison_sort() {
        let mut state = 7u64;
        let mut values: Vec<f64> = (0..20_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let value = f64::from_bits(state);
                if value.is_finite() { value } else { -0.0 }
            })
            .collect();
        let mut expected = values.clone();
        expected.sort_unstable_by(f64::total_cmp);
        sort_values(&mut values, &mut Vec::new());
        assert_eq!(values, expected);
        let mut tokens: Vec<f64> = (0..9_000u32).map(|at| f64::from(at * 7_919 % 4_001)).collect();
        sort_values(&mut tokens, &mut Vec::new());
        assert!(tokens.windows(2).all(|pair| pair[0] <= pair[1]));
    }
}
