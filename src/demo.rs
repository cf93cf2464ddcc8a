//! The demonstration data: one week of a simulated fleet, a simulated incident, and a real token trace, all as OTLP requests.
//!
//! Nothing here reads a clock or a random device: seed and end time are arguments, so a week can be made again bit for
//! bit. Every simulated resource carries `driftwatt.simulated = "true"`; the trace carries its source instead.

mod containers;
mod fleet;
mod host;
mod incident;
mod layout;
mod load;
mod trace;

/// What its metrics call their instrumentation scope.
const SCOPE: &str = "driftwatt.demo";

pub(crate) use fleet::Fleet;
pub(crate) use incident::{CHANGE_MINUTE, Incident, SERVICE as INCIDENT_SERVICE};
pub(crate) use layout::PRICES;
pub(crate) use trace::TokenTrace;
