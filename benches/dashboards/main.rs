//! People who look while everything comes in: 32 dashboards beside clients that send as fast as they are answered.
//!
//! First the load alone, then the same load beside the dashboards. Fails on any error, on either side.
#![expect(clippy::print_stdout, reason = "a bench reports to its terminal")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use tokio::task::JoinSet;

#[path = "../otlp/client.rs"]
#[expect(dead_code, reason = "only points per second and errors of the clients matter here")]
mod client;
#[path = "../otlp/load.rs"]
mod load;
mod panels;
#[path = "../otlp/process.rs"]
#[expect(dead_code, reason = "only memory is measured here")]
mod process;
#[path = "../pipeline/server.rs"]
#[expect(dead_code, reason = "the CPU time of the pipeline is not measured here")]
mod server;

use client::latency_ms;
use load::{CLIENTS, Kinds, TICK_NS};
use panels::Dashboard;
use server::Server;

const DASHBOARDS: u64 = 32;
const SECONDS: u64 = 300;
const SECONDS_QUICK: u64 = 2;
/// Requests of each client after which the time is looked at.
const ROUND: u64 = 25;
/// The points lie so long ago that they do not reach the present.
const AGO: Duration = Duration::from_hours(20 * 24);

/// Seconds beside the dashboards: `DASHBOARDS_SECONDS` or the default, `--test` (or no `--bench`) a few only.
fn seconds_wanted(arguments: &[String]) -> anyhow::Result<u64> {
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    match std::env::var("DASHBOARDS_SECONDS") {
        Ok(text) => text.parse().with_context(|| format!("DASHBOARDS_SECONDS={text} is not a number")),
        Err(_) if has("--test") || !has("--bench") => Ok(SECONDS_QUICK),
        Err(_) => Ok(SECONDS),
    }
}

/// Sends for `time`; points per second. `sent_ns` is the time of the newest points.
async fn send(
    server: &Server,
    loads: &mut Vec<load::Load>,
    time: Duration,
    sent_ns: &AtomicU64,
) -> anyhow::Result<f64> {
    let started = Instant::now();
    let mut points = 0;
    while started.elapsed() < time {
        client::send_all(server.otlp_url(), loads, ROUND, None).await?;
        sent_ns.fetch_add(ROUND * TICK_NS, Ordering::Relaxed);
        points += ROUND * CLIENTS * Kinds::Numbers.points_per_request();
    }
    Ok(points as f64 / started.elapsed().as_secs_f64())
}

async fn run(seconds: u64) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let log = dir.path().join("server.log");
    let server = Server::start(&dir.path().join("data"), &log).await?;
    let start = SystemTime::now().duration_since(UNIX_EPOCH)? - AGO;
    let start_ns = u64::try_from(start.as_nanos())?;
    let mut loads = load::loads(Kinds::Numbers, start_ns);
    let sent_ns = Arc::new(AtomicU64::new(start_ns));
    let alone = send(&server, &mut loads, Duration::from_secs(seconds.div_ceil(5)), &sent_ns).await?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut viewers = JoinSet::new();
    for number in 0..DASHBOARDS {
        let dashboard = Dashboard::new(number, server.http_url(), Arc::clone(&sent_ns))?;
        viewers.spawn(dashboard.watch(end));
    }
    let mut latencies = Vec::new();
    let beside = {
        let sending = send(&server, &mut loads, Duration::from_secs(seconds), &sent_ns);
        let mut sending = std::pin::pin!(sending);
        // A dashboard that fails ends the run, not only its own part.
        loop {
            tokio::select! {
                beside = &mut sending => break beside,
                Some(viewer) = viewers.join_next() => latencies.extend(viewer.context("dashboard task")??),
            }
        }
    };
    let beside = beside.with_context(|| format!("server log:\n{}", server::log_tail(&log)))?;
    while let Some(viewer) = viewers.join_next().await {
        latencies.extend(viewer.context("dashboard task")??);
    }
    latencies.sort_unstable();
    ensure!(!latencies.is_empty(), "no panel was drawn");
    let (kinds, answers) = (Kinds::Numbers.name(), latencies.len());
    println!("{DASHBOARDS} dashboards beside {kinds}, {seconds} s, {answers} answers, no error");
    println!(
        "  answer: p50 {:.0} ms, p90 {:.0} ms, p99 {:.0} ms, longest {:.0} ms",
        latency_ms(&latencies, 0.5),
        latency_ms(&latencies, 0.9),
        latency_ms(&latencies, 0.99),
        latency_ms(&latencies, 1.0)
    );
    println!(
        "  ingest: {:.0} points/s alone, {:.0} beside the dashboards ({:.0} % of it)",
        alone,
        beside,
        100.0 * beside / alone
    );
    if let Some(peak) = server.peak_rss_bytes() {
        println!("  server's peak memory: {} MiB", peak >> 20);
    }
    server.stop().await
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    if filter.is_some_and(|filter| !"dashboards".contains(filter.as_str())) {
        return Ok(());
    }
    let seconds = seconds_wanted(&arguments)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(seconds))
}
