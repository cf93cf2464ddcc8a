//! What a `TimeSeries` says beside its points: labels, metadata, and how many points there are.

use super::{
    Walk, WriteMessage,
    family::{Family, MetricType},
};
use crate::{
    reason::Reason,
    wire::{Field, Malformed, Reader, Slice},
};

/// What a `TimeSeries` says about all of its points.
#[derive(Default)]
pub(super) struct Head<'a> {
    pub(super) family: Family<'a>,
    pub(super) created_ms: i64,
    pub(super) point_count: u64,
    /// The first fault in labels or metadata.
    pub(super) fault: Option<Reason>,
}

impl<'a> Walk<'_, 'a> {
    /// Reads everything but the points.
    pub(super) fn head(&mut self, slice: Slice<'a>) -> Result<Head<'a>, Malformed> {
        self.labels.clear();
        self.label_refs.clear();
        let mut head = Head::default();
        let mut reader = Reader::new(slice);
        while let Some(field) = reader.next()? {
            let read = match (self.message, field.number) {
                (_, 2) | (WriteMessage::V1, 4) | (WriteMessage::V2, 3) => {
                    head.point_count += 1;
                    Ok(())
                }
                (WriteMessage::V1, 3) | (WriteMessage::V2, 4) => {
                    self.exemplar_count += 1;
                    Ok(())
                }
                (WriteMessage::V1, 1) => self.label(field.slice()?)?,
                (WriteMessage::V2, 1) => self.label_refs(&field)?,
                (WriteMessage::V2, 5) => self.metadata(field.slice()?, &mut head)?,
                // Where 2.0 had the start time before each sample got its own.
                (WriteMessage::V2, 6) => {
                    head.created_ms = field.int64()?;
                    Ok(())
                }
                _ => Ok(()),
            };
            head.fault = head.fault.or(read.err());
        }
        if self.message == WriteMessage::V2 {
            let found = self.look_up_labels();
            head.fault = head.fault.or(found.err());
        }
        Ok(head)
    }

    fn label(&mut self, slice: Slice<'a>) -> Result<Result<(), Reason>, Malformed> {
        let (mut name, mut value) = (Slice::default(), Slice::default());
        let mut reader = Reader::new(slice);
        while let Some(field) = reader.next()? {
            match field.number {
                1 => name = field.slice()?,
                2 => value = field.slice()?,
                _ => {}
            }
        }
        Ok(self.labels.push(name.bytes, value.bytes, &self.decoder.limits))
    }

    fn label_refs(&mut self, field: &Field<'a>) -> Result<Result<(), Reason>, Malformed> {
        // `__name__` comes on top.
        let count_max = 2 * (self.decoder.limits.attributes_max + 1);
        let mut count = self.label_refs.len();
        field.each_varint(|reference| {
            count += 1;
            if count <= count_max {
                self.label_refs.push(reference);
            }
        })?;
        // References that were left out may be of labels that count.
        Ok(if count > count_max { Err(Reason::ATTRIBUTES_TOO_MANY) } else { Ok(()) })
    }

    fn look_up_labels(&mut self) -> Result<(), Reason> {
        let (pairs, rest) = self.label_refs.as_chunks::<2>();
        for [name, value] in pairs {
            let (name, value) = (self.symbols.get(*name)?, self.symbols.get(*value)?);
            self.labels.push(name, value, &self.decoder.limits)?;
        }
        if rest.is_empty() { Ok(()) } else { Err(Reason::LABELS_ODD) }
    }

    /// `Metadata` of 2.0.
    fn metadata(&self, slice: Slice<'a>, head: &mut Head<'a>) -> Result<Result<(), Reason>, Malformed> {
        let (mut metric_type, mut help, mut unit) = (0, 0, 0);
        let mut reader = Reader::new(slice);
        while let Some(field) = reader.next()? {
            match field.number {
                1 => metric_type = field.varint()?,
                3 => help = field.varint()?,
                4 => unit = field.varint()?,
                _ => {}
            }
        }
        let texts = self.symbols.text(help).and_then(|help| Ok((help, self.symbols.text(unit)?)));
        Ok(texts.map(|(help, unit)| head.family = Family::new(MetricType::from_wire(metric_type), unit, help)))
    }
}
