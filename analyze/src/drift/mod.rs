//! Drift: does the current window of an input still look like the reference?
//!
//! Definitions, errors and sources: `docs/drift.md`; the job and its table: `docs/analysis.md`.

mod aggregates;
mod bin_counts;
mod buckets;
#[cfg(test)]
mod calibration_tests;
pub mod category_counts;
pub mod chi_square;
pub mod comparison;
pub mod compat;
pub mod contingency;
pub mod decision;
pub mod distance;
pub mod exact_sum;
pub mod explain;
pub mod feature_state;
mod feature_weights;
mod features;
mod histogram;
mod hourly;
mod label;
mod measure;
pub mod multiplicity;
pub mod numeric;
mod observed;
mod other_scores;
mod page;
#[cfg(test)]
mod property_tests;
mod read;
pub mod reference_window;
mod request;
mod run;
#[cfg(test)]
mod run_tests;
mod run_text;
mod score;
mod score_table;
pub mod segments;
pub mod sort;
mod state_bytes;
pub mod statistics;
#[cfg(test)]
mod statistics_tests;
#[cfg(test)]
mod tests;
mod timeline;
pub mod two_sample;

pub use aggregates::register_aggregates;
pub use feature_weights::FeatureWeights;
pub use features::features;
pub(crate) use hourly::{segment_filters, segment_text};
pub(crate) use label::label_sql;
pub use other_scores::{OtherScore, OtherValue};
pub use request::{DriftRequest, Filter, Side, Source, Subject, VALUES_MAX};
pub(crate) use run::between;
pub use run::{DriftRun, Refused, RunRequest, SEGMENTS_MAX, run};
pub use score::{DriftScore, SideSummary};
pub use timeline::{Timeline, timelines};

/// Result table of this job.
pub const TABLE: &str = "drift_scores";
