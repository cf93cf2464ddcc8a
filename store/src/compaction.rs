//! Merging the files of a table: fewer and larger files, and each point once for good. A day of `series` is one file
//! already, by every flush.
//!
//! A merge reads the files of a snapshot and writes new ones without any lock; only its commit takes the committer, for
//! as long as one log entry takes, and it is dropped if one of its files is not live any more.

mod concatenate;
mod plan;
mod rewrite;

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use concatenate::concatenate;
pub use plan::Compaction;
use plan::{Plan, plan, plan_rows};
use rewrite::rewrite;

use crate::{
    background::{self, Priority},
    error::{Error, Result},
    live_file::now_ms,
    retention::expire_and_tidy,
    rows::file_schema,
    stage::Stage,
    store::{Inner, WalTable},
};

/// Longest time until due merges and deletions are looked for again.
const INTERVAL: Duration = Duration::from_secs(60);

/// Time between two looks for what is too old or left behind.
const RETENTION_INTERVAL: Duration = Duration::from_secs(3600);

/// Flushes come in bursts; the store is not held on to while they settle.
const SETTLE: Duration = Duration::from_millis(500);

/// What a compaction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompactionSummary {
    /// Files merged.
    pub files_before: u64,
    /// Files they became.
    pub files_after: u64,
    /// Rows written.
    pub row_count: u64,
    /// Rows dropped because a newer one has the same identity.
    pub duplicate_count: u64,
    /// Bytes of the files merged.
    pub size_bytes_before: u64,
    /// Bytes of the files they became.
    pub size_bytes_after: u64,
}

impl CompactionSummary {
    fn add(&mut self, other: &Self) {
        self.files_before += other.files_before;
        self.files_after += other.files_after;
        self.row_count += other.row_count;
        self.duplicate_count += other.duplicate_count;
        self.size_bytes_before += other.size_bytes_before;
        self.size_bytes_after += other.size_bytes_after;
    }
}

/// What the rows of a table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// Points, of which the newest of each identity stays.
    Points,
    /// Rejections and results, which all stay.
    Plain,
}

/// Merges what is due, or every day fully, in all tables but `series`.
///
/// # Errors
/// [`Error::Closing`] when the store closes meanwhile; any failure to read, write or commit. What was committed stays.
pub(crate) async fn compact(store: &Arc<Inner>, compaction: Compaction) -> Result<CompactionSummary> {
    let _one_at_a_time = store.compacting.lock().await;
    let mut summary = CompactionSummary::default();
    let mut outcome = Ok(());
    let tables: Vec<String> = store.state().tables().map(|(name, _)| name.clone()).collect();
    for name in tables {
        let rows = match WalTable::from_name(&name) {
            Some(WalTable::Series) => continue,
            Some(table) if table.holds_points() => Rows::Points,
            _ => Rows::Plain,
        };
        outcome = outcome.and(compact_table(store, &name, rows, compaction, &mut summary).await);
    }
    outcome.map(|()| summary)
}

async fn compact_table(
    store: &Arc<Inner>,
    table: &str,
    rows: Rows,
    compaction: Compaction,
    summary: &mut CompactionSummary,
) -> Result<()> {
    let unknown = || Error::UnknownTable { name: table.to_owned() };
    let first = store.state().snapshot(table).ok_or_else(unknown)?;
    // What is flushed from now on is left to the next time: otherwise a full merge might never end.
    let newest = first.files.iter().map(|file| file.sequence).max().unwrap_or(0);
    drop(first);
    loop {
        let snapshot = store.state().snapshot(table).ok_or_else(unknown)?;
        let files = snapshot.files.iter().filter(|file| file.sequence <= newest);
        let files: Vec<_> = files.map(Arc::clone).collect();
        let now_us = now_ms().saturating_mul(1000);
        let plans = match rows {
            Rows::Points => plan(&files, now_us, compaction, store.file_memory.fan_in),
            Rows::Plain => plan_rows(&files, now_us, compaction),
        };
        if plans.is_empty() {
            return Ok(());
        }
        let mut outcome = Ok(());
        for plan in plans {
            // A damaged file of one day is no reason to leave the others unmerged.
            match carry_out(store, table, rows, plan).await {
                Ok(merged) => summary.add(&merged),
                Err(Error::Closing) => return Err(Error::Closing),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome?;
    }
}

/// Writes the files of one plan and commits them.
async fn carry_out(store: &Arc<Inner>, table: &str, rows: Rows, plan: Plan) -> Result<CompactionSummary> {
    if store.stopping.load(Ordering::Relaxed) {
        return Err(Error::Closing);
    }
    let started = Instant::now();
    let committer = store.committer(table).ok_or_else(|| Error::UnknownTable { name: table.to_owned() })?;
    let snapshot = store.state().snapshot(table).ok_or_else(|| Error::UnknownTable { name: table.to_owned() })?;
    let (storage, schema) = (Arc::clone(&snapshot.storage), file_schema(&snapshot.schema));
    drop(snapshot);
    let stopping = Arc::clone(&store.stopping);
    let (day, replaced): (i32, Vec<_>) = (plan.day, plan.files().map(Arc::clone).collect());
    // An abandoned task drops its files, which deletes them.
    let size = store.file_memory.row_group_size_bytes;
    let work = move || {
        Stage::Compaction.run(|| match rows {
            Rows::Points => rewrite(&storage, &schema, &plan, size, &stopping),
            Rows::Plain => concatenate(&storage, &schema, &plan, size, &stopping),
        })
    };
    let rewritten = background::run("merge", Priority::Merge, work).await?;
    let summary = CompactionSummary {
        files_before: replaced.len() as u64,
        files_after: rewritten.files.len() as u64,
        row_count: rewritten.row_count,
        duplicate_count: rewritten.duplicate_count,
        size_bytes_before: replaced.iter().map(|file| file.size_bytes).sum(),
        size_bytes_after: rewritten.files.iter().map(|new| new.file.size_bytes).sum(),
    };
    let mut log = committer.lock().await;
    // After a commit that failed late the plan may be of a version that is gone; the next one is of this.
    let settled = log.settle().await?;
    store.state_mut().publish(table, settled);
    let Some(committed) = log.rewrite(rewritten.files, &replaced).await? else {
        tracing::info!(table, day, "files of a merge are gone; it is planned anew");
        return Ok(CompactionSummary::default());
    };
    store.state_mut().publish(table, committed);
    drop(log);
    store.metrics.compacted(&summary, started.elapsed());
    tracing::debug!(table, day, ?summary, "merged");
    Ok(summary)
}

/// Merges after flushes and from time to time, deletes replaced files when their grace is over, and soon after the start
/// and every hour what is too old to keep or was left behind. Ends when the store is gone or closes.
pub(crate) async fn compact_when_due(store: Weak<Inner>, wanted: Arc<Notify>) {
    let mut tidied: Option<Instant> = None;
    loop {
        // Woken or not: both mean to look.
        let _woken = tokio::time::timeout(INTERVAL, wanted.notified()).await.is_ok();
        tokio::time::sleep(SETTLE).await;
        let Some(store) = store.upgrade() else { return };
        // First: what goes need not be merged.
        if tidied.is_none_or(|at| at.elapsed() >= RETENTION_INTERVAL) {
            expire_and_tidy(&store, &store.config.retention).await;
            tidied = Some(Instant::now());
        }
        match compact(&store, Compaction::Due).await {
            Ok(_) => {}
            Err(Error::Closing) => return,
            Err(error) => {
                tracing::error!(%error, "compaction failed; the files stay as they are and it is tried again")
            }
        }
        for committer in store.all_committers() {
            committer.lock().await.delete_replaced().await;
        }
    }
}
