//! What one feature looked like in one hour of one segment: a state that merges exactly.
//!
//! Invariant (merge law): the state of a union is the merge of the states of its parts, in any order and grouping, bit for
//! bit. It holds because every part is a sum of integers, an exact sum, a minimum or maximum, or a histogram whose scale
//! depends on the union alone.

use super::{category_counts::CategoryCounts, exact_sum::ExactSum, histogram::Exponential, histogram::MergedHistogram};

/// A point that cannot be counted; the state is unchanged.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateError {
    /// Explicit counts must be one more than the bounds.
    #[error("{counts} bucket counts for {bounds} bounds, expected one more than the bounds: check the exporter")]
    BucketCounts {
        /// Counts given.
        counts: usize,
        /// Bounds given.
        bounds: usize,
    },
    /// Bounds must be finite and ascending.
    #[error("explicit bounds are not finite and ascending: check the view of this instrument")]
    Bounds,
    /// The scale is outside what OpenTelemetry allows.
    #[error("scale {0} is outside -10 to 20: check the exporter")]
    Scale(i32),
    /// A zero threshold is negative or not finite.
    #[error("zero threshold is negative or not finite: check the exporter")]
    ZeroThreshold,
    /// Counts add up to more than 64 bits hold.
    #[error("counts overflow 64 bits: the point is corrupt")]
    CountOverflow,
    /// Stored bytes are not a state.
    #[error("stored drift state is corrupt at byte {offset}: {reason}; rebuild it from the stored data")]
    Corrupt {
        /// Where.
        offset: usize,
        /// What was wrong there.
        reason: &'static str,
    },
}

/// Which state this is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKey {
    /// Metric or column.
    pub feature: String,
    /// `key=value` of the segment; empty for all.
    pub segment: String,
    /// Hours since the Unix epoch, UTC.
    pub hour: i64,
}

/// An explicit-bucket histogram point of delta temporality.
#[derive(Debug, Clone, PartialEq)]
pub struct ExplicitPoint<'a> {
    /// Upper bounds, inclusive, ascending.
    pub bounds: &'a [f64],
    /// One more than the bounds.
    pub counts: &'a [u64],
    /// Sum of the observations, if sent.
    pub sum: Option<f64>,
    /// Smallest observation, if sent.
    pub min: Option<f64>,
    /// Largest observation, if sent.
    pub max: Option<f64>,
}

/// An exponential histogram point of delta temporality; bucket `offset + i` covers `(base^(offset+i), base^(offset+i+1)]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ExponentialPoint<'a> {
    /// `base = 2^(2^-scale)`.
    pub scale: i32,
    /// Observations in the zero bucket.
    pub zero_count: u64,
    /// Half-width of the zero bucket.
    pub zero_threshold: f64,
    /// First index and counts of positive values.
    pub positive: (i32, &'a [u64]),
    /// First index and counts of the magnitude of negative values.
    pub negative: (i32, &'a [u64]),
    /// Sum of the observations, if sent.
    pub sum: Option<f64>,
    /// Smallest observation, if sent.
    pub min: Option<f64>,
    /// Largest observation, if sent.
    pub max: Option<f64>,
}

/// Mergeable summary of one feature.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FeatureState {
    pub(crate) null: u64,
    pub(crate) non_finite: u64,
    pub(crate) zero: u64,
    pub(crate) sum: ExactSum,
    pub(crate) sum_count: u64,
    pub(crate) squares: ExactSum,
    pub(crate) squares_count: u64,
    pub(crate) histogram: MergedHistogram,
    pub(crate) categories: CategoryCounts,
}

impl FeatureState {
    /// Counts one raw value; none is null, NaN and infinities are counted apart and are in no statistic.
    pub fn record(&mut self, value: Option<f64>) {
        let Some(value) = value else {
            self.null += 1;
            return;
        };
        if !value.is_finite() {
            self.non_finite += 1;
            return;
        }
        self.zero += u64::from(value == 0.0);
        self.sum.add(value);
        self.sum_count += 1;
        self.squares.add(value * value);
        self.squares_count += 1;
        self.histogram.record(value);
    }

    /// Counts `count` observations of a category; none is null.
    pub fn record_category(&mut self, category: Option<&str>, count: u64) {
        match category {
            Some(name) => self.categories.add(name, count),
            None => self.null = self.null.saturating_add(count),
        }
    }

    /// Adds an explicit histogram point.
    ///
    /// Zeros and squares of its observations are unknown and stay so, see [`FeatureState::variance`].
    ///
    /// # Errors
    /// [`StateError`] where counts and bounds do not fit; nothing is added.
    pub fn add_explicit(&mut self, point: &ExplicitPoint<'_>) -> Result<(), StateError> {
        if point.counts.len() != point.bounds.len() + 1 {
            return Err(StateError::BucketCounts { counts: point.counts.len(), bounds: point.bounds.len() });
        }
        let ascending = point.bounds.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || point.bounds.iter().any(|bound| !bound.is_finite()) {
            return Err(StateError::Bounds);
        }
        let count = self.total_with(point.counts.iter().copied())?;
        self.histogram.add_explicit(point.bounds, point.counts);
        self.add_summary(count, point.sum, point.min, point.max);
        Ok(())
    }

    /// Adds an exponential histogram point, downscaling whichever side is finer.
    ///
    /// # Errors
    /// [`StateError`] for a scale or threshold outside the data model, or counts past 64 bits; nothing is added.
    pub fn add_exponential(&mut self, point: &ExponentialPoint<'_>) -> Result<(), StateError> {
        if !(-10..=20).contains(&point.scale) {
            return Err(StateError::Scale(point.scale));
        }
        if !(point.zero_threshold >= 0.0 && point.zero_threshold.is_finite()) {
            return Err(StateError::ZeroThreshold);
        }
        let counts = point.positive.1.iter().chain(point.negative.1).copied().chain([point.zero_count]);
        let count = self.total_with(counts)?;
        let buckets = |(offset, counts): (i32, &[u64])| {
            let at = |(at, count): (usize, &u64)| (*count > 0).then_some((i64::from(offset) + at as i64, *count));
            counts.iter().enumerate().filter_map(at).collect()
        };
        self.histogram.add_exponential(Exponential {
            scale: point.scale,
            zero_count: point.zero_count,
            zero_threshold: point.zero_threshold,
            positive: buckets(point.positive),
            negative: buckets(point.negative),
        });
        if point.zero_threshold == 0.0 {
            self.zero += point.zero_count;
        }
        self.add_summary(count, point.sum, point.min, point.max);
        Ok(())
    }

    /// Adds another state of the same feature.
    pub fn merge(&mut self, other: &Self) {
        self.null = self.null.saturating_add(other.null);
        self.non_finite = self.non_finite.saturating_add(other.non_finite);
        self.zero = self.zero.saturating_add(other.zero);
        self.sum.merge(&other.sum);
        self.sum_count = self.sum_count.saturating_add(other.sum_count);
        self.squares.merge(&other.squares);
        self.squares_count = self.squares_count.saturating_add(other.squares_count);
        self.histogram.merge(&other.histogram);
        self.categories.merge(&other.categories);
    }

    /// Finite numeric observations.
    pub fn count(&self) -> u64 {
        self.histogram.count()
    }

    /// Missing observations.
    pub fn null(&self) -> u64 {
        self.null
    }

    /// NaN and infinite observations.
    pub fn non_finite(&self) -> u64 {
        self.non_finite
    }

    /// Observations known to be exactly zero.
    pub fn zero(&self) -> u64 {
        self.zero
    }

    /// Sum of the finite observations; none unless every point sent its sum.
    pub fn sum(&self) -> Option<f64> {
        (self.sum_count == self.count()).then(|| self.sum.value())
    }

    /// Sum of squares (each square rounded to a double, infinite past 1.3e154); none unless all came as single values.
    pub fn sum_of_squares(&self) -> Option<f64> {
        (self.squares_count == self.count()).then(|| self.squares.value())
    }

    /// Population variance; none of no observations, or where squares are unknown or past the range of a double.
    pub fn variance(&self) -> Option<f64> {
        let count = self.count() as f64;
        let (mean, squares) = (self.sum()? / count, self.sum_of_squares()? / count);
        let variance = squares - mean * mean;
        variance.is_finite().then_some(variance.max(0.0))
    }

    /// Smallest observation known.
    pub fn min(&self) -> Option<f64> {
        self.histogram.range().0
    }

    /// Largest observation known.
    pub fn max(&self) -> Option<f64> {
        self.histogram.range().1
    }

    /// Scale of the exponential buckets; none where none were counted.
    pub fn scale(&self) -> Option<i32> {
        self.histogram.exponential().map(|buckets| buckets.scale)
    }

    /// Category counts.
    pub fn categories(&self) -> &CategoryCounts {
        &self.categories
    }

    fn total_with(&self, mut counts: impl Iterator<Item = u64>) -> Result<u64, StateError> {
        let count = counts.try_fold(0u64, u64::checked_add).ok_or(StateError::CountOverflow)?;
        self.count().checked_add(count).ok_or(StateError::CountOverflow)?;
        Ok(count)
    }

    fn add_summary(&mut self, count: u64, sum: Option<f64>, min: Option<f64>, max: Option<f64>) {
        if count == 0 {
            return;
        }
        // A sum that is not finite tells nothing; the state's sum is then unknown.
        if let Some(sum) = sum.filter(|sum| sum.is_finite()) {
            self.sum.add(sum);
            self.sum_count += count;
        }
        self.histogram.widen(min, max);
    }
}
