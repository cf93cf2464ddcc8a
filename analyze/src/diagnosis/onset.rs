//! When something changed: an alarm by cumulative sums, then the place of the change, then windows around it.
//!
//! Four series are watched: p50 and p95 of log latency with the hour of the week removed, mean log predicted cost (what was
//! asked), and the residual (how fast it was answered). The last two see changes that cancel in latency itself.
//!
//! Alarm: two-sided CUSUM (Page 1954) with allowance `k = 0.5` and threshold `h = 8` on robust z scores of the reference, each
//! clipped to ±4 so that one minute alone cannot alarm. Place: the split of the series with the smallest squared error (binary
//! segmentation, one step), which must save 15 variances of a minute, more than the best of many splits saves by chance; its interval is where the error is within 6 variances of the smallest (likelihood ratio, about
//! 95 % for independent minutes).

use std::ops::Range;

use super::{minute_series::MinuteSeries, robust};

/// Limits of the detection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OnsetRules {
    /// Allowance, in standard deviations of a minute. Default 0.5.
    pub allowance: f64,
    /// Threshold, in standard deviations. Default 8.
    pub threshold: f64,
    /// Squared error that the place must save, in variances of a minute: what chance does not reach. Default 15.
    pub strength_min: f64,
    /// Minutes left out on each side of the interval of the onset. Default 2.
    pub guard_minutes: usize,
    /// Fewest minutes of a side. Default 10.
    pub side_minutes_min: usize,
    /// Most minutes of a side. Default 360.
    pub side_minutes_max: usize,
}

impl Default for OnsetRules {
    fn default() -> Self {
        Self {
            allowance: 0.5,
            threshold: 8.0,
            strength_min: 15.0,
            guard_minutes: 2,
            side_minutes_min: 10,
            side_minutes_max: 360,
        }
    }
}

/// Which series moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// Median latency.
    P50,
    /// 95th percentile of latency.
    P95,
    /// Predicted cost of the inputs.
    Inputs,
    /// Latency at equal inputs.
    Residual,
}

/// A change of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Onset {
    /// Series that shows it most clearly.
    pub series: Watched,
    /// Minute of the alarm; none when the time was given by the caller.
    pub alarm_minute: Option<usize>,
    /// First minute after the change.
    pub minute: usize,
    /// Earliest and latest minute that the data allow for it.
    pub interval: (usize, usize),
    /// Change of the level, log units.
    pub shift: f64,
}

/// Minutes to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sides {
    /// Before the change.
    pub before: Range<usize>,
    /// After it.
    pub after: Range<usize>,
}

/// The clearest change after `reference`, minutes that are taken for normal; none where no series alarms.
pub fn detect(series: &MinuteSeries, reference: &Range<usize>, to: usize, rules: &OnsetRules) -> Option<Onset> {
    let watched = [
        (Watched::Residual, &series.residual),
        (Watched::Inputs, &series.log_cost),
        (Watched::P50, &series.log_p50),
        (Watched::P95, &series.log_p95),
    ];
    let mut best: Option<(f64, Onset)> = None;
    for (name, values) in watched {
        let Some(values) = values.get(..to) else { continue };
        let Some(alarm_minute) = alarm(values, reference, rules) else { continue };
        let Some(place) = place(values, reference.start, rules.side_minutes_min) else { continue };
        let stronger = best.as_ref().is_none_or(|(strength, _)| place.strength > *strength);
        if place.strength >= rules.strength_min && stronger {
            let Place { strength, minute, interval, shift } = place;
            best = Some((strength, Onset { series: name, alarm_minute: Some(alarm_minute), minute, interval, shift }));
        }
    }
    best.map(|(_, onset)| onset)
}

/// First minute at which a cumulative sum passes the threshold.
fn alarm(values: &[f64], reference: &Range<usize>, rules: &OnsetRules) -> Option<usize> {
    let (centre, scale) = robust::median_and_scale(values.get(reference.clone())?)?;
    let scale = scale.max(1e-3);
    let (mut up, mut down) = (0.0f64, 0.0f64);
    for (minute, value) in values.iter().enumerate().skip(reference.end) {
        if !value.is_finite() {
            continue;
        }
        let z = ((value - centre) / scale).clamp(-4.0, 4.0);
        up = (up + z - rules.allowance).max(0.0);
        down = (down - z - rules.allowance).max(0.0);
        if up.max(down) > rules.threshold {
            return Some(minute);
        }
    }
    None
}

/// Where one level becomes another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Squared error saved, in variances of a minute.
    pub strength: f64,
    /// First minute of the new level.
    pub minute: usize,
    /// Minutes that are about as likely.
    pub interval: (usize, usize),
    /// New level less old level.
    pub shift: f64,
}

/// The best split of `values[from..]`; none where a side would have fewer than `side_min` known minutes.
pub fn place(values: &[f64], from: usize, side_min: usize) -> Option<Place> {
    let known: Vec<(usize, f64)> =
        (from..values.len()).map(|minute| (minute, values[minute])).filter(|(_, value)| value.is_finite()).collect();
    let known = winsorised(known)?;
    let (count, total) = (known.len(), known.iter().map(|(_, value)| value).sum::<f64>());
    let mean = total / count as f64;
    let spread: f64 = known.iter().map(|(_, value)| (value - mean).powi(2)).sum();
    let mut head = 0.0;
    let mut saved = Vec::new();
    for index in 1..count {
        head += known[index - 1].1;
        if index < side_min || count - index < side_min {
            continue;
        }
        let (left, right) = (head / index as f64, (total - head) / (count - index) as f64);
        saved.push((index, (right - left).powi(2) * (index * (count - index)) as f64 / count as f64, right - left));
    }
    let &(index, best, shift) = saved.iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let variance = ((spread - best) / (count as f64 - 2.0)).max(1e-6);
    let near = || saved.iter().filter(|(_, gain, _)| best - gain <= 6.0 * variance).map(|(index, ..)| known[*index].0);
    let interval = (near().min()?, near().max()?);
    Some(Place { strength: best / variance, minute: known[index].0, interval, shift })
}

/// Values clipped to five scales around the median: one wild minute does not place a change.
fn winsorised(mut known: Vec<(usize, f64)>) -> Option<Vec<(usize, f64)>> {
    let values: Vec<f64> = known.iter().map(|(_, value)| *value).collect();
    let (centre, scale) = robust::median_and_scale(&values)?;
    let reach = 5.0 * scale.max(1e-3);
    for (_, value) in &mut known {
        *value = value.clamp(centre - reach, centre + reach);
    }
    Some(known)
}

/// Windows before and after an onset, none where a side is too short.
pub fn sides(onset: &Onset, from: usize, to: usize, rules: &OnsetRules) -> Option<Sides> {
    let end = onset.interval.0.checked_sub(rules.guard_minutes)?;
    let start = onset.interval.1 + rules.guard_minutes;
    let before = from.max(end.saturating_sub(rules.side_minutes_max))..end;
    let after = start..to.min(start + rules.side_minutes_max);
    let long_enough = |side: &Range<usize>| side.end >= side.start + rules.side_minutes_min;
    (long_enough(&before) && long_enough(&after)).then_some(Sides { before, after })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated_fleet::Rng;

    fn series(seed: u64, step: f64) -> MinuteSeries {
        let mut rng = Rng::new(seed);
        let residual = (0..120).map(|minute| 0.03 * rng.normal() + if minute >= 70 { step } else { 0.0 }).collect();
        let flat = |rng: &mut Rng| (0..120).map(|_| 6.0 + 0.2 * rng.normal()).collect();
        MinuteSeries { log_p50: flat(&mut rng), log_p95: flat(&mut rng), log_cost: Vec::new(), residual }
    }

    #[test]
    fn a_step_of_three_deviations_is_found_within_two_minutes() {
        let mut covered = 0;
        for seed in 0..40 {
            let onset = detect(&series(seed, 0.09), &(0..40), 120, &OnsetRules::default()).unwrap();
            assert_eq!(onset.series, Watched::Residual);
            assert!(onset.minute.abs_diff(70) <= 2, "{seed} {onset:?}");
            covered += usize::from(onset.interval.0 <= 70 && 70 <= onset.interval.1);
            assert!((onset.shift - 0.09).abs() < 0.03);
            let sides = sides(&onset, 0, 120, &OnsetRules::default()).unwrap();
            assert!(sides.before.end <= 70 && sides.after.start >= 70, "{sides:?}");
        }
        assert!(covered >= 36, "{covered} of 40 intervals hold the true minute");
    }

    #[test]
    fn quiet_series_seldom_alarm_and_one_wild_minute_never_does() {
        let alarms = (100..300)
            .filter(|&seed| detect(&series(seed, 0.0), &(0..60), 120, &OnsetRules::default()).is_some())
            .count();
        assert!(alarms <= 30, "{alarms} of 200");
        let mut wild: Vec<f64> = (0..120).map(|minute| f64::from(minute % 3)).collect();
        wild[90] = 1e6;
        assert_eq!(alarm(&wild, &(0..60), &OnsetRules::default()), None);
    }

    #[test]
    fn too_short_a_side_gives_no_windows() {
        let onset = Onset { series: Watched::P50, alarm_minute: None, minute: 8, interval: (8, 8), shift: 0.1 };
        assert_eq!(sides(&onset, 0, 100, &OnsetRules::default()), None);
    }
}
