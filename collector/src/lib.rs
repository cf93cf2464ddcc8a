//! Edge collector: host and GPU metrics, and pages of Prometheus exporters, over OTLP.
//!
//! Host values come from `sysinfo` and `/proc`, GPU values from NVML; names follow the OpenTelemetry semantic
//! conventions, the rest is under `driftwatt.gpu.*` and `driftwatt.collector.*` (the table is `docs/collector.md`).
//!
//! Invariants:
//! - A value that could not be read is omitted and counted, never reported as zero.
//! - Nothing is read on the async runtime: each source has a thread of its own, and waiting for it is bounded. GPUs are
//!   read by a process of its own where [`Config::gpu_process`] says how, so a hung driver costs its own metrics only.
//! - A page that is half or late is not used, and the target's series end with a marker; a bad line costs that line.
//! - With a buffer, what was read is on disk before it is sent, and goes to the server oldest first.
//! - Values older than three intervals are not reported.
//! - This crate depends on the wire only, never on the store or the query engine.

mod buffer;
mod catalog;
mod cgroup;
mod collector;
mod config;
mod delivery;
mod error;
mod export;
mod gpu;
mod host;
mod instruments;
mod proc_stat;
mod reading;
mod scrape;
mod send;
mod spool;
mod watch;

use std::future::Future;

pub use catalog::{CATALOG, Kind, Metric};
pub use collector::Collector;
pub use config::{BufferConfig, Config, Protocol, RawConfig, RawScrapeJob, ScrapeJob};
pub use error::{Error, Result};
pub use gpu::{GpuProcess, serve_gpu_readings};

/// Collects and exports until `shutdown` resolves, then exports once more and returns.
///
/// # Errors
/// [`Error::NoRuntime`], [`Error::Exporter`] or [`Error::Thread`] if collection cannot start, [`Error::Export`] if the
/// last export is not accepted. Failed exports in between are logged and counted; they do not end collection.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<()> {
    let collector = Collector::start(config)?;
    shutdown.await;
    collector.shutdown().await
}
