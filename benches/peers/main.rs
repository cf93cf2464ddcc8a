//! The same OTLP/HTTP load to Driftwatt, VictoriaMetrics and Prometheus, one after the other: CPU time, bytes on disk, memory,
//! and what a SIGKILL right after the last acknowledgement costs.
//!
//! Every point is unique and every one is looked for by a query before its figures count. Where there is no Go, or it cannot
//! get the peers' modules, the bench says so and ends.
#![expect(clippy::print_stdout, reason = "a bench reports to its terminal")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};

#[path = "../otlp/client.rs"]
mod client;
mod go;
#[path = "../otlp/load.rs"]
mod load;
#[path = "../otlp/process.rs"]
mod process;
mod product;
mod report;
mod server;
mod storage;

use load::{CLIENTS, Kinds, TICK_NS};
use product::Product;
use report::{Outcome, Report};
use server::Server;
use storage::Span;

const POINTS: u64 = 4_000_000;
const RUN_TIME_MAX: Duration = Duration::from_secs(900);
const LOG_TAIL_BYTES: usize = 4096;

/// Points to send: `PEERS_POINTS` or the default; none without `--bench`, as from `cargo test --all-targets`.
fn points_wanted(arguments: &[String]) -> anyhow::Result<Option<u64>> {
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    if filter.is_some_and(|filter| !"peers".contains(filter.as_str())) {
        return Ok(None);
    }
    match std::env::var("PEERS_POINTS") {
        Ok(text) => Ok(Some(text.parse().with_context(|| format!("PEERS_POINTS={text} is not a number"))?)),
        Err(_) => Ok((has("--bench") && !has("--test")).then_some(POINTS)),
    }
}

/// The products with their programs; `PEERS_DRIFTWATT` names another build of this one.
async fn programs() -> anyhow::Result<Vec<(Product, PathBuf)>> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers");
    fs::create_dir_all(&dir)?;
    let mut programs = Vec::new();
    for product in Product::ALL {
        let program = match product {
            Product::Driftwatt => {
                let other = std::env::var_os("PEERS_DRIFTWATT");
                other.map_or_else(|| env!("CARGO_BIN_EXE_driftwatt").into(), PathBuf::from)
            }
            _ => go::program(product, &dir).await.with_context(|| format!("{} is not to be had", product.name()))?,
        };
        programs.push((product, program));
    }
    Ok(programs)
}

/// Such that the last of `ticks` points of a series is a minute old: Prometheus takes no points that are much older than others,
/// VictoriaMetrics leaves the last half minute out of answers.
fn start_ns(ticks: u64) -> anyhow::Result<u64> {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let start_ns = now_s.saturating_sub(60).checked_mul(1_000_000_000).context("the clock is wrong")?;
    start_ns.checked_sub(ticks * TICK_NS).context("more points than there is time")
}

async fn run(product: Product, program: &Path, kinds: Kinds, dir: &Path, points: u64) -> anyhow::Result<Outcome> {
    let points_per_tick = kinds.points_per_request() * CLIENTS;
    let ticks = points.div_ceil(points_per_tick).max(1);
    let ticks_before_kill = ticks.div_ceil(4);
    let start_ns = start_ns(ticks + ticks_before_kill)?;
    let mut loads = load::loads(kinds, start_ns);
    let server = Server::start(product, program, dir).await?;
    let idle = server.cpu_seconds();
    let started = Instant::now();
    let acknowledged = client::send_all(&server.otlp_url(), &mut loads, ticks, None).await?;
    let elapsed = started.elapsed();
    let sent = server.cpu_seconds();
    let size = storage::merge(&server).await?;
    let merged = server.cpu_seconds();
    let peak_rss_bytes = server.peak_rss_bytes();
    let points = ticks * points_per_tick;
    let found = storage::count(&server, Span { start_ns, ticks }).await?;
    ensure!(found == points, "{points} points were acknowledged and queries find {found}");

    client::send_all(&server.otlp_url(), &mut loads, ticks_before_kill, None).await?;
    server.kill().await?;
    let server = Server::start(product, program, dir).await?;
    let points_before_kill = ticks_before_kill * points_per_tick;
    let left = storage::count(&server, Span { start_ns, ticks: ticks + ticks_before_kill }).await?;
    let points_lost = (points + points_before_kill).checked_sub(left);
    Ok(Outcome {
        product,
        points,
        elapsed,
        acknowledged,
        cpu_seconds: process::difference(idle, sent),
        cpu_seconds_merged: process::difference(idle, merged),
        peak_rss_bytes,
        size,
        points_before_kill,
        points_lost: points_lost.with_context(|| format!("{left} points are more than were sent"))?,
    })
}

/// The end of a log.
fn log_tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&text[text.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned()
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let Some(points) = points_wanted(&arguments)? else { return Ok(()) };
    // One thread, so that the clients take no more than one core from the server.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let programs = match runtime.block_on(programs()) {
        Ok(programs) => programs,
        Err(error) => {
            println!("peers: nothing is compared: {error:#}");
            return Ok(());
        }
    };
    if cfg!(debug_assertions) && std::env::var_os("PEERS_DRIFTWATT").is_none() {
        println!("peers: Driftwatt is an UNOPTIMISED build: its figures are not to be quoted");
    }
    for kinds in [Kinds::Numbers, Kinds::Mix] {
        let mut outcomes = Vec::new();
        for (product, program) in &programs {
            // Below the build folder: a temporary folder in memory would make every sync free.
            let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
            let outcome = runtime.block_on(async {
                let run = run(*product, program, kinds, dir.path(), points);
                tokio::time::timeout(RUN_TIME_MAX, run)
                    .await
                    .with_context(|| format!("not done after {RUN_TIME_MAX:?}"))?
            });
            let log = dir.path().join("server.log");
            let context = || format!("{}, {}; its log:\n{}", product.name(), kinds.name(), log_tail(&log));
            outcomes.push(outcome.with_context(context)?);
        }
        println!("{}", Report { kinds, outcomes });
    }
    Ok(())
}
