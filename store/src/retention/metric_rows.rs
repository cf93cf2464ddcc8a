//! Rows of metrics that are too old on days of which other metrics are kept.
//!
//! `series` say which metrics a day holds, and they lose a metric last. So a day whose series name nothing too old is done
//! and none of its other files is looked at, also after a restart, and a pass that was cut short, or points that came late,
//! are taken up by the next one. Where names are kept longer than points, files of points are counted, once by a process.
//! A file is rewritten only if rows of it go, so never twice for the same rows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
};

use super::{
    LiveFiles,
    horizon::{METRIC_TABLES, TablePlan},
    metric_rule::{MetricRanges, MetricRule},
    policy::Retention,
    row_counts::{Counts, RowCounts, without_rows},
    tally::{Tallies, Tally},
};
use crate::{
    background::{self, Priority},
    error::{Error, Result},
    live_file::LiveFile,
    parquet_file::NewFile,
    stage::Stage,
    state::WalTable,
    store::Inner,
    table_storage::{TableStorage, Tables},
};

/// A file and those of its rows that go.
#[derive(Debug, Clone)]
pub(super) struct FileDrop {
    pub(super) file: Arc<LiveFile>,
    /// Rows that go, by rule.
    pub(super) over: Counts,
    /// Rows that stay.
    kept: Counts,
}

/// What a pass over metrics goes by.
#[derive(Debug)]
pub(super) struct MetricPass {
    rules: Vec<MetricRule>,
    ranges: MetricRanges,
    plans: Vec<TablePlan>,
    storages: BTreeMap<&'static str, Arc<TableStorage>>,
}

type Days = BTreeMap<i32, Vec<Arc<LiveFile>>>;

impl MetricPass {
    pub(super) fn new(retention: &Retention, plans: &[TablePlan], tables: &Tables) -> Self {
        let plan = |table: WalTable| plans.iter().find(|plan| plan.table == table.name()).cloned();
        Self {
            rules: retention.metrics.clone(),
            ranges: MetricRanges::new(&retention.metrics),
            plans: METRIC_TABLES.into_iter().filter_map(plan).collect(),
            storages: METRIC_TABLES.into_iter().map(|table| (table.name(), tables.table(table.name()))).collect(),
        }
    }

    fn plan(&self, table: WalTable) -> Option<&TablePlan> {
        self.plans.iter().find(|plan| plan.table == table.name())
    }

    /// The days of which something may go and something else may not, oldest first.
    fn days(&self, tables: &LiveFiles) -> BTreeSet<i32> {
        let days = self.plans.iter().flat_map(|plan| {
            let files = tables.get(&plan.table).into_iter().flatten();
            files.map(|file| file.date).filter(|day| plan.horizon.is_partly_over(*day))
        });
        days.collect()
    }

    /// Whether the `series` of a day name a metric that is too old there; without any, the other tables are looked at.
    fn is_due(&self, day: i32, series: &[Arc<LiveFile>], counts: &RowCounts) -> Result<bool> {
        // By the points, whose names may be kept longer than they.
        for plan in &self.plans {
            if series.is_empty() || !self.drops(plan, WalTable::Series, day, series, counts)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Those of `files`, of `table` and all of `day`, with rows that are too old by `plan`. Blocks.
    fn drops(
        &self,
        plan: &TablePlan,
        table: WalTable,
        day: i32,
        files: &[Arc<LiveFile>],
        counts: &RowCounts,
    ) -> Result<Vec<FileDrop>> {
        let mut drops = Vec::new();
        if !plan.horizon.is_partly_over(day) {
            return Ok(drops);
        }
        let Some(storage) = self.storages.get(table.name()) else { return Ok(drops) };
        for file in files.iter().filter(|file| plan.horizon.may_be_over(file, &self.ranges)) {
            let rows = counts.of_file(storage, file, &self.ranges)?;
            let (over, kept): (Counts, Counts) = rows.iter().partition(|(rule, _)| plan.horizon.is_over(**rule, day));
            if !over.is_empty() {
                drops.push(FileDrop { file: Arc::clone(file), over, kept });
            }
        }
        Ok(drops)
    }

    /// Adds to `tallies` what a pass over `tables` would remove. Blocks.
    ///
    /// # Errors
    /// Any failure to read files that have to be counted.
    pub(super) fn count(&self, tables: &LiveFiles, counts: &RowCounts, tallies: &mut Tallies) -> Result<()> {
        counts.begin(&self.rules, tables.values().flatten());
        let by_day = by_day(tables);
        for day in self.days(tables) {
            let files = |table: WalTable| files_on(&by_day, table, day);
            if !self.is_due(day, files(WalTable::Series), counts)? {
                continue;
            }
            for table in METRIC_TABLES {
                let Some(plan) = self.plan(table) else { continue };
                tallies.add_rows(table.name(), &self.drops(plan, table, day, files(table), counts)?);
            }
        }
        Ok(())
    }
}

fn by_day(tables: &LiveFiles) -> BTreeMap<&str, Days> {
    let days = |files: &Vec<Arc<LiveFile>>| {
        let mut days = Days::new();
        files.iter().for_each(|file| days.entry(file.date).or_default().push(Arc::clone(file)));
        days
    };
    tables.iter().map(|(name, files)| (name.as_str(), days(files))).collect()
}

fn files_on<'a>(by_day: &'a BTreeMap<&str, Days>, table: WalTable, day: i32) -> &'a [Arc<LiveFile>] {
    by_day.get(table.name()).and_then(|days| days.get(&day)).map_or(&[], Vec::as_slice)
}

/// As [`MetricPass::count`], of the open store, beside the runtime.
pub(super) async fn count(store: &Arc<Inner>, pass: Arc<MetricPass>, mut tallies: Tallies) -> Result<Tallies> {
    let (tables, store) = (live_tables(store), Arc::clone(store));
    let counted = tokio::task::spawn_blocking(move || {
        pass.count(&tables, &store.row_counts, &mut tallies)?;
        Ok(tallies)
    });
    counted.await.map_err(|error| Error::Task(error.to_string()))?
}

fn live_tables(store: &Inner) -> LiveFiles {
    let state = store.state();
    let of = |table: WalTable| Some((table.name().to_owned(), state.snapshot(table.name())?.files.clone()));
    METRIC_TABLES.into_iter().filter_map(of).collect()
}

/// Rewrites the files that hold what is too old, day by day, points before the series that name them.
///
/// # Errors
/// [`Error::Closing`] when the store closes; the first failure to read, write or commit. Other days are done all the same,
/// and what was committed stays.
pub(super) async fn expire(store: &Arc<Inner>, pass: &Arc<MetricPass>, tallies: &mut Tallies) -> Result<()> {
    // A merge could write rows anew that go, and its files are in no version yet.
    let _no_merge = store.compacting.lock().await;
    let tables = live_tables(store);
    store.row_counts.begin(&pass.rules, tables.values().flatten());
    let mut outcome = Ok(());
    for day in pass.days(&tables) {
        if store.stopping.load(Ordering::Relaxed) {
            return Err(Error::Closing);
        }
        match expire_day(store, pass, day, tallies).await {
            Err(Error::Closing) => return Err(Error::Closing),
            done => outcome = outcome.and(done),
        }
    }
    outcome
}

async fn expire_day(store: &Arc<Inner>, pass: &Arc<MetricPass>, day: i32, tallies: &mut Tallies) -> Result<()> {
    let (task, task_pass) = (Arc::clone(store), Arc::clone(pass));
    let due = move || task_pass.is_due(day, &live_on(&task, WalTable::Series, day), &task.row_counts);
    if !tokio::task::spawn_blocking(due).await.map_err(|error| Error::Task(error.to_string()))?? {
        return Ok(());
    }
    for table in METRIC_TABLES.into_iter().filter(|table| table.holds_points()) {
        expire_rows(store, pass, table, day, tallies).await?;
    }
    // From here on no flush brings points of a metric whose name goes.
    let _between_flushes = store.flushing.lock().await;
    for table in METRIC_TABLES.into_iter().filter(|table| table.holds_points()) {
        let (task, task_pass) = (Arc::clone(store), Arc::clone(pass));
        let left = move || match task_pass.plan(table) {
            Some(plan) => task_pass.drops(plan, table, day, &live_on(&task, table, day), &task.row_counts),
            None => Ok(vec![]),
        };
        let left = tokio::task::spawn_blocking(left).await.map_err(|error| Error::Task(error.to_string()))??;
        if !left.is_empty() {
            tracing::debug!(table = table.name(), day, "points came while others went; their series go the next time");
            return Ok(());
        }
    }
    expire_rows(store, pass, WalTable::Series, day, tallies).await
}

fn live_on(store: &Inner, table: WalTable, day: i32) -> Vec<Arc<LiveFile>> {
    let snapshot = store.state().snapshot(table.name());
    let files = snapshot.iter().flat_map(|snapshot| &snapshot.files);
    files.filter(|file| file.date == day).map(Arc::clone).collect()
}

/// Takes what is too old out of the files of one table and day, by one commit.
async fn expire_rows(
    store: &Arc<Inner>,
    pass: &Arc<MetricPass>,
    table: WalTable,
    day: i32,
    tallies: &mut Tallies,
) -> Result<()> {
    if store.stopping.load(Ordering::Relaxed) {
        return Err(Error::Closing);
    }
    let name = table.name();
    let Some((committer, plan)) = store.committer(name).zip(pass.plan(table)) else { return Ok(()) };
    // What is in doubt after a commit that failed late is settled first, so that the files are those on disk.
    let settled = committer.lock().await.settle().await?;
    store.state_mut().publish(name, settled);
    let (task, task_pass) = (Arc::clone(store), Arc::clone(pass));
    let work = move || Stage::Compaction.run(|| rewrite(&task, &task_pass, table, day));
    // An abandoned task drops its files, which deletes them.
    let (drops, files) = background::run("expire", Priority::Merge, work).await?;
    if drops.is_empty() {
        return Ok(());
    }
    let gone: BTreeSet<_> = drops.iter().flat_map(|drop| drop.over.keys().copied()).collect();
    let rule = plan.rows_rule(&pass.rules, gone.into_iter(), day);
    let removed: Vec<_> = drops.iter().map(|drop| Arc::clone(&drop.file)).collect();
    let mut log = committer.lock().await;
    let Some(committed) = log.expire(&removed, files, &rule).await? else {
        tracing::info!(table = name, day, "files with metrics that are too old are gone; they are looked for anew");
        return Ok(());
    };
    store.state_mut().publish(name, committed);
    drop(log);
    tallies.add_rows(name, &drops);
    let mut gone = Tally::default();
    drops.iter().for_each(|part| part.over.values().for_each(|row_count| gone.add(&part.file, *row_count)));
    store.metrics.expired(gone.row_count, gone.size_bytes);
    let (rule, predicate) = (rule.setting, rule.predicate);
    tracing::info!(table = name, files = drops.len(), rows = gone.row_count, rule, predicate, "expired");
    Ok(())
}

/// The files of a table and day with rows that go, and what takes their place.
fn rewrite(store: &Inner, pass: &MetricPass, table: WalTable, day: i32) -> Result<(Vec<FileDrop>, Vec<NewFile>)> {
    let Some(plan) = pass.plan(table) else { return Ok((vec![], vec![])) };
    let Some(storage) = pass.storages.get(table.name()) else { return Ok((vec![], vec![])) };
    let counts = &store.row_counts;
    let drops = pass.drops(plan, table, day, &live_on(store, table, day), counts)?;
    let mut files = Vec::new();
    for drop in drops.iter().filter(|drop| !drop.kept.is_empty()) {
        let over = |rule| plan.horizon.is_over(rule, day);
        let size = store.file_memory.row_group_size_bytes;
        if let Some(new) = without_rows(storage, &drop.file, &pass.ranges, over, size, &store.stopping)? {
            counts.insert(new.file.path.clone(), drop.kept.clone());
            files.push(new);
        }
    }
    Ok((drops, files))
}
