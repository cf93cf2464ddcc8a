//! Maps keyed by series id.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher, RandomState},
    sync::LazyLock,
};

use crate::series::SeriesId;

/// A map from series to `V`.
pub(crate) type SeriesMap<V> = HashMap<SeriesId, V, SeededHash>;

/// Hashes ids with one multiplication. An id is a hash already, but one that clients can compute: without the seed they
/// could choose attributes whose ids all fall into one bucket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeededHash {
    seed: u64,
}

impl Default for SeededHash {
    fn default() -> Self {
        static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));
        Self { seed: *SEED }
    }
}

impl BuildHasher for SeededHash {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher { state: self.seed }
    }
}

/// State of [`SeededHash`].
#[derive(Debug)]
pub(crate) struct IdHasher {
    state: u64,
}

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.state
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, id: u64) {
        // The halves of the product, folded: every bit of the id reaches the bits that pick the bucket.
        let product = u128::from(id ^ self.state) * 0x9e37_79b9_7f4a_7c15;
        self.state = (product as u64) ^ ((product >> 64) as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_that_differ_in_any_bit_spread_over_the_buckets() {
        let hash = SeededHash::default();
        let low: HashSet<_> = (0..64).map(|bit| hash.hash_one(SeriesId(1 << bit)) & 0xffff).collect();
        assert!(low.len() > 60, "{}", low.len());
        let high: HashSet<_> = (0..64).map(|bit| hash.hash_one(SeriesId(1 << bit)) >> 48).collect();
        assert!(high.len() > 60, "{}", high.len());
    }
}
