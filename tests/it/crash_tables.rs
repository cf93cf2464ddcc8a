//! SIGKILL under several senders whose requests span tables and bring new series, with flushes in between: samples,
//! histograms and series of a request are there together, exactly once, or not at all (`WAL-1`, `STORE-1`).

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;

use crate::{
    crash_ledger::{Ledger, Requests, check},
    otlp::post,
    server::Server,
};

const ROUNDS: u64 = 20;
const SENDERS: u64 = 4;
const SEED: u64 = 0x5eed_d41f;

/// Flushes every few requests, so that kills also meet half-written files and half-committed flushes.
const SETTINGS: &[(&str, &str)] = &[
    ("DRIFTWATT_STORE__FLUSH_SIZE", "48KiB"),
    ("DRIFTWATT_STORE__FLUSH_INTERVAL", "1s"),
    ("DRIFTWATT_STORE__MEMTABLE_SIZE_MAX", "64MiB"),
    ("DRIFTWATT_STORE__WAL_SEGMENT_SIZE", "64KiB"),
    ("DRIFTWATT_QUERY__ROWS_MAX", "1000000"),
];

/// Steele, Lea and Flood's SplitMix64: the moments of the kills follow from the seed.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Sends until the connection breaks.
async fn send(address: String, requests: Requests, next_request: Arc<AtomicU64>, ledger: Arc<Mutex<Ledger>>) {
    let client = reqwest::Client::new();
    loop {
        let k = next_request.fetch_add(1, Ordering::Relaxed);
        ledger.lock().unwrap().sent.insert(k);
        match post(&client, &address, requests.body(k), &[]).await {
            Ok((200, answer)) => {
                // A partial success would have a body.
                assert!(answer.is_empty(), "request {k}: {}", String::from_utf8_lossy(&answer));
                ledger.lock().unwrap().acknowledged.insert(k);
            }
            // Not stored; the sender would come back, but this one has other requests.
            Ok((429 | 503, _)) => {}
            Ok((status, answer)) => panic!("request {k}: {status} {}", String::from_utf8_lossy(&answer)),
            Err(_killed) => return,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_over_several_tables_survive_kills_whole_and_once() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    let requests = Requests::new();
    let next_request = Arc::new(AtomicU64::new(0));
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut random = SEED;
    for round in 0..ROUNDS {
        let server = Server::start_with(&data, SETTINGS);
        let so_far = ledger.lock().unwrap().clone();
        check(&server, &so_far).await;
        let mut senders = JoinSet::new();
        for _ in 0..SENDERS {
            senders.spawn(send(server.otlp_http.clone(), requests, Arc::clone(&next_request), Arc::clone(&ledger)));
        }
        // Every other kill comes after something was acknowledged, however slow the machine is.
        let acknowledged = || ledger.lock().unwrap().acknowledged.len();
        while round % 2 == 0 && acknowledged() == so_far.acknowledged.len() && !senders.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let pause = Duration::from_millis(20 + next(&mut random) % 281);
        tokio::time::sleep(pause).await;
        server.kill();
        while let Some(ended) = senders.join_next().await {
            ended.unwrap_or_else(|error| panic!("seed {SEED:#x}, round {round}, killed after {pause:?}: {error}"));
        }
    }
    let ledger = ledger.lock().unwrap().clone();
    let acknowledged_count = ledger.acknowledged.len() as u64;
    assert!(
        acknowledged_count >= ROUNDS / 2,
        "only {acknowledged_count} requests were acknowledged: kills came too early"
    );
    let server = Server::start_with(&data, SETTINGS);
    check(&server, &ledger).await;
    let files = server.rows("SELECT files FROM system.tables WHERE name = 'samples'").await;
    assert!(files[0][0].as_i64() > Some(1), "no flush happened between the kills");
    // The same after everything is in files, and after a clean restart.
    server.flush().await;
    check(&server, &ledger).await;
    server.terminate();
    check(&Server::start_with(&data, SETTINGS), &ledger).await;
}
