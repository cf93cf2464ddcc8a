//! `Store::open` with a log to replay, until the first query is answered.
//!
//! Not by criterion: a process that has just written the log has its memory at hand already, so that each step is a
//! process of its own. `RESTART_LOG_BYTES` sets the size of the log, 1 GB without it, and next to nothing under `cargo test`.
#![expect(clippy::print_stdout, reason = "a bench reports to its terminal")]

use std::{
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use datafusion::prelude::SessionContext;
use driftwatt_store::{Config, Durability, Store};
use tokio::runtime::Runtime;

mod fleet;

/// Senders; each sends one point of each of its series in every record, as a collector does.
const FLEETS: usize = 20;
const SERIES_PER_FLEET: usize = 1000;
/// Says which step a process is.
const STEP: &str = "RESTART_STEP";
const DIR: &str = "RESTART_DIR";
const LOG_BYTES: &str = "RESTART_LOG_BYTES";

fn log_bytes() -> u64 {
    let default = if std::env::args().any(|argument| argument == "--bench") { 1_000_000_000 } else { 1_000_000 };
    std::env::var(LOG_BYTES).map_or(default, |text| text.parse().expect("a number of bytes"))
}

async fn open(dir: &Path) -> Arc<Store> {
    let mut config = Config::new(dir);
    config.durability = Durability::Memory;
    // The log is to keep everything, and what is replayed to stay in memory.
    config.flush_size_bytes = usize::MAX;
    config.memtable_size_bytes_max = usize::MAX;
    config.flush_interval = Duration::from_secs(3600);
    Store::open(config).await.expect("the directory opens")
}

fn size_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("the log is a directory");
    entries.map(|entry| entry.and_then(|entry| entry.metadata()).map_or(0, |data| data.len())).sum()
}

async fn write(dir: &Path) {
    let store = open(dir).await;
    let mut fleets: Vec<_> = (0..FLEETS).map(|number| fleet::Fleet::new(number, SERIES_PER_FLEET)).collect();
    let mut points = 0;
    while size_bytes(&dir.join("wal")) < log_bytes() {
        for fleet in &mut fleets {
            let batch = fleet.batch(1);
            points += batch.point_count();
            store.append(batch).await.expect("a valid batch is appended");
        }
    }
    println!(
        "restart: log of {} bytes, {points} points in {} series",
        size_bytes(&dir.join("wal")),
        FLEETS * SERIES_PER_FLEET
    );
}

/// Peak and present resident memory in MiB, on Linux.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let mib = |name| value(name).map_or_else(|| "unknown".to_owned(), |kib| (kib >> 10).to_string());
    format!("{} MiB resident, peak {} MiB", mib("VmRSS"), mib("VmHWM"))
}

async fn restart(dir: &Path) {
    let started = Instant::now();
    let store = open(dir).await;
    println!("restart: open after {:.2} s, {}", started.elapsed().as_secs_f64(), memory());
    let session = SessionContext::new();
    for name in ["samples", "series"] {
        session.register_table(name, store.table(name).expect("a table")).expect("a new name");
    }
    for query in [
        "SELECT value FROM samples WHERE metric = 'hw.power' ORDER BY time DESC LIMIT 1",
        "SELECT count(*) FROM samples",
        "SELECT metric, count(*), avg(value) FROM samples GROUP BY metric",
        "SELECT count(DISTINCT series_id) FROM series",
    ] {
        let asked = Instant::now();
        let rows = session.sql(query).await.expect("a valid query").collect().await.expect("an answer");
        let count = rows.iter().map(|batch| batch.num_rows()).sum::<usize>();
        println!(
            "restart: after {:.2} s {count} rows in {:.3} s, {}: {query}",
            started.elapsed().as_secs_f64(),
            asked.elapsed().as_secs_f64(),
            memory()
        );
    }
    // The log stays as it is, and memory need not be given back one by one.
    std::process::exit(0);
}

fn step(name: &str, dir: &Path) {
    let this = std::env::current_exe().expect("the path of this program");
    let status = Command::new(this)
        .env(STEP, name)
        .env(DIR, dir)
        .env(LOG_BYTES, log_bytes().to_string())
        .status()
        .expect("this program starts again");
    assert!(status.success(), "the step {name} failed: {status}");
}

fn main() {
    let dir = std::env::var(DIR).map(std::path::PathBuf::from);
    match (std::env::var(STEP).as_deref(), dir) {
        (Ok("write"), Ok(dir)) => Runtime::new().expect("a runtime starts").block_on(write(&dir)),
        (Ok("open"), Ok(dir)) => Runtime::new().expect("a runtime starts").block_on(restart(&dir)),
        _ => {
            // Below the build folder: in a folder in memory the log would take memory itself.
            let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build folder is writable");
            step("write", dir.path());
            step("open", dir.path());
            step("open", dir.path());
        }
    }
}
