//! What changes in each kind of scenario, and by how much (drawn from the seed).

use super::{Kind, LatencyModel};
use crate::{diagnosis::service_window::SignalKind, simulated_fleet::Rng};

/// Machines.
pub(super) const HOSTS: usize = 4;
/// GPUs of all machines, two each.
pub(super) const GPUS: usize = 8;

/// Everything that differs after the onset; the defaults change nothing.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Incident {
    pub(super) model: LatencyModel,
    /// Whether the service reads images rather than text.
    pub(super) vision: bool,
    /// Whether outputs are short and prompts long (code completion) rather than the other way (chat).
    pub(super) code: bool,
    pub(super) onset: usize,
    /// Share of capacity in use before.
    pub(super) utilisation: f64,
    /// Mean wait at half utilisation, as a share of the mean cost.
    pub(super) wait_share: f64,
    pub(super) prompt_scale: f64,
    pub(super) output_scale: f64,
    /// Share of images that are sent as the camera took them.
    pub(super) unscaled_share: f64,
    /// Whether a tenant with other inputs grows.
    pub(super) tenant_shift: bool,
    pub(super) arrivals: f64,
    /// Replicas that are left, as a share.
    pub(super) capacity: f64,
    /// Factor of each GPU.
    pub(super) slow: [f64; GPUS],
    /// Share of the minutes in which `slow` holds.
    pub(super) burst_share: f64,
    /// Mean added by the network, as a share of the mean cost, on hosts from `network_from`.
    pub(super) network_share: f64,
    pub(super) network_from: usize,
    pub(super) new_version: bool,
    pub(super) version_factor: f64,
    /// Signals of GPUs with `slow` above 1 (or their hosts) that show it.
    pub(super) shows: Vec<SignalKind>,
    /// Factor of GPU utilisation: below 1 where GPUs wait for something else.
    pub(super) starved: f64,
}

impl Incident {
    pub(super) fn new(kind: Kind, model: LatencyModel, seed: u64, rng: &mut Rng) -> Self {
        let text_only = matches!(kind, Kind::TenantMix | Kind::TalkativeVersion);
        let mut incident = Self {
            model,
            vision: kind == Kind::Resolution || (seed / 5 % 4 == 3 && !text_only),
            code: seed / 5 % 2 == 1,
            onset: 55 + (10.0 * rng.uniform()) as usize,
            utilisation: 0.4,
            wait_share: if model == LatencyModel::Queue { 0.08 } else { 0.005 },
            prompt_scale: 1.0,
            output_scale: 1.0,
            unscaled_share: 0.0,
            tenant_shift: false,
            arrivals: 1.0,
            capacity: 1.0,
            slow: [1.0; GPUS],
            burst_share: 1.0,
            network_share: 0.0,
            network_from: HOSTS,
            new_version: false,
            version_factor: 1.0,
            shows: Vec::new(),
            starved: 1.0,
        };
        incident.demand(kind, rng);
        incident.machines(kind, rng);
        incident
    }

    /// What people and models change.
    fn demand(&mut self, kind: Kind, rng: &mut Rng) {
        let mut between = |low: f64, high: f64| low + (high - low) * rng.uniform();
        let mut scale_inputs = |low: f64, high: f64| {
            self.prompt_scale = between(low, high);
            self.output_scale = self.prompt_scale;
        };
        match kind {
            Kind::NullDeployment => self.new_version = true,
            Kind::InputsUp => scale_inputs(1.4, 1.9),
            Kind::InputsDown => scale_inputs(0.45, 0.7),
            Kind::Both => scale_inputs(1.4, 1.6),
            Kind::HiddenThrottle => scale_inputs(0.48, 0.55),
            Kind::Resolution => {
                // Five times the work must fit the machines, or the queue is the story.
                (self.unscaled_share, self.utilisation) = (between(0.4, 0.8), 0.12);
            }
            Kind::TenantMix => self.tenant_shift = true,
            Kind::Queue => {
                self.arrivals = between(1.9, 2.2);
                self.wait_share = 0.1;
            }
            Kind::InputsFillQueue => {
                scale_inputs(1.28, 1.38);
                (self.utilisation, self.wait_share) = (0.67, 0.15);
            }
            Kind::FewerReplicas => {
                self.capacity = if between(0.0, 1.0) < 0.5 { 0.5 } else { 0.625 };
                (self.utilisation, self.wait_share) = (0.45, 0.1);
            }
            Kind::SlowerVersion => (self.new_version, self.version_factor) = (true, between(1.15, 1.4)),
            Kind::TalkativeVersion => (self.new_version, self.output_scale) = (true, between(1.4, 1.8)),
            _ => {}
        }
    }

    /// What machines do.
    fn machines(&mut self, kind: Kind, rng: &mut Rng) {
        use SignalKind::{CpuStarvation, DiskLatency, EccErrors, GpuClock, GpuThrottle, MemoryPressure, XidErrors};
        let host = (rng.uniform() * HOSTS as f64) as usize;
        let gpu = (rng.uniform() * GPUS as f64) as usize;
        let choice = (rng.uniform() * 3.0) as usize;
        let throttle = vec![GpuClock, GpuThrottle];
        let one_host = |factor: f64| std::array::from_fn(|index| if index / 2 == host { factor } else { 1.0 });
        match kind {
            Kind::Throttle110 => (self.slow, self.shows) = ([1.1; GPUS], throttle),
            Kind::Throttle125 | Kind::Both => (self.slow, self.shows) = ([1.25; GPUS], throttle),
            Kind::HiddenThrottle => (self.slow, self.shows) = ([1.9; GPUS], throttle),
            Kind::MissingTelemetry => {
                (self.slow, self.shows) = ([1.3; GPUS], throttle);
                self.prompt_scale = 1.3;
            }
            Kind::SlowHost => {
                self.slow = one_host(1.5 + 0.3 * rng.uniform());
                self.shows = vec![[CpuStarvation, DiskLatency, MemoryPressure][choice]];
            }
            Kind::BadGpu => {
                self.slow[gpu] = 1.8 + 0.4 * rng.uniform();
                self.shows = vec![[XidErrors, EccErrors, GpuThrottle][choice]];
            }
            Kind::NoisyNeighbour => {
                self.slow = one_host(1.6 + 0.3 * rng.uniform());
                self.burst_share = 0.75;
                self.shows = vec![[CpuStarvation, MemoryPressure, MemoryPressure][choice]];
            }
            Kind::CpuStarvation => {
                (self.slow, self.shows) = ([1.15 + 0.15 * rng.uniform(); GPUS], vec![CpuStarvation]);
                self.starved = 0.75;
            }
            Kind::Network => {
                self.network_from = if choice == 0 { HOSTS / 2 } else { 0 };
                self.network_share = 0.12 + 0.1 * rng.uniform() + if choice == 0 { 0.08 } else { 0.0 };
                self.starved = 0.85;
            }
            _ => {}
        }
    }
}
