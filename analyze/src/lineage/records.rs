//! Rows of the lineage tables, as they are stored.
//!
//! Times are UTC microseconds. `None` becomes null and means: the source did not say. Columns are the fields by name.

use std::collections::BTreeMap;

use super::artifact_name::{ArtifactDate, ArtifactName};
use super::checkpoint::{CheckpointState, ScheduleSource};
use super::deployment::Target;
use super::dvc::Artifact;
use super::mlflow::{Change, ModelVersion, Run, VersionStatus};
use super::open_lineage::{Dataset, RunEvent, RunState};
use super::timeline::{Basis, Confidence, Interval, Status, Timeline, UnknownReason};

/// Microseconds of a millisecond.
const MILLISECOND_US: i64 = 1_000;

/// Table `model_versions`: one row for each version of each model that a source knows.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelVersionRecord {
    /// Name of the model.
    pub model: String,
    /// Version as the source writes it.
    pub version: String,
    /// Where the row comes from, as in `mlflow`.
    pub source: String,
    /// When it was registered.
    pub created_us: Option<i64>,
    /// `ready`, `pending` or `failed`; null where the registry tells another status or none.
    pub status: Option<&'static str>,
    /// URI of the artifact.
    pub artifact_uri: Option<String>,
    /// Run that made it; null for a version without a run.
    pub run_id: Option<String>,
    /// Commit of the code; null where the run was not started from a git work tree.
    pub commit_id: Option<String>,
    /// Digests of the data read in training, sorted; empty where none was logged.
    pub dataset_digests: Vec<String>,
    /// Parameters of the run.
    pub params: BTreeMap<String, String>,
    /// Finite metrics of the run; those that are NaN or infinite are left out.
    pub metrics: BTreeMap<String, f64>,
    /// Tags of the version.
    pub tags: BTreeMap<String, String>,
    /// Date in the name of the model or artifact, days since 1970; null where there is none that is sure.
    pub name_date_days: Option<i32>,
}

/// Table `deployments`: what ran where, one row for each interval.
#[derive(Debug, Clone, PartialEq)]
pub struct DeploymentRecord {
    /// `service.name`.
    pub service: String,
    /// `deployment.environment.name`; null where telemetry does not say.
    pub environment: Option<String>,
    /// Start, inclusive.
    pub from_us: i64,
    /// End, exclusive; null for what runs now.
    pub to_us: Option<i64>,
    /// `known`, `mixed`, `flapping`, `uncertain` or `unknown`.
    pub status: &'static str,
    /// Why there is no release: `no_evidence`, `not_seen`, `withdrawn`; null unless the status is `unknown`.
    pub reason: Option<&'static str>,
    /// Name of the model; null unless the status is `known`.
    pub model: Option<String>,
    /// Its version; null unless the status is `known`.
    pub version: Option<String>,
    /// `telemetry`, `mark` or `alias`; null unless the status is `known`.
    pub basis: Option<&'static str>,
    /// `confirmed`, `stated` or `inferred`; null unless the status is `known`.
    pub confidence: Option<&'static str>,
    /// Versions in question, sorted; empty where the status is `known` or `unknown`.
    pub candidates: Vec<String>,
    /// Version that the last statement names, where instances report another.
    pub claimed_version: Option<String>,
}

/// Table `checkpoints`: one row for each examination of a folder.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointRecord {
    /// When it was examined.
    pub time_us: i64,
    /// The folder.
    pub folder: String,
    /// The newest file; null where there is none.
    pub newest_path: Option<String>,
    /// Its time of change.
    pub newest_modified_us: Option<i64>,
    /// Its bytes.
    pub newest_size_bytes: Option<u64>,
    /// Its age, microseconds.
    pub age_us: Option<i64>,
    /// How often a checkpoint is due, microseconds.
    pub schedule_us: i64,
    /// `set`, `inferred` or `default`.
    pub schedule_source: &'static str,
    /// What is wrong, as sentences; empty for a folder in order.
    pub alarms: Vec<String>,
}

/// Table `dataset_places`: data at a known content, once for each place that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetRecord {
    /// When it was read.
    pub time_us: i64,
    /// `dvc` or `open_lineage`.
    pub source: &'static str,
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
    /// Commit of the work tree in which it was found; null outside of one.
    pub commit_id: Option<String>,
}

/// Table `events`: what happened to models, data and jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// When it happened, or at the latest when it was noticed.
    pub time_us: i64,
    /// The earliest time at which it can have happened; equal to `time_us` where the moment is exact.
    pub not_before_us: i64,
    /// `mlflow` or `open_lineage`.
    pub source: &'static str,
    /// As in `alias_moved`, `version_added`, `run_completed`.
    pub kind: &'static str,
    /// Model or job.
    pub subject: String,
    /// One sentence.
    pub text: String,
}

impl ModelVersionRecord {
    /// The row of a version of MLflow, with its run where that could be read.
    pub fn of_mlflow(version: &ModelVersion, run: Option<&Run>) -> Self {
        let not_empty = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let mut digests: Vec<String> =
            run.iter().flat_map(|run| &run.datasets).map(|dataset| dataset.digest.clone()).collect();
        digests.sort();
        digests.dedup();
        let named = [Some(version.name.as_str()), version.source.as_deref()];
        let date = named.into_iter().flatten().find_map(|text| ArtifactName::parse(text).date);
        Self {
            model: version.name.clone(),
            version: version.version.clone(),
            source: "mlflow".to_owned(),
            created_us: version.creation_timestamp.and_then(|time_ms| time_ms.checked_mul(MILLISECOND_US)),
            status: version.status.and_then(status_name),
            artifact_uri: not_empty(&version.source),
            run_id: not_empty(&version.run_id),
            commit_id: run.and_then(Run::commit).map(str::to_owned),
            dataset_digests: digests,
            params: run.map(|run| run.params.clone()).unwrap_or_default(),
            metrics: run.map(finite).unwrap_or_default(),
            tags: version.tags.clone(),
            name_date_days: date.map(days),
        }
    }
}

fn finite(run: &Run) -> BTreeMap<String, f64> {
    let finite = run.metrics.iter().filter(|(_, value)| value.is_finite());
    finite.map(|(key, value)| (key.clone(), *value)).collect()
}

fn days(date: ArtifactDate) -> i32 {
    let (ArtifactDate::Day(date) | ArtifactDate::Month(date)) = date;
    date.to_epoch_days()
}

fn status_name(status: VersionStatus) -> Option<&'static str> {
    match status {
        VersionStatus::Ready => Some("ready"),
        VersionStatus::PendingRegistration => Some("pending"),
        VersionStatus::FailedRegistration => Some("failed"),
        VersionStatus::Other => None,
    }
}

impl DeploymentRecord {
    /// The rows of one timeline, in order of time.
    pub fn of_timeline(target: &Target, timeline: &Timeline) -> Vec<Self> {
        timeline.intervals.iter().map(|interval| Self::of_interval(target, interval)).collect()
    }

    fn of_interval(target: &Target, interval: &Interval) -> Self {
        let (mut basis_name, mut confidence_name, mut reason) = (None, None, None);
        let status = match &interval.status {
            Status::Known { basis, confidence, .. } => {
                basis_name = Some(match basis {
                    Basis::Alias => "alias",
                    Basis::Mark => "mark",
                    Basis::Telemetry => "telemetry",
                });
                confidence_name = Some(match confidence {
                    Confidence::Inferred => "inferred",
                    Confidence::Stated => "stated",
                    Confidence::Confirmed => "confirmed",
                });
                "known"
            }
            Status::Mixed(_) => "mixed",
            Status::Flapping(_) => "flapping",
            Status::Uncertain(_) => "uncertain",
            Status::Unknown(why) => {
                reason = Some(match why {
                    UnknownReason::NoEvidence => "no_evidence",
                    UnknownReason::NotSeen => "not_seen",
                    UnknownReason::Withdrawn => "withdrawn",
                    UnknownReason::Future => "future",
                });
                "unknown"
            }
        };
        let release = interval.status.release();
        let in_question = if release.is_some() { &[] } else { interval.status.candidates() };
        Self {
            service: target.service.clone(),
            environment: target.environment.clone(),
            from_us: interval.from_us,
            to_us: interval.to_us,
            status,
            reason,
            model: release.map(|release| release.model.clone()),
            version: release.map(|release| release.version.clone()),
            basis: basis_name,
            confidence: confidence_name,
            candidates: in_question.iter().map(|release| release.version.clone()).collect(),
            claimed_version: interval.claimed.as_ref().map(|release| release.version.clone()),
        }
    }
}

impl CheckpointRecord {
    /// The row of one examination.
    pub fn of_state(folder: &str, state: &CheckpointState, time_us: i64) -> Self {
        Self {
            time_us,
            folder: folder.to_owned(),
            newest_path: state.newest.as_ref().map(|file| file.path.clone()),
            newest_modified_us: state.newest.as_ref().map(|file| file.modified_us),
            newest_size_bytes: state.newest.as_ref().map(|file| file.size_bytes),
            age_us: state.age_us,
            schedule_us: state.schedule_us,
            schedule_source: match state.schedule_source {
                ScheduleSource::Set => "set",
                ScheduleSource::Inferred => "inferred",
                ScheduleSource::Default => "default",
            },
            alarms: state.alarms.iter().map(ToString::to_string).collect(),
        }
    }
}

impl DatasetRecord {
    /// The row of data in a DVC file of a work tree at `commit_id`.
    pub fn of_dvc(file: &str, artifact: &Artifact, commit_id: Option<&str>, time_us: i64) -> Self {
        Self {
            time_us,
            source: "dvc",
            name: artifact.path.clone(),
            namespace: file.to_owned(),
            digest: artifact.digest.clone(),
            size_bytes: artifact.size_bytes,
            row_count: None,
            file_count: artifact.file_count,
            commit_id: commit_id.map(str::to_owned),
        }
    }

    /// The row of a data set of an OpenLineage event.
    pub fn of_open_lineage(dataset: &Dataset, event: &RunEvent) -> Self {
        Self {
            time_us: event.time_us,
            source: "open_lineage",
            name: dataset.name.clone(),
            namespace: dataset.namespace.clone(),
            digest: dataset.version.clone(),
            size_bytes: dataset.size_bytes,
            row_count: dataset.row_count,
            file_count: None,
            commit_id: event.code_version.clone(),
        }
    }
}

impl EventRecord {
    /// The row of a change of the registry, noticed by the poll at `noticed_us` and not by the one at `previous_us`.
    pub fn of_change(change: &Change, previous_us: Option<i64>, noticed_us: i64) -> Self {
        let exact_us =
            |version: &ModelVersion| version.creation_timestamp.and_then(|time| time.checked_mul(MILLISECOND_US));
        let between = (previous_us.unwrap_or(noticed_us), noticed_us);
        let ((not_before_us, time_us), kind, subject, text) = match change {
            Change::VersionAdded(version) => {
                let times = exact_us(version).map_or(between, |time_us| (time_us, time_us));
                (times, "version_added", &version.name, format!("{} {} was registered", version.name, version.version))
            }
            Change::VersionRemoved { model, version } => {
                (between, "version_removed", model, format!("{model} {version} was deleted"))
            }
            Change::VersionUpdated(version) => {
                let text = format!("tags, stage or status of {} {} changed", version.name, version.version);
                (between, "version_updated", &version.name, text)
            }
            Change::ModelTagsChanged { model, .. } => {
                (between, "model_tags_changed", model, format!("tags of {model} changed"))
            }
            Change::AliasMoved { model, alias, from, to, not_before_us, seen_us } => {
                let name = |version: &Option<String>| version.clone().unwrap_or_else(|| "nothing".to_owned());
                let text = format!("alias {alias} of {model} moved from {} to {}", name(from), name(to));
                ((*not_before_us, *seen_us), "alias_moved", model, text)
            }
        };
        Self { time_us, not_before_us, source: "mlflow", kind, subject: subject.clone(), text }
    }

    /// The row of a run event.
    pub fn of_run(event: &RunEvent) -> Self {
        let (kind, what) = match event.state {
            RunState::Start => ("run_started", "started"),
            RunState::Running => ("run_running", "runs"),
            RunState::Complete => ("run_completed", "completed"),
            RunState::Abort => ("run_aborted", "was aborted"),
            RunState::Fail => ("run_failed", "failed"),
            RunState::Other => ("run_noted", "sent metadata"),
        };
        let error = event.error_message.as_ref().map_or(String::new(), |message| format!(": {message}"));
        let subject = format!("{}/{}", event.job_namespace, event.job_name);
        let text = format!("run {} of {subject} {what}{error}", event.run_id);
        Self { time_us: event.time_us, not_before_us: event.time_us, source: "open_lineage", kind, subject, text }
    }
}

#[cfg(test)]
mod tests {
    use super::super::deployment::{Evidence, Observation, Release};
    use super::super::mlflow::{read_model_versions, read_run};
    use super::super::timeline::{TimelineRules, timelines};
    use super::*;

    #[test]
    fn a_version_and_its_run_make_one_row() {
        let page =
            br#"{"model_versions": [{"name": "model_resnet_v2.1_20240801", "version": "3", "creation_timestamp": 7,
            "run_id": "r1", "source": "", "status": "READY"}]}"#;
        let version = read_model_versions(200, page).unwrap().rows.remove(0);
        let run = br#"{"run": {"info": {"run_id": "r1"}, "data": {"metrics": [{"key": "loss", "value": "NaN"},
            {"key": "accuracy", "value": 0.5}], "tags": [{"key": "mlflow.source.git.commit", "value": "c0ffee"}]},
            "inputs": {"dataset_inputs": [{"dataset": {"name": "a", "digest": "d2"}}, {"dataset": {"name": "b", "digest": "d1"}}]}}}"#;
        let row = ModelVersionRecord::of_mlflow(&version, Some(&read_run(200, run).unwrap()));
        assert_eq!((row.created_us, row.status, row.artifact_uri), (Some(7_000), Some("ready"), None));
        assert_eq!(
            (row.commit_id.as_deref(), row.dataset_digests),
            (Some("c0ffee"), vec!["d1".to_owned(), "d2".to_owned()])
        );
        assert_eq!(row.metrics, [("accuracy".to_owned(), 0.5)].into());
        // 2024-08-01 is 54 years and 14 leap days, then 213 days after 1970: 19 936.
        assert_eq!(row.name_date_days, Some(19_936));

        let alone = ModelVersionRecord::of_mlflow(&version, None);
        assert_eq!((alone.run_id.as_deref(), alone.commit_id, alone.metrics.len()), (Some("r1"), None, 0));
    }

    #[test]
    fn a_row_has_a_version_only_where_one_is_known() {
        let target = Target { service: "resize".to_owned(), environment: None };
        let mark = |time_us, version: &str| {
            let release = Release { model: "resnet".to_owned(), version: version.to_owned() };
            Observation { target: target.clone(), time_us, evidence: Evidence::Mark { release }, received_us: time_us }
        };
        let built = timelines(&[mark(5, "1"), mark(9, "2"), mark(9, "3")], &TimelineRules::default(), 20);
        let rows = DeploymentRecord::of_timeline(&target, &built[&target]);
        assert_eq!((rows[0].version.as_deref(), rows[0].basis, rows[0].to_us), (Some("1"), Some("mark"), Some(9)));
        assert_eq!(
            (rows[1].status, &rows[1].version, rows[1].candidates.join(" ")),
            ("uncertain", &None, "2 3".to_owned())
        );
    }

    #[test]
    fn an_alias_move_is_an_event_with_its_window() {
        let change = Change::AliasMoved {
            model: "resnet".to_owned(),
            alias: "champion".to_owned(),
            from: Some("2".to_owned()),
            to: None,
            not_before_us: 10,
            seen_us: 20,
        };
        let row = EventRecord::of_change(&change, Some(1), 20);
        assert_eq!((row.not_before_us, row.time_us, row.kind), (10, 20, "alias_moved"));
        assert_eq!(row.text, "alias champion of resnet moved from 2 to nothing");
    }
}
