//! What went, or would go, added up by table and by rule.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    ExpiredDays, ExpiredMetrics, RetentionReport, horizon::TablePlan, metric_rows::FileDrop, metric_rule::MetricRule,
    plan::Now,
};
use crate::live_file::{LiveFile, date_text};

/// Some rows that go.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    days: BTreeSet<i32>,
    pub(super) file_count: u64,
    pub(super) row_count: u64,
    pub(super) size_bytes: u64,
}

impl Tally {
    /// All rows of `files`.
    pub(super) fn of_files(files: &[Arc<LiveFile>]) -> Self {
        let mut tally = Self::default();
        files.iter().for_each(|file| tally.add(file, file.row_count));
        tally
    }

    /// `row_count` rows of `file`, and as large a part of its bytes.
    pub(super) fn add(&mut self, file: &LiveFile, row_count: u64) {
        let share = u128::from(file.size_bytes) * u128::from(row_count) / u128::from(file.row_count.max(1));
        self.days.insert(file.date);
        self.file_count += 1;
        self.row_count += row_count;
        self.size_bytes += u64::try_from(share).unwrap_or(file.size_bytes);
    }

    pub(super) fn day_count(&self) -> u64 {
        self.days.len() as u64
    }
}

/// What a pass removes, or would.
#[derive(Debug, Clone)]
pub(super) struct Tallies {
    rules: Vec<(MetricRule, Tally)>,
    /// Of rows without a rule.
    tables: BTreeMap<String, Tally>,
}

impl Tallies {
    pub(super) fn new(rules: &[MetricRule]) -> Self {
        let rules = rules.iter().map(|rule| (rule.clone(), Tally::default())).collect();
        Self { rules, tables: BTreeMap::new() }
    }

    /// Whole files of a table.
    pub(super) fn add_files(&mut self, table: &str, files: &[Arc<LiveFile>]) {
        let tally = self.tables.entry(table.to_owned()).or_default();
        files.iter().for_each(|file| tally.add(file, file.row_count));
    }

    /// Rows of files of a table.
    pub(super) fn add_rows(&mut self, table: &str, drops: &[FileDrop]) {
        for drop in drops {
            for (rule, row_count) in &drop.over {
                let tally = match rule.and_then(|at| self.rules.get_mut(at)) {
                    Some((_, tally)) => tally,
                    None => self.tables.entry(table.to_owned()).or_default(),
                };
                tally.add(&drop.file, *row_count);
            }
        }
    }

    pub(super) fn report(&self, now: Now, plans: &[TablePlan]) -> RetentionReport {
        let tables = plans.iter().map(|plan| {
            let tally = self.tables.get(&plan.table).cloned().unwrap_or_default();
            ExpiredDays {
                table: plan.table.clone(),
                keep: plan.keep,
                first_kept_day: plan.horizon.own.map(date_text),
                day_count: tally.day_count(),
                file_count: tally.file_count,
                row_count: tally.row_count,
                size_bytes: tally.size_bytes,
            }
        });
        let metrics = self.rules.iter().map(|(rule, tally)| ExpiredMetrics {
            rule: rule.clone(),
            first_kept_day: now.first_kept_day(rule.keep).map(date_text),
            day_count: tally.day_count(),
            file_count: tally.file_count,
            row_count: tally.row_count,
            size_bytes: tally.size_bytes,
        });
        RetentionReport {
            counted_from_us: now.time(),
            clock_held_back: matches!(now, Now::HeldBack(_)),
            tables: tables.collect(),
            metrics: metrics.collect(),
        }
    }
}
