//! Retention: whole days that are older than their table is kept go by one commit per table, metrics with a rule of
//! their own by rewriting the files of a day that hold them.
//!
//! Invariants: a day goes only when all of it is past the horizon; `series` go after the points that refer to them, and
//! no flush comes in between; the clock is believed only as far as stored points bear it out ([`plan::Now`]). Files stay
//! for the grace period of replaced files and while something reads them.

mod horizon;
mod metric_rows;
mod metric_rule;
mod plan;
mod policy;
mod row_counts;
mod tally;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use horizon::TablePlan;
use metric_rows::MetricPass;
pub use metric_rule::{MetricRule, RawMetricRule};
use plan::Now;
pub use policy::{Keep, RawRetention, Retention};
pub(crate) use row_counts::RowCounts;
use tally::{Tallies, Tally};

use crate::{
    config::Config,
    data_dir::read_format,
    error::{Error, Result},
    live_file::{LiveFile, now_ms},
    state::WalTable,
    store::Inner,
    table_storage::Tables,
    verify::{lock_shared, replay_tables},
};

/// Whether expired days go or are only counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// They are counted.
    DryRun,
    /// They go.
    Apply,
}

/// What goes, or would go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetentionReport {
    /// UTC microseconds that ages were counted from; `None` if too few days hold points to tell whether the clock is
    /// right, and so nothing goes.
    pub counted_from_us: Option<i64>,
    /// The clock is ahead of what is stored by more than is believed, so ages are counted from an earlier time.
    pub clock_held_back: bool,
    /// Every table, `series` last.
    pub tables: Vec<ExpiredDays>,
    /// Every rule for metrics, in the order of the settings.
    pub metrics: Vec<ExpiredMetrics>,
}

/// The days of one table that go, or would go, and rows of metrics without a rule on days that others are kept on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiredDays {
    /// Table name.
    pub table: String,
    /// How long it is kept.
    pub keep: Keep,
    /// Days before this one go, as `2026-11-24`; `None`: none go.
    pub first_kept_day: Option<String>,
    /// Days with files.
    pub day_count: u64,
    /// Files.
    pub file_count: u64,
    /// Rows that go.
    pub row_count: u64,
    /// Bytes of these files, or their share where other rows stay.
    pub size_bytes: u64,
}

/// The rows of one rule's metrics that go, or would go, from all tables, except those that go with whole days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiredMetrics {
    /// The rule.
    pub rule: MetricRule,
    /// Days before this one go, as `2026-11-24`; `None`: none go.
    pub first_kept_day: Option<String>,
    /// Days with such rows.
    pub day_count: u64,
    /// Files that hold them.
    pub file_count: u64,
    /// Rows that go.
    pub row_count: u64,
    /// The share of these rows in the bytes of the files.
    pub size_bytes: u64,
}

/// The rule that a commit applies, for whoever reads the table's history.
#[derive(Debug, Clone)]
pub(crate) struct ExpiryRule {
    /// As `store.retention.samples = "395d"`.
    pub(crate) setting: String,
    /// As `date < '2025-10-25'`.
    pub(crate) predicate: String,
}

/// Live files by table.
type LiveFiles = BTreeMap<String, Vec<Arc<LiveFile>>>;

/// What a pass goes by: what is believed of the clock, and every table's plan, `series` last.
fn plan_tables(tables: &LiveFiles, retention: &Retention, now_us: i64) -> (Now, Vec<TablePlan>) {
    let holds_points = |name: &str| WalTable::from_name(name).is_some_and(WalTable::holds_points);
    let points = tables.iter().filter(|(name, _)| holds_points(name)).flat_map(|(_, files)| files);
    let now = Now::trusted(now_us, &points.map(|file| file.date).collect());
    let mut names: Vec<&String> = tables.keys().collect();
    names.sort_by_key(|name| *name == WalTable::Series.name());
    (now, names.into_iter().map(|table| TablePlan::new(table, retention, now)).collect())
}

/// The files that go because all of their day does.
fn whole_days<'a>(plan: &TablePlan, files: impl Iterator<Item = &'a Arc<LiveFile>>) -> Vec<Arc<LiveFile>> {
    let first_day = plan.horizon.first_day();
    files.filter(|file| first_day.is_some_and(|first| file.date < first)).map(Arc::clone).collect()
}

/// What [`Store::expire`](crate::Store::expire) would remove by the retention of `config` from its data directory, which no
/// server may have open and which is not changed. Points that only the log holds are not counted. Blocks.
///
/// # Errors
/// [`Error::Locked`], [`Error::NewerFormat`], any failure to read the Delta logs, or files where rows have to be counted.
pub fn preview_retention(config: &Config) -> Result<RetentionReport> {
    read_format(&config.data_dir)?;
    let _lock = lock_shared(&config.data_dir)?;
    let retention = &config.retention;
    let mut tables = LiveFiles::new();
    let found_tables = Tables::open_to_read(config)?;
    for (name, found) in replay_tables(&found_tables)? {
        if let Some(fault) = found.log.faults.first() {
            return Err(Error::DamagedFile { path: fault.path.clone(), reason: fault.message.clone() });
        }
        tables.insert(name, found.log.table.files.into_values().map(Arc::new).collect());
    }
    let (now, plans) = plan_tables(&tables, retention, now_ms().saturating_mul(1000));
    let mut tallies = Tallies::new(&retention.metrics);
    for plan in &plans {
        tallies.add_files(&plan.table, &whole_days(plan, tables.get(&plan.table).into_iter().flatten()));
    }
    let pass = MetricPass::new(retention, &plans, &found_tables);
    pass.count(&tables, &RowCounts::default(), &mut tallies)?;
    Ok(tallies.report(now, &plans))
}

/// Removes, or counts, the days and metrics that `retention` does not keep at `now_us`.
///
/// # Errors
/// [`Error::Closing`] when the store closes; [`Error::Io`] if a commit could not be made durable; any failure to read or
/// write files that are rewritten. What was committed stays.
pub(crate) async fn expire(
    store: &Arc<Inner>,
    retention: &Retention,
    now_us: i64,
    expiry: Expiry,
) -> Result<RetentionReport> {
    let tables: LiveFiles =
        store.state().tables().map(|(name, snapshot)| (name.clone(), snapshot.files.clone())).collect();
    let (now, plans) = plan_tables(&tables, retention, now_us);
    let mut tallies = Tallies::new(&retention.metrics);
    expire_days(store, &plans, expiry, &mut tallies).await?;
    if !retention.metrics.is_empty() {
        let pass = Arc::new(MetricPass::new(retention, &plans, &store.tables));
        match expiry {
            Expiry::DryRun => tallies = metric_rows::count(store, pass, tallies).await?,
            Expiry::Apply => metric_rows::expire(store, &pass, &mut tallies).await?,
        }
    }
    Ok(tallies.report(now, &plans))
}

async fn expire_days(store: &Arc<Inner>, plans: &[TablePlan], expiry: Expiry, tallies: &mut Tallies) -> Result<()> {
    // A flush in between could bring points to a day whose series go.
    let _between_flushes = store.flushing.lock().await;
    for plan in plans {
        if store.stopping.load(Ordering::Relaxed) {
            return Err(Error::Closing);
        }
        let Some(committer) = store.committer(&plan.table) else { continue };
        let mut log = committer.lock().await;
        let files = whole_days(plan, log.settle().await?.files.iter());
        let days = Tally::of_files(&files);
        if let (Expiry::Apply, Some(first), false) = (expiry, plan.horizon.first_day(), files.is_empty()) {
            let rule = plan.days_rule(first);
            let Some(committed) = log.expire(&files, vec![], &rule).await? else { continue };
            store.state_mut().publish(&plan.table, committed);
            store.metrics.expired(days.row_count, days.size_bytes);
            tracing::info!(
                table = plan.table,
                days = days.day_count(),
                files = days.file_count,
                rows = days.row_count,
                size_bytes = days.size_bytes,
                rule = rule.setting,
                predicate = rule.predicate,
                "expired"
            );
        }
        tallies.add_files(&plan.table, &files);
    }
    Ok(())
}

/// What the background task does: removes what is too old by the store's own settings, and what was left behind.
pub(crate) async fn expire_and_tidy(store: &Arc<Inner>, retention: &Retention) {
    let now_us = now_ms().saturating_mul(1000);
    match expire(store, retention, now_us, Expiry::Apply).await {
        Ok(report) if report.clock_held_back => {
            tracing::warn!(
                counted_from = report.counted_from_us,
                "the clock is more than a week ahead of what is stored; retention counts from what is stored; check the clock of this machine"
            );
        }
        Ok(_) | Err(Error::Closing) => {}
        Err(error) => tracing::error!(%error, "retention failed; what is too old stays and it is tried again"),
    }
    // A merge writes without the committers, and its files are in no version yet.
    let _no_merge = store.compacting.lock().await;
    for committer in store.all_committers() {
        let mut log = committer.lock().await;
        if let Err(error) = log.tidy().await {
            tracing::warn!(%error, "files that nothing refers to were not looked for");
        }
    }
}

#[cfg(test)]
mod metric_tests;
#[cfg(test)]
mod tests;
