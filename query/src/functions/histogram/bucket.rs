//! The buckets of a histogram in the order of their values.

use super::{Explicit, Exponential, Histogram, Run, Shape};

/// Values above `lower` up to `upper`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bucket {
    pub(crate) lower: f64,
    pub(crate) upper: f64,
    pub(crate) count: f64,
}

/// base^`index`. The bound above the largest double is that double, as in Prometheus.
pub(crate) fn bound(index: i64, scale: i32) -> f64 {
    let exponent = if index == 0 {
        0.0
    } else if scale <= 0 {
        (index as f64) * (-f64::from(scale)).exp2()
    } else {
        let parts = 1i64 << scale.min(62);
        let (whole, part) = (index.div_euclid(parts), index.rem_euclid(parts));
        if part != 0 {
            return (part as f64 / parts as f64).exp2() * (whole as f64).exp2();
        }
        whole as f64
    };
    if exponent == 1024.0 { f64::MAX } else { exponent.exp2() }
}

impl Histogram {
    /// All buckets, those without observations too.
    pub(crate) fn buckets(&self) -> Vec<Bucket> {
        match &self.shape {
            Shape::Explicit(explicit) => explicit.buckets(),
            Shape::Exponential(exponential) => exponential.buckets(),
        }
    }
}

impl Explicit {
    fn buckets(&self) -> Vec<Bucket> {
        let lower = std::iter::once(f64::NEG_INFINITY).chain(self.bounds.iter().copied());
        let upper = self.bounds.iter().copied().chain(std::iter::once(f64::INFINITY));
        lower
            .zip(upper)
            .zip(&self.counts)
            .map(|((lower, upper), count)| Bucket { lower, upper, count: *count })
            .collect()
    }
}

impl Exponential {
    fn buckets(&self) -> Vec<Bucket> {
        let zero = self.zero_threshold;
        let sides = |run: &Run| -> Vec<Bucket> {
            let of = |(index, count)| {
                let (lower, upper) = (bound(i64::from(index), self.scale), bound(i64::from(index) + 1, self.scale));
                // What the zero bucket took over is not in this one.
                Bucket { lower: if lower < zero && upper > zero { zero } else { lower }, upper, count }
            };
            run.buckets().map(of).collect()
        };
        let mut buckets: Vec<_> = sides(&self.negative)
            .into_iter()
            .rev()
            .map(|bucket| Bucket { lower: -bucket.upper, upper: -bucket.lower, count: bucket.count })
            .collect();
        if self.zero_count > 0.0 {
            buckets.push(Bucket { lower: -zero, upper: zero, count: self.zero_count });
        }
        buckets.extend(sides(&self.positive));
        buckets
    }

    /// `bucket` with a natural bound of zero, if it is the zero bucket and there is nothing on the other side.
    pub(crate) fn bounded(&self, mut bucket: Bucket) -> Bucket {
        if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            match (self.negative.is_empty(), self.positive.is_empty()) {
                (true, false) => bucket.lower = 0.0,
                (false, true) => bucket.upper = 0.0,
                _ => {}
            }
        }
        bucket
    }
}
