//! Average, 95th percentile and peak of minutes, by any dimension.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{labels::Dimension, stints::Stint};
use crate::{allocation::UNALLOCATED, gpu_minutes::GpuMinutes};

/// Average, 95th percentile and peak of one quantity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Mean.
    pub average: Option<f64>,
    /// Smallest value that 95 % of the values do not exceed.
    pub p95: Option<f64>,
    /// Largest.
    pub peak: Option<f64>,
    /// Values: minutes of GPUs, points of hosts.
    pub count: u64,
}

impl Stats {
    /// Of `values`, which are put in another order.
    pub(super) fn of(values: &mut [f32]) -> Self {
        let count = values.len();
        if count == 0 {
            return Self::default();
        }
        let average = values.iter().map(|value| f64::from(*value)).sum::<f64>() / count as f64;
        let peak = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // Nearest rank: the ⌈0.95 n⌉th of n.
        let rank = (count as f64 * 0.95).ceil() as usize;
        let (_, p95, _) = values.select_nth_unstable_by(rank.max(1) - 1, f32::total_cmp);
        Self { average: Some(average), p95: Some(f64::from(*p95)), peak: Some(f64::from(peak)), count: count as u64 }
    }
}

/// Duty and memory of the measured minutes by the values of `dimension`.
pub(super) fn by(dimension: Dimension, stints: &[Stint], minutes: &GpuMinutes) -> BTreeMap<String, [Stats; 2]> {
    let mut values: BTreeMap<&str, [Vec<f32>; 2]> = BTreeMap::new();
    for stint in stints.iter().filter(|stint| stint.is_measured) {
        let name = dimension.value(&stint.labels, stint.part).unwrap_or(UNALLOCATED);
        let gpu = &minutes.gpus[stint.gpu];
        let known = values.entry(name).or_default();
        for (known, all) in known.iter_mut().zip([&gpu.duty, &gpu.memory]) {
            known.extend(all[stint.from..stint.until].iter().filter(|value| !value.is_nan()));
        }
    }
    values
        .into_iter()
        .map(|(name, mut known)| (name.to_owned(), known.each_mut().map(|values| Stats::of(values))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_95th_percentile_is_a_value_that_was_there() {
        let mut twenty: Vec<f32> = (1..=20).rev().map(|value| value as f32).collect();
        let stats = Stats::of(&mut twenty);
        assert_eq!((stats.average, stats.p95, stats.peak, stats.count), (Some(10.5), Some(19.0), Some(20.0), 20));
        assert_eq!(Stats::of(&mut [0.25]).p95, Some(0.25));
        assert_eq!(Stats::of(&mut []), Stats::default());
    }
}
