//! What a GPU did at each time: busy, idle while memory is held, free, or unknown, and why.
//!
//! Invariant: every moment of the window is in exactly one state, so the hours of all states add up to the window.
//! A moment without trustworthy telemetry is never idle.

use serde::Serialize;

/// Microseconds of an hour.
const HOUR_US: f64 = 3_600e6;

/// One reading of one GPU. What the exporter did not send is `None`, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct GpuSample {
    /// UTC microseconds.
    pub time_us: i64,
    /// Share of time that a kernel ran, 0 to 1.
    pub duty: Option<f64>,
    /// Memory in use, bytes.
    pub memory_bytes: Option<f64>,
    /// Power, watts.
    pub power_watts: Option<f64>,
    /// Compute processes on the card.
    pub process_count: Option<u32>,
    /// Requests per second of the service that runs on it.
    pub requests_per_second: Option<f64>,
}

/// What kind of work a GPU is given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// A service that answers requests.
    Serving,
    /// An interactive notebook.
    Notebook,
    /// Not told by the telemetry.
    Unknown,
}

/// What is known about a GPU besides its samples.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuUse {
    /// Service name that its telemetry carries.
    pub service: Option<String>,
    /// Kind of work.
    pub workload: Workload,
    /// Whether MIG or time slicing shares the card among tenants.
    pub shared: bool,
}

/// What a GPU did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GpuState {
    /// A kernel ran.
    Busy,
    /// No work while memory is held, or while nobody can say that none is.
    IdleHeld,
    /// No work and no memory.
    Free,
    /// Nothing trustworthy was measured.
    NoTelemetry,
}

/// Why a GPU is in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// It works.
    Working,
    /// A serving process keeps its model in memory.
    ModelResident,
    /// A notebook keeps memory.
    Notebook,
    /// Memory is held, but no service and no request explains it.
    LeakedProcess,
    /// MIG or time slicing: memory may belong to another tenant.
    Sharing,
    /// Memory was not measured, so it is taken as held.
    MemoryUnknown,
    /// Nothing is on the card.
    Unused,
    /// No sample for more than 2.5 usual intervals, or none with a duty.
    Gap,
    /// The exporter repeats itself.
    ExporterRepeats,
}

/// Limits of the classification.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StateRules {
    /// Duty from which a sample is busy. Default 0.01, the resolution of NVML.
    pub busy_from: f64,
    /// Memory above which a GPU is held, bytes. Default 1 GiB.
    pub held_above_bytes: f64,
    /// A step longer than this many usual intervals is a gap. Default 2.5.
    pub gap_intervals: f64,
    /// Identical samples in a row from which an exporter is suspect. Default 60.
    pub repeat_count_min: usize,
    /// Relative range of power over such a run that says the card moved although its duty did not. Default 0.10.
    pub power_moves_share: f64,
}

/// A stretch of one state.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Start, UTC microseconds.
    pub start_us: i64,
    /// End, excluded.
    pub end_us: i64,
    /// State.
    pub state: GpuState,
    /// Why.
    pub cause: Cause,
    /// Mean duty, 0 to 1; none where nothing is known.
    pub duty: Option<f64>,
}

impl Default for StateRules {
    fn default() -> Self {
        Self {
            busy_from: 0.01,
            held_above_bytes: f64::from(1 << 30),
            gap_intervals: 2.5,
            repeat_count_min: 60,
            power_moves_share: 0.10,
        }
    }
}

/// Intervals that cover `[start_us, end_us)` without overlap, one per sample and one per gap.
///
/// `samples` may be in any order; of equal times the first counts, since an exporter whose time stands still measures nothing.
pub fn classify(samples: &[GpuSample], gpu: &GpuUse, start_us: i64, end_us: i64, rules: &StateRules) -> Vec<Interval> {
    let mut ordered: Vec<GpuSample> =
        samples.iter().filter(|sample| (start_us..end_us).contains(&sample.time_us)).copied().collect();
    ordered.sort_by_key(|sample| sample.time_us);
    let stuck_at = ordered.windows(2).rfind(|pair| pair[0].time_us == pair[1].time_us).map(|pair| pair[0].time_us);
    ordered.dedup_by_key(|sample| sample.time_us);
    let repeats = repeating(&ordered, rules);
    let Some(usual_us) = usual_interval_us(&ordered) else {
        let cause = if stuck_at.is_some() { Cause::ExporterRepeats } else { Cause::Gap };
        return unknown(start_us, end_us, cause).into_iter().collect();
    };
    let gap_us = (usual_us as f64 * rules.gap_intervals) as i64;
    let mut intervals = Vec::with_capacity(ordered.len() + 2);
    let before_gap = ordered[0].time_us - start_us > gap_us;
    intervals.extend(unknown(start_us, ordered[0].time_us, Cause::Gap).filter(|_| before_gap));
    for (index, sample) in ordered.iter().enumerate() {
        let next_us = ordered.get(index + 1).map_or(end_us, |next| next.time_us);
        let seen_end_us = if next_us - sample.time_us > gap_us { sample.time_us + usual_us } else { next_us };
        let (state, cause) =
            if repeats[index] { (GpuState::NoTelemetry, Cause::ExporterRepeats) } else { state_of(sample, gpu, rules) };
        let known = state != GpuState::NoTelemetry;
        // A window that starts between two samples starts with the first of them.
        let from_us = if index == 0 && !before_gap { start_us } else { sample.time_us };
        let duty = sample.duty.filter(|_| known);
        intervals.push(Interval { start_us: from_us, end_us: seen_end_us, state, cause, duty });
        let cause = if stuck_at == Some(sample.time_us) { Cause::ExporterRepeats } else { Cause::Gap };
        intervals.extend(unknown(seen_end_us, next_us, cause));
    }
    intervals
}

/// Hours by state and cause, most first.
pub fn hours(intervals: &[Interval]) -> Vec<(GpuState, Cause, f64)> {
    let mut hours: Vec<(GpuState, Cause, f64)> = Vec::new();
    for interval in intervals {
        let length = (interval.end_us - interval.start_us) as f64 / HOUR_US;
        match hours.iter_mut().find(|(state, cause, _)| (*state, *cause) == (interval.state, interval.cause)) {
            Some((_, _, sum)) => *sum += length,
            None => hours.push((interval.state, interval.cause, length)),
        }
    }
    hours.sort_by(|a, b| b.2.total_cmp(&a.2));
    hours
}

fn unknown(start_us: i64, end_us: i64, cause: Cause) -> Option<Interval> {
    let interval = Interval { start_us, end_us, state: GpuState::NoTelemetry, cause, duty: None };
    (end_us > start_us).then_some(interval)
}

fn usual_interval_us(samples: &[GpuSample]) -> Option<i64> {
    let mut steps: Vec<i64> = samples.windows(2).map(|pair| pair[1].time_us - pair[0].time_us).collect();
    let middle = steps.len() / 2;
    (!steps.is_empty()).then(|| *steps.select_nth_unstable(middle).1)
}

fn state_of(sample: &GpuSample, gpu: &GpuUse, rules: &StateRules) -> (GpuState, Cause) {
    let Some(duty) = sample.duty.filter(|duty| duty.is_finite()) else {
        return (GpuState::NoTelemetry, Cause::Gap);
    };
    if duty >= rules.busy_from {
        return (GpuState::Busy, Cause::Working);
    }
    let Some(bytes) = sample.memory_bytes.filter(|bytes| bytes.is_finite()) else {
        return (GpuState::IdleHeld, Cause::MemoryUnknown);
    };
    if bytes <= rules.held_above_bytes {
        return (GpuState::Free, Cause::Unused);
    }
    let no_requests = sample.requests_per_second.is_some_and(|rate| rate <= 0.0);
    let cause = match gpu.workload {
        _ if gpu.shared => Cause::Sharing,
        Workload::Notebook => Cause::Notebook,
        Workload::Serving => Cause::ModelResident,
        Workload::Unknown if gpu.service.is_some() && !no_requests => Cause::ModelResident,
        Workload::Unknown => Cause::LeakedProcess,
    };
    (GpuState::IdleHeld, cause)
}

/// Marks runs of samples that a living card does not produce.
///
/// A card at rest shows the same duty and memory for days, but its power, measured in milliwatts, jitters; a card at 100 % may
/// stay there while its power moves. So: duty, memory and power all equal is a repeat unless power is in whole watts and duty is
/// 0; a constant duty strictly between 0 and 1 is a repeat when power moves or is not measured; a duty stuck at 0 is one when power
/// doubles within the run.
fn repeating(samples: &[GpuSample], rules: &StateRules) -> Vec<bool> {
    let mut marks = vec![false; samples.len()];
    let key = |sample: &GpuSample| (sample.duty, sample.memory_bytes, sample.power_watts);
    mark_runs(
        samples,
        &mut marks,
        rules,
        |a, b| key(a) == key(b),
        |run| match (run[0].duty, run[0].power_watts) {
            (Some(duty), Some(watts)) => duty > 0.0 || watts.fract() != 0.0,
            _ => false,
        },
    );
    mark_runs(
        samples,
        &mut marks,
        rules,
        |a, b| a.duty == b.duty,
        |run| {
            let powers = || run.iter().filter_map(|sample| sample.power_watts);
            let (low, high) = (powers().fold(f64::INFINITY, f64::min), powers().fold(0.0, f64::max));
            match run[0].duty {
                Some(0.0) => high > 2.0 * low,
                Some(duty) if duty < 1.0 => high == 0.0 || high - low > rules.power_moves_share * high,
                _ => false,
            }
        },
    );
    marks
}

fn mark_runs(
    samples: &[GpuSample],
    marks: &mut [bool],
    rules: &StateRules,
    same: impl Fn(&GpuSample, &GpuSample) -> bool,
    suspect: impl Fn(&[GpuSample]) -> bool,
) {
    let mut start = 0;
    for run in samples.chunk_by(|a, b| same(a, b)) {
        if run.len() >= rules.repeat_count_min && suspect(run) {
            marks[start..start + run.len()].fill(true);
        }
        start += run.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;

    fn serving() -> GpuUse {
        GpuUse { service: Some("chat".into()), workload: Workload::Serving, shared: false }
    }

    fn sample(minute: i64, duty: f64, gib: f64, watts: f64) -> GpuSample {
        GpuSample {
            time_us: minute * MINUTE,
            duty: Some(duty),
            memory_bytes: Some(gib * f64::from(1 << 30)),
            power_watts: Some(watts),
            ..GpuSample::default()
        }
    }

    fn hours_of(samples: &[GpuSample], gpu: &GpuUse, minutes: i64) -> Vec<(GpuState, Cause, f64)> {
        let hours = hours(&classify(samples, gpu, 0, minutes * MINUTE, &StateRules::default()));
        let sum: f64 = hours.iter().map(|(_, _, hours)| hours).sum();
        assert!((sum * 60.0 - minutes as f64).abs() < 1e-6, "states cover the window: {hours:?}");
        hours
    }

    #[test]
    fn causes_of_held_memory_are_told_apart() {
        let held: Vec<_> = (0..60).map(|minute| sample(minute, 0.0, 40.0, 70.0 + minute as f64 / 7.0)).collect();
        let cause = |gpu: &GpuUse| hours_of(&held, gpu, 60)[0].1;
        let of =
            |service: Option<&str>, workload, shared| GpuUse { service: service.map(str::to_owned), workload, shared };
        assert_eq!(cause(&serving()), Cause::ModelResident);
        assert_eq!(cause(&of(None, Workload::Notebook, false)), Cause::Notebook);
        assert_eq!(cause(&of(None, Workload::Unknown, false)), Cause::LeakedProcess);
        assert_eq!(cause(&of(Some("chat"), Workload::Serving, true)), Cause::Sharing);
    }

    #[test]
    fn a_gap_of_more_than_two_and_a_half_intervals_is_unknown() {
        let mut samples: Vec<_> = (0..30).map(|minute| sample(minute, 0.5, 40.0, 200.0 + minute as f64)).collect();
        samples.push(sample(32, 0.5, 40.0, 199.0));
        samples.extend((50..60).map(|minute| sample(minute, 0.0, 0.1, 60.5 + minute as f64)));
        let hours = hours_of(&samples, &serving(), 60);
        let minutes =
            |state| hours.iter().filter(|hour| hour.0 == state).map(|hour| hour.2 * 60.0).sum::<f64>().round();
        // 30 + 1 with minute 30 to 32 a step of 3 > 2.5: minute 29 counts one interval, two are lost; 33 to 50 are lost too.
        assert_eq!(
            (minutes(GpuState::Busy), minutes(GpuState::Free), minutes(GpuState::NoTelemetry)),
            (31.0, 10.0, 19.0)
        );
    }

    #[test]
    fn a_hung_exporter_is_not_an_idle_card() {
        let state = |watts: &dyn Fn(i64) -> f64, duty: f64| {
            let samples: Vec<_> = (0..120).map(|minute| sample(minute, duty, 40.0, watts(minute))).collect();
            let hours = hours_of(&samples, &serving(), 120);
            (hours[0].0, hours[0].1)
        };
        let repeats = (GpuState::NoTelemetry, Cause::ExporterRepeats);
        assert_eq!(state(&|_| 71.337, 0.0), repeats, "milliwatts never stand still");
        assert_eq!(state(&|minute| 70.0 + 3.0 * minute as f64, 0.0), repeats, "power moves, duty does not");
        assert_eq!(state(&|minute| 200.0 + minute as f64, 0.37), repeats);
        assert_eq!(state(&|_| 70.0, 0.0), (GpuState::IdleHeld, Cause::ModelResident), "whole watts at rest");
        assert_eq!(state(&|minute| 300.0 + minute as f64, 1.0), (GpuState::Busy, Cause::Working), "saturated");
    }

    #[test]
    fn a_clock_that_stands_still_and_silence_are_unknown() {
        let stuck: Vec<_> = (0..50).map(|_| sample(5, 0.0, 40.0, 70.0)).collect();
        assert_eq!(hours_of(&stuck, &serving(), 60)[0].1, Cause::ExporterRepeats);
        assert_eq!(hours_of(&[], &serving(), 60)[0].1, Cause::Gap);
    }
}
