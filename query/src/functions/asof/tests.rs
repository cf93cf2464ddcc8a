//! Every answer of the join against one that looks at every pair, in memory and sorted.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::Int64Type,
};
use datafusion::{
    datasource::MemTable,
    execution::{runtime_env::RuntimeEnvBuilder, session_state::SessionStateBuilder},
    physical_plan::{ExecutionPlan, collect},
    prelude::{SessionConfig, SessionContext},
};

use crate::{query_memory::QueryMemory, series_runs::RunsQueryPlanner};

#[derive(Debug, Clone, Copy)]
struct Row {
    key: Option<i64>,
    time: Option<i64>,
    id: i64,
}

/// Pseudo-random, below `end` (xorshift64).
fn random(state: &mut u64, end: u64) -> i64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    ((*state >> 20) % end) as i64
}

/// Runs of one key in the order of time, and rows of any key and time; some are null.
fn rows(state: &mut u64, count: i64) -> Vec<Row> {
    let (mut key, mut time) = (None, 0);
    let rows = (0..count).map(|id| {
        if random(state, 8) == 0 {
            key = Some(random(state, 6)).filter(|key| *key > 0);
            time = random(state, 50);
        }
        time += random(state, 4);
        Row { key, time: (random(state, 15) > 0).then_some(time), id }
    });
    rows.collect()
}

fn batch(rows: &[Row]) -> RecordBatch {
    let keys: StringArray = rows.iter().map(|row| row.key.map(|key| format!("key-{key}"))).collect();
    let times: TimestampMicrosecondArray = rows.iter().map(|row| row.time).collect();
    let ids = Int64Array::from_iter_values(rows.iter().map(|row| row.id));
    let columns: [(&str, ArrayRef); 3] = [("key", Arc::new(keys)), ("time", Arc::new(times)), ("id", Arc::new(ids))];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

/// The tables `l` and `r`, in batches of some rows, in one partition for each core that `partitions` says.
fn context(tables: [&[Row]; 2], partitions: usize, memory_bytes: usize) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(partitions).with_batch_size(64);
    let config = config.with_sort_spill_reservation_bytes(16 << 10);
    let runtime =
        RuntimeEnvBuilder::new().with_memory_pool(Arc::new(QueryMemory::of_all(memory_bytes))).build_arc().unwrap();
    let state = SessionStateBuilder::new_with_default_features().with_config(config).with_runtime_env(runtime);
    let ctx = SessionContext::new_with_state(state.with_query_planner(Arc::new(RunsQueryPlanner)).build());
    crate::functions::register(&ctx).unwrap();
    for (name, rows) in ["l", "r"].into_iter().zip(tables) {
        let batches: Vec<_> = rows.chunks(37).map(batch).collect();
        let schema = batch(&[]).schema();
        let mut parts = vec![vec![]; partitions];
        batches.into_iter().enumerate().for_each(|(index, batch)| parts[index % partitions].push(batch));
        ctx.register_table(name, Arc::new(MemTable::try_new(schema, parts).unwrap())).unwrap();
    }
    ctx
}

/// What `id` of the right each `id` of the left gets, and the plan that told.
async fn joined(ctx: &SessionContext, operator: &str, on: &str) -> (Vec<(i64, Option<i64>)>, Arc<dyn ExecutionPlan>) {
    let sql =
        format!("SELECT l.id, r.id FROM (l ASOF JOIN r MATCH_CONDITION (l.time {operator} r.time) {on}) ORDER BY l.id");
    let plan = ctx.sql(&sql).await.unwrap().create_physical_plan().await.unwrap();
    let batches = collect(Arc::clone(&plan), ctx.task_ctx()).await.unwrap();
    let rows = batches.iter().flat_map(|batch| {
        let [left, right] = [0, 1].map(|column| batch.column(column).as_primitive::<Int64Type>());
        (0..batch.num_rows()).map(|row| (left.value(row), right.is_valid(row).then(|| right.value(row))))
    });
    (rows.collect(), plan)
}

/// The time of the nearest row.
fn nearest(left: Row, right: &[Row], operator: &str, by_key: bool) -> Option<i64> {
    let (time, key) = (left.time?, left.key);
    let same = right.iter().filter(|row| !by_key || (key.is_some() && row.key == key));
    let times = same.filter_map(|row| row.time);
    match operator {
        ">=" => times.filter(|other| time >= *other).max(),
        ">" => times.filter(|other| time > *other).max(),
        "<=" => times.filter(|other| time <= *other).min(),
        _ => times.filter(|other| time < *other).min(),
    }
}

/// How many rows were written to disk because the right did not fit.
fn spilled_rows(plan: &Arc<dyn ExecutionPlan>) -> usize {
    let own =
        if plan.name() == "AsofJoinExec" { plan.metrics().and_then(|metrics| metrics.spilled_rows()) } else { None };
    own.unwrap_or(0) + plan.children().into_iter().map(spilled_rows).sum::<usize>()
}

async fn check(left: &[Row], right: &[Row], partitions: usize, memory_bytes: usize, is_sorted: bool) {
    let ctx = context([left, right], partitions, memory_bytes);
    // Sorting the same again for each takes long in a build without optimisation.
    let operators: &[&str] = if is_sorted { &[">=", "<"] } else { &[">=", ">", "<=", "<"] };
    for operator in operators {
        for (on, by_key) in [("ON l.key = r.key", true), ("", false)] {
            let (answers, plan) = joined(&ctx, operator, on).await;
            assert_eq!(answers.len(), left.len());
            for (row, (id, found)) in left.iter().zip(answers) {
                assert_eq!(id, row.id);
                let found = found.map(|id| right[id as usize]);
                assert!(found.is_none_or(|found| !by_key || found.key == row.key), "{row:?} {found:?}");
                let expected = nearest(*row, right, operator, by_key);
                assert_eq!(found.and_then(|found| found.time), expected, "{operator} {on} {row:?}");
            }
            assert_eq!(spilled_rows(&plan) > 0, is_sorted, "{operator} {on}");
        }
    }
}

#[tokio::test]
async fn each_row_gets_the_nearest() {
    let mut state = 0x9e37_79b9_7f4a_7c15;
    for count in [0, 1, 40, 300] {
        let (left, right) = (rows(&mut state, 200), rows(&mut state, count));
        for partitions in [1, 3] {
            check(&left, &right, partitions, 64 << 20, false).await;
        }
    }
}

#[tokio::test]
async fn a_right_side_too_large_for_memory_is_sorted() {
    let mut state = 0x2545_f491_4f6c_dd1d;
    let (left, right) = (rows(&mut state, 20), rows(&mut state, 15_000));
    for partitions in [1, 2] {
        check(&left, &right, partitions, 1 << 20, true).await;
    }
}
