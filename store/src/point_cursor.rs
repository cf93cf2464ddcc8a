//! A walk over the points of some series, a batch at a time.

use std::{ops::Range, sync::Arc};

use crate::{
    memtable::SeriesPoints,
    points::{Point, Points, within},
};

/// Some neighbouring points of one series.
pub(crate) struct Run<'a, P> {
    pub(crate) of: &'a SeriesPoints,
    pub(crate) points: &'a [P],
}

/// Where the walk has got to. Whoever walks keeps the series.
#[derive(Debug)]
pub(crate) struct PointCursor {
    /// Times of which points are wanted.
    times: Range<i64>,
    series: usize,
    chunk: usize,
    point: usize,
}

impl PointCursor {
    /// At the first point within `times`, microseconds.
    pub(crate) fn within(times: Range<i64>) -> Self {
        Self { times, series: 0, chunk: 0, point: 0 }
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
            let rest = &within(chunk, &self.times)[self.point..];
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
