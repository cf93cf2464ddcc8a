//! What the fuzz targets (`fuzz/`) and the mutation tests run: any bytes at all go in, nothing panics, and what is accepted
//! is valid. Hidden from the documentation, and not for any other use.

use super::{
    frame::{put_frame, scan},
    record::{Definitions, SeriesBook, decode, encode, is_consistent},
    segment::SEGMENT_HEADER_SIZE,
};
use crate::write_batch::WriteBatch;

/// Decodes `bytes` as the first record of a segment; true if they are one.
pub fn record(bytes: &[u8]) -> bool {
    next_record(bytes, &mut SeriesBook::default())
}

fn next_record(bytes: &[u8], book: &mut SeriesBook) -> bool {
    let Ok(decoded) = decode(bytes, book) else { return false };
    round_trip(&decoded.batch);
    true
}

/// Checks that `batch` can get into the log and out of it again with every bit, and again where its series are defined
/// already.
pub fn round_trip(batch: &WriteBatch) {
    assert!(is_consistent(batch), "a batch that cannot be replayed");
    let (mut definitions, mut again, mut book) = <(Definitions, Definitions, SeriesBook)>::default();
    for _ in 0..3 {
        let written = whole_record(&mut definitions, batch);
        let decoded = decode(&written, &mut book).expect("what was encoded is decoded");
        assert_eq!(decoded.lost_point_count, 0, "points lost their series");
        // The bytes hold every bit, unlike a comparison of doubles.
        assert_eq!(whole_record(&mut again, &decoded.batch), written, "another batch came back");
        assert_eq!(decoded.batch.point_count(), batch.point_count());
    }
}

/// Definitions and points, as the log writes them.
fn whole_record(definitions: &mut Definitions, batch: &WriteBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    definitions.put(&batch.series, &mut bytes);
    bytes.extend_from_slice(&encode(batch));
    bytes
}

/// Looks for frames in a segment of `bytes`; how many there are.
pub fn segment(bytes: &[u8]) -> usize {
    let start = SEGMENT_HEADER_SIZE.min(bytes.len());
    let found = scan(bytes, start, 1);
    let mut clean = bytes.get(..start).unwrap_or_default().to_vec();
    let (mut end, mut sequence, mut book) = (start, 0, SeriesBook::default());
    for frame in &found.frames {
        assert!(frame.payload.start >= end && frame.sequence > sequence, "frames overlap or go back");
        (end, sequence) = (frame.payload.end, frame.sequence);
        let payload = bytes.get(frame.payload.clone()).expect("a frame is inside its segment");
        assert!(put_frame(&mut clean, frame.sequence, |out| out.extend_from_slice(payload)), "a record grew");
        next_record(payload, &mut book);
    }
    assert!(found.valid_end == end && found.damage.iter().all(|range| range.start < range.end && range.end <= end));
    let again = scan(&clean, start, 1);
    let sequences = |frames: &[super::frame::FoundFrame]| frames.iter().map(|frame| frame.sequence).collect::<Vec<_>>();
    assert_eq!(sequences(&again.frames), sequences(&found.frames), "a repaired segment holds the same records");
    assert!(again.damage.is_empty() && again.valid_end == clean.len(), "a repaired segment is clean");
    found.frames.len()
}

/// One input made of `corpus`: bits flipped, bytes replaced, a stretch cut, repeated or taken from another. `state` is the
/// generator's (SplitMix64) and moves on.
pub fn mutated(state: &mut u64, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut below = |end: usize| {
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let bits = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((bits ^ (bits >> 31)) % end.max(1) as u64) as usize
    };
    let mut bytes = corpus[below(corpus.len())].clone();
    for _ in 0..=below(4) {
        let at = below(bytes.len());
        match below(6) {
            _ if bytes.is_empty() => {}
            0 => bytes[at] ^= 1 << below(8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][below(5)],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..at + below(bytes.len() - at).min(32))),
            4 => {
                let stretch = bytes[at..at + below(bytes.len() - at).min(64)].to_vec();
                let to = below(bytes.len());
                bytes.splice(to..to, stretch);
            }
            _ => {
                let other = &corpus[below(corpus.len())];
                let from = below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::segment::header_bytes;

    /// Records of several shapes, by the generator of the simulation, as one segment has them one after the other.
    fn records() -> Vec<Vec<u8>> {
        let mut definitions = Definitions::default();
        crate::simulation::batches(7, 12).iter().map(|batch| whole_record(&mut definitions, batch)).collect()
    }

    fn count(cases: u32, corpus: &[Vec<u8>], run: impl Fn(&[u8]) -> bool) -> u32 {
        let mut state = 0x5eed;
        (0..cases).map(|_| u32::from(run(&mutated(&mut state, corpus)))).sum()
    }

    #[test]
    fn mutated_records_are_refused_or_valid() {
        let records = records();
        assert!(records.iter().all(|bytes| record(bytes)));
        let cases = 5000;
        let accepted = count(cases, &records, record);
        assert!(accepted > cases / 50 && accepted < cases, "{accepted} accepted: the mutations say little");
    }

    #[test]
    fn mutated_segments_give_their_valid_records() {
        let mut whole = header_bytes(1).to_vec();
        for (sequence, payload) in (1..).zip(records()) {
            assert!(put_frame(&mut whole, sequence, |out| out.extend_from_slice(&payload)));
        }
        assert_eq!(segment(&whole), 12);
        let cases = 1000;
        let found = count(cases, &[whole], |bytes| segment(bytes) > 3);
        assert!(found > cases / 4, "in {found} segments only more than 3 records are left");
    }
}
