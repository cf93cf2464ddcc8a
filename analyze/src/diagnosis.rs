//! System or AI? Why the latency of a service changed: the machines, the model, or what it was asked.

pub mod bootstrap;
pub mod cost_model;
mod error;
pub mod minute_series;
pub mod onset;
pub mod regression_sums;
pub mod robust;
pub mod service_window;
pub mod split;

pub use error::Error;
