//! `Store::flush`: memtable to sorted Parquet and Delta commits, and what a point takes on disk.
#![expect(clippy::print_stdout, reason = "a bench reports to its terminal")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, SamplingMode, Throughput};
use driftwatt_store::{Config, Durability, Store, TableSummary};
use tokio::runtime::Runtime;

mod fleet;

const SERIES: usize = 1000;
const TICKS: usize = 500;
const TICKS_PER_BATCH: usize = 10;

async fn filled(config: Config) -> Arc<Store> {
    let store = Store::open(config).await.expect("an empty directory opens");
    let mut fleet = fleet::Fleet::new(0, SERIES);
    for _ in 0..TICKS / TICKS_PER_BATCH {
        store.append(fleet.batch(TICKS_PER_BATCH)).await.expect("a valid batch is appended");
    }
    store
}

/// Time of one flush of a fresh store, and its tables afterwards.
async fn flush_once() -> (Duration, Vec<TableSummary>) {
    // Below the build folder: a temporary folder in memory would make every sync free.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build folder is writable");
    let mut config = Config::new(dir.path());
    config.durability = Durability::Memory;
    config.flush_size_bytes = usize::MAX;
    config.memtable_size_bytes_max = usize::MAX;
    config.flush_interval = Duration::from_secs(3600);
    // A closed segment is flushed too.
    config.wal_segment_size_bytes = 1 << 32;
    let store = filled(config).await;
    let started = Instant::now();
    store.flush().await.expect("the tables can be written");
    let elapsed = started.elapsed();
    let tables = store.tables();
    store.close().await.expect("the store closes");
    (elapsed, tables)
}

fn print_sizes(tables: &[TableSummary]) {
    let points = (SERIES * TICKS) as f64;
    for table in tables.iter().filter(|table| table.row_count > 0) {
        println!(
            "flush: table {}: {} rows, {} bytes in {} files, {:.2} bytes per point",
            table.name,
            table.row_count,
            table.size_bytes,
            table.file_count,
            table.size_bytes as f64 / points
        );
    }
}

fn bench(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime starts");
    let mut last_tables = Vec::new();
    let mut group = criterion.benchmark_group("flush");
    group.sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    group.throughput(Throughput::Elements((SERIES * TICKS) as u64));
    group.bench_function("500 000 points in 1 000 series", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut elapsed = Duration::ZERO;
            for _ in 0..rounds {
                let (one, tables) = runtime.block_on(flush_once());
                elapsed += one;
                last_tables = tables;
            }
            elapsed
        });
    });
    group.finish();
    let stored: u64 = last_tables.iter().filter(|table| table.name == "samples").map(|table| table.row_count).sum();
    assert!(last_tables.is_empty() || stored == (SERIES * TICKS) as u64, "{stored} rows stored");
    print_sizes(&last_tables);
}

fn main() {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    bench(&mut criterion);
    criterion.final_summary();
}
