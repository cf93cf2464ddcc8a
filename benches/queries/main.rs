//! Questions to stores of 50 million samples, of a million series and of a day of requests, in the process, warm: one series
//! for an hour, the values of a label, means, quantiles and a join in time, those beside DuckDB on the same Parquet files.
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
        array::{Array as _, AsArray as _, Float64Array, RecordBatch},
        compute::cast,
        datatypes::{DataType, Float64Type},
    },
    physical_plan::displayable,
    prelude::SessionContext,
};
use driftwatt_store::{Config, Durability, Store};

mod duckdb;
mod fleet;
mod requests;
mod week;

use fleet::METRIC;

/// With 4 series each and a week of samples: 50 million.
const HOSTS: usize = 310;
const LABELLED_SERIES: usize = 1_000_000;
/// Instances of services, each with a histogram and two samples at a time.
const INSTANCES: usize = 200;
const SERIES_PER_BATCH: usize = 20_000;
const ROUNDS: usize = 200;
const ROUNDS_OF_A_SCAN: usize = 7;

/// How large the stores are; `--test` (or no `--bench`, as from `cargo test`) makes small ones.
#[derive(Debug, Clone, Copy)]
struct Size {
    hosts: usize,
    labelled_series: usize,
    instances: usize,
}

impl Size {
    fn wanted(arguments: &[String]) -> Self {
        let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
        if has("--test") || !has("--bench") {
            return Self { hosts: 2, labelled_series: 2000, instances: 8 };
        }
        Self { hosts: HOSTS, labelled_series: LABELLED_SERIES, instances: INSTANCES }
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

/// A question that DuckDB is asked too. Its answer's last two columns are numbers.
struct Compared<'a> {
    name: &'a str,
    sql: String,
    /// With the lists of files `{samples}`, `{histograms}` and `{series}`.
    duckdb_sql: String,
    rounds: usize,
}

/// What was asked, and our answer.
struct Asked<'a> {
    question: Compared<'a>,
    times: Times,
    numbers: Vec<[f64; 2]>,
}

async fn asked<'a>(
    ctx: &SessionContext,
    question: Compared<'a>,
    check: impl Fn(&[RecordBatch]) -> anyhow::Result<()>,
) -> anyhow::Result<Asked<'a>> {
    if std::env::var_os("QUERIES_PLANS").is_some() {
        println!("{}:\n{}", question.name, plan(ctx, &question.sql).await?);
    }
    let times = times(ctx, question.rounds, |_| question.sql.clone(), check).await?;
    println!("{}: p50 {:.0} ms, fastest {:.0} ms", question.name, times.ms(0.5), times.ms(0.0));
    let numbers = numbers(&rows(ctx, &question.sql).await?)?;
    Ok(Asked { question, times, numbers })
}

/// The last two columns; what is null is NaN.
fn numbers(batches: &[RecordBatch]) -> anyhow::Result<Vec<[f64; 2]>> {
    let mut numbers = Vec::new();
    for batch in batches {
        let last = |back: usize| -> anyhow::Result<Float64Array> {
            let column = cast(batch.column(batch.num_columns() - back), &DataType::Float64)?;
            Ok(column.as_primitive::<Float64Type>().clone())
        };
        let (first, second) = (last(2)?, last(1)?);
        let number = |column: &Float64Array, row| if column.is_null(row) { f64::NAN } else { column.value(row) };
        numbers.extend((0..batch.num_rows()).map(|row| [number(&first, row), number(&second, row)]));
    }
    Ok(numbers)
}

/// Asks DuckDB the same about the files of the closed store at `dir`, where it is there, and compares.
async fn compare(dir: &Path, asked: &[Asked<'_>]) -> anyhow::Result<()> {
    for Asked { question, times, numbers } in asked {
        let Some(theirs) = duckdb::ask(dir, &question.duckdb_sql, question.rounds).await? else {
            println!("DuckDB is not here: python3 (or QUERIES_PYTHON) has no module duckdb; nothing to compare with");
            return Ok(());
        };
        let name = question.name;
        ensure!(theirs.numbers.len() == numbers.len(), "{name}: DuckDB answers {} rows", theirs.numbers.len());
        let is_same = |ours: f64, theirs: f64| {
            (ours - theirs).abs() <= 1e-9 * ours.abs().max(1.0) || ours.is_nan() && theirs.is_nan()
        };
        for (ours, theirs) in numbers.iter().zip(&theirs.numbers) {
            ensure!((0..2).all(|at| is_same(ours[at], theirs[at])), "{name}: {ours:?}, in DuckDB {theirs:?}");
        }
        let ratio = theirs.p50_ms / times.ms(0.5);
        println!(
            "{name} in DuckDB {}, 2 threads, same files: p50 {:.0} ms ({ratio:.2} x)",
            theirs.version, theirs.p50_ms
        );
    }
    Ok(())
}

async fn rows(ctx: &SessionContext, sql: &str) -> anyhow::Result<Vec<RecordBatch>> {
    ctx.sql(sql).await?.collect().await.with_context(|| sql.to_owned())
}

/// How the query is run: its physical plan.
async fn plan(ctx: &SessionContext, sql: &str) -> anyhow::Result<String> {
    let plan = ctx.sql(sql).await?.create_physical_plan().await?;
    Ok(displayable(plan.as_ref()).indent(false).to_string())
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
    let dir = || tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"));
    runtime.block_on(week::ask(dir()?.path(), size.hosts))?;
    runtime.block_on(labels(dir()?.path(), size))?;
    runtime.block_on(requests::ask(dir()?.path(), size.instances))
}
