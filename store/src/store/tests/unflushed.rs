//! Scans of rows that no file holds yet.

use datafusion::{
    execution::{
        memory_pool::{GreedyMemoryPool, MemoryPool},
        runtime_env::RuntimeEnvBuilder,
    },
    physical_plan::{collect, execute_stream},
    prelude::SessionConfig,
};
use futures::TryStreamExt;

use super::*;

async fn plan(ctx: &SessionContext, sql: &str) -> Arc<dyn ExecutionPlan> {
    ctx.sql(sql).await.unwrap().create_physical_plan().await.unwrap()
}

fn session(store: &Arc<Store>, pool: &Arc<dyn MemoryPool>) -> SessionContext {
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::clone(pool)).build_arc().unwrap();
    let ctx = SessionContext::new_with_config_rt(SessionConfig::new().with_target_partitions(1), runtime);
    for table in store.tables() {
        ctx.register_table(table.name.as_str(), store.table(&table.name).unwrap()).unwrap();
    }
    ctx
}

fn pool(size_bytes: usize) -> Arc<dyn MemoryPool> {
    Arc::new(GreedyMemoryPool::new(size_bytes))
}

/// The scan below everything else.
fn leaf(plan: &Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    plan.children().first().map_or_else(|| Arc::clone(plan), |child| leaf(child))
}

fn row_count(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_shows_the_rows_of_its_moment_whatever_is_appended_flushed_and_merged_before_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let ctx = session(&store, &pool(usize::MAX));
    store.append(batch("a", "flushed", START, 300)).await.unwrap();
    store.flush().await.unwrap();
    store.append(batch("a", "h1", START, 300)).await.unwrap();
    // Repeats what a file holds, so that files and memory are merged.
    store.append(batch("a", "flushed", START, 10)).await.unwrap();
    let sql = "SELECT series_id, time, value FROM samples ORDER BY series_id, time";
    let early = plan(&ctx, sql).await;
    let expected = query(&store, sql).await;
    assert_eq!(row_count(&expected), 600);
    // One continues, one is replaced, one is late, one is new.
    let mut more = batch("a", "h1", START + 100_000_000, 300);
    more.samples.bits.fill(7f64.to_bits());
    store.append(more).await.unwrap();
    store.append(batch("a", "h1", START - DAY_US, 5)).await.unwrap();
    store.append(batch("b", "h2", START, 5)).await.unwrap();
    let later = plan(&ctx, "SELECT count(*) FROM samples").await;
    store.flush().await.unwrap();
    store.compact(Compaction::Full).await.unwrap();
    let rows = collect(early, ctx.task_ctx()).await.unwrap();
    let text = |rows: &[RecordBatch]| datafusion::arrow::util::pretty::pretty_format_batches(rows).unwrap().to_string();
    assert_eq!(text(&rows), text(&expected));
    let rows = collect(later, ctx.task_ctx()).await.unwrap();
    assert_eq!(rows[0].column(0).as_primitive::<Int64Type>().value(0), 300 + 400 + 5 + 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn unflushed_series_are_pruned_by_metric_id_and_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for metric in ["a", "b"] {
        for host in ["h1", "h2"] {
            store.append(batch(metric, host, START, 10)).await.unwrap();
        }
        store.append(batch(metric, "yesterday", START - DAY_US, 10)).await.unwrap();
    }
    let ctx = session(&store, &pool(usize::MAX));
    let id = series("b", "h2").id.to_column();
    for (filter, expected) in [
        ("metric = 'a'".to_owned(), 30),
        ("metric = 'c'".to_owned(), 0),
        ("metric LIKE 'b%' AND date = DATE '2026-11-18'".to_owned(), 20),
        ("time < TIMESTAMP '2026-11-18T00:00:00Z'".to_owned(), 20),
        (format!("series_id = {id}"), 10),
        (format!("metric = 'a' AND series_id = {id}"), 0),
        (format!("metric = 'a' OR series_id = {id}"), 40),
        ("value >= 0".to_owned(), 60),
    ] {
        let plan = leaf(&plan(&ctx, &format!("SELECT metric, value FROM samples WHERE {filter}")).await);
        let rows = collect(Arc::clone(&plan), ctx.task_ctx()).await.unwrap();
        assert_eq!(row_count(&rows), expected, "{filter}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_holds_one_batch_at_a_time_and_charges_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    for host in 0..20 {
        store.append(batch("a", &format!("h{host}"), START, 5000)).await.unwrap();
    }
    let pool = pool(1 << 20);
    let ctx = session(&store, &pool);
    let scan = leaf(&plan(&ctx, "SELECT * FROM samples").await);
    let mut stream = execute_stream(scan, ctx.task_ctx()).unwrap();
    let mut count = 0;
    assert_eq!(pool.reserved(), 0);
    while let Some(batch) = stream.try_next().await.unwrap() {
        assert!(batch.num_rows() <= 8192);
        assert_eq!(pool.reserved(), batch.get_array_memory_size());
        count += batch.num_rows();
    }
    drop(stream);
    assert_eq!((count, pool.reserved()), (100_000, 0));
    let one = plan(&ctx, "SELECT * FROM samples LIMIT 7").await;
    assert_eq!(row_count(&collect(one, ctx.task_ctx()).await.unwrap()), 7);
    let columns = leaf(&plan(&ctx, "SELECT time FROM samples").await);
    assert_eq!(columns.schema().fields().len(), 1);
}
