//! The spool against restarts, its bound and damage.

use std::fs::OpenOptions;

use super::*;

const LARGE: u64 = 1 << 20;

fn open(dir: &Path, size_max: u64) -> Spool {
    Spool::open(dir, size_max).unwrap()
}

/// All that is left, oldest first, taken out as delivered.
fn drain(spool: &mut Spool) -> Vec<String> {
    let mut requests = Vec::new();
    while let Some((sequence, request)) = spool.oldest() {
        requests.push(String::from_utf8(request).unwrap());
        spool.remove(sequence, Fate::Delivered);
    }
    requests
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|ext| ext == EXTENSION)).collect();
    paths.sort();
    paths
}

#[test]
fn requests_come_out_in_order_after_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path(), LARGE);
    for index in 0..12 {
        spool.append(format!("request {index}").as_bytes()).unwrap();
    }
    let (sequence, first) = spool.oldest().unwrap();
    assert_eq!(first, b"request 0");
    spool.remove(sequence, Fate::Delivered);
    drop(spool);

    let mut spool = open(dir.path(), LARGE);
    assert_eq!((spool.levels().request_count, spool.levels().bytes), (11, 11 * BLOCK_SIZE));
    assert!(spool.levels().oldest.is_some());
    spool.append(b"request 12").unwrap();
    let expected: Vec<String> = (1..=12).map(|index| format!("request {index}")).collect();
    assert_eq!(drain(&mut spool), expected);
    assert_eq!((spool.levels().bytes, files(dir.path()).len()), (0, 0));
    assert_eq!(spool.levels().dropped, Dropped::default());
}

#[test]
fn the_oldest_make_room_and_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path(), 3 * BLOCK_SIZE);
    for request in ["a", "b", "c", "d"] {
        spool.append(request.as_bytes()).unwrap();
    }
    // Two blocks take the place of two requests.
    spool.append(&vec![b'x'; BLOCK_SIZE as usize]).unwrap();
    assert_eq!(spool.levels().dropped, Dropped { full: 3, ..Dropped::default() });
    assert_eq!(spool.levels().bytes, 3 * BLOCK_SIZE);
    drop(spool);

    let mut spool = open(dir.path(), 2 * BLOCK_SIZE);
    assert_eq!(spool.levels().dropped.full, 1, "a lower bound holds at once");
    assert_eq!(drain(&mut spool), ["x".repeat(BLOCK_SIZE as usize)]);
}

#[test]
fn a_request_over_the_bound_is_an_error_and_costs_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path(), 2 * BLOCK_SIZE);
    spool.append(b"kept").unwrap();
    let error = spool.append(&vec![0; 2 * BLOCK_SIZE as usize]).unwrap_err();
    assert!(matches!(&error, Error::Buffer { action: "write", .. }), "{error}");
    assert_eq!(drain(&mut spool), ["kept"]);
}

#[test]
fn a_torn_tail_is_left_out_wherever_it_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path(), LARGE);
    let whole = HEADER_SIZE + 4;
    for _ in 0..whole {
        spool.append(b"torn").unwrap();
    }
    spool.append(b"whole").unwrap();
    drop(spool);
    for (length, path) in files(dir.path()).iter().take(whole).enumerate() {
        OpenOptions::new().write(true).open(path).unwrap().set_len(length as u64).unwrap();
    }

    let mut spool = open(dir.path(), LARGE);
    assert_eq!(drain(&mut spool), ["whole"]);
    assert_eq!(spool.levels().dropped, Dropped { damaged: whole as u64, ..Dropped::default() });
    assert_eq!((spool.levels().bytes, files(dir.path()).len()), (0, 0));
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path(), LARGE);
    spool.append(b"flipped").unwrap();
    let path = files(dir.path()).remove(0);
    let bytes = fs::read(&path).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(request_of(changed).is_err(), "bit {bit}");
    }
    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&path, changed).unwrap();
    spool.append(b"next").unwrap();
    assert_eq!(drain(&mut spool), ["next"]);
    assert_eq!(spool.levels().dropped.damaged, 1);
}

#[test]
fn what_had_to_make_room_while_it_was_sent_takes_no_other_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = open(dir.path(), BLOCK_SIZE);
    spool.append(b"sent").unwrap();
    let (sequence, _) = spool.oldest().unwrap();
    spool.append(b"newer").unwrap();
    spool.remove(sequence, Fate::Refused);
    assert_eq!(spool.levels().dropped, Dropped { full: 1, ..Dropped::default() });
    assert_eq!(drain(&mut spool), ["newer"]);
}

#[test]
fn a_directory_serves_one_spool_and_other_files_in_it_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let foreign = ["notes.txt", "1.request", "x0000000000000000000.request"].map(|name| dir.path().join(name));
    foreign.iter().for_each(|path| fs::write(path, "mine").unwrap());
    let mut spool = open(dir.path(), LARGE);
    assert!(matches!(Spool::open(dir.path(), LARGE), Err(Error::BufferInUse { .. })));
    spool.append(b"request").unwrap();
    assert_eq!(drain(&mut spool), ["request"]);
    drop(spool);
    assert_eq!(open(dir.path(), LARGE).levels().request_count, 0);
    assert!(foreign.iter().all(|path| fs::read(path).unwrap() == b"mine"));
}
