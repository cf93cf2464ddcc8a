//! Points that arrive again, and compaction: one row per identity, the last write wins, at any moment.

use datafusion::{
    arrow::{array::Array, datatypes::TimestampMicrosecondType},
    physical_plan::displayable,
    prelude::{SessionConfig, SessionContext},
};
use deltalake::{ensure_table_uri, open_table};

use super::*;
use crate::parquet_file::read_parquet;

/// As [`batch`], with `value` added to the index.
fn batch_of(metric: &str, start: i64, count: i64, value: f64) -> WriteBatch {
    let mut points = batch(metric, "h1", start, 0);
    for n in 0..count {
        points.samples.push(0, 0, start + n * 1_000_000, (n as f64 + value).to_bits(), SampleColumns::DOUBLE);
    }
    points
}

async fn plan_of(store: &Arc<Store>, sql: &str) -> String {
    let ctx = SessionContext::new();
    ctx.register_table("samples", store.table("samples").unwrap()).unwrap();
    let plan = ctx.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
    displayable(plan.as_ref()).indent(true).to_string()
}

/// One number, with filters pushed into the decoder or not.
async fn number(store: &Arc<Store>, sql: &str) -> i64 {
    let mut found = Vec::new();
    for pushdown in [false, true] {
        let config = SessionConfig::new().set_bool("datafusion.execution.parquet.pushdown_filters", pushdown);
        let ctx = SessionContext::new_with_config(config);
        for table in store.tables() {
            ctx.register_table(table.name.as_str(), store.table(&table.name).unwrap()).unwrap();
        }
        let batches = ctx.sql(sql).await.unwrap().collect().await.unwrap();
        found.push(batches[0].column(0).as_primitive::<Int64Type>().value(0));
    }
    assert_eq!(found[0], found[1], "{sql}");
    found[0]
}

fn files(store: &Arc<Store>, table: &str) -> Vec<Arc<crate::live_file::LiveFile>> {
    store.inner.state().snapshot(table).unwrap().files.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_sent_again_after_its_flush_is_one_row_at_once_and_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).await;
    store.append(batch_of("a", START, 10, 0.0)).await.unwrap();
    store.append(batch_of("b", START, 10, 0.0)).await.unwrap();
    store.flush().await.unwrap();
    store.append(batch_of("a", START + 5_000_000, 10, 100.0)).await.unwrap();
    for stage in ["memtable", "file", "reopened", "compacted", "reopened after compaction"] {
        match stage {
            "memtable" => {}
            "file" => assert_eq!(store.flush().await.unwrap().row_count, 10 + 2),
            "compacted" => {
                let summary = store.compact(Compaction::Full).await.unwrap();
                assert_eq!((summary.files_before, summary.files_after), (2, 1));
                assert_eq!((summary.row_count, summary.duplicate_count), (25, 5));
                assert_eq!(store.compact(Compaction::Full).await.unwrap(), CompactionSummary::default());
            }
            _ => {
                store.close().await.unwrap();
                drop(store);
                store = open(dir.path()).await;
            }
        }
        let expected = 45.0 + (0..5).sum::<i64>() as f64 + (0..10).map(|n| n as f64 + 100.0).sum::<f64>();
        assert_eq!(count_and_sum(&store).await, (25, expected), "{stage}");
        for (filter, count) in [
            // The old values of the repeated points must not come back because the new ones are filtered out.
            ("metric = 'a' AND value < 50", 5),
            ("value >= 100", 10),
            ("metric = 'a'", 15),
            ("metric = 'b'", 10),
            ("time >= TIMESTAMP '2026-11-18T11:06:45Z'", 15),
            ("start_time IS NULL", 25),
            ("date = DATE '2026-11-18' AND value > 8", 11),
        ] {
            let sql = format!("SELECT count(*) FROM samples WHERE {filter}");
            assert_eq!(number(&store, &sql).await, count, "{stage}: {filter}");
        }
        assert_eq!(number(&store, "SELECT count(*) FROM (SELECT 1 FROM samples LIMIT 24)").await, 24);
        let last = query(&store, "SELECT value FROM samples WHERE metric = 'a' ORDER BY time DESC LIMIT 3").await;
        assert_eq!(last[0].column(0).as_primitive::<Float64Type>().values(), &[109.0, 108.0, 107.0], "{stage}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_without_possible_repeats_has_no_merge() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).await;
    for round in 0..3 {
        for metric in ["a", "b"] {
            store.append(batch_of(metric, START + round * 10_000_000, 10, 0.0)).await.unwrap();
        }
        store.flush().await.unwrap();
    }
    store.append(batch_of("a", START + 30_000_000, 10, 0.0)).await.unwrap();
    let plan = plan_of(&store, "SELECT * FROM samples").await;
    assert!(!plan.contains("MergeExec") && plan.matches(".parquet").count() == 3, "{plan}");
    assert!(files(&store, "samples").iter().all(|file| !file.repeats));
    // A restart knows what is stored.
    store.flush().await.unwrap();
    store.close().await.unwrap();
    drop(store);
    store = open(dir.path()).await;
    store.append(batch_of("a", START + 40_000_000, 10, 0.0)).await.unwrap();
    store.append(batch_of("new", START, 10, 0.0)).await.unwrap();
    let plan = plan_of(&store, "SELECT * FROM samples").await;
    assert!(!plan.contains("MergeExec"), "{plan}");
    store.flush().await.unwrap();
    assert!(files(&store, "samples").iter().all(|file| !file.repeats));
    // Only what the repeat reaches is merged.
    store.append(batch_of("a", START + 12_000_000, 2, 7.0)).await.unwrap();
    let plan = plan_of(&store, "SELECT * FROM samples").await;
    assert!(plan.contains("MergeExec: inputs=3"), "the second flush, the one with the late series, memory: {plan}");
    store.flush().await.unwrap();
    assert_eq!(files(&store, "samples").iter().filter(|file| file.repeats).count(), 1);
    let plan = plan_of(&store, "SELECT * FROM samples WHERE time >= TIMESTAMP '2026-11-18T11:07:05Z'").await;
    assert!(!plan.contains("MergeExec"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_and_active_memtables_do_not_repeat_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for value in [0.0, 100.0, 200.0] {
        store.append(batch_of("a", START, 10, value)).await.unwrap();
        store.inner.wal.rotate().await.unwrap();
    }
    store.append(batch_of("a", START, 5, 300.0)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(count_and_sum(&store).await, (10, 45.0 + 5.0 * 300.0 + 5.0 * 200.0));
        store.flush().await.unwrap();
    }
    assert!(files(&store, "samples").len() > 1);
}

fn histogram(time: i64, count: u64) -> HistogramPoint {
    let shape = HistogramShape::Explicit { counts: vec![count, 0] };
    HistogramPoint {
        series: 0,
        start_time: time - 10,
        time,
        recorded: true,
        count,
        sum: None,
        min: None,
        max: None,
        shape,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn histograms_sent_again_are_one_row_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for count in [1, 2] {
        let mut points = batch("h", "h1", START, 0);
        points.histograms = (0..10).map(|n| histogram(START + n, count)).collect();
        store.append(points).await.unwrap();
        if count == 1 {
            store.flush().await.unwrap();
        }
    }
    for stage in 0..3 {
        assert_eq!(number(&store, "SELECT count(*) FROM histograms").await, 10);
        assert_eq!(number(&store, "SELECT sum(count) FROM histograms").await, 20);
        assert_eq!(number(&store, "SELECT sum(bucket_counts[1]) FROM histograms").await, 20);
        assert_eq!(number(&store, "SELECT count(*) FROM histograms WHERE count = 1").await, 0);
        match stage {
            0 => drop(store.flush().await.unwrap()),
            _ => drop(store.compact(Compaction::Full).await.unwrap()),
        }
    }
    assert_eq!(files(&store, "histograms").len(), 1);
}

/// `(metric, time, start_time)` to the bits of the value.
type Model = BTreeMap<(String, i64, i64), u64>;

async fn stored(store: &Arc<Store>) -> Model {
    let batches = query(store, "SELECT metric, time, start_time, value FROM samples").await;
    let mut found = Model::new();
    for batch in batches {
        let times = batch.column(1).as_primitive::<TimestampMicrosecondType>();
        let starts = batch.column(2).as_primitive::<TimestampMicrosecondType>();
        let values = batch.column(3).as_primitive::<Float64Type>();
        for row in 0..batch.num_rows() {
            let start = if starts.is_null(row) { 0 } else { starts.value(row) };
            let key = (batch.column(0).as_string::<i32>().value(row).to_owned(), times.value(row), start);
            assert!(found.insert(key.clone(), values.value(row).to_bits()).is_none(), "twice: {key:?}");
        }
    }
    found
}

/// Opens a store that was dropped without closing it: its background task may hold on to it for one more step.
async fn reopen(dir: &Path) -> Arc<Store> {
    for _ in 0..500 {
        match Store::open(Config::new(dir)).await {
            Err(Error::Locked { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
            opened => return opened.unwrap(),
        }
    }
    panic!("still locked after ten seconds")
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Points of a few series, mostly onwards in time, some of them again or late.
fn random_batch(random: &mut Random, clock: &mut i64, model: &mut Model) -> WriteBatch {
    let mut points =
        WriteBatch { series: (0..4).map(|n| series(&format!("m{n}"), "h")).collect(), ..WriteBatch::default() };
    for _ in 0..random.below(60) {
        *clock += random.below(120) as i64 * 60_000_000;
        let index = random.below(4) as u32;
        let back = if random.below(3) == 0 { random.below(2000) as i64 * 60_000_000 } else { 0 };
        let (time, start) = (*clock - back, if random.below(4) == 0 { *clock - 2 * DAY_US } else { 0 });
        let bits = (random.below(1 << 30) as f64).to_bits();
        points.samples.push(index, start, time, bits, SampleColumns::DOUBLE);
        model.insert((format!("m{index}"), time, start), bits);
    }
    // Some known points with new values.
    let known: Vec<_> = model.keys().cloned().collect();
    for _ in 0..random.below(10).min(known.len() as u64) {
        let (metric, time, start) = known[random.below(known.len() as u64) as usize].clone();
        let (index, bits) = (metric[1..].parse().unwrap(), (random.below(1 << 30) as f64).to_bits());
        points.samples.push(index, start, time, bits, SampleColumns::DOUBLE);
        model.insert((metric, time, start), bits);
    }
    points
}

#[tokio::test(flavor = "multi_thread")]
async fn any_order_of_writes_flushes_merges_and_restarts_shows_the_last_writes() {
    for seed in 1..=4 {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path()).await;
        let (mut random, mut clock, mut model) = (Random(seed), START, Model::new());
        for step in 0..40 {
            match random.below(10) {
                0..5 => {
                    store.append(random_batch(&mut random, &mut clock, &mut model)).await.unwrap();
                }
                5 | 6 => {
                    store.flush().await.unwrap();
                }
                7 => {
                    store.compact(Compaction::Full).await.unwrap();
                }
                8 => {
                    store.inner.wal.rotate().await.unwrap();
                }
                // With and without a flush before.
                _ => {
                    if random.below(2) == 0 {
                        store.close().await.unwrap();
                    }
                    drop(store);
                    store = reopen(dir.path()).await;
                }
            }
            assert!(stored(&store).await == model, "seed {seed}, step {step}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_reader_sees_the_same_rows_after_a_full_merge() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for round in 0..5 {
        store.append(batch_of("a", START + round * 5_000_000, 10, round as f64)).await.unwrap();
        store.append(batch_of("a", START + DAY_US + round * 5_000_000, 10, 0.0)).await.unwrap();
        store.flush().await.unwrap();
    }
    let (count, sum) = count_and_sum(&store).await;
    let summary = store.compact(Compaction::Full).await.unwrap();
    assert_eq!((summary.files_before, summary.files_after, summary.row_count), (10, 2, count as u64));
    let table = dir.path().canonicalize().unwrap().join("tables/samples");
    let delta = open_table(ensure_table_uri(table.to_string_lossy()).unwrap()).await.unwrap();
    let paths: Vec<_> = delta.snapshot().unwrap().log_data().iter().map(|file| file.path().into_owned()).collect();
    let batches: Vec<_> = paths.iter().flat_map(|path| read_parquet(&table.join(path)).unwrap()).collect();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>() as i64, count);
    // Through the table: how a value is laid out in the file is the schema's business.
    assert_eq!(count_and_sum(&store).await, (count, sum));
    assert_eq!(paths.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn ingest_flushes_and_queries_go_on_during_merges() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for round in 0..6 {
        store.append(batch_of("a", START + round * 1_000_000_000, 1000, 0.0)).await.unwrap();
        store.flush().await.unwrap();
    }
    let merging = Arc::clone(&store);
    let merges = tokio::spawn(async move {
        for _ in 0..10 {
            merging.compact(Compaction::Full).await.unwrap();
        }
    });
    for round in 6..20 {
        store.append(batch_of("a", START + round * 1_000_000_000, 1000, 0.0)).await.unwrap();
        assert_eq!(count_and_sum(&store).await.0, (round + 1) * 1000);
        store.flush().await.unwrap();
        assert_eq!(count_and_sum(&store).await.0, (round + 1) * 1000);
    }
    merges.await.unwrap();
    store.compact(Compaction::Full).await.unwrap();
    assert_eq!(files(&store, "samples").len(), 1);
    assert_eq!(count_and_sum(&store).await, (20_000, 20.0 * 499_500.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_killed_before_its_commit_leaves_nothing_after_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for round in 0..2 {
        store.append(batch_of("a", START + round * 60_000_000, 10, 0.0)).await.unwrap();
        store.flush().await.unwrap();
    }
    let live: Vec<_> = files(&store, "samples").iter().map(|file| file.path.clone()).collect();
    store.close().await.unwrap();
    drop(store);
    let table = dir.path().join("tables/samples");
    let name = crate::file_name::FileName { level: 2, sequence: 2, repeats: false };
    let output = table.join(live[0].split('/').next().unwrap()).join(name.to_text());
    fs::copy(table.join(&live[0]), &output).unwrap();
    let store = open(dir.path()).await;
    assert!(!output.exists());
    assert!(live.iter().all(|path| table.join(path).exists()));
    assert_eq!(count_and_sum(&store).await.0, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_scan_keeps_the_files_it_reads() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for round in 0..2 {
        store.append(batch_of("a", START + round * 60_000_000, 10, 0.0)).await.unwrap();
        store.flush().await.unwrap();
    }
    let ctx = SessionContext::new();
    ctx.register_table("samples", store.table("samples").unwrap()).unwrap();
    let plan = ctx.sql("SELECT * FROM samples").await.unwrap().create_physical_plan().await.unwrap();
    let replaced: Vec<_> = files(&store, "samples").iter().map(Arc::downgrade).collect();
    store.compact(Compaction::Full).await.unwrap();
    assert!(replaced.iter().all(|file| file.strong_count() > 0), "the plan holds its files");
    let stream = datafusion::physical_plan::execute_stream(plan, ctx.task_ctx()).unwrap();
    assert!(replaced.iter().any(|file| file.strong_count() > 0), "the stream does too");
    let rows = datafusion::physical_plan::common::collect(stream).await.unwrap();
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 20);
    drop((rows, ctx));
    assert!(replaced.iter().all(|file| file.strong_count() == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_store_refuses_to_merge() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for round in 0..2 {
        store.append(batch_of("a", START + round * 60_000_000, 10, 0.0)).await.unwrap();
        store.flush().await.unwrap();
    }
    store.close().await.unwrap();
    assert!(matches!(store.compact(Compaction::Full).await, Err(Error::Closing)));
}
