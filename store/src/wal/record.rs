//! The payload of a log record: definitions of series that the segment does not know yet, and one [`WriteBatch`] that
//! refers to series by id.
//!
//! Each segment can be read alone, and each definition stands in it twice, so that one damaged record never costs
//! another. Columns are fixed-width little-endian so that samples are copied in bulk. Format: `docs/format/wal.md`.

mod attributes;
mod columns;
mod definitions;
mod histograms;
pub(crate) mod reader;
mod series;
#[cfg(test)]
mod tests;
mod writer;

use bytes::Bytes;

use crate::write_batch::{Rejection, WriteBatch};

pub(crate) use definitions::{Definitions, SeriesBook};
use reader::{DecodeResult, Reader};
use writer::{Tables, put_varint};

const FORMAT_VERSION: u8 = 2;

/// The points of a record, by the places of their series in the book of the segment.
#[derive(Debug)]
pub(crate) struct RecordPoints {
    /// Place of each series that the points refer to.
    pub(crate) series: Vec<u32>,
    /// What [`encode`] was given, without its series and without the points that are lost.
    pub(crate) batch: WriteBatch,
    /// Points whose series no readable record of the segment defines.
    pub(crate) lost_point_count: usize,
}

/// A record read back.
#[derive(Debug)]
pub(crate) struct DecodedRecord {
    /// What [`encode`] was given, without the points that are lost.
    pub(crate) batch: WriteBatch,
    /// Points whose series no readable record of the segment defines.
    pub(crate) lost_point_count: usize,
}

/// Encodes the points of `batch`; [`Definitions::put`] writes what precedes them in the record.
///
/// `batch` must be consistent (columns of equal length, series indices in range, known forms), as ingest guarantees.
pub(crate) fn encode(batch: &WriteBatch) -> Bytes {
    debug_assert!(is_consistent(batch), "a batch that cannot be replayed must not get into the log");
    let mut tables = Tables::default();
    let mut rejections = Vec::new();
    put_rejections(&mut rejections, &mut tables, &batch.rejections);
    let mut body = Vec::with_capacity(batch.samples.len() * 29 + batch.series.len() * 8 + tables.size_bytes_max() + 64);
    put_varint(&mut body, batch.series.len() as u64);
    batch.series.iter().for_each(|series| body.extend_from_slice(&series.id.0.to_le_bytes()));
    columns::put_samples(&mut body, &batch.samples);
    histograms::put_all(&mut body, &batch.histograms);
    tables.put_strings(&mut body);
    body.extend_from_slice(&rejections);
    body.into()
}

/// Decodes what [`Definitions::put`] and [`encode`] wrote. `book` has read the records before it in its segment.
///
/// # Errors
/// [`reader::DecodeError`] for any other bytes; allocations stay in proportion to `payload` and under a fixed limit.
pub(crate) fn decode(payload: &[u8], book: &mut SeriesBook) -> DecodeResult<DecodedRecord> {
    let RecordPoints { series, batch, lost_point_count } = decode_points(payload, book)?;
    let series = series.into_iter().filter_map(|place| book.at(place)).collect();
    Ok(DecodedRecord { batch: WriteBatch { series, ..batch }, lost_point_count })
}

/// As [`decode`], for whoever knows the series of `book`.
///
/// # Errors
/// The same.
pub(crate) fn decode_points(payload: &[u8], book: &mut SeriesBook) -> DecodeResult<RecordPoints> {
    let mut reader = Reader::new(payload);
    book.read(&mut reader)?;
    let series_count = reader.count(8)?;
    let mut places: Vec<Option<u32>> = Vec::with_capacity(series_count);
    let mut before = None;
    for _ in 0..series_count {
        let place = book.place(reader.u64()?, before);
        before = place.or(before);
        places.push(place);
    }
    let mut samples = columns::read_samples(&mut reader, series_count)?;
    let mut histograms = histograms::read_all(&mut reader, series_count)?;
    let strings = reader.strings()?;
    let rejections = read_rejections(&mut reader, &strings)?;
    reader.finish()?;
    let point_count = samples.len() + histograms.len();
    if places.contains(&None) {
        let known = |index: u32| places.get(index as usize).is_some_and(Option::is_some);
        samples.retain(known);
        histograms.retain(|point| known(point.series));
        // Indices of what stays follow the shorter list.
        let mut next = 0;
        let shorter: Vec<u32> = places
            .iter()
            .map(|entry| {
                let at = next;
                next += u32::from(entry.is_some());
                at
            })
            .collect();
        samples.series.iter_mut().for_each(|index| *index = shorter[*index as usize]);
        histograms.iter_mut().for_each(|point| point.series = shorter[point.series as usize]);
    }
    let lost_point_count = point_count - samples.len() - histograms.len();
    let series = places.into_iter().flatten().collect();
    let batch = WriteBatch { samples, histograms, rejections, ..WriteBatch::default() };
    Ok(RecordPoints { series, batch, lost_point_count })
}

pub(super) fn is_consistent(batch: &WriteBatch) -> bool {
    let samples = &batch.samples;
    let in_range = |index: &u32| (*index as usize) < batch.series.len();
    [samples.series.len(), samples.start_time.len(), samples.bits.len(), samples.form.len()] == [samples.len(); 4]
        && samples.series.iter().all(in_range)
        && samples.form.iter().all(|form| *form <= columns::FORM_MAX)
        && batch.histograms.iter().all(|point| in_range(&point.series))
}

fn put_rejections(out: &mut Vec<u8>, tables: &mut Tables, rejections: &[Rejection]) {
    put_varint(out, rejections.len() as u64);
    for rejection in rejections {
        out.extend_from_slice(&rejection.time.to_le_bytes());
        for text in [&rejection.reason, &rejection.metric, &rejection.message] {
            put_varint(out, tables.string(text));
        }
        put_varint(out, rejection.count);
    }
}

fn read_rejections(reader: &mut Reader<'_>, strings: &[&str]) -> DecodeResult<Vec<Rejection>> {
    let count = reader.count(8 + 4)?;
    let mut rejections = Vec::with_capacity(count);
    for _ in 0..count {
        rejections.push(Rejection {
            time: reader.i64()?,
            reason: reader.string(strings)?,
            metric: reader.string(strings)?,
            message: reader.string(strings)?,
            count: reader.varint()?,
        });
    }
    Ok(rejections)
}
