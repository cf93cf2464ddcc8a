//! OpenLineage run events: received from pipelines, and sent for our own jobs.
//!
//! An event that misses what the specification requires is refused with the place; facets that are not kept, and those
//! of an odd shape, are left out and named, because a facet never decides whether a run took place. The specification
//! has no facet for models: a model is an output data set with a version.
//!
//! Source: OpenLineage specification 2-0-2, `OpenLineage.json` and its facets.

mod emitted;
mod received;

pub use emitted::{JobRun, run_event, run_uuid};
pub use received::{Dataset, EventError, RunEvent, RunState, read_event};

/// Schema of the events that are sent.
pub const RUN_EVENT_SCHEMA_URL: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";
