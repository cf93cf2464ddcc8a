//! Which data, parameters and code made what ran at a given moment, and whether it was better than what ran before.
//!
//! The sources (a model registry, DVC files, a git work tree, OpenLineage events, resource attributes of telemetry, marks of
//! scripts) are parsed into observations, and observations become intervals of one version per service and environment: pure
//! functions of what was observed, without clock or network. `records`, `deployment_mark` and `event_inlet` are the tables, `sightings`
//! and `service_timelines` read them and the telemetry, `answer` puts it together.
//!
//! Invariants:
//! - The same set of observations gives the same intervals, whatever the order of their arrival.
//! - What the evidence does not settle has a status with its reason, and no version.

pub mod answer;
pub mod artifact_name;
mod artifact_version;
pub mod checkpoint;
pub mod checkpoint_alarm;
pub mod checkpoint_folder;
pub mod deployed_view;
pub mod deployment;
pub mod deployment_mark;
pub mod dvc;
pub mod event_inlet;
pub mod findings;
pub mod git_commit;
pub mod label_file;
pub mod mlflow;
pub mod open_lineage;
pub mod prediction_label;
pub mod records;
pub mod rollback_advice;
pub mod service_timelines;
pub mod sightings;
pub mod timeline;
pub mod version_card;
pub mod work_tree;

pub use artifact_version::{ArtifactVersion, VersionError};
