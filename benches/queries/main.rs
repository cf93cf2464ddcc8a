//! Questions to a store of 50 million samples and to one of a million series, in the process, warm: one series for an
//! hour, the values of a label, and a weekly mean by host, that one beside DuckDB on the same Parquet files.
//!
//! Every answer is checked: a fast wrong answer ends the bench.
#![expect(clippy::print_stdout, reason = "a bench reports to its terminal")]

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use datafusion::{
    arrow::{
        array::{AsArray, RecordBatch},
        datatypes::{Float64Type, Int64Type},
    },
    prelude::SessionContext,
};
use driftwatt_store::{Compaction, Config, Durability, Store};

mod duckdb;
mod fleet;

use fleet::{DAYS, Fleet, METRIC, START_US, TICKS_PER_DAY};

/// With 4 series each and a week of samples: 50 million.
const HOSTS: usize = 310;
const LABELLED_SERIES: usize = 1_000_000;
const SERIES_PER_BATCH: usize = 20_000;
const ROUNDS: usize = 200;
const ROUNDS_OF_A_SCAN: usize = 7;

/// How large the stores are; `--test` (or no `--bench`, as from `cargo test`) makes small ones.
#[derive(Debug, Clone, Copy)]
struct Size {
    hosts: usize,
    labelled_series: usize,
}

impl Size {
    fn wanted(arguments: &[String]) -> Self {
        let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
        if has("--test") || !has("--bench") {
            return Self { hosts: 2, labelled_series: 2000 };
        }
        Self { hosts: HOSTS, labelled_series: LABELLED_SERIES }
    }
}

/// Middle and slowest but one of a hundred.
struct Times(Vec<Duration>);

impl Times {
    fn ms(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let index = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len()) - 1;
        sorted[index].as_secs_f64() * 1e3
    }
}

async fn open(dir: &Path) -> anyhow::Result<Arc<Store>> {
    let mut config = Config::new(dir);
    // What is measured reads only.
    config.durability = Durability::Memory;
    config.memtable_size_bytes_max = 1 << 31;
    Ok(Store::open(config).await?)
}

async fn rows(ctx: &SessionContext, sql: &str) -> anyhow::Result<Vec<RecordBatch>> {
    ctx.sql(sql).await?.collect().await.with_context(|| sql.to_owned())
}

fn count(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

/// Times of `count` runs after one that warms up; `check` looks at each answer.
async fn times(
    ctx: &SessionContext,
    runs: usize,
    sql: impl Fn(usize) -> String,
    check: impl Fn(&[RecordBatch]) -> anyhow::Result<()>,
) -> anyhow::Result<Times> {
    let mut all = Vec::with_capacity(runs);
    for run in 0..=runs {
        let sql = sql(run);
        let started = Instant::now();
        let answer = rows(ctx, &sql).await?;
        all.push(started.elapsed());
        check(&answer).with_context(|| sql)?;
    }
    all.remove(0);
    Ok(Times(all))
}

async fn fill_week(store: &Store, fleet: &mut Fleet) -> anyhow::Result<u64> {
    let mut point_count = 0;
    for _day in 0..DAYS {
        for _part in 0..4 {
            let batch = fleet.batch(TICKS_PER_DAY / 4);
            point_count += batch.samples.len() as u64;
            store.append(batch).await?;
            store.flush().await?;
        }
    }
    store.compact(Compaction::Full).await?;
    Ok(point_count)
}

async fn week(dir: &Path, size: Size) -> anyhow::Result<()> {
    let store = open(dir).await?;
    let mut fleet = Fleet::new(size.hosts);
    let started = Instant::now();
    let point_count = fill_week(&store, &mut fleet).await?;
    let ctx = driftwatt_query::session(&store, &driftwatt_query::Config::default()).await?;
    println!("{point_count} samples stored and merged in {:.1} s", started.elapsed().as_secs_f64());
    let ids = fleet.ids();
    let hour = |run: usize| {
        let from = START_US + (run as i64 * 37 % (24 * DAYS as i64)) * 3_600_000_000;
        let id = ids[run * 97 % ids.len()];
        format!(
            "SELECT time, value FROM raw.samples WHERE metric = '{METRIC}' AND series_id = {id} \
             AND time >= to_timestamp_micros({from}) AND time < to_timestamp_micros({})",
            from + 3_600_000_000
        )
    };
    let selective = times(&ctx, ROUNDS, hour, |answer| {
        ensure!(count(answer) == 240, "{} rows of an hour instead of 240", count(answer));
        Ok(())
    });
    let selective = selective.await?;
    println!("one series, one hour: p50 {:.1} ms, p99 {:.1} ms", selective.ms(0.5), selective.ms(0.99));
    let week = format!(
        "SELECT host_name, avg(value) AS mean, count(value) AS points FROM metrics WHERE metric = '{METRIC}' \
         AND time >= to_timestamp_micros({START_US}) AND time < to_timestamp_micros({}) GROUP BY host_name ORDER BY 1",
        START_US + DAYS as i64 * 86_400_000_000
    );
    let scan = times(
        &ctx,
        ROUNDS_OF_A_SCAN,
        |_| week.clone(),
        |answer| {
            let points = answer.iter().flat_map(|batch| batch.column(2).as_primitive::<Int64Type>().values().to_vec());
            ensure!(points.sum::<i64>() == point_count as i64, "not every sample is in the mean");
            Ok(())
        },
    );
    let scan = scan.await?;
    println!("weekly mean by host: p50 {:.0} ms, fastest {:.0} ms", scan.ms(0.5), scan.ms(0.0));
    let answer = rows(&ctx, &week).await?;
    let ours: Vec<f64> =
        answer.iter().flat_map(|batch| batch.column(1).as_primitive::<Float64Type>().values().to_vec()).collect();
    drop(ctx);
    store.close().await?;
    match duckdb::weekly_mean(dir, ROUNDS_OF_A_SCAN).await? {
        None => {
            println!("DuckDB is not here: python3 (or QUERIES_PYTHON) has no module duckdb; nothing to compare with")
        }
        Some(theirs) => {
            ensure!(theirs.means.len() == ours.len(), "DuckDB sees {} hosts", theirs.means.len());
            let same = ours.iter().zip(&theirs.means).all(|(a, b)| (a - b).abs() < 1e-9);
            ensure!(same, "DuckDB computes other means");
            let ratio = theirs.p50_ms / scan.ms(0.5);
            println!("DuckDB {}, 2 threads, same files: p50 {:.0} ms ({ratio:.2} x)", theirs.version, theirs.p50_ms);
        }
    }
    Ok(())
}

async fn labels(dir: &Path, size: Size) -> anyhow::Result<()> {
    let store = open(dir).await?;
    let started = Instant::now();
    for from in (0..size.labelled_series).step_by(SERIES_PER_BATCH) {
        let to = (from + SERIES_PER_BATCH).min(size.labelled_series);
        store.append(fleet::labelled(from..to)).await?;
    }
    store.flush().await?;
    let ctx = driftwatt_query::session(&store, &driftwatt_query::Config::default()).await?;
    println!("{} series stored in {:.1} s", size.labelled_series, started.elapsed().as_secs_f64());
    for (label, expected) in [("k8s_node", 1000), ("attributes['shard']", 64)] {
        let sql = format!("SELECT DISTINCT {label} FROM raw.series WHERE metric = '{METRIC}'");
        let values = times(
            &ctx,
            ROUNDS / 4,
            |_| sql.clone(),
            |answer| {
                let expected = expected.min(size.labelled_series);
                ensure!(count(answer) == expected, "{} values instead of {expected}", count(answer));
                Ok(())
            },
        );
        let values = values.await?;
        println!("values of {label}: p50 {:.1} ms, p99 {:.1} ms", values.ms(0.5), values.ms(0.99));
    }
    drop(ctx);
    store.close().await?;
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    if filter.is_some_and(|filter| !"queries".contains(filter.as_str())) {
        return Ok(());
    }
    let size = Size::wanted(&arguments);
    // Two threads, as DuckDB gets.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for part in ["week", "labels"] {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        match part {
            "week" => runtime.block_on(week(dir.path(), size))?,
            _ => runtime.block_on(labels(dir.path(), size))?,
        }
    }
    Ok(())
}
