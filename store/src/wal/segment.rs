//! Segments: the files of the log, named by the first sequence they may hold.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::Instant,
};

use crate::{
    error::{Error, Result},
    failpoint::{self, Failpoint},
    metrics::wal_synced,
};

/// Magic, version, first sequence, checksum.
pub(super) const SEGMENT_HEADER_SIZE: usize = 24;
const MAGIC: [u8; 8] = *b"driftwal";
const FORMAT_VERSION: u8 = 1;
const EXTENSION: &str = "wal";

/// The segment that is being written.
#[derive(Debug)]
pub(super) struct ActiveSegment {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) size_bytes: u64,
}

/// A segment that is only read and removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SealedSegment {
    pub(super) path: PathBuf,
    pub(super) last_sequence: u64,
}

/// What the first bytes of a segment say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// Intact, of a format this build reads.
    Valid { first_sequence: u64 },
    /// Intact, of another format version.
    OtherVersion(u8),
    /// Short or damaged.
    Damaged,
}

impl ActiveSegment {
    /// Creates the segment and makes the file and its name durable, so that a synced frame can always be found.
    ///
    /// # Errors
    /// [`Error::WalFull`] if there is no space; no file is then left. After any other error one may be.
    pub(super) fn create(dir: &Path, first_sequence: u64) -> Result<Self> {
        let path = dir.join(segment_name(first_sequence));
        let file = match create_with_header(&path, first_sequence) {
            Ok(file) => file,
            Err(Error::Io { source, .. }) if is_full(&source) => {
                remove_file(&path)?;
                sync_dir(dir)?;
                return Err(Error::WalFull { path, reason: source.kind() });
            }
            Err(error) => return Err(error),
        };
        file.sync_all().map_err(Error::io("sync", &path))?;
        sync_dir(dir)?;
        Ok(Self { path, file, size_bytes: SEGMENT_HEADER_SIZE as u64 })
    }

    /// Appends whole frames, or nothing.
    ///
    /// # Errors
    /// [`Error::WalFull`] if there is no space: what was written is cut off again and the cut is synced, so the segment
    /// ends with its last whole frame, as before. After any other error its end is not known.
    pub(super) fn write(&mut self, frames: &[u8]) -> Result<()> {
        match self.write_frames(frames) {
            Ok(()) => {
                self.size_bytes += frames.len() as u64;
                Ok(())
            }
            Err(Error::Io { source, .. }) if is_full(&source) => {
                self.cut_back()?;
                Err(Error::WalFull { path: self.path.clone(), reason: source.kind() })
            }
            Err(error) => Err(error),
        }
    }

    fn write_frames(&mut self, frames: &[u8]) -> Result<()> {
        failpoint::hit(Failpoint::WalBeforeWrite, &self.path)?;
        let mut rest = frames;
        if failpoint::is_on() {
            let (first, second) = frames.split_at(frames.len() / 2);
            self.file.write_all(first).map_err(Error::io("write", &self.path))?;
            failpoint::hit(Failpoint::WalMidWrite, &self.path)?;
            rest = second;
        }
        self.file.write_all(rest).map_err(Error::io("write", &self.path))
    }

    /// Removes what follows the last whole frame, durably: a later crash must not find the record that was refused.
    fn cut_back(&mut self) -> Result<()> {
        failpoint::hit(Failpoint::WalBeforeCutBack, &self.path)?;
        self.file.set_len(self.size_bytes).map_err(Error::io("cut back", &self.path))?;
        self.file.seek(SeekFrom::Start(self.size_bytes)).map_err(Error::io("cut back", &self.path))?;
        failpoint::hit(Failpoint::WalAfterCutBack, &self.path)?;
        self.file.sync_all().map_err(Error::io("cut back", &self.path))
    }

    /// Whether no frame was written yet.
    pub(super) fn is_empty(&self) -> bool {
        self.size_bytes == SEGMENT_HEADER_SIZE as u64
    }

    pub(super) fn sync(&self) -> Result<()> {
        failpoint::hit(Failpoint::WalBeforeSync, &self.path)?;
        let started = Instant::now();
        self.file.sync_data().map_err(Error::io("sync", &self.path))?;
        wal_synced(started.elapsed());
        failpoint::hit(Failpoint::WalAfterSync, &self.path)
    }
}

fn create_with_header(path: &Path, first_sequence: u64) -> Result<File> {
    failpoint::hit(Failpoint::WalBeforeCreate, path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(Error::io("create", path))?;
    failpoint::hit(Failpoint::WalCreated, path)?;
    file.write_all(&header_bytes(first_sequence)).map_err(Error::io("write", path))?;
    failpoint::hit(Failpoint::WalHeaderWritten, path)?;
    Ok(file)
}

/// Whether a write failed for want of space only, so that what came before it is as it was.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

/// The file name of the segment that starts at `first_sequence`; names sort like the numbers.
pub(super) fn segment_name(first_sequence: u64) -> String {
    format!("{first_sequence:020}.{EXTENSION}")
}

/// Segments of `dir` as (first sequence by name, path), oldest first.
pub(super) fn list_segments(dir: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        let first = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
        if let Some(first) = first
            && path.file_name().is_some_and(|name| *name == *segment_name(first))
        {
            segments.push((first, path));
        }
    }
    segments.sort();
    Ok(segments)
}

pub(super) fn header_bytes(first_sequence: u64) -> [u8; SEGMENT_HEADER_SIZE] {
    let mut header = [0; SEGMENT_HEADER_SIZE];
    header[..8].copy_from_slice(&MAGIC);
    header[8] = FORMAT_VERSION;
    // Bytes 9 to 11 are reserved and zero.
    header[12..20].copy_from_slice(&first_sequence.to_le_bytes());
    let checksum = crc32c::crc32c(&header[..20]);
    header[20..].copy_from_slice(&checksum.to_le_bytes());
    header
}

pub(super) fn read_header(bytes: &[u8]) -> Header {
    let Some(header) = bytes.first_chunk::<SEGMENT_HEADER_SIZE>() else { return Header::Damaged };
    let (body, checksum) = header.split_at(20);
    if crc32c::crc32c(body).to_le_bytes() != *checksum || body[..8] != MAGIC {
        return Header::Damaged;
    }
    if header[8] != FORMAT_VERSION {
        return Header::OtherVersion(header[8]);
    }
    let mut first_sequence = [0; 8];
    first_sequence.copy_from_slice(&header[12..20]);
    Header::Valid { first_sequence: u64::from_le_bytes(first_sequence) }
}

/// Makes creations, renames and removals in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", dir))
}

pub(super) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}
