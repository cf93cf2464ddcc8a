//! Series definitions at the head of records: what a segment has defined so far, as a writer and as a reader.

use std::{collections::hash_map::Entry, sync::Arc};

use super::{
    FORMAT_VERSION, attributes,
    reader::{DecodeResult, Reader},
    series,
    writer::Tables,
};
use crate::{
    interner::Interner,
    series::{Series, SeriesId},
    series_map::SeriesMap,
};

/// Records of a segment that define a series, as long as they refer to it: two, so that the loss of one record does not
/// cost the points of the others.
const COPIES: u8 = 2;

/// The series that the segment being written defines.
#[derive(Debug, Default)]
pub(crate) struct Definitions {
    written: SeriesMap<Written>,
    record: u32,
}

/// How often a series is defined, and in which record last: in one record, once is enough.
#[derive(Debug, Default, Clone, Copy)]
struct Written {
    copies: u8,
    record: u32,
}

impl Definitions {
    /// Forgets everything: the next record starts a segment.
    pub(crate) fn clear(&mut self) {
        self.written.clear();
        self.record = 0;
    }

    /// Appends the head of a record that refers to `series`. Attribute values nested deeper than
    /// [`attributes::DEPTH_MAX`] are kept as their JSON text.
    pub(crate) fn put(&mut self, series: &[Arc<Series>], out: &mut Vec<u8>) {
        let mut missing = Vec::new();
        self.record = self.record.saturating_add(1);
        for series in series {
            let written = self.written.entry(series.id).or_default();
            if written.copies < COPIES && written.record != self.record {
                *written = Written { copies: written.copies + 1, record: self.record };
                missing.push(&**series);
            }
        }
        // Tables come first in the record but are complete only after everything that refers to them.
        let mut tables = Tables::default();
        let mut definitions = Vec::with_capacity(missing.len() * 32 + 1);
        series::put_all(&mut definitions, &mut tables, &missing);
        out.push(FORMAT_VERSION);
        tables.put_strings(out);
        tables.put_lists(out);
        out.extend_from_slice(&definitions);
    }
}

/// The series that the segment being read has defined so far.
#[derive(Debug, Default)]
pub(crate) struct SeriesBook {
    /// In the order of their definitions, each beside the id that the points of the segment use.
    series: Vec<(SeriesId, Arc<Series>)>,
    /// Place of each id in `series`.
    places: SeriesMap<u32>,
    /// Outlives the segment: the next one defines mostly the same series.
    interner: Interner,
}

impl SeriesBook {
    /// Forgets everything: the next record is the first of its segment.
    pub(crate) fn clear(&mut self) {
        self.series.clear();
        self.places.clear();
    }

    /// Learns what a record defines whose points are not needed.
    ///
    /// # Errors
    /// [`super::reader::DecodeError`] if the head of the record cannot be read.
    pub(crate) fn learn(&mut self, payload: &[u8]) -> DecodeResult<()> {
        self.read(&mut Reader::new(payload))
    }

    pub(super) fn read(&mut self, reader: &mut Reader<'_>) -> DecodeResult<()> {
        if reader.u8()? != FORMAT_VERSION {
            return Err(reader.error("unknown record version"));
        }
        let strings = reader.strings()?;
        let mut lists = attributes::read_lists(reader, &strings)?;
        for (id, series) in series::read_all(reader, &strings, &mut lists, &mut self.interner)? {
            if let Entry::Vacant(place) = self.places.entry(id) {
                place.insert(self.series.len() as u32);
                self.series.push((id, series));
            }
        }
        Ok(())
    }

    /// The place of the series that points call `id`. Series mostly come in the same order every time, so the place after
    /// `before` is tried first.
    pub(super) fn place(&self, id: u64, before: Option<u32>) -> Option<u32> {
        let guess = before.map_or(0, |before| before.saturating_add(1));
        if self.series.get(guess as usize).is_some_and(|(known, _)| known.0 == id) {
            return Some(guess);
        }
        self.places.get(&SeriesId(id)).copied()
    }

    pub(super) fn at(&self, place: u32) -> Option<Arc<Series>> {
        self.series.get(place as usize).map(|(_, series)| Arc::clone(series))
    }

    /// The series from `place` on, in the order of their places.
    pub(crate) fn since(&self, place: usize) -> Vec<Arc<Series>> {
        self.series.iter().skip(place).map(|(_, series)| Arc::clone(series)).collect()
    }
}
