//! `Metric`: the header, then its points.

use driftwatt_store::{Kind, Temporality};

use super::{Fault, Owner, Walk, attributes::text};
use crate::{
    reason::Reason,
    wire::{Malformed, Reader, Slice},
};

/// Bytes of a metric name.
pub(super) const NAME_SIZE_MAX: usize = 1024;

/// The header of the metric at hand.
pub(super) struct Metric<'w, 'a> {
    pub(super) resource: &'w Owner<'a>,
    pub(super) scope: &'w Owner<'a>,
    pub(super) name: &'a str,
    pub(super) unit: &'a str,
    pub(super) description: &'a str,
    pub(super) kind: Kind,
    pub(super) temporality: Temporality,
    pub(super) monotonic: bool,
    /// Hash of everything above except the description, which is no part of the identity.
    pub(super) key: u128,
}

#[derive(Default)]
struct Header<'a> {
    name: Slice<'a>,
    unit: Slice<'a>,
    description: Slice<'a>,
    data: Option<(Kind, Slice<'a>)>,
}

#[derive(Default)]
struct Data {
    point_count: u64,
    temporality: u64,
    monotonic: bool,
}

impl<'a> Walk<'_, 'a> {
    pub(super) fn metric(
        &mut self,
        resource: &Owner<'a>,
        scope: &Owner<'a>,
        slice: Slice<'a>,
    ) -> Result<(), Malformed> {
        let header = Header::read(slice)?;
        let name = text(header.name).unwrap_or_default();
        let Some((kind, slice)) = header.data else {
            // There is no point to count: a warning.
            self.rejections.add(Reason::METRIC_TYPE_MISSING, name, 0);
            return Ok(());
        };
        let data = Data::read(slice)?;
        let metric = match header.check(kind, &data) {
            Ok((unit, description, temporality)) => {
                let key = self.metric_key([resource.key, scope.key], kind, &data, &header);
                let monotonic = kind == Kind::Sum && data.monotonic;
                Metric { resource, scope, name, unit, description, kind, temporality, monotonic, key }
            }
            Err(reason) => {
                self.rejections.add(reason, name, data.point_count);
                return Ok(());
            }
        };
        let mut reader = Reader::new(slice);
        while let Some(field) = reader.next()? {
            if field.number == 1 {
                match self.point(&metric, field.slice()?) {
                    Ok(()) => {}
                    Err(Fault::Refused(reason)) => self.rejections.add(reason, name, 1),
                    Err(Fault::Malformed(malformed)) => return Err(malformed),
                }
            }
        }
        Ok(())
    }

    fn point(&mut self, metric: &Metric<'_, 'a>, slice: Slice<'a>) -> Result<(), Fault> {
        self.point_attributes.clear();
        self.bounds.clear();
        match metric.kind {
            Kind::Gauge | Kind::Sum => self.number_point(metric, slice),
            Kind::Histogram => self.histogram_point(metric, slice),
            Kind::ExponentialHistogram => self.exponential_point(metric, slice),
            Kind::Summary => self.summary_point(metric, slice),
        }
    }

    fn metric_key(&mut self, owners: [u128; 2], kind: Kind, data: &Data, header: &Header<'a>) -> u128 {
        let key = &mut self.key;
        key.clear();
        owners.iter().for_each(|owner| key.extend_from_slice(&owner.to_le_bytes()));
        key.extend_from_slice(&[kind as u8, data.temporality as u8, u8::from(data.monotonic)]);
        key.extend_from_slice(&(header.name.bytes.len() as u64).to_le_bytes());
        key.extend_from_slice(header.name.bytes);
        key.extend_from_slice(header.unit.bytes);
        self.decoder.hash(key)
    }
}

impl<'a> Header<'a> {
    fn read(slice: Slice<'a>) -> Result<Self, Malformed> {
        let mut header = Self::default();
        let mut reader = Reader::new(slice);
        while let Some(field) = reader.next()? {
            let kind = match field.number {
                1 => {
                    header.name = field.slice()?;
                    continue;
                }
                2 => {
                    header.description = field.slice()?;
                    continue;
                }
                3 => {
                    header.unit = field.slice()?;
                    continue;
                }
                5 => Kind::Gauge,
                7 => Kind::Sum,
                9 => Kind::Histogram,
                10 => Kind::ExponentialHistogram,
                11 => Kind::Summary,
                _ => continue,
            };
            header.data = Some((kind, field.slice()?));
        }
        Ok(header)
    }

    fn check(&self, kind: Kind, data: &Data) -> Result<(&'a str, &'a str, Temporality), Reason> {
        let name = text(self.name)?;
        if name.is_empty() {
            return Err(Reason::METRIC_NAME_EMPTY);
        }
        if name.len() > NAME_SIZE_MAX {
            return Err(Reason::METRIC_NAME_TOO_LONG);
        }
        let temporality = match (kind, data.temporality) {
            (Kind::Gauge | Kind::Summary, _) => Temporality::Unspecified,
            (_, 1) => Temporality::Delta,
            (_, 2) => Temporality::Cumulative,
            _ => return Err(Reason::TEMPORALITY_MISSING),
        };
        Ok((text(self.unit)?, text(self.description)?, temporality))
    }
}

impl Data {
    /// Gauge and summary have points only; the others have the temporality in field 2, sums the monotonicity in 3.
    fn read(slice: Slice<'_>) -> Result<Self, Malformed> {
        let mut data = Self::default();
        let mut reader = Reader::new(slice);
        while let Some(field) = reader.next()? {
            match field.number {
                1 => data.point_count += 1,
                2 => data.temporality = field.varint()?,
                3 => data.monotonic = field.varint()? != 0,
                _ => {}
            }
        }
        Ok(data)
    }
}
