//! Requests on disk, oldest first, within a bound.
//!
//! Each request is one file: `DWSPOOL`, the version byte 1, length and CRC-32C of the request (u32, little endian), the
//! request. The name of the file is its place in the order. Invariants:
//! - A request counts as kept once its file and its directory are synced.
//! - A file that is cut off or changed is left out and counted when its turn comes.
//! - Space is counted in whole blocks of 4 KiB, so that the bound holds for many small requests too.
//! - A removal is not synced: what comes back after a crash is sent twice, which stores nothing twice.

use std::{
    collections::VecDeque,
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::error::{Error, Result};

const MAGIC: [u8; 8] = *b"DWSPOOL\x01";
const HEADER_SIZE: usize = MAGIC.len() + 8;
const BLOCK_SIZE: u64 = 4096;
const EXTENSION: &str = "request";

/// The requests in a directory that no other process uses.
#[derive(Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
    size_max: u64,
    /// Oldest first.
    entries: VecDeque<Entry>,
    size: u64,
    sequence_next: u64,
    dropped: Dropped,
    _lock: File,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    sequence: u64,
    /// Bytes on disk.
    size: u64,
    written: SystemTime,
}

/// Requests that are lost, by reason.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// The oldest, which had to make room.
    pub(crate) full: u64,
    /// The server does not want them.
    pub(crate) refused: u64,
    /// What is on disk is not what was written.
    pub(crate) damaged: u64,
}

/// What a spool holds.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Levels {
    pub(crate) request_count: usize,
    pub(crate) bytes: u64,
    /// When the oldest request was written.
    pub(crate) oldest: Option<SystemTime>,
    pub(crate) dropped: Dropped,
}

/// Why a request leaves the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Delivered,
    Refused,
}

impl Spool {
    /// Opens the directory, which is made if it is not there, with what an earlier process left in it.
    ///
    /// # Errors
    /// [`Error::BufferInUse`] if another process has it open, [`Error::Buffer`] if it cannot be read or written.
    pub(crate) fn open(dir: &Path, size_max: u64) -> Result<Self> {
        fs::create_dir_all(dir).map_err(failed("create", dir))?;
        let lock_path = dir.join("lock");
        let lock = File::create(&lock_path).map_err(failed("create", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::BufferInUse { dir: dir.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(failed("lock", &lock_path)(source)),
        }
        let mut entries = entries(dir).map_err(failed("read", dir))?;
        entries.sort_unstable_by_key(|entry| entry.sequence);
        let mut spool = Self {
            dir: dir.to_owned(),
            size_max,
            size: entries.iter().map(|entry| entry.size).sum(),
            sequence_next: entries.last().map_or(0, |entry| entry.sequence.saturating_add(1)),
            entries: entries.into(),
            dropped: Dropped::default(),
            _lock: lock,
        };
        // The bound may be lower than it was.
        spool.make_room(0);
        Ok(spool)
    }

    /// Writes `request` behind all others and syncs it; the oldest make room.
    ///
    /// # Errors
    /// [`Error::Buffer`] if it cannot be written or is larger than the bound; then nothing of it is kept.
    pub(crate) fn append(&mut self, request: &[u8]) -> Result<()> {
        let sequence = self.sequence_next;
        let path = self.path(sequence);
        let size = size_on_disk((HEADER_SIZE + request.len()) as u64);
        let length = u32::try_from(request.len()).ok().filter(|_| size <= self.size_max).ok_or_else(|| {
            let reason = format!("{} bytes are more than buffer_size_max, {}", request.len(), self.size_max);
            failed("write", &path)(io::Error::new(io::ErrorKind::FileTooLarge, reason))
        })?;
        self.make_room(size);
        let mut bytes = Vec::with_capacity(HEADER_SIZE + request.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(request).to_le_bytes());
        bytes.extend_from_slice(request);
        // Never used again, also if what follows fails.
        self.sequence_next = sequence.saturating_add(1);
        if let Err(source) = write_synced(&self.dir, &path, &bytes) {
            // Best effort: what stays is found to be half when the directory is opened and read.
            let _removed = fs::remove_file(&path);
            return Err(failed("write", &path)(source));
        }
        self.entries.push_back(Entry { sequence, size, written: SystemTime::now() });
        self.size += size;
        Ok(())
    }

    /// The oldest request and its place; damaged ones before it are dropped.
    pub(crate) fn oldest(&mut self) -> Option<(u64, Vec<u8>)> {
        while let Some(Entry { sequence, .. }) = self.entries.front().copied() {
            let path = self.path(sequence);
            match fs::read(&path).map_err(|error| error.to_string()).and_then(request_of) {
                Ok(request) => return Some((sequence, request)),
                Err(reason) => {
                    tracing::warn!(path = %path.display(), reason, "a buffered request is damaged and left out");
                    self.dropped.damaged += 1;
                    self.remove_oldest();
                }
            }
        }
        None
    }

    /// Removes the oldest request if it is still `sequence`: it may have had to make room meanwhile.
    pub(crate) fn remove(&mut self, sequence: u64, fate: Fate) {
        if self.entries.front().is_some_and(|entry| entry.sequence == sequence) {
            self.dropped.refused += u64::from(fate == Fate::Refused);
            self.remove_oldest();
        }
    }

    pub(crate) fn levels(&self) -> Levels {
        Levels {
            request_count: self.entries.len(),
            bytes: self.size,
            oldest: self.entries.front().map(|entry| entry.written),
            dropped: self.dropped,
        }
    }

    fn make_room(&mut self, size: u64) {
        while self.size + size > self.size_max && !self.entries.is_empty() {
            self.dropped.full += 1;
            self.remove_oldest();
        }
    }

    fn remove_oldest(&mut self) {
        let Some(entry) = self.entries.pop_front() else { return };
        self.size -= entry.size;
        let path = self.path(entry.sequence);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "a buffered request cannot be deleted; it is sent again after a restart");
        }
    }

    fn path(&self, sequence: u64) -> PathBuf {
        // Twenty digits hold every u64, so that names sort as numbers do.
        self.dir.join(format!("{sequence:020}.{EXTENSION}"))
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Buffer { action, path, source }
}

fn size_on_disk(length: u64) -> u64 {
    length.next_multiple_of(BLOCK_SIZE)
}

/// The requests that a directory holds, in any order; other files are nobody's business here.
fn entries(dir: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for file in fs::read_dir(dir)? {
        let file = file?;
        let name = file.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(EXTENSION)?.strip_suffix('.'));
        let Some(sequence) = stem.filter(|stem| stem.len() == 20).and_then(|stem| stem.parse().ok()) else { continue };
        let metadata = file.metadata()?;
        // An empty file, left by a crash, takes a block too: it is counted as damaged when its turn comes.
        let size = size_on_disk(metadata.len().max(1));
        entries.push(Entry { sequence, size, written: metadata.modified()? });
    }
    Ok(entries)
}

fn write_synced(dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    sync_directory(dir)
}

#[cfg(unix)]
fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Elsewhere a directory cannot be opened, and the file system looks after its entries.
#[cfg(not(unix))]
fn sync_directory(_dir: &Path) -> io::Result<()> {
    Ok(())
}

/// The request in the bytes of a file, or what is wrong with them.
fn request_of(mut bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    let header: Option<&[u8; HEADER_SIZE]> = bytes.first_chunk();
    let Some(&[magic @ .., l0, l1, l2, l3, c0, c1, c2, c3]) = header else {
        return Err(format!("{} bytes are no header", bytes.len()));
    };
    if magic != MAGIC {
        return Err("the header is not one of this version".to_owned());
    }
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let request = bytes.split_off(HEADER_SIZE);
    if request.len() != length {
        return Err(format!("{} of {length} bytes are there", request.len()));
    }
    if crc32c::crc32c(&request) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err("the checksum does not match".to_owned());
    }
    Ok(request)
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
