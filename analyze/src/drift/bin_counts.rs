//! Counts of a merged histogram between given cuts, without bringing it onto bins of its own: a reference of a week has 168
//! windows, which are only counted.

use super::{
    buckets::Buckets,
    histogram::{Exponential, MergedHistogram},
};

/// Where a cut is among the buckets of one sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The lower edge of the bucket of this index, by magnitude.
    Edge(i64),
    /// Inside the bucket of this index.
    Inside(i64),
}

impl MergedHistogram {
    /// Counts of the right-closed bins that `cuts`, finite and ascending, make: one more than the cuts. None where a bucket with
    /// observations lies on both sides of a cut: nobody knows on which side they are.
    pub(crate) fn counts_between(&self, cuts: &[f64]) -> Option<Vec<u64>> {
        let mut counts = vec![0u64; cuts.len() + 1];
        for (bounds, buckets) in self.explicit() {
            add_explicit(&mut counts, cuts, bounds, buckets)?;
        }
        if let Some(exponential) = self.exponential() {
            exponential.add_between(&mut counts, cuts)?;
        }
        Some(counts)
    }
}

fn add_explicit(counts: &mut [u64], cuts: &[f64], bounds: &[u64], buckets: &[u64]) -> Option<()> {
    let bound = |at: usize| bounds.get(at).map_or(f64::INFINITY, |bits| f64::from_bits(*bits));
    for (at, count) in buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
        let lower = at.checked_sub(1).map_or(f64::NEG_INFINITY, bound);
        let bin = cuts.partition_point(|cut| *cut <= lower);
        if cuts.get(bin).is_some_and(|cut| *cut < bound(at)) {
            return None;
        }
        counts[bin] += count;
    }
    Some(())
}

impl Exponential {
    fn add_between(&self, counts: &mut [u64], cuts: &[f64]) -> Option<()> {
        let below_zero = cuts.partition_point(|cut| *cut < 0.0);
        let (negative, rest) = cuts.split_at(below_zero);
        let positive_from = below_zero + rest.partition_point(|cut| *cut == 0.0);
        if self.zero_count > 0 {
            // No cut is strictly inside the zero bucket; one at zero ends a bucket without width.
            if cuts.iter().any(|cut| cut.abs() < self.zero_threshold) {
                return None;
            }
            counts[below_zero] += self.zero_count;
        }
        let above: Vec<Place> = cuts[positive_from..].iter().map(|cut| self.place(*cut)).collect();
        add_magnitudes(&self.positive, &above, |passed, count| counts[positive_from + passed] += count)?;
        let below: Vec<Place> = negative.iter().rev().map(|cut| self.place(-cut)).collect();
        add_magnitudes(&self.negative, &below, |passed, count| counts[below_zero - passed] += count)
    }

    /// Edges of all scales are the same doubles where they are the same numbers, see [`Exponential::edge`].
    fn place(&self, magnitude: f64) -> Place {
        let position = magnitude.log2() * f64::from(self.scale).exp2();
        let nearest = position.round();
        if self.edge(nearest as i64) == magnitude {
            Place::Edge(nearest as i64)
        } else {
            Place::Inside(position.floor() as i64)
        }
    }
}

/// Hands each count to `add` with the number of `places`, ascending, that its bucket lies beyond.
fn add_magnitudes(buckets: &Buckets, places: &[Place], mut add: impl FnMut(usize, u64)) -> Option<()> {
    let mut passed = 0;
    for (index, count) in buckets.iter().filter(|(_, count)| *count > 0) {
        while let Some(place) = places.get(passed) {
            match *place {
                Place::Edge(at) if at <= index => passed += 1,
                Place::Inside(at) if at < index => passed += 1,
                Place::Inside(at) if at == index => return None,
                Place::Edge(_) | Place::Inside(_) => break,
            }
        }
        add(passed, count);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::{feature_state::FeatureState, property_tests::Random, statistics};

    /// Values of both signs, zeros, and points of other scales and thresholds.
    fn random(source: &mut Random) -> MergedHistogram {
        let mut state = FeatureState::default();
        for _ in 0..60 {
            let value = source.normal() * 10f64.powi((source.next() % 3) as i32);
            state.record(Some(if source.next().is_multiple_of(9) { 0.0 } else { value }));
        }
        if source.next().is_multiple_of(3) {
            state.histogram.add_exponential(Exponential {
                scale: (source.next() % 4) as i32,
                zero_count: 2,
                zero_threshold: if source.next().is_multiple_of(2) { 0.01 } else { 0.0 },
                positive: [(3, 4), (5, 1)].into_iter().collect(),
                negative: [(2, 1)].into_iter().collect(),
            });
        }
        state.histogram
    }

    #[test]
    fn counts_are_those_of_the_common_bins() {
        let (mut source, mut fitted) = (Random(11), 0);
        for _ in 0..300 {
            let (mut reference, other) = (random(&mut source), random(&mut source));
            reference.merge(&other);
            let aligned = reference.clone().align(reference.clone()).unwrap();
            let cuts = statistics::snapped_decile_cuts(&aligned.reference);
            let edges: Vec<f64> = cuts.iter().map(|at| aligned.edges[*at]).collect();
            assert_eq!(reference.counts_between(&edges), Some(statistics::merge_bins(&aligned.reference, &cuts)));
            // A part on the bins of the whole, wherever its own bins are no coarser.
            let part = reference.clone().align(other.clone()).unwrap();
            let counted = other.counts_between(&edges);
            if part.edges == aligned.edges {
                fitted += 1;
                assert_eq!(counted, Some(statistics::merge_bins(&part.current, &cuts)));
            }
        }
        assert!(fitted > 100, "only {fitted} parts had the bins of the whole");
    }

    #[test]
    fn what_lies_on_both_sides_of_a_cut_is_not_counted() {
        let mut coarse = MergedHistogram::default();
        coarse.add_exponential(Exponential {
            scale: 0,
            zero_count: 1,
            zero_threshold: 0.25,
            positive: [(0, 3), (2, 5)].into_iter().collect(),
            negative: [(1, 2)].into_iter().collect(),
        });
        // Buckets: [-4, -2), [-0.25, 0.25], (1, 2], (4, 8].
        assert_eq!(coarse.counts_between(&[-4.0, -2.0, 0.25, 1.5f64.exp2(), 8.0]), Some(vec![0, 2, 1, 3, 5, 0]));
        assert_eq!(coarse.counts_between(&[3.0]), Some(vec![6, 5]), "an empty bucket has no sides");
        for inside in [-3.0, -0.1, 0.0, 1.5, 5.0] {
            assert_eq!(coarse.counts_between(&[inside]), None, "{inside}");
        }
        let mut explicit = MergedHistogram::default();
        explicit.add_explicit(&[1.0, 2.0, 4.0], &[0, 2, 3, 4]);
        assert_eq!(explicit.counts_between(&[0.5, 2.0, 4.0]), Some(vec![0, 2, 3, 4]));
        assert_eq!(explicit.counts_between(&[2.0]), Some(vec![2, 7]));
        assert_eq!(explicit.counts_between(&[3.0]), None);
        assert_eq!(explicit.counts_between(&[5.0]), None, "the last bucket has no end");
        assert_eq!(MergedHistogram::default().counts_between(&[1.0]), Some(vec![0, 0]));
    }
}
