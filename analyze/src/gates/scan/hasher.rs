//! Hash tables whose keys are cheap to hash: texts by XXH3, and numbers that are hashes already.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::xxh3_64;

/// Hashes one text, or passes one 64-bit hash through. Keys come from contracts and are bounded in number, so nobody
/// gains by collisions.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct DirectHasher(u64);

impl Hasher for DirectHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 ^= xxh3_64(bytes);
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 ^= hash;
    }

    /// The mark that `str` ends with: it tells texts apart that follow one another, and here there is one.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

pub(crate) type DirectMap<K, V> = HashMap<K, V, BuildHasherDefault<DirectHasher>>;
pub(crate) type DirectSet<K> = HashSet<K, BuildHasherDefault<DirectHasher>>;
