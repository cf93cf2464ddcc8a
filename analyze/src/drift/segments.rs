//! A change of the whole split into a change of who sends (mix) and a change of what each sends (within).

use serde::Serialize;

use super::statistics;

/// Counts of one segment on bins common to all.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentCounts {
    /// Segment value, as a tenant or a route.
    pub segment: String,
    /// Reference counts by bin.
    pub reference: Vec<u64>,
    /// Current counts by bin.
    pub current: Vec<u64>,
}

/// What one segment adds to the PSI of the whole.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SegmentShift {
    /// Segment value.
    pub segment: String,
    /// Its share of the reference and of the current window.
    pub share: (f64, f64),
    /// Part through its share.
    pub mix: f64,
    /// Part through its own distribution.
    pub within: f64,
}

/// The split; `mix + within` is the whole exactly.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MixShift {
    /// By segment, as given.
    pub segments: Vec<SegmentShift>,
    /// Sum of the segments' mix parts.
    pub mix: f64,
    /// Sum of their within parts.
    pub within: f64,
}

impl MixShift {
    /// Whether most of the change is that other segments send, not that segments changed.
    pub fn is_mostly_mix(&self) -> bool {
        self.mix.abs() > self.within.abs()
    }
}

/// Splits `sum (q - p) ln(q~ / p~)` of the pooled counts over segments; none where a side is empty.
///
/// `p`, `q` are shares and `p~`, `q~` the Jeffreys-smoothed ones. As `q - p = sum_s dw_s (p_s + q_s) / 2 + sum_s w_s (q_s -
/// p_s)` with the mean weight `w_s`, the split is exact. A segment that one side lacks has no distribution there: it takes
/// the other side's and is all mix.
///
/// Source: Kitagawa 1955 (decomposition of a difference between two rates).
pub fn mix_shift(segments: &[SegmentCounts]) -> Option<MixShift> {
    let bins = segments.first()?.reference.len();
    let pooled = |side: fn(&SegmentCounts) -> &Vec<u64>| -> Vec<u64> {
        (0..bins).map(|bin| segments.iter().filter_map(|segment| side(segment).get(bin)).sum()).collect()
    };
    let (p, q) = (pooled(|segment| &segment.reference), pooled(|segment| &segment.current));
    let (n, m) = (p.iter().sum::<u64>() as f64, q.iter().sum::<u64>() as f64);
    if n == 0.0 || m == 0.0 {
        return None;
    }
    let smoothed = |counts: &[u64]| statistics::shares(counts, super::distance::JEFFREYS);
    let logs: Vec<f64> = smoothed(&p).iter().zip(smoothed(&q)).map(|(p, q)| (q / p).ln()).collect();
    let mut shift = MixShift { segments: vec![], mix: 0.0, within: 0.0 };
    for segment in segments {
        let (a, b) = (segment.reference.iter().sum::<u64>(), segment.current.iter().sum::<u64>());
        let own = |counts: &[u64], total: u64| counts.iter().map(|&count| count as f64 / total as f64).collect();
        let (p_s, q_s): (Vec<f64>, Vec<f64>) = match (a, b) {
            (0, 0) => continue,
            (0, _) => (own(&segment.current, b), own(&segment.current, b)),
            (_, 0) => (own(&segment.reference, a), own(&segment.reference, a)),
            _ => (own(&segment.reference, a), own(&segment.current, b)),
        };
        let share = (a as f64 / n, b as f64 / m);
        let (mut mix, mut within) = (0.0, 0.0);
        for ((p, q), log) in p_s.iter().zip(&q_s).zip(&logs) {
            mix += (share.1 - share.0) * (p + q) / 2.0 * log;
            within += (share.0 + share.1) / 2.0 * (q - p) * log;
        }
        shift.mix += mix;
        shift.within += within;
        shift.segments.push(SegmentShift { segment: segment.segment.clone(), share, mix, within });
    }
    Some(shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(name: &str, reference: [u64; 3], current: [u64; 3]) -> SegmentCounts {
        SegmentCounts { segment: name.to_owned(), reference: reference.to_vec(), current: current.to_vec() }
    }

    #[test]
    fn other_tenants_are_a_mix_shift_and_other_inputs_are_not() {
        let mixed = [segment("a", [800, 100, 100], [160, 20, 20]), segment("b", [20, 20, 160], [100, 100, 800])];
        let shift = mix_shift(&mixed).unwrap();
        assert!(shift.within.abs() < 1e-12 && shift.mix > 0.5 && shift.is_mostly_mix(), "{shift:?}");
        let changed = [segment("a", [500, 300, 200], [200, 300, 500]), segment("b", [100, 100, 100], [100, 100, 100])];
        let shift = mix_shift(&changed).unwrap();
        assert!(shift.mix.abs() < 1e-12 && shift.within > 0.1 && !shift.is_mostly_mix(), "{shift:?}");
    }

    #[test]
    fn parts_add_up_and_a_new_segment_is_mix() {
        let parts = [segment("a", [50, 30, 20], [40, 30, 50]), segment("new", [0, 0, 0], [5, 5, 90])];
        let shift = mix_shift(&parts).unwrap();
        let (p, q) = ([50u64, 30, 20], [45u64, 35, 140]);
        let shares = |counts: &[u64], pseudo| statistics::shares(counts, pseudo);
        let logs: Vec<f64> = shares(&p, 0.5).iter().zip(shares(&q, 0.5)).map(|(p, q)| (q / p).ln()).collect();
        let whole: f64 = shares(&p, 0.0).iter().zip(shares(&q, 0.0)).zip(logs).map(|((p, q), log)| (q - p) * log).sum();
        assert!((shift.mix + shift.within - whole).abs() < 1e-12);
        assert_eq!(shift.segments[1].within, 0.0);
        assert_eq!(mix_shift(&[segment("a", [0, 0, 0], [1, 1, 1])]), None);
    }
}
