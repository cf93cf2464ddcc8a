//! Jobs over the stored telemetry: weekly report, idle examination, drift score; and the model registry that lineage reads.
//!
//! Every job reads through a session (views `gpu`, `system`, `inputs`, `metrics` and the schema `raw`), takes the current
//! time as an argument, states its data coverage, keeps simulated and real data apart, and writes its result with its
//! inputs to a result table when it is given a store.

pub mod allocation;
pub mod autoscaler;
mod broken_file;
pub mod change;
pub mod chart;
pub mod dated_rows;
pub mod delivery;
pub mod demand;
pub mod diagnosis;
pub mod drift;
mod duration_setting;
pub mod energy;
mod error;
pub mod focus;
mod format;
pub mod gates;
pub mod gpu_minutes;
pub mod gpu_state;
pub mod hpa_advice;
pub mod idle;
pub mod ledger;
pub mod lineage;
pub mod manifest;
pub mod money;
pub mod off_peak;
pub mod owner_mail;
pub mod page;
pub mod points_content;
pub mod price_book;
pub mod recommend;
pub mod recommendation;
pub mod registry;
pub mod replay;
pub mod report;
mod request_failure;
mod result_table;
mod rows;
pub mod runs;
pub mod schedule;
pub mod simulated_fleet;
pub mod sizing;
#[cfg(test)]
mod test_session;
pub mod unit_cost;
pub mod veto;
pub mod waterfall;
mod window;

pub use chrono_tz::Tz;
pub use error::{Error, Result};
pub use price_book::PriceBook;
pub use window::Window;
