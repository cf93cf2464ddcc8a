//! What the points of one counter gained since the point before.

/// Points further apart than this do not follow each other: nothing is said about the time between. Two points of a source
/// that reports every five minutes, one of them lost.
pub(crate) const SPAN_US: i64 = 600_000_000;

/// The integers from here on mean "no value" at DCGM; no counter gets there.
const BLANK_FROM: f64 = 9.2e18;

/// What falls by no more than this share of itself has not been reset: the kernel's idle and waiting times step back a little.
const STEP_BACK_MAX: f64 = 0.01;

/// The amounts of one point: the value, or count and sum.
pub(super) type Amounts = [f64; 2];

/// What one point of a counter says besides its amounts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Increase {
    /// Time of the point before; none if there was none within [`SPAN_US`], or a marker lay between.
    pub(super) since_us: Option<i64>,
    /// The counter says that it started after the point before.
    pub(super) begun: bool,
    /// The counter fell.
    pub(super) reset: bool,
    /// Since the point before; if it fell, since it was reset.
    pub(super) amounts: Option<Amounts>,
}

/// One counter, its points taken in the order of their times.
#[derive(Debug, Default)]
pub(super) struct Counter {
    last: Option<(i64, Amounts)>,
    /// A marker came after the last point: the next one does not follow it, but what it counted is not new either.
    ended: bool,
}

impl Counter {
    /// Takes the next point, or the marker that ends the series there.
    pub(super) fn push(&mut self, time_us: i64, start_us: Option<i64>, amounts: Option<Amounts>) -> Increase {
        let Some(amounts) = amounts else {
            self.ended = true;
            return Increase::default();
        };
        let is_repeat = self.last.is_some_and(|(last_us, _)| time_us <= last_us);
        if !amounts[0].is_finite() || amounts[0] >= BLANK_FROM || is_repeat {
            return Increase::default();
        }
        let before = self.last.replace((time_us, amounts)).filter(|(last_us, _)| time_us - last_us <= SPAN_US);
        // A start at the point before is that of both: senders that do not know it give the time of their first point.
        let from_us = before.map_or(time_us - SPAN_US, |(last_us, _)| last_us + 1);
        let begun = start_us.is_some_and(|start_us| (from_us..time_us).contains(&start_us));
        let ended = std::mem::take(&mut self.ended);
        let Some((last_us, last)) = before.filter(|_| !ended) else {
            return Increase { begun, ..Increase::default() };
        };
        let fell = amounts[0] < last[0];
        let reset = fell && (begun || amounts[0] < last[0] * (1.0 - STEP_BACK_MAX));
        let gained = match (reset, fell) {
            (true, _) => amounts,
            (false, true) => [0.0, 0.0],
            (false, false) => [amounts[0] - last[0], amounts[1] - last[1]],
        };
        Increase { since_us: Some(last_us), begun, reset, amounts: Some(gained) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    /// Points (second, start, value; below 0 a marker), and of each: since, begun, reset, increase.
    type Said = (Option<i64>, bool, bool, Option<f64>);

    fn check(points: &[(i64, Option<i64>, f64)], expected: &[Said]) {
        let mut counter = Counter::default();
        for (&(time, start, value), expected) in points.iter().zip(expected) {
            let amounts = (value >= 0.0 || value.is_nan()).then_some([value, 2.0 * value]);
            let found = counter.push(time * SECOND, start.map(|start| start * SECOND), amounts);
            let said = (found.since_us.map(|us| us / SECOND), found.begun, found.reset, found.amounts.map(|a| a[0]));
            assert_eq!(said, *expected, "at {time}");
            assert_eq!(found.amounts.map(|a| a[1]), found.amounts.map(|a| 2.0 * a[0]), "at {time}");
        }
    }

    #[test]
    fn it_counts_from_point_to_point_over_resets_and_not_over_gaps() {
        let none = (None, false, false, None);
        let plain = |since, gained| (Some(since), false, false, Some(gained));
        check(
            &[(1000, None, 5.0), (1015, None, 8.0), (1030, None, 8.0), (1045, None, 2.0), (1060, None, 4.0)],
            &[none, plain(1000, 3.0), plain(1015, 0.0), (Some(1030), false, true, Some(2.0)), plain(1045, 2.0)],
        );
        // 600 seconds are no gap, one more is.
        check(&[(0, None, 1.0), (600, None, 2.0), (1201, None, 3.0)], &[none, plain(0, 1.0), none]);
        check(
            &[(0, None, 1000.0), (15, None, 999.0), (30, None, 1001.0), (45, Some(40), 999.0)],
            &[none, plain(0, 0.0), plain(15, 2.0), (Some(30), true, true, Some(999.0))],
        );
        // A marker ends the run; what is no value is as if it were not there.
        check(
            &[
                (0, None, 1.0),
                (15, None, -1.0),
                (30, None, 5.0),
                (45, None, f64::NAN),
                (60, None, 9.3e18),
                (75, None, 6.0),
            ],
            &[none, none, none, none, none, plain(30, 1.0)],
        );
    }

    #[test]
    fn a_start_between_two_points_is_told_and_one_at_the_point_is_none() {
        let started = |since, reset, gained| (since, true, reset, gained);
        check(
            &[(1000, Some(900), 5.0), (1015, Some(900), 8.0), (1030, Some(1020), 3.0), (1045, Some(1040), 9.0)],
            &[
                started(None, false, None),
                (Some(1000), false, false, Some(3.0)),
                started(Some(1015), true, Some(3.0)),
                started(Some(1030), false, Some(6.0)),
            ],
        );
        // After a marker, what was counted before it is not counted again; a start after it is one.
        check(
            &[(0, Some(0), 90.0), (30, Some(0), 100.0), (45, None, -1.0), (60, Some(0), 110.0), (75, Some(0), 111.0)],
            &[
                (None, false, false, None),
                (Some(0), false, false, Some(10.0)),
                (None, false, false, None),
                (None, false, false, None),
                (Some(60), false, false, Some(1.0)),
            ],
        );
        check(
            &[(0, Some(0), 90.0), (30, None, -1.0), (60, Some(50), 3.0)],
            &[(None, false, false, None), (None, false, false, None), started(None, false, None)],
        );
        // Long ago, or the point's own time, which says that the start is not known and stays the start of those after it.
        check(
            &[(1000, Some(100), 5.0), (1015, Some(1015), 8.0), (1015, Some(1), 9.0), (1030, Some(1015), 9.0)],
            &[
                (None, false, false, None),
                (Some(1000), false, false, Some(3.0)),
                (None, false, false, None),
                (Some(1015), false, false, Some(1.0)),
            ],
        );
    }
}
