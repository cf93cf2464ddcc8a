//! `kill -9` at random moments: what was acknowledged is there exactly once, what was not is there whole or not at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use prost::Message as _;
use serde_json::Value;

use crate::{
    otlp::{gauge, label, now_nanos, point, post, request},
    server::Server,
};

const POINTS: u64 = 50;
/// Small enough that flushes and segment changes happen between the kills.
const SMALL: [(&str, &str); 3] = [
    ("DRIFTWATT_STORE__FLUSH_SIZE", "64KiB"),
    ("DRIFTWATT_STORE__MEMTABLE_SIZE_MAX", "64MiB"),
    ("DRIFTWATT_STORE__WAL_SEGMENT_SIZE", "32KiB"),
];

/// A request of [`POINTS`] points whose value is its number.
fn body(number: u64, start_nanos: u64) -> Vec<u8> {
    let points = (0..POINTS).map(|index| {
        let time = start_nanos + (number * POINTS + index) * 1000;
        point(time, number as f64, vec![label("series", &(index % 5).to_string())])
    });
    request(vec![gauge("crash", points.collect())]).encode_to_vec()
}

/// Points stored per request number; fails on a point stored twice.
async fn stored(server: &Server) -> BTreeMap<u64, u64> {
    let sql = "SELECT CAST(value AS BIGINT), count(*), count(DISTINCT time) FROM raw.samples \
               WHERE metric = 'crash' GROUP BY 1";
    let rows = server.rows(sql).await;
    let number = |value: &Value| value.as_u64().unwrap();
    for row in &rows {
        assert_eq!(row[1], row[2], "request {} has a point twice", row[0]);
    }
    rows.iter().map(|row| (number(&row[0]), number(&row[1]))).collect()
}

fn assert_whole(stored: &BTreeMap<u64, u64>, acknowledged: &BTreeSet<u64>) {
    for number in acknowledged {
        assert_eq!(stored.get(number), Some(&POINTS), "acknowledged request {number}");
    }
    for (number, count) in stored {
        assert_eq!(*count, POINTS, "request {number} is torn");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_points_survive_kills_at_random_moments() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let start_nanos = now_nanos() - 3_600_000_000_000;
    let mut acknowledged = BTreeSet::new();
    let mut next = 0;
    // A fixed sequence of pauses, so that a failure can be repeated.
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for _round in 0..20 {
        let server = Server::start_with(&data, &SMALL);
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let pause = Duration::from_millis(20 + random % 230);
        let address = server.otlp_http.clone();
        let first = next;
        let sender = tokio::spawn(async move {
            let client = reqwest::Client::new();
            let mut acknowledged = Vec::new();
            for number in first.. {
                match post(&client, &address, body(number, start_nanos), &[]).await {
                    Ok((200, _)) => acknowledged.push(number),
                    Ok((429 | 503, _)) => {}
                    Ok((status, answer)) => panic!("{status}: {}", String::from_utf8_lossy(&answer)),
                    Err(_killed) => return (number + 1, acknowledged),
                }
            }
            unreachable!("the server is killed")
        });
        tokio::time::sleep(pause).await;
        server.kill();
        let (sent, round) = sender.await.unwrap();
        next = sent;
        acknowledged.extend(round);
    }
    assert!(acknowledged.len() > 20, "only {} requests were acknowledged", acknowledged.len());
    let server = Server::start_with(&data, &SMALL);
    assert_whole(&stored(&server).await, &acknowledged);
    server.flush().await;
    assert_whole(&stored(&server).await, &acknowledged);
    assert!(!server.log().contains("missing from the log"), "{}", server.log());
}

fn newest_segment(data: &Path) -> PathBuf {
    let entries = fs::read_dir(data.join("wal")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "wal")).max().unwrap()
}

/// Acknowledges `count` requests without a flush, then kills.
async fn unflushed(data: &Path, count: u64) {
    let server = Server::start(data);
    let start_nanos = now_nanos() - 3_600_000_000_000;
    let client = reqwest::Client::new();
    for number in 0..count {
        assert_eq!(post(&client, &server.otlp_http, body(number, start_nanos), &[]).await.unwrap().0, 200);
    }
    server.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_cut_at_its_end_loses_the_last_request_only() {
    let dir = tempfile::tempdir().unwrap();
    for cut in [1, 7, 100] {
        let data = dir.path().join(format!("cut-{cut}"));
        unflushed(&data, 10).await;
        let path = newest_segment(&data);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - cut]).unwrap();
        let server = Server::start(&data);
        let stored = stored(&server).await;
        assert_whole(&stored, &(0..9).collect());
        assert!(!stored.contains_key(&9));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_loses_the_request_it_is_in_only() {
    let dir = tempfile::tempdir().unwrap();
    for (index, share) in [0.2, 0.5, 0.8].into_iter().enumerate() {
        let data = dir.path().join(format!("flip-{index}"));
        unflushed(&data, 10).await;
        let path = newest_segment(&data);
        let mut bytes = fs::read(&path).unwrap();
        let at = (bytes.len() as f64 * share) as usize;
        bytes[at] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        let server = Server::start(&data);
        let stored = stored(&server).await;
        assert_whole(&stored, &BTreeSet::new());
        assert_eq!(stored.len(), 9, "bit flipped at {at}: {:?}", stored.keys());
    }
}
