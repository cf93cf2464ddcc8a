//! Whether the telemetry can carry a verdict, and how to send what is missing.

use super::{
    cost_model::coverage,
    onset::Sides,
    service_window::{Dimension, Role, ServiceWindow, SignalKind},
    system_rank::is_covered,
};

/// Something without which no cause can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// No request says how long it took.
    Latency,
    /// No request says how large its input was.
    Inputs,
    /// Requests run on GPUs of which no health signal covers both windows.
    GpuSignals,
    /// No health signal of any machine covers both windows.
    MachineSignals,
    /// Too few requests on a side.
    Requests,
    /// Signals and requests have clocks too far apart to be joined by minute.
    CommonClock,
}

impl Missing {
    /// What is missing and how to send it, one sentence.
    pub fn how_to_send(self) -> &'static str {
        match self {
            Self::Latency => {
                "latency is missing: record a histogram of it (http.server.request.duration or gen_ai.server.request.duration), \
                 or send a point per request"
            }
            Self::Inputs => {
                "input sizes are missing: record a histogram of them beside the latency, with the same attributes \
                 (driftwatt.input.tokens, driftwatt.input.pixels, gen_ai.client.token.usage or http.server.request.body.size)"
            }
            Self::GpuSignals => {
                "GPU health is missing: let the collector scrape DCGM (clocks, throttle reasons, XID errors) on the \
                 hosts of this service"
            }
            Self::MachineSignals => {
                "machine health is missing: let the collector send host metrics (CPU and memory pressure, disk, \
                 network) and GPU metrics for the hosts of this service"
            }
            Self::Requests => "too few requests: ask about a longer time",
            Self::CommonClock => "the clocks of requests and machines differ: run a time service on both",
        }
    }
}

/// Something odd that does not by itself forbid a verdict.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Status {
    /// A side has fewer requests than the limit.
    FewRequests {
        /// Requests before.
        before: u64,
        /// Requests after.
        after: u64,
    },
    /// Clocks differ by more than a minute.
    ClockSkew {
        /// Seconds.
        seconds: f64,
    },
    /// A second change follows within the window after.
    OverlappingIncidents {
        /// Minute of the second.
        minute: usize,
    },
    /// An input is known for too few requests and was left out.
    InputLeftOut {
        /// Which.
        role: Role,
        /// Share of the requests that have it.
        coverage: f64,
    },
    /// Arrivals are unknown: offered work cannot be told.
    ArrivalsUnknown,
    /// Too little of one side is comparable with the other.
    LowOverlap {
        /// Share of the requests in comparable cells.
        coverage: f64,
    },
}

impl Status {
    /// One sentence.
    pub fn text(&self) -> String {
        match self {
            Self::FewRequests { before, after } => {
                format!("only {before} requests before and {after} after the change")
            }
            Self::ClockSkew { seconds } => {
                format!("clocks of requests and machines differ by {seconds:.0} s: what came first is not judged")
            }
            Self::OverlappingIncidents { minute } => {
                format!("a second change follows in minute {minute}: the figures cover both")
            }
            Self::InputLeftOut { role, coverage } => {
                format!("{} are known for {:.0} % of the requests only and left out", role.as_str(), 100.0 * coverage)
            }
            Self::ArrivalsUnknown => "arrivals are unknown: more load cannot be told from a slower server".to_owned(),
            Self::LowOverlap { coverage } => {
                format!(
                    "only {:.0} % of the requests have counterparts of equal cost on the other side",
                    100.0 * coverage
                )
            }
        }
    }
}

/// Everything missing, given the two windows.
pub fn missing(window: &ServiceWindow, sides: &Sides, inputs_known: bool) -> Vec<Missing> {
    let covered = |wanted: fn(SignalKind) -> bool| {
        window.signals.iter().any(|signal| wanted(signal.kind) && signal.kind.is_fault() && is_covered(signal, sides))
    };
    let mut missing = Vec::new();
    if window.latency_ms.is_empty() {
        missing.push(Missing::Latency);
    }
    if !inputs_known {
        missing.push(Missing::Inputs);
    }
    if !covered(|kind| kind != SignalKind::Replicas) {
        missing.push(Missing::MachineSignals);
    } else if window.labels_of(Dimension::Gpu).is_some() && !covered(is_gpu_health) {
        missing.push(Missing::GpuSignals);
    }
    missing
}

fn is_gpu_health(kind: SignalKind) -> bool {
    matches!(kind, SignalKind::GpuClock | SignalKind::GpuThrottle | SignalKind::XidErrors | SignalKind::EccErrors)
}

/// Inputs that are sent, but by too few requests.
pub fn left_out(window: &ServiceWindow, sides: &Sides, coverage_min: f64) -> Vec<Status> {
    let rows = [&sides.before, &sides.after].map(|side| window.rows(side.start, side.end));
    let roles = window.features.iter().map(|feature| feature.role).filter(|role| *role != Role::QueueMs);
    roles
        .map(|role| (role, coverage(window, role, &rows)))
        .filter(|(_, coverage)| *coverage < coverage_min)
        .map(|(role, coverage)| Status::InputLeftOut { role, coverage })
        .collect()
}
