//! The MLflow model registry as a source: what to ask, how to read the answers, and what changed since the last poll.
//!
//! Nothing in here opens a connection: requests are data that the caller sends, answers are status and body that it
//! brings back. Only reading endpoints are asked, all of them `GET`.
//!
//! Source: MLflow REST API 2.0 (`mlflow/protos/model_registry.proto`, `mlflow/protos/service.proto`).

mod answer;
mod change;
mod poll;
mod request;
#[cfg(test)]
mod tests;

pub use answer::{AnswerError, DatasetInput, ModelVersion, Page, RegisteredModel, Remedy, Run, VersionStatus};
pub use answer::{read_model_versions, read_registered_models, read_run, read_version_by_alias};
pub use change::{Change, Snapshot, changes};
pub use poll::{Poll, PollError, PollOptions};
pub use request::{Request, Token, TokenError};
