//! Stored histograms brought onto common bins, so that two windows can be compared bin by bin.

use std::collections::BTreeMap;

use super::buckets::Buckets;

/// Bins of an aligned pair are at most this many; a finer exponential histogram is downscaled further.
const BINS_MAX: i64 = 2_000;
/// Buckets of a merged exponential histogram at most; past it the scale falls. 20 octaves at scale 5.
pub(crate) const BUCKETS_MAX: i64 = 640;
/// Scale at which single values are counted: 32 buckets an octave, each 2.2 % wide.
pub(crate) const SCALE_START: i32 = 5;

/// Merged histogram points of one window.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct MergedHistogram {
    /// Counts per explicit bucket, by the bounds (as bits) they were counted in.
    explicit: BTreeMap<Vec<u64>, Vec<u64>>,
    exponential: Option<Exponential>,
    min: Option<f64>,
    max: Option<f64>,
    count: u64,
}

/// Base-2 exponential buckets: index `i` of a positive bucket covers `(base^i, base^(i+1)]`, `base = 2^(2^-scale)`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exponential {
    /// Resolution.
    pub(crate) scale: i32,
    /// Observations in `[-zero_threshold, zero_threshold]`.
    pub(crate) zero_count: u64,
    /// Half-width of the zero bucket.
    pub(crate) zero_threshold: f64,
    /// Count by index, positive values.
    pub(crate) positive: Buckets,
    /// Count by index of the magnitude, negative values.
    pub(crate) negative: Buckets,
}

/// Two windows on the same bins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AlignedHistograms {
    /// Finite bin edges, one more than the counts.
    pub(crate) edges: Vec<f64>,
    /// Reference counts.
    pub(crate) reference: Vec<u64>,
    /// Current counts.
    pub(crate) current: Vec<u64>,
    /// Whether an open outer bucket holds observations and no recorded minimum or maximum closes it.
    pub(crate) unbounded: bool,
}

impl Exponential {
    /// Merges adjacent buckets until the scale is `scale`. Exact: `i` goes to `floor(i / 2)` per step (OpenTelemetry data model).
    fn downscale(&mut self, scale: i32) {
        let shift = u32::try_from(self.scale - scale).unwrap_or(0).min(62);
        if shift == 0 {
            return;
        }
        self.positive.shift(shift);
        self.negative.shift(shift);
        self.scale = self.scale.min(scale);
    }

    /// No buckets at `scale`.
    pub(crate) fn empty(scale: i32) -> Self {
        Self { scale, zero_count: 0, zero_threshold: 0.0, positive: Buckets::default(), negative: Buckets::default() }
    }

    /// Counts one finite value in the bucket that [`bucket_index`] gives at `value_scale`, moved to this scale by shifting.
    ///
    /// Always from the same `value_scale`: an index rounded at two scales could differ at an edge, and order would matter.
    pub(crate) fn record(&mut self, value: f64, value_scale: i32) {
        if value == 0.0 {
            self.zero_count += 1;
            return;
        }
        let shift = u32::try_from(value_scale - self.scale).unwrap_or(0).min(62);
        let index = bucket_index(value.abs(), value_scale) >> shift;
        let buckets = if value > 0.0 { &mut self.positive } else { &mut self.negative };
        if buckets.add(index, 1) {
            self.bound();
        }
    }

    /// Downscales until the buckets' span is at most [`BUCKETS_MAX`].
    ///
    /// The span of a union is at least that of each part, so the final scale does not depend on the order of merging.
    fn bound(&mut self) {
        while self.span() > BUCKETS_MAX {
            let scale = self.scale - 1;
            self.downscale(scale);
        }
    }

    /// Moves buckets that begin inside the zero bucket into it, so that bins do not overlap.
    ///
    /// Done when reading, not when merging: the widest threshold is known only then, and order must not matter. A bucket
    /// partly outside widens the threshold to its end (OpenTelemetry data model).
    fn fold_zero(&mut self) {
        for negative in [false, true] {
            loop {
                let buckets = if negative { &self.negative } else { &self.positive };
                let Some((index, count)) = buckets.first() else { break };
                if self.edge(index) >= self.zero_threshold {
                    break;
                }
                self.zero_threshold = self.zero_threshold.max(self.edge(index + 1));
                self.zero_count += count;
                let buckets = if negative { &mut self.negative } else { &mut self.positive };
                buckets.remove_first(1);
            }
        }
    }

    /// What this cumulative point has beyond `earlier`; none if a count fell, which is a restart.
    ///
    /// A scale that fell in between is followed by downscaling the earlier point; a scale that rose is a restart.
    pub(crate) fn since(&self, earlier: &Self) -> Option<Self> {
        let mut earlier = earlier.clone();
        if earlier.scale < self.scale || earlier.zero_threshold != self.zero_threshold {
            return None;
        }
        earlier.downscale(self.scale);
        Some(Self {
            scale: self.scale,
            zero_count: self.zero_count.checked_sub(earlier.zero_count)?,
            zero_threshold: self.zero_threshold,
            positive: self.positive.since(&earlier.positive)?,
            negative: self.negative.since(&earlier.negative)?,
        })
    }

    fn merge(&mut self, other: &Self) {
        self.downscale(other.scale);
        let shift = u32::try_from(other.scale - self.scale).unwrap_or(0).min(62);
        self.zero_count = self.zero_count.saturating_add(other.zero_count);
        self.zero_threshold = self.zero_threshold.max(other.zero_threshold);
        self.positive.merge(&other.positive, shift);
        self.negative.merge(&other.negative, shift);
        self.bound();
    }

    /// The lower edge of the bucket `index`; of any scale the same double for the same number.
    pub(crate) fn edge(&self, index: i64) -> f64 {
        // The topmost buckets of a coarse scale end beyond what a double holds; edges stay finite.
        (index as f64 * f64::from(-self.scale).exp2()).exp2().min(f64::MAX)
    }

    fn span(&self) -> i64 {
        let span = |buckets: &Buckets| buckets.range().map_or(0, |(first, last)| last - first + 1);
        span(&self.positive) + span(&self.negative) + 1
    }
}

/// The bucket of a positive finite value: the `i` with `base^i < value <= base^(i+1)`.
///
/// Source: OpenTelemetry data model, "exponential scale". Powers of two are exact; other edges to the rounding of `log2`.
pub(crate) fn bucket_index(value: f64, scale: i32) -> i64 {
    (value.log2() * f64::from(scale).exp2()).ceil() as i64 - 1
}

impl MergedHistogram {
    /// Counts one finite value.
    pub(crate) fn record(&mut self, value: f64) {
        self.exponential.get_or_insert_with(|| Exponential::empty(SCALE_START)).record(value, SCALE_START);
        self.count += 1;
        self.widen(Some(value), Some(value));
    }

    /// Adds another window's histograms; exact, in any order.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (bounds, counts) in &other.explicit {
            let sums = self.explicit.entry(bounds.clone()).or_insert_with(|| vec![0; counts.len()]);
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum = sum.saturating_add(*count);
            }
        }
        if let Some(theirs) = &other.exponential {
            match &mut self.exponential {
                Some(ours) => ours.merge(theirs),
                None => self.exponential = Some(theirs.clone()),
            }
        }
        self.widen(other.min, other.max);
        self.count = self.count.saturating_add(other.count);
    }

    /// Explicit counts by the bits of their bounds.
    pub(crate) fn explicit(&self) -> &BTreeMap<Vec<u64>, Vec<u64>> {
        &self.explicit
    }

    /// Exponential buckets, if any.
    pub(crate) fn exponential(&self) -> Option<&Exponential> {
        self.exponential.as_ref()
    }

    /// Smallest and largest observation known.
    pub(crate) fn range(&self) -> (Option<f64>, Option<f64>) {
        (self.min, self.max)
    }

    /// Number of observations.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Widens the known range of the observations.
    pub(crate) fn widen(&mut self, min: Option<f64>, max: Option<f64>) {
        let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
        self.min = [self.min, finite(min)].into_iter().flatten().reduce(f64::min);
        self.max = [self.max, finite(max)].into_iter().flatten().reduce(f64::max);
    }

    /// Adds explicit buckets; `counts` is one longer than `bounds`.
    pub(crate) fn add_explicit(&mut self, bounds: &[f64], counts: &[u64]) {
        let key = bounds.iter().map(|bound| bound.to_bits()).collect();
        let sums = self.explicit.entry(key).or_insert_with(|| vec![0; counts.len()]);
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += count;
        }
        self.count += counts.iter().sum::<u64>();
    }

    /// Adds exponential buckets, downscaling the finer side.
    pub(crate) fn add_exponential(&mut self, point: Exponential) {
        self.count += point.zero_count + point.positive.total() + point.negative.total();
        match &mut self.exponential {
            Some(merged) => merged.merge(&point),
            None => {
                let mut first = point;
                first.bound();
                self.exponential = Some(first);
            }
        }
    }

    /// Brings two windows onto common bins.
    ///
    /// Explicit buckets: the edges that every histogram of both sides has, where both distribution functions are exact.
    /// Exponential buckets: the smaller scale.
    ///
    /// # Errors
    /// A sentence that says why they have no common bins.
    pub(crate) fn align(self, current: Self) -> Result<AlignedHistograms, String> {
        match (&self.exponential, &current.exponential) {
            (Some(_), Some(_)) if self.explicit.is_empty() && current.explicit.is_empty() => {
                Ok(align_exponential(&self, &current))
            }
            (None, None) => align_explicit(&self, &current),
            _ => Err("explicit and exponential histograms share no bucket edges; filter to one kind".into()),
        }
    }
}

fn align_explicit(reference: &MergedHistogram, current: &MergedHistogram) -> Result<AlignedHistograms, String> {
    let mut layouts = reference.explicit.keys().chain(current.explicit.keys());
    let mut common = layouts.next().cloned().unwrap_or_default();
    for layout in layouts {
        common.retain(|edge| layout.contains(edge));
    }
    if common.is_empty() {
        return Err("their explicit bounds have no edge in common".into());
    }
    let inner: Vec<f64> = common.iter().map(|&bits| f64::from_bits(bits)).collect();
    let coarsen = |side: &MergedHistogram| {
        let mut counts = vec![0u64; inner.len() + 1];
        for (bounds, bucket_counts) in &side.explicit {
            for (at, count) in bucket_counts.iter().enumerate() {
                // Bucket `at` ends at its bound; it belongs to the first common bin that ends there or later.
                let bin = bounds
                    .get(at)
                    .map_or(inner.len(), |&bits| inner.partition_point(|edge| *edge < f64::from_bits(bits)));
                counts[bin] += count;
            }
        }
        counts
    };
    let (reference_counts, current_counts) = (coarsen(reference), coarsen(current));
    let (first, last) = (inner[0], inner[inner.len() - 1]);
    let low = [reference.min, current.min].into_iter().flatten().reduce(f64::min);
    let high = [reference.max, current.max].into_iter().flatten().reduce(f64::max);
    let in_bin = |at: usize| reference_counts[at] + current_counts[at] > 0;
    let all_recorded = |a: Option<f64>, b: Option<f64>| a.is_some() && b.is_some();
    let unbounded = (in_bin(0) && !all_recorded(reference.min, current.min))
        || (in_bin(inner.len()) && !all_recorded(reference.max, current.max));
    let mut edges = vec![low.unwrap_or(first).min(first)];
    edges.extend(&inner);
    edges.push(high.unwrap_or(last).max(last));
    Ok(AlignedHistograms { edges, reference: reference_counts, current: current_counts, unbounded })
}

fn align_exponential(reference: &MergedHistogram, current: &MergedHistogram) -> AlignedHistograms {
    // A side without buckets takes the other's scale: an empty one must not coarsen it.
    let scale = [reference, current].iter().filter_map(|side| Some(side.exponential.as_ref()?.scale)).min();
    let empty = || Exponential::empty(scale.unwrap_or(SCALE_START));
    let mut p = reference.exponential.clone().unwrap_or_else(empty);
    let mut q = current.exponential.clone().unwrap_or_else(empty);
    let mut pooled = p.clone();
    pooled.merge(&q);
    while pooled.span() > BINS_MAX {
        let scale = pooled.scale - 1;
        pooled.downscale(scale);
    }
    pooled.fold_zero();
    for side in [&mut p, &mut q] {
        side.downscale(pooled.scale);
        side.zero_threshold = pooled.zero_threshold;
        side.fold_zero();
    }
    let (negative, positive) = (pooled.negative.range(), pooled.positive.range());
    let has_middle = pooled.zero_count > 0 || negative.is_some();
    let mut edges = vec![];
    if let Some((low, high)) = negative {
        edges.extend((low..=high + 1).rev().map(|index| -pooled.edge(index)));
    } else if has_middle {
        edges.push(-pooled.zero_threshold);
    }
    match positive {
        Some((low, high)) => edges.extend((low..=high + 1).map(|index| pooled.edge(index))),
        None => edges.push(pooled.zero_threshold),
    }
    let counts = |side: &Exponential| {
        let mut counts = vec![];
        if let Some((low, high)) = negative {
            counts.extend((low..=high).rev().map(|index| side.negative.get(index)));
        }
        if has_middle {
            counts.push(side.zero_count);
        }
        if let Some((low, high)) = positive {
            counts.extend((low..=high).map(|index| side.positive.get(index)));
        }
        counts
    };
    AlignedHistograms { reference: counts(&p), current: counts(&q), edges, unbounded: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exponential(scale: i32, offset: i64, counts: &[u64]) -> MergedHistogram {
        let mut merged = MergedHistogram::default();
        merged.add_exponential(Exponential {
            scale,
            zero_count: 0,
            zero_threshold: 0.0,
            positive: counts.iter().enumerate().map(|(at, count)| (offset + at as i64, *count)).collect(),
            negative: Buckets::default(),
        });
        merged
    }

    #[test]
    fn explicit_buckets_meet_at_their_common_edges() {
        let (mut reference, mut current) = (MergedHistogram::default(), MergedHistogram::default());
        reference.add_explicit(&[1.0, 2.0, 4.0], &[1, 2, 3, 4]);
        current.add_explicit(&[2.0, 3.0, 4.0], &[5, 6, 7, 8]);
        current.widen(Some(0.5), Some(9.0));
        let aligned = reference.align(current).unwrap();
        assert_eq!(aligned.reference, [3, 3, 4]);
        assert_eq!(aligned.current, [5, 13, 8]);
        assert_eq!(aligned.edges, [0.5, 2.0, 4.0, 9.0]);
        assert!(aligned.unbounded, "the reference's outer buckets have no recorded end");
    }

    #[test]
    fn exponential_buckets_meet_at_the_smaller_scale() {
        // Scale 1, indices -1..=2, against scale 0, indices -1..=1: index i goes to floor(i / 2).
        let aligned = exponential(1, -1, &[1, 2, 3, 4]).align(exponential(0, -1, &[5, 6, 7])).unwrap();
        assert_eq!(aligned.reference, [1, 5, 4]);
        assert_eq!(aligned.current, [5, 6, 7]);
        assert_eq!(aligned.edges, [0.5, 1.0, 2.0, 4.0]);
    }

    #[test]
    fn negative_and_zero_buckets_keep_their_order() {
        let mut reference = MergedHistogram::default();
        reference.add_exponential(Exponential {
            scale: 0,
            zero_count: 3,
            zero_threshold: 0.0,
            positive: [(1, 4)].into_iter().collect(),
            negative: [(0, 2), (1, 1)].into_iter().collect(),
        });
        let aligned = reference.clone().align(reference).unwrap();
        assert_eq!(aligned.edges, [-4.0, -2.0, -1.0, 2.0, 4.0]);
        assert_eq!(aligned.reference, [1, 2, 3, 4]);
    }

    #[test]
    fn kinds_without_common_edges_are_refused() {
        let mut explicit = MergedHistogram::default();
        explicit.add_explicit(&[1.0], &[1, 1]);
        let mut other = MergedHistogram::default();
        other.add_explicit(&[2.0], &[1, 1]);
        assert!(explicit.clone().align(other).is_err());
        assert!(explicit.align(exponential(0, 0, &[1])).is_err());
    }
}
