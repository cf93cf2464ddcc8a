//! Gates: rules about a table that hold before its data is used.
//!
//! A [`Contract`] or an [`Import`] states the rules, a [`Scan`] decides all of them in one pass over the record batches,
//! and each rule answers with a [`RuleResult`] of its own, whose sum is the [`Outcome`]. Images are judged by their
//! headers ([`image`]). [`check_file`] reads a file or a folder for it; a [`DatasetRecord`] is what is kept of it, and a
//! [`Notice`] what its owner is told. Nothing here knows what time it is, or sends anything.

mod advice;
mod batch_name;
mod checked;
mod contract;
mod dataset;
mod digest;
mod document;
mod error;
mod file;
mod history;
pub mod image;
mod import;
mod limit;
mod notice;
mod page;
mod reference;
mod result;
mod rule;
mod scan;
mod stream;
mod stream_gate;
mod watched_folder;

pub use batch_name::{BatchName, Oddity, Period};
pub use checked::{BatchKind, CheckInputs, CheckedFile};
pub use contract::{Contract, Note, Table};
pub use dataset::{ContractTag, DatasetRecord, TABLE, TABLE_EXISTS_SQL, history_sql, past_batches};
pub use error::{Error, Place, Result};
pub(crate) use file::open as open_rows;
pub use file::{batch_name, check_file, content_digest};
pub use history::{BatchSummary, ColumnSummary, PAST_BATCHES_MAX, PastBatch};
pub use import::{Import, Unmapped};
pub use limit::{Condition, Limit, Unit};
pub use notice::{BATCH_HELD, BatchPlace, Notice};
pub use reference::read_reference;
pub use result::{Outcome, RuleResult, Status};
pub use rule::{Dimension, Interval, LabelFormat, LogicalType, Rule, RuleKind, Severity};
pub use scan::{Reference, References, Sample, Scan, mask};
pub use stream::{StreamBatch, check_stream};
pub(crate) use stream_gate::{StreamGates, StreamVerdict};
pub use watched_folder::{ArrivedFile, RawWatchedFolder, WatchedFolder};
