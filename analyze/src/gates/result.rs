//! What came of each rule, and of the batch.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::rule::{Dimension, Severity};
use super::scan::Sample;

/// What came of a rule, or of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The data is as the rule says.
    Pass,
    /// There was nothing to decide on: no values, no past batches, or a kind of rule that is not evaluated.
    Skipped,
    /// The rule is broken, and its severity is a warning.
    Warn,
    /// The rule could not be evaluated although there is data: a wrong column or type, or more keys than fit.
    Error,
    /// The rule is broken.
    Fail,
}

impl Status {
    /// The name in tables and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Skipped => "skipped",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fail => "fail",
        }
    }

    /// Whether somebody has to look at it: a warning, a failure, or what could not be decided although there is data.
    pub fn is_broken(self) -> bool {
        matches!(self, Self::Warn | Self::Error | Self::Fail)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What came of one rule.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleResult {
    /// The rule's name in its table.
    pub rule_id: String,
    /// Kind of the rule, such as `missingValues`.
    pub metric: &'static str,
    /// The column; `None` for the table as a whole.
    pub column: Option<String>,
    /// What came of it.
    pub status: Status,
    /// What a broken rule does to the batch.
    pub severity: Severity,
    /// Dimension of data quality.
    pub dimension: Option<Dimension>,
    /// What the rule asks for, for people.
    pub expected: String,
    /// What was found, for people; `unknown` if the rule was not evaluated.
    pub observed: String,
    /// The number that was compared, in the unit of the rule; `None` if there is none.
    pub value: Option<f64>,
    /// Rows that the rule looked at.
    pub rows_checked: u64,
    /// Rows that broke it; `None` if it is not about single rows, or not known.
    pub rows_failed: Option<u64>,
    /// The first of those rows.
    pub samples: Vec<Sample>,
    /// Why it was skipped or is an error, and what to do; the author's words on a broken rule.
    pub reason: Option<String>,
}

impl RuleResult {
    /// What is wrong, in a line for people: what was found, what is expected, why, and the first five of the rows.
    pub(crate) fn finding(&self) -> String {
        let mut text = format!("{}: {}", self.rule_id, self.observed);
        if self.status != Status::Error {
            text += &format!("; expected {}", self.expected);
        }
        if let Some(reason) = &self.reason {
            text += &format!(" ({reason})");
        }
        if !self.samples.is_empty() {
            text += &format!("; first rows {}", self.sample_rows(5));
        }
        text
    }

    /// The first `count` sample rows, with what is shown of their keys: `0, 20 (c…1 (13 characters)), 40`. Of a short key nothing
    /// is shown.
    pub fn sample_rows(&self, count: usize) -> String {
        let row = |sample: &Sample| match sample.key.as_ref().filter(|key| !key.starts_with('…')) {
            Some(key) => format!("{} ({key})", sample.row),
            None => sample.row.to_string(),
        };
        self.samples.iter().take(count).map(row).collect::<Vec<_>>().join(", ")
    }
}

/// What came of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// `Fail` if a rule failed, else `Error` if one could not be evaluated, else `Warn`, else `Pass`; `Skipped` if there
    /// is no rule that was evaluated.
    pub status: Status,
    /// Number of rules that passed.
    pub passed: usize,
    /// Number of rules that warn.
    pub warned: usize,
    /// Number of rules that failed.
    pub failed: usize,
    /// Number of rules that could not be evaluated.
    pub errors: usize,
    /// Number of rules that had nothing to decide on.
    pub skipped: usize,
}

impl Outcome {
    /// Sums up the rules of a batch.
    pub fn of(results: &[RuleResult]) -> Self {
        let count = |status: Status| results.iter().filter(|result| result.status == status).count();
        let worst = [Status::Fail, Status::Error, Status::Warn, Status::Pass].into_iter().find(|s| count(*s) > 0);
        Self {
            status: worst.unwrap_or(Status::Skipped),
            passed: count(Status::Pass),
            warned: count(Status::Warn),
            failed: count(Status::Fail),
            errors: count(Status::Error),
            skipped: count(Status::Skipped),
        }
    }

    /// Whether the data may be used: nothing failed, and every rule that had data could be evaluated.
    pub fn accepts(&self) -> bool {
        matches!(self.status, Status::Pass | Status::Warn)
    }

    /// Exit code for pipelines: 0 accepted, 1 a rule failed, 2 nothing is known for certain (error, or all skipped).
    pub fn exit_code(&self) -> u8 {
        match self.status {
            Status::Pass | Status::Warn => 0,
            Status::Fail => 1,
            Status::Error | Status::Skipped => 2,
        }
    }
}
