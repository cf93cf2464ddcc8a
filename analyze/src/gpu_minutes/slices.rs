//! A card from what its MIG slices say.
//!
//! Slices report at times of their own, so a minute of the card is the sum of what each slice said last, weighted by its share.
//! Sums come before means over time: a mean over slices would not change with their sizes.

use super::usual_step;

/// A slice speaks until its next point, unless that is further away than this many of its usual steps: then for one.
/// The same limit makes a gap in `gpu_state`.
const HELD_STEPS: f64 = 2.5;

/// Values of one slice, or of the card itself, and the factor by which they count for the card; NaN is unknown.
pub(super) struct Part {
    pub(super) values: Vec<f32>,
    pub(super) share: f32,
}

/// The sum of `parts` in each minute in which one of them reported; NaN in the others, and where the share of a part that
/// speaks is unknown.
pub(super) fn sum(parts: &[Part], minute_count: usize) -> Vec<f32> {
    let held: Vec<Vec<f32>> = parts.iter().map(|part| held(&part.values)).collect();
    let sum_at = |minute: usize| {
        if parts.iter().all(|part| part.values[minute].is_nan()) {
            return f32::NAN;
        }
        let said = held.iter().zip(parts).filter(|(values, _)| !values[minute].is_nan());
        said.map(|(values, part)| values[minute] * part.share).sum()
    };
    (0..minute_count).map(sum_at).collect()
}

/// `values` with each held as long as it speaks.
fn held(values: &[f32]) -> Vec<f32> {
    let seen: Vec<usize> = (0..values.len()).filter(|minute| !values[*minute].is_nan()).collect();
    let step = usual_step(&seen);
    let mut held = values.to_vec();
    for (at, minute) in seen.iter().enumerate() {
        let next = seen.get(at + 1).copied().unwrap_or(values.len());
        let is_gap = at + 1 == seen.len() || (next - minute) as f64 > HELD_STEPS * step as f64;
        let until = if is_gap { (minute + step).min(next) } else { next };
        held[*minute..until].fill(values[*minute]);
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: f32 = f32::NAN;

    fn check(parts: &[(&[f32], f32)], expected: &[f32]) {
        let parts: Vec<Part> =
            parts.iter().map(|(values, share)| Part { values: values.to_vec(), share: *share }).collect();
        let sums = sum(&parts, expected.len());
        let same = sums
            .iter()
            .zip(expected)
            .all(|(sum, expected)| sum.is_nan() && expected.is_nan() || (sum - expected).abs() < 1e-6);
        assert!(same, "{sums:?} {expected:?}");
    }

    #[test]
    fn slices_that_report_in_turns_add_up_in_every_minute() {
        let (first, second) = ([0.5, NONE, 0.5, NONE, 0.5, NONE], [NONE, 1.0, NONE, 1.0, NONE, 1.0]);
        // The second is not there before its first point.
        check(&[(&first, 0.5), (&second, 0.25)], &[0.25, 0.5, 0.5, 0.5, 0.5, 0.5]);
    }

    #[test]
    fn a_slice_speaks_for_its_step_and_not_over_a_gap() {
        let every_minute = [1.0; 12];
        let mut slow = [NONE; 12];
        (slow[0], slow[2], slow[4], slow[10]) = (1.0, 1.0, 1.0, 1.0);
        let expected = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 1.0, 1.0];
        check(&[(&every_minute, 0.5), (&slow, 0.5)], &expected);
    }

    #[test]
    fn a_minute_without_a_report_stays_unknown_and_so_does_a_slice_of_unknown_size() {
        check(&[(&[0.5, NONE, 0.5], 0.5), (&[0.5, NONE, 0.5], 0.5)], &[0.5, NONE, 0.5]);
        check(&[(&[0.5, 0.5], NONE), (&[NONE, 0.5], 1.0)], &[NONE, NONE]);
        check(&[], &[NONE, NONE]);
    }
}
