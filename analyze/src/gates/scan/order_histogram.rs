//! Order statistics of a column in bounded memory, the same whatever the order of the rows and the cut of the batches.
//!
//! The bits of a double, with those of negative numbers turned round, sort like the numbers. The histogram counts these
//! 64-bit keys without their lowest `shift` bits. It begins exact (`shift` 0) and drops a bit whenever more than
//! [`BUCKETS_MAX`] buckets are in use: so the resolution goes where the data is, and one value of 1e300 costs one
//! bucket. After all data the shift is the smallest one at which the distinct keys fit, and no prefix of the data needs
//! a larger one; hence every order and every merge ends in the same state.

/// Buckets of one column; with 16 bytes at a load of at most one half, 256 KiB.
const BUCKETS_MAX: usize = 8192;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Slot {
    bucket: u64,
    /// 0: the slot is free.
    count: u64,
}

/// Counts of finite numbers by bucket.
#[derive(Debug, Clone)]
pub(crate) struct OrderHistogram {
    shift: u32,
    slots: Vec<Slot>,
    used: usize,
    total: u64,
}

/// How many values lie outside of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outside {
    pub(crate) count: u64,
    /// Values whose bucket reaches over an end of the interval; they are counted by the middle of the bucket.
    pub(crate) uncertain: u64,
}

/// A bucket in the order of the numbers.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    low: f64,
    high: f64,
    count: u64,
}

impl Bucket {
    fn middle(self) -> f64 {
        self.low / 2.0 + self.high / 2.0
    }
}

impl Default for OrderHistogram {
    fn default() -> Self {
        Self { shift: 0, slots: vec![Slot::default(); 64], used: 0, total: 0 }
    }
}

impl OrderHistogram {
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Adds a finite number; others are passed over.
    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        if value.is_finite() {
            self.add_bucket(sortable(value) >> self.shift, 1);
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        if other.shift > self.shift {
            self.coarsen(other.shift);
        }
        for slot in other.slots.iter().filter(|slot| slot.count > 0) {
            // The shift may grow on the way, so it is looked up for each bucket.
            self.add_bucket(slot.bucket >> (self.shift - other.shift), slot.count);
        }
    }

    #[inline]
    fn add_bucket(&mut self, bucket: u64, count: u64) {
        self.total += count;
        let mask = self.slots.len() - 1;
        let mut at = slot_of(bucket, mask);
        loop {
            let slot = &mut self.slots[at];
            if slot.count == 0 {
                *slot = Slot { bucket, count };
                break;
            }
            if slot.bucket == bucket {
                slot.count += count;
                return;
            }
            at = (at + 1) & mask;
        }
        self.used += 1;
        if self.used > BUCKETS_MAX {
            self.coarsen(self.shift + 1);
        } else if self.used * 2 > self.slots.len() {
            self.rebuild(self.slots.len() * 2, 0);
        }
    }

    /// Drops bits until the shift is at least `shift` and the buckets fit.
    fn coarsen(&mut self, shift: u32) {
        self.rebuild(self.slots.len(), shift - self.shift);
        self.shift = shift;
        while self.used > BUCKETS_MAX {
            self.rebuild(self.slots.len(), 1);
            self.shift += 1;
        }
    }

    fn rebuild(&mut self, len: usize, drop_bits: u32) {
        let old = std::mem::replace(&mut self.slots, vec![Slot::default(); len]);
        self.used = 0;
        for slot in old.into_iter().filter(|slot| slot.count > 0) {
            let bucket = slot.bucket >> drop_bits;
            let mut at = slot_of(bucket, len - 1);
            while self.slots[at].count > 0 && self.slots[at].bucket != bucket {
                at = (at + 1) & (len - 1);
            }
            self.used += usize::from(self.slots[at].count == 0);
            self.slots[at].bucket = bucket;
            self.slots[at].count += slot.count;
        }
    }

    fn sorted(&self) -> Vec<Bucket> {
        let mut slots: Vec<Slot> = self.slots.iter().copied().filter(|slot| slot.count > 0).collect();
        slots.sort_unstable_by_key(|slot| slot.bucket);
        let bounds = |slot: Slot| {
            let first = slot.bucket << self.shift;
            let (low, high) = (number(first), number(first | ((1 << self.shift) - 1)));
            // The outermost buckets may reach past the largest double.
            Bucket { low: low.max(f64::MIN), high: high.min(f64::MAX), count: slot.count }
        };
        slots.into_iter().map(bounds).collect()
    }

    /// Median and both quartiles, interpolated between neighbours as in R's type 7; `None` without values.
    ///
    /// Each is within its bucket, whose relative width is at most 2^(`shift` - 52).
    pub(crate) fn quartiles(&self) -> Option<[f64; 3]> {
        let buckets = self.sorted();
        let last = self.total.checked_sub(1)?;
        Some([0.25, 0.5, 0.75].map(|p| {
            let rank = last as f64 * p;
            let (below, above) = (value_at(&buckets, rank.floor() as u64), value_at(&buckets, rank.ceil() as u64));
            let fraction = rank - rank.floor();
            below * (1.0 - fraction) + above * fraction
        }))
    }

    /// Median of the absolute deviations from `centre`; `None` without values.
    pub(crate) fn median_deviation(&self, centre: f64) -> Option<f64> {
        let half = self.total.checked_sub(1)? / 2;
        let mut deviations: Vec<(f64, u64)> =
            self.sorted().iter().map(|bucket| ((bucket.middle() - centre).abs(), bucket.count)).collect();
        deviations.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let mut seen = 0;
        deviations
            .iter()
            .find(|(_, count)| {
                seen += count;
                seen > half
            })
            .map(|(deviation, _)| *deviation)
    }

    /// The values outside of `low..=high`.
    pub(crate) fn outside(&self, low: f64, high: f64) -> Outside {
        let mut outside = Outside { count: 0, uncertain: 0 };
        for bucket in self.sorted() {
            let middle = bucket.middle();
            if middle < low || middle > high {
                outside.count += bucket.count;
            }
            let crosses = |end: f64| bucket.low < end && end < bucket.high;
            if crosses(low) || crosses(high) {
                outside.uncertain += bucket.count;
            }
        }
        outside
    }
}

fn value_at(buckets: &[Bucket], rank: u64) -> f64 {
    let mut seen = 0;
    for bucket in buckets {
        seen += bucket.count;
        if seen > rank {
            return bucket.middle();
        }
    }
    f64::NAN
}

#[inline]
fn slot_of(bucket: u64, mask: usize) -> usize {
    // Fibonacci hashing; the upper half has the good bits.
    (bucket.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & mask
}

/// Bits that sort like the numbers; both zeros are one.
#[inline]
pub(crate) fn sortable(value: f64) -> u64 {
    let bits = (value + 0.0).to_bits();
    let flip = ((bits as i64) >> 63) as u64 | (1 << 63);
    bits ^ flip
}

fn number(sortable: u64) -> f64 {
    let flip = if sortable >> 63 == 1 { 1 << 63 } else { u64::MAX };
    f64::from_bits(sortable ^ flip)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = f64>) -> OrderHistogram {
        let mut histogram = OrderHistogram::default();
        values.into_iter().for_each(|value| histogram.add(value));
        histogram
    }

    /// Deterministic numbers in 0..1.
    fn uniform(seed: u64) -> impl Iterator<Item = f64> {
        (0..).map(move |i| (super::super::column::mix(seed ^ i) >> 11) as f64 / (1u64 << 53) as f64)
    }

    #[test]
    fn keys_sort_like_numbers() {
        let values = [f64::MIN, -1e300, -1.0, -f64::MIN_POSITIVE, 0.0, f64::MIN_POSITIVE, 1.0, 1e308, f64::MAX];
        assert!(values.windows(2).all(|pair| sortable(pair[0]) < sortable(pair[1])));
        assert!(values.iter().all(|value| number(sortable(*value)) == *value));
        assert_eq!(sortable(-0.0), sortable(0.0));
    }

    #[test]
    fn few_distinct_values_are_exact() {
        let histogram = of([1.0, 2.0, 3.0, 4.0, 1e308, f64::NAN, f64::INFINITY]);
        assert_eq!(histogram.total(), 5);
        assert_eq!(histogram.quartiles(), Some([2.0, 3.0, 4.0]));
        assert_eq!(histogram.outside(0.0, 10.0), Outside { count: 1, uncertain: 0 });
        assert_eq!(histogram.median_deviation(3.0), Some(1.0));
        assert_eq!(OrderHistogram::default().quartiles(), None);
        assert_eq!(of([7.0; 5]).quartiles(), Some([7.0; 3]));
    }

    #[test]
    fn a_million_values_stay_close_wherever_they_lie() {
        for offset in [0.0, 1e6, -1e9] {
            let histogram = of(uniform(3).take(1_000_000).map(|x| offset + x));
            assert!(histogram.used <= BUCKETS_MAX);
            let quartiles = histogram.quartiles().unwrap();
            for (found, wanted) in quartiles.iter().zip([0.25, 0.5, 0.75]) {
                assert!((found - offset - wanted).abs() < 0.003, "{found} at {offset}");
            }
            let outside = histogram.outside(offset + 0.1, offset + 0.9);
            assert!((outside.count as f64 / 1e6 - 0.2).abs() < 0.003, "{outside:?}");
            assert!(outside.uncertain < 5000, "{outside:?}");
        }
    }

    #[test]
    fn one_huge_value_moves_nothing() {
        let without = of(uniform(5).take(100_000));
        let with = of(uniform(5).take(100_000).chain([1e308]));
        let (a, b) = (without.quartiles().unwrap(), with.quartiles().unwrap());
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3), "{a:?} {b:?}");
    }

    #[test]
    fn any_split_and_order_ends_in_the_same_state() {
        let values: Vec<f64> = uniform(9).take(60_000).map(|x| (x - 0.3) * 1e5).collect();
        let whole = of(values.iter().copied());
        for cut in [1, 777, 8193, 30_000, 59_999] {
            let (mut left, right) = (of(values[..cut].iter().copied()), of(values[cut..].iter().rev().copied()));
            left.merge(&right);
            let key = |histogram: &OrderHistogram| {
                let buckets = histogram.sorted();
                (
                    histogram.shift,
                    histogram.total,
                    buckets.iter().map(|b| (b.low.to_bits(), b.count)).collect::<Vec<_>>(),
                )
            };
            assert_eq!(key(&left), key(&whole), "cut at {cut}");
        }
    }
}
