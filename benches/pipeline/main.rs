//! The whole write path from outside: the server as a process of its own, OTLP/HTTP clients on loopback, fsync on
//! acknowledgement. Reports points per second, the server's CPU time, acknowledgement latency and bytes on disk.
//!
//! Every point is unique and every one is looked for in the tables at the end, so a figure never comes from lost data.
#![expect(clippy::print_stdout, reason = "a bench reports to its terminal")]

use std::{
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};

#[path = "../otlp/client.rs"]
mod client;
#[path = "../otlp/load.rs"]
mod load;
#[path = "../otlp/process.rs"]
mod process;
mod report;
mod server;

use load::{CLIENTS, Kinds, TICK_NS};
use report::Report;
use server::Server;

const POINTS: u64 = 4_000_000;
const POINTS_QUICK: u64 = 80_000;
const RUN_TIME_MAX: Duration = Duration::from_secs(600);
const DAY_NS: u64 = 86_400_000_000_000;

/// Points to send: `PIPELINE_POINTS` or the default, `--test` (or no `--bench`, as from `cargo test`) a few only.
fn points_wanted(arguments: &[String]) -> anyhow::Result<u64> {
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    match std::env::var("PIPELINE_POINTS") {
        Ok(text) => text.parse().with_context(|| format!("PIPELINE_POINTS={text} is not a number")),
        Err(_) if has("--test") || !has("--bench") => Ok(POINTS_QUICK),
        Err(_) => Ok(POINTS),
    }
}

/// Whether a filter such as `cargo bench -- append` leaves this bench out.
fn is_left_out(arguments: &[String]) -> bool {
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    filter.is_some_and(|filter| !"pipeline".contains(filter.as_str()))
}

/// Whole days before today for `request_count` requests of each client, so that each run fills as many days.
fn start_ns(request_count: u64) -> anyhow::Result<u64> {
    let now_ns = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
    let days = (request_count * TICK_NS).div_ceil(DAY_NS);
    Ok((now_ns / DAY_NS).checked_sub(days).context("more points than there are days")? * DAY_NS)
}

async fn run(kinds: Kinds, data_dir: &Path, log: &Path, points: u64) -> anyhow::Result<Report> {
    let points_per_request = kinds.points_per_request();
    let request_count = points.div_ceil(points_per_request * CLIENTS).max(1);
    let mut loads = load::loads(kinds, start_ns(2 * request_count)?);
    let server = Server::start(data_dir, log).await?;
    let idle = server.cpu_seconds();
    let own = process::cpu_seconds(std::process::id());
    let started = Instant::now();
    let acknowledged = client::send_all(server.otlp_url(), &mut loads, request_count, None).await?;
    let elapsed = started.elapsed();
    let sent = server.cpu_seconds();
    let own_sent = process::cpu_seconds(std::process::id());
    server.flush().await?;
    let flushed = server.cpu_seconds();
    let half_load_every = elapsed.mul_f64(2.0 / request_count as f64);
    // As many again, so that a hundredth of them is not the luck of two.
    let half_load = client::send_all(server.otlp_url(), &mut loads, request_count, Some(half_load_every)).await?;
    let stages = server.stages().await?;
    let peak_rss_bytes = server.peak_rss_bytes();
    server.stop().await?;
    let all_points = 2 * request_count * CLIENTS * points_per_request;
    Ok(Report {
        kinds,
        points: request_count * CLIENTS * points_per_request,
        all_points,
        elapsed,
        acknowledged,
        half_load,
        stages,
        server_cpu_seconds: process::difference(idle, sent),
        server_cpu_seconds_flushed: process::difference(idle, flushed),
        client_cpu_seconds: process::difference(own, own_sent),
        peak_rss_bytes,
        tables: report::stored_tables(data_dir, all_points).await?,
    })
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if is_left_out(&arguments) {
        return Ok(());
    }
    let points = points_wanted(&arguments)?;
    for kinds in [Kinds::Numbers, Kinds::Mix] {
        // Below the build folder: a temporary folder in memory would make every sync free.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let log = dir.path().join("server.log");
        // One thread, so that the clients take no more than one core from the server.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let data_dir = dir.path().join("data");
        let report = runtime.block_on(async {
            let run = tokio::time::timeout(RUN_TIME_MAX, run(kinds, &data_dir, &log, points));
            run.await.with_context(|| format!("not done after {RUN_TIME_MAX:?}"))?
        });
        let report = report.with_context(|| format!("server log:\n{}", server::log_tail(&log)))?;
        ensure!(report.points > 0, "nothing was sent");
        println!("{report}");
    }
    Ok(())
}
