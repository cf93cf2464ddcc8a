//! The system side: which machine signals moved, moved first, and move with the slowdown.
//!
//! `score = min(20, |median after - median before| / max(IQR before, floor)) · lead · |rho|`: the robust change of BARO (Pham
//! et al., FSE 2024), times a weight for coming first (a signal that moves later is a consequence: 0.3), times the strongest
//! Spearman correlation, over lags of 0 to 5 minutes, with the residual of the requests that *this container* served in that
//! minute. Averages over a fleet are never correlated: on a real fleet GPU duty against latency is -0.24 pooled and +0.58
//! matched by container and time.

use super::{
    cost_model::CostModel,
    minute_series::{container_residual, row_residuals},
    onset::{self, Onset, Sides},
    robust,
    service_window::{Dimension, ServiceWindow, Signal, SignalKind},
};

/// Score from which a signal counts as moved.
pub const MOVED_SCORE_MIN: f64 = 1.5;
/// Robust change from which a signal is placed in time, and not called unchanged.
pub const CHANGE_MIN: f64 = 1.0;
/// Share of the minutes of each side that a signal must cover.
const COVERAGE_MIN: f64 = 0.7;
/// Longest lead in minutes over which a correlation is sought.
const LAG_MINUTES_MAX: usize = 5;
/// Weight of a signal that moved at another time.
const LATE_WEIGHT: f64 = 0.3;
/// Minutes by which a cause may lead the onset.
const LEAD_MINUTES_MAX: usize = 10;
/// Minutes after the onset in which a signal still counts as simultaneous.
const LATE_MINUTES_MAX: usize = 2;

/// One signal that was compared.
#[derive(Debug, Clone, PartialEq)]
pub struct RankedSignal {
    /// What.
    pub kind: SignalKind,
    /// Where; none is the whole service.
    pub container: Option<(Dimension, String)>,
    /// Medians before and after.
    pub medians: (f64, f64),
    /// Robust change, at most 20, positive where it moved up.
    pub change: f64,
    /// Minute in which it moved, where it did.
    pub onset_minute: Option<usize>,
    /// Strongest lagged rank correlation with the residual of the same container.
    pub correlation: Option<f64>,
    /// Whether it moved from ten minutes before the onset to two after it; false where the clocks disagree.
    pub in_time: bool,
    /// Rank; 0 where it moved in the direction that makes nothing slower.
    pub score: f64,
}

impl SignalKind {
    /// Name in sentences.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GpuUtilisation => "GPU utilisation",
            Self::GpuMemoryUsage => "GPU memory",
            Self::GpuClock => "GPU clock",
            Self::GpuThrottle => "GPU throttling",
            Self::XidErrors => "GPU XID errors",
            Self::EccErrors => "GPU memory errors",
            Self::CpuUtilisation => "CPU utilisation",
            Self::CpuStarvation => "CPU starvation",
            Self::MemoryUsage => "memory",
            Self::MemoryPressure => "memory pressure",
            Self::DiskLatency => "disk latency",
            Self::IoPressure => "I/O pressure",
            Self::NetworkRetransmits => "network retransmits",
            Self::NetworkDrops => "network drops",
            Self::QueueLength => "queue length",
            Self::KvCacheUsage => "KV cache usage",
            Self::Replicas => "replicas",
        }
    }

    /// Unit of its values; empty for a share or a count.
    pub fn unit(self) -> &'static str {
        match self {
            Self::GpuClock => "MHz",
            Self::DiskLatency => "ms",
            Self::XidErrors | Self::EccErrors => "errors/min",
            _ => "",
        }
    }

    /// Direction in which it makes requests slower: 1 up, -1 down, 0 either.
    pub fn harm(self) -> i8 {
        match self {
            Self::GpuClock | Self::Replicas => -1,
            Self::GpuUtilisation | Self::GpuMemoryUsage | Self::CpuUtilisation | Self::MemoryUsage => 0,
            _ => 1,
        }
    }

    /// Whether it says that a machine does less, rather than that more is asked of it.
    pub fn is_fault(self) -> bool {
        let asked =
            matches!(self, Self::GpuUtilisation | Self::CpuUtilisation | Self::QueueLength | Self::KvCacheUsage);
        !asked && !matches!(self, Self::GpuMemoryUsage | Self::MemoryUsage)
    }

    /// Whether requests wait for one another.
    pub fn is_queue(self) -> bool {
        matches!(self, Self::QueueLength | Self::KvCacheUsage)
    }

    /// Smallest change worth one unit of score, in the signal's unit, given the level before.
    fn floor(self, level: f64) -> f64 {
        match self {
            Self::GpuClock => 0.01 * level,
            Self::GpuUtilisation | Self::CpuUtilisation | Self::KvCacheUsage => 0.03,
            Self::GpuMemoryUsage | Self::MemoryUsage => 0.03,
            Self::GpuThrottle | Self::CpuStarvation | Self::MemoryPressure | Self::IoPressure => 0.02,
            Self::XidErrors | Self::EccErrors => 0.2,
            Self::DiskLatency => f64::max(0.1, 0.1 * level),
            Self::NetworkRetransmits | Self::NetworkDrops => 0.001,
            Self::QueueLength => f64::max(0.5, 0.1 * level),
            Self::Replicas => f64::max(0.25, 0.05 * level),
        }
    }
}

/// A container, and the residual by minute of what it served.
type ContainerResidual = (Option<(Dimension, String)>, Option<Vec<f64>>);

/// Every comparable signal, highest score first. `slower` says whether requests at equal inputs became slower or faster.
pub fn rank(
    model: &CostModel,
    window: &ServiceWindow,
    onset: &Onset,
    sides: &Sides,
    slower: bool,
    clocks_agree: bool,
) -> Vec<RankedSignal> {
    let rows = row_residuals(window, model);
    let mut residuals: Vec<ContainerResidual> = Vec::new();
    let mut ranked = Vec::new();
    for signal in &window.signals {
        let known = residuals.iter().position(|(container, _)| *container == signal.container);
        let position = known.unwrap_or_else(|| {
            residuals.push((signal.container.clone(), container_residual(window, &rows, signal.container.as_ref())));
            residuals.len() - 1
        });
        ranked.extend(score(signal, residuals[position].1.as_deref(), onset, sides, slower, clocks_agree));
    }
    ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
    ranked
}

/// Whether a signal covers enough of both sides to be compared.
pub fn is_covered(signal: &Signal, sides: &Sides) -> bool {
    [&sides.before, &sides.after].into_iter().all(|side| {
        let known = signal.values.get(side.clone()).map_or(0, |values| values.iter().filter(|v| v.is_finite()).count());
        known as f64 >= COVERAGE_MIN * side.len() as f64
    })
}

fn score(
    signal: &Signal,
    residual: Option<&[f64]>,
    onset: &Onset,
    sides: &Sides,
    slower: bool,
    clocks_agree: bool,
) -> Option<RankedSignal> {
    if !is_covered(signal, sides) {
        return None;
    }
    let values: Vec<f64> = signal.values.iter().map(|&value| f64::from(value)).collect();
    let side = |range: &std::ops::Range<usize>| values[range.clone()].iter().copied();
    // Errors are rare: their rate, not their median, is what moves.
    let centre = |range: &std::ops::Range<usize>| match signal.kind {
        SignalKind::XidErrors | SignalKind::EccErrors => {
            let known: Vec<f64> = side(range).filter(|value| value.is_finite()).collect();
            Some(known.iter().sum::<f64>() / known.len() as f64)
        }
        _ => robust::median(side(range)),
    };
    let (before, after) = (centre(&sides.before)?, centre(&sides.after)?);
    let spread = robust::quantile(side(&sides.before), 0.75)? - robust::quantile(side(&sides.before), 0.25)?;
    let change = ((after - before) / spread.max(signal.kind.floor(before))).clamp(-20.0, 20.0);
    let span = sides.before.start..sides.after.end;
    let correlation =
        residual.and_then(|residual| strongest_correlation(&values[span.clone()], &residual[span.clone()]));
    let moved = change.abs() >= CHANGE_MIN;
    let onset_minute =
        moved.then(|| onset::place(&values[..span.end], span.start, 5)).flatten().map(|place| place.minute);
    let harm = if slower { signal.kind.harm() } else { -signal.kind.harm() };
    let plausible = harm == 0 || change.signum() == f64::from(harm);
    let in_time = clocks_agree && onset_minute.is_some_and(|minute| is_in_time(minute, onset));
    // A queue is asked whether it fills, not when: it sums up what came before.
    let lead = if in_time || signal.kind.is_queue() { 1.0 } else { LATE_WEIGHT };
    let score = if plausible { change.abs() * lead * correlation.map_or(0.0, f64::abs) } else { 0.0 };
    let (kind, container) = (signal.kind, signal.container.clone());
    Some(RankedSignal { kind, container, medians: (before, after), change, onset_minute, correlation, in_time, score })
}

/// Whether a minute can be that of a cause.
fn is_in_time(minute: usize, onset: &Onset) -> bool {
    // A queue that fills slowly is placed late: the alarm is the earlier evidence.
    let first = onset.interval.0.min(onset.alarm_minute.unwrap_or(usize::MAX));
    let earliest = first.saturating_sub(LEAD_MINUTES_MAX);
    (earliest..=onset.interval.1 + LATE_MINUTES_MAX).contains(&minute)
}

/// The correlation with the largest magnitude, the signal leading by 0 to 5 minutes.
fn strongest_correlation(signal: &[f64], residual: &[f64]) -> Option<f64> {
    (0..=LAG_MINUTES_MAX.min(signal.len()))
        .filter_map(|lag| robust::spearman(&signal[..signal.len() - lag], &residual[lag..]))
        .max_by(|a, b| a.abs().total_cmp(&b.abs()))
}

/// A GPU that waits: utilisation fell while requests slowed, and something else starves it.
#[derive(Debug, Clone, PartialEq)]
pub struct StarvedGpu {
    /// Mean of the GPUs' median utilisation before and after.
    pub utilisation: (f64, f64),
    /// The signal that starves it; none where none of processor, memory, disk or network moved.
    pub by: Option<SignalKind>,
}

/// Looks for a GPU that is too idle for its requests: at least 0.05 and a tenth less utilisation while requests are slower.
pub fn starved_gpu(ranked: &[RankedSignal]) -> Option<StarvedGpu> {
    let utilisation: Vec<&RankedSignal> = ranked.iter().filter(|s| s.kind == SignalKind::GpuUtilisation).collect();
    if utilisation.is_empty() {
        return None;
    }
    let mean = |of: fn(&RankedSignal) -> f64| utilisation.iter().map(|s| of(s)).sum::<f64>() / utilisation.len() as f64;
    let (before, after) = (mean(|s| s.medians.0), mean(|s| s.medians.1));
    if before - after < f64::max(0.05, 0.1 * before) {
        return None;
    }
    let starves = |kind: SignalKind| {
        use SignalKind::{CpuStarvation, DiskLatency, IoPressure, MemoryPressure, NetworkDrops, NetworkRetransmits};
        let local = matches!(kind, CpuStarvation | MemoryPressure | DiskLatency | IoPressure);
        local || matches!(kind, NetworkRetransmits | NetworkDrops)
    };
    let by = ranked.iter().find(|s| starves(s.kind) && s.score >= MOVED_SCORE_MIN).map(|s| s.kind);
    Some(StarvedGpu { utilisation: (before, after), by })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{diagnosis::onset::Watched, simulated_fleet::Rng};

    fn onset() -> Onset {
        Onset { series: Watched::Residual, alarm_minute: None, minute: 60, interval: (59, 61), shift: 0.2 }
    }

    fn sides() -> Sides {
        Sides { before: 0..57, after: 63..120 }
    }

    fn signal(kind: SignalKind, seed: u64, level: f32, step: f32, at: usize) -> Signal {
        let mut rng = Rng::new(seed);
        let noise = level * 0.01;
        let values = (0..120)
            .map(|minute| level + noise * rng.normal() as f32 + if minute >= at { step } else { 0.0 })
            .collect();
        Signal { kind, container: None, values }
    }

    fn residual() -> Vec<f64> {
        let mut rng = Rng::new(77);
        (0..120).map(|minute| 0.03 * rng.normal() + if minute >= 60 { 0.2 } else { 0.0 }).collect()
    }

    fn scored(signal: &Signal, slower: bool) -> RankedSignal {
        score(signal, Some(&residual()), &onset(), &sides(), slower, true).unwrap()
    }

    #[test]
    fn a_clock_that_falls_first_outranks_what_falls_later_or_rises() {
        let cause = scored(&signal(SignalKind::GpuClock, 1, 1_700.0, -300.0, 58), true);
        let consequence = scored(&signal(SignalKind::GpuClock, 2, 1_700.0, -300.0, 80), true);
        let harmless = scored(&signal(SignalKind::GpuClock, 3, 1_700.0, 300.0, 58), true);
        assert!(cause.score > 8.0 && cause.onset_minute == Some(58), "{cause:?}");
        assert!(consequence.score < 0.4 * cause.score, "{consequence:?}");
        assert_eq!(harmless.score, 0.0);
        // A clock that rises explains requests that became faster.
        assert!(scored(&signal(SignalKind::GpuClock, 3, 1_700.0, 300.0, 58), false).score > 8.0);
    }

    #[test]
    fn a_signal_with_holes_is_not_compared() {
        let mut holed = signal(SignalKind::GpuClock, 1, 1_700.0, -300.0, 58);
        holed.values[70..110].fill(f32::NAN);
        assert!(score(&holed, Some(&residual()), &onset(), &sides(), true, true).is_none());
    }

    #[test]
    fn a_gpu_that_idles_while_requests_slow_is_starved() {
        let ranked = [
            scored(&signal(SignalKind::CpuStarvation, 4, 0.05, 0.4, 59), true),
            scored(&signal(SignalKind::GpuUtilisation, 5, 0.8, -0.3, 60), true),
        ];
        assert_eq!(starved_gpu(&ranked).unwrap().by, Some(SignalKind::CpuStarvation));
        assert_eq!(starved_gpu(&ranked[..1]), None);
    }
}
