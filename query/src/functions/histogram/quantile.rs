//! Quantiles and shares of a histogram, and its spread.

use super::{Explicit, Exponential, Histogram, Shape, bucket::Bucket};

impl Histogram {
    /// The value below which a share `q` of the observations is: infinite outside of 0 to 1, NaN without observations.
    ///
    /// Source: Prometheus `BucketQuantile` for explicit, `HistogramQuantile` for exponential histograms.
    pub(crate) fn quantile(&self, q: f64) -> f64 {
        if q.is_nan() || self.count == 0.0 {
            return f64::NAN;
        }
        if q < 0.0 {
            return f64::NEG_INFINITY;
        }
        if q > 1.0 {
            return f64::INFINITY;
        }
        match &self.shape {
            Shape::Explicit(explicit) => explicit.quantile(q),
            Shape::Exponential(exponential) => self.exponential_quantile(exponential, q),
        }
    }

    /// What the quantile is between for certain, whatever the distribution within its bucket; `None` where it is no number.
    pub(crate) fn quantile_bounds(&self, q: f64) -> Option<(f64, f64)> {
        if !(0.0..=1.0).contains(&q) || self.count == 0.0 {
            return None;
        }
        let rank = q * self.count;
        let buckets: Vec<_> = self.buckets().into_iter().filter(|bucket| bucket.count > 0.0).collect();
        let mut seen = 0.0;
        let found = buckets.iter().find(|bucket| {
            seen += bucket.count;
            seen >= rank
        });
        let bucket = found.or(buckets.last())?;
        // At the very edge of a bucket the value may be that of the next observation.
        let lower = self.min.map_or(bucket.lower, |min| bucket.lower.max(min));
        let upper = self.max.map_or(bucket.upper, |max| bucket.upper.min(max));
        Some((lower, upper))
    }

    fn exponential_quantile(&self, shape: &Exponential, q: f64) -> f64 {
        // Observations of NaN are in the count, in no bucket, and make the sum NaN.
        let holds_nan = self.sum.is_some_and(f64::is_nan);
        let forward = holds_nan || q < 0.5;
        let mut buckets = self.buckets();
        if !forward {
            buckets.reverse();
        }
        let rank = if forward { q * self.count } else { (1.0 - q) * self.count };
        let mut seen = 0.0;
        let mut found = None;
        for bucket in buckets.iter().filter(|bucket| bucket.count != 0.0) {
            seen += bucket.count;
            found = Some(*bucket);
            if seen >= rank {
                break;
            }
        }
        let Some(bucket) = found else { return f64::NAN };
        let bucket = shape.bounded(bucket);
        seen = seen.min(self.count);
        if seen < rank {
            return if holds_nan { f64::NAN } else { bucket.upper };
        }
        let rank = if forward { rank - (seen - bucket.count) } else { seen - rank };
        let fraction = rank / bucket.count;
        if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            return bucket.lower + (bucket.upper - bucket.lower) * fraction;
        }
        let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
        match bucket.lower > 0.0 {
            true => (lower + (upper - lower) * fraction).exp2(),
            false => -(upper + (lower - upper) * (1.0 - fraction)).exp2(),
        }
    }

    /// The share of the observations from `lower` to `upper`; NaN without observations.
    ///
    /// Source: Prometheus `BucketFraction` and `HistogramFraction`.
    pub(crate) fn fraction(&self, lower: f64, upper: f64) -> f64 {
        if self.count == 0.0 || lower.is_nan() || upper.is_nan() {
            return f64::NAN;
        }
        if lower >= upper {
            return 0.0;
        }
        (self.rank(upper) - self.rank(lower)) / self.count
    }

    /// How many observations are at most `value`, as far as buckets tell.
    pub(crate) fn rank(&self, value: f64) -> f64 {
        let mut rank = 0.0;
        let mut first = true;
        for bucket in self.buckets() {
            let (bucket, linear) = match &self.shape {
                // Observations are taken to be positive where the lowest bound is.
                Shape::Explicit(_) if first && bucket.upper > 0.0 => (Bucket { lower: 0.0, ..bucket }, true),
                Shape::Explicit(_) => (bucket, true),
                Shape::Exponential(shape) => (shape.bounded(bucket), bucket.lower <= 0.0 && bucket.upper >= 0.0),
            };
            first = false;
            if bucket.lower >= value {
                return rank;
            }
            if bucket.upper > value {
                return rank + bucket.count * below(&bucket, value, linear);
            }
            rank += bucket.count;
        }
        // Observations of NaN are in no bucket.
        if self.sum.is_some_and(f64::is_nan) { rank.min(self.count) } else { self.count }
    }

    /// The mean of squared distances from the mean, each observation in the middle of its bucket: the geometric middle of
    /// exponential, the arithmetic of explicit buckets.
    ///
    /// Source: Prometheus `histogram_stdvar`.
    pub(crate) fn variance(&self) -> f64 {
        let mean = self.mean();
        let mut total = 0.0;
        for bucket in self.buckets().into_iter().filter(|bucket| bucket.count != 0.0) {
            let middle = match &self.shape {
                Shape::Explicit(_) => (bucket.upper + bucket.lower) / 2.0,
                Shape::Exponential(_) if bucket.lower <= 0.0 && bucket.upper >= 0.0 => 0.0,
                Shape::Exponential(_) => (bucket.upper * bucket.lower).sqrt().copysign(bucket.upper),
            };
            total += bucket.count * (middle - mean).powi(2);
        }
        total / self.count
    }

    /// NaN without observations or sum.
    pub(crate) fn mean(&self) -> f64 {
        self.sum.unwrap_or(f64::NAN) / self.count
    }
}

impl Explicit {
    fn quantile(&self, q: f64) -> f64 {
        let (Some(lowest), Some(highest)) = (self.bounds.first(), self.bounds.last()) else { return f64::NAN };
        let observed: f64 = self.counts.iter().sum();
        if observed == 0.0 {
            return f64::NAN;
        }
        let rank = q * observed;
        let mut seen = 0.0;
        let mut lower = 0.0;
        for (index, (bound, count)) in self.bounds.iter().zip(&self.counts).enumerate() {
            if seen + count >= rank {
                if index == 0 && *lowest <= 0.0 {
                    return *lowest;
                }
                // Without observations in the bucket the rank is zero.
                let share = if *count == 0.0 { 0.0 } else { (rank - seen) / count };
                return lower + (bound - lower) * share;
            }
            seen += count;
            lower = *bound;
        }
        *highest
    }
}

/// The share of `bucket` below `value`, which is inside of it.
fn below(bucket: &Bucket, value: f64, linear: bool) -> f64 {
    // Nothing is known of where in an infinite bucket observations are: above the highest, below the lowest bound.
    if bucket.lower == f64::NEG_INFINITY {
        return 1.0;
    }
    if linear {
        return (value - bucket.lower) / (bucket.upper - bucket.lower);
    }
    let (lower, upper, at) = (bucket.lower.abs().log2(), bucket.upper.abs().log2(), value.abs().log2());
    if value > 0.0 { (at - lower) / (upper - lower) } else { 1.0 - (at - upper) / (lower - upper) }
}
