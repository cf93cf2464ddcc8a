//! The log against a `Vec` model, cut and flipped bytes, and failing files.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::oneshot};

use super::{
    Applied, Found, Replay, Sink, Wal,
    frame::FRAME_HEADER_SIZE,
    quarantine::QUARANTINE,
    recovery::recover,
    segment::{SEGMENT_HEADER_SIZE, list_segments},
    thread::{Append, LogThread},
};
use crate::{
    config::Durability,
    error::{Error, Result},
};

type Records = Vec<(u64, Vec<u8>)>;

#[derive(Clone, Debug, PartialEq)]
enum Event {
    Apply(u64, u64),
    Seal(u64),
}

/// Remembers what it was told; reports the item as the duplicate count.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Event>>>);

impl Sink for Recorder {
    type Item = u64;

    fn preface(&mut self, _: &u64, _: bool, _: &mut Vec<u8>) {}

    fn apply(&mut self, sequence: u64, item: u64) -> u64 {
        self.0.lock().unwrap().push(Event::Apply(sequence, item));
        item
    }

    fn seal(&mut self, last_sequence: u64) {
        self.0.lock().unwrap().push(Event::Seal(last_sequence));
    }
}

fn keep(found: Found<'_>, records: &mut Records) {
    if let Found::Record { sequence, payload } = found {
        records.push((sequence, payload.to_vec()));
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn open_with(dir: &Path, durability: Durability, segment_size: u64, after: u64) -> (Wal<u64>, Replay, Records) {
    let mut records = Vec::new();
    let mut replay = |found: Found<'_>| {
        keep(found, &mut records);
        Ok(())
    };
    let opened = Wal::open(dir.to_owned(), durability, segment_size, after, after, &mut replay, Recorder::default());
    let (wal, summary) = opened.unwrap();
    (wal, summary, records)
}

fn open(dir: &Path) -> (Wal<u64>, Replay, Records) {
    open_with(dir, Durability::Sync, 1 << 20, 0)
}

/// A log with `payloads` as records 1, 2, …, and a rotation after each index in `rotate_after`.
fn written(payloads: &[&[u8]], rotate_after: &[usize]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (wal, ..) = open_with(dir.path(), Durability::Memory, 1 << 20, 0);
    runtime().block_on(async {
        for (index, payload) in payloads.iter().enumerate() {
            wal.append(Bytes::copy_from_slice(payload), 0).await.unwrap();
            if rotate_after.contains(&index) {
                wal.rotate().await.unwrap();
            }
        }
    });
    drop(wal);
    dir
}

/// Recovers a copy of the log in which `file` holds `bytes`.
fn recovered(original: &Path, file: &Path, bytes: &[u8]) -> (TempDir, Replay, Records, u64) {
    let copy = tempfile::tempdir().unwrap();
    for (_, path) in list_segments(original).unwrap() {
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    fs::write(copy.path().join(file.file_name().unwrap()), bytes).unwrap();
    let (replay, records, next) = recover_all(copy.path());
    (copy, replay, records, next)
}

fn recover_all(dir: &Path) -> (Replay, Records, u64) {
    let mut records = Vec::new();
    let recovered = recover(dir, 0, &mut |found| {
        keep(found, &mut records);
        Ok(())
    })
    .unwrap();
    (recovered.replay, records, recovered.next_sequence)
}

fn segment_paths(dir: &Path) -> Vec<PathBuf> {
    list_segments(dir).unwrap().into_iter().map(|(_, path)| path).collect()
}

const PAYLOADS: [&[u8]; 5] = [b"one", b"", b"three records", &[0; 17], b"five"];

fn numbered(payloads: &[&[u8]]) -> Records {
    (1..).zip(payloads.iter().map(|payload| payload.to_vec())).collect()
}

#[test]
fn concurrent_appends_are_applied_in_sequence_order_and_answered_with_their_own_result() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Recorder::default();
    let opened =
        Wal::open(dir.path().join("a/b"), Durability::Sync, 1 << 20, 41, 41, &mut |_| Ok(()), sink.clone()).unwrap();
    let wal = opened.0;
    let applied: Vec<Applied> = runtime().block_on(async {
        let appends = (0..300u64).map(|item| wal.append(Bytes::from(item.to_string()), item));
        let applied = futures::future::join_all(appends).await.into_iter().collect::<Result<_>>().unwrap();
        assert_eq!(wal.rotate().await.unwrap(), Some(341));
        assert_eq!(wal.rotate().await.unwrap(), None);
        wal.close().await.unwrap();
        wal.close().await.unwrap();
        assert!(matches!(wal.append(Bytes::new(), 0).await, Err(Error::WalClosed)));
        applied
    });
    let events = sink.0.lock().unwrap().clone();
    assert_eq!(events.len(), 301);
    assert_eq!(events[300], Event::Seal(341));
    for (index, event) in events[..300].iter().enumerate() {
        let Event::Apply(sequence, item) = *event else { panic!("sealed before the end") };
        assert_eq!(sequence, 42 + index as u64);
        assert_eq!(applied[item as usize], Applied { sequence, duplicate_count: item });
    }
}

#[test]
fn sequences_continue_after_all_segments_are_removed() {
    let dir = written(&PAYLOADS, &[1]);
    let (wal, summary, records) = open_with(dir.path(), Durability::Sync, 1 << 20, 3);
    assert_eq!(records, numbered(&PAYLOADS)[3..]);
    assert_eq!(summary, Replay { records: 2, ..Replay::default() });
    runtime().block_on(async {
        // Replayed records are sealed by the first rotation although nothing was appended.
        assert_eq!(wal.rotate().await.unwrap(), Some(5));
        assert_eq!(wal.remove_through(1).await.unwrap(), 0);
        assert_eq!(wal.remove_through(2).await.unwrap(), 1);
        assert_eq!(wal.remove_through(5).await.unwrap(), 1);
    });
    drop(wal);
    assert!(segment_paths(dir.path()).is_empty());
    let (wal, summary, _) = open_with(dir.path(), Durability::Sync, 1 << 20, 5);
    assert_eq!(summary, Replay::default());
    assert_eq!(runtime().block_on(wal.append(Bytes::new(), 0)).unwrap().sequence, 6);
}

#[test]
fn a_segment_is_closed_at_its_size_without_sealing() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, ..) = open_with(dir.path(), Durability::Sync, 100, 0);
    runtime().block_on(async {
        for _ in 0..6 {
            wal.append(Bytes::from_static(&[7; 30]), 0).await.unwrap();
        }
        assert_eq!(segment_paths(dir.path()).len(), 3);
        assert_eq!(wal.remove_through(3).await.unwrap(), 1);
        // The active segment stays whatever is asked.
        assert_eq!(wal.remove_through(6).await.unwrap(), 1);
    });
    drop(wal);
    assert_eq!(open_with(dir.path(), Durability::Sync, 100, 4).2.len(), 2);
}

#[test]
fn interval_durability_syncs_at_the_latest_at_close() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, ..) = open_with(dir.path(), Durability::Interval, 1 << 20, 0);
    runtime().block_on(async {
        for payload in PAYLOADS {
            wal.append(Bytes::from_static(payload), 0).await.unwrap();
        }
        wal.close().await.unwrap();
    });
    assert_eq!(open(dir.path()).2, numbered(&PAYLOADS));
}

#[test]
fn too_large_records_are_refused_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, ..) = open(dir.path());
    let payload = Bytes::from(vec![0; super::PAYLOAD_SIZE_BYTES_MAX + 1]);
    runtime().block_on(async {
        assert!(matches!(wal.append(payload, 0).await, Err(Error::RecordTooLarge { .. })));
        assert_eq!(wal.append(Bytes::new(), 0).await.unwrap().sequence, 1);
    });
}

#[test]
fn a_repair_cut_short_leaves_nothing_behind_at_the_next_open() {
    let dir = written(&PAYLOADS, &[1]);
    let newest = segment_paths(dir.path()).pop().unwrap();
    let (unfinished, foreign) = (newest.with_extension("tmp"), dir.path().join("notes.tmp"));
    [&unfinished, &foreign].into_iter().for_each(|path| fs::write(path, "x").unwrap());
    assert_eq!(recover_all(dir.path()).1, numbered(&PAYLOADS));
    assert!(!unfinished.exists() && foreign.exists());
}

#[test]
fn cutting_the_newest_segment_anywhere_keeps_every_whole_record_before_the_cut() {
    let dir = written(&PAYLOADS, &[1]);
    let newest = segment_paths(dir.path()).pop().unwrap();
    let bytes = fs::read(&newest).unwrap();
    let mut ends = vec![SEGMENT_HEADER_SIZE];
    PAYLOADS[2..].iter().for_each(|payload| ends.push(ends[ends.len() - 1] + FRAME_HEADER_SIZE + payload.len()));
    assert_eq!(ends.last(), Some(&bytes.len()));
    for cut in 0..bytes.len() {
        let (copy, replay, records, next) = recovered(dir.path(), &newest, &bytes[..cut]);
        let whole = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1);
        assert_eq!(records, numbered(&PAYLOADS)[..2 + whole], "cut at {cut}");
        assert_eq!(next, 3 + whole as u64);
        assert_eq!(replay.quarantined_segments, 0);
        let whole_end = if cut < SEGMENT_HEADER_SIZE { 0 } else { ends[whole] };
        assert_eq!(replay.truncated_bytes, (cut - whole_end) as u64, "cut at {cut}");
        // What a repair leaves behind needs no repair.
        let again = recover_all(copy.path());
        assert_eq!(again.0, Replay { records: records.len() as u64, ..Replay::default() });
        assert_eq!((again.1, again.2), (records, next));
    }
}

#[test]
fn flipping_any_bit_loses_at_most_the_record_it_is_in() {
    let dir = written(&PAYLOADS, &[1]);
    for (segment, first) in segment_paths(dir.path()).iter().zip([0, 2]) {
        let bytes = fs::read(segment).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let (copy, replay, records, _) = recovered(dir.path(), segment, &flipped);
            let mut expected = numbered(&PAYLOADS);
            let mut end = SEGMENT_HEADER_SIZE;
            let mut hit = None;
            for (index, payload) in PAYLOADS.iter().enumerate().skip(first).take(if first == 0 { 2 } else { 3 }) {
                let start = end;
                end += FRAME_HEADER_SIZE + payload.len();
                if (start..end).contains(&(bit / 8)) {
                    hit = Some(index);
                }
            }
            if let Some(index) = hit {
                expected.remove(index);
            }
            assert_eq!(records, expected, "bit {bit} of {}", segment.display());
            // Only the newest record can be taken for a torn end; all else leaves the original in quarantine.
            let torn = hit == Some(PAYLOADS.len() - 1);
            assert_eq!(replay.quarantined_segments, u64::from(!torn));
            assert_eq!(replay.truncated_bytes > 0, torn);
            assert_eq!(replay.missing_records, u64::from(hit.is_some() && !torn));
            if !torn {
                let kept = copy.path().join(QUARANTINE).join(segment.file_name().unwrap());
                assert_eq!(fs::read(kept).unwrap(), flipped);
            }
            assert_eq!(recover_all(copy.path()).1, records, "second open");
        }
    }
}

#[test]
fn a_frame_inside_a_payload_is_not_taken_for_a_record() {
    let mut inner = Vec::new();
    super::frame::put_frame(&mut inner, u64::MAX - 1, |out| out.extend_from_slice(b"forged"));
    super::frame::put_frame(&mut inner, 900, |out| out.extend_from_slice(b"forged"));
    let dir = written(&[b"one", &inner, b"three"], &[]);
    let segment = segment_paths(dir.path()).pop().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[SEGMENT_HEADER_SIZE + FRAME_HEADER_SIZE + 3] ^= 1;
    let (_copy, _, records, next) = recovered(dir.path(), &segment, &bytes);
    assert_eq!(records, [(1, b"one".to_vec()), (3, b"three".to_vec())]);
    assert_eq!(next, 4);
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let dir = written(&[b"one"], &[]);
    let segment = segment_paths(dir.path()).pop().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[8] = 2;
    let checksum = crc32c::crc32c(&bytes[..20]).to_le_bytes();
    bytes[20..24].copy_from_slice(&checksum);
    fs::write(&segment, &bytes).unwrap();
    let refused = recover(dir.path(), 0, &mut |_| Ok(()));
    assert!(matches!(refused, Err(Error::Corrupt { .. })));
    assert_eq!(fs::read(&segment).unwrap(), bytes);
}

/// Commits to a log whose active segment is `file`, then once more with a good file.
fn commit_to(file: File) -> (Vec<Event>, Vec<Result<Applied>>) {
    let dir = written(&[b"one"], &[]);
    let recovered = recover(dir.path(), 0, &mut |_| Ok(())).unwrap();
    let sink = Recorder::default();
    let mut log = LogThread::new(dir.path().to_owned(), Durability::Sync, 1 << 20, recovered, sink.clone());
    let mut answers = Vec::new();
    for file in [file, tempfile::tempfile().unwrap()] {
        log.active = Some(super::segment::ActiveSegment { path: "active".into(), file, size_bytes: 24 });
        let (group, waiting): (Vec<_>, Vec<_>) = (0..2u64)
            .map(|item| {
                let (answer, waiting) = oneshot::channel();
                (Append { payload: Bytes::from_static(b"x"), item, answer }, waiting)
            })
            .unzip();
        log.commit(group);
        answers.extend(waiting.into_iter().map(|answer| answer.blocking_recv().unwrap()));
    }
    (sink.0.lock().unwrap().clone(), answers)
}

#[test]
fn a_failed_write_or_sync_poisons_the_log_and_applies_nothing() {
    let read_only = File::open("/dev/null").unwrap();
    // Bytes can be written to a pipe but not synced.
    let (_reader, writer) = std::io::pipe().unwrap();
    // There is no space, and what was written cannot be cut off either.
    let full = File::options().write(true).open("/dev/full").unwrap();
    for file in [read_only, File::from(std::os::fd::OwnedFd::from(writer)), full] {
        let (events, answers) = commit_to(file);
        assert_eq!(events, []);
        assert_eq!(answers.len(), 4);
        assert!(answers.iter().all(|answer| matches!(answer, Err(Error::WalPoisoned))));
    }
}

#[test]
fn a_segment_that_cannot_be_created_poisons_the_log() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("wal");
    let (wal, ..) = open(&dir);
    fs::remove_dir(&dir).unwrap();
    runtime().block_on(async {
        assert!(matches!(wal.append(Bytes::new(), 0).await, Err(Error::WalPoisoned)));
        fs::create_dir(&dir).unwrap();
        assert!(matches!(wal.append(Bytes::new(), 0).await, Err(Error::WalPoisoned)));
        assert!(matches!(wal.rotate().await, Err(Error::WalPoisoned)));
    });
}

#[test]
fn the_worked_example_of_the_format_page() {
    let dir = written(&[b"abc"], &[]);
    let segment = segment_paths(dir.path()).pop().unwrap();
    assert_eq!(segment.file_name().unwrap(), "00000000000000000001.wal");
    let hex: String = fs::read(&segment).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    let header = "647269667477616c 01 000000 0100000000000000 b8c550d1";
    let frame = "03000000 f4dd8f6b 0100000000000000 616263";
    assert_eq!(hex, [header, frame].concat().replace(' ', ""));
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<u8>),
    Rotate,
    RemoveOldest,
    Reopen { torn: Vec<u8> },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Append),
        1 => Just(Step::Rotate),
        1 => Just(Step::RemoveOldest),
        1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(|torn| Step::Reopen { torn }),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Appends, rotations, removals and reopenings with a torn end, against the list of records.
    #[test]
    fn the_log_is_a_list(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let runtime = runtime();
        let open = |after| open_with(dir.path(), Durability::Memory, 120, after);
        let mut wal = open(0).0;
        let (mut model, mut next, mut removed, mut unsealed) = (Vec::new(), 1, 0, false);
        for step in steps {
            match step {
                Step::Append(payload) => {
                    let applied = runtime.block_on(wal.append(payload.clone().into(), 9)).unwrap();
                    prop_assert_eq!(applied, Applied { sequence: next, duplicate_count: 9 });
                    model.push((next, payload));
                    next += 1;
                    unsealed = true;
                }
                Step::Rotate => {
                    let rotated = runtime.block_on(wal.rotate()).unwrap();
                    prop_assert_eq!(rotated, unsealed.then_some(next - 1));
                    unsealed = false;
                }
                Step::RemoveOldest => {
                    removed += (next - 1 - removed) / 2;
                    runtime.block_on(wal.remove_through(removed)).unwrap();
                }
                Step::Reopen { torn } => {
                    drop(wal);
                    if let Some(newest) = segment_paths(dir.path()).pop() {
                        let bytes = [fs::read(&newest).unwrap(), torn].concat();
                        fs::write(newest, bytes).unwrap();
                    }
                    let (reopened, summary, records) = open(removed);
                    wal = reopened;
                    prop_assert_eq!(&records[..], &model[usize::try_from(removed).unwrap()..]);
                    prop_assert_eq!(summary.quarantined_segments + summary.missing_records, 0);
                    unsealed = !records.is_empty();
                }
            }
        }
    }
}
