//! Which files of a table to merge next. Pure: live files and a clock in, merges out.
//!
//! A *run* is what one flush or merge made of one day: one file, or the parts that a large one was split into. The runs of
//! a day are in the order of their sequences, and only neighbours are merged, so a higher sequence stays the newer one.

use std::sync::Arc;

use crate::{live_file::LiveFile, memtable::DAY_US};

/// Neighbours of one level that are merged without waiting for a window to fill, or as many as are merged at once.
const RUNS_PER_WINDOW: usize = 16;
/// Time after which a window is full.
const WINDOW_US: i64 = 2 * 3_600_000_000;
/// A window that is large already gains nothing from being merged before its day is over.
const LARGE_RUN_BYTES: u64 = 128 << 20;
/// A day is over this long after its end.
const CLOSED_AFTER_US: i64 = 3_600_000_000;
/// A day that is over is merged when it has had no new file for this long, so that a backlog is merged once.
const QUIET_MS: i64 = 600_000;
/// Late files join their merged day when there are several, when they are a good part of it, or when they are this old.
const LATE_RUNS: usize = 8;
const LATE_SHARE: u64 = 4;
const LATE_MS: i64 = 6 * 3_600_000;

/// The file or the parts of one sequence, in key order.
type Run = Vec<Arc<LiveFile>>;

/// One merge.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) day: i32,
    /// Oldest first.
    pub(super) runs: Vec<Run>,
    pub(super) level: u8,
    pub(super) sequence: u64,
    /// Whether rows may still repeat rows of files that are older than all of these.
    pub(super) repeats: bool,
    pub(super) repeated_times: Option<(i64, i64)>,
}

/// What is to be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compaction {
    /// What has become due, as the background task does.
    Due,
    /// Every day into one run.
    Full,
}

impl Plan {
    pub(super) fn files(&self) -> impl Iterator<Item = &Arc<LiveFile>> {
        self.runs.iter().flatten()
    }

    /// Merges `runs`, which are neighbours; `oldest` if no run of the day is before them.
    fn new(runs: &[Run], level: u8, oldest: bool) -> Self {
        let day = runs.first().and_then(|run| run.first()).map_or(0, |file| file.date);
        let suspects = || runs.iter().flatten().filter(|file| file.repeats);
        // Unknown for one is unknown for all.
        let times: Option<Vec<_>> = suspects().map(|file| file.repeated_times).collect();
        let repeats = !oldest && suspects().next().is_some();
        let times = times.and_then(|times| times.into_iter().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))));
        Self {
            day,
            sequence: runs.iter().flatten().map(|file| file.sequence).max().unwrap_or(0),
            runs: runs.to_vec(),
            level,
            repeats,
            repeated_times: times.filter(|_| repeats),
        }
    }
}

/// Merges of at most `fan_in` runs to do now at `now_us`, no file in two of them, oldest day first. After them there may be
/// more.
pub(super) fn plan(files: &[Arc<LiveFile>], now_us: i64, compaction: Compaction, fan_in: usize) -> Vec<Plan> {
    let mut files: Vec<_> = files.iter().map(Arc::clone).collect();
    files.sort_by(|a, b| (a.date, a.age_order()).cmp(&(b.date, b.age_order())));
    files.chunk_by(|a, b| a.date == b.date).flat_map(|day| plan_day(&runs(day), now_us, compaction, fan_in)).collect()
}

/// As [`plan`], for a table whose rows have no identity: only whole days, each at once, as its files are read one after
/// the other.
pub(super) fn plan_rows(files: &[Arc<LiveFile>], now_us: i64, compaction: Compaction) -> Vec<Plan> {
    let mut plans = plan(files, now_us, compaction, usize::MAX);
    plans.retain(|plan| compaction == Compaction::Full || plan.level == 2);
    plans
}

fn runs(day: &[Arc<LiveFile>]) -> Vec<Run> {
    let parts = |a: &Arc<LiveFile>, b: &Arc<LiveFile>| a.sequence == b.sequence && a.sequence != 0;
    let runs = day.chunk_by(parts).map(|run| {
        let mut run = run.to_vec();
        // Parts are split between series, so this order is that of their keys.
        let first_key = |file: &LiveFile| {
            let (low, high) = file.keys.metric.clone().unwrap_or_default();
            (low, high, file.keys.series_id.map_or(0, |ids| ids.0))
        };
        run.sort_by_cached_key(|file| first_key(file));
        run
    });
    runs.collect()
}

fn plan_day(runs: &[Run], now_us: i64, compaction: Compaction, fan_in: usize) -> Vec<Plan> {
    let Some(day) = runs.first().and_then(|run| run.first()).map(|file| file.date) else { return vec![] };
    let closed = now_us >= (i64::from(day) + 1) * DAY_US + CLOSED_AFTER_US;
    let whole = compaction == Compaction::Full || (closed && day_is_due(runs, now_us / 1000));
    if runs.len() < 2 {
        return vec![];
    }
    if whole { merge_all(runs, if closed { 2 } else { 1 }, fan_in) } else { merge_windows(runs, fan_in) }
}

/// Whether a day that is over should become one run.
fn day_is_due(runs: &[Run], now_ms: i64) -> bool {
    let added = |runs: &[Run]| runs.iter().flatten().map(|file| file.added_ms).collect::<Vec<_>>();
    let quiet = added(runs).into_iter().max().is_some_and(|newest| now_ms - newest >= QUIET_MS);
    let base_count = runs.iter().take_while(|run| run[0].level == 2).count();
    let (base, late) = runs.split_at(base_count);
    if base.is_empty() || late.is_empty() {
        return quiet && base.is_empty();
    }
    let old = added(late).into_iter().min().is_some_and(|oldest| now_ms - oldest >= LATE_MS);
    let large = size_bytes(late) * LATE_SHARE >= size_bytes(base);
    quiet && (old || large || late.len() >= LATE_RUNS)
}

fn size_bytes(runs: &[Run]) -> u64 {
    runs.iter().flatten().map(|file| file.size_bytes).sum()
}

/// One merge, or several of equal width that leave few enough runs for the next round.
fn merge_all(runs: &[Run], level: u8, fan_in: usize) -> Vec<Plan> {
    if runs.len() <= fan_in {
        return vec![Plan::new(runs, level, true)];
    }
    let width = runs.len().div_ceil(runs.len().div_ceil(fan_in));
    let parts = runs.chunks(width).enumerate().filter(|(_, part)| part.len() > 1);
    parts.map(|(index, part)| Plan::new(part, 1, index == 0)).collect()
}

/// Neighbours of one level that fill a window.
fn merge_windows(runs: &[Run], fan_in: usize) -> Vec<Plan> {
    let mergeable = |run: &Run| match run[0].level {
        0 => Some(0),
        1 if size_bytes(std::slice::from_ref(run)) < LARGE_RUN_BYTES => Some(1),
        _ => None,
    };
    let alike = |a: &Run, b: &Run| mergeable(a).is_some() && mergeable(a) == mergeable(b);
    let mut plans = Vec::new();
    let mut before = 0;
    for window in runs.chunk_by(alike).flat_map(|neighbours| neighbours.chunks(fan_in)) {
        if mergeable(&window[0]).is_some() && window_is_full(window, fan_in) {
            plans.push(Plan::new(window, 1, before == 0));
        }
        before += window.len();
    }
    plans
}

fn window_is_full(window: &[Run], fan_in: usize) -> bool {
    if window.len() >= RUNS_PER_WINDOW.min(fan_in) {
        return true;
    }
    // By the newest point of each run: a late point must not make every two flushes a window.
    let newest = window.iter().filter_map(|run| run.iter().filter_map(|file| file.keys.time).map(|time| time.1).max());
    let newest: Vec<_> = newest.collect();
    let spread = newest.iter().max().zip(newest.iter().min()).map_or(0, |(last, first)| last - first);
    window.len() > 1 && window[0][0].level == 0 && spread >= WINDOW_US
}

#[cfg(test)]
mod tests;
