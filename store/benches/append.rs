//! `Store::append`: encode, group commit and memtable, without the flush to tables.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use driftwatt_store::{Config, Durability, Store, WriteBatch};
use tokio::{runtime::Runtime, task::JoinSet};

mod fleet;

const SERIES: usize = 100;
const TICKS: usize = 10;
/// Batches are made before the clock starts, as many as fit a modest memory.
const BATCHES_READY_MAX: usize = 512;
/// Unflushed data beyond this is flushed between measurements, so that an append is never refused.
const UNFLUSHED_SIZE_BYTES_MAX: usize = 128 << 20;

fn open(runtime: &Runtime, dir: &Path, durability: Durability) -> Arc<Store> {
    let mut config = Config::new(dir);
    config.durability = durability;
    // No flush in the background: it has a bench of its own.
    config.flush_size_bytes = usize::MAX;
    config.memtable_size_bytes_max = usize::MAX;
    config.flush_interval = Duration::from_secs(3600);
    // A closed segment is flushed too.
    config.wal_segment_size_bytes = 1 << 32;
    runtime.block_on(Store::open(config)).expect("an empty directory opens")
}

/// Time for every caller to append its batches one after the other, all callers at once.
async fn append_all(store: &Arc<Store>, batches: Vec<Vec<WriteBatch>>) -> Duration {
    let started = Instant::now();
    let mut callers = JoinSet::new();
    for batches in batches {
        let store = Arc::clone(store);
        callers.spawn(async move {
            for batch in batches {
                store.append(batch).await.expect("a valid batch is appended");
            }
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.expect("no caller panics");
    }
    started.elapsed()
}

fn measure(runtime: &Runtime, store: &Arc<Store>, fleets: &mut [fleet::Fleet], rounds: u64) -> Duration {
    let mut elapsed = Duration::ZERO;
    let mut left = usize::try_from(rounds).unwrap_or(usize::MAX);
    while left > 0 {
        let now = left.min((BATCHES_READY_MAX / fleets.len()).max(1));
        let batches = fleets.iter_mut().map(|fleet| (0..now).map(|_| fleet.batch(TICKS)).collect()).collect();
        elapsed += runtime.block_on(append_all(store, batches));
        if store.unflushed_size_bytes() > UNFLUSHED_SIZE_BYTES_MAX {
            runtime.block_on(store.flush()).expect("the tables can be written");
        }
        left -= now;
    }
    elapsed
}

fn bench(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime starts");
    let mut group = criterion.benchmark_group("append");
    group.sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    for (name, durability) in [("sync", Durability::Sync), ("memory", Durability::Memory)] {
        for callers in [1, 16] {
            // Below the build folder: a temporary folder in memory would make every sync free.
            let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the build folder is writable");
            let store = open(&runtime, dir.path(), durability);
            let mut fleets: Vec<_> = (0..callers).map(|number| fleet::Fleet::new(number, SERIES)).collect();
            group.throughput(Throughput::Elements((callers * SERIES * TICKS) as u64));
            group.bench_function(BenchmarkId::new(name, format!("{callers} callers")), |bencher| {
                bencher.iter_custom(|rounds| measure(&runtime, &store, &mut fleets, rounds));
            });
            runtime.block_on(store.close()).expect("the store closes");
        }
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    bench(&mut criterion);
    criterion.final_summary();
}
