//! `driftwatt collect`.

use anyhow::Context as _;
use driftwatt_collector::{Collector, Config, GpuProcess, RawScrapeJob, serve_gpu_readings};

use super::CollectArgs;
use crate::{config::RawConfig, stop_signal::StopSignal};

pub(super) async fn run(args: CollectArgs) -> anyhow::Result<()> {
    if let Some(settings) = &args.nvml_child {
        return Ok(serve_gpu_readings(settings).await?);
    }
    let mut raw = RawConfig::read(args.config.as_ref())?.collector;
    raw.endpoint = args.endpoint.or(raw.endpoint);
    raw.buffer_dir = args.buffer.or(raw.buffer_dir);
    if !args.scrape.is_empty() {
        raw.scrape.push(RawScrapeJob { targets: args.scrape, ..RawScrapeJob::default() });
    }
    let stop = if args.once { None } else { Some(StopSignal::listen()?) };
    let collector = Collector::start(reading_gpus_apart(raw.validate()?)?)?;
    match stop {
        Some(stop) => stop.received().await,
        None => collector.flush().await?,
    }
    Ok(collector.shutdown().await?)
}

/// The settings with GPUs read by a process of their own: this program again, as it takes itself up above.
pub(super) fn reading_gpus_apart(config: Config) -> anyhow::Result<Config> {
    let process = GpuProcess::this_program(&["collect", "--nvml-child"]).context("find this program")?;
    Ok(Config { gpu_process: Some(process), ..config })
}
