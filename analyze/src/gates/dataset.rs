//! A checked batch as a row of the table `datasets`, and the past batches that a new one is compared with.
//!
//! Past batches are the usable ones of the same data set, model and table of the contract; a released one is usable. Where the names state a period
//! they are those of earlier periods, so that a batch which is checked again later is judged as it was; else those that
//! were checked before.

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

/// Past batches that are read, newest first: more than are compared with, for those of the same content are left out.
const PAST_ROWS_MAX: usize = 32;

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
    /// `rows`, `images` or `points`.
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
    /// Rows, images or points.
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
    /// Why it may be used although its rules are broken, in the words of whoever released it.
    #[serde(default)]
    pub release_reason: Option<String>,
    /// When the check by hand began, UTC microseconds, for the table `runs`; no column of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_us: Option<i64>,
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
            release_reason: None,
            started_us: None,
        }
    }

    /// What was asked, for the table `runs`: with the file of this digest and the contract of this version it is asked again.
    pub fn parameters(&self) -> Value {
        serde_json::json!({
            "job": "check", "file": self.file, "digest": self.digest, "size_bytes": self.size_bytes, "contract": self.contract,
            "table": self.table, "compared_with": self.compared_with, "moved_to": self.held_at,
        })
    }

    /// What came of it, in a line.
    pub fn summary(&self) -> String {
        let name =
            self.file.trim_end_matches('/').rsplit('/').next().unwrap_or(&self.file).replace(char::is_control, " ");
        let moved = self.held_at.as_ref().map_or_else(String::new, |place| format!(", moved to {place}"));
        format!("check of {name}: {}, {} {}{moved}", self.status.as_str(), self.row_count, self.kind)
    }

    /// The same batch, held back no longer: somebody said that it may be used, and why.
    pub fn released(self, reason: &str) -> Self {
        Self { held_at: None, release_reason: Some(reason.to_owned()), ..self }
    }

    /// Whether the batch may be used.
    fn is_accepted(&self) -> bool {
        matches!(self.status, Status::Pass | Status::Warn) || self.release_reason.is_some()
    }

    /// Its row of the table, recorded at `now_us`.
    ///
    /// # Errors
    /// [`Error::Record`] for a record that no check makes, [`Error::Json`] if a part cannot be written.
    pub fn to_batch(&self, now_us: i64) -> Result<RecordBatch> {
        let refuse = |reason: &str| Err(Error::Record { reason: reason.to_owned() });
        if !["rows", "images", "points"].contains(&self.kind.as_str()) {
            return refuse("kind is neither rows, images nor points");
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
            .flags("accepted", [self.is_accepted()]);
        let names = ["rules_passed", "rules_warned", "rules_failed", "rules_errors", "rules_skipped"];
        for (name, value) in names.into_iter().zip(self.rules) {
            row.integers(name, count(value));
        }
        row.text("results", &self.results.to_string())
            .text("compared_with", &serde_json::to_string(&self.compared_with)?)
            .texts("held_at", [self.held_at.clone()])
            .texts("release_reason", [self.release_reason.clone()])
            .text("program", concat!("driftwatt ", env!("CARGO_PKG_VERSION")));
        row.finish()
    }
}

/// SQL that says in `tables` whether there is a table of checked batches.
pub const TABLE_EXISTS_SQL: &str = "SELECT count(*) AS tables FROM information_schema.tables \
                                    WHERE table_schema = 'reports' AND table_name = 'datasets'";

/// SQL for the past batches of `name` against `table`, newest first: of each earlier period, or of each content where the name
/// states no period, the one that was checked last. None where the name names no data set. Its answer is for [`past_batches`].
pub fn history_sql(name: &BatchName, table: &str) -> Option<String> {
    let dataset = literal(name.dataset.as_ref()?);
    let model = name.model.as_ref().map_or("model IS NULL".to_owned(), |model| format!("model = {}", literal(model)));
    let (one_of, earlier, order) = match name.period {
        Some(period) => ("period", format!(" AND period < {}", literal(&period.to_string())), "period DESC"),
        None => ("digest", String::new(), "time_us DESC"),
    };
    // The limit counts batches, not checks: one batch that is checked each minute hides no other.
    Some(format!(
        "SELECT file, period, digest, row_count, columns, time_us FROM \
         (SELECT file, period, digest, row_count, columns, CAST(time AS BIGINT) AS time_us, \
         row_number() OVER (PARTITION BY {one_of} ORDER BY time DESC, digest) AS place FROM reports.datasets \
         WHERE accepted AND dataset = {dataset} AND {model} AND contract_table = {}{earlier}) \
         WHERE place = 1 ORDER BY {order} LIMIT {PAST_ROWS_MAX}",
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
}

/// The past batches in `answer`, which is that of [`history_sql`] as lines of JSON, from old to new.
///
/// # Errors
/// [`Error::Json`] if the answer is of another form.
pub fn past_batches(answer: &str) -> Result<Vec<PastBatch>> {
    let past = |line: &str| {
        let PastRow { file, period, digest, row_count, columns } = serde_json::from_str(line)?;
        let columns: Vec<ColumnSummary> = serde_json::from_str(&columns)?;
        Ok(PastBatch { name: period.unwrap_or(file), digest, summary: BatchSummary { rows: row_count, columns } })
    };
    answer.lines().rev().filter(|line| !line.trim().is_empty()).map(past).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::{
        arrow::json::LineDelimitedWriter,
        catalog::{MemTable, MemorySchemaProvider},
        prelude::SessionContext,
    };
    use serde_json::json;

    use super::*;

    /// A usable batch.
    fn record(name: &str, digest: &str, rows: u64) -> DatasetRecord {
        let parsed = BatchName::parse(name);
        let column = ColumnSummary { name: "id".into(), data_type: "Int64".into(), unit: None, distinct: Some(3.0) };
        DatasetRecord {
            file: name.into(),
            kind: "rows".into(),
            dataset: parsed.dataset.clone(),
            period: parsed.period.map(|period| period.to_string()),
            model: parsed.model.clone(),
            digest: digest.into(),
            size_bytes: 1,
            row_count: rows,
            columns: vec![column],
            contract: ContractTag::default(),
            table: "o'hara".into(),
            status: Status::Pass,
            rules: [1, 0, 0, 0, 0],
            results: json!([]),
            compared_with: vec![],
            held_at: None,
            release_reason: None,
            started_us: None,
        }
    }

    /// Name and rows of the past batches of `name`, with these recorded at these times.
    async fn past(name: &str, records: &[(i64, DatasetRecord)]) -> Vec<(String, u64)> {
        let batches: Vec<RecordBatch> =
            records.iter().map(|(now_us, record)| record.to_batch(*now_us).unwrap()).collect();
        let ctx = SessionContext::new();
        let catalog = ctx.catalog("datafusion").unwrap();
        catalog.register_schema("reports", Arc::new(MemorySchemaProvider::new())).unwrap();
        let table = MemTable::try_new(batches[0].schema(), vec![batches]).unwrap();
        ctx.register_table("reports.datasets", Arc::new(table)).unwrap();
        let sql = history_sql(&BatchName::parse(name), "o'hara").unwrap();
        let found = ctx.sql(&sql).await.unwrap().collect().await.unwrap();
        let mut lines = LineDelimitedWriter::new(Vec::new());
        lines.write_batches(&found.iter().collect::<Vec<_>>()).unwrap();
        lines.finish().unwrap();
        let past = past_batches(std::str::from_utf8(&lines.into_inner()).unwrap()).unwrap();
        assert!(past.iter().all(|past| past.summary.columns[0].distinct == Some(3.0)));
        past.into_iter().map(|past| (past.name, past.summary.rows)).collect()
    }

    #[tokio::test]
    async fn only_earlier_periods_count_and_of_each_the_last_check() {
        let of =
            |period: &str, rows| record(&format!("train_data_{period}_resnet.csv"), &format!("{period} {rows}"), rows);
        let failed = DatasetRecord { status: Status::Fail, ..of("202405", 5) };
        let mut records = vec![
            (60, of("202410", 9)),
            (50, of("202409", 9)),
            (40, of("202408", 300)),
            (35, of("202406", 100)),
            (30, of("202408", 1)),
            (20, of("202407", 200)),
            (15, failed.clone()),
            (10, record("train_data_resnet.csv", "no period", 9)),
            (10, record("other_data_202401_resnet.csv", "other", 9)),
        ];
        // A batch that is checked again and again hides no other.
        records.extend((100..1_200).map(|at| (at, of("202408", 300))));
        let name = "train_data_202409_resnet.csv";
        let expected =
            [("2024-06", 100), ("2024-07", 200), ("2024-08", 300)].map(|(name, rows)| (name.to_owned(), rows));
        assert_eq!(past(name, &records).await, expected);
        // Somebody said that the one with broken rules may be used.
        records.push((70, failed.released("checked by hand")));
        assert_eq!(past(name, &records).await[0], ("2024-05".to_owned(), 5));
    }

    #[tokio::test]
    async fn without_a_period_the_order_is_that_of_the_checks() {
        let of = |digest: &str, rows| record("train.csv", digest, rows);
        let mut records = vec![(20, of("b", 2)), (10, of("a", 1)), (30, of("b", 3))];
        assert_eq!(past("train.csv", &records).await.iter().map(|past| past.1).collect::<Vec<_>>(), [1, 3]);
        records.extend((100..200).map(|at| (at, of(&at.to_string(), at as u64))));
        let rows: Vec<u64> = past("train.csv", &records).await.iter().map(|past| past.1).collect();
        assert_eq!((rows.len(), rows.last()), (PAST_ROWS_MAX, Some(&199)));
        assert!(past_batches("{\"file\":1}").is_err());
        assert_eq!(history_sql(&BatchName::parse("202408_x.csv"), "t"), None);
    }
}
