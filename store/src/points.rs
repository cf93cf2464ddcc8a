//! The points of one series, sorted, in chunks: growing copies at most one chunk, and so does an append beside a scan that
//! shares the points.

use std::{ops::Range, sync::Arc};

use crate::{memtable::DAY_US, write_batch::HistogramPoint};

/// A point with an identity inside its series.
pub(crate) trait Point: Clone {
    /// Points of a chunk that were appended in order.
    const CHUNK_COUNT: usize;

    /// `(time, start_time)`, microseconds.
    fn key(&self) -> (i64, i64);
}

impl Point for HistogramPoint {
    const CHUNK_COUNT: usize = 16;

    fn key(&self) -> (i64, i64) {
        (self.time, self.start_time)
    }
}

/// Bytes of a full chunk beside its points: two allocations, a list of its own and two places in the list of chunks.
const CHUNK_SIZE_BYTES: usize = 80;

/// Points in key order, of each key one.
#[derive(Debug)]
pub(crate) struct Points<P> {
    /// Chunks that only a late point still changes. None is empty.
    full: Vec<Arc<Vec<P>>>,
    /// The last points; empty only if there are none at all.
    open: Vec<P>,
}

impl<P> Default for Points<P> {
    fn default() -> Self {
        Self { full: Vec::new(), open: Vec::new() }
    }
}

impl<P: Clone> Clone for Points<P> {
    /// Shares the full chunks. Keeps the capacity, so that the sizes that [`Points::insert`] told stay right.
    fn clone(&self) -> Self {
        let mut open = Vec::with_capacity(self.open.capacity());
        open.extend_from_slice(&self.open);
        Self { full: self.full.clone(), open }
    }
}

impl<P: Point> Points<P> {
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Time of the first and of the last point, if there are points.
    pub(crate) fn times(&self) -> Option<(i64, i64)> {
        let first = self.full.first().map_or(self.open.first(), |chunk| chunk.first())?;
        Some((first.key().0, self.open.last()?.key().0))
    }

    /// All points in order, chunk by chunk.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = &[P]> + Clone {
        (0..).map_while(|index| self.chunk(index))
    }

    /// The chunk at `index`, if there are so many.
    pub(crate) fn chunk(&self, index: usize) -> Option<&[P]> {
        match self.full.get(index) {
            Some(chunk) => Some(chunk),
            None => (index == self.full.len() && !self.is_empty()).then_some(&self.open),
        }
    }

    /// Inserts in key order; true when it replaced a point of the same key. Adds to `size_bytes` what was reserved.
    pub(crate) fn insert(&mut self, point: P, size_bytes: &mut usize) -> bool {
        if self.open.last().is_none_or(|last| last.key() < point.key()) {
            self.push(point, size_bytes);
            return false;
        }
        self.insert_late(point, size_bytes)
    }

    fn push(&mut self, point: P, size_bytes: &mut usize) {
        if self.open.len() >= P::CHUNK_COUNT {
            let next = Vec::with_capacity(P::CHUNK_COUNT);
            *size_bytes += CHUNK_SIZE_BYTES + next.capacity() * size_of::<P>();
            self.full.push(Arc::new(std::mem::replace(&mut self.open, next)));
        }
        let capacity = self.open.capacity();
        self.open.push(point);
        *size_bytes += (self.open.capacity() - capacity) * size_of::<P>();
    }

    fn insert_late(&mut self, point: P, size_bytes: &mut usize) -> bool {
        let key = point.key();
        let index = self.full.partition_point(|chunk| chunk.last().is_some_and(|last| last.key() < key));
        let mut full = self.full.get_mut(index);
        let before = full.as_ref().map_or(self.open.capacity(), |chunk| chunk.capacity());
        let chunk = full.as_mut().map_or(&mut self.open, |chunk| Arc::make_mut(chunk));
        let place = chunk.binary_search_by(|probe| probe.key().cmp(&key));
        match place {
            Ok(at) => chunk[at] = point,
            Err(at) => chunk.insert(at, point),
        }
        *size_bytes = *size_bytes + chunk.capacity() * size_of::<P>() - before * size_of::<P>();
        if chunk.len() >= 2 * P::CHUNK_COUNT {
            // Late points may all go to one place; what an insert moves and copies stays bounded all the same.
            let capacity = chunk.capacity();
            let rest = chunk.split_off(P::CHUNK_COUNT);
            let first = std::mem::replace(chunk, rest);
            let reserved = first.capacity() + chunk.capacity();
            *size_bytes = *size_bytes + CHUNK_SIZE_BYTES + reserved * size_of::<P>() - capacity * size_of::<P>();
            self.full.insert(index, Arc::new(first));
        }
        place.is_ok()
    }
}

/// The points of `chunk` within `times`, microseconds.
pub(crate) fn within<'a, P: Point>(chunk: &'a [P], times: &Range<i64>) -> &'a [P] {
    let (Some(first), Some(last)) = (chunk.first(), chunk.last()) else { return chunk };
    if times.contains(&first.key().0) && times.contains(&last.key().0) {
        return chunk;
    }
    let from = chunk.partition_point(|point| point.key().0 < times.start);
    let to = chunk.partition_point(|point| point.key().0 < times.end);
    &chunk[from.min(to)..to]
}

/// The points of `chunk` on the UTC day `day`.
pub(crate) fn on_day<P: Point>(chunk: &[P], day: i32) -> &[P] {
    within(chunk, &times_of(day))
}

/// The times of the UTC day `day`, microseconds.
pub(crate) fn times_of(day: i32) -> Range<i64> {
    let start = i64::from(day) * DAY_US;
    start..start + DAY_US
}

#[cfg(test)]
mod tests;
