//! `driftwatt collect`.

use driftwatt_collector::{Collector, RawScrapeJob};

use super::CollectArgs;
use crate::{config::RawConfig, server::stop_signal};

pub(super) async fn run(args: CollectArgs) -> anyhow::Result<()> {
    let mut raw = RawConfig::read(args.config.as_ref())?.collector;
    raw.endpoint = args.endpoint.or(raw.endpoint);
    raw.buffer_dir = args.buffer.or(raw.buffer_dir);
    if !args.scrape.is_empty() {
        raw.scrape.push(RawScrapeJob { targets: args.scrape, ..RawScrapeJob::default() });
    }
    let collector = Collector::start(raw.validate()?)?;
    if args.once {
        collector.flush().await?;
    } else {
        stop_signal().await?;
    }
    Ok(collector.shutdown().await?)
}
