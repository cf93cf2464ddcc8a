//! Answers of the registry, typed.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// Characters of a foreign message that are kept.
const MESSAGE_CHARS_MAX: usize = 200;

/// What to do about a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Ask again later, with growing pauses.
    Retry,
    /// A person must change a setting.
    Fix,
    /// The thing asked for is not there.
    Absent,
}

/// Why an answer is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// 401 or 403.
    #[error("the registry refuses access (status {status}): check the token and its rights to read models and runs")]
    Refused {
        /// HTTP status.
        status: u16,
    },
    /// The registry knows no such model, alias or run.
    #[error("not in the registry: {message}")]
    Absent {
        /// What the registry says.
        message: String,
    },
    /// 404 without the error of MLflow in it: another server answers.
    #[error("no MLflow API at this address (status 404): the address ends before /api, as in http://mlflow:5000")]
    NoApi,
    /// 429 or 5xx.
    #[error("the registry is not available (status {status}): {message}")]
    Unavailable {
        /// HTTP status.
        status: u16,
        /// What the registry says.
        message: String,
    },
    /// Any other status.
    #[error("the registry refuses the request (status {status}): {message}")]
    Rejected {
        /// HTTP status.
        status: u16,
        /// What the registry says.
        message: String,
    },
    /// 200 with a body that is not the documented JSON, such as a login page.
    #[error("the answer is not the JSON of MLflow: {reason}: does a proxy or login page stand in front?")]
    Shape {
        /// What the parser says.
        reason: String,
    },
}

impl AnswerError {
    /// What to do about it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Absent { .. } => Remedy::Absent,
            Self::Unavailable { .. } => Remedy::Retry,
            Self::Refused { .. } | Self::NoApi | Self::Rejected { .. } | Self::Shape { .. } => Remedy::Fix,
        }
    }
}

/// One page of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// Rows of this page.
    pub rows: Vec<T>,
    /// Token of the next page; `None` on the last one.
    pub next_page_token: Option<String>,
}

/// A model of the registry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RegisteredModel {
    /// Unique name.
    pub name: String,
    /// UTC milliseconds.
    #[serde(default, deserialize_with = "integer")]
    pub creation_timestamp: Option<i64>,
    /// Tags by key.
    #[serde(default, deserialize_with = "pairs")]
    pub tags: BTreeMap<String, String>,
    /// Version by alias.
    #[serde(default, deserialize_with = "aliases")]
    pub aliases: BTreeMap<String, String>,
}

/// Whether a version can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum VersionStatus {
    /// Being registered.
    PendingRegistration,
    /// Registration failed.
    FailedRegistration,
    /// Usable.
    Ready,
    /// A status that this code does not know.
    #[serde(other)]
    Other,
}

/// One version of a model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ModelVersion {
    /// Name of the model.
    pub name: String,
    /// Version: an integer as text.
    #[serde(deserialize_with = "text")]
    pub version: String,
    /// UTC milliseconds.
    #[serde(default, deserialize_with = "integer")]
    pub creation_timestamp: Option<i64>,
    /// UTC milliseconds.
    #[serde(default, deserialize_with = "integer")]
    pub last_updated_timestamp: Option<i64>,
    /// Stage, which newer registries replace by aliases.
    #[serde(default)]
    pub current_stage: Option<String>,
    /// URI of the artifact.
    #[serde(default)]
    pub source: Option<String>,
    /// Run that made it; empty or absent if none did.
    #[serde(default)]
    pub run_id: Option<String>,
    /// Whether it can be used.
    #[serde(default)]
    pub status: Option<VersionStatus>,
    /// Tags by key.
    #[serde(default, deserialize_with = "pairs")]
    pub tags: BTreeMap<String, String>,
}

/// A data set that a run read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetInput {
    /// Name.
    pub name: String,
    /// Digest as MLflow computed it.
    pub digest: String,
    /// What it was for, as in `training`: the tag `mlflow.data.context`.
    pub context: Option<String>,
}

/// The run that made a version.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Identity.
    pub run_id: String,
    /// `FINISHED`, `FAILED`, `RUNNING` and so on.
    pub status: Option<String>,
    /// UTC milliseconds.
    pub start_time: Option<i64>,
    /// UTC milliseconds.
    pub end_time: Option<i64>,
    /// Parameters by key.
    pub params: BTreeMap<String, String>,
    /// Last value of each metric; NaN and infinities are kept as such.
    pub metrics: BTreeMap<String, f64>,
    /// Tags by key.
    pub tags: BTreeMap<String, String>,
    /// Data sets read.
    pub datasets: Vec<DatasetInput>,
}

impl Run {
    /// Commit of the code, where the run was started from a git work tree.
    pub fn commit(&self) -> Option<&str> {
        self.tags.get("mlflow.source.git.commit").map(String::as_str)
    }
}

/// Reads an answer of `registered-models/search`.
///
/// # Errors
/// [`AnswerError`] by status, or if the body is not of the documented shape.
pub fn read_registered_models(status: u16, body: &[u8]) -> Result<Page<RegisteredModel>, AnswerError> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        registered_models: Vec<RegisteredModel>,
        next_page_token: Option<String>,
    }
    let answer: Answer = read(status, body)?;
    Ok(Page { rows: answer.registered_models, next_page_token: not_empty(answer.next_page_token) })
}

/// Reads an answer of `model-versions/search`.
///
/// # Errors
/// [`AnswerError`] by status, or if the body is not of the documented shape.
pub fn read_model_versions(status: u16, body: &[u8]) -> Result<Page<ModelVersion>, AnswerError> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        model_versions: Vec<ModelVersion>,
        next_page_token: Option<String>,
    }
    let answer: Answer = read(status, body)?;
    Ok(Page { rows: answer.model_versions, next_page_token: not_empty(answer.next_page_token) })
}

/// Reads an answer of `registered-models/alias`.
///
/// # Errors
/// [`AnswerError::Absent`] if the alias or model does not exist, other [`AnswerError`] by status and shape.
pub fn read_version_by_alias(status: u16, body: &[u8]) -> Result<ModelVersion, AnswerError> {
    #[derive(Deserialize)]
    struct Answer {
        model_version: ModelVersion,
    }
    Ok(read::<Answer>(status, body)?.model_version)
}

/// Reads an answer of `runs/get`.
///
/// # Errors
/// [`AnswerError::Absent`] if the run does not exist, other [`AnswerError`] by status and shape.
pub fn read_run(status: u16, body: &[u8]) -> Result<Run, AnswerError> {
    let answer: RunAnswer = read(status, body)?;
    let RawRun { info, data, inputs } = answer.run;
    let dataset = |input: RawDatasetInput| {
        let context = input.tags.get("mlflow.data.context").cloned();
        DatasetInput { name: input.dataset.name, digest: input.dataset.digest, context }
    };
    Ok(Run {
        run_id: info.run_id,
        status: info.status,
        start_time: info.start_time,
        end_time: info.end_time,
        params: data.params,
        metrics: data.metrics.into_iter().map(|metric| (metric.key, metric.value)).collect(),
        tags: data.tags,
        datasets: inputs.dataset_inputs.into_iter().map(dataset).collect(),
    })
}

#[derive(Deserialize)]
struct RunAnswer {
    run: RawRun,
}

#[derive(Deserialize)]
struct RawRun {
    info: RunInfo,
    #[serde(default)]
    data: RunData,
    #[serde(default)]
    inputs: RunInputs,
}

#[derive(Deserialize)]
struct RunInfo {
    run_id: String,
    #[serde(default)]
    status: Option<String>,
    #[serde(default, deserialize_with = "integer")]
    start_time: Option<i64>,
    #[serde(default, deserialize_with = "integer")]
    end_time: Option<i64>,
}

#[derive(Deserialize, Default)]
struct RunData {
    #[serde(default)]
    metrics: Vec<Metric>,
    #[serde(default, deserialize_with = "pairs")]
    params: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "pairs")]
    tags: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Metric {
    key: String,
    #[serde(deserialize_with = "double")]
    value: f64,
}

#[derive(Deserialize, Default)]
struct RunInputs {
    #[serde(default)]
    dataset_inputs: Vec<RawDatasetInput>,
}

#[derive(Deserialize)]
struct RawDatasetInput {
    #[serde(default, deserialize_with = "pairs")]
    tags: BTreeMap<String, String>,
    dataset: RawDataset,
}

#[derive(Deserialize)]
struct RawDataset {
    name: String,
    digest: String,
}

fn read<T: for<'de> Deserialize<'de>>(status: u16, body: &[u8]) -> Result<T, AnswerError> {
    if status == 200 {
        return serde_json::from_slice(body).map_err(|error| AnswerError::Shape { reason: error.to_string() });
    }
    #[derive(Deserialize)]
    struct Failure {
        error_code: String,
        #[serde(default)]
        message: String,
    }
    let failure: Option<Failure> = serde_json::from_slice(body).ok();
    let message = failure.as_ref().map_or_else(
        || String::from_utf8_lossy(body).chars().take(MESSAGE_CHARS_MAX).collect(),
        |failure| failure.message.chars().take(MESSAGE_CHARS_MAX).collect(),
    );
    // A missing alias is an invalid parameter to MLflow, and only its message tells that from other ones.
    let absent = failure.is_some_and(|failure| {
        failure.error_code == "RESOURCE_DOES_NOT_EXIST"
            || (failure.error_code == "INVALID_PARAMETER_VALUE" && failure.message.contains("not found"))
    });
    Err(match status {
        _ if absent => AnswerError::Absent { message },
        401 | 403 => AnswerError::Refused { status },
        404 => AnswerError::NoApi,
        429 | 500..=599 => AnswerError::Unavailable { status, message },
        _ => AnswerError::Rejected { status, message },
    })
}

fn not_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// A 64-bit integer, which JSON of protobuf writes as text and MLflow as a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Integer(i64),
    Double(f64),
    Text(String),
}

fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    match Option::<NumberOrText>::deserialize(deserializer)? {
        None => Ok(None),
        Some(NumberOrText::Integer(value)) => Ok(Some(value)),
        Some(NumberOrText::Text(text)) => text.parse().map(Some).map_err(serde::de::Error::custom),
        Some(NumberOrText::Double(_)) => Err(serde::de::Error::custom("expected an integer")),
    }
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match NumberOrText::deserialize(deserializer)? {
        NumberOrText::Text(text) => Ok(text),
        NumberOrText::Integer(value) => Ok(value.to_string()),
        NumberOrText::Double(_) => Err(serde::de::Error::custom("expected text or an integer")),
    }
}

/// A double, where JSON has no NaN and MLflow writes it as text.
fn double<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    match NumberOrText::deserialize(deserializer)? {
        NumberOrText::Double(value) => Ok(value),
        // Metrics are doubles that happen to be whole; past 2^53 the server had no more digits either.
        NumberOrText::Integer(value) => Ok(value as f64),
        NumberOrText::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

fn pairs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    #[derive(Deserialize)]
    struct Pair {
        key: String,
        #[serde(default)]
        value: String,
    }
    let pairs = Vec::<Pair>::deserialize(deserializer)?;
    Ok(pairs.into_iter().map(|pair| (pair.key, pair.value)).collect())
}

fn aliases<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    #[derive(Deserialize)]
    struct Alias {
        alias: String,
        #[serde(deserialize_with = "text")]
        version: String,
    }
    let aliases = Vec::<Alias>::deserialize(deserializer)?;
    Ok(aliases.into_iter().map(|alias| (alias.alias, alias.version)).collect())
}
