//! Reading a whole log without repairing it.

use std::{collections::HashSet, fs, path::Path};

use super::{
    frame::{self, Scan},
    record::{SeriesBook, decode},
    segment::{Header, SEGMENT_HEADER_SIZE, list_segments, read_header},
};
use crate::{
    error::{Error, Result},
    fault::{Fault, FaultKind},
};

/// What a log holds, and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct CheckedLog {
    pub(crate) segment_count: u64,
    pub(crate) record_count: u64,
    pub(crate) size_bytes: u64,
    pub(crate) faults: Vec<Fault>,
    /// Series of the records that not every table holds, as in the `series_id` column.
    pub(crate) unflushed_series: HashSet<i64>,
    last_sequence: u64,
}

/// Checks every segment of `dir`, one in memory at a time. Records up to `flushed_through` are in every table, so those
/// may be missing. `progress` is told the bytes read.
///
/// # Errors
/// [`Error::Io`]; [`Error::Corrupt`] for a segment of another format version, which this build cannot check.
pub(crate) fn check(dir: &Path, flushed_through: u64, progress: &mut dyn FnMut(u64)) -> Result<CheckedLog> {
    let mut checked = CheckedLog { last_sequence: flushed_through, ..CheckedLog::default() };
    let segments = if dir.is_dir() { list_segments(dir)? } else { vec![] };
    let newest = segments.len().saturating_sub(1);
    for (index, (named, path)) in segments.into_iter().enumerate() {
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        checked.segment_count += 1;
        checked.size_bytes += bytes.len() as u64;
        let first_sequence = checked.check_header(&path, named, &bytes, index == newest)?;
        let scan = frame::scan(&bytes, SEGMENT_HEADER_SIZE.min(bytes.len()), first_sequence);
        checked.check_frames(&path, &bytes, &scan, index == newest);
        checked.check_records(&path, &bytes, &scan, flushed_through);
        progress(bytes.len() as u64);
    }
    Ok(checked)
}

impl CheckedLog {
    fn check_header(&mut self, path: &Path, named: u64, bytes: &[u8], newest: bool) -> Result<u64> {
        match read_header(bytes) {
            Header::Valid { first_sequence } if first_sequence == named => {}
            Header::Valid { first_sequence } => {
                let message = format!("the header is that of the segment of record {first_sequence}");
                self.faults.push(Fault::new(FaultKind::WalHeader, path, message).at_offset(12));
            }
            Header::OtherVersion(version) => {
                let reason = format!("format version {version} is not known to this build");
                return Err(Error::Corrupt { path: path.to_owned(), offset: 8, reason });
            }
            Header::Damaged if newest && bytes.len() < SEGMENT_HEADER_SIZE => {
                let fault = Fault::new(FaultKind::WalTornEnd, path, "the header is not complete");
                self.faults.push(fault.at_offset(bytes.len()));
            }
            Header::Damaged => {
                let message = "the checksum of the header does not match";
                self.faults.push(Fault::new(FaultKind::WalHeader, path, message).at_offset(0));
            }
        }
        Ok(named)
    }

    fn check_frames(&mut self, path: &Path, bytes: &[u8], scan: &Scan, newest: bool) {
        for range in &scan.damage {
            let message = format!("{} bytes are no valid record", range.len());
            self.faults.push(Fault::new(FaultKind::WalDamage, path, message).at_offset(range.start));
        }
        let torn = bytes.len() - scan.valid_end;
        if torn > 0 {
            let kind = if newest { FaultKind::WalTornEnd } else { FaultKind::WalDamage };
            let message = format!("the last {torn} bytes are no valid record");
            self.faults.push(Fault::new(kind, path, message).at_offset(scan.valid_end));
        }
    }

    fn check_records(&mut self, path: &Path, bytes: &[u8], scan: &Scan, flushed_through: u64) {
        let mut book = SeriesBook::default();
        for found in &scan.frames {
            self.record_count += 1;
            if found.sequence > self.last_sequence {
                let missing = found.sequence - self.last_sequence - 1;
                if missing > 0 {
                    let message = format!("{missing} records before record {} are missing", found.sequence);
                    self.faults.push(Fault::new(FaultKind::WalGap, path, message).at_offset(found.payload.start));
                }
                self.last_sequence = found.sequence;
            }
            match decode(&bytes[found.payload.clone()], &mut book) {
                Ok(record) if found.sequence > flushed_through => {
                    if record.lost_point_count > 0 {
                        let lost = record.lost_point_count;
                        let message =
                            format!("record {}: {lost} points of series that no record defines", found.sequence);
                        self.faults
                            .push(Fault::new(FaultKind::WalRecord, path, message).at_offset(found.payload.start));
                    }
                    self.unflushed_series.extend(record.batch.series.iter().map(|series| series.id.to_column()));
                }
                Ok(_) => {}
                Err(error) => {
                    let message = format!("record {}: {error}", found.sequence);
                    let at = found.payload.start + error.offset;
                    self.faults.push(Fault::new(FaultKind::WalRecord, path, message).at_offset(at));
                }
            }
        }
    }
}
