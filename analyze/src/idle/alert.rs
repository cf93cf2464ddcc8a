//! Idle GPUs told to their owners: one mail per owner, and again only after a while.

use std::collections::HashSet;

use datafusion::prelude::SessionContext;
use driftwatt_store::Store;

use super::{GpuExamination, IdleReport, IdleRequest, State, examine};
use crate::{
    PriceBook,
    error::Result,
    owner_mail::{IdleCheck, IdleFinding, OwnerMail, owner_mails},
    result_table::ResultTable,
    rows::{Rows, has_result},
    window::{HOUR_US, Window, time_literal},
};

/// Result table of what was told: without it every check would tell of the same GPUs.
pub const TABLE: &str = "idle_alerts";

/// What to look at.
#[derive(Debug, Clone)]
pub struct AlertRequest {
    /// When.
    pub window: Window,
    /// Prices; without, costs are unknown.
    pub prices: Option<PriceBook>,
    /// The time of the check, UTC microseconds.
    pub now_us: i64,
    /// Hours until the same GPU is told of again.
    pub repeat_hours: u32,
    /// Who gets what has no owner.
    pub default_owner: String,
}

/// What is to be told.
#[derive(Debug, Clone)]
pub struct IdleAlert {
    /// The examination.
    pub report: IdleReport,
    /// Idle GPUs, told of before or not.
    pub idle_count: usize,
    /// To each owner of whom at least one GPU was not told of in the last hours, with all idle GPUs of that owner.
    pub mails: Vec<OwnerMail>,
}

/// Examines the window; `address_of` gives the mail address of a team or owner that telemetry names, if mail may go there.
///
/// Nothing is recorded: [`record_told`] does that once somebody was reached.
///
/// # Errors
/// Those of queries.
pub async fn check(
    ctx: &SessionContext,
    request: &AlertRequest,
    address_of: impl Fn(&str) -> Option<String>,
) -> Result<IdleAlert> {
    let report = examine(ctx, None, &IdleRequest::new(request.window), request.now_us).await?;
    let is_idle = |gpu: &&GpuExamination| matches!(gpu.state, State::IdleHeld | State::Free);
    let findings: Vec<IdleFinding> =
        report.gpus.iter().filter(is_idle).map(|gpu| finding(gpu, request, &address_of)).collect();
    let told = told(ctx, request).await?;
    let check = IdleCheck {
        window: format!("{}, UTC", request.window.label()),
        currency: request.prices.as_ref().map(|prices| prices.currency.to_string()).unwrap_or_default(),
        default_owner: request.default_owner.clone(),
    };
    let mut mails = owner_mails(&findings, &check);
    mails.retain(|mail| mail.gpus.iter().any(|gpu| !told.contains(&(gpu.clone(), mail.simulated))));
    Ok(IdleAlert { idle_count: findings.len(), report, mails })
}

fn finding(gpu: &GpuExamination, request: &AlertRequest, address_of: impl Fn(&str) -> Option<String>) -> IdleFinding {
    // What was not measured is not counted as idle.
    let hours = request.window.hours() * gpu.coverage;
    let price = request.prices.as_ref().and_then(|prices| prices.gpu(gpu.gpu_model.as_deref()?));
    IdleFinding {
        gpu: format!("{}/{}", gpu.host, gpu.gpu_id),
        service: gpu.service.clone(),
        owner: gpu.team.as_deref().and_then(address_of),
        mean: gpu.mean,
        state: gpu.state.as_str().to_owned(),
        hours: Some(hours),
        cost: price.map(|price| price * hours),
        simulated: gpu.simulated,
    }
}

/// GPUs, simulated or not, of which somebody was told in the last hours.
async fn told(ctx: &SessionContext, request: &AlertRequest) -> Result<HashSet<(String, bool)>> {
    if !has_result(ctx, TABLE) {
        return Ok(HashSet::new());
    }
    let since_us = request.now_us - i64::from(request.repeat_hours) * HOUR_US;
    let query = format!("SELECT DISTINCT gpu, simulated FROM reports.{TABLE} WHERE time > {}", time_literal(since_us));
    let rows = Rows::query(ctx, &query).await?;
    let gpus = rows.texts("gpu")?.into_iter().zip(rows.flags("simulated")?);
    Ok(gpus.filter_map(|(gpu, simulated)| Some((gpu?, simulated))).collect())
}

/// Appends a row per GPU of `mails` to `idle_alerts`: their owners were reached by the check of `now_us`.
///
/// # Errors
/// Those of the store.
pub async fn record_told(store: &Store, mails: &[&OwnerMail], now_us: i64) -> Result<()> {
    let rows: Vec<(&str, bool)> =
        mails.iter().flat_map(|mail| mail.gpus.iter().map(|gpu| (gpu.as_str(), mail.simulated))).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let mut table = ResultTable::new(now_us, rows.len());
    table
        .texts("gpu", rows.iter().map(|(gpu, _)| Some((*gpu).to_owned())))
        .flags("simulated", rows.iter().map(|(_, simulated)| *simulated));
    store.write_result(TABLE, table.finish()?).await?;
    Ok(())
}
