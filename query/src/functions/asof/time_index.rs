//! The right in memory: its rows by key, those of one key by time.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use datafusion::{
    error::Result,
    execution::{SendableRecordBatchStream, memory_pool::MemoryReservation},
};
use futures::StreamExt;

use super::{
    Nearest,
    keys::{KeyRuns, Keys},
    matches::{Matches, Output},
};

/// A row that has a time.
#[derive(Debug, Clone, Copy)]
struct Place {
    time: i64,
    batch: u32,
    row: u32,
}

/// All rows of the right that may match.
#[derive(Default)]
pub(super) struct TimeIndex {
    batches: Vec<RecordBatch>,
    places: HashMap<Box<[u8]>, Vec<Place>>,
}

/// What came of reading the right.
pub(super) enum Read {
    Whole(TimeIndex),
    /// There is no memory for more than `batches`; `rest` follows them.
    TooLarge {
        batches: Vec<RecordBatch>,
        rest: SendableRecordBatchStream,
    },
}

impl TimeIndex {
    /// `reservation` holds what the index takes, at most `bytes_max`.
    pub(super) async fn read(
        mut right: SendableRecordBatchStream,
        keys: &Keys,
        reservation: &MemoryReservation,
        bytes_max: usize,
    ) -> Result<Read> {
        let mut index = Self::default();
        while let Some(batch) = right.next().await {
            let batch = batch?;
            let runs = keys.runs(&batch)?;
            // What grows has room for as much again.
            let bytes = batch.get_array_memory_size() + 2 * batch.num_rows() * size_of::<Place>();
            if reservation.size() + bytes > bytes_max || reservation.try_grow(bytes).is_err() {
                index.batches.push(batch);
                return Ok(Read::TooLarge { batches: index.batches, rest: right });
            }
            index.add(batch, &runs);
        }
        index.sort();
        Ok(Read::Whole(index))
    }

    fn add(&mut self, batch: RecordBatch, runs: &KeyRuns) {
        let number = self.batches.len() as u32;
        for (run, rows) in runs.iter().filter(|(run, _)| !runs.has_null(*run)) {
            let places = rows.filter_map(|row| Some(Place { time: runs.time(row)?, batch: number, row: row as u32 }));
            match self.places.get_mut(runs.key(run)) {
                Some(known) => known.extend(places),
                None => {
                    self.places.insert(runs.key(run).into(), places.collect());
                }
            }
        }
        self.batches.push(batch);
    }

    fn sort(&mut self) {
        for places in self.places.values_mut().filter(|places| !places.is_sorted_by_key(|place| place.time)) {
            // Stable, so that it is quick where there are only some runs in order, one for each file.
            places.sort_by_key(|place| place.time);
        }
    }

    /// The rows of `left`, each with the nearest of the right.
    pub(super) fn joined(
        &self,
        left: &RecordBatch,
        keys: &Keys,
        nearest: Nearest,
        output: &Output,
    ) -> Result<RecordBatch> {
        let runs = keys.runs(left)?;
        let mut matches = Matches::with_capacity(left.num_rows());
        for (run, rows) in runs.iter() {
            let places = self.places.get(runs.key(run)).filter(|_| !runs.has_null(run));
            let places = places.map_or(&[][..], Vec::as_slice);
            let mut count = 0;
            for row in rows {
                let found = runs.time(row).and_then(|time| {
                    count = passed(places, count, |place| nearest.is_passed(place.time, time));
                    nearest.index(count).and_then(|index| places.get(index))
                });
                match found {
                    Some(place) => {
                        let batch = place.batch as usize;
                        matches.push(batch, &self.batches[batch], place.row as usize);
                    }
                    None => matches.push_none(),
                }
            }
        }
        matches.joined(left, output)
    }
}

/// How many of `places` are passed, which are the first ones. Quick where that is about `from`, as with rows in order.
fn passed(places: &[Place], from: usize, is_passed: impl Fn(&Place) -> bool) -> usize {
    let mut low = from;
    if low > 0 && !is_passed(&places[low - 1]) {
        return places[..low].partition_point(is_passed);
    }
    let mut step = 1;
    while places.get(low + step - 1).is_some_and(&is_passed) {
        low += step;
        step *= 2;
    }
    let high = places.len().min(low + step - 1);
    low + places[low..high].partition_point(is_passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_passed_are_counted_from_anywhere() {
        for len in 0..20 {
            let places: Vec<_> = (0..len).map(|n| Place { time: n / 2, batch: 0, row: 0 }).collect();
            for (from, until) in (0..=len as usize).flat_map(|from| (-1..12).map(move |until| (from, until))) {
                let expected = places.iter().filter(|place| place.time < until).count();
                assert_eq!(passed(&places, from, |place| place.time < until), expected, "{len} {from} {until}");
            }
        }
    }
}
