//! Free space of the file system below the data directory, and the floor under which nothing new is accepted.
//!
//! The log must never take the room that a flush needs: only the flush frees the log. So appends are refused while there
//! is still space for the tables, and the floor on top of it for whoever tidies up.

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::fs::statvfs;

use crate::error::{Error, Result};

/// How long a look at the file system holds.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The floor where none is set: this, or a twentieth of a small disk.
const FLOOR_BYTES_DEFAULT: u64 = 1 << 30;

/// Space of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    /// Bytes that this process may still use.
    pub(crate) free_bytes: u64,
    pub(crate) total_bytes: u64,
}

type Probe = Box<dyn Fn() -> io::Result<Space> + Send + Sync>;

/// Watches one file system.
pub(crate) struct DiskSpace {
    dir: PathBuf,
    floor_bytes: Option<u64>,
    probe: Probe,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    at: Option<Instant>,
    space: Option<Space>,
    below: bool,
}

impl DiskSpace {
    /// Watches the file system of `dir`; without `floor_bytes` the floor is 1 GiB or 5 %, whichever is smaller.
    pub(crate) fn new(dir: PathBuf, floor_bytes: Option<u64>) -> Self {
        let watched = dir.clone();
        let probe = move || {
            let found = statvfs(&watched)?;
            let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
            Ok(Space { free_bytes: bytes(found.f_bavail), total_bytes: bytes(found.f_blocks) })
        };
        Self { dir, floor_bytes, probe: Box::new(probe), seen: Mutex::default() }
    }

    /// Refuses while less is free than the floor and `reserve_bytes` on top of it. Looks at the file system once a second
    /// at most; in between, what was [charged](Self::charge) is taken off.
    ///
    /// # Errors
    /// [`Error::DiskFull`].
    pub(crate) fn check(&self, reserve_bytes: u64) -> Result<()> {
        self.check_at(Instant::now(), reserve_bytes)
    }

    /// Notes that `size_bytes` are about to be written.
    pub(crate) fn charge(&self, size_bytes: u64) {
        if let Some(space) = &mut self.lock().space {
            space.free_bytes = space.free_bytes.saturating_sub(size_bytes);
        }
    }

    /// Free bytes and floor as last seen.
    pub(crate) fn free_and_floor(&self) -> Option<(u64, u64)> {
        let space = self.look(Instant::now()).space?;
        Some((space.free_bytes, self.floor(space)))
    }

    fn check_at(&self, now: Instant, reserve_bytes: u64) -> Result<()> {
        let mut seen = self.look(now);
        // What cannot be seen is no reason to refuse: a disk that is really full says so at the write.
        let Some(space) = seen.space else { return Ok(()) };
        let needed_bytes = self.floor(space).saturating_add(reserve_bytes);
        let below = self.floor_bytes != Some(0) && space.free_bytes < needed_bytes;
        let (path, free_bytes) = (self.dir.display(), space.free_bytes);
        match (seen.below, below) {
            (false, true) => tracing::warn!(%path, free_bytes, needed_bytes, "disk nearly full: writes are refused"),
            (true, false) => tracing::warn!(%path, free_bytes, needed_bytes, "space is back: writes are accepted"),
            _ => {}
        }
        seen.below = below;
        if below { Err(Error::DiskFull { path: self.dir.clone(), free_bytes, needed_bytes }) } else { Ok(()) }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, now: Instant) -> MutexGuard<'_, Seen> {
        let mut seen = self.lock();
        if seen.at.is_none_or(|at| now.saturating_duration_since(at) >= LOOK_INTERVAL) {
            seen.at = Some(now);
            seen.space = (self.probe)().inspect_err(|error| tracing::debug!(%error, "free space is not known")).ok();
        }
        seen
    }

    fn floor(&self, space: Space) -> u64 {
        self.floor_bytes.unwrap_or_else(|| FLOOR_BYTES_DEFAULT.min(space.total_bytes / 20))
    }
}

impl fmt::Debug for DiskSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskSpace")
            .field("dir", &self.dir)
            .field("floor_bytes", &self.floor_bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use super::*;

    /// A disk of `total_bytes` whose free space the test sets, and the number of looks at it.
    fn disk(total_bytes: u64, floor_bytes: Option<u64>) -> (DiskSpace, Arc<AtomicU64>, Arc<AtomicU64>) {
        let (free, looks) = (Arc::new(AtomicU64::new(total_bytes)), Arc::new(AtomicU64::new(0)));
        let (probed, counted) = (Arc::clone(&free), Arc::clone(&looks));
        let probe = move || {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(Space { free_bytes: probed.load(Ordering::SeqCst), total_bytes })
        };
        let disk = DiskSpace { dir: "/data".into(), floor_bytes, probe: Box::new(probe), seen: Mutex::default() };
        (disk, free, looks)
    }

    #[test]
    fn below_the_floor_is_refused_and_space_that_is_back_is_seen_within_a_second() {
        let (disk, free, looks) = disk(100 << 30, Some(10 << 30));
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        disk.check_at(at(0), 0).unwrap();
        free.store(9 << 30, Ordering::SeqCst);
        disk.check_at(at(900), 0).unwrap();
        let error = disk.check_at(at(1000), 0).unwrap_err();
        assert!(matches!(error, Error::DiskFull { free_bytes, needed_bytes, .. }
            if (free_bytes, needed_bytes) == (9 << 30, 10 << 30)));
        free.store(10 << 30, Ordering::SeqCst);
        assert!(disk.check_at(at(1500), 0).is_err());
        disk.check_at(at(2000), 0).unwrap();
        assert_eq!(looks.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn what_is_written_between_two_looks_and_what_a_flush_needs_count() {
        let (disk, ..) = disk(100 << 30, Some(10 << 30));
        let now = Instant::now();
        disk.check_at(now, 90 << 30).unwrap();
        assert!(disk.check_at(now, (90 << 30) + 1).is_err());
        disk.charge(80 << 30);
        disk.check_at(now, 10 << 30).unwrap();
        disk.charge(1);
        assert!(disk.check_at(now, 10 << 30).is_err());
        disk.check_at(now + LOOK_INTERVAL, 90 << 30).unwrap();
    }

    #[test]
    fn the_default_floor_suits_small_disks_and_zero_means_none() {
        for (total, floor) in [(8 << 20, (8 << 20) / 20), (20 << 30, 1 << 30), (1 << 40, 1 << 30)] {
            assert_eq!(disk(total, None).0.free_and_floor(), Some((total, floor)));
        }
        let (disk, free, _) = disk(1 << 30, Some(0));
        free.store(0, Ordering::SeqCst);
        disk.check(0).unwrap();
    }

    #[test]
    fn a_file_system_that_does_not_say_is_not_full() {
        DiskSpace::new("/nowhere/at/all".into(), None).check(0).unwrap();
        let here = DiskSpace::new(std::env::temp_dir(), None);
        assert!(here.free_and_floor().is_some_and(|(free, floor)| free > 0 && floor > 0));
    }
}
