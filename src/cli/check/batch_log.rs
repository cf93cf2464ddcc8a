//! The table of checked batches: of a data directory, or of a running server.

use anyhow::Context as _;
use driftwatt_analyze::gates::{BatchName, DatasetRecord, PastBatch, TABLE_EXISTS_SQL, history_sql, past_batches};

use super::{
    super::{
        Source, SourceArgs,
        source::{no_server, refusal},
    },
    args::BatchLogArgs,
};
use crate::answers::record_batch;

/// Where past batches are read and this one is written.
pub(super) struct BatchLog {
    source: Source,
}

impl BatchLog {
    /// The one that the arguments name, if any.
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub(super) async fn open(args: &BatchLogArgs) -> anyhow::Result<Option<Self>> {
        if args.data.is_none() && args.server.is_none() {
            return Ok(None);
        }
        let source = SourceArgs {
            server: args.server.clone().unwrap_or_default(),
            data: args.data.clone(),
            config: args.config.clone(),
        };
        Ok(Some(Self { source: Source::open(&source).await? }))
    }

    /// Past batches that one of this name is compared with, from old to new.
    ///
    /// # Errors
    /// No server, or a table of another version.
    pub(super) async fn past_batches(&self, name: &BatchName, table: &str) -> anyhow::Result<Vec<PastBatch>> {
        let Some(sql) = history_sql(name, table) else { return Ok(Vec::new()) };
        let exists = self.source.answer(TABLE_EXISTS_SQL, "ndjson").await?;
        let exists: serde_json::Value = serde_json::from_str(exists.trim()).context("read the list of tables")?;
        if exists["tables"].as_i64().unwrap_or(0) == 0 {
            return Ok(Vec::new());
        }
        let answer = self.source.answer(&sql, "ndjson").await.context("read past batches")?;
        Ok(past_batches(&answer)?)
    }

    /// Adds a row.
    ///
    /// # Errors
    /// No server, or the table refuses the row.
    pub(super) async fn record(&self, record: &DatasetRecord, now_us: i64) -> anyhow::Result<()> {
        match &self.source {
            Source::Directory(opened) => {
                record_batch(&opened.store, record, now_us).await?;
            }
            Source::Server { url, client } => {
                let path = format!("{url}/api/v1/datasets");
                let sent = client.post(&path).json(record).send().await.with_context(|| no_server(url))?;
                let status = sent.status();
                let text = sent.text().await.with_context(|| format!("read the answer of {path}"))?;
                if !status.is_success() {
                    return Err(refusal(&text, || format!("{path} answered {status}: {text}")));
                }
            }
        }
        Ok(())
    }

    /// Lets a directory go.
    ///
    /// # Errors
    /// It could not be closed.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        self.source.close().await
    }
}
