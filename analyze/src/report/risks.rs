//! Services that one failure or one busy hour would stop.

use super::{labels::Dimension, rows::Row};
use crate::{allocation::UNALLOCATED, recommend::RecommendReport};

/// Duty at the 95th percentile from which a service has no headroom.
const NO_HEADROOM_P95: f64 = 0.9;

/// One risk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Risk {
    pub(super) service: String,
    pub(super) what: String,
}

/// Services with one replica, and those whose cards are nearly always busy.
pub(super) fn risks(advice: Option<&RecommendReport>, simulated: bool, rows: &[Row]) -> Vec<Risk> {
    let mut risks = Vec::new();
    let services = advice.iter().flat_map(|advice| &advice.services);
    for service in services.filter(|service| service.simulated == simulated) {
        if service.replica_count == 1 {
            risks.push(Risk {
                service: service.service.clone(),
                what: "one replica: its failure or its node's stops the service; the floor is 2".to_owned(),
            });
        }
    }
    for row in rows.iter().filter(|row| row.dimension == Dimension::Service && row.name != UNALLOCATED) {
        if let Some(p95) = row.now.gpu.p95.filter(|p95| *p95 >= NO_HEADROOM_P95) {
            risks.push(Risk {
                service: row.name.clone(),
                what: format!("no headroom: its GPUs are {:.0} % busy at the 95th percentile of minutes", p95 * 100.0),
            });
        }
    }
    risks
}
