//! A walk over the points of some series, a batch at a time.

use std::sync::Arc;

use crate::{
    memtable::SeriesPoints,
    points::{Point, Points, on_day},
};

/// Some neighbouring points of one series.
pub(crate) struct Run<'a, P> {
    pub(crate) of: &'a SeriesPoints,
    pub(crate) points: &'a [P],
}

/// Where the walk has got to. Whoever walks keeps the series.
#[derive(Debug, Default)]
pub(crate) struct PointCursor {
    /// The only UTC day of which points are wanted.
    day: Option<i32>,
    series: usize,
    chunk: usize,
    point: usize,
}

impl PointCursor {
    /// At the first point on `day`.
    pub(crate) fn on_day(day: i32) -> Self {
        Self { day: Some(day), ..Self::default() }
    }

    /// The next points, `count_max` at most, in the order of `series`; none at the end. `pick` says which points of a
    /// series are meant.
    pub(crate) fn next_runs<'a, P: Point>(
        &mut self,
        series: &'a [Arc<SeriesPoints>],
        pick: fn(&SeriesPoints) -> &Points<P>,
        count_max: usize,
    ) -> Vec<Run<'a, P>> {
        let (mut runs, mut left) = (Vec::new(), count_max);
        while let Some(of) = series.get(self.series).filter(|_| left > 0) {
            let Some(chunk) = pick(of).chunk(self.chunk) else {
                (self.series, self.chunk) = (self.series + 1, 0);
                continue;
            };
            let wanted = self.day.map_or(chunk, |day| on_day(chunk, day));
            let rest = &wanted[self.point..];
            let points = &rest[..rest.len().min(left)];
            left -= points.len();
            if points.len() == rest.len() {
                (self.chunk, self.point) = (self.chunk + 1, 0);
            } else {
                self.point += points.len();
            }
            if !points.is_empty() {
                runs.push(Run { of, points });
            }
        }
        runs
    }
}
