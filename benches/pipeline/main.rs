//! The whole write path from outside: the server as a process of its own, OTLP/HTTP clients on loopback, fsync on
//! acknowledgement. Reports points per second, the server's CPU time, acknowledgement latency and bytes on disk.
//!
//! Every point is unique and every one is looked for in the tables at the end, so a figure never comes from lost data.
#![expect(clippy::print_stdout, reason = "a bench reports to its terminal")]

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};

mod client;
mod load;
mod process;
mod report;
mod server;

use load::{CLIENTS, POINTS_PER_REQUEST};
use report::Report;
use server::Server;

const POINTS: u64 = 4_000_000;
const POINTS_QUICK: u64 = 80_000;
const RUN_TIME_MAX: Duration = Duration::from_secs(600);

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

async fn run(data_dir: &Path, log: &Path, request_count: u64) -> anyhow::Result<Report> {
    let loads = load::loads(request_count)?;
    let server = Server::start(data_dir, log).await?;
    let idle = server.cpu_seconds();
    let own = process::cpu_seconds(std::process::id());
    let started = Instant::now();
    let acknowledged = client::send_all(server.otlp_url(), loads, request_count).await?;
    let elapsed = started.elapsed();
    let sent = server.cpu_seconds();
    let own_sent = process::cpu_seconds(std::process::id());
    server.flush().await?;
    let flushed = server.cpu_seconds();
    let peak_rss_bytes = server.peak_rss_bytes();
    server.stop().await?;
    let points = acknowledged.latencies.len() as u64 * POINTS_PER_REQUEST;
    Ok(Report {
        points,
        elapsed,
        acknowledged,
        server_cpu_seconds: process::difference(idle, sent),
        server_cpu_seconds_flushed: process::difference(idle, flushed),
        client_cpu_seconds: process::difference(own, own_sent),
        peak_rss_bytes,
        tables: report::stored_tables(data_dir, points).await?,
    })
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if is_left_out(&arguments) {
        return Ok(());
    }
    let request_count = points_wanted(&arguments)?.div_ceil(POINTS_PER_REQUEST * CLIENTS).max(1);
    // Below the build folder: a temporary folder in memory would make every sync free.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let log = dir.path().join("server.log");
    // One thread, so that the clients take no more than one core from the server.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let data_dir = dir.path().join("data");
    let report = runtime.block_on(async {
        let run = tokio::time::timeout(RUN_TIME_MAX, run(&data_dir, &log, request_count));
        run.await.with_context(|| format!("not done after {RUN_TIME_MAX:?}"))?
    });
    let report = report.with_context(|| format!("server log:\n{}", server::log_tail(&log)))?;
    ensure!(report.points > 0, "nothing was sent");
    println!("{report}");
    Ok(())
}
