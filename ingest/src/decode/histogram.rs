//! `HistogramDataPoint`: explicit bounds, which are part of the series.

use driftwatt_store::{HistogramPoint, HistogramShape};

use super::{
    Fault, Walk,
    metric::Metric,
    point::{PointHeader, finite, storable, total},
};
use crate::{
    reason::Reason,
    wire::{Reader, Slice},
};

/// Buckets or quantiles of one point.
pub(super) const BUCKETS_MAX: usize = 10_000;

/// Observations of one point, whatever its buckets.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
}

impl Totals {
    pub(super) fn check(&self) -> Result<(), Fault> {
        storable(self.count)?;
        finite(self.sum)?;
        finite(self.min)?;
        finite(self.max)
    }
}

impl<'a> Walk<'_, 'a> {
    pub(super) fn histogram_point(&mut self, metric: &Metric<'_, 'a>, slice: Slice<'a>) -> Result<(), Fault> {
        let mut header = PointHeader::default();
        let mut totals = Totals::default();
        let mut counts = Vec::new();
        let mut reader = Reader::new(slice);
        while let Some(field) = reader.next()? {
            match field.number {
                2 => header.read_start_time(&field)?,
                3 => header.read_time(&field)?,
                4 => totals.count = field.fixed64()?,
                5 => totals.sum = Some(field.double()?),
                6 => field.each_fixed64(BUCKETS_MAX, |count| {
                    counts.push(count);
                    counts.len()
                })?,
                7 => field.each_fixed64(BUCKETS_MAX, |bound| {
                    self.bounds.push(f64::from_bits(bound));
                    self.bounds.len()
                })?,
                8 => self.exemplar_count += 1,
                9 => self.point_attributes.push(field.slice()?),
                10 => header.read_flags(&field)?,
                11 => totals.min = Some(field.double()?),
                12 => totals.max = Some(field.double()?),
                _ => {}
            }
        }
        let (start_time, time) = self.times(&header)?;
        let recorded = header.is_recorded();
        check_bounds(&self.bounds)?;
        if recorded {
            totals.check()?;
            check_counts(&counts, self.bounds.len(), totals.count)?;
        } else {
            totals = Totals::default();
            counts.clear();
        }
        let series = self.resolve(metric)?;
        let Totals { count, sum, min, max } = totals;
        let shape = HistogramShape::Explicit { counts };
        self.batch.histograms.push(HistogramPoint { series, start_time, time, recorded, count, sum, min, max, shape });
        Ok(())
    }
}

pub(super) fn check_bounds(bounds: &[f64]) -> Result<(), Fault> {
    if bounds.len() > BUCKETS_MAX {
        return Err(Reason::BUCKETS_TOO_MANY.into());
    }
    if bounds.iter().any(|bound| !bound.is_finite()) {
        return Err(Reason::BOUNDS_NOT_FINITE.into());
    }
    if !bounds.is_sorted_by(|a, b| a < b) {
        return Err(Reason::BOUNDS_NOT_INCREASING.into());
    }
    Ok(())
}

fn check_counts(counts: &[u64], bound_count: usize, count: u64) -> Result<(), Fault> {
    if counts.len() > BUCKETS_MAX {
        return Err(Reason::BUCKETS_TOO_MANY.into());
    }
    // A histogram without buckets, of which only count and sum are known, is legal.
    if counts.is_empty() && bound_count == 0 {
        return Ok(());
    }
    if counts.len() != bound_count + 1 {
        return Err(Reason::BUCKET_BOUNDS_MISMATCH.into());
    }
    if total(counts) != u128::from(count) {
        return Err(Reason::BUCKET_COUNT_MISMATCH.into());
    }
    Ok(())
}
