//! Gates: rules about a table that hold before its data is used.
//!
//! A [`contract`](self) states the rules, one pass over the record batches decides them, and each rule answers with a
//! status of its own. Nothing here knows where the batches come from.

mod batch_name;

pub use batch_name::{BatchName, Oddity, Period};
