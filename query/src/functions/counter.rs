//! What a counter or gauge did over a time: increase, rate, difference.

use datafusion::{common::exec_err, error::Result};

use super::points::Point;

const MICROS: f64 = 1e6;

/// Whether a value counts from the start of the counter or from the point before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Temporality {
    Cumulative,
    Delta,
}

impl Temporality {
    /// Of the column of that name.
    ///
    /// # Errors
    /// If `text` is none.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "" | "cumulative" => Ok(Self::Cumulative),
            "delta" => Ok(Self::Delta),
            other => exec_err!("{other:?} is no temporality; use 'delta' or 'cumulative'"),
        }
    }
}

/// The window that an increase is extrapolated to, `start` excluded, in UTC microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) start: i64,
    pub(crate) end: i64,
}

impl Window {
    fn seconds(&self) -> f64 {
        seconds(self.start, self.end)
    }
}

fn recorded(points: &[Point]) -> Vec<Point> {
    points.iter().filter(|point| !point.is_stale()).copied().collect()
}

fn seconds(from: i64, to: i64) -> f64 {
    // Times of a statement may be as far apart as it likes.
    (i128::from(to) - i128::from(from)) as f64 / MICROS
}

/// Whether the counter began anew between the points.
pub(crate) fn is_reset(before: &Point, point: &Point) -> bool {
    point.value < before.value || has_begun_anew((before.time, before.start()), (point.time, point.start()))
}

/// Whether a point says that counting began after the point before it; of each time and start.
///
/// Source: Prometheus `isStartTimestampReset`; starts that are not before their point are no starts.
pub(crate) fn has_begun_anew(before: (i64, Option<i64>), point: (i64, Option<i64>)) -> bool {
    let known = |(time, start): (i64, Option<i64>)| start.filter(|start| *start < time);
    match known(point) {
        Some(start) if start > before.0 => true,
        Some(start) if start == before.0 => known(before).is_some(),
        _ => false,
    }
}

/// The last value less the first, and what was counted before each reset.
fn counted(points: &[Point]) -> f64 {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return f64::NAN };
    let lost = points.windows(2).filter(|pair| is_reset(&pair[0], &pair[1])).map(|pair| pair[0].value);
    lost.fold(last.value - first.value, |increase, value| increase + value)
}

/// How much was counted.
///
/// Cumulative: from the first point to the last, resets allowed for; null below two points. Delta: the sum of all points.
pub(crate) fn increase(points: &[Point], temporality: Temporality) -> Option<f64> {
    let points = recorded(points);
    match temporality {
        Temporality::Delta if points.is_empty() => None,
        Temporality::Delta => Some(points.iter().map(|point| point.value).sum()),
        Temporality::Cumulative if points.len() < 2 => None,
        Temporality::Cumulative => Some(counted(&points)),
    }
}

/// [`increase`] by the seconds it took. The first delta point counts only if its start is known.
pub(crate) fn rate(points: &[Point], temporality: Temporality) -> Option<f64> {
    let points = recorded(points);
    let (first, last) = (points.first()?, points.last()?);
    let (increase, from) = match (temporality, first.start()) {
        (Temporality::Cumulative, _) => (increase(&points, temporality)?, first.time),
        (Temporality::Delta, Some(start)) => (increase(&points, temporality)?, start),
        (Temporality::Delta, None) => (increase(&points[1..], temporality)?, first.time),
    };
    (last.time > from).then(|| increase / seconds(from, last.time))
}

/// The last value less the first, of a gauge; null below two points.
pub(crate) fn delta(points: &[Point]) -> Option<f64> {
    let points = recorded(points);
    (points.len() > 1).then(|| points[points.len() - 1].value - points[0].value)
}

/// The rate between the last two points.
///
/// Source: Prometheus `irate`.
pub(crate) fn instant_rate(points: &[Point], temporality: Temporality) -> Option<f64> {
    let points = recorded(points);
    let [.., before, last] = points.as_slice() else { return None };
    let counted = match temporality {
        Temporality::Delta => last.value,
        Temporality::Cumulative if is_reset(before, last) => last.value,
        Temporality::Cumulative => last.value - before.value,
    };
    Some(counted / seconds(before.time, last.time))
}

/// The increase as Prometheus guesses it for the whole window, of points of the window.
///
/// Source: Prometheus `extrapolatedRate` (promql/functions.go), with start timestamps. Delta points need no guess: their sum.
pub(crate) fn extrapolated(points: &[Point], temporality: Temporality, window: Window, counter: bool) -> Option<f64> {
    let points = recorded(points);
    let (first, last) = (points.first()?, points.last()?);
    if temporality == Temporality::Delta {
        return increase(&points, temporality);
    }
    let mut increase = if counter { counted(&points) } else { last.value - first.value };
    let mut sampled = seconds(first.time, last.time);
    let step = if points.len() > 1 { sampled / (points.len() - 1) as f64 } else { 0.0 };
    let threshold = step * 1.1;
    let mut to_start = seconds(window.start, first.time);
    let mut to_end = seconds(last.time, window.end);
    let started = first.start().filter(|start| counter && *start > window.start);
    if let Some(start) = started {
        to_start = 0.0;
        sampled = seconds(start, last.time);
        increase += first.value;
    } else if points.len() < 2 {
        return None;
    } else {
        if to_start >= threshold {
            to_start = step / 2.0;
        }
        // A counter was not below zero.
        if counter && increase > 0.0 && first.value >= 0.0 {
            to_start = to_start.min(sampled * (first.value / increase));
        }
    }
    if to_end >= threshold {
        to_end = step / 2.0;
    }
    let factor = if sampled == 0.0 { 1.0 } else { (sampled + to_start + to_end) / sampled };
    Some(increase * factor)
}

/// [`extrapolated`] by the seconds of the window.
pub(crate) fn extrapolated_rate(points: &[Point], temporality: Temporality, window: Window) -> Option<f64> {
    Some(extrapolated(points, temporality, window, true)? / window.seconds())
}

#[cfg(test)]
mod tests {
    use super::{super::points::point, *};

    /// A value each minute from the first minute on; `None` is a staleness marker.
    fn minutes(values: &[Option<f64>]) -> Vec<Point> {
        values.iter().enumerate().map(|(n, value)| point((n as i64 + 1) * 60_000_000, *value, None)).collect()
    }

    fn check(points: &[Point], increased: Option<f64>, per_second: Option<f64>) {
        assert_eq!(increase(points, Temporality::Cumulative), increased);
        assert_eq!(rate(points, Temporality::Cumulative), per_second);
    }

    #[test]
    fn an_increase_allows_for_resets_and_passes_over_markers() {
        check(&minutes(&[Some(10.0), Some(70.0)]), Some(60.0), Some(1.0));
        check(&minutes(&[Some(10.0), Some(70.0), Some(20.0)]), Some(80.0), Some(80.0 / 120.0));
        check(&minutes(&[Some(10.0), None, Some(130.0)]), Some(120.0), Some(1.0));
        check(&minutes(&[Some(10.0)]), None, None);
        check(&minutes(&[None]), None, None);
        check(&[], None, None);
    }

    #[test]
    fn a_later_start_is_a_reset_though_the_value_grew() {
        let point = |minute: i64, value, start: i64| point(minute * 60_000_000, Some(value), Some(start * 60_000_000));
        check(&[point(2, 10.0, 1), point(5, 30.0, 3)], Some(30.0), Some(30.0 / 180.0));
        check(&[point(2, 10.0, 1), point(5, 30.0, 1)], Some(20.0), Some(20.0 / 180.0));
    }

    #[test]
    fn delta_points_add_up() {
        let points = minutes(&[Some(60.0), Some(120.0), None, Some(60.0)]);
        assert_eq!(increase(&points, Temporality::Delta), Some(240.0));
        assert_eq!(rate(&points, Temporality::Delta), Some(1.0));
        assert_eq!(instant_rate(&points, Temporality::Delta), Some(0.5));
        let started = [point(120_000_000, Some(60.0), Some(60_000_000))];
        assert_eq!(rate(&started, Temporality::Delta), Some(1.0));
    }

    #[test]
    fn a_gauge_falls_and_the_last_two_points_make_an_instant_rate() {
        let points = minutes(&[Some(10.0), Some(70.0), Some(4.0)]);
        assert_eq!(delta(&points), Some(-6.0));
        assert_eq!(instant_rate(&points, Temporality::Cumulative), Some(4.0 / 60.0));
    }

    /// Values every five minutes from zero on, of which the window sees those after its start.
    fn told(values: &[f64], step: i64, window: Window) -> f64 {
        let at = |(n, value): (usize, &f64)| point(n as i64 * step * 60_000_000, Some(*value), None);
        let seen = |point: &Point| point.time > window.start && point.time <= window.end;
        let points: Vec<_> = values.iter().enumerate().map(at).filter(seen).collect();
        extrapolated(&points, Temporality::Cumulative, window, true).unwrap()
    }

    fn ramp(first: f64, step: f64, count: u32) -> Vec<f64> {
        (0..=count).map(|n| first + step * f64::from(n)).collect()
    }

    fn agrees(found: f64, prometheus: f64) {
        assert!((found - prometheus).abs() <= 1e-9 * prometheus.abs(), "{found} {prometheus}");
    }

    /// Results from Prometheus' promql/promqltest/testdata/functions.test.
    #[test]
    fn extrapolation_is_that_of_prometheus() {
        let minutes = |start: i64, end: i64| Window { start: start * 60_000_000, end: end * 60_000_000 };
        let bar = [ramp(0.0, 18.0, 5), ramp(0.0, 18.0, 5)].concat();
        for (values, of_50m, of_100m) in [
            (&ramp(0.0, 10.0, 10), 100.0, 100.0),
            (&bar, 160.0, 162.0),
            (&ramp(10.0, 10.0, 10), 100.0, 105.0),
            (&ramp(1.0, 10.0, 10), 100.0, 101.0),
        ] {
            agrees(told(values, 5, minutes(0, 50)), of_50m);
            agrees(told(values, 5, minutes(-50, 50)), of_100m);
        }
        agrees(told(&[0.0, 1.0, 2.0, 3.0, 2.0, 3.0, 4.0], 5, minutes(0, 30)), 7.0);
        let middle = [ramp(0.0, 27.0, 4), ramp(0.0, 27.0, 5)].concat();
        agrees(told(&middle, 5, minutes(0, 50)) / 3000.0, 0.08);
        agrees(told(&ramp(0.0, 80.0, 10), 5, minutes(0, 50)) / 3000.0, 0.266_666_666_666_666_66);
        for (first, early, late) in [(0.0, 0.5, 0.6), (60.0, 0.55, 0.6), (120.0, 0.6, 0.6), (300.0, 0.6, 0.6)] {
            agrees(told(&ramp(first, 240.0, 10), 4, minutes(-10, 10)) / 1200.0, early);
            agrees(told(&ramp(first, 240.0, 10), 4, minutes(30, 50)) / 1200.0, late);
        }
    }

    /// `(minute, value, start in milliseconds after the minute)`.
    fn of_starts(points: &[(i64, f64, i64)], window: (i64, i64)) -> Option<f64> {
        let window = Window { start: window.0 * 60_000_000, end: window.1 * 60_000_000 };
        let seen = points.iter().filter(|(minute, ..)| minute * 60_000_000 > window.start);
        let seen = seen.filter(|(minute, ..)| minute * 60_000_000 <= window.end).map(|(minute, value, start)| {
            point(minute * 60_000_000, Some(*value), Some(minute * 60_000_000 + start * 1000))
        });
        extrapolated(&seen.collect::<Vec<_>>(), Temporality::Cumulative, window, true)
    }

    /// Results from Prometheus' promql/promqltest/testdata/start_timestamps.test.
    #[test]
    fn starts_are_those_of_prometheus() {
        let starts = [
            [-30_000, -90_000, -150_000],
            [-60_000, -120_000, -180_000],
            [-59_999, -119_999, -179_999],
            [-1000, -61_000, -121_000],
            [-1, -60_001, -120_001],
        ];
        let resets: Vec<_> =
            starts.iter().flatten().zip(0..).map(|(start, n)| (n + 2, 60.0 * n as f64, *start)).collect();
        let told = [420.0, 780.0, 675.0, 675.0, 1275.0, 1080.0, 900.0, 1725.0, 1440.0];
        for (minute, told) in (7..).zip(told) {
            agrees(of_starts(&resets, (minute - 5, minute)).unwrap(), told);
        }
        let four = |first: i64| (0..4).map(|n| (n + 2, (n + 1) as f64, first - 60_000 * n)).collect::<Vec<_>>();
        let two = |first: i64| vec![(3, 2.0, first), (4, 3.0, first - 60_000)];
        for (points, told) in [
            (four(-60_000), 5.0),
            (four(-30_000), 5.142_857_142_857_143),
            (four(0), 5.0),
            (four(1), 6.333_333_333_333_333),
            (two(-120_000), 2.0),
            (two(-90_000), 3.6),
            (two(0), 2.0),
            (two(1), 6.0),
            (vec![(4, 3.0, -150_000)], 3.0),
            (vec![(2, 5.0, -60_000), (3, 5.0, -1000), (4, 2.0, i64::from(i32::MAX))], 16.0),
        ] {
            let window = if points.len() == 3 { (0, 5) } else { (1, 6) };
            agrees(of_starts(&points, window).unwrap(), told);
        }
        for outside in [-180_000, 0, 1] {
            assert_eq!(of_starts(&[(4, 3.0, outside)], (1, 6)), None);
        }
    }
}
