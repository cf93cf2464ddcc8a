//! A sample of bounded size that does not depend on the order of arrival: what is kept are the keys with the smallest hash.

use std::{collections::HashMap, hash::Hash};

use xxhash_rust::xxh3::xxh3_64;

/// Values by group and time; past twice the limit those with the larger hashes go.
#[derive(Debug)]
pub(super) struct Kept<V> {
    values: HashMap<(u32, i64), V>,
    /// Largest hash that is kept.
    hash_max: u64,
    limit: usize,
}

fn hash(key: (u32, i64)) -> u64 {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&key.0.to_le_bytes());
    bytes[4..].copy_from_slice(&key.1.to_le_bytes());
    xxh3_64(&bytes)
}

impl<V: Default> Kept<V>
where
    (u32, i64): Hash,
{
    /// Keeps about `limit` values.
    pub(super) fn new(limit: usize) -> Self {
        Self { values: HashMap::new(), hash_max: u64::MAX, limit }
    }

    /// The value of a key; none where it is not in the sample.
    pub(super) fn of(&mut self, key: (u32, i64)) -> Option<&mut V> {
        if hash(key) > self.hash_max {
            return None;
        }
        if self.values.len() >= 2 * self.limit && !self.values.contains_key(&key) {
            self.halve();
            if hash(key) > self.hash_max {
                return None;
            }
        }
        Some(self.values.entry(key).or_default())
    }

    fn halve(&mut self) {
        while self.values.len() >= self.limit {
            self.hash_max /= 2;
            let hash_max = self.hash_max;
            self.values.retain(|key, _| hash(*key) <= hash_max);
        }
    }

    /// The sample, at most `limit` values that `keep` holds for, by time and group.
    pub(super) fn finish(mut self, keep: impl Fn(&V) -> bool) -> Vec<((u32, i64), V)> {
        self.values.retain(|_, value| keep(value));
        let mut all: Vec<_> = self.values.into_iter().collect();
        if all.len() > self.limit {
            all.sort_unstable_by_key(|(key, _)| hash(*key));
            all.truncate(self.limit);
        }
        all.sort_unstable_by_key(|((group, time), _)| (*time, *group));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_the_same_in_any_order_and_no_larger_than_its_limit() {
        let sample = |keys: &mut dyn Iterator<Item = i64>| {
            let mut kept = Kept::<u32>::new(100);
            for time in keys {
                if let Some(value) = kept.of((time as u32 % 3, time)) {
                    *value += 1;
                }
            }
            kept.finish(|_| true)
        };
        let forward = sample(&mut (0..5_000));
        assert_eq!(forward.len(), 100);
        assert_eq!(forward, sample(&mut (0..5_000).rev()));
        assert!(forward.is_sorted_by_key(|((_, time), _)| *time));
        assert_eq!(sample(&mut (0..50)).len(), 50, "nothing is left out below the limit");
    }
}
