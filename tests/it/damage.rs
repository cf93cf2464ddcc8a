//! A log whose last bytes are missing or that has a flipped bit: only the records hit by it are gone (`docs/format/wal.md`).

use std::{
    collections::BTreeSet,
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use crate::{
    crash_ledger::{Requests, stored_requests},
    otlp::post,
    server::Server,
};

const REQUESTS: u64 = 40;
const SEGMENT_HEADER_SIZE: usize = 24;
const FRAME_HEADER_SIZE: usize = 16;
/// Small segments, and nothing is flushed: every record is in the log only.
const SETTINGS: &[(&str, &str)] = &[("DRIFTWATT_STORE__WAL_SEGMENT_SIZE", "8KiB")];

/// A frame of a segment and the request in it.
struct Frame {
    request: u64,
    bytes: Range<usize>,
}

/// Walks a whole segment as the format page says, independently of the store.
fn frames(bytes: &[u8]) -> Vec<Frame> {
    assert_eq!(&bytes[..8], b"driftwal");
    let mut frames = Vec::new();
    let mut at = SEGMENT_HEADER_SIZE;
    while at < bytes.len() {
        let size = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let sequence = u64::from_le_bytes(bytes[at + 8..at + 16].try_into().unwrap());
        let end = at + FRAME_HEADER_SIZE + size;
        // Requests were sent one after the other, so request 0 has sequence 1.
        frames.push(Frame { request: sequence - 1, bytes: at..end });
        at = end;
    }
    frames
}

/// Segments from oldest to newest.
pub(crate) fn segments(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data.join("wal")).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "wal")).collect();
    segments.sort();
    segments
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

async fn send(server: &Server, requests: Requests, k: u64) {
    let client = reqwest::Client::new();
    let (status, answer) = post(&client, &server.otlp_http, requests.body(k), &[]).await.unwrap();
    assert_eq!(status, 200, "request {k}: {}", String::from_utf8_lossy(&answer));
}

/// A data directory of a killed server: `REQUESTS` acknowledged requests in several segments.
async fn killed(data: &Path, requests: Requests) {
    let server = Server::start_with(data, SETTINGS);
    for k in 0..REQUESTS {
        send(&server, requests, k).await;
    }
    server.kill();
    let segments = segments(data);
    assert!(segments.len() >= 3, "{segments:?}");
    let found: Vec<u64> = segments
        .iter()
        .flat_map(|path| frames(&fs::read(path).unwrap()).into_iter().map(|frame| frame.request).collect::<Vec<_>>())
        .collect();
    assert_eq!(found, (0..REQUESTS).collect::<Vec<_>>());
}

/// Starts on `data`: exactly `lost` is missing, and what is sent from now on survives the next kill.
async fn check(data: &Path, requests: Requests, lost: &BTreeSet<u64>, case: &str) {
    let mut expected: BTreeSet<u64> = (0..REQUESTS).filter(|k| !lost.contains(k)).collect();
    let server = Server::start_with(data, SETTINGS);
    assert_eq!(stored_requests(&server).await, expected, "{case}");
    send(&server, requests, REQUESTS).await;
    expected.insert(REQUESTS);
    server.kill();
    let server = Server::start_with(data, SETTINGS);
    assert_eq!(stored_requests(&server).await, expected, "{case}, after a further request and kill");
}

#[tokio::test]
async fn cuts_at_and_around_record_ends_cost_exactly_the_records_they_hit() {
    let temp = tempfile::tempdir().unwrap();
    let (original, requests) = (temp.path().join("original"), Requests::new());
    killed(&original, requests).await;
    let newest = segments(&original).pop().unwrap();
    let bytes = fs::read(&newest).unwrap();
    let frames = frames(&bytes);
    let last = frames.last().unwrap().bytes.len();
    for cut in [1, 15, last - 1, last, last + 1, bytes.len() - SEGMENT_HEADER_SIZE, bytes.len() - 10] {
        let data = temp.path().join(format!("cut-{cut}"));
        copy(&original, &data);
        let left = bytes.len() - cut;
        fs::write(data.join("wal").join(newest.file_name().unwrap()), &bytes[..left]).unwrap();
        let lost = frames.iter().filter(|frame| frame.bytes.end > left).map(|frame| frame.request).collect();
        check(&data, requests, &lost, &format!("{cut} of {} bytes cut", bytes.len())).await;
    }
}

#[tokio::test]
async fn a_flipped_bit_in_any_part_of_a_frame_costs_that_record_only() {
    let temp = tempfile::tempdir().unwrap();
    let (original, requests) = (temp.path().join("original"), Requests::new());
    killed(&original, requests).await;
    let segments = segments(&original);
    let middle = &segments[segments.len() / 2];
    let bytes = fs::read(middle).unwrap();
    let frames = frames(&bytes);
    let victim = &frames[frames.len() / 2];
    let at = victim.bytes.start;
    let (defining, repeating) = (&frames[0], &frames[1]);
    let places = [
        ("record that defines the series", defining.bytes.end - 1, 1, Some(defining.request)),
        ("record that defines them again", repeating.bytes.end - 1, 1, Some(repeating.request)),
        ("version in the header", 8, 1, None),
        ("first sequence in the header", 12, 1, None),
        ("low bit of the length", at, 1, Some(victim.request)),
        ("high bit of the length", at + 3, 0x80, Some(victim.request)),
        ("checksum", at + 4, 0x10, Some(victim.request)),
        ("sequence", at + 8, 2, Some(victim.request)),
        ("first byte of the record", at + FRAME_HEADER_SIZE, 1, Some(victim.request)),
        ("middle of the record", (at + victim.bytes.end) / 2, 0x40, Some(victim.request)),
        ("last byte of the record", victim.bytes.end - 1, 0x80, Some(victim.request)),
    ];
    for (index, (case, offset, bit, lost)) in places.into_iter().enumerate() {
        let data = temp.path().join(format!("flip-{index}"));
        copy(&original, &data);
        let mut flipped = bytes.clone();
        flipped[offset] ^= bit;
        fs::write(data.join("wal").join(middle.file_name().unwrap()), &flipped).unwrap();
        check(&data, requests, &lost.into_iter().collect(), case).await;
        let kept = fs::read_dir(data.join("wal/quarantine")).unwrap().map(|entry| fs::read(entry.unwrap().path()));
        assert!(kept.map(Result::unwrap).any(|original| original == flipped), "{case}: the original is not kept");
    }
}
