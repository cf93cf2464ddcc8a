//! Acknowledged points that no file holds yet, per series and in time order.
//!
//! Each series keeps its points sorted by `(time, start_time)`, so a flush only sorts the list of series, and a repeated
//! point is found by binary search: the last write replaces the earlier one (`STORE-2` counts it as a duplicate). A scan
//! shares the points; an append beside it copies what it changes of one series.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use crate::{
    points::{Point, Points, on_day},
    sample::Sample,
    series::{Series, SeriesId},
    series_map::SeriesMap,
    write_batch::{HistogramPoint, HistogramShape, Rejection, SampleColumns, WriteBatch},
};

/// Microseconds of one UTC day.
pub(crate) const DAY_US: i64 = 86_400_000_000;

/// UTC day number of `time_us`, as Arrow's `Date32`.
pub(crate) fn day_of(time_us: i64) -> i32 {
    i32::try_from(time_us.div_euclid(DAY_US)).unwrap_or(i32::MAX)
}

/// The points of one series.
#[derive(Debug, Clone)]
pub(crate) struct SeriesPoints {
    pub(crate) series: Arc<Series>,
    pub(crate) samples: Points<Sample>,
    pub(crate) histograms: Points<HistogramPoint>,
    /// Points up to this time may be stored outside this memtable already; later ones are not.
    stored_through: i64,
}

impl SeriesPoints {
    /// Time of the first and of the last point, if there are points.
    fn times(&self) -> Option<(i64, i64)> {
        widest([self.samples.times(), self.histograms.times()])
    }

    /// First and last time of the points on `day`, if there are any.
    pub(crate) fn time_range_on(&self, day: i32) -> Option<(i64, i64)> {
        let samples = self.samples.chunks().map(|chunk| ends(on_day(chunk, day)));
        widest(samples.chain(self.histograms.chunks().map(|chunk| ends(on_day(chunk, day)))))
    }
}

fn ends<P: Point>(points: &[P]) -> Option<(i64, i64)> {
    Some((points.first()?.key().0, points.last()?.key().0))
}

fn widest(ranges: impl IntoIterator<Item = Option<(i64, i64)>>) -> Option<(i64, i64)> {
    ranges.into_iter().flatten().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
}

/// Bytes of a series in memory beside its points and what it is: the counts of what shares it, and a block of the allocator.
const SERIES_POINTS_SIZE_BYTES: usize = size_of::<SeriesPoints>() + 32;

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
    /// Beside each series its id, so that a guess of its place is checked without reading the series.
    series: Vec<(SeriesId, Arc<SeriesPoints>)>,
    /// Of each metric, the places of its series: a question is mostly about few metrics.
    metrics: HashMap<Arc<str>, Vec<u32>>,
    /// Of each record.
    pub(crate) rejections: Vec<Arc<[Rejection]>>,
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
            metrics: HashMap::new(),
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

    /// The rows of this moment for a scan, of the metrics that are `wanted`: shared and not copied, without the places, which
    /// only appends need. An append beside it copies what it changes, so what is not wanted should not be shared.
    pub(crate) fn share(&self, wanted: impl Fn(&str) -> bool) -> Self {
        let mut series = Vec::new();
        let mut metrics = HashMap::new();
        for (metric, places) in self.metrics.iter().filter(|(metric, _)| wanted(metric)) {
            let first = series.len() as u32;
            series.extend(places.iter().map(|place| self.series[*place as usize].clone()));
            metrics.insert(Arc::clone(metric), (first..series.len() as u32).collect());
        }
        Self {
            places: SeriesMap::default(),
            series,
            metrics,
            rejections: self.rejections.clone(),
            days: self.days.clone(),
            repeated_samples: self.repeated_samples.clone(),
            repeated_histograms: self.repeated_histograms.clone(),
            ..*self
        }
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
        let mut places: Vec<u32> = Vec::with_capacity(batch.series.len());
        for series in &batch.series {
            places.push(self.place(series, places.last().copied(), &stored_through));
        }
        self.insert_at(sequence, batch, &places, now)
    }

    /// As [`Memtable::insert`]; points refer to a series by its index in `places`, whatever series `batch` names.
    pub(crate) fn insert_at(&mut self, sequence: u64, batch: WriteBatch, places: &[u32], now: Instant) -> u64 {
        self.last_sequence = sequence;
        self.first_append.get_or_insert(now);
        if !batch.rejections.is_empty() {
            self.size_bytes += batch.rejections.iter().map(rejection_size_bytes).sum::<usize>();
            self.rejections.push(batch.rejections.into());
        }
        note_days(&mut self.days, &batch.samples.time);
        self.insert_samples(&batch.samples, places) + self.insert_histograms(batch.histograms, places)
    }

    fn insert_samples(&mut self, samples: &SampleColumns, places: &[u32]) -> u64 {
        let mut duplicate_count = 0;
        let mut end = 0;
        // Points of one series mostly stand together.
        for of_series in samples.series.chunk_by(|a, b| a == b) {
            let rows = end..end + of_series.len();
            end = rows.end;
            let points = Arc::make_mut(&mut self.series[places[of_series[0] as usize] as usize].1);
            for row in rows {
                let time = samples.time[row];
                if time <= points.stored_through {
                    note_repeat(&mut self.repeated_samples, time);
                }
                let sample = Sample::new(time, samples.start_time[row], samples.bits[row], samples.form[row]);
                duplicate_count += u64::from(points.samples.insert(sample, &mut self.size_bytes));
            }
        }
        duplicate_count
    }

    fn insert_histograms(&mut self, histograms: Vec<HistogramPoint>, places: &[u32]) -> u64 {
        let mut duplicate_count = 0;
        for point in histograms {
            self.days.insert(day_of(point.time));
            self.size_bytes += shape_size_bytes(&point.shape);
            let points = Arc::make_mut(&mut self.series[places[point.series as usize] as usize].1);
            if point.time <= points.stored_through {
                note_repeat(&mut self.repeated_histograms, point.time);
            }
            duplicate_count += u64::from(points.histograms.insert(point, &mut self.size_bytes));
        }
        duplicate_count
    }

    /// Where the points of `series` are; makes room for a series that is new here. Series mostly come in the same order
    /// every time, so the place after the one of the series `before` is tried first.
    pub(crate) fn place(
        &mut self,
        series: &Arc<Series>,
        before: Option<u32>,
        stored_through: &impl Fn(SeriesId) -> i64,
    ) -> u32 {
        let guess = before.map_or(0, |before| before + 1);
        if self.series.get(guess as usize).is_some_and(|(id, _)| *id == series.id) {
            return guess;
        }
        if let Some(place) = self.places.get(&series.id) {
            return *place;
        }
        let metric = &series.definition.metric;
        let of_metric = self.metrics.entry(Arc::clone(metric)).or_default();
        let capacities = (self.places.capacity(), self.series.capacity(), of_metric.capacity());
        let place = self.series.len() as u32;
        of_metric.push(place);
        let listed = of_metric.capacity() - capacities.2;
        self.places.insert(series.id, place);
        let points = SeriesPoints {
            series: Arc::clone(series),
            samples: Points::default(),
            histograms: Points::default(),
            stored_through: stored_through(series.id),
        };
        self.series.push((series.id, Arc::new(points)));
        // A map keeps an eighth of its buckets free and one byte for each.
        let buckets = (self.places.capacity() - capacities.0) * 8 / 7;
        self.size_bytes += series.size_bytes()
            + SERIES_POINTS_SIZE_BYTES
            + buckets * (size_of::<(SeriesId, u32)>() + 1)
            + listed * size_of::<u32>()
            + (self.series.capacity() - capacities.1) * size_of::<(SeriesId, Arc<SeriesPoints>)>();
        place
    }

    /// Time of the last point of series `id`, if it has one here.
    pub(crate) fn last_time(&self, id: SeriesId) -> Option<i64> {
        Some(self.series[*self.places.get(&id)? as usize].1.times()?.1)
    }

    /// Every series with the time of its last point.
    pub(crate) fn last_times(&self) -> Vec<(SeriesId, i64)> {
        self.series.iter().filter_map(|(id, points)| Some((*id, points.times()?.1))).collect()
    }

    /// Every metric that has a series here.
    pub(crate) fn metrics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.metrics.keys()
    }

    /// The series of the metrics that are `wanted`, in no order.
    pub(crate) fn series_of(&self, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = &Arc<SeriesPoints>> {
        let places = self.metrics.iter().filter(move |(metric, _)| wanted(metric)).flat_map(|(_, places)| places);
        places.map(|place| &self.series[*place as usize].1)
    }

    /// Every series with its points, in no order.
    pub(crate) fn series(&self) -> impl Iterator<Item = &Arc<SeriesPoints>> {
        self.series.iter().map(|(_, points)| points)
    }

    /// Every series with its points, in table order.
    pub(crate) fn sorted(&self) -> Vec<Arc<SeriesPoints>> {
        let mut sorted: Vec<_> = self.series().map(Arc::clone).collect();
        sort_in_table_order(&mut sorted);
        sorted
    }
}

/// Sorts by metric, then by the signed `series_id`.
pub(crate) fn sort_in_table_order(series: &mut [Arc<SeriesPoints>]) {
    series.sort_unstable_by(|a, b| {
        let metric = a.series.definition.metric.cmp(&b.series.definition.metric);
        metric.then_with(|| a.series.id.to_column().cmp(&b.series.id.to_column()))
    });
}

fn note_days(days: &mut BTreeSet<i32>, times: &[i64]) {
    let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) else { return };
    if day_of(*first) == day_of(*last) {
        days.insert(day_of(*first));
    } else {
        days.extend(times.iter().map(|time| day_of(*time)));
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

    fn batch() -> WriteBatch {
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
        batch
    }

    #[test]
    fn size_is_what_the_lists_and_maps_have_reserved() {
        let batch = batch();
        let mut memtable = Memtable::new();
        memtable.insert(1, batch.clone(), Instant::now(), |_| i64::MIN);
        let expected = 128 * 24 + SERIES_POINTS_SIZE_BYTES + batch.series[0].size_bytes();
        assert!(batch.series[0].size_bytes() > 1000);
        let overhead = memtable.size_bytes - expected;
        assert!(overhead < 1024, "{overhead} bytes for a map of one");
        let scan = memtable.share(|_metric| true);
        memtable.insert(2, batch.clone(), Instant::now(), |_| i64::MIN);
        assert_eq!(memtable.size_bytes, expected + overhead, "repeats take no memory, beside a scan neither");
        assert_eq!(scan.last_sequence, 1);
    }

    #[test]
    fn what_a_scan_shares_stays_as_it_was() {
        let mut memtable = Memtable::new();
        memtable.insert(1, batch(), Instant::now(), |_| i64::MIN);
        let scan = memtable.share(|_metric| true);
        let mut more = batch();
        more.samples.time.iter_mut().for_each(|time| *time += 50);
        more.samples.bits.fill(7);
        assert_eq!(memtable.insert(2, more, Instant::now(), |_| i64::MIN), 50);
        let points = |memtable: &Memtable| -> Vec<(i64, u64)> {
            let samples = memtable.series().flat_map(|points| points.samples.chunks().flatten());
            samples.map(|sample| (sample.time, sample.bits)).collect()
        };
        assert_eq!(points(&scan), (0..100).map(|time| (time, 0)).collect::<Vec<_>>());
        assert_eq!(points(&memtable), (0..150).map(|time| (time, if time < 50 { 0 } else { 7 })).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_not_wanted_is_not_shared() {
        let mut memtable = Memtable::new();
        memtable.insert(1, batch(), Instant::now(), |_| i64::MIN);
        assert_eq!(memtable.share(|metric| metric == "m").series_of(|metric| metric == "m").count(), 1);
        let scan = memtable.share(|metric| metric != "m");
        assert_eq!((scan.series().count(), scan.metrics().count(), scan.last_sequence), (0, 0, 1));
        let only = memtable.series().next().unwrap();
        assert_eq!((Arc::strong_count(only), memtable.series_of(|metric| metric != "m").count()), (1, 0));
    }

    #[test]
    fn days_of_a_record_are_all_noted() {
        assert_eq!((day_of(-1), day_of(DAY_US)), (-1, 1));
        let days = |times: &[i64]| {
            let mut days = BTreeSet::new();
            note_days(&mut days, times);
            days.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(days(&[DAY_US, -1, DAY_US + 1, 0]), [-1, 0, 1]);
        assert_eq!(days(&[5, 7]), [0]);
        assert!(days(&[]).is_empty());
    }
}
