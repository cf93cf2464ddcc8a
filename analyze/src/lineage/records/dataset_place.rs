//! Table `dataset_places`: data at a known content, once for each place that names it.

use datafusion::{arrow::array::RecordBatch, prelude::SessionContext};

use crate::{
    error::Result,
    lineage::open_lineage::{Dataset, RunEvent},
    result_table::ResultTable,
    rows::{Rows, has_result, literal},
    window::time_literal,
};

/// Data sets of one answer.
const ROWS_MAX: usize = 1_000;

/// What the data was to the run that named it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It was read.
    Input,
    /// It was written.
    Output,
}

/// Data at a content, as one place names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetPlace {
    /// When it was read or named.
    pub time_us: i64,
    /// `dvc` or `open_lineage`.
    pub source: String,
    /// What it was to the run; null for a file that no run names.
    pub side: Option<Side>,
    /// Name or path.
    pub name: String,
    /// Namespace of OpenLineage, or the DVC file.
    pub namespace: String,
    /// Digest with its algorithm, or the version that the source gives; null where there is neither.
    pub digest: Option<String>,
    /// Bytes.
    pub size_bytes: Option<u64>,
    /// Rows; null for files.
    pub row_count: Option<u64>,
    /// Files; null unless it is a folder that says so.
    pub file_count: Option<u64>,
    /// Commit of the work tree, or of the code of the run; null where neither is known.
    pub commit_id: Option<String>,
    /// Run that read or wrote it; null for a file that no run names.
    pub run_id: Option<String>,
    /// Job of that run, with its namespace.
    pub job: Option<String>,
}

impl Side {
    fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

impl DatasetPlace {
    /// The result table.
    pub const TABLE: &str = "dataset_places";
    /// Source of what DVC files name.
    pub const DVC: &str = "dvc";

    /// The rows of the data that an OpenLineage event names, inputs first.
    pub fn of_event(event: &RunEvent) -> Vec<Self> {
        let row = |side: Side, dataset: &Dataset| Self {
            time_us: event.time_us,
            source: "open_lineage".to_owned(),
            side: Some(side),
            name: dataset.name.clone(),
            namespace: dataset.namespace.clone(),
            digest: dataset.version.clone(),
            size_bytes: dataset.size_bytes,
            row_count: dataset.row_count,
            file_count: None,
            commit_id: event.code_version.clone(),
            run_id: Some(event.run_id.clone()),
            job: Some(format!("{}/{}", event.job_namespace, event.job_name)),
        };
        let inputs = event.inputs.iter().map(|dataset| row(Side::Input, dataset));
        inputs.chain(event.outputs.iter().map(|dataset| row(Side::Output, dataset))).collect()
    }

    /// The rows of the table.
    ///
    /// # Errors
    /// None in practice: the columns are of equal length.
    pub fn to_batch(records: &[Self]) -> Result<RecordBatch> {
        let rows = || records.iter();
        let count = |of: Option<u64>| of.and_then(|count| i64::try_from(count).ok());
        let mut table = ResultTable::at(rows().map(|row| row.time_us).collect());
        table
            .texts("source", rows().map(|row| Some(row.source.clone())))
            .texts("side", rows().map(|row| row.side.map(|side| side.as_str().to_owned())))
            .texts("name", rows().map(|row| Some(row.name.clone())))
            .texts("namespace", rows().map(|row| Some(row.namespace.clone())))
            .texts("digest", rows().map(|row| row.digest.clone()))
            .integers("size_bytes", rows().map(|row| count(row.size_bytes)))
            .integers("row_count", rows().map(|row| count(row.row_count)))
            .integers("file_count", rows().map(|row| count(row.file_count)))
            .texts("commit_id", rows().map(|row| row.commit_id.clone()))
            .texts("run_id", rows().map(|row| row.run_id.clone()))
            .texts("job", rows().map(|row| row.job.clone()));
        table.finish()
    }

    /// What the runs `run_ids` read and wrote up to `until_us`: the last that was said of each, by side, namespace and name.
    ///
    /// # Errors
    /// Those of the query.
    pub async fn of_runs(ctx: &SessionContext, run_ids: &[String], until_us: i64) -> Result<Vec<Self>> {
        let ids: Vec<String> = run_ids.iter().map(|id| literal(id)).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        Self::query(ctx, &format!("run_id IN ({})", ids.join(", ")), until_us).await
    }

    /// Data that runs wrote under `name` at `version` up to `until_us`: in OpenLineage a model is an output with a version.
    ///
    /// # Errors
    /// Those of the query.
    pub async fn written_as(ctx: &SessionContext, name: &str, version: &str, until_us: i64) -> Result<Vec<Self>> {
        let condition = format!("side = 'output' AND name = {} AND digest = {}", literal(name), literal(version));
        Self::query(ctx, &condition, until_us).await
    }

    /// Every place up to `until_us` that names data of one of the contents `digests`.
    ///
    /// # Errors
    /// Those of the query.
    pub async fn of_digests(ctx: &SessionContext, digests: &[String], until_us: i64) -> Result<Vec<Self>> {
        let digests: Vec<String> = digests.iter().map(|digest| literal(digest)).collect();
        if digests.is_empty() {
            return Ok(Vec::new());
        }
        Self::query(ctx, &format!("digest IN ({})", digests.join(", ")), until_us).await
    }

    /// What the DVC files of a work tree at `commit_id` named up to `until_us`.
    ///
    /// # Errors
    /// Those of the query.
    pub async fn of_commit(ctx: &SessionContext, commit_id: &str, until_us: i64) -> Result<Vec<Self>> {
        let condition = format!("source = '{}' AND commit_id = {}", Self::DVC, literal(commit_id));
        Self::query(ctx, &condition, until_us).await
    }

    async fn query(ctx: &SessionContext, condition: &str, until_us: i64) -> Result<Vec<Self>> {
        if !has_result(ctx, Self::TABLE) {
            return Ok(Vec::new());
        }
        // An event without a version takes back none that another event of the run gave.
        let query = format!(
            "SELECT source, side, namespace, name, digest, run_id, job, max(time) AS time, max(size_bytes) AS size_bytes, \
             max(row_count) AS row_count, max(file_count) AS file_count, max(commit_id) AS commit_id FROM reports.{} \
             WHERE {condition} AND time <= {} GROUP BY source, side, namespace, name, digest, run_id, job \
             ORDER BY side, namespace, name, digest, time LIMIT {ROWS_MAX}",
            Self::TABLE,
            time_literal(until_us)
        );
        let rows = Rows::query(ctx, &query).await?;
        let text = |name: &str| rows.texts(name);
        let (source, side, namespace, name) = (text("source")?, text("side")?, text("namespace")?, text("name")?);
        let (digest, run_id, job, commit) = (text("digest")?, text("run_id")?, text("job")?, text("commit_id")?);
        let (time, size) = (rows.integers("time")?, rows.integers("size_bytes")?);
        let (row_count, file_count) = (rows.integers("row_count")?, rows.integers("file_count")?);
        let count = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        Ok((0..rows.len())
            .map(|row| Self {
                time_us: time[row].unwrap_or_default(),
                source: source[row].clone().unwrap_or_default(),
                side: match side[row].as_deref() {
                    Some("input") => Some(Side::Input),
                    Some("output") => Some(Side::Output),
                    _ => None,
                },
                name: name[row].clone().unwrap_or_default(),
                namespace: namespace[row].clone().unwrap_or_default(),
                digest: digest[row].clone(),
                size_bytes: count(size[row]),
                row_count: count(row_count[row]),
                file_count: count(file_count[row]),
                commit_id: commit[row].clone(),
                run_id: run_id[row].clone(),
                job: job[row].clone(),
            })
            .collect())
    }
}
