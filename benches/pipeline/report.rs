//! What was measured, for people.

use std::{fmt, path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use driftwatt_store::{Config, Store, TableSummary};

use crate::{client::Acknowledged, load::Kinds};

/// Figures of one run.
pub(crate) struct Report {
    pub(crate) kinds: Kinds,
    /// Points sent as fast as they were taken.
    pub(crate) points: u64,
    /// These and the points sent at half that rate.
    pub(crate) all_points: u64,
    /// From the first request to the last acknowledgement.
    pub(crate) elapsed: Duration,
    pub(crate) acknowledged: Acknowledged,
    /// At half of the rate that `elapsed` shows.
    pub(crate) half_load: Acknowledged,
    /// CPU seconds of the server by stage, over all points.
    pub(crate) stages: Vec<(String, f64)>,
    /// Until the last acknowledgement, flushes in the background included.
    pub(crate) server_cpu_seconds: Option<f64>,
    /// Until everything is in the tables.
    pub(crate) server_cpu_seconds_flushed: Option<f64>,
    pub(crate) client_cpu_seconds: Option<f64>,
    pub(crate) peak_rss_bytes: Option<u64>,
    pub(crate) tables: Vec<TableSummary>,
}

/// The tables of the stopped server's data directory.
///
/// # Errors
/// If `samples` and `histograms` do not hold exactly `points` rows.
pub(crate) async fn stored_tables(data_dir: &Path, points: u64) -> anyhow::Result<Vec<TableSummary>> {
    let store = Store::open(Config::new(data_dir)).await.context("open the data directory")?;
    let tables = store.tables();
    store.close().await?;
    let of_points = tables.iter().filter(|table| ["samples", "histograms"].contains(&table.name.as_str()));
    let stored: u64 = of_points.map(|table| table.row_count).sum();
    ensure!(stored == points, "{points} points were acknowledged and {stored} are stored");
    Ok(tables)
}

fn optional(value: Option<f64>, scale: f64) -> String {
    value.map_or_else(|| "not known on this system".to_owned(), |value| format!("{:.2}", value * scale))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let points = self.points as f64;
        let per_million = 1e6 / points;
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let settings: Vec<_> = std::env::vars().filter(|(name, _)| name.starts_with("DRIFTWATT_STORE__")).collect();
        let build = if cfg!(debug_assertions) { "UNOPTIMISED, not to be quoted" } else { "optimised" };
        let requests = self.acknowledged.latencies.len();
        writeln!(f, "pipeline: OTLP/HTTP to a server of its own, acknowledged after fsync unless set otherwise")?;
        writeln!(f, "  build                            {build}, {cores} cores shared with the clients")?;
        writeln!(f, "  settings beside the defaults     {settings:?}")?;
        writeln!(
            f,
            "  points                           {} in {requests} requests: {}",
            self.points,
            self.kinds.name()
        )?;
        writeln!(
            f,
            "  request body                     {} bytes",
            self.acknowledged.size_bytes / requests.max(1) as u64
        )?;
        writeln!(f, "  answered with \"come back later\"  {}", self.acknowledged.overloaded_count)?;
        writeln!(f, "  points/s                         {:.0}", points / self.elapsed.as_secs_f64())?;
        for (name, answers) in [("at full load", &self.acknowledged), ("at half load", &self.half_load)] {
            let (p50, p99) = (answers.latency_ms(0.5), answers.latency_ms(0.99));
            writeln!(f, "  ack p50, p99 {name:<19} {p50:.1} ms, {p99:.1} ms")?;
        }
        let cpu = |seconds| optional(seconds, per_million);
        writeln!(f, "  server CPU s per million points  {} to the last ack", cpu(self.server_cpu_seconds))?;
        writeln!(f, "                                   {} with all in tables", cpu(self.server_cpu_seconds_flushed))?;
        for (stage, seconds) in &self.stages {
            writeln!(f, "    {stage:<30} {:.3}", seconds * 1e6 / self.all_points as f64)?;
        }
        writeln!(f, "  client CPU s per million points  {}", cpu(self.client_cpu_seconds))?;
        let peak = optional(self.peak_rss_bytes.map(|bytes| bytes as f64), 1.0 / f64::from(1 << 20));
        writeln!(f, "  server peak RSS                  {peak} MiB")?;
        for table in self.tables.iter().filter(|table| table.row_count > 0) {
            let size = table.size_bytes as f64 / self.all_points as f64;
            writeln!(f, "  bytes per point, {:<15} {size:.2} in {} files", table.name, table.file_count)?;
        }
        Ok(())
    }
}
