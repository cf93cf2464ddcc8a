//! A checked batch as a row of the table `datasets`, and the past batches that a new one is compared with.
//!
//! Past batches are the usable ones of the same data set, model and table of the contract. Where the names state a period
//! they are those of earlier periods, so that a batch which is checked again later is judged as it was; else those that
//! were checked before.

use std::collections::BTreeMap;

use datafusion::arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    batch_name::BatchName,
    checked::CheckedFile,
    history::{BatchSummary, ColumnSummary, PastBatch},
    result::{Outcome, Status},
};
use crate::{
    error::{Error, Result},
    result_table::ResultTable,
    rows::literal,
};

/// Result table of checked batches.
pub const TABLE: &str = "datasets";

/// Rows of the table that are looked at for past batches, newest first.
const PAST_ROWS_MAX: usize = 1_000;

/// The contract that a batch was checked against.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractTag {
    /// Its `id`; the name of the file for rules of other tools.
    pub id: String,
    /// Its own `version`; none for rules of other tools.
    pub version: Option<String>,
    /// User name or mail address of the owner, who is told about failures.
    pub owner: Option<String>,
}

/// A checked batch, as it is recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetRecord {
    /// The file or folder, as it was named.
    pub file: String,
    /// `rows` or `images`.
    pub kind: String,
    /// Name of the data set in the name of the file.
    pub dataset: Option<String>,
    /// Its period, such as `2024-08`.
    pub period: Option<String>,
    /// Its model.
    pub model: Option<String>,
    /// Digest of the content.
    pub digest: String,
    /// Bytes of its files.
    pub size_bytes: u64,
    /// Rows, or images.
    pub row_count: u64,
    /// Columns with their types.
    pub columns: Vec<ColumnSummary>,
    /// The contract.
    pub contract: ContractTag,
    /// The table of the contract.
    pub table: String,
    /// What came of it.
    pub status: Status,
    /// Number of rules that passed, warned, failed, could not be decided, had nothing to decide on.
    pub rules: [u64; 5],
    /// One for each rule, as in the report.
    pub results: Value,
    /// Digests of the past batches that it was compared with, from old to new.
    pub compared_with: Vec<String>,
    /// Where it is held back.
    pub held_at: Option<String>,
}

impl DatasetRecord {
    /// The record of a checked batch, which is held back at `held_at` if it was moved.
    pub fn new(checked: &CheckedFile, contract: &ContractTag, held_at: Option<String>) -> Self {
        let Outcome { status, passed, warned, failed, errors, skipped } = checked.outcome;
        Self {
            file: checked.file.clone(),
            kind: checked.kind.as_str().to_owned(),
            dataset: checked.name.dataset.clone(),
            period: checked.name.period.map(|period| period.to_string()),
            model: checked.name.model.clone(),
            digest: checked.digest.clone(),
            size_bytes: checked.size_bytes,
            row_count: checked.rows(),
            columns: checked.summary.columns.clone(),
            contract: contract.clone(),
            table: checked.table.clone(),
            status,
            rules: [passed, warned, failed, errors, skipped].map(|count| count as u64),
            results: checked.results_json(),
            compared_with: checked.history.iter().map(|past| past.digest.clone()).collect(),
            held_at,
        }
    }

    /// Its row of the table, recorded at `now_us`.
    ///
    /// # Errors
    /// [`Error::Record`] for a record that no check makes, [`Error::Json`] if a part cannot be written.
    pub fn to_batch(&self, now_us: i64) -> Result<RecordBatch> {
        let refuse = |reason: &str| Err(Error::Record { reason: reason.to_owned() });
        if !["rows", "images"].contains(&self.kind.as_str()) {
            return refuse("kind is neither rows nor images");
        }
        if self.digest.is_empty() || self.table.is_empty() || !self.results.is_array() {
            return refuse("digest, table and results are needed");
        }
        let mut row = ResultTable::new(now_us, 1);
        let count = |value: u64| [i64::try_from(value).ok()];
        row.text("file", &self.file)
            .text("kind", &self.kind)
            .texts("dataset", [self.dataset.clone()])
            .texts("period", [self.period.clone()])
            .texts("model", [self.model.clone()])
            .text("digest", &self.digest)
            .integers("size_bytes", count(self.size_bytes))
            .integers("row_count", count(self.row_count))
            .text("columns", &serde_json::to_string(&self.columns)?)
            .text("contract_id", &self.contract.id)
            .texts("contract_version", [self.contract.version.clone()])
            .texts("contract_owner", [self.contract.owner.clone()])
            .text("contract_table", &self.table)
            .text("status", self.status.as_str())
            .flags("accepted", [matches!(self.status, Status::Pass | Status::Warn)]);
        let names = ["rules_passed", "rules_warned", "rules_failed", "rules_errors", "rules_skipped"];
        for (name, value) in names.into_iter().zip(self.rules) {
            row.integers(name, count(value));
        }
        row.text("results", &self.results.to_string())
            .text("compared_with", &serde_json::to_string(&self.compared_with)?)
            .texts("held_at", [self.held_at.clone()])
            .text("program", concat!("driftwatt ", env!("CARGO_PKG_VERSION")));
        row.finish()
    }
}

/// SQL that says in `tables` whether there is a table of checked batches.
pub const TABLE_EXISTS_SQL: &str = "SELECT count(*) AS tables FROM information_schema.tables \
                                    WHERE table_schema = 'reports' AND table_name = 'datasets'";

/// SQL for the past batches of `name` against `table`, newest first; none where the name names no data set. Its answer is
/// for [`past_batches`].
pub fn history_sql(name: &BatchName, table: &str) -> Option<String> {
    let dataset = literal(name.dataset.as_ref()?);
    let model = name.model.as_ref().map_or("model IS NULL".to_owned(), |model| format!("model = {}", literal(model)));
    Some(format!(
        "SELECT file, period, digest, row_count, columns, CAST(time AS BIGINT) AS time_us FROM reports.datasets \
         WHERE accepted AND dataset = {dataset} AND {model} AND contract_table = {} \
         ORDER BY time DESC LIMIT {PAST_ROWS_MAX}",
        literal(table)
    ))
}

/// One row of the answer to [`history_sql`].
#[derive(Debug, Deserialize)]
struct PastRow {
    file: String,
    period: Option<String>,
    digest: String,
    row_count: u64,
    columns: String,
    time_us: i64,
}

/// The past batches in `answer`, which is that of [`history_sql`] as lines of JSON, from old to new: of each period, or of each
/// content where the names state none, the one that was checked last.
///
/// # Errors
/// [`Error::Json`] if the answer is of another form.
pub fn past_batches(answer: &str, name: &BatchName) -> Result<Vec<PastBatch>> {
    let own_period = name.period.map(|period| period.to_string());
    let mut last: BTreeMap<String, PastRow> = BTreeMap::new();
    for line in answer.lines().filter(|line| !line.trim().is_empty()) {
        let row: PastRow = serde_json::from_str(line)?;
        let key = match (&own_period, &row.period) {
            (Some(own), Some(period)) if period < own => period.clone(),
            (Some(_), _) => continue,
            (None, _) => row.digest.clone(),
        };
        if last.get(&key).is_none_or(|known| known.time_us < row.time_us) {
            last.insert(key, row);
        }
    }
    let mut rows: Vec<PastRow> = last.into_values().collect();
    rows.sort_by(|a, b| (&a.period, a.time_us).cmp(&(&b.period, b.time_us)));
    if own_period.is_none() {
        rows.sort_by_key(|row| row.time_us);
    }
    let past = |row: PastRow| {
        let columns: Vec<ColumnSummary> = serde_json::from_str(&row.columns)?;
        let summary = BatchSummary { rows: row.row_count, columns };
        Ok(PastBatch { name: row.period.unwrap_or(row.file), digest: row.digest, summary })
    };
    rows.into_iter().map(past).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(period: Option<&str>, digest: &str, rows: u64, time_us: i64) -> String {
        let columns = json!([{ "name": "id", "data_type": "Int64", "unit": null, "distinct": 3.0 }]).to_string();
        json!({ "file": "f", "period": period, "digest": digest, "row_count": rows, "columns": columns, "time_us": time_us })
            .to_string()
    }

    #[test]
    fn only_earlier_periods_count_and_of_each_the_last_check() {
        let name = BatchName::parse("train_data_202409_resnet.csv");
        let lines = [
            line(Some("2024-10"), "later", 9, 60),
            line(Some("2024-09"), "same", 9, 50),
            line(Some("2024-08"), "mended", 300, 40),
            line(Some("2024-06"), "checked late", 100, 35),
            line(Some("2024-08"), "first", 1, 30),
            line(Some("2024-07"), "july", 200, 20),
            line(None, "no period", 9, 10),
        ];
        let past = past_batches(&lines.join("\n"), &name).unwrap();
        let seen: Vec<_> = past.iter().map(|past| (past.name.as_str(), past.summary.rows)).collect();
        assert_eq!(seen, [("2024-06", 100), ("2024-07", 200), ("2024-08", 300)]);
        assert_eq!(past[0].summary.columns[0].distinct, Some(3.0));
    }

    #[test]
    fn without_a_period_the_order_is_that_of_the_checks() {
        let name = BatchName::parse("train.csv");
        let lines = [line(None, "b", 2, 20), line(None, "a", 1, 10), line(None, "b", 3, 30)];
        let past = past_batches(&lines.join("\n"), &name).unwrap();
        assert_eq!(past.iter().map(|past| past.summary.rows).collect::<Vec<_>>(), [1, 3]);
        assert!(past_batches("{\"file\":1}", &name).is_err());
        assert!(history_sql(&name, "o'hara").unwrap().contains("'o''hara'"));
        assert_eq!(history_sql(&BatchName::parse("202408_x.csv"), "t"), None);
    }
}
