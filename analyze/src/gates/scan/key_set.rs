//! The distinct keys of a column in bounded memory, the same whatever the order of the rows and the cut of the batches.
//!
//! Up to a limit the set is exact. Past it, the set keeps only the keys whose hash begins with `level` zero bits, one
//! level more each time it is full (distinct sampling, Gibbons 2001): then `kept · 2^level` estimates the number of
//! distinct keys with a relative standard error of `1 / √kept`. The level is the smallest at which the keys fit, so it
//! depends on the keys alone.

/// Keys kept for rules that want an exact answer: 12.6 million in a table of 128 MiB.
pub(crate) const EXACT_KEYS_MAX: usize = (1 << 24) / 4 * 3;

/// Keys kept where an estimate will do: exact up to 49 152 distinct values, ±0.6 % (one standard error) past it.
pub(crate) const SKETCH_KEYS_MAX: usize = (1 << 16) / 4 * 3;

/// A set of 64-bit hashes.
#[derive(Debug, Clone)]
pub(crate) struct KeySet {
    keys_max: usize,
    level: u32,
    /// Open addressing; 0 is a free slot, so a hash of 0 is kept apart.
    slots: Vec<u64>,
    used: usize,
    has_zero: bool,
    /// All keys that were added, the seen ones included.
    added: u64,
}

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    New,
    Again,
    /// The sample leaves the key out, so nothing is known.
    LeftOut,
}

/// A number of distinct keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Distinct {
    pub(crate) count: f64,
    /// 0 for an exact count.
    pub(crate) standard_error: f64,
}

impl KeySet {
    pub(crate) fn new(keys_max: usize) -> Self {
        Self { keys_max, level: 0, slots: vec![0; 1024], used: 0, has_zero: false, added: 0 }
    }

    pub(crate) fn keys_max(&self) -> usize {
        self.keys_max
    }

    /// Keeps more keys; only for a set without any.
    pub(crate) fn raise_limit(&mut self, keys_max: usize) {
        self.keys_max = self.keys_max.max(keys_max);
    }

    /// Whether every key is in the set.
    pub(crate) fn is_exact(&self) -> bool {
        self.level == 0
    }

    /// How many keys were added, the seen ones included.
    pub(crate) fn added(&self) -> u64 {
        self.added
    }

    pub(crate) fn distinct(&self) -> Distinct {
        let kept = (self.used + usize::from(self.has_zero)) as f64;
        if self.level == 0 {
            return Distinct { count: kept, standard_error: 0.0 };
        }
        let count = kept * 2f64.powi(self.level as i32);
        Distinct { count, standard_error: count / kept.max(1.0).sqrt() }
    }

    /// Whether the set, which has to be exact, has the key.
    pub(crate) fn contains(&self, key: u64) -> bool {
        if key == 0 {
            return self.has_zero;
        }
        let mask = self.slots.len() - 1;
        let mut at = key as usize & mask;
        loop {
            match self.slots[at] {
                0 => return false,
                found if found == key => return true,
                _ => at = (at + 1) & mask,
            }
        }
    }

    /// Adds a key.
    #[inline]
    pub(crate) fn add(&mut self, key: u64) -> Added {
        self.added += 1;
        self.insert(key)
    }

    #[inline]
    fn insert(&mut self, key: u64) -> Added {
        if !in_sample(key, self.level) {
            return Added::LeftOut;
        }
        if key == 0 {
            return if std::mem::replace(&mut self.has_zero, true) { Added::Again } else { Added::New };
        }
        let mask = self.slots.len() - 1;
        let mut at = key as usize & mask;
        loop {
            match self.slots[at] {
                0 => break,
                found if found == key => return Added::Again,
                _ => at = (at + 1) & mask,
            }
        }
        self.slots[at] = key;
        self.used += 1;
        self.make_room();
        Added::New
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.added += other.added;
        if other.level > self.level {
            self.level = other.level;
            self.rebuild(self.slots.len());
        }
        if other.has_zero {
            self.has_zero = true;
        }
        for key in other.slots.iter().filter(|key| **key != 0) {
            self.insert(*key);
        }
    }

    fn make_room(&mut self) {
        while self.used > self.keys_max {
            self.level += 1;
            self.rebuild(self.slots.len());
        }
        if self.used * 4 > self.slots.len() * 3 {
            self.rebuild(self.slots.len() * 2);
        }
    }

    fn rebuild(&mut self, len: usize) {
        let old = std::mem::replace(&mut self.slots, vec![0; len]);
        self.used = 0;
        for key in old.into_iter().filter(|key| *key != 0 && in_sample(*key, self.level)) {
            let mut at = key as usize & (len - 1);
            while self.slots[at] != 0 {
                at = (at + 1) & (len - 1);
            }
            self.slots[at] = key;
            self.used += 1;
        }
    }
}

/// Whether the hash begins with `level` zero bits; the table uses the bits at its other end.
#[inline]
fn in_sample(key: u64, level: u32) -> bool {
    key.leading_zeros() >= level
}

#[cfg(test)]
mod tests {
    use super::super::column::mix;
    use super::*;

    fn of(keys: impl IntoIterator<Item = u64>, keys_max: usize) -> KeySet {
        let mut set = KeySet::new(keys_max);
        keys.into_iter().for_each(|key| {
            set.add(key);
        });
        set
    }

    #[test]
    fn small_sets_are_exact() {
        let set = of([5, 5, 0, 0, 7], 100);
        assert_eq!(set.distinct(), Distinct { count: 3.0, standard_error: 0.0 });
        assert_eq!(set.added(), 5);
        assert!(set.contains(0) && set.contains(7) && !set.contains(8));
        assert_eq!(of([], 100).distinct().count, 0.0);
    }

    #[test]
    fn large_sets_are_estimated_within_their_error() {
        for distinct in [60_000u64, 1_000_000] {
            let set = of((0..distinct).chain(0..1000).map(mix), SKETCH_KEYS_MAX);
            let found = set.distinct();
            assert!(!set.is_exact() && found.standard_error > 0.0);
            assert!((found.count - distinct as f64).abs() < 4.0 * found.standard_error, "{found:?} of {distinct}");
            assert!(found.standard_error < 0.01 * distinct as f64);
            assert!(set.used <= SKETCH_KEYS_MAX);
        }
    }

    #[test]
    fn any_split_and_order_ends_in_the_same_state() {
        let keys: Vec<u64> = (0..20_000u64).map(|i| mix(i % 7000)).collect();
        let state = |set: &KeySet| {
            let mut kept: Vec<u64> = set.slots.iter().copied().filter(|key| *key != 0).collect();
            kept.sort_unstable();
            (set.level, set.added, set.has_zero, kept)
        };
        for keys_max in [100, 1000, 100_000] {
            let whole = of(keys.iter().copied(), keys_max);
            for cut in [1, 99, 7001, 19_999] {
                let mut left = of(keys[..cut].iter().copied(), keys_max);
                left.merge(&of(keys[cut..].iter().rev().copied(), keys_max));
                assert_eq!(state(&left), state(&whole), "limit {keys_max} cut at {cut}");
            }
        }
    }
}
