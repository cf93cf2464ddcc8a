//! What came of a batch, and its report.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{
    batch_name::BatchName,
    history::{BatchSummary, PastBatch},
    result::{Outcome, RuleResult},
    scan::References,
};

/// What a check looks at besides the batch.
#[derive(Debug, Clone, Default)]
pub struct CheckInputs {
    /// The time by which ages are judged.
    pub now: DateTime<Utc>,
    /// Past batches of the same data set, from old to new, see [`super::past_batches`].
    pub history: Vec<PastBatch>,
    /// Columns of other tables, see [`super::read_reference`].
    pub references: References,
}

/// What a batch is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchKind {
    /// Rows of a file.
    Rows,
    /// Images of a folder or a manifest.
    Images,
    /// Points of a metric in the store.
    Points,
}

impl BatchKind {
    /// Its name in tables, and of what is counted.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Images => "images",
            Self::Points => "points",
        }
    }
}

/// What came of a batch.
#[derive(Debug, Clone)]
pub struct CheckedFile {
    /// The file or folder, as it was named.
    pub file: String,
    /// What it is made of.
    pub kind: BatchKind,
    /// Name of the table in the contract.
    pub table: String,
    /// What its content is named by, see `docs/gates.md`.
    pub digest: String,
    /// Bytes of its files.
    pub size_bytes: u64,
    /// Rows or images, and columns with their types.
    pub summary: BatchSummary,
    /// What the name of the file says.
    pub name: BatchName,
    /// The past batches that it was compared with, from old to new.
    pub history: Vec<PastBatch>,
    /// Names of the other tables' columns that were given.
    pub references: Vec<String>,
    /// The first hundred files that are no images, with what is wrong.
    pub damaged: Vec<(String, String)>,
    /// One for each rule, in the order of the contract.
    pub results: Vec<RuleResult>,
    /// Their sum.
    pub outcome: Outcome,
}

impl CheckedFile {
    /// Rows, or images.
    pub fn rows(&self) -> u64 {
        self.summary.rows
    }

    /// Whether the batch may be used.
    pub fn accepts(&self) -> bool {
        self.outcome.accepts()
    }

    /// The rules that are broken or could not be decided, worst first.
    pub fn broken(&self) -> Vec<&RuleResult> {
        let mut broken: Vec<&RuleResult> = self.results.iter().filter(|result| result.status.is_broken()).collect();
        broken.sort_by_key(|result| std::cmp::Reverse(result.status));
        broken
    }

    /// The results as JSON; masked keys, no values of rows.
    pub fn results_json(&self) -> Value {
        let rule = |result: &RuleResult| {
            let samples = result.samples.iter().map(|sample| json!({ "row": sample.row, "key": sample.key }));
            json!({
                "rule": result.rule_id,
                "metric": result.metric,
                "column": result.column,
                "status": result.status.as_str(),
                "expected": result.expected,
                "observed": result.observed,
                "value": result.value,
                "rows_checked": result.rows_checked,
                "rows_failed": result.rows_failed,
                "samples": samples.collect::<Vec<_>>(),
                "reason": result.reason,
            })
        };
        self.results.iter().map(rule).collect()
    }

    /// The report as JSON.
    pub fn to_json(&self) -> Value {
        let Outcome { status, passed, warned, failed, errors, skipped } = self.outcome;
        let past = |past: &PastBatch| json!({ "batch": past.name, "digest": past.digest, "rows": past.summary.rows });
        let damaged = self.damaged.iter().map(|(name, damage)| json!({ "file": name, "damage": damage }));
        json!({
            "file": self.file,
            "kind": self.kind.as_str(),
            "table": self.table,
            "rows": self.rows(),
            "digest": self.digest,
            "size_bytes": self.size_bytes,
            "dataset": self.name.dataset,
            "period": self.name.period.map(|period| period.to_string()),
            "model": self.name.model,
            "name_oddities": self.name.oddities.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "columns": self.summary.columns,
            "compared_with": self.history.iter().map(past).collect::<Vec<_>>(),
            "references": self.references,
            "damaged": damaged.collect::<Vec<_>>(),
            "status": status.as_str(),
            "rules": { "pass": passed, "warn": warned, "fail": failed, "error": errors, "skipped": skipped },
            "results": self.results_json(),
        })
    }
}
