//! Exact counts of category values, bounded, with a merge that does not depend on order.
//!
//! Past [`CATEGORIES_MAX`] values the ones with the smallest hash keep their names (bottom-k) and the rest is counted as
//! [`OTHER`]. The choice depends on the names alone, so a kept name was kept in every part and its count stays exact, and
//! two sides keep comparable names. "The most frequent" would be neither: a value frequent in the week but rare in each
//! hour would lose counts. The price: past the bound a frequent value may be inside `__other__`, so the state says
//! that it overflowed.

use std::collections::BTreeMap;

/// Names kept at most.
pub const CATEGORIES_MAX: usize = 1_000;
/// The name under which values past the bound are counted.
pub const OTHER: &str = "__other__";

/// Counts by category value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CategoryCounts {
    /// By hash then name, so that the last entry is the next to go.
    by_hash: BTreeMap<(u64, String), u64>,
    other: u64,
    /// Hashes at or above this were dropped somewhere; none while nothing overflowed.
    dropped_from: Option<u64>,
}

impl CategoryCounts {
    /// Counts `count` observations of `name`; none is not an observation.
    pub fn add(&mut self, name: &str, count: u64) {
        if count == 0 {
            return;
        }
        if name == OTHER {
            self.other = self.other.saturating_add(count);
            return;
        }
        let hash = hash(name);
        if self.dropped_from.is_some_and(|limit| hash >= limit) {
            self.other = self.other.saturating_add(count);
            return;
        }
        let kept = self.by_hash.entry((hash, name.to_owned())).or_insert(0);
        *kept = kept.saturating_add(count);
        self.shrink();
    }

    /// Adds another state's counts.
    pub fn merge(&mut self, other: &Self) {
        self.other = self.other.saturating_add(other.other);
        self.limit(other.dropped_from);
        for ((_, name), count) in &other.by_hash {
            self.add(name, *count);
        }
    }

    /// Brings both onto the names that each kept, everything else in `__other__` (a coarsening, so no distance grows).
    pub fn align(&mut self, other: &mut Self) {
        let limit = [self.dropped_from, other.dropped_from].into_iter().flatten().min();
        self.limit(limit);
        other.limit(limit);
    }

    /// Observations in total.
    pub fn total(&self) -> u64 {
        self.by_hash.values().fold(self.other, |sum, count| sum.saturating_add(*count))
    }

    /// Observations counted as `__other__`; not zero means that names were dropped.
    pub fn other(&self) -> u64 {
        self.other
    }

    /// Names and counts without `__other__`, in no meaningful order.
    pub fn named(&self) -> impl Iterator<Item = (&str, u64)> {
        self.by_hash.iter().map(|((_, name), count)| (name.as_str(), *count))
    }

    /// The count of `name`; zero where it was not seen or is inside `__other__`.
    pub fn get(&self, name: &str) -> u64 {
        if name == OTHER {
            return self.other;
        }
        self.by_hash.get(&(hash(name), name.to_owned())).copied().unwrap_or(0)
    }

    pub(crate) fn dropped_from(&self) -> Option<u64> {
        self.dropped_from
    }

    pub(crate) fn limit(&mut self, dropped_from: Option<u64>) {
        let Some(limit) = dropped_from else { return };
        if self.dropped_from.is_some_and(|own| own <= limit) {
            return;
        }
        self.dropped_from = Some(limit);
        let dropped = self.by_hash.split_off(&(limit, String::new()));
        self.other = dropped.values().fold(self.other, |sum, count| sum.saturating_add(*count));
    }

    fn shrink(&mut self) {
        while self.by_hash.len() > CATEGORIES_MAX {
            let last = self.by_hash.last_key_value().map(|((hash, _), _)| *hash);
            self.limit(last);
        }
    }
}

/// FNV-1a with the final mixer of `SplitMix64`: fixed for ever, because stored states depend on it.
fn hash(name: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in name.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflow_keeps_exact_counts_in_any_order() {
        let names: Vec<String> = (0..2_500).map(|at| format!("tenant-{at}")).collect();
        let mut whole = CategoryCounts::default();
        let mut parts = vec![CategoryCounts::default(); 24];
        for round in 0..3 {
            for (at, name) in names.iter().enumerate() {
                whole.add(name, 1 + at as u64 % 5);
                parts[(at * 7 + round) % 24].add(name, 1 + at as u64 % 5);
            }
        }
        let mut forward = CategoryCounts::default();
        parts.iter().for_each(|part| forward.merge(part));
        let mut backward = CategoryCounts::default();
        parts.iter().rev().for_each(|part| backward.merge(part));
        assert_eq!(forward, backward);
        assert_eq!(forward, whole);
        assert_eq!(whole.named().count(), CATEGORIES_MAX);
        assert!(whole.named().all(|(name, count)| {
            let at: u64 = name.trim_start_matches("tenant-").parse().unwrap();
            count == 3 * (1 + at % 5)
        }));
        assert_eq!(whole.total(), 3 * (0..2_500u64).map(|at| 1 + at % 5).sum::<u64>());
        assert!(whole.other() > 0);
    }
}
