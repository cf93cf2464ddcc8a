//! Points of a metric against a contract, recorded as a batch.

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use datafusion::prelude::SessionContext;
use driftwatt_analyze::{
    drift::Filter,
    gates::{
        BatchName, BatchPlace, CheckInputs, CheckedFile, Contract, ContractTag, DatasetRecord, Notice, PastBatch,
        StreamBatch, TABLE, check_stream, history_sql, past_batches,
    },
};
use serde::{Deserialize, Serialize};

use super::{Answer, Desk, Format, question::span, report_text};

/// What is asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamQuestion {
    /// Metric as it was sent.
    pub(crate) metric: String,
    /// Labels that its series must have: `region=eu`, separated by commas.
    #[serde(default, rename = "where")]
    pub(crate) filter: String,
    /// FROM/TO, UTC.
    pub(crate) window: String,
    /// Text of the contract, ODCS.
    pub(crate) contract: String,
    /// Its name in errors.
    #[serde(default)]
    pub(crate) contract_file: String,
    /// The table of the contract, where it has several.
    #[serde(default)]
    pub(crate) table: Option<String>,
    /// text, json or html.
    #[serde(default)]
    pub(crate) format: Format,
}

/// Checked points, with the contract.
pub(crate) struct CheckedStream {
    pub(crate) checked: CheckedFile,
    pub(crate) contract: ContractTag,
    /// What a person should know of the contract.
    pub(crate) notes: Vec<String>,
    now_us: i64,
}

impl CheckedStream {
    /// What its owner is told.
    pub(crate) fn notice(&self) -> Notice<'_> {
        Notice { checked: &self.checked, contract: &self.contract, place: &BatchPlace::Stored, now_us: self.now_us }
    }

    /// What came of it, in a line.
    pub(crate) fn summary(&self, metric: &str) -> String {
        format!("check of {metric}: {}, {} points", self.checked.outcome.status.as_str(), self.checked.rows())
    }

    /// The report; the verdict is the status.
    pub(crate) fn answer(&self, format: Format) -> anyhow::Result<Answer> {
        let text = match format {
            Format::Text => report_text(&self.checked),
            Format::Json => self.checked.to_json().to_string(),
            Format::Html => self.checked.to_page(&self.contract, &BatchPlace::Stored, self.now_us).to_html(),
            _ => bail!("the report of a check is written as text, json or html"),
        };
        Ok(Answer { text, verdict: Some(self.checked.outcome.status.as_str().to_owned()) })
    }
}

impl Desk<'_> {
    /// Checks the points and, where results are recorded, records the batch.
    ///
    /// # Errors
    /// A contract or a window that cannot be read, a failed query.
    pub(crate) async fn check_stream(&self, question: &StreamQuestion) -> anyhow::Result<CheckedStream> {
        if !matches!(question.format, Format::Text | Format::Json | Format::Html) {
            bail!("the report of a check is written as text, json or html");
        }
        let contract = Contract::from_odcs(&question.contract_file, &question.contract)?;
        let table = contract.table(question.table.as_deref())?.clone();
        let filters = question.filter.split(',').filter(|filter| !filter.is_empty());
        let batch = StreamBatch {
            metric: question.metric.clone(),
            filters: filters.map(Filter::parse).collect::<Result<_, _>>()?,
            window: span(&question.window)?,
        };
        let now: DateTime<Utc> = DateTime::from_timestamp_micros(self.now_us).context("the clock is out of range")?;
        let inputs = CheckInputs {
            now,
            history: past_batches_of(self.session, &batch.name(), &table.name).await?,
            ..CheckInputs::default()
        };
        let checked = check_stream(self.session, &batch, &table, &inputs).await?;
        let notes = contract.notes.iter().map(|note| format!("{}: {}", note.place, note.text)).collect();
        let Contract { id, version, owner, .. } = contract;
        let contract = ContractTag { id, version: Some(version), owner };
        if let Some(store) = self.store {
            let record = DatasetRecord::new(&checked, &contract, None);
            let recorded = store.write_result(TABLE, record.to_batch(self.now_us)?).await;
            recorded.context("the points were checked, and not recorded")?;
        }
        Ok(CheckedStream { checked, contract, notes, now_us: self.now_us })
    }
}

/// Past batches that one of this name, against this table of a contract, is compared with, from old to new.
///
/// # Errors
/// A table of another version, a failed query.
pub(crate) async fn past_batches_of(
    session: &SessionContext,
    name: &BatchName,
    table: &str,
) -> anyhow::Result<Vec<PastBatch>> {
    let exists = session.table_exist(format!("reports.{TABLE}")).unwrap_or(false);
    let Some(sql) = history_sql(name, table).filter(|_| exists) else { return Ok(Vec::new()) };
    let config = driftwatt_query::Config::default();
    let answer = driftwatt_query::answer(session, &config, &sql, "ndjson").await.context("read past batches")?;
    Ok(past_batches(&answer)?)
}
