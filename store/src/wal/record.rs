//! The payload of a log record: one [`WriteBatch`], self-contained (it carries the definitions of its series).
//!
//! Columns are fixed-width little-endian so that samples are copied in bulk; text is stored once per record and
//! attribute lists once per distinct list. Format: `docs/format/wal.md`.

mod attributes;
mod columns;
mod histograms;
mod reader;
mod series;
#[cfg(test)]
mod tests;
mod writer;

use bytes::Bytes;

use crate::write_batch::{Rejection, WriteBatch};

use reader::{DecodeResult, Reader};
use writer::{Tables, put_varint};

const FORMAT_VERSION: u8 = 1;

/// Encodes `batch` as the payload of one record.
///
/// `batch` must be consistent (columns of equal length, series indices in range, known forms), as ingest guarantees.
/// Attribute values nested deeper than [`attributes::DEPTH_MAX`] are kept as their JSON text.
pub(crate) fn encode(batch: &WriteBatch) -> Bytes {
    debug_assert!(is_consistent(batch), "a batch that cannot be replayed must not get into the log");
    // Tables come first in the record but are complete only after everything that refers to them.
    let mut tables = Tables::default();
    let mut body = Vec::with_capacity(batch.samples.len() * 29 + batch.series.len() * 32 + 64);
    series::put_all(&mut body, &mut tables, &batch.series);
    columns::put_samples(&mut body, &batch.samples);
    histograms::put_all(&mut body, &batch.histograms);
    put_rejections(&mut body, &mut tables, &batch.rejections);

    let mut record = Vec::with_capacity(1 + tables.size_bytes_max() + body.len());
    record.push(FORMAT_VERSION);
    tables.put(&mut record);
    record.extend_from_slice(&body);
    record.into()
}

/// Decodes what [`encode`] wrote. Series ids are computed anew.
///
/// # Errors
/// [`reader::DecodeError`] for any other bytes; allocations stay in proportion to `payload` and under a fixed limit.
pub(crate) fn decode(payload: &[u8]) -> DecodeResult<WriteBatch> {
    let mut reader = Reader::new(payload);
    if reader.u8()? != FORMAT_VERSION {
        return Err(reader.error("unknown record version"));
    }
    let strings = reader.strings()?;
    let lists = attributes::read_lists(&mut reader, &strings)?;
    let series = series::read_all(&mut reader, &strings, &lists)?;
    let samples = columns::read_samples(&mut reader, series.len())?;
    let histograms = histograms::read_all(&mut reader, series.len())?;
    let rejections = read_rejections(&mut reader, &strings)?;
    reader.finish()?;
    Ok(WriteBatch { series, samples, histograms, rejections })
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
