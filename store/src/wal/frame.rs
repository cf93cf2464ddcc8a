//! Frames: one record on disk, and how records are found again when bytes between them are damaged.

use std::ops::Range;

/// Length, checksum, sequence.
pub(super) const FRAME_HEADER_SIZE: usize = 16;

/// Largest payload of one record. Also bounds what a damaged length can make a reader believe.
pub(crate) const PAYLOAD_SIZE_BYTES_MAX: usize = 256 << 20;

/// Appends the frame of one record to `out`; `put_payload` appends the payload. False, and nothing appended, if that is
/// over [`PAYLOAD_SIZE_BYTES_MAX`].
pub(super) fn put_frame(out: &mut Vec<u8>, sequence: u64, put_payload: impl FnOnce(&mut Vec<u8>)) -> bool {
    let start = out.len();
    out.resize(start + FRAME_HEADER_SIZE, 0);
    put_payload(out);
    let (header, payload) = out[start..].split_at_mut(FRAME_HEADER_SIZE);
    let length = u32::try_from(payload.len()).ok().filter(|length| *length as usize <= PAYLOAD_SIZE_BYTES_MAX);
    let Some(length) = length else {
        out.truncate(start);
        return false;
    };
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4..8].copy_from_slice(&checksum(sequence, payload).to_le_bytes());
    header[8..].copy_from_slice(&sequence.to_le_bytes());
    true
}

fn checksum(sequence: u64, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&sequence.to_le_bytes()), payload)
}

/// Where one valid record is in its segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FoundFrame {
    pub(super) sequence: u64,
    pub(super) payload: Range<usize>,
}

/// What a segment's bytes hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Valid records, sequences strictly increasing.
    pub(super) frames: Vec<FoundFrame>,
    /// Damaged stretches that a valid record follows.
    pub(super) damage: Vec<Range<usize>>,
    /// End of the last valid record (or `start`); what follows is no valid record.
    pub(super) valid_end: usize,
}

/// Finds every valid record in `bytes[start..]`, whose sequences begin at `first_sequence` or later.
pub(super) fn scan(bytes: &[u8], start: usize, first_sequence: u64) -> Scan {
    let mut scan = Scan { valid_end: start, ..Scan::default() };
    let mut last = first_sequence.saturating_sub(1);
    while scan.valid_end < bytes.len() {
        let at = scan.valid_end;
        let frame = match frame_at(bytes, at, last + 1..=u64::MAX - 1) {
            Some(frame) => frame,
            None => match next_frame(bytes, at, last) {
                Some(frame) => {
                    scan.damage.push(at..frame.payload.start - FRAME_HEADER_SIZE);
                    frame
                }
                None => break,
            },
        };
        last = frame.sequence;
        scan.valid_end = frame.payload.end;
        scan.frames.push(frame);
    }
    scan
}

/// The first valid frame after the damage at `damaged_at`.
///
/// Sequences are dense and every lost record took at least a frame header, so only a small window of sequences is
/// possible. The window makes the search cheap (few checksums) and rejects frames that a payload happens to contain.
fn next_frame(bytes: &[u8], damaged_at: usize, last: u64) -> Option<FoundFrame> {
    (damaged_at + 1..bytes.len().saturating_sub(FRAME_HEADER_SIZE - 1)).find_map(|at| {
        let lost_max = ((at - damaged_at) / FRAME_HEADER_SIZE) as u64;
        frame_at(bytes, at, last + 1..=last.saturating_add(1 + lost_max).min(u64::MAX - 1))
    })
}

fn frame_at(bytes: &[u8], at: usize, sequences: std::ops::RangeInclusive<u64>) -> Option<FoundFrame> {
    let header = bytes.get(at..)?.first_chunk::<FRAME_HEADER_SIZE>()?;
    let [l0, l1, l2, l3, c0, c1, c2, c3, sequence @ ..] = *header;
    let sequence = u64::from_le_bytes(sequence);
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if !sequences.contains(&sequence) || length > PAYLOAD_SIZE_BYTES_MAX {
        return None;
    }
    let start = at + FRAME_HEADER_SIZE;
    let payload = start..start + length;
    let expected = u32::from_le_bytes([c0, c1, c2, c3]);
    (checksum(sequence, bytes.get(payload.clone())?) == expected).then_some(FoundFrame { sequence, payload })
}
