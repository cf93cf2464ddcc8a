//! Verdicts on simulated services against what truly followed.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use chrono_tz::Tz;

use super::{DAY_MINUTES, KINDS, Kind, OBSERVED_DAYS, START_US, SimulatedService};
use crate::{
    demand::{Calendar, Demand},
    gpu_state::{StateRules, classify},
    recommendation::{Examination, GpuPrice, SecondSignals, Verdict, VerdictRules, examine},
    sizing::ServiceShape,
    veto::Evidence,
    window::MINUTE_US,
};

/// Share of GPUs held below which shrinking is what should be said, if it is safe.
const UNDERUSED_BELOW: f64 = 0.30;

/// Counts of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Services.
    pub service_count: usize,
    /// Shrink verdicts that were safe in the two weeks after.
    pub right_count: usize,
    /// Shrink verdicts that were not, or that nothing was measured for.
    pub wrong_count: usize,
    /// Services that are truly underused and safe a step smaller.
    pub shrinkable_count: usize,
    /// Those of them that were told to shrink.
    pub found_count: usize,
    /// Services about which nothing was concluded.
    pub unknown_count: usize,
}

impl Tally {
    /// Right shrink verdicts of all; none without any.
    pub fn precision(&self) -> Option<f64> {
        let all = self.right_count + self.wrong_count;
        (all > 0).then(|| self.right_count as f64 / all as f64)
    }

    /// Shrinkable services found; none without any.
    pub fn recall(&self) -> Option<f64> {
        (self.shrinkable_count > 0).then(|| self.found_count as f64 / self.shrinkable_count as f64)
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            service_count: self.service_count + other.service_count,
            right_count: self.right_count + other.right_count,
            wrong_count: self.wrong_count + other.wrong_count,
            shrinkable_count: self.shrinkable_count + other.shrinkable_count,
            found_count: self.found_count + other.found_count,
            unknown_count: self.unknown_count + other.unknown_count,
        }
    }
}

/// Examines `count` services, the kinds in turn, sampled every `interval_s`, on all cores.
pub fn judge(seed: u64, count: usize, interval_s: u32) -> Vec<(Kind, Tally)> {
    let next = AtomicUsize::new(0);
    let examine = || {
        let mut tallies = [Tally::default(); KINDS.len()];
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return tallies;
            }
            let kind = number % KINDS.len();
            let service = SimulatedService::new(KINDS[kind], seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
            tallies[kind] = tallies[kind].plus(one(&service, interval_s));
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut tallies: Vec<(Kind, Tally)> = KINDS.iter().map(|kind| (*kind, Tally::default())).collect();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(examine)).collect();
        for found in workers.into_iter().flat_map(thread::ScopedJoinHandle::join) {
            for ((_, tally), found) in tallies.iter_mut().zip(found) {
                *tally = tally.plus(found);
            }
        }
    });
    tallies
}

/// All kinds together.
pub fn all(tallies: &[(Kind, Tally)]) -> Tally {
    tallies.iter().fold(Tally::default(), |sum, (_, tally)| sum.plus(*tally))
}

/// The table of docs/idle.md, in Markdown.
pub fn table(tallies: &[(Kind, Tally)]) -> String {
    let mut text = String::from(
        "| kind | services | shrinkable | found | right | wrong | no verdict | precision | recall |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    let share = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.3}"));
    let whole = ("all", all(tallies));
    for (name, tally) in tallies.iter().map(|(kind, tally)| (kind.as_str(), *tally)).chain([whole]) {
        let counts = [
            tally.service_count,
            tally.shrinkable_count,
            tally.found_count,
            tally.right_count,
            tally.wrong_count,
            tally.unknown_count,
        ];
        let counts: Vec<String> = counts.iter().map(usize::to_string).collect();
        let (precision, recall) = (share(tally.precision()), share(tally.recall()));
        text += &format!("| {name} | {} | {precision} | {recall} |\n", counts.join(" | "));
    }
    text
}

fn one(service: &SimulatedService, interval_s: u32) -> Tally {
    // What one step is, is part of the question; that it is safe is not.
    let step_down = service.gpu_count - service.gpu_count / 4;
    let shrinkable =
        service.kind.is_measured() && service.following_mean_share() < UNDERUSED_BELOW && service.is_safe_at(step_down);
    let (mut shrink, mut right) = (false, false);
    let verdict = verdict(service, interval_s);
    if let Verdict::Shrink(recommendation) = &verdict {
        shrink = true;
        right = service.kind.is_measured() && service.is_safe_at(recommendation.proposed as usize);
    }
    Tally {
        service_count: 1,
        right_count: usize::from(right),
        wrong_count: usize::from(shrink && !right),
        shrinkable_count: usize::from(shrinkable),
        found_count: usize::from(shrinkable && shrink),
        unknown_count: usize::from(matches!(verdict, Verdict::Unknown(_))),
    }
}

/// The verdict on the two observed weeks of `service`, from its samples alone.
pub fn verdict(service: &SimulatedService, interval_s: u32) -> Verdict {
    let end_us = START_US + (OBSERVED_DAYS * DAY_MINUTES) as i64 * MINUTE_US;
    let mut demand = Demand::new(START_US, end_us);
    let (mut memory, mut power, mut sample_count) = (0.0, 0.0, 0.0);
    for index in 0..service.gpu_count {
        let samples = service.samples(index, interval_s);
        demand.add_gpu(&classify(&samples, &service.gpu_use(), START_US, end_us, &StateRules::default()));
        memory += samples.iter().filter_map(|sample| sample.memory_bytes).sum::<f64>();
        power += samples.iter().filter_map(|sample| sample.power_watts).sum::<f64>();
        sample_count += samples.len() as f64;
    }
    let (held, card) = service.memory_bytes();
    let signals = SecondSignals {
        memory_share: Some(memory / sample_count / card),
        // From 70 W at rest to 550 W.
        power_share: Some((power / sample_count - 70.0) / 480.0),
        ..SecondSignals::default()
    };
    let shape = ServiceShape {
        service: "simulated".into(),
        replica_count: service.gpu_count as u32,
        gpus_per_replica: 1,
        gpu_model: Some("NVIDIA H100 80GB HBM3".into()),
        gpu_memory_bytes: Some(card),
        memory_bytes_per_gpu: Some(held),
    };
    let examination = Examination {
        shape: &shape,
        demand: &demand,
        evidence: Evidence::default(),
        signals,
        zone: Tz::Europe__Berlin,
        calendar: &Calendar::default(),
        price: GpuPrice { list: Some(4.0), effective: Some(2.5) },
        now_us: end_us,
    };
    examine(&examination, &VerdictRules::default())
}
