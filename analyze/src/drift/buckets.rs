//! Counts by bucket index, few and in order: a sorted list, which merges in one pass over both.

use std::cmp::Ordering;

/// `(index, count)`, ascending, no index twice.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Buckets(Vec<(i64, u64)>);

impl Buckets {
    /// Adds `count` to the bucket `index`; whether it is a new one.
    pub(crate) fn add(&mut self, index: i64, count: u64) -> bool {
        match self.0.binary_search_by_key(&index, |bucket| bucket.0) {
            Ok(at) => {
                self.0[at].1 = self.0[at].1.saturating_add(count);
                false
            }
            Err(at) => {
                self.0.insert(at, (index, count));
                true
            }
        }
    }

    /// Buckets with their counts, ascending.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (i64, u64)> {
        self.0.iter().copied()
    }

    /// Number of buckets.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Sum of the counts; wraps where they are past 64 bits, which callers rule out.
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().map(|bucket| bucket.1).sum()
    }

    /// Count of the bucket `index`; zero without one.
    pub(crate) fn get(&self, index: i64) -> u64 {
        self.0.binary_search_by_key(&index, |bucket| bucket.0).map_or(0, |at| self.0[at].1)
    }

    /// First and last index.
    pub(crate) fn range(&self) -> Option<(i64, i64)> {
        Some((self.0.first()?.0, self.0.last()?.0))
    }

    /// The first bucket.
    pub(crate) fn first(&self) -> Option<(i64, u64)> {
        self.0.first().copied()
    }

    /// Takes the first `count` buckets away.
    pub(crate) fn remove_first(&mut self, count: usize) {
        self.0.drain(..count.min(self.0.len()));
    }

    /// Moves every bucket to `index >> shift`; those that meet are added up.
    pub(crate) fn shift(&mut self, shift: u32) {
        self.0.iter_mut().for_each(|bucket| bucket.0 >>= shift);
        self.0.dedup_by(|next, kept| {
            let meet = next.0 == kept.0;
            if meet {
                kept.1 = kept.1.saturating_add(next.1);
            }
            meet
        });
    }

    /// Adds the buckets of `other`, each at `index >> shift`.
    pub(crate) fn merge(&mut self, other: &Self, shift: u32) {
        // Mostly the buckets are there already, and only their counts change.
        let mut at = 0;
        let mut new = vec![];
        for (index, count) in other.iter() {
            let index = index >> shift;
            while self.0.get(at).is_some_and(|bucket| bucket.0 < index) {
                at += 1;
            }
            match self.0.get_mut(at) {
                Some(bucket) if bucket.0 == index => bucket.1 = bucket.1.saturating_add(count),
                _ => new.push((index, count)),
            }
        }
        if !new.is_empty() {
            self.0.extend(new);
            self.0.sort_by_key(|bucket| bucket.0);
            self.shift(0);
        }
    }

    /// What is here beyond `earlier`; none if a count fell.
    pub(crate) fn since(&self, earlier: &Self) -> Option<Self> {
        let mut since = Vec::with_capacity(self.0.len());
        let (mut ours, mut before) = (self.0.iter().peekable(), earlier.0.iter().peekable());
        loop {
            let order = match (ours.peek(), before.peek()) {
                (None, None) => return Some(Self(since)),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(own), Some(other)) => own.0.cmp(&other.0),
            };
            let own = if order == Ordering::Greater { None } else { ours.next() };
            let taken = if order == Ordering::Less { None } else { before.next() };
            let index = own.or(taken)?.0;
            let left = own.map_or(0, |own| own.1).checked_sub(taken.map_or(0, |taken| taken.1))?;
            if left > 0 {
                since.push((index, left));
            }
        }
    }
}

impl FromIterator<(i64, u64)> for Buckets {
    fn from_iter<I: IntoIterator<Item = (i64, u64)>>(buckets: I) -> Self {
        let mut all = Self(buckets.into_iter().collect());
        all.0.sort_by_key(|bucket| bucket.0);
        all.shift(0);
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::drift::property_tests::Random;

    fn random(random: &mut Random) -> Vec<(i64, u64)> {
        (0..random.next() % 40).map(|_| ((random.next() % 60) as i64 - 30, random.next() % 9 + 1)).collect()
    }

    fn model(lists: &[(&[(i64, u64)], u32)]) -> Vec<(i64, u64)> {
        let mut model = BTreeMap::new();
        for (list, shift) in lists {
            list.iter().for_each(|(index, count)| *model.entry(index >> shift).or_insert(0) += count);
        }
        model.into_iter().collect()
    }

    #[test]
    fn buckets_are_those_of_a_map() {
        let mut source = Random(3);
        for _ in 0..500 {
            let (first, second) = (random(&mut source), random(&mut source));
            let shift = (source.next() % 4) as u32;
            let mut merged: Buckets = first.iter().copied().collect();
            assert_eq!(merged.iter().collect::<Vec<_>>(), model(&[(&first, 0)]));
            let other: Buckets = second.iter().copied().collect();
            merged.merge(&other, shift);
            assert_eq!(merged.iter().collect::<Vec<_>>(), model(&[(&first, 0), (&second, shift)]));
            let mut one_by_one = Buckets::default();
            first.iter().for_each(|(index, count)| _ = one_by_one.add(*index, *count));
            assert_eq!(one_by_one, first.iter().copied().collect());
            // What was merged, less what was there, is what came.
            let mut shifted = other.clone();
            shifted.shift(shift);
            assert_eq!(merged.since(&one_by_one), Some(shifted.clone()));
            assert_eq!(one_by_one.since(&merged).is_none(), shifted.len() > 0);
            assert_eq!(merged.total(), one_by_one.total() + other.total());
        }
    }
}
