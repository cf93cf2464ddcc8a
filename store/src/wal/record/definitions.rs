//! Series definitions at the head of records: what a segment has defined so far, as a writer and as a reader.

use std::sync::Arc;

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
    series: SeriesMap<Arc<Series>>,
    /// Outlives the segment: the next one defines mostly the same series.
    interner: Interner,
}

impl SeriesBook {
    /// Forgets everything: the next record is the first of its segment.
    pub(crate) fn clear(&mut self) {
        self.series.clear();
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
            self.series.entry(id).or_insert(series);
        }
        Ok(())
    }

    pub(super) fn get(&self, id: u64) -> Option<Arc<Series>> {
        self.series.get(&SeriesId(id)).map(Arc::clone)
    }
}
