//! Simulated services whose true demand is known: for tests and benches of verdicts, and for load shapes of a demo.
//!
//! Everything follows from a seed; no clock, no I/O. The truth is that of the generating demand and shares no code with the decision.

mod rng;
#[cfg(test)]
mod tests;
pub mod verdicts;

pub use rng::Rng;

use crate::{
    gpu_state::{GpuSample, GpuUse, Workload},
    window::MINUTE_US,
};

/// Minutes of a day.
pub const DAY_MINUTES: usize = 1_440;
/// Days that are observed, and as many that follow.
pub const OBSERVED_DAYS: usize = 14;
/// Monday 2026-03-02 00:00 UTC: two weeks later the clocks of New York, not those of Berlin, have changed.
pub const START_US: i64 = 1_772_409_600_000_000;

const GIB: f64 = 1_073_741_824.0;
const GPU_MEMORY_BYTES: f64 = 80.0 * GIB;
/// A fleet is truly safe when at most this share of minutes ...
const SAFE_OVER_SHARE: f64 = 0.001;
/// ... demands more than this share of its GPUs.
const SAFE_LOAD: f64 = 0.85;

/// What a service is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No work, no memory.
    Idle,
    /// A model in memory, hardly any work.
    IdleHeld,
    /// Steady work.
    Busy,
    /// Little work and bursts of minutes to an hour.
    Bursty,
    /// Days and nights, weekdays and weekends.
    Seasonal,
    /// As seasonal, but exporters freeze.
    HungExporter,
    /// As seasonal, but telemetry is missing for a good part.
    Gaps,
}

/// All kinds.
pub const KINDS: [Kind; 7] =
    [Kind::Idle, Kind::IdleHeld, Kind::Busy, Kind::Bursty, Kind::Seasonal, Kind::HungExporter, Kind::Gaps];

/// One simulated service on GPUs of its own.
#[derive(Debug, Clone)]
pub struct SimulatedService {
    /// Kind.
    pub kind: Kind,
    /// GPUs, one a replica.
    pub gpu_count: usize,
    seed: u64,
    demand: Vec<f64>,
    memory_bytes: f64,
}

impl Kind {
    /// Name in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::IdleHeld => "idle-held",
            Self::Busy => "busy",
            Self::Bursty => "bursty",
            Self::Seasonal => "seasonal",
            Self::HungExporter => "hung exporter",
            Self::Gaps => "gaps",
        }
    }

    /// Whether its telemetry allows a verdict.
    pub fn is_measured(self) -> bool {
        !matches!(self, Self::HungExporter | Self::Gaps)
    }
}

impl SimulatedService {
    /// The service of a seed: 4 to 24 GPUs, four weeks of demand.
    pub fn new(kind: Kind, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let gpu_count = 4 + (rng.next_u64() % 21) as usize;
        let memory_bytes = match kind {
            Kind::Idle => 0.4 * GIB,
            _ => (8.0 + 60.0 * rng.uniform()) * GIB,
        };
        let demand = demand(kind, gpu_count as f64, &mut rng);
        Self { kind, gpu_count, seed, demand, memory_bytes }
    }

    /// True demand of each minute of the four weeks, GPU-equivalents.
    pub fn demand(&self) -> &[f64] {
        &self.demand
    }

    /// Mean true share busy in the two weeks that follow.
    pub fn following_mean_share(&self) -> f64 {
        let following = &self.demand[OBSERVED_DAYS * DAY_MINUTES..];
        following.iter().sum::<f64>() / following.len() as f64 / self.gpu_count as f64
    }

    /// Whether `gpu_count` GPUs would have been enough in the two weeks that follow: the truth.
    pub fn is_safe_at(&self, gpu_count: usize) -> bool {
        let following = &self.demand[OBSERVED_DAYS * DAY_MINUTES..];
        let over = following.iter().filter(|demand| **demand > SAFE_LOAD * gpu_count as f64).count();
        over as f64 <= SAFE_OVER_SHARE * following.len() as f64
    }

    /// What the telemetry says of GPU `index` besides samples.
    pub fn gpu_use(&self) -> GpuUse {
        GpuUse { service: Some("simulated".into()), workload: Workload::Serving, shared: false }
    }

    /// Memory that its model holds on each GPU, and the card's, bytes.
    pub fn memory_bytes(&self) -> (f64, f64) {
        (self.memory_bytes, GPU_MEMORY_BYTES)
    }

    /// Samples of GPU `index` over the two observed weeks, one every `interval_s`.
    ///
    /// NVML looks at an instant, not at the interval: a GPU that is 25 % busy shows 0 % in three of four samples, and 60 to 100 %,
    /// in whole percent, in the fourth.
    pub fn samples(&self, index: usize, interval_s: u32) -> Vec<GpuSample> {
        let mut rng = Rng::new(self.seed ^ (index as u64 + 1).wrapping_mul(0xD134_2543_DE82_EF95));
        let count = OBSERVED_DAYS * DAY_MINUTES * 60 / interval_s as usize;
        let interval_us = i64::from(interval_s) * 1_000_000;
        let (lost, frozen_from) = self.faults(count, &mut rng);
        let mut samples: Vec<GpuSample> = Vec::with_capacity(count);
        // Balancers are not fair: each replica gets a little more or less than its share.
        let bias = 1.0 + 0.1 * (index as f64 / self.gpu_count as f64 - 0.5);
        for number in 0..count {
            let time_us = START_US + number as i64 * interval_us;
            if let (Some(last), true) = (samples.last(), number >= frozen_from) {
                samples.push(GpuSample { time_us, ..*last });
                continue;
            }
            let minute = ((time_us - START_US) / MINUTE_US) as usize;
            let load = (self.demand[minute] / self.gpu_count as f64 * bias).min(1.0);
            let level = 0.6 + 0.4 * rng.uniform();
            let works = rng.uniform() < load / level.max(load);
            let duty = if works { (level.max(load) * 100.0).round() / 100.0 } else { 0.0 };
            let power = 68.0 + 4.0 * rng.uniform() + duty * (420.0 + 60.0 * rng.uniform());
            if !lost.iter().any(|range| range.contains(&number)) {
                samples.push(GpuSample {
                    time_us,
                    duty: Some(duty),
                    memory_bytes: Some(self.memory_bytes * (1.0 + 0.05 * load)),
                    power_watts: Some((power * 1_000.0).round() / 1_000.0),
                    process_count: Some(u32::from(self.kind != Kind::Idle)),
                    requests_per_second: None,
                });
            }
        }
        samples
    }

    /// Samples lost, and the first that repeats the one before it.
    fn faults(&self, count: usize, rng: &mut Rng) -> (Vec<std::ops::Range<usize>>, usize) {
        let part = |share: f64| (share * count as f64) as usize;
        // Every fleet loses a little: restarts of its collectors.
        let restarts = (0..3).map(|_| part(0.99 * rng.uniform())).map(|from| from..from + part(0.002));
        let mut lost: Vec<_> = restarts.collect();
        let severity = 0.2 + 0.5 * Rng::new(self.seed).uniform();
        let frozen_from = if self.kind == Kind::HungExporter { part(1.0 - severity) } else { count };
        if self.kind == Kind::Gaps {
            let from = part((1.0 - severity) * rng.uniform());
            lost.push(from..from + part(severity));
        }
        (lost, frozen_from)
    }
}

/// Daily and weekly swing, 0 to 1. The night is long and flat, the peak is not.
pub fn swing(minute: usize, peak_hour: f64, weekend: f64) -> f64 {
    let hour = (minute % DAY_MINUTES) as f64 / 60.0;
    let daily = 0.08 + 0.92 * (0.5 + 0.5 * (std::f64::consts::TAU * (hour - peak_hour) / 24.0).cos()).powi(2);
    let is_weekend = (minute / DAY_MINUTES) % 7 >= 5;
    daily * if is_weekend { weekend } else { 1.0 }
}

fn demand(kind: Kind, gpus: f64, rng: &mut Rng) -> Vec<f64> {
    let minutes = 2 * OBSERVED_DAYS * DAY_MINUTES;
    let (peak_hour, weekend) = (8.0 + 12.0 * rng.uniform(), 0.2 + 1.1 * rng.uniform());
    let growth_per_week = 0.03 * rng.normal();
    let (base, amplitude) = match kind {
        Kind::Idle => (0.0, 0.0),
        Kind::IdleHeld => (0.01 * rng.uniform(), 0.04 * rng.uniform()),
        Kind::Busy => (0.35 + 0.15 * rng.uniform(), 0.15 + 0.2 * rng.uniform()),
        Kind::Bursty => (0.02 + 0.06 * rng.uniform(), 0.1 * rng.uniform()),
        // From far too large to just right.
        Kind::Seasonal | Kind::HungExporter | Kind::Gaps => (0.02, 0.15 + 0.75 * rng.uniform()),
    };
    let bursts = (kind == Kind::Bursty).then(|| (0.5 + 4.0 * rng.uniform(), 0.3 + 0.6 * rng.uniform()));
    // Load wanders over tens of minutes (first-order noise), and no two days are the same.
    let (mut wander, mut day_level, mut burst, mut burst_left) = (0.0, 1.0, 0.0, 0_usize);
    let mut values = Vec::with_capacity(minutes);
    for minute in 0..minutes {
        if minute % DAY_MINUTES == 0 {
            day_level = 1.0 + 0.06 * rng.normal();
        }
        wander = 0.97 * wander + 0.25 * 0.08 * rng.normal();
        if let Some((per_day, height)) = bursts
            && burst_left == 0
            && rng.uniform() < per_day / DAY_MINUTES as f64
        {
            burst = height * (0.8 + 0.3 * rng.uniform());
            burst_left = 4 + (rng.next_u64() % 56) as usize;
        }
        let trend = 1.0 + growth_per_week * minute as f64 / (7 * DAY_MINUTES) as f64;
        let usual = (base + amplitude * swing(minute, peak_hour, weekend)) * trend * day_level * (1.0 + wander);
        let extra = if burst_left > 0 { burst } else { 0.0 };
        burst_left = burst_left.saturating_sub(1);
        values.push(((usual + extra) * gpus).clamp(0.0, gpus));
    }
    values
}
