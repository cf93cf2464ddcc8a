//! `SummaryDataPoint`: quantiles computed by the client.

use driftwatt_store::{HistogramPoint, HistogramShape};

use super::{
    Fault, Walk,
    histogram::{BUCKETS_MAX, Totals},
    metric::Metric,
    point::PointHeader,
};
use crate::{
    reason::Reason,
    wire::{Malformed, Reader, Slice},
};

#[derive(Debug, Default)]
struct Quantiles {
    quantiles: Vec<f64>,
    values: Vec<f64>,
}

impl<'a> Walk<'_, 'a> {
    pub(super) fn summary_point(&mut self, metric: &Metric<'_, 'a>, slice: Slice<'a>) -> Result<(), Fault> {
        let mut header = PointHeader::default();
        let mut count = 0;
        let mut sum = 0.0;
        let mut quantiles = Quantiles::default();
        let mut reader = Reader::new(slice);
        while let Some(field) = reader.next()? {
            match field.number {
                2 => header.read_start_time(&field)?,
                3 => header.read_time(&field)?,
                4 => count = field.fixed64()?,
                5 => sum = field.double()?,
                6 => quantiles.read(field.slice()?)?,
                7 => self.point_attributes.push(field.slice()?),
                8 => header.read_flags(&field)?,
                _ => {}
            }
        }
        let (start_time, time) = self.times(&header)?;
        let recorded = header.is_recorded();
        let mut totals = Totals { count, sum: Some(sum), min: None, max: None };
        if recorded {
            totals.check()?;
            quantiles.check()?;
        } else {
            totals = Totals::default();
            quantiles = Quantiles::default();
        }
        let series = self.resolve(metric)?;
        let Totals { count, sum, min, max } = totals;
        let Quantiles { quantiles, values } = quantiles;
        let shape = HistogramShape::Summary { quantiles, values };
        self.batch.histograms.push(HistogramPoint { series, start_time, time, recorded, count, sum, min, max, shape });
        Ok(())
    }
}

impl Quantiles {
    fn read(&mut self, slice: Slice<'_>) -> Result<(), Malformed> {
        let (mut quantile, mut value) = (0.0, 0.0);
        let mut reader = Reader::new(slice);
        while let Some(field) = reader.next()? {
            match field.number {
                1 => quantile = field.double()?,
                2 => value = field.double()?,
                _ => {}
            }
        }
        // Clients report NaN for a quantile that saw no observation lately: there is nothing to keep of it.
        if !value.is_nan() && self.quantiles.len() <= BUCKETS_MAX {
            self.quantiles.push(quantile);
            self.values.push(value);
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Fault> {
        if self.quantiles.len() > BUCKETS_MAX {
            return Err(Reason::BUCKETS_TOO_MANY.into());
        }
        if !self.quantiles.iter().all(|quantile| (0.0..=1.0).contains(quantile)) {
            return Err(Reason::QUANTILE_OUT_OF_RANGE.into());
        }
        if !self.values.iter().all(|value| value.is_finite()) {
            return Err(Reason::VALUE_NOT_FINITE.into());
        }
        Ok(())
    }
}
