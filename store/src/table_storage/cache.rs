//! Copies of data files that are in a bucket: the least recently used go first when they take too much space.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::partial_file::remove_unused;

/// The copies on disk. A copy that goes while it is open stays readable for whoever has it open.
#[derive(Debug)]
pub(super) struct Cache {
    size_bytes_max: u64,
    copies: Mutex<Copies>,
}

#[derive(Debug, Default)]
struct Copies {
    by_path: HashMap<PathBuf, Held>,
    size_bytes: u64,
    uses: u64,
}

#[derive(Debug)]
struct Held {
    size_bytes: u64,
    last_use: u64,
}

impl Cache {
    pub(super) fn new(size_bytes_max: u64) -> Self {
        Self { size_bytes_max, copies: Mutex::new(Copies::default()) }
    }

    fn lock(&self) -> MutexGuard<'_, Copies> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a whole copy at `path`, which is then the most recently used.
    pub(super) fn holds(&self, path: &Path) -> bool {
        let mut copies = self.lock();
        copies.uses += 1;
        let uses = copies.uses;
        copies.by_path.get_mut(path).map(|copy| copy.last_use = uses).is_some()
    }

    /// Notes the copy at `path` and removes others until all fit.
    pub(super) fn add(&self, path: PathBuf, size_bytes: u64) {
        let mut copies = self.lock();
        copies.uses += 1;
        copies.size_bytes += size_bytes;
        let copy = Held { size_bytes, last_use: copies.uses };
        if let Some(before) = copies.by_path.insert(path, copy) {
            copies.size_bytes -= before.size_bytes;
        }
        let mut gone = Vec::new();
        while copies.size_bytes > self.size_bytes_max
            && let Some(oldest) = copies.by_path.iter().min_by_key(|(_, copy)| copy.last_use)
        {
            let oldest = oldest.0.clone();
            copies.forget(&oldest);
            gone.push(oldest);
        }
        drop(copies);
        gone.iter().for_each(|path| remove_unused(path));
    }

    /// The copy at `path` is of no use any more.
    pub(super) fn remove(&self, path: &Path) {
        self.lock().forget(path);
        remove_unused(path);
    }
}

impl Copies {
    fn forget(&mut self, path: &Path) {
        if let Some(copy) = self.by_path.remove(path) {
            self.size_bytes -= copy.size_bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_least_recently_used_goes_first_and_what_is_too_large_does_not_stay() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(10);
        let put = |name: &str, size: usize| {
            let path = dir.path().join(name);
            fs::write(&path, vec![0; size]).unwrap();
            cache.add(path.clone(), size as u64);
            path
        };
        let (a, b) = (put("a", 4), put("b", 4));
        assert!(cache.holds(&a));
        let c = put("c", 4);
        assert!(!cache.holds(&b) && !b.exists() && a.exists() && c.exists());
        // Written anew it counts once.
        let a = put("a", 6);
        assert!(cache.holds(&a) && cache.holds(&c));
        let large = put("large", 11);
        assert!(!large.exists() && !a.exists() && !c.exists());
        assert_eq!(cache.lock().size_bytes, 0);
        let d = put("d", 3);
        cache.remove(&d);
        assert!(!d.exists() && !cache.holds(&d));
    }
}
