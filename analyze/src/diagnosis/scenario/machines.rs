//! Draws what machines report: levels with slow noise, load where it shows, the incident, and something unrelated.

use super::{
    MINUTES,
    incident::{GPUS, HOSTS, Incident},
    requests::Load,
};
use crate::{
    diagnosis::service_window::{Dimension, ServiceWindow, Signal, SignalKind},
    simulated_fleet::Rng,
};

/// Fills the signals of `window`.
pub(super) fn fill(window: &mut ServiceWindow, incident: &Incident, load: &Load, rng: &mut Rng) {
    // Machines change up to three minutes before requests show it.
    let lead = (4.0 * rng.uniform()) as usize;
    let simulator = Simulator { incident, load, from: incident.onset - lead };
    for gpu in 0..GPUS {
        let container = Some((Dimension::Gpu, format!("gpu-{gpu}")));
        use SignalKind::{EccErrors, GpuClock, GpuThrottle, GpuUtilisation, XidErrors};
        for kind in [GpuUtilisation, GpuClock, GpuThrottle, XidErrors, EccErrors] {
            window.signals.push(Signal { kind, container: container.clone(), values: simulator.gpu(kind, gpu, rng) });
        }
    }
    for host in 0..HOSTS {
        let container = Some((Dimension::Host, format!("host-{host}")));
        use SignalKind::{CpuStarvation, CpuUtilisation, DiskLatency, MemoryPressure, NetworkRetransmits};
        for kind in [CpuUtilisation, CpuStarvation, MemoryPressure, DiskLatency, NetworkRetransmits] {
            window.signals.push(Signal { kind, container: container.clone(), values: simulator.host(kind, host, rng) });
        }
    }
    for kind in [SignalKind::QueueLength, SignalKind::KvCacheUsage, SignalKind::Replicas] {
        window.signals.push(Signal { kind, container: None, values: simulator.service(kind, rng) });
    }
    disturb(window, rng);
}

struct Simulator<'a> {
    incident: &'a Incident,
    load: &'a Load,
    from: usize,
}

impl Simulator<'_> {
    fn gpu(&self, kind: SignalKind, gpu: usize, rng: &mut Rng) -> Vec<f32> {
        let slow = self.incident.slow[gpu];
        let shows = slow > 1.0 && self.incident.shows.contains(&kind);
        let mut noise = Noise::default();
        let level = |minute: usize, rng: &mut Rng| {
            let now = shows && self.is_slow(minute);
            let after = minute >= self.from;
            match kind {
                SignalKind::GpuUtilisation => {
                    let starved = if after { self.incident.starved } else { 1.0 };
                    ((0.15 + 0.9 * self.load.utilisation[minute]) * starved * noise.factor(0.04, rng)).min(1.0)
                }
                SignalKind::GpuClock => 1_695.0 / if now { slow } else { 1.0 } * noise.factor(0.002, rng),
                SignalKind::GpuThrottle => {
                    let share = if now { 1.0 - 1.0 / slow + 0.15 } else { 0.01 };
                    share * noise.factor(0.15, rng)
                }
                // Errors are counted in whole numbers, and one in 500 minutes is nobody's fault.
                _ => rng.poisson(if now { 2.0 } else { 0.002 }) as f64,
            }
        };
        series(level, rng)
    }

    fn host(&self, kind: SignalKind, host: usize, rng: &mut Rng) -> Vec<f32> {
        let slow = self.incident.slow[2 * host];
        let shows = slow > 1.0 && self.incident.shows.contains(&kind);
        let network = self.incident.network_share > 0.0 && host >= self.incident.network_from;
        let mut noise = Noise::default();
        let level = |minute: usize, rng: &mut Rng| {
            let now = shows && self.is_slow(minute);
            let scatter = noise.factor(0.12, rng);
            match kind {
                SignalKind::CpuUtilisation => (0.2 + 0.3 * self.load.utilisation[minute]) * noise.factor(0.03, rng),
                SignalKind::CpuStarvation => scatter * if now { 0.4 * (slow - 1.0) + 0.08 } else { 0.02 },
                SignalKind::MemoryPressure => scatter * if now { 0.3 * (slow - 1.0) + 0.05 } else { 0.01 },
                SignalKind::DiskLatency => scatter * if now { 1.2 + 8.0 * (slow - 1.0) } else { 1.2 },
                _ => scatter * if network && minute >= self.from { 0.02 } else { 0.000_5 },
            }
        };
        series(level, rng)
    }

    fn service(&self, kind: SignalKind, rng: &mut Rng) -> Vec<f32> {
        let mut noise = Noise::default();
        let level = |minute: usize, rng: &mut Rng| {
            let utilisation = self.load.utilisation[minute];
            match kind {
                SignalKind::QueueLength => {
                    let mean = 10.0 * self.incident.wait_share / 0.1 * utilisation.powi(2) / (1.0 - utilisation);
                    rng.poisson(mean.max(0.02)) as f64
                }
                SignalKind::KvCacheUsage => (0.15 + 0.7 * utilisation) * noise.factor(0.05, rng),
                _ => (8.0 * if minute >= self.from { self.incident.capacity } else { 1.0 }).round(),
            }
        };
        series(level, rng)
    }

    fn is_slow(&self, minute: usize) -> bool {
        minute >= self.from && (minute < self.incident.onset || self.load.slow_now[minute])
    }
}

/// A fifth of the fleet's oddities have nothing to do with latency: one signal of one host jumps at a random minute.
fn disturb(window: &mut ServiceWindow, rng: &mut Rng) {
    let hosts: Vec<usize> = (0..window.signals.len())
        .filter(|&at| matches!(window.signals[at].container, Some((Dimension::Host, _))))
        .collect();
    let signal = &mut window.signals[hosts[(rng.uniform() * hosts.len() as f64) as usize]];
    let start = 15 + (90.0 * rng.uniform()) as usize;
    let factor = 2.0 + 2.0 * rng.uniform();
    for value in &mut signal.values[start..] {
        *value *= factor as f32;
    }
}

/// Noise that stays alike from one minute to the next.
#[derive(Default)]
struct Noise {
    level: f64,
}

impl Noise {
    fn factor(&mut self, sigma: f64, rng: &mut Rng) -> f64 {
        self.level = 0.6 * self.level + 0.8 * rng.normal();
        (sigma * self.level).exp()
    }
}

fn series(mut level: impl FnMut(usize, &mut Rng) -> f64, rng: &mut Rng) -> Vec<f32> {
    (0..MINUTES).map(|minute| level(minute, rng) as f32).collect()
}
