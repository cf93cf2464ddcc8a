//! Acknowledged points that no file holds yet, per series and in time order.
//!
//! Each series keeps its points sorted by `(time, start_time)`, so a flush only sorts the list of series, and a repeated
//! point is found by binary search: the last write replaces the earlier one (`STORE-2` counts it as a duplicate).

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
    time::Instant,
};

use crate::{
    series::{Series, SeriesId},
    series_map::SeriesMap,
    write_batch::{HistogramPoint, HistogramShape, Rejection, WriteBatch},
};

/// Microseconds of one UTC day.
pub(crate) const DAY_US: i64 = 86_400_000_000;

/// UTC day number of `time_us`, as Arrow's `Date32`.
pub(crate) fn day_of(time_us: i64) -> i32 {
    i32::try_from(time_us.div_euclid(DAY_US)).unwrap_or(i32::MAX)
}

/// One number data point.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) time: i64,
    pub(crate) start_time: i64,
    pub(crate) bits: u64,
    pub(crate) form: u8,
}

/// A point with an identity inside its series.
pub(crate) trait Point {
    /// `(time, start_time)`, microseconds.
    fn key(&self) -> (i64, i64);
}

impl Point for Sample {
    fn key(&self) -> (i64, i64) {
        (self.time, self.start_time)
    }
}

impl Point for HistogramPoint {
    fn key(&self) -> (i64, i64) {
        (self.time, self.start_time)
    }
}

/// The points of one series.
#[derive(Debug)]
pub(crate) struct SeriesPoints {
    pub(crate) series: Arc<Series>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) histograms: Vec<HistogramPoint>,
    /// Points up to this time may be stored outside this memtable already; later ones are not.
    stored_through: i64,
}

impl SeriesPoints {
    /// Time of the last point, if there is one.
    pub(crate) fn last_time(&self) -> Option<i64> {
        let (samples, histograms) = (self.samples.last(), self.histograms.last());
        samples.map(|point| point.time).max(histograms.map(|point| point.time))
    }

    /// First and last time of the points on `day`, if there are any.
    pub(crate) fn time_range_on(&self, day: i32) -> Option<(i64, i64)> {
        let samples = &self.samples[day_range(&self.samples, day)];
        let histograms = &self.histograms[day_range(&self.histograms, day)];
        let ends = [ends(samples), ends(histograms)].into_iter().flatten();
        ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }
}

fn ends<P: Point>(points: &[P]) -> Option<(i64, i64)> {
    Some((points.first()?.key().0, points.last()?.key().0))
}

/// Index range of the points on `day`.
pub(crate) fn day_range<P: Point>(points: &[P], day: i32) -> Range<usize> {
    let start = i64::from(day) * DAY_US;
    let from = points.partition_point(|point| point.key().0 < start);
    let to = points.partition_point(|point| point.key().0 < start + DAY_US);
    from..to
}

/// By day, first and last time of the points that may repeat points stored elsewhere.
pub(crate) type RepeatedTimes = BTreeMap<i32, (i64, i64)>;

fn note_repeat(repeated: &mut RepeatedTimes, time: i64) {
    let range = repeated.entry(day_of(time)).or_insert((time, time));
    *range = (range.0.min(time), range.1.max(time));
}

/// Unflushed points of a contiguous run of log records.
#[derive(Debug)]
pub(crate) struct Memtable {
    /// Place of each series in `series`.
    places: SeriesMap<u32>,
    series: Vec<SeriesPoints>,
    pub(crate) rejections: Vec<Rejection>,
    pub(crate) days: BTreeSet<i32>,
    pub(crate) repeated_samples: RepeatedTimes,
    pub(crate) repeated_histograms: RepeatedTimes,
    pub(crate) size_bytes: usize,
    pub(crate) last_sequence: u64,
    pub(crate) first_append: Option<Instant>,
}

impl Memtable {
    pub(crate) fn new() -> Self {
        Self {
            places: SeriesMap::default(),
            series: Vec::new(),
            rejections: Vec::new(),
            days: BTreeSet::new(),
            repeated_samples: RepeatedTimes::new(),
            repeated_histograms: RepeatedTimes::new(),
            size_bytes: 0,
            last_sequence: 0,
            first_append: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first_append.is_none()
    }

    /// Adds the points of one log record and returns how many replaced an earlier point of the same identity.
    /// `stored_through` tells up to which time points of a series may be stored outside this memtable.
    pub(crate) fn insert(
        &mut self,
        sequence: u64,
        batch: WriteBatch,
        now: Instant,
        stored_through: impl Fn(SeriesId) -> i64,
    ) -> u64 {
        let mut duplicate_count = 0;
        self.last_sequence = sequence;
        self.first_append.get_or_insert(now);
        self.size_bytes += batch.rejections.iter().map(rejection_size_bytes).sum::<usize>();
        self.rejections.extend(batch.rejections);
        let places: Vec<usize> = batch.series.iter().map(|series| self.place(series, &stored_through)).collect();
        let mut last_day = None;
        let samples = &batch.samples;
        for row in 0..samples.len() {
            let sample = Sample {
                time: samples.time[row],
                start_time: samples.start_time[row],
                bits: samples.bits[row],
                form: samples.form[row],
            };
            note_day(&mut self.days, &mut last_day, sample.time);
            let points = &mut self.series[places[samples.series[row] as usize]];
            if sample.time <= points.stored_through {
                note_repeat(&mut self.repeated_samples, sample.time);
            }
            let capacity = points.samples.capacity();
            duplicate_count += u64::from(insert_sorted(&mut points.samples, sample));
            self.size_bytes += (points.samples.capacity() - capacity) * size_of::<Sample>();
        }
        for point in batch.histograms {
            note_day(&mut self.days, &mut last_day, point.time);
            self.size_bytes += shape_size_bytes(&point.shape);
            let points = &mut self.series[places[point.series as usize]];
            if point.time <= points.stored_through {
                note_repeat(&mut self.repeated_histograms, point.time);
            }
            let capacity = points.histograms.capacity();
            duplicate_count += u64::from(insert_sorted(&mut points.histograms, point));
            self.size_bytes += (points.histograms.capacity() - capacity) * size_of::<HistogramPoint>();
        }
        duplicate_count
    }

    /// Where the points of `series` are; makes room for a series that is new here.
    fn place(&mut self, series: &Arc<Series>, stored_through: &impl Fn(SeriesId) -> i64) -> usize {
        if let Some(place) = self.places.get(&series.id) {
            return *place as usize;
        }
        let capacities = (self.places.capacity(), self.series.capacity());
        let place = self.series.len();
        self.places.insert(series.id, place as u32);
        self.series.push(SeriesPoints {
            series: Arc::clone(series),
            samples: Vec::new(),
            histograms: Vec::new(),
            stored_through: stored_through(series.id),
        });
        // A map keeps an eighth of its buckets free and one byte for each.
        let buckets = (self.places.capacity() - capacities.0) * 8 / 7;
        self.size_bytes += series.size_bytes()
            + buckets * (size_of::<(SeriesId, u32)>() + 1)
            + (self.series.capacity() - capacities.1) * size_of::<SeriesPoints>();
        place
    }

    /// Time of the last point of series `id`, if it has one here.
    pub(crate) fn last_time(&self, id: SeriesId) -> Option<i64> {
        self.series[*self.places.get(&id)? as usize].last_time()
    }

    /// Every series with the time of its last point.
    pub(crate) fn last_times(&self) -> Vec<(SeriesId, i64)> {
        self.series.iter().filter_map(|points| Some((points.series.id, points.last_time()?))).collect()
    }

    /// Every series with its points, in no order.
    pub(crate) fn series(&self) -> &[SeriesPoints] {
        &self.series
    }

    /// Every series with its points, in table order: by metric, then by the signed `series_id`.
    pub(crate) fn sorted(&self) -> Vec<&SeriesPoints> {
        let mut sorted: Vec<_> = self.series.iter().collect();
        sorted.sort_unstable_by(|a, b| {
            let metric = a.series.definition.metric.cmp(&b.series.definition.metric);
            metric.then_with(|| a.series.id.to_column().cmp(&b.series.id.to_column()))
        });
        sorted
    }
}

fn note_day(days: &mut BTreeSet<i32>, last_day: &mut Option<i32>, time: i64) {
    let day = day_of(time);
    if *last_day != Some(day) {
        *last_day = Some(day);
        days.insert(day);
    }
}

/// Inserts in key order; true when it replaced a point of the same key.
fn insert_sorted<P: Point>(points: &mut Vec<P>, point: P) -> bool {
    match points.last().map_or(Ordering::Less, |last| last.key().cmp(&point.key())) {
        Ordering::Less => {
            points.push(point);
            false
        }
        _ => match points.binary_search_by(|probe| probe.key().cmp(&point.key())) {
            Ok(index) => {
                points[index] = point;
                true
            }
            Err(index) => {
                points.insert(index, point);
                false
            }
        },
    }
}

/// Bytes of the lists of a point; two blocks of the allocator at most.
fn shape_size_bytes(shape: &HistogramShape) -> usize {
    let numbers = match shape {
        HistogramShape::Explicit { counts } => counts.capacity(),
        HistogramShape::Exponential { positive_counts, negative_counts, .. } => {
            positive_counts.capacity() + negative_counts.capacity()
        }
        HistogramShape::Summary { quantiles, values } => quantiles.capacity() + values.capacity(),
    };
    numbers * 8 + 32
}

fn rejection_size_bytes(rejection: &Rejection) -> usize {
    let texts = [&rejection.reason, &rejection.metric, &rejection.message];
    2 * size_of::<Rejection>() + texts.into_iter().map(|text| text.capacity() + 16).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(time: i64, bits: u64) -> Sample {
        Sample { time, start_time: 0, bits, form: 0 }
    }

    #[test]
    fn points_arrive_in_any_order_and_the_last_write_of_an_identity_stays() {
        let mut points = Vec::new();
        let mut model = BTreeMap::new();
        let mut duplicates = 0;
        for (n, time) in [5i64, 7, 6, 5, 1, 9, 7, 7, 2].into_iter().enumerate() {
            duplicates += u64::from(insert_sorted(&mut points, sample(time, n as u64)));
            model.insert(time, n as u64);
        }
        let stored: Vec<_> = points.iter().map(|point| (point.time, point.bits)).collect();
        assert_eq!(stored, model.into_iter().collect::<Vec<_>>());
        assert_eq!(duplicates, 3);
    }

    #[test]
    fn size_is_what_the_lists_and_maps_have_reserved() {
        let definition = crate::series::SeriesDefinition {
            metric: "m".into(),
            unit: "".into(),
            description: "".into(),
            kind: crate::series::Kind::Gauge,
            temporality: crate::series::Temporality::Unspecified,
            monotonic: false,
            bounds: vec![],
            resource: vec![("host".into(), crate::series::AttributeValue::String("h".repeat(1000)))].into(),
            scope_name: "".into(),
            scope_version: "".into(),
            scope: vec![].into(),
            point: vec![],
        };
        let mut batch = WriteBatch { series: vec![Series::new(definition)], ..WriteBatch::default() };
        (0..100).for_each(|time| batch.samples.push(0, 0, time, 0, 0));
        let mut memtable = Memtable::new();
        memtable.insert(1, batch.clone(), Instant::now(), |_| i64::MIN);
        let samples = |memtable: &Memtable| memtable.series[0].samples.capacity();
        let expected = |memtable: &Memtable| samples(memtable) * 32 + batch.series[0].size_bytes();
        assert!(batch.series[0].size_bytes() > 1000);
        let overhead = memtable.size_bytes - expected(&memtable);
        assert!(overhead < 1024, "{overhead} bytes for a map of one");
        memtable.insert(2, batch.clone(), Instant::now(), |_| i64::MIN);
        assert_eq!(memtable.size_bytes, expected(&memtable) + overhead, "repeats take no memory");
    }

    #[test]
    fn days_are_utc_and_split_before_the_epoch_too() {
        assert_eq!(day_of(-1), -1);
        assert_eq!(day_of(DAY_US), 1);
        let points = [sample(DAY_US - 1, 0), sample(DAY_US, 0), sample(2 * DAY_US, 0)];
        assert_eq!(day_range(&points, 1), 1..2);
    }
}
