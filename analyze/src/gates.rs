//! Gates: rules about a table that hold before its data is used.
//!
//! A [`Contract`] or an [`Import`] states the rules, a [`Scan`] decides all of them in one pass over the record batches,
//! and each rule answers with a [`RuleResult`] of its own, whose sum is the [`Outcome`]. Images are judged by their
//! headers ([`image`]). Nothing here knows where the batches come from, what time it is, or who is told.

mod batch_name;
mod contract;
mod document;
mod error;
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
pub use history::{BatchSummary, ColumnSummary, PAST_BATCHES_MAX};
pub use import::{Import, Unmapped};
pub use limit::{Condition, Limit, Unit};
pub use result::{Outcome, RuleResult, Status};
pub use rule::{Dimension, Interval, LabelFormat, LogicalType, Rule, RuleKind, Severity};
pub use scan::{Reference, References, Sample, Scan, mask};
