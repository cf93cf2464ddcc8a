//! Table `model_versions`: each version of each model that a registry knows, with the run that made it.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::{arrow::array::RecordBatch, prelude::SessionContext};
use serde_json::{Map, Value};

use super::from_ms;
use crate::{
    error::Result,
    lineage::{
        artifact_name::{ArtifactDate, ArtifactName},
        deployment::Release,
        mlflow::{DatasetInput, ModelVersion, Run, VersionStatus},
    },
    result_table::ResultTable,
    rows::{Rows, has_result, literal},
    window::{DAY_US, MILLISECOND_US, time_literal},
};

/// Parameters, metrics, tags or data sets of one run that are kept.
const PAIRS_MAX: usize = 1_000;
/// Characters of one of their values that are kept.
const VALUE_CHARS_MAX: usize = 500;
/// What stands in `status` of a version that is gone.
const DELETED: &str = "deleted";

/// What is known of the run that made a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// The version names no run.
    None,
    /// It was read.
    Read,
    /// It is yet to be asked for.
    Pending,
    /// The registry does not have it any more.
    Absent,
}

/// One version of one model at one reading.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelVersionRecord {
    /// When it was read.
    pub time_us: i64,
    /// Name of the model.
    pub model: String,
    /// Version as the source writes it.
    pub version: String,
    /// Where the row comes from, as in `mlflow`.
    pub source: String,
    /// When it was registered.
    pub created_us: Option<i64>,
    /// When it last changed, as the registry says.
    pub updated_us: Option<i64>,
    /// `ready`, `pending`, `failed`, `other`, or `deleted`; null where the registry tells none.
    pub status: Option<String>,
    /// Stage, which newer registries replace by aliases.
    pub stage: Option<String>,
    /// URI of the artifact.
    pub artifact_uri: Option<String>,
    /// Run that made it; null for a version without a run.
    pub run_id: Option<String>,
    /// Whether that run was read.
    pub run_state: RunState,
    /// Commit of the code; null where the run was not read, or not started from a git work tree.
    pub commit_id: Option<String>,
    /// Data read in training, in the order of the run; empty where none was logged.
    pub datasets: Vec<DatasetInput>,
    /// Parameters of the run.
    pub params: BTreeMap<String, String>,
    /// Finite metrics of the run; those that are NaN or infinite are left out.
    pub metrics: BTreeMap<String, f64>,
    /// Tags of the version.
    pub tags: BTreeMap<String, String>,
    /// Date in the name of the model or artifact; null where there is none that is sure.
    pub name_date_us: Option<i64>,
}

impl RunState {
    /// The word in the column `run_state`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Read => "read",
            Self::Pending => "pending",
            Self::Absent => "absent",
        }
    }

    fn parse(text: Option<&str>) -> Self {
        let all = [Self::None, Self::Read, Self::Absent];
        all.into_iter().find(|state| Some(state.as_str()) == text).unwrap_or(Self::Pending)
    }
}

impl ModelVersionRecord {
    /// The result table.
    pub const TABLE: &str = "model_versions";

    /// The row of a version of MLflow as it was at `time_us`, with its run where that could be read.
    pub fn of_mlflow(version: &ModelVersion, run: Option<&Run>, time_us: i64) -> Self {
        let not_empty = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let named = [Some(version.name.as_str()), version.source.as_deref()];
        let date = named.into_iter().flatten().find_map(|text| ArtifactName::parse(text).date);
        let run_id = not_empty(&version.run_id);
        let run_state = match (&run_id, run) {
            (None, _) => RunState::None,
            (Some(_), Some(_)) => RunState::Read,
            (Some(_), None) => RunState::Pending,
        };
        Self {
            time_us,
            model: version.name.clone(),
            version: version.version.clone(),
            source: "mlflow".to_owned(),
            created_us: from_ms(version.creation_timestamp),
            updated_us: from_ms(version.last_updated_timestamp),
            status: version.status.map(|status| status_name(status).to_owned()),
            stage: version.current_stage.clone(),
            artifact_uri: not_empty(&version.source),
            run_id,
            run_state,
            commit_id: run.and_then(Run::commit).map(str::to_owned),
            datasets: run.map(|run| run.datasets.iter().take(PAIRS_MAX).cloned().collect()).unwrap_or_default(),
            params: run.map(|run| bounded(&run.params)).unwrap_or_default(),
            metrics: run.map(finite).unwrap_or_default(),
            tags: bounded(&version.tags),
            name_date_us: date.map(days_us),
        }
    }

    /// The row that says that `version` of `model` was gone at `time_us`.
    pub fn deleted(model: &str, version: &str, time_us: i64) -> Self {
        let bare = ModelVersion {
            name: model.to_owned(),
            version: version.to_owned(),
            creation_timestamp: None,
            last_updated_timestamp: None,
            current_stage: None,
            source: None,
            run_id: None,
            status: None,
            tags: BTreeMap::new(),
        };
        Self { status: Some(DELETED.to_owned()), ..Self::of_mlflow(&bare, None, time_us) }
    }

    /// The version as the registry told it, with what is needed to see what changes.
    pub fn to_mlflow(&self) -> ModelVersion {
        let to_ms = |time_us: Option<i64>| time_us.map(|time_us| time_us / MILLISECOND_US);
        ModelVersion {
            name: self.model.clone(),
            version: self.version.clone(),
            creation_timestamp: to_ms(self.created_us),
            last_updated_timestamp: to_ms(self.updated_us),
            current_stage: self.stage.clone(),
            source: self.artifact_uri.clone(),
            run_id: self.run_id.clone(),
            status: self.status.as_deref().map(|name| match name {
                "ready" => VersionStatus::Ready,
                "pending" => VersionStatus::PendingRegistration,
                "failed" => VersionStatus::FailedRegistration,
                _ => VersionStatus::Other,
            }),
            tags: self.tags.clone(),
        }
    }

    /// Whether the registry had it no more.
    pub fn is_deleted(&self) -> bool {
        self.status.as_deref() == Some(DELETED)
    }

    /// The rows of the table.
    ///
    /// # Errors
    /// None in practice: the columns are of equal length.
    pub fn to_batch(records: &[Self]) -> Result<RecordBatch> {
        let rows = || records.iter();
        let text = |of: fn(&Self) -> Option<String>| rows().map(of).collect::<Vec<_>>();
        let mut table = ResultTable::at(rows().map(|row| row.time_us).collect());
        table
            .texts("model", text(|row| Some(row.model.clone())))
            .texts("version", text(|row| Some(row.version.clone())))
            .texts("source", text(|row| Some(row.source.clone())))
            .moments("created", rows().map(|row| row.created_us))
            .moments("updated", rows().map(|row| row.updated_us))
            .texts("status", text(|row| row.status.clone()))
            .texts("stage", text(|row| row.stage.clone()))
            .texts("artifact_uri", text(|row| row.artifact_uri.clone()))
            .texts("run_id", text(|row| row.run_id.clone()))
            .texts("run_state", text(|row| Some(row.run_state.as_str().to_owned())))
            .texts("commit_id", text(|row| row.commit_id.clone()))
            .texts("datasets", text(|row| Some(datasets_json(&row.datasets))))
            .texts("params", text(|row| Some(texts_json(&row.params))))
            .texts("metrics", text(|row| Some(metrics_json(&row.metrics))))
            .texts("tags", text(|row| Some(texts_json(&row.tags))))
            .moments("name_date", rows().map(|row| row.name_date_us));
        table.finish()
    }

    /// The newest row of each version that was read up to `until_us`, those that are gone left out, at most `rows_max`; without
    /// what their runs say.
    ///
    /// # Errors
    /// Those of the query.
    pub async fn latest(ctx: &SessionContext, until_us: i64, rows_max: usize) -> Result<Vec<Self>> {
        let of_runs = "'[]' AS datasets, '{}' AS params, '{}' AS metrics";
        let rows = Self::query(ctx, &format!("time <= {}", time_literal(until_us)), of_runs, rows_max).await?;
        Ok(rows.into_iter().filter(|row| !row.is_deleted()).collect())
    }

    /// The newest row of `release` that was read up to `until_us`, also where it is gone; none where no registry told of it.
    ///
    /// Where no version is called so, the one that has it as the value of a tag: services may have names of their own for what a
    /// registry numbers.
    ///
    /// # Errors
    /// Those of the query.
    pub async fn of_release(ctx: &SessionContext, release: &Release, until_us: i64) -> Result<Option<Self>> {
        let of_model = format!("model = {} AND time <= {}", literal(&release.model), time_literal(until_us));
        let of_runs = "datasets, params, metrics";
        let named = format!("{of_model} AND version = {}", literal(&release.version));
        if let Some(found) = Self::query(ctx, &named, of_runs, 1).await?.pop() {
            return Ok(Some(found));
        }
        let tag = format!(":{}", Value::from(release.version.as_str()));
        let tagged = format!("{of_model} AND strpos(tags, {}) > 0", literal(&tag));
        // Of several none is meant more than the other.
        let mut found = Self::query(ctx, &tagged, of_runs, 2).await?;
        Ok(if found.len() == 1 { found.pop() } else { None })
    }

    /// Every release of `models` that was in the registry at `until_us`, by its number and by the values of its tags; `None` where
    /// no registry was read by then, or there are more than `rows_max`.
    ///
    /// # Errors
    /// Those of the query.
    pub async fn releases(
        ctx: &SessionContext,
        models: &BTreeSet<String>,
        until_us: i64,
        rows_max: usize,
    ) -> Result<Option<BTreeSet<Release>>> {
        if !has_result(ctx, Self::TABLE) || models.is_empty() {
            return Ok(None);
        }
        let models: Vec<String> = models.iter().map(|model| literal(model)).collect();
        let query = format!(
            "SELECT model, version, tags FROM (SELECT model, version, status, tags, row_number() OVER \
             (PARTITION BY source, model, version ORDER BY time DESC) AS place FROM reports.{} \
             WHERE model IN ({}) AND time <= {}) WHERE place = 1 AND status IS DISTINCT FROM '{DELETED}' LIMIT {}",
            Self::TABLE,
            models.join(", "),
            time_literal(until_us),
            rows_max + 1
        );
        let rows = Rows::query(ctx, &query).await?;
        if rows.len() > rows_max {
            return Ok(None);
        }
        let (models, versions, tags) = (rows.texts("model")?, rows.texts("version")?, rows.texts("tags")?);
        let mut found = BTreeSet::new();
        for row in 0..rows.len() {
            let (Some(model), Some(version)) = (&models[row], &versions[row]) else { continue };
            let tags = tags[row].as_deref().and_then(|text| serde_json::from_str(text).ok()).map(read_texts);
            let names = tags.unwrap_or_default().into_values().chain([version.clone()]);
            found.extend(names.map(|version| Release { model: model.clone(), version }));
        }
        Ok(Some(found))
    }

    async fn query(ctx: &SessionContext, condition: &str, of_runs: &str, rows_max: usize) -> Result<Vec<Self>> {
        if !has_result(ctx, Self::TABLE) {
            return Ok(Vec::new());
        }
        let query = format!(
            "SELECT time, model, version, source, created, updated, status, stage, artifact_uri, run_id, run_state, commit_id, \
             tags, name_date, {of_runs} FROM (SELECT *, row_number() OVER (PARTITION BY source, model, version ORDER BY time DESC) AS place \
             FROM reports.{} WHERE {condition}) WHERE place = 1 ORDER BY created DESC, model, version LIMIT {rows_max}",
            Self::TABLE
        );
        let rows = Rows::query(ctx, &query).await?;
        let times = |name: &str| rows.integers(name);
        let texts = |name: &str| rows.texts(name);
        let (time, created, updated, dated) =
            (times("time")?, times("created")?, times("updated")?, times("name_date")?);
        let (model, version, source, status) = (texts("model")?, texts("version")?, texts("source")?, texts("status")?);
        let (stage, uri, run_id, state) =
            (texts("stage")?, texts("artifact_uri")?, texts("run_id")?, texts("run_state")?);
        let (commit, datasets, tags) = (texts("commit_id")?, texts("datasets")?, texts("tags")?);
        let (params, metrics) = (texts("params")?, texts("metrics")?);
        let json = |text: &Option<String>| text.as_deref().and_then(|text| serde_json::from_str(text).ok());
        Ok((0..rows.len())
            .map(|row| Self {
                time_us: time[row].unwrap_or_default(),
                model: model[row].clone().unwrap_or_default(),
                version: version[row].clone().unwrap_or_default(),
                source: source[row].clone().unwrap_or_default(),
                created_us: created[row],
                updated_us: updated[row],
                status: status[row].clone(),
                stage: stage[row].clone(),
                artifact_uri: uri[row].clone(),
                run_id: run_id[row].clone(),
                run_state: RunState::parse(state[row].as_deref()),
                commit_id: commit[row].clone(),
                datasets: json(&datasets[row]).map(read_datasets).unwrap_or_default(),
                params: json(&params[row]).map(read_texts).unwrap_or_default(),
                metrics: json(&metrics[row]).map(read_numbers).unwrap_or_default(),
                tags: json(&tags[row]).map(read_texts).unwrap_or_default(),
                name_date_us: dated[row],
            })
            .collect())
    }
}

fn finite(run: &Run) -> BTreeMap<String, f64> {
    let finite = run.metrics.iter().filter(|(_, value)| value.is_finite()).take(PAIRS_MAX);
    finite.map(|(key, value)| (key.clone(), *value)).collect()
}

/// The first pairs, with values that end in `…` where they were cut.
fn bounded(pairs: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let cut = |value: &String| match value.char_indices().nth(VALUE_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &value[..at]),
        None => value.clone(),
    };
    pairs.iter().take(PAIRS_MAX).map(|(key, value)| (key.clone(), cut(value))).collect()
}

fn days_us(date: ArtifactDate) -> i64 {
    let (ArtifactDate::Day(date) | ArtifactDate::Month(date)) = date;
    i64::from(date.to_epoch_days()) * DAY_US
}

fn status_name(status: VersionStatus) -> &'static str {
    match status {
        VersionStatus::Ready => "ready",
        VersionStatus::PendingRegistration => "pending",
        VersionStatus::FailedRegistration => "failed",
        VersionStatus::Other => "other",
    }
}

fn texts_json(pairs: &BTreeMap<String, String>) -> String {
    let object: Map<String, Value> = pairs.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    Value::Object(object).to_string()
}

fn metrics_json(pairs: &BTreeMap<String, f64>) -> String {
    let object: Map<String, Value> = pairs.iter().map(|(key, value)| (key.clone(), (*value).into())).collect();
    Value::Object(object).to_string()
}

fn datasets_json(datasets: &[DatasetInput]) -> String {
    let rows = datasets
        .iter()
        .map(|one| serde_json::json!({ "name": one.name, "digest": one.digest, "context": one.context }));
    Value::Array(rows.collect()).to_string()
}

fn read_texts(value: Value) -> BTreeMap<String, String> {
    let object = value.as_object().cloned().unwrap_or_default();
    object.into_iter().filter_map(|(key, value)| Some((key, value.as_str()?.to_owned()))).collect()
}

fn read_numbers(value: Value) -> BTreeMap<String, f64> {
    let object = value.as_object().cloned().unwrap_or_default();
    object.into_iter().filter_map(|(key, value)| Some((key, value.as_f64()?))).collect()
}

fn read_datasets(value: Value) -> Vec<DatasetInput> {
    let rows = value.as_array().cloned().unwrap_or_default();
    let text = |row: &Value, key: &str| row[key].as_str().map(str::to_owned);
    rows.iter()
        .filter_map(|row| {
            Some(DatasetInput { name: text(row, "name")?, digest: text(row, "digest")?, context: text(row, "context") })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::{
        lineage::mlflow::{read_model_versions, read_run},
        test_session::{add_result, session},
    };

    fn version_and_run() -> (ModelVersion, Run) {
        let page =
            br#"{"model_versions": [{"name": "model_resnet_v2.1_20240801", "version": "3", "creation_timestamp": 7,
            "last_updated_timestamp": 9, "run_id": "r1", "source": "", "status": "READY", "current_stage": "None",
            "tags": [{"key": "team", "value": "vision"}]}]}"#;
        let run = br#"{"run": {"info": {"run_id": "r1"}, "data": {"metrics": [{"key": "loss", "value": "NaN"},
            {"key": "accuracy", "value": 0.5}], "params": [{"key": "lr", "value": "0.1"}],
            "tags": [{"key": "mlflow.source.git.commit", "value": "c0ffee"}]},
            "inputs": {"dataset_inputs": [{"dataset": {"name": "a", "digest": "d2"}}, {"dataset": {"name": "b", "digest": "d1"}}]}}}"#;
        (read_model_versions(200, page).unwrap().rows.remove(0), read_run(200, run).unwrap())
    }

    #[test]
    fn a_version_and_its_run_make_one_row() {
        let (version, run) = version_and_run();
        let row = ModelVersionRecord::of_mlflow(&version, Some(&run), 20);
        assert_eq!((row.created_us, row.status.as_deref(), &row.artifact_uri), (Some(7_000), Some("ready"), &None));
        assert_eq!((row.commit_id.as_deref(), row.run_state), (Some("c0ffee"), RunState::Read));
        assert_eq!(row.datasets.iter().map(|one| one.digest.as_str()).collect::<Vec<_>>(), ["d2", "d1"]);
        assert_eq!(row.metrics, [("accuracy".to_owned(), 0.5)].into());
        // 2024-08-01 is 54 years and 14 leap days, then 213 days after 1970: 19 936.
        assert_eq!(row.name_date_us, Some(19_936 * DAY_US));

        let alone = ModelVersionRecord::of_mlflow(&version, None, 20);
        assert_eq!((alone.run_id.as_deref(), alone.run_state, alone.metrics.len()), (Some("r1"), RunState::Pending, 0));
    }

    #[test]
    fn what_others_send_without_end_is_bounded() {
        let (version, mut run) = version_and_run();
        run.params = (0..2_000).map(|index| (format!("p{index:04}"), "é".repeat(2_000))).collect();
        let row = ModelVersionRecord::of_mlflow(&version, Some(&run), 20);
        assert_eq!((row.params.len(), row.params["p0000"].chars().count()), (PAIRS_MAX, VALUE_CHARS_MAX + 1));
    }

    async fn known(ctx: &SessionContext, until_us: i64) -> Vec<ModelVersionRecord> {
        ModelVersionRecord::latest(ctx, until_us, 10).await.unwrap()
    }

    #[tokio::test]
    async fn a_row_reads_back_as_what_was_known_at_the_time() {
        let (version, run) = version_and_run();
        let pending = ModelVersionRecord::of_mlflow(&version, None, 20);
        let read = ModelVersionRecord::of_mlflow(&version, Some(&run), 30);
        let gone = ModelVersionRecord::deleted(&version.name, "3", 40);
        let ctx = session(&[], &[]);
        assert_eq!(known(&ctx, 99).await, []);
        let any = ["resnet".to_owned()].into();
        assert_eq!(ModelVersionRecord::releases(&ctx, &any, 99, 10).await.unwrap(), None);
        let batch = ModelVersionRecord::to_batch(&[pending.clone(), read.clone(), gone.clone()]).unwrap();
        add_result(&ctx, ModelVersionRecord::TABLE, batch);
        assert_eq!(known(&ctx, 29).await, [pending]);
        let found = known(&ctx, 39).await;
        assert_eq!((found.len(), found[0].run_state, found[0].params.len()), (1, RunState::Read, 0));
        // MLflow writes no URI as an empty one.
        assert_eq!(found[0].to_mlflow(), ModelVersion { source: None, ..version.clone() });
        assert_eq!(known(&ctx, 40).await, []);
        let models = [version.name.clone()].into();
        let release = Release { model: version.name, version: "3".to_owned() };
        // In the words of a service that goes by a tag.
        let tagged = Release { version: "vision".to_owned(), ..release.clone() };
        for asked in [&release, &tagged] {
            assert_eq!(ModelVersionRecord::of_release(&ctx, asked, 39).await.unwrap().as_ref(), Some(&read));
        }
        assert_eq!(ModelVersionRecord::of_release(&ctx, &release, 40).await.unwrap(), Some(gone));
        let unknown = Release { version: "visio".to_owned(), ..release.clone() };
        assert_eq!(ModelVersionRecord::of_release(&ctx, &unknown, 40).await.unwrap(), None);
        let known =
            async |until_us, rows_max| ModelVersionRecord::releases(&ctx, &models, until_us, rows_max).await.unwrap();
        assert_eq!(known(39, 10).await, Some([release, tagged].into()));
        assert_eq!(known(40, 10).await, Some(BTreeSet::new()));
        assert_eq!(known(39, 0).await, None, "what is not whole accuses nobody");
    }
}
