//! Simulated incidents whose cause is known: latency follows the physics of `latency`, token counts those of real requests.
//!
//! Everything follows from kind and seed, and every window says that it is simulated. The generator shares no code with the
//! method; its latency models are not the method's regression (attention, batches, caches and queues are not linear).

mod incident;
mod latency;
mod machines;
mod requests;
#[cfg(test)]
mod tests;
mod token_table;

use super::{
    Question,
    service_window::{Event, ServiceWindow},
    verdict::Verdict,
};
use crate::simulated_fleet::Rng;
use incident::Incident;
pub use latency::LatencyModel;

/// Minutes of a scenario.
pub const MINUTES: usize = 120;
/// Minutes that are normal in every scenario.
pub const REFERENCE_MINUTES: usize = 40;

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it, `as_str` says it in words")]
pub enum Kind {
    Null,
    NullDeployment,
    InputsUp,
    InputsDown,
    Resolution,
    TenantMix,
    Throttle110,
    Throttle125,
    SlowHost,
    BadGpu,
    Network,
    NoisyNeighbour,
    CpuStarvation,
    FewerReplicas,
    Queue,
    InputsFillQueue,
    SlowerVersion,
    TalkativeVersion,
    Both,
    HiddenThrottle,
    MissingTelemetry,
}

/// All kinds.
pub const KINDS: [Kind; 21] = [
    Kind::Null,
    Kind::NullDeployment,
    Kind::InputsUp,
    Kind::InputsDown,
    Kind::Resolution,
    Kind::TenantMix,
    Kind::Throttle110,
    Kind::Throttle125,
    Kind::SlowHost,
    Kind::BadGpu,
    Kind::Network,
    Kind::NoisyNeighbour,
    Kind::CpuStarvation,
    Kind::FewerReplicas,
    Kind::Queue,
    Kind::InputsFillQueue,
    Kind::SlowerVersion,
    Kind::TalkativeVersion,
    Kind::Both,
    Kind::HiddenThrottle,
    Kind::MissingTelemetry,
];

impl Kind {
    /// Name in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::NullDeployment => "deployment without effect",
            Self::InputsUp => "longer inputs",
            Self::InputsDown => "shorter inputs",
            Self::Resolution => "images no longer scaled down",
            Self::TenantMix => "tenant mix",
            Self::Throttle110 => "throttle, factor 1.1",
            Self::Throttle125 => "throttle, factor 1.25",
            Self::SlowHost => "one slow host",
            Self::BadGpu => "one bad GPU",
            Self::Network => "network",
            Self::NoisyNeighbour => "noisy neighbour",
            Self::CpuStarvation => "CPU starvation",
            Self::FewerReplicas => "fewer replicas",
            Self::Queue => "more requests, queue",
            Self::InputsFillQueue => "longer inputs fill the queue",
            Self::SlowerVersion => "slower version",
            Self::TalkativeVersion => "version with longer outputs",
            Self::Both => "longer inputs and throttle",
            Self::HiddenThrottle => "shorter inputs hide a throttle",
            Self::MissingTelemetry => "missing telemetry",
        }
    }

    /// The verdict that is right.
    pub fn truth(self) -> Verdict {
        match self {
            Self::Null | Self::NullDeployment => Verdict::None,
            Self::InputsUp | Self::InputsDown | Self::Resolution | Self::TenantMix => Verdict::Input,
            Self::Throttle110
            | Self::Throttle125
            | Self::SlowHost
            | Self::BadGpu
            | Self::Network
            | Self::NoisyNeighbour
            | Self::CpuStarvation
            | Self::FewerReplicas => Verdict::System,
            Self::Queue | Self::InputsFillQueue => Verdict::Saturation,
            Self::SlowerVersion | Self::TalkativeVersion => Verdict::Model,
            Self::Both | Self::HiddenThrottle => Verdict::Mixed,
            Self::MissingTelemetry => Verdict::Inconclusive,
        }
    }
}

/// One simulated incident.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// What happens.
    pub kind: Kind,
    /// How latency comes about.
    pub model: LatencyModel,
    /// Telemetry.
    pub window: ServiceWindow,
    /// What is asked: the first 40 minutes are normal, the time of the change is not given.
    pub question: Question,
    /// Minute of the change.
    pub onset: usize,
}

/// Simulates `kind`, about `per_side` requests compared on each side; the latency model rotates with the seed.
pub fn simulate(kind: Kind, seed: u64, per_side: usize) -> Scenario {
    let mut rng = Rng::new(seed.wrapping_mul(0x9E6C_63D0_876A_3F6B) ^ (kind as u64) << 56);
    let model = LatencyModel::ALL[(seed % LatencyModel::ALL.len() as u64) as usize];
    let incident = Incident::new(kind, model, seed, &mut rng);
    // A side is half of the window less the guard.
    let rate = per_side as f64 / (MINUTES as f64 / 2.0 - 5.0);
    let mut window = ServiceWindow {
        service: format!("simulated-{}", kind.as_str().replace([' ', ',', '.'], "-")),
        simulated: true,
        minute_count: MINUTES,
        clock_skew_s: Some(0.2),
        ..ServiceWindow::default()
    };
    let load = requests::fill(&mut window, &incident, rate, &mut rng);
    machines::fill(&mut window, &incident, &load, &mut rng);
    if incident.new_version {
        let what = "deployment assistant v2.9 -> v2.10".to_owned();
        window.events.push(Event { minute: incident.onset as f64 - 0.5, what });
    }
    if kind == Kind::MissingTelemetry {
        remove_telemetry(&mut window, seed, &mut rng);
    }
    let question = Question { reference: 0..REFERENCE_MINUTES, to: MINUTES, at: None };
    Scenario { kind, model, window, question, onset: incident.onset }
}

/// Takes away what one of five badly instrumented services does not send.
fn remove_telemetry(window: &mut ServiceWindow, seed: u64, rng: &mut Rng) {
    match seed / 5 % 5 {
        0 => window.features.clear(),
        1 => window.signals.clear(),
        2 => window.signals.retain(|signal| !signal.kind.as_str().starts_with("GPU")),
        3 => {
            // Exporters die at the change and take the machines' view with them.
            for signal in &mut window.signals {
                signal.values[MINUTES / 2..].fill(f32::NAN);
            }
        }
        _ => {
            // Half of the spans lost their token counts.
            for feature in &mut window.features {
                for value in &mut feature.values {
                    if rng.uniform() < 0.5 {
                        *value = f32::NAN;
                    }
                }
            }
        }
    }
}
