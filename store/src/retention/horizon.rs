//! From which day on each rule of a table keeps its rows.

use super::{
    metric_rule::{MetricRanges, MetricRule},
    plan::Now,
    policy::{Keep, Retention},
};
use crate::{
    live_file::{LiveFile, date_text},
    retention::ExpiryRule,
    state::WalTable,
};

/// First kept days of one table; `None`: nothing goes.
#[derive(Debug, Clone)]
pub(super) struct Horizon {
    /// Of rows without a rule.
    pub(super) own: Option<i32>,
    /// Of the metrics of each rule; empty for a table whose rows have no metric of their own.
    rules: Vec<Option<i32>>,
}

/// What one table's share of a pass is.
#[derive(Debug, Clone)]
pub(super) struct TablePlan {
    pub(super) table: String,
    setting: &'static str,
    pub(super) keep: Keep,
    pub(super) horizon: Horizon,
}

impl Horizon {
    /// Whether the rows of `rule` on `day` are too old.
    pub(super) fn is_over(&self, rule: Option<usize>, day: i32) -> bool {
        let first_kept = rule.map_or(self.own, |rule| self.rules.get(rule).copied().flatten());
        first_kept.is_some_and(|first_kept| day < first_kept)
    }

    /// Days before this one go whole, whatever metrics they hold.
    pub(super) fn first_day(&self) -> Option<i32> {
        // As long as one of them keeps everything, there is none.
        self.rules.iter().copied().chain([self.own]).collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    /// Whether some rows on `day` are too old and others are not, as far as rules go.
    pub(super) fn is_partly_over(&self, day: i32) -> bool {
        let last = self.rules.iter().copied().chain([self.own]).flatten().max();
        last.is_some_and(|last| day < last) && self.first_day().is_none_or(|first| day >= first)
    }

    /// Whether rows of `file` may be too old, by the range of its metrics.
    pub(super) fn may_be_over(&self, file: &LiveFile, ranges: &MetricRanges) -> bool {
        ranges.rules_within(file.keys.metric.as_ref()).any(|rule| self.is_over(rule, file.date))
    }
}

impl TablePlan {
    pub(super) fn new(table: &str, retention: &Retention, now: Now) -> Self {
        let (setting, keep) = retention.of_table(table);
        let has_metrics = METRIC_TABLES.iter().any(|known| known.name() == table);
        let rules = if has_metrics { retention.metrics.as_slice() } else { &[] };
        let rules = rules.iter().map(|rule| now.first_kept_day(rule.keep)).collect();
        let horizon = Horizon { own: now.first_kept_day(keep), rules };
        Self { table: table.to_owned(), setting, keep, horizon }
    }

    /// What a commit that removes whole days says of them.
    pub(super) fn days_rule(&self, first_kept_day: i32) -> ExpiryRule {
        ExpiryRule { setting: self.own_setting(), predicate: format!("date < '{}'", date_text(first_kept_day)) }
    }

    fn own_setting(&self) -> String {
        format!("store.retention.{} = \"{}\"", self.setting, self.keep)
    }

    /// What a commit that removes the rows of some `rules` on `day` says of them.
    pub(super) fn rows_rule(
        &self,
        rules: &[MetricRule],
        gone: impl Iterator<Item = Option<usize>>,
        day: i32,
    ) -> ExpiryRule {
        let any = |rules: &[MetricRule]| rules.iter().map(MetricRule::predicate).collect::<Vec<_>>().join(" OR ");
        let (mut settings, mut predicates) = (Vec::new(), Vec::new());
        for rule in gone {
            let Some(rule) = rule.and_then(|at| rules.get(at)) else {
                settings.push(self.own_setting());
                predicates.push(format!("NOT ({})", any(rules)));
                continue;
            };
            settings.push(format!("store.retention.metric {:?} = \"{}\"", rule.pattern, rule.keep));
            predicates.push(rule.predicate());
        }
        let predicate = format!("date = '{}' AND ({})", date_text(day), predicates.join(" OR "));
        ExpiryRule { setting: settings.join(", "), predicate }
    }
}

/// Tables whose rows have a metric, in the order in which these go: what names the points last.
pub(super) const METRIC_TABLES: [WalTable; 3] = [WalTable::Samples, WalTable::Histograms, WalTable::Series];
