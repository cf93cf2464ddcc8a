//! Sums and differences of histograms.
//!
//! Explicit histograms of different bounds are added by the bounds that both have: each bucket of the result holds what is
//! in it for certain. Exponential ones are added at the lower scale and the larger zero threshold. The order of the
//! summands does not matter.

use datafusion::{common::exec_err, error::Result};

use super::{Explicit, Exponential, Histogram, Run, Shape, bucket::bound};

impl Histogram {
    /// Adds `other`, `sign` times.
    ///
    /// # Errors
    /// If one is explicit and the other exponential.
    pub(crate) fn add(&mut self, other: &Self, sign: f64) -> Result<()> {
        if other.count == 0.0 && other.is_empty() {
            return Ok(());
        }
        if self.count == 0.0 && self.is_empty() && sign > 0.0 {
            self.clone_from(other);
            return Ok(());
        }
        match (&mut self.shape, &other.shape) {
            (Shape::Explicit(one), Shape::Explicit(other)) => one.add(other, sign),
            (Shape::Exponential(one), Shape::Exponential(other)) => one.add(other, sign)?,
            _ => {
                return exec_err!(
                    "explicit and exponential histograms do not add up; give them the same bounds with histogram_rebin"
                );
            }
        }
        self.add_totals(other.count, [other.sum, other.min, other.max], sign);
        Ok(())
    }

    /// Adds what is not in buckets.
    pub(crate) fn add_totals(&mut self, count: f64, [sum, min, max]: [Option<f64>; 3], sign: f64) {
        self.count += sign * count;
        self.sum = self.sum.zip(sum).map(|(one, other)| one + sign * other);
        let both = |of: fn(f64, f64) -> f64, one: Option<f64>, other: Option<f64>| {
            one.zip(other).map(|(one, other)| of(one, other)).filter(|_| sign > 0.0)
        };
        self.min = both(f64::min, self.min, min);
        self.max = both(f64::max, self.max, max);
    }

    fn is_empty(&self) -> bool {
        match &self.shape {
            Shape::Explicit(explicit) => explicit.counts.iter().all(|count| *count == 0.0),
            Shape::Exponential(shape) => {
                shape.zero_count == 0.0 && shape.positive.is_empty() && shape.negative.is_empty()
            }
        }
    }

    /// Whether the histogram began anew since `before`: something counts less, or the buckets became finer.
    ///
    /// Source: Prometheus `DetectReset`.
    pub(crate) fn is_reset_since(&self, before: &Self) -> Result<bool> {
        if self.count < before.count {
            return Ok(true);
        }
        match (&self.shape, &before.shape) {
            (Shape::Exponential(now), Shape::Exponential(before))
                if now.scale > before.scale || now.zero_threshold < before.zero_threshold =>
            {
                return Ok(true);
            }
            (Shape::Explicit(_), Shape::Exponential(_)) | (Shape::Exponential(_), Shape::Explicit(_)) => {
                return Ok(true);
            }
            _ => {}
        }
        let mut difference = self.clone();
        difference.add(before, -1.0)?;
        difference.settle();
        Ok(match &difference.shape {
            Shape::Explicit(explicit) => explicit.counts.iter().any(|count| *count < 0.0),
            Shape::Exponential(shape) => {
                let runs = shape.positive.counts.iter().chain(&shape.negative.counts);
                shape.zero_count < 0.0 || runs.into_iter().any(|count| *count < 0.0)
            }
        })
    }

    /// Gives the zero bucket what is within its threshold. After the last summand, so that the order of them is no matter.
    pub(crate) fn settle(&mut self) {
        if let Shape::Exponential(shape) = &mut self.shape {
            shape.settle();
        }
    }
}

impl Explicit {
    fn add(&mut self, other: &Self, sign: f64) {
        if self.bounds != other.bounds {
            let common: Vec<_> = self.bounds.iter().copied().filter(|bound| other.bounds.contains(bound)).collect();
            *self = self.coarser(&common);
            return self.add(&other.coarser(&common), sign);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += sign * more;
        }
    }

    /// By `bounds`, all of which it has.
    pub(crate) fn coarser(&self, bounds: &[f64]) -> Self {
        let mut counts = vec![0.0; bounds.len() + 1];
        for (index, count) in self.counts.iter().enumerate() {
            let bucket = match self.bounds.get(index) {
                Some(upper) => bounds.partition_point(|bound| bound < upper),
                None => bounds.len(),
            };
            counts[bucket] += count;
        }
        Self { bounds: bounds.to_vec(), counts }
    }
}

/// Buckets of a sum in one direction: where summands are so far apart that it would have more, its scale is lowered. No
/// source makes as many, and nobody can make a query take memory for buckets between them.
const BUCKETS_MAX: i64 = 16_384;

impl Exponential {
    fn add(&mut self, other: &Self, sign: f64) -> Result<()> {
        let scale = self.scale.min(other.scale);
        self.lower_scale(scale);
        let mut other = other.clone();
        other.lower_scale(scale);
        while [(&self.positive, &other.positive), (&self.negative, &other.negative)].map(span).iter().max()
            > Some(&BUCKETS_MAX)
        {
            let Some(scale) = self.scale.checked_sub(1) else {
                return exec_err!("exponential histograms of the lowest scale are too far apart to add up");
            };
            self.lower_scale(scale);
            other.lower_scale(scale);
        }
        self.positive = sum(&self.positive, &other.positive, sign);
        self.negative = sum(&self.negative, &other.negative, sign);
        self.zero_count += sign * other.zero_count;
        self.zero_threshold = self.zero_threshold.max(other.zero_threshold);
        Ok(())
    }

    /// Joins buckets until `scale` is reached, which is not above its own.
    pub(crate) fn lower_scale(&mut self, scale: i32) {
        if scale >= self.scale {
            return;
        }
        // Of an index nothing but its sign is left after as many bits.
        let by = self.scale.saturating_sub(scale).min(31);
        for run in [&mut self.positive, &mut self.negative] {
            *run = Run::of(run.buckets().map(|(index, count)| (index >> by, count)));
        }
        self.scale = scale;
    }

    /// Source: Prometheus `zeroCountForLargerThreshold`: a bucket with observations that the threshold cuts goes to the zero
    /// bucket whole.
    fn settle(&mut self) {
        if self.zero_threshold == 0.0 {
            return;
        }
        let mut threshold = self.zero_threshold;
        loop {
            let scale = self.scale;
            let cut = |(index, count): (i32, f64)| {
                let (lower, upper) = (bound(i64::from(index), scale), bound(i64::from(index) + 1, scale));
                (count != 0.0 && lower < threshold && upper > threshold).then_some(upper)
            };
            let wider = self.positive.buckets().chain(self.negative.buckets()).find_map(cut);
            match wider {
                Some(upper) => threshold = upper,
                None => break,
            }
        }
        let scale = self.scale;
        for run in [&mut self.positive, &mut self.negative] {
            let inside = |index: i32| bound(i64::from(index) + 1, scale) <= threshold;
            self.zero_count += run.buckets().filter(|(index, _)| inside(*index)).map(|(_, count)| count).sum::<f64>();
            *run = Run::of(run.buckets().filter(|(index, _)| !inside(*index)));
        }
        self.zero_threshold = threshold;
    }
}

impl Run {
    /// From the first to the last bucket with observations; those of one index add up. What `buckets` span is allocated.
    pub(crate) fn of(buckets: impl Iterator<Item = (i32, f64)> + Clone) -> Self {
        let buckets = buckets.filter(|(_, count)| *count != 0.0);
        let indices = || buckets.clone().map(|(index, _)| index);
        let (Some(first), Some(last)) = (indices().min(), indices().max()) else { return Self::default() };
        let place = |index: i32| (i64::from(index) - i64::from(first)) as usize;
        let mut counts = vec![0.0; place(last) + 1];
        for (index, count) in buckets {
            counts[place(index)] += count;
        }
        Self { offset: first, counts }
    }
}

/// From the first to the last bucket with observations of either.
fn span((one, other): (&Run, &Run)) -> i64 {
    let indices =
        || one.buckets().chain(other.buckets()).filter(|(_, count)| *count != 0.0).map(|(index, _)| i64::from(index));
    indices().max().zip(indices().min()).map_or(0, |(last, first)| last - first + 1)
}

fn sum(one: &Run, other: &Run, sign: f64) -> Run {
    Run::of(one.buckets().chain(other.buckets().map(|(index, count)| (index, sign * count))))
}
