//! Files that carry out a recommendation and files that take it back, for people to read and apply. Nothing here touches a cluster.
//!
//! Invariant: every name is checked before it enters a file or a command, and text of the telemetry stays inside quotes or comments.

mod error;
mod hpa;
mod keda;
mod patch;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod tests;
mod yaml;

use serde::Serialize;
use serde_json::Value;

use crate::recommendation::Recommendation;
pub use error::ManifestError;
pub use hpa::hpa;
pub use keda::{KedaForm, PrometheusSource, scaled_object};
pub use patch::{
    ContainerResources, MigChange, cron_job, crontab, helm_values, hpa_bounds, mig, replicas, resource_quota,
    resources, time_slicing,
};

/// A workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    namespace: String,
    kind: WorkloadKind,
    name: String,
}

/// Kind of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum WorkloadKind {
    /// `Deployment`.
    Deployment,
    /// `StatefulSet`.
    StatefulSet,
    /// `DaemonSet`: a pod on each node, so it has no number of replicas.
    DaemonSet,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct File {
    /// Its name, unique in the folder of a service.
    pub name: String,
    /// YAML.
    pub text: String,
}

/// A change with its way back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Files of both directions.
    pub files: Vec<File>,
    /// Commands that carry it out, in order, from the folder of the files.
    pub apply: Vec<String>,
    /// Commands that take it back.
    pub undo: Vec<String>,
}

/// A change with the text that says how to apply it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Folder {
    /// Its name, of letters and digits.
    pub name: String,
    /// How to apply it and take it back.
    pub readme: String,
    /// The change.
    pub change: Change,
}

impl Folder {
    /// The folder of `change`; `before` is what to know first.
    pub(crate) fn new(name: &str, before: &str, change: Change) -> Self {
        Self { name: name.to_owned(), readme: format!("{before}{}", change.readme()), change }
    }
}

impl Target {
    /// A workload whose names are checked.
    ///
    /// # Errors
    /// [`ManifestError::Name`] for what Kubernetes does not take as a name.
    pub fn new(namespace: &str, kind: WorkloadKind, name: &str) -> Result<Self, ManifestError> {
        checked("namespace", namespace)?;
        checked("name", name)?;
        Ok(Self { namespace: namespace.to_owned(), kind, name: name.to_owned() })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its kind.
    pub fn kind(&self) -> WorkloadKind {
        self.kind
    }

    fn reference(&self) -> Value {
        serde_json::json!({ "apiVersion": "apps/v1", "kind": self.kind.as_str(), "name": self.name })
    }

    fn patch_command(&self, file: &str) -> String {
        let kind = self.kind.as_str().to_lowercase();
        // Lists of containers are merged by name only by a strategic patch.
        format!("kubectl -n {} patch {kind} {} --type strategic --patch-file {file}", self.namespace, self.name)
    }
}

impl WorkloadKind {
    /// The name of the kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
        }
    }
}

impl Change {
    /// A text for the folder: what the commands are, and that nobody but the reader runs them.
    pub fn readme(&self) -> String {
        let lines = |commands: &[String]| commands.iter().map(|command| format!("    {command}\n")).collect::<String>();
        format!(
            "Nothing was applied. Look at the files, then run from this folder.\n\nDo:\n\n{}\nUndo:\n\n{}",
            lines(&self.apply),
            lines(&self.undo)
        )
    }
}

/// The comment over a recommendation's files: what, the three numbers, confidence and expiry.
pub fn comment(recommendation: &Recommendation) -> String {
    let [mean, need, over] = recommendation.numbers;
    let until = chrono::DateTime::from_timestamp_micros(recommendation.expires_us)
        .map_or_else(|| "an unknown time".to_owned(), |time| time.format("%Y-%m-%d").to_string());
    format!(
        "{}\nmean share busy {mean:.3}, peak with burst {need:.2} GPUs, replayed minutes over capacity {over:.5}\n\
         confidence {:.2}; holds until {until}",
        recommendation.explanation, recommendation.confidence
    )
}

fn checked(field: &'static str, name: &str) -> Result<(), ManifestError> {
    let is_edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let fits = name.len() <= 253 && name.chars().all(is_inner);
    if fits && is_edge(name.chars().next()) && is_edge(name.chars().last()) {
        return Ok(());
    }
    Err(ManifestError::Name { field, name: name.to_owned() })
}
