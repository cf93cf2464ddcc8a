//! `NumberDataPoint` of gauges and sums.

use driftwatt_store::SampleColumns;

use super::{Fault, Walk, metric::Metric, point::PointHeader};
use crate::{
    reason::Reason,
    wire::{Reader, Slice},
};

impl<'a> Walk<'_, 'a> {
    pub(super) fn number_point(&mut self, metric: &Metric<'_, 'a>, slice: Slice<'a>) -> Result<(), Fault> {
        let mut header = PointHeader::default();
        let mut value = None;
        let mut reader = Reader::new(slice);
        while let Some(field) = reader.next()? {
            match field.number {
                2 => header.read_start_time(&field)?,
                3 => header.read_time(&field)?,
                4 => value = Some((field.fixed64()?, SampleColumns::DOUBLE)),
                5 => self.exemplar_count += 1,
                6 => value = Some((field.fixed64()?, SampleColumns::INT)),
                7 => self.point_attributes.push(field.slice()?),
                8 => header.read_flags(&field)?,
                _ => {}
            }
        }
        let (start_time, time) = self.times(&header)?;
        let (bits, form) =
            if header.is_recorded() { value.ok_or(Reason::VALUE_MISSING)? } else { (0, SampleColumns::NO_VALUE) };
        if form == SampleColumns::DOUBLE && !f64::from_bits(bits).is_finite() {
            return Err(Reason::VALUE_NOT_FINITE.into());
        }
        let series = self.resolve(metric)?;
        self.batch.samples.push(series, start_time, time, bits, form);
        Ok(())
    }
}
