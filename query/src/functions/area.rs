//! Values by how long they held.

use super::points::Point;

/// What a value is between two points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Between {
    /// On the straight line.
    Linear,
    /// As at the point before.
    Held,
}

/// The area under a curve, and the time it is known for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Area {
    /// Value times seconds.
    pub(crate) area: f64,
    pub(crate) seconds: f64,
    /// Of the first point, for a curve of one point.
    first: f64,
}

impl Area {
    /// Of points in order; null without a value. A value counts for at most `cutoff` microseconds; up to a staleness marker
    /// it holds, after it nothing is known until the next value.
    pub(crate) fn of(points: &[Point], between: Between, cutoff: Option<i64>) -> Option<Self> {
        let first = points.iter().find(|point| !point.is_stale())?.value;
        let mut found = Self { area: 0.0, seconds: 0.0, first };
        for pair in points.windows(2).filter(|pair| !pair[0].is_stale()) {
            let gap = pair[1].time.saturating_sub(pair[0].time);
            let known = cutoff.map_or(gap, |cutoff| gap.min(cutoff));
            let seconds = known as f64 / 1e6;
            let line = between == Between::Linear && known == gap && !pair[1].is_stale();
            found.area += seconds * if line { (pair[0].value + pair[1].value) / 2.0 } else { pair[0].value };
            found.seconds += seconds;
        }
        Some(found)
    }

    /// The mean by time; the value where there is one point.
    pub(crate) fn mean(&self) -> f64 {
        if self.seconds > 0.0 { self.area / self.seconds } else { self.first }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::points::point, *};

    const SECOND: i64 = 1_000_000;

    fn check(points: &[(i64, Option<f64>)], between: Between, cutoff: Option<i64>, area: f64, seconds: f64) {
        let points: Vec<_> = points.iter().map(|(time, value)| point(time * SECOND, *value, None)).collect();
        let found = Area::of(&points, between, cutoff.map(|cutoff| cutoff * SECOND)).unwrap();
        assert_eq!((found.area, found.seconds), (area, seconds));
    }

    #[test]
    fn areas() {
        let ramp = [(0, Some(0.0)), (10, Some(10.0)), (30, Some(10.0))];
        check(&ramp, Between::Linear, None, 250.0, 30.0);
        check(&ramp, Between::Held, None, 200.0, 30.0);
        // The second gap counts for fifteen seconds only.
        check(&ramp, Between::Linear, Some(15), 200.0, 25.0);
        // The value holds up to the marker; nothing is known from there to 30.
        check(&[(0, Some(2.0)), (10, None), (30, Some(4.0)), (40, Some(4.0))], Between::Linear, None, 60.0, 20.0);
        check(&[(0, Some(7.0))], Between::Linear, None, 0.0, 0.0);
        assert_eq!(Area::of(&[point(0, None, None)], Between::Held, None), None);
    }
}
