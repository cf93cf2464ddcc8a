//! What opening the log does: read every segment, repair what a crash or a disk left behind, replay the records.
//!
//! A crash can only tear the end of the newest segment, and what it tears was never acknowledged: that is cut off.
//! Anything else is damage: the segment is copied to `quarantine/` and rewritten with the records that are still valid.

use std::{
    fs::{self, File, OpenOptions},
    io::Read as _,
    path::Path,
};

use super::{
    frame::{self, Scan},
    quarantine,
    segment::{Header, SEGMENT_HEADER_SIZE, SealedSegment, list_segments, read_header, remove_file, sync_dir},
};
use crate::{
    error::{Error, Result},
    failpoint::{self, Failpoint},
};

/// What opening the log found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Replay {
    /// Records replayed.
    pub(crate) records: u64,
    /// Records after the replay position that are missing between others: acknowledged once, lost to damage.
    pub(crate) missing_records: u64,
    /// Bytes cut from the end of the newest segment.
    pub(crate) truncated_bytes: u64,
    /// Damaged segments copied to `quarantine/`.
    pub(crate) quarantined_segments: u64,
}

/// What recovery comes across, in log order.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found<'a> {
    /// A segment begins.
    Segment,
    /// The payload of a record that the tables hold already.
    Known(&'a [u8]),
    /// A record to replay.
    Record {
        /// Its position in the log.
        sequence: u64,
        /// Its bytes.
        payload: &'a [u8],
    },
}

/// A repaired log.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) replay: Replay,
    pub(super) sealed: Vec<SealedSegment>,
    pub(super) next_sequence: u64,
}

/// Repairs `dir` and passes what it finds to `replay`: records after `after_sequence` as [`Found::Record`].
pub(super) fn recover(
    dir: &Path,
    after_sequence: u64,
    replay: &mut dyn FnMut(Found<'_>) -> Result<()>,
) -> Result<Recovered> {
    create_dir(dir)?;
    quarantine::remove_unfinished(dir)?;
    let segments = list_segments(dir)?;
    let newest = segments.len().saturating_sub(1);
    let mut recovered = Recovered { replay: Replay::default(), sealed: Vec::new(), next_sequence: after_sequence + 1 };
    // Highest sequence known to be issued: a later segment's name proves it even if its records are gone.
    let mut last = 0;
    let mut replayed_through = after_sequence;
    // Of one segment after the other: to get and to give back so much memory costs more than to read into it.
    let mut bytes = Vec::new();
    for (index, (first_sequence, path)) in segments.into_iter().enumerate() {
        last = last.max(first_sequence.saturating_sub(1));
        bytes.clear();
        File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(Error::io("read", &path))?;
        let scan = repair(dir, &path, &bytes, first_sequence, index == newest, &mut recovered.replay)?;
        replay(Found::Segment)?;
        for found in &scan.frames {
            let payload = &bytes[found.payload.clone()];
            if found.sequence > replayed_through {
                let gap = found.sequence - replayed_through - 1;
                if gap > 0 {
                    tracing::warn!(
                        after = replayed_through,
                        found = found.sequence,
                        "records are missing from the log"
                    );
                }
                recovered.replay.missing_records += gap;
                recovered.replay.records += 1;
                replay(Found::Record { sequence: found.sequence, payload })?;
                replayed_through = found.sequence;
            } else {
                replay(Found::Known(payload))?;
            }
            last = last.max(found.sequence);
        }
        if let Some(frame) = scan.frames.last() {
            recovered.sealed.push(SealedSegment { path, last_sequence: frame.sequence });
        }
    }
    recovered.next_sequence = last.max(after_sequence) + 1;
    Ok(recovered)
}

fn create_dir(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    sync_dir(dir)?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => Ok(()),
    }
}

/// Finds what a segment of these `bytes` holds and leaves it on disk either intact, repaired or removed.
fn repair(dir: &Path, path: &Path, bytes: &[u8], named: u64, newest: bool, replay: &mut Replay) -> Result<Scan> {
    let (header_valid, first_sequence) = match read_header(bytes) {
        Header::Valid { first_sequence } => (true, first_sequence),
        Header::OtherVersion(version) => {
            let reason = format!("format version {version} is not known to this build");
            return Err(Error::Corrupt { path: path.to_owned(), offset: 8, reason });
        }
        Header::Damaged => (false, named),
    };
    let scan = frame::scan(bytes, SEGMENT_HEADER_SIZE.min(bytes.len()), first_sequence);
    let torn_bytes = bytes.len() - scan.valid_end;
    let empty = scan.frames.is_empty();
    let damaged = !scan.damage.is_empty() || (!header_valid && !empty) || (!newest && torn_bytes > 0);
    if damaged {
        replay.quarantined_segments += 1;
        let copy = quarantine::keep_original(dir, path, bytes)?;
        let first_damage =
            if header_valid { scan.damage.first().map_or(scan.valid_end, |range| range.start) } else { 0 };
        tracing::warn!(
            segment = %path.display(), copy = %copy.display(), offset = first_damage, records = scan.frames.len(),
            "a log segment is damaged; the valid records are kept, the original is in quarantine"
        );
        quarantine::rewrite(dir, path, first_sequence, bytes, &scan)?;
    } else if empty {
        // Created, but the crash came before its first record was written whole.
        replay.truncated_bytes += if header_valid { torn_bytes as u64 } else { bytes.len() as u64 };
        remove_file(path)?;
        sync_dir(dir)?;
    } else if newest {
        replay.truncated_bytes += torn_bytes as u64;
        cut_and_sync(path, scan.valid_end, torn_bytes)?;
    }
    Ok(scan)
}

/// Cuts the torn end. Syncs in any case: records that a killed process wrote but did not sync count as durable from here.
fn cut_and_sync(path: &Path, valid_end: usize, torn_bytes: usize) -> Result<()> {
    let file = OpenOptions::new().write(true).open(path).map_err(Error::io("open", path))?;
    if torn_bytes > 0 {
        failpoint::hit(Failpoint::WalBeforeCut, path)?;
        tracing::warn!(segment = %path.display(), offset = valid_end, bytes = torn_bytes, "cut the torn end of the log");
        file.set_len(valid_end as u64).map_err(Error::io("truncate", path))?;
        failpoint::hit(Failpoint::WalAfterCut, path)?;
    }
    file.sync_all().map_err(Error::io("sync", path))
}
