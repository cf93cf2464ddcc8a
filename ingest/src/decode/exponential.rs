//! `ExponentialHistogramDataPoint`.

use driftwatt_store::{HistogramPoint, HistogramShape};

use super::{
    Fault, Walk,
    histogram::{BUCKETS_MAX, Totals},
    metric::Metric,
    point::{PointHeader, total},
};
use crate::{
    reason::Reason,
    wire::{Field, Malformed, Reader, Slice},
};

#[derive(Debug, Default)]
struct Buckets {
    offset: i32,
    counts: Vec<u64>,
}

#[derive(Debug, Default)]
struct Shape {
    scale: i32,
    zero_count: u64,
    zero_threshold: f64,
    positive: Buckets,
    negative: Buckets,
}

impl<'a> Walk<'_, 'a> {
    pub(super) fn exponential_point(&mut self, metric: &Metric<'_, 'a>, slice: Slice<'a>) -> Result<(), Fault> {
        let mut header = PointHeader::default();
        let mut totals = Totals::default();
        let mut shape = Shape::default();
        let mut reader = Reader::new(slice);
        while let Some(field) = reader.next()? {
            match field.number {
                1 => self.point_attributes.push(field.slice()?),
                2 => header.read_start_time(&field)?,
                3 => header.read_time(&field)?,
                4 => totals.count = field.fixed64()?,
                5 => totals.sum = Some(field.double()?),
                6 => shape.scale = field.sint32()?,
                7 => shape.zero_count = field.fixed64()?,
                8 => shape.positive.read(&field)?,
                9 => shape.negative.read(&field)?,
                10 => header.read_flags(&field)?,
                11 => self.exemplar_count += 1,
                12 => totals.min = Some(field.double()?),
                13 => totals.max = Some(field.double()?),
                14 => shape.zero_threshold = field.double()?,
                _ => {}
            }
        }
        let (start_time, time) = self.times(&header)?;
        let recorded = header.is_recorded();
        if recorded {
            totals.check()?;
            shape.check(totals.count)?;
        } else {
            totals = Totals::default();
            shape = Shape::default();
        }
        let series = self.resolve(metric)?;
        let Totals { count, sum, min, max } = totals;
        let shape = shape.into_stored();
        self.batch.histograms.push(HistogramPoint { series, start_time, time, recorded, count, sum, min, max, shape });
        Ok(())
    }
}

impl Buckets {
    fn read(&mut self, field: &Field<'_>) -> Result<(), Malformed> {
        *self = Self::default();
        let mut reader = Reader::new(field.slice()?);
        while let Some(field) = reader.next()? {
            match field.number {
                1 => self.offset = field.sint32()?,
                2 => field.each_varint(|count| {
                    // One more than allowed is enough to refuse the point.
                    if self.counts.len() <= BUCKETS_MAX {
                        self.counts.push(count);
                    }
                })?,
                _ => {}
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Fault> {
        if self.counts.len() > BUCKETS_MAX {
            return Err(Reason::BUCKETS_TOO_MANY.into());
        }
        if self.offset.checked_add(self.counts.len() as i32).is_none() {
            return Err(Reason::BUCKET_OFFSET_OUT_OF_RANGE.into());
        }
        Ok(())
    }
}

impl Shape {
    fn check(&self, count: u64) -> Result<(), Fault> {
        if !(-10..=20).contains(&self.scale) {
            return Err(Reason::SCALE_OUT_OF_RANGE.into());
        }
        if !(self.zero_threshold.is_finite() && self.zero_threshold >= 0.0) {
            return Err(Reason::ZERO_THRESHOLD_OUT_OF_RANGE.into());
        }
        self.positive.check()?;
        self.negative.check()?;
        let sum = u128::from(self.zero_count) + total(&self.positive.counts) + total(&self.negative.counts);
        if sum != u128::from(count) {
            return Err(Reason::BUCKET_COUNT_MISMATCH.into());
        }
        Ok(())
    }

    fn into_stored(self) -> HistogramShape {
        HistogramShape::Exponential {
            scale: self.scale,
            zero_count: self.zero_count,
            zero_threshold: self.zero_threshold,
            positive_offset: self.positive.offset,
            positive_counts: self.positive.counts,
            negative_offset: self.negative.offset,
            negative_counts: self.negative.counts,
        }
    }
}
