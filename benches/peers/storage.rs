//! What a server has stored: brought to its smallest form, measured, counted.

use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::json;

use crate::{
    load::TICK_NS,
    product::Product,
    server::{Server, json, text},
};

const MERGE_TIME_MAX: Duration = Duration::from_secs(300);
const POLL_EVERY: Duration = Duration::from_secs(1);

/// Bytes on disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Values, times and their keys.
    pub(crate) points_bytes: u64,
    /// What finds and describes the series.
    pub(crate) series_bytes: u64,
}

/// When the points were made that are looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// Before the first of them.
    pub(crate) start_ns: u64,
    /// Points of each series.
    pub(crate) ticks: u64,
}

/// Writes everything to disk as small as the product makes it, and tells how small that is.
///
/// # Errors
/// If it cannot, or is not done in five minutes.
pub(crate) async fn merge(server: &Server) -> anyhow::Result<Size> {
    match server.product() {
        Product::Driftwatt => merge_tables(server).await.context("flush and compact"),
        Product::VictoriaMetrics => merge_parts(server).await.context("forced merge"),
        Product::Prometheus => write_block(server).await.context("snapshot of the head as a block"),
    }
}

async fn merge_tables(server: &Server) -> anyhow::Result<Size> {
    text(server.post("/api/v1/admin/flush")).await?;
    text(server.post("/api/v1/admin/compact")).await?;
    let sum = |names: &str| format!("SELECT coalesce(sum(size_bytes), 0) FROM system.tables WHERE name IN ({names})");
    let points_bytes = sql_count(server, &sum("'samples', 'histograms'")).await?;
    Ok(Size { points_bytes, series_bytes: sql_count(server, &sum("'series'")).await? })
}

async fn merge_parts(server: &Server) -> anyhow::Result<Size> {
    text(server.get("/internal/force_flush")).await?;
    // A forced merge passes by a partition that is being merged, so it waits for those that run by themselves.
    wait_until_zero(server, &["vm_active_merges{", "vm_parts{type=\"storage/inmemory\"}"]).await?;
    text(server.get("/internal/force_merge")).await?;
    wait_until_zero(server, &["vm_active_force_merges", "vm_active_merges{", "vm_parts{type=\"indexdb/inmemory\"}"])
        .await?;
    let data = server.data_dir();
    let series_bytes = size_bytes(&data.join("data/indexdb"))?;
    let points_bytes = size_bytes(&data.join("data/small"))? + size_bytes(&data.join("data/big"))?;
    Ok(Size { points_bytes, series_bytes })
}

async fn write_block(server: &Server) -> anyhow::Result<Size> {
    let answer = json(server.post("/api/v1/admin/tsdb/snapshot")).await?;
    let name = answer["data"]["name"].as_str().with_context(|| format!("no name in {answer}"))?;
    let mut size = Size { points_bytes: 0, series_bytes: 0 };
    for block in fs::read_dir(server.data_dir().join("snapshots").join(name))? {
        let block = block?.path();
        let chunks_bytes = size_bytes(&block.join("chunks"))?;
        size.points_bytes += chunks_bytes;
        size.series_bytes += size_bytes(&block)? - chunks_bytes;
    }
    Ok(size)
}

/// Waits until all metrics of VictoriaMetrics that begin so are 0.
async fn wait_until_zero(server: &Server, names: &[&str]) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        // First, so that what was just asked for has begun.
        tokio::time::sleep(POLL_EVERY).await;
        let metrics = text(server.get("/metrics")).await?;
        for name in names {
            ensure!(metrics.lines().any(|line| line.starts_with(name)), "there is no metric {name}");
        }
        let busy =
            metrics.lines().find(|line| names.iter().any(|name| line.starts_with(name)) && !line.ends_with(" 0"));
        let Some(busy) = busy else { return Ok(()) };
        ensure!(started.elapsed() < MERGE_TIME_MAX, "not done after {MERGE_TIME_MAX:?}: {busy}");
    }
}

/// Bytes of all files below `path`.
fn size_bytes(path: &Path) -> io::Result<u64> {
    let metadata = fs::metadata(path)?;
    if metadata.is_file() {
        return Ok(metadata.len());
    }
    fs::read_dir(path)?.map(|entry| size_bytes(&entry?.path())).sum()
}

/// Points that queries find: numbers, and each histogram once.
///
/// # Errors
/// If the query fails.
pub(crate) async fn count(server: &Server, span: Span) -> anyhow::Result<u64> {
    let names = match server.product() {
        Product::Driftwatt => {
            let samples = sql_count(server, "SELECT count(*) FROM raw.samples").await?;
            return Ok(samples + sql_count(server, "SELECT count(*) FROM raw.histograms").await?);
        }
        // A series per bucket, and these.
        Product::VictoriaMetrics => "hw[.].+|.+[.]request[.]duration_count",
        Product::Prometheus => "hw_.+|.+_request_duration_seconds",
    };
    let end_ns = span.start_ns + span.ticks * TICK_NS;
    let window_s = span.ticks * TICK_NS / 1_000_000_000;
    let query = format!("sum(count_over_time({{__name__=~\"{names}\"}}[{window_s}s]))");
    let time = format!("{}.{:03}", end_ns / 1_000_000_000, end_ns / 1_000_000 % 1_000);
    let answer = json(server.get("/api/v1/query").query(&[("query", query), ("time", time)])).await.context("count")?;
    match answer["data"]["result"].as_array().context("no result")?.as_slice() {
        [] => Ok(0),
        [sum] => Ok(sum["value"][1].as_str().and_then(|text| text.parse().ok()).context("no number")?),
        _ => anyhow::bail!("more than one sum: {answer}"),
    }
}

/// The first cell of the answer.
async fn sql_count(server: &Server, query: &str) -> anyhow::Result<u64> {
    let answer = json(server.post("/api/v1/sql").json(&json!({ "query": query }))).await?;
    answer["rows"][0][0].as_u64().with_context(|| format!("{query}: {answer}"))
}
