//! One number a minute from the points of a machine's series.

use crate::window::MINUTE_US;

/// How points become a number a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// The mean of the points.
    Level,
    /// What a counter gained, a minute.
    Gain,
    /// Share of the time by which a counter of seconds rose.
    GainedShare,
    /// 1 where a code appears that was not there before, else 0.
    NewCode,
}

/// The values of one series, NaN where unknown. `points` are time and value in any order; minute 0 begins after `start_us`.
pub(super) fn by_minute(points: &mut [(i64, f64)], measure: Measure, start_us: i64, minute_count: usize) -> Vec<f32> {
    points.sort_unstable_by_key(|point| point.0);
    let spacing_us = spacing(points);
    let mut sums = vec![(0.0, 0u32); minute_count];
    let mut before: Option<(i64, f64)> = None;
    for &(time_us, value) in points.iter() {
        let last = before.replace((time_us, value));
        let fits = last.filter(|last| time_us - last.0 <= 3 * spacing_us.max(MINUTE_US));
        let seconds = last.map_or(f64::NAN, |last| (time_us - last.0) as f64 / 1e6);
        let measured = match (measure, fits) {
            (Measure::Level, _) => Some(value),
            // A counter that fell began anew: nothing is known of that interval.
            (Measure::Gain, Some((_, old))) if value >= old => Some((value - old) * 60.0 / seconds),
            (Measure::GainedShare, Some((_, old))) if value >= old => Some((value - old) / seconds),
            (Measure::NewCode, Some((_, old))) => Some(f64::from(u8::from(value != old && value != 0.0))),
            _ => None,
        };
        let minute = (time_us - start_us - 1).div_euclid(MINUTE_US);
        if let (Some(measured), Some((sum, count))) = (
            measured.filter(|measured| measured.is_finite()),
            usize::try_from(minute).ok().and_then(|at| sums.get_mut(at)),
        ) {
            *sum += measured;
            *count += 1;
        }
    }
    let mut values: Vec<f32> = sums
        .into_iter()
        .map(|(sum, count)| if count > 0 { (sum / f64::from(count)) as f32 } else { f32::NAN })
        .collect();
    fill(&mut values, usize::try_from((spacing_us + MINUTE_US / 5).div_euclid(MINUTE_US)).unwrap_or(1));
    values
}

/// Median distance in time; 0 of fewer than two points.
fn spacing(points: &[(i64, f64)]) -> i64 {
    let mut distances: Vec<i64> = points.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    distances.sort_unstable();
    distances.get(distances.len() / 2).copied().unwrap_or(0)
}

/// A point speaks of the minutes since the one before it, `reach` at most: so exports every five minutes leave no holes.
fn fill(values: &mut [f32], reach: usize) {
    let mut next: Option<(usize, f32)> = None;
    for minute in (0..values.len()).rev() {
        if values[minute].is_finite() {
            next = Some((minute, values[minute]));
        } else if let Some((at, value)) = next
            && at - minute < reach
            && reach <= 10
        {
            values[minute] = value;
        }
    }
}

/// How series of one machine become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Combined {
    /// Their mean.
    Mean,
    /// Their largest: of several reasons to throttle one is enough.
    Largest,
    /// Their sum.
    Sum,
}

/// Combines series, minute by minute, over those that are known.
pub(super) fn combine(series: &[Vec<f32>], combined: Combined, minute_count: usize) -> Vec<f32> {
    let at = |minute: usize| {
        let known = || series.iter().filter_map(|values| values.get(minute)).copied().filter(|value| value.is_finite());
        let count = known().count();
        match combined {
            _ if count == 0 => f32::NAN,
            Combined::Mean => known().sum::<f32>() / count as f32,
            Combined::Largest => known().fold(f32::NEG_INFINITY, f32::max),
            Combined::Sum => known().sum(),
        }
    };
    (0..minute_count).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: i64 = MINUTE_US;

    fn check(points: &[(i64, f64)], measure: Measure, expected: &[Option<f32>]) {
        let values = by_minute(&mut points.to_vec(), measure, 0, expected.len());
        let known: Vec<Option<f32>> = values.into_iter().map(|value| value.is_finite().then_some(value)).collect();
        assert_eq!(known, expected);
    }

    #[test]
    fn levels_are_means_and_holes_stay_unknown() {
        let points = [(M / 2, 1.0), (M, 3.0), (M + 1, 5.0), (3 * M / 2, 5.0), (6 * M, 2.0)];
        check(&points, Measure::Level, &[Some(2.0), Some(5.0), None, None, None, Some(2.0)]);
    }

    #[test]
    fn counters_give_what_they_gained_and_nothing_over_a_reset() {
        let points = [(M, 10.0), (2 * M, 40.0), (3 * M, 5.0), (4 * M, 65.0)];
        let values = by_minute(&mut points.to_vec(), Measure::Gain, 0, 4);
        assert_eq!((values[1], values[3]), (30.0, 60.0));
        let values = by_minute(&mut points.to_vec(), Measure::GainedShare, 0, 4);
        assert_eq!((values[1], values[3]), (0.5, 1.0));
        check(&[(M, 0.0), (2 * M, 79.0), (3 * M, 79.0)], Measure::NewCode, &[None, Some(1.0), Some(0.0)]);
    }

    #[test]
    fn points_every_five_minutes_speak_of_all_five() {
        let points: Vec<(i64, f64)> = (1..4).map(|step| (5 * step * M, step as f64)).collect();
        let values = by_minute(&mut points.clone(), Measure::Level, 0, 15);
        assert_eq!((values[0], values[4], values[5], values[14]), (1.0, 1.0, 2.0, 3.0));
    }

    #[test]
    fn series_of_one_machine_become_one() {
        let series = [vec![1.0, f32::NAN], vec![3.0, f32::NAN]];
        let of = |combined| combine(&series, combined, 2);
        assert_eq!((of(Combined::Mean)[0], of(Combined::Largest)[0], of(Combined::Sum)[0]), (2.0, 3.0, 4.0));
        assert!(of(Combined::Sum)[1].is_nan());
    }
}
