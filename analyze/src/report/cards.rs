//! A week of one card from its minutes: when it was there, who had it, and what it did.

use std::collections::BTreeMap;

use crate::{
    gpu_minutes::{
        Gpu, NOBODY,
        sharers::{BRIDGED_US, Sharer},
        usual_step,
    },
    gpu_state::{Cause, GpuSample, GpuState, GpuUse, StateRules, Workload, classify},
    price_book::Period,
    window::{HOUR_US, MINUTE_US, Window},
};

/// Whose a stretch of time is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Who {
    /// Index of a holder that the telemetry names.
    Holder(u16),
    /// Work or memory without a name.
    Unnamed,
    /// Several share the card, or some have slices of it: which of them worked when is not known.
    Several,
    /// Nobody: measured, no work, no memory.
    Nobody,
    /// Not known, because nothing was measured.
    NoTelemetry,
}

/// A stretch of minutes of one holder, all measured or all not.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Run {
    pub(super) who: Who,
    /// Whether what the card did is known.
    pub(super) is_measured: bool,
    /// First minute of the window.
    pub(super) from: usize,
    /// First minute after.
    pub(super) until: usize,
    /// Mean duty, 0 to 1; none where it is not known.
    pub(super) duty: Option<f64>,
    /// Sum of the power of its minutes, watts; what energy is divided by.
    pub(super) watt_minutes: f64,
}

/// One card.
#[derive(Debug, Clone)]
pub(super) struct Card {
    /// Index in the minutes.
    pub(super) index: usize,
    /// Its name on the bill: the UUID, or host and number.
    pub(super) asset: String,
    /// From its first to its last point; nothing is charged outside.
    pub(super) here: Period,
    pub(super) runs: Vec<Run>,
    /// Microseconds by state; they add up to `here`.
    state_us: BTreeMap<GpuState, i64>,
    /// Hours times duty.
    pub(super) busy_hours: f64,
    /// Whether memory was ever measured: else nobody knows whether it was held.
    pub(super) is_memory_known: bool,
}

impl Card {
    /// The card of `gpu` in `window`; none where nothing was measured.
    pub(super) fn new(index: usize, gpu: &Gpu, window: Window) -> Option<Self> {
        let seen = gpu.seen();
        let (first, last) = (*seen.first()?, *seen.last()?);
        // The last point speaks for as long as any other.
        let until = (last + usual_step(&seen)).min(gpu.duty.len());
        let at = |minute: usize| window.start_us + minute as i64 * MINUTE_US;
        let here = Period { start_us: at(first), end_us: at(until) };
        let use_of = GpuUse { service: None, workload: Workload::Unknown, shared: gpu.shared_by > 1 };
        let intervals =
            classify(&samples(gpu, &seen, window), &use_of, here.start_us, here.end_us, &StateRules::default());
        let mut states = vec![GpuState::NoTelemetry; until - first];
        let (mut state_us, mut busy_hours) = (BTreeMap::new(), 0.0);
        let mut is_memory_known = false;
        for interval in &intervals {
            let hours = Period { start_us: interval.start_us, end_us: interval.end_us }.hours();
            *state_us.entry(interval.state).or_default() += interval.end_us - interval.start_us;
            busy_hours += interval.duty.unwrap_or(0.0).min(1.0) * hours;
            is_memory_known |= interval.cause != Cause::MemoryUnknown && interval.state != GpuState::NoTelemetry;
            let minute = |time_us: i64| ((time_us - here.start_us) / MINUTE_US) as usize;
            states[minute(interval.start_us)..minute(interval.end_us)].fill(interval.state);
        }
        // A card that was always busy says nothing of memory by its states.
        is_memory_known &= gpu.memory.iter().any(|bytes| !bytes.is_nan());
        let mut whose = holders(gpu, first, &states);
        share(&mut whose, here.start_us, &gpu.sharers);
        let runs = runs(gpu, first, &whose);
        Some(Self { index, asset: asset_name(gpu), here, runs, state_us, busy_hours, is_memory_known })
    }

    /// Hours of `states`.
    pub(super) fn hours(&self, states: &[GpuState]) -> f64 {
        states.iter().filter_map(|state| self.state_us.get(state)).sum::<i64>() as f64 / HOUR_US as f64
    }

    /// Hours that were measured.
    pub(super) fn measured_hours(&self) -> f64 {
        self.hours(&[GpuState::Busy, GpuState::IdleHeld, GpuState::Free])
    }
}

/// A UUID names a card wherever it is; a number does so only with its host.
pub(super) fn asset_name(gpu: &Gpu) -> String {
    if gpu.gpu_id.len() >= 36 { gpu.gpu_id.clone() } else { format!("{}/{}", gpu.host, gpu.gpu_id) }
}

fn samples(gpu: &Gpu, seen: &[usize], window: Window) -> Vec<GpuSample> {
    let known = |value: f32| (!value.is_nan()).then_some(f64::from(value));
    let sample = |minute: &usize| GpuSample {
        time_us: window.start_us + *minute as i64 * MINUTE_US,
        duty: known(gpu.duty[*minute]),
        memory_bytes: known(gpu.memory[*minute]),
        power_watts: known(gpu.power[*minute]),
        ..GpuSample::default()
    };
    seen.iter().map(sample).collect()
}

/// Whose each minute from `first` on is, and whether it was measured.
fn holders(gpu: &Gpu, first: usize, states: &[GpuState]) -> Vec<(Who, bool)> {
    let mut holders: Vec<(Who, bool)> = Vec::with_capacity(states.len());
    for (at, state) in states.iter().enumerate() {
        let minute = first + at;
        let is_measured = *state != GpuState::NoTelemetry;
        let who = match gpu.holder[minute] {
            NOBODY if is_measured && !gpu.is_seen(minute) && at > 0 => holders[at - 1].0,
            NOBODY => match state {
                GpuState::NoTelemetry => Who::NoTelemetry,
                GpuState::Free => Who::Nobody,
                GpuState::Busy | GpuState::IdleHeld => Who::Unnamed,
            },
            holder => Who::Holder(holder),
        };
        holders.push((who, is_measured));
    }
    bridge(&mut holders);
    holders
}

/// Whoever had the card before and after a short silence had it in between.
fn bridge(holders: &mut [(Who, bool)]) {
    let mut at = 0;
    while at < holders.len() {
        let length = holders[at..].iter().take_while(|(who, _)| *who == Who::NoTelemetry).count();
        let is_short = length > 0 && length as i64 * MINUTE_US <= BRIDGED_US;
        if is_short && at > 0 && at + length < holders.len() {
            let (before, after) = (holders[at - 1].0, holders[at + length].0);
            if before == after {
                holders[at..at + length].iter_mut().for_each(|holder| holder.0 = before);
            }
        }
        at += length.max(1);
    }
}

/// Gives the minutes from `start_us` on in which several have the card, or somebody a slice of it, to all of them.
///
/// Whoever has a share alone has the whole card, and is who the minutes name. Where they name nobody, because the values of
/// a sharer's series are copies of those of a series without labels, it is the sharer.
fn share(whose: &mut [(Who, bool)], start_us: i64, sharers: &[Sharer]) {
    let mut changes = vec![0_i32; whose.len() + 1];
    for sharer in sharers {
        let minute = |time_us: i64| (time_us - start_us).div_euclid(MINUTE_US).clamp(0, whose.len() as i64) as usize;
        // A slice is never the whole card, however many there are.
        let weight = if sharer.fraction.is_some() { 2 } else { 1 };
        changes[minute(sharer.period.start_us)] += weight;
        changes[minute(sharer.period.end_us)] -= weight;
    }
    let mut count = 0;
    for ((who, _), change) in whose.iter_mut().zip(changes) {
        count += change;
        let is_shared = match who {
            Who::NoTelemetry | Who::Several => false,
            Who::Holder(_) => count > 1,
            Who::Unnamed | Who::Nobody => count > 0,
        };
        if is_shared {
            *who = Who::Several;
        }
    }
}

fn runs(gpu: &Gpu, first: usize, holders: &[(Who, bool)]) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut from = first;
    for same in holders.chunk_by(|a, b| a == b) {
        let until = from + same.len();
        let (who, is_measured) = same[0];
        let duties: Vec<f64> =
            gpu.duty[from..until].iter().filter(|duty| !duty.is_nan()).map(|duty| f64::from(*duty)).collect();
        let mean = (is_measured && !duties.is_empty())
            .then(|| (duties.iter().sum::<f64>() / duties.len() as f64).clamp(0.0, 1.0));
        let watts = gpu.power[from..until].iter().filter(|watts| !watts.is_nan());
        let watt_minutes = watts.map(|watts| f64::from(*watts)).sum();
        runs.push(Run { who, is_measured, from, until, duty: mean, watt_minutes });
        from = until;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu_minutes::Holder;

    const GIB: f32 = 1_073_741_824.0;

    /// Two hours of a card from `minute`: duty, memory and holder; none where nothing came.
    fn card(of: impl Fn(usize) -> Option<(f32, f32, u16)>) -> Card {
        shared_card(of, &[])
    }

    /// The same of a card that is shared.
    fn shared_card(of: impl Fn(usize) -> Option<(f32, f32, u16)>, sharers: &[Sharer]) -> Card {
        let mut gpu = Gpu {
            host: "h".into(),
            gpu_id: "0".into(),
            model: None,
            region: None,
            simulated: false,
            shared_by: 1,
            slices: vec![],
            sharers: sharers.to_vec(),
            duty: vec![f32::NAN; 120],
            memory: vec![f32::NAN; 120],
            power: vec![f32::NAN; 120],
            holder: vec![NOBODY; 120],
        };
        for minute in 0..120 {
            if let Some((duty, memory, holder)) = of(minute) {
                (gpu.duty[minute], gpu.memory[minute], gpu.holder[minute]) = (duty, memory * GIB, holder);
                gpu.power[minute] = 60.5 + minute as f32 / 100.0;
            }
        }
        Card::new(0, &gpu, Window::new(0, 120 * MINUTE_US).unwrap()).unwrap()
    }

    fn sharer(slice: Option<&str>, from: i64, until: i64) -> Sharer {
        Sharer {
            holder: Holder { pod: Some(format!("from {from}")), ..Holder::default() },
            slice: slice.map(str::to_owned),
            fraction: slice.map(|_| 1.0 / 7.0),
            period: Period { start_us: from * MINUTE_US, end_us: until * MINUTE_US },
        }
    }

    fn stretches(card: &Card) -> Vec<(Who, bool, usize, usize)> {
        card.runs.iter().map(|run| (run.who, run.is_measured, run.from, run.until)).collect()
    }

    #[test]
    fn a_holder_keeps_the_card_over_a_short_silence_which_stays_unmeasured() {
        let card = card(|minute| (!(30..50).contains(&minute)).then_some((0.5, 20.0, 7)));
        let who = Who::Holder(7);
        assert_eq!(stretches(&card), [(who, true, 0, 30), (who, false, 30, 50), (who, true, 50, 120)]);
        assert!((card.measured_hours() * 60.0 - 100.0).abs() < 1e-9 && (card.busy_hours * 60.0 - 50.0).abs() < 1e-6);
    }

    #[test]
    fn a_silence_between_two_holders_is_nobodys_and_not_idle() {
        let card = card(|minute| match minute {
            0..30 => Some((0.5, 20.0, 1)),
            30..50 => None,
            _ => Some((0.5, 20.0, 2)),
        });
        let expected =
            [(Who::Holder(1), true, 0, 30), (Who::NoTelemetry, false, 30, 50), (Who::Holder(2), true, 50, 120)];
        assert_eq!(stretches(&card), expected);
    }

    #[test]
    fn work_without_a_name_is_not_a_free_card() {
        let card = card(|minute| match minute {
            0..60 => Some((0.0, 0.2, NOBODY)),
            60..90 => Some((0.0, 20.0, NOBODY)),
            _ => Some((0.4, 20.0, NOBODY)),
        });
        assert_eq!(stretches(&card), [(Who::Nobody, true, 0, 60), (Who::Unnamed, true, 60, 120)]);
        assert_eq!(card.hours(&[GpuState::Free]), 1.0);
    }

    #[test]
    fn only_the_minutes_that_are_shared_are_those_of_several() {
        // One until minute 50, the next from minute 40 on.
        let own = |minute: usize| Some((0.5, 20.0, if minute < 50 { 1 } else { 2 }));
        let card = shared_card(own, &[sharer(None, 0, 50), sharer(None, 40, 120)]);
        let expected = [(Who::Holder(1), true, 0, 40), (Who::Several, true, 40, 50), (Who::Holder(2), true, 50, 120)];
        assert_eq!(stretches(&card), expected);
        // A slice is part of the card also where it is the only one.
        let card = shared_card(own, &[sharer(Some("1g"), 0, 50)]);
        assert_eq!(stretches(&card), [(Who::Several, true, 0, 50), (Who::Holder(2), true, 50, 120)]);
        // The one that is named has it where the values come without a name.
        let card = shared_card(|_| Some((0.5, 20.0, NOBODY)), &[sharer(None, 0, 50)]);
        assert_eq!(stretches(&card), [(Who::Several, true, 0, 50), (Who::Unnamed, true, 50, 120)]);
    }

    #[test]
    fn a_card_is_there_from_its_first_to_its_last_point_at_its_own_pace() {
        // Every five minutes from minute 10 to 60: the last point speaks for five minutes more.
        let card = card(|minute| (minute % 5 == 0 && (10..=60).contains(&minute)).then_some((0.5, 20.0, 3)));
        assert_eq!(card.here, Period { start_us: 10 * MINUTE_US, end_us: 65 * MINUTE_US });
        assert_eq!(stretches(&card), [(Who::Holder(3), true, 10, 65)]);
    }
}
