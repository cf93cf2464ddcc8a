//! Gates: rules about a table that hold before its data is used.
//!
//! A [`Contract`] or an [`Import`] states the rules, a [`Scan`] decides all of them in one pass over the record batches,
//! and each rule answers with a [`RuleResult`] of its own, whose sum is the [`Outcome`]. Images are judged by their
//! headers ([`image`]). [`check_file`] reads a file for it. Nothing here knows what time it is, or who is told.

mod batch_name;
mod contract;
mod document;
mod error;
mod file;
mod history;
pub mod image;
mod import;
mod limit;
mod result;
mod rule;
mod scan;

pub use batch_name::{BatchName, Oddity, Period};
pub use contract::{Contract, Note, Table};
pub use error::{Error, Place, Result};
pub use file::{CheckedFile, check_file};
pub use history::{BatchSummary, ColumnSummary, PAST_BATCHES_MAX};
pub use import::{Import, Unmapped};
pub use limit::{Condition, Limit, Unit};
pub use result::{Outcome, RuleResult, Status};
pub use rule::{Dimension, Interval, LabelFormat, LogicalType, Rule, RuleKind, Severity};
pub use scan::{Reference, References, Sample, Scan, mask};
