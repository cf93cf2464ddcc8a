//! Retention: whole days that are older than their table is kept go by one commit per table.
//!
//! Invariants: a day goes only when all of it is past the horizon; `series` go after the points that refer to them, and
//! no flush comes in between; the clock is believed only as far as stored points bear it out ([`plan::Now`]). Files stay
//! for the grace period of replaced files and while something reads them.

mod plan;
mod policy;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
};

use plan::Now;
pub use policy::{Keep, RawRetention, Retention};

use crate::{
    config::Config,
    data_dir::read_format,
    error::{Error, Result},
    live_file::{LiveFile, date_text, now_ms},
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
}

/// The days of one table that go, or would go.
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
    /// Rows in these files.
    pub row_count: u64,
    /// Bytes of these files.
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

/// What one table's share of a pass is.
struct TablePlan {
    table: String,
    setting: &'static str,
    keep: Keep,
    first_kept_day: Option<i32>,
}

impl TablePlan {
    fn expired<'a>(&self, files: impl Iterator<Item = &'a Arc<LiveFile>>) -> Vec<Arc<LiveFile>> {
        let expired = files.filter(|file| self.first_kept_day.is_some_and(|first| file.date < first));
        expired.map(Arc::clone).collect()
    }

    fn count(&self, files: &[Arc<LiveFile>]) -> ExpiredDays {
        ExpiredDays {
            table: self.table.clone(),
            keep: self.keep,
            first_kept_day: self.first_kept_day.map(date_text),
            day_count: files.iter().map(|file| file.date).collect::<BTreeSet<_>>().len() as u64,
            file_count: files.len() as u64,
            row_count: files.iter().map(|file| file.row_count).sum(),
            size_bytes: files.iter().map(|file| file.size_bytes).sum(),
        }
    }

    fn rule(&self, first_kept_day: i32) -> ExpiryRule {
        ExpiryRule {
            setting: format!("store.retention.{} = \"{}\"", self.setting, self.keep),
            predicate: format!("date < '{}'", date_text(first_kept_day)),
        }
    }
}

/// Live files by table.
type LiveFiles = BTreeMap<String, Vec<Arc<LiveFile>>>;

fn plan_tables(tables: &LiveFiles, retention: &Retention, now_us: i64) -> (Now, Vec<TablePlan>) {
    let holds_points = |name: &str| WalTable::from_name(name).is_some_and(WalTable::holds_points);
    let points = tables.iter().filter(|(name, _)| holds_points(name)).flat_map(|(_, files)| files);
    let now = Now::trusted(now_us, &points.map(|file| file.date).collect());
    let mut names: Vec<&String> = tables.keys().collect();
    names.sort_by_key(|name| *name == WalTable::Series.name());
    let plans = names.into_iter().map(|table| {
        let (setting, keep) = retention.of_table(table);
        TablePlan { table: table.clone(), setting, keep, first_kept_day: now.first_kept_day(keep) }
    });
    (now, plans.collect())
}

fn report(now: Now, tables: Vec<ExpiredDays>) -> RetentionReport {
    let clock_held_back = matches!(now, Now::HeldBack(_));
    RetentionReport { counted_from_us: now.time(), clock_held_back, tables }
}

/// What [`Store::expire`](crate::Store::expire) would remove by the retention of `config` from its data directory, which no
/// server may have open and which is not changed. Points that only the log holds are not counted. Blocks.
///
/// # Errors
/// [`Error::Locked`], [`Error::NewerFormat`], any failure to read the Delta logs.
pub fn preview_retention(config: &Config) -> Result<RetentionReport> {
    read_format(&config.data_dir)?;
    let _lock = lock_shared(&config.data_dir)?;
    let retention = &config.retention;
    let mut tables = LiveFiles::new();
    for (name, found) in replay_tables(&Tables::open_to_read(config)?)? {
        if let Some(fault) = found.log.faults.first() {
            return Err(Error::DamagedFile { path: fault.path.clone(), reason: fault.message.clone() });
        }
        tables.insert(name, found.log.table.files.into_values().map(Arc::new).collect());
    }
    let (now, plans) = plan_tables(&tables, retention, now_ms().saturating_mul(1000));
    let counted = plans.iter().map(|plan| plan.count(&plan.expired(tables.get(&plan.table).into_iter().flatten())));
    Ok(report(now, counted.collect()))
}

/// Removes, or counts, the days that `retention` does not keep at `now_us`.
///
/// # Errors
/// [`Error::Closing`] when the store closes; [`Error::Io`] if a commit could not be made durable. What was committed stays.
pub(crate) async fn expire(
    store: &Arc<Inner>,
    retention: &Retention,
    now_us: i64,
    expiry: Expiry,
) -> Result<RetentionReport> {
    // A flush in between could bring points to a day whose series go.
    let _between_flushes = store.flushing.lock().await;
    let tables: LiveFiles =
        store.state().tables().map(|(name, snapshot)| (name.clone(), snapshot.files.clone())).collect();
    let (now, plans) = plan_tables(&tables, retention, now_us);
    let mut counted = Vec::new();
    for plan in plans {
        if store.stopping.load(Ordering::Relaxed) {
            return Err(Error::Closing);
        }
        let Some(committer) = store.committer(&plan.table) else { continue };
        let mut log = committer.lock().await;
        let files = plan.expired(log.settle().await?.files.iter());
        let days = plan.count(&files);
        if let (Expiry::Apply, Some(first), false) = (expiry, plan.first_kept_day, files.is_empty()) {
            let rule = plan.rule(first);
            let committed = log.expire(&files, &rule).await?;
            store.state_mut().publish(&plan.table, committed);
            store.metrics.expired(&days);
            tracing::info!(
                table = plan.table,
                days = days.day_count,
                files = days.file_count,
                rows = days.row_count,
                size_bytes = days.size_bytes,
                rule = rule.setting,
                predicate = rule.predicate,
                "expired"
            );
        }
        counted.push(days);
    }
    Ok(report(now, counted))
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
mod tests;
