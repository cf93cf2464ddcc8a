//! What one request brings into the store: columns of samples, histogram points, and what was refused.

use std::sync::Arc;

use crate::series::Series;

/// Points of one request, all of them valid, with the series they refer to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WriteBatch {
    /// Every series that a point refers to; points hold the index into this list. A series may stand here more than once.
    pub series: Vec<Arc<Series>>,
    /// Number data points.
    pub samples: SampleColumns,
    /// Histogram, exponential histogram and summary data points.
    pub histograms: Vec<HistogramPoint>,
    /// What was refused of this request.
    pub rejections: Vec<Rejection>,
}

/// Number data points as parallel columns of equal length.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SampleColumns {
    /// Index into [`WriteBatch::series`].
    pub series: Vec<u32>,
    /// Start of the interval, UTC microseconds; 0 when not given.
    pub start_time: Vec<i64>,
    /// UTC microseconds.
    pub time: Vec<i64>,
    /// Bits of the value: an `f64`, or an `i64` where `form` says so.
    pub bits: Vec<u64>,
    /// What `bits` holds: [`SampleColumns::DOUBLE`], [`SampleColumns::INT`] or [`SampleColumns::NO_VALUE`].
    pub form: Vec<u8>,
}

impl SampleColumns {
    /// `bits` is an `f64`.
    pub const DOUBLE: u8 = 0;
    /// `bits` is an `i64`.
    pub const INT: u8 = 1;
    /// The point carries the "no recorded value" flag: a staleness marker, stored as null.
    pub const NO_VALUE: u8 = 2;

    /// Number of points.
    pub fn len(&self) -> usize {
        self.time.len()
    }

    /// Whether there are no points.
    pub fn is_empty(&self) -> bool {
        self.time.is_empty()
    }

    /// Adds one point.
    pub fn push(&mut self, series: u32, start_time: i64, time: i64, bits: u64, form: u8) {
        self.series.push(series);
        self.start_time.push(start_time);
        self.time.push(time);
        self.bits.push(bits);
        self.form.push(form);
    }

    /// Drops all points and keeps the memory.
    pub(crate) fn clear(&mut self) {
        let Self { series, start_time, time, bits, form } = self;
        series.clear();
        [start_time, time].into_iter().for_each(Vec::clear);
        bits.clear();
        form.clear();
    }

    /// Keeps the points whose series index `keep` accepts.
    pub(crate) fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        let kept: Vec<usize> = (0..self.len()).filter(|row| keep(self.series[*row])).collect();
        fn take<T: Copy>(column: &mut Vec<T>, rows: &[usize]) {
            *column = rows.iter().map(|row| column[*row]).collect();
        }
        take(&mut self.start_time, &kept);
        take(&mut self.time, &kept);
        take(&mut self.bits, &kept);
        take(&mut self.form, &kept);
        take(&mut self.series, &kept);
    }
}

/// One histogram, exponential histogram or summary data point.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramPoint {
    /// Index into [`WriteBatch::series`].
    pub series: u32,
    /// Start of the interval, UTC microseconds; 0 when not given.
    pub start_time: i64,
    /// UTC microseconds.
    pub time: i64,
    /// False for a staleness marker: every other field is then stored as null.
    pub recorded: bool,
    /// Number of observations.
    pub count: u64,
    /// Sum of observations.
    pub sum: Option<f64>,
    /// Smallest observation.
    pub min: Option<f64>,
    /// Largest observation.
    pub max: Option<f64>,
    /// Buckets or quantiles.
    pub shape: HistogramShape,
}

/// How a histogram point spreads its observations.
#[derive(Debug, Clone, PartialEq)]
pub enum HistogramShape {
    /// Counts per bucket; the bounds are on the series. Either empty or one longer than the bounds.
    Explicit {
        /// Observations per bucket.
        counts: Vec<u64>,
    },
    /// Base-2 exponential buckets, `base = 2^(2^-scale)`.
    Exponential {
        /// Resolution.
        scale: i32,
        /// Observations with magnitude up to `zero_threshold`.
        zero_count: u64,
        /// Half-width of the zero bucket.
        zero_threshold: f64,
        /// Index of the first positive bucket.
        positive_offset: i32,
        /// Observations per positive bucket.
        positive_counts: Vec<u64>,
        /// Index of the first negative bucket.
        negative_offset: i32,
        /// Observations per negative bucket.
        negative_counts: Vec<u64>,
    },
    /// Quantiles as reported by the client, parallel lists.
    Summary {
        /// Quantiles in `[0, 1]`.
        quantiles: Vec<f64>,
        /// Their values.
        values: Vec<f64>,
    },
}

/// A count of points refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// When, UTC microseconds.
    pub time: i64,
    /// Stable reason code, such as `timestamp_too_new`.
    pub reason: String,
    /// Metric name, cut to 256 bytes; empty when it cannot be known.
    pub metric: String,
    /// Number of points.
    pub count: u64,
    /// One sentence that says what to do.
    pub message: String,
}

impl WriteBatch {
    /// Number of points, rejected ones not counted.
    pub fn point_count(&self) -> usize {
        self.samples.len() + self.histograms.len()
    }

    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.point_count() == 0 && self.rejections.is_empty()
    }
}
