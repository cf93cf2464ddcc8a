//! A histogram by other buckets.

use datafusion::{common::exec_err, error::Result};

use super::{Explicit, Histogram, Shape};

impl Histogram {
    /// By explicit `bounds`. Exact where it has those bounds itself; elsewhere observations are apportioned as for
    /// `histogram_fraction`.
    ///
    /// # Errors
    /// If the bounds do not grow.
    pub(crate) fn with_bounds(&self, bounds: &[f64]) -> Result<Self> {
        if bounds.iter().any(|bound| bound.is_nan()) || bounds.windows(2).any(|pair| pair[0] >= pair[1]) {
            return exec_err!("bounds must grow: each larger than the one before");
        }
        let mut counts = Vec::with_capacity(bounds.len() + 1);
        let mut before = 0.0;
        for bound in bounds {
            let rank = self.rank(*bound);
            counts.push(rank - before);
            before = rank;
        }
        counts.push(self.count - before);
        let shape = Shape::Explicit(Explicit { bounds: bounds.to_vec(), counts });
        Ok(Self { shape, ..self.clone() })
    }

    /// At a lower scale, exactly.
    ///
    /// # Errors
    /// For an explicit histogram and for a higher scale.
    pub(crate) fn with_scale(&self, scale: i32) -> Result<Self> {
        let mut rebinned = self.clone();
        match &mut rebinned.shape {
            Shape::Exponential(shape) if scale <= shape.scale => shape.lower_scale(scale),
            Shape::Exponential(shape) => {
                return exec_err!("scale {scale} is finer than {}, which is all there is", shape.scale);
            }
            Shape::Explicit(_) => return exec_err!("an explicit histogram has no scale; give bounds"),
        }
        Ok(rebinned)
    }
}
