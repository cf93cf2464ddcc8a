//! `driftwatt retention`: what is older than the settings keep it goes, or is counted.

use anyhow::{Context as _, bail};
use driftwatt_store::{Expiry, Retention, Store, preview_retention};

use super::{ReportFormat, RetentionArgs};
use crate::{config::RawConfig, retention, terminal};

pub(super) async fn run(args: RetentionArgs) -> anyhow::Result<()> {
    if !args.data.join("tables").is_dir() {
        bail!("{} is not a Driftwatt data directory (it has no folder `tables`)", args.data.display());
    }
    let mut raw = RawConfig::read(args.config.as_ref())?;
    raw.server.data_dir = Some(args.data.clone());
    let mut settings = raw.validate()?.store;
    let (kept, expiry) = (settings.retention.clone(), if args.dry_run { Expiry::DryRun } else { Expiry::Apply });
    let running = "for a running server, use POST /api/v1/admin/retention";
    let report = if args.dry_run {
        tokio::task::spawn_blocking(move || preview_retention(&settings)).await?.context(running)?
    } else {
        // The background task must not come before the answer.
        settings.retention = Retention::FOREVER;
        let store = Store::open(settings).await.context(running)?;
        let report = store.expire(&kept, expiry).await;
        store.close().await?;
        report?
    };
    match args.format.unwrap_or_else(ReportFormat::usual) {
        ReportFormat::Text => terminal::print(&retention::text(&report, expiry)),
        ReportFormat::Json => terminal::print(&retention::json(&report, expiry).to_string()),
    }
    Ok(())
}
