//! Points of many log records, put together by series.
//!
//! A sender's record holds one point of each of its series, so that putting records into a memtable one by one goes to every
//! series again for a single point. Gathered, it goes there once for all of them.

use crate::write_batch::{HistogramPoint, Rejection, SampleColumns, WriteBatch};

/// Points from which there are enough; 4 MB of columns.
const POINT_COUNT_ENOUGH: usize = 1 << 17;

/// Points in the order of the log, their series as places in some list.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    samples: SampleColumns,
    histograms: Vec<HistogramPoint>,
    rejections: Vec<Rejection>,
}

impl Gathered {
    /// Adds the points of a record, whose series stand at `places`.
    pub(super) fn add(&mut self, batch: WriteBatch, places: &[u32]) {
        let WriteBatch { samples, histograms, rejections, .. } = batch;
        self.samples.series.extend(samples.series.iter().map(|index| places[*index as usize]));
        self.samples.start_time.extend(samples.start_time);
        self.samples.time.extend(samples.time);
        self.samples.bits.extend(samples.bits);
        self.samples.form.extend(samples.form);
        let placed = |point: HistogramPoint| HistogramPoint { series: places[point.series as usize], ..point };
        self.histograms.extend(histograms.into_iter().map(placed));
        self.rejections.extend(rejections);
    }

    pub(super) fn is_enough(&self) -> bool {
        self.samples.len() + self.histograms.len() >= POINT_COUNT_ENOUGH
    }

    /// All of it, by series, and the place of each series it refers to. Points of a series stay in the order of the log,
    /// because the last write of a point is the one that counts.
    pub(super) fn take(&mut self) -> (WriteBatch, Vec<u32>) {
        let (samples, mut places) = by_place(&self.samples);
        self.samples.clear();
        let mut histograms = std::mem::take(&mut self.histograms);
        histograms.sort_by_key(|point| point.series);
        for of_series in histograms.chunk_by_mut(|a, b| a.series == b.series) {
            places.push(of_series[0].series);
            of_series.iter_mut().for_each(|point| point.series = places.len() as u32 - 1);
        }
        let rejections = std::mem::take(&mut self.rejections);
        (WriteBatch { samples, histograms, rejections, ..WriteBatch::default() }, places)
    }
}

/// Sorts by series, by counting, and numbers the series anew; beside it the place of each.
fn by_place(samples: &SampleColumns) -> (SampleColumns, Vec<u32>) {
    let place_count = samples.series.iter().max().map_or(0, |last| *last as usize + 1);
    // Of each place first how many points it has, then where the next one goes.
    let mut next = vec![0_u32; place_count];
    samples.series.iter().for_each(|place| next[*place as usize] += 1);
    let mut places = Vec::new();
    let mut series = Vec::with_capacity(samples.len());
    for (place, next) in next.iter_mut().enumerate() {
        let start = series.len();
        let count = std::mem::replace(next, start as u32) as usize;
        if count > 0 {
            series.resize(start + count, places.len() as u32);
            places.push(place as u32);
        }
    }
    let mut sorted = SampleColumns {
        series,
        start_time: vec![0; samples.len()],
        time: vec![0; samples.len()],
        bits: vec![0; samples.len()],
        form: vec![0; samples.len()],
    };
    for (row, place) in samples.series.iter().enumerate() {
        let next = &mut next[*place as usize];
        let to = *next as usize;
        *next += 1;
        sorted.start_time[to] = samples.start_time[row];
        sorted.time[to] = samples.time[row];
        sorted.bits[to] = samples.bits[row];
        sorted.form[to] = samples.form[row];
    }
    (sorted, places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write_batch::HistogramShape;

    fn histogram(series: u32, time: i64) -> HistogramPoint {
        let shape = HistogramShape::Explicit { counts: vec![1] };
        let (sum, min, max) = (None, None, None);
        HistogramPoint { series, start_time: 0, time, recorded: true, count: 1, sum, min, max, shape }
    }

    #[test]
    fn points_of_a_series_come_together_in_the_order_of_the_log() {
        let mut gathered = Gathered::default();
        for (record, places) in [[7_u32, 2], [2, 9]].iter().enumerate() {
            let mut batch = WriteBatch::default();
            (0..2).for_each(|series| batch.samples.push(series, -1, 5, record as u64, 1));
            batch.histograms = vec![histogram(1, record as i64), histogram(0, record as i64)];
            gathered.add(batch, places);
        }
        assert!(!gathered.is_enough());
        let (batch, places) = gathered.take();
        let samples = &batch.samples;
        let rows: Vec<_> =
            (0..samples.len()).map(|row| (places[samples.series[row] as usize], samples.bits[row])).collect();
        assert_eq!(rows, [(2, 0), (2, 1), (7, 0), (9, 1)]);
        assert_eq!(
            (&samples.start_time[..], &samples.time[..], &samples.form[..]),
            (&[-1; 4][..], &[5; 4][..], &[1; 4][..])
        );
        let histograms: Vec<_> =
            batch.histograms.iter().map(|point| (places[point.series as usize], point.time)).collect();
        assert_eq!(histograms, [(2, 0), (2, 1), (7, 0), (9, 1)]);
        let (batch, places) = gathered.take();
        assert!(batch.samples.is_empty() && batch.histograms.is_empty() && places.is_empty());
    }
}
