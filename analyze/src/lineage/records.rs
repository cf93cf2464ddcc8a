//! Rows of the lineage tables, as they are stored and read back.
//!
//! Times are UTC microseconds. `None` becomes null and means: the source did not say. Rows are only ever added: what changed has a
//! later row, so that a table tells what was known at any time.

mod checkpoint;
mod dataset_place;
mod deployment;
mod event;
mod model_version;

pub use checkpoint::CheckpointRecord;
pub use dataset_place::{DatasetPlace, Side};
pub use deployment::{DeploymentRecord, corrections};
pub(super) use deployment::{basis_text, confidence_text};
pub use event::{EventRecord, Statement};
pub use model_version::{ModelVersionRecord, RunState};

use crate::window::MILLISECOND_US;

/// Microseconds of a time in milliseconds; `None` where no clock goes that far.
fn from_ms(time_ms: Option<i64>) -> Option<i64> {
    time_ms.and_then(|time_ms| time_ms.checked_mul(MILLISECOND_US))
}
