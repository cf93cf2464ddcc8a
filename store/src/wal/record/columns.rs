//! Sample columns, copied in bulk.

use super::{
    reader::{DecodeResult, Reader},
    writer::put_varint,
};
use crate::write_batch::SampleColumns;

/// Highest known [`SampleColumns::form`].
pub(super) const FORM_MAX: u8 = SampleColumns::NO_VALUE;

/// Every value.
const PLAIN: u8 = 0;
/// One value for all rows.
const CONSTANT: u8 = 1;
/// The first value; each row is one more than the row before. Only for series indices.
const COUNTING: u8 = 2;

/// Appends `samples`: row count, then (if there are rows) the columns bits, series, start
/// time, time, form.
pub(super) fn put_samples(out: &mut Vec<u8>, samples: &SampleColumns) {
    put_varint(out, samples.len() as u64);
    if samples.is_empty() {
        return;
    }
    // Bits are never packed: they come first and bound the row count by the bytes that are there.
    put_fixed(out, &samples.bits, |value| value.to_le_bytes());
    let counting = samples.series.windows(2).all(|pair| pair[1].checked_sub(pair[0]) == Some(1));
    match samples.series.first() {
        Some(first) if counting && samples.len() > 1 => {
            out.push(COUNTING);
            out.extend_from_slice(&first.to_le_bytes());
        }
        _ => put_column(out, &samples.series, |value| value.to_le_bytes()),
    }
    put_column(out, &samples.start_time, |value| value.to_le_bytes());
    put_column(out, &samples.time, |value| value.to_le_bytes());
    put_column(out, &samples.form, |value| [*value]);
}

pub(super) fn read_samples(reader: &mut Reader<'_>, series_count: usize) -> DecodeResult<SampleColumns> {
    let count = reader.count(8)?;
    if count == 0 {
        return Ok(SampleColumns::default());
    }
    let bits = read_fixed(reader, count, u64::from_le_bytes)?;
    let series = read_series(reader, count)?;
    if series.iter().any(|index| *index as usize >= series_count) {
        return Err(reader.error("sample of an unknown series"));
    }
    let start_time = read_column(reader, count, i64::from_le_bytes)?;
    let time = read_column(reader, count, i64::from_le_bytes)?;
    let form = read_column(reader, count, |[byte]: [u8; 1]| byte)?;
    if form.iter().any(|form| *form > FORM_MAX) {
        return Err(reader.error("unknown sample form"));
    }
    Ok(SampleColumns { series, start_time, time, bits, form })
}

pub(super) fn put_f64s(out: &mut Vec<u8>, values: &[f64]) {
    put_fixed(out, values, |value| value.to_le_bytes());
}

pub(super) fn read_f64s(reader: &mut Reader<'_>, count: usize) -> DecodeResult<Vec<f64>> {
    read_fixed(reader, count, f64::from_le_bytes)
}

fn put_column<T: PartialEq, const N: usize>(out: &mut Vec<u8>, values: &[T], to_bytes: impl Fn(&T) -> [u8; N]) {
    match values.first() {
        Some(first) if values.iter().all(|value| value == first) => {
            out.push(CONSTANT);
            out.extend_from_slice(&to_bytes(first));
        }
        _ => {
            out.push(PLAIN);
            put_fixed(out, values, to_bytes);
        }
    }
}

fn put_fixed<T, const N: usize>(out: &mut Vec<u8>, values: &[T], to_bytes: impl Fn(&T) -> [u8; N]) {
    let start = out.len();
    out.resize(start + values.len() * N, 0);
    // Room first, then whole chunks: the compiler makes this one copy.
    for (chunk, value) in out[start..].as_chunks_mut::<N>().0.iter_mut().zip(values) {
        *chunk = to_bytes(value);
    }
}

fn read_series(reader: &mut Reader<'_>, count: usize) -> DecodeResult<Vec<u32>> {
    match reader.u8()? {
        COUNTING => {
            let first = reader.u32()?;
            let end = u32::try_from(count).ok().and_then(|count| first.checked_add(count));
            end.map(|end| (first..end).collect()).ok_or_else(|| reader.error("series index over 32 bits"))
        }
        tag => read_tagged(reader, tag, count, u32::from_le_bytes),
    }
}

fn read_column<T: Clone, const N: usize>(
    reader: &mut Reader<'_>,
    count: usize,
    from_bytes: impl Fn([u8; N]) -> T,
) -> DecodeResult<Vec<T>> {
    let tag = reader.u8()?;
    read_tagged(reader, tag, count, from_bytes)
}

fn read_tagged<T: Clone, const N: usize>(
    reader: &mut Reader<'_>,
    tag: u8,
    count: usize,
    from_bytes: impl Fn([u8; N]) -> T,
) -> DecodeResult<Vec<T>> {
    match tag {
        PLAIN => read_fixed(reader, count, from_bytes),
        CONSTANT => {
            let mut one = read_fixed(reader, 1, from_bytes)?;
            Ok(one.pop().map(|value| vec![value; count]).unwrap_or_default())
        }
        _ => Err(reader.error("unknown column coding")),
    }
}

fn read_fixed<T, const N: usize>(
    reader: &mut Reader<'_>,
    count: usize,
    from_bytes: impl Fn([u8; N]) -> T,
) -> DecodeResult<Vec<T>> {
    let size = count.checked_mul(N).ok_or_else(|| reader.error("column over the address space"))?;
    Ok(reader.bytes(size)?.as_chunks::<N>().0.iter().map(|chunk| from_bytes(*chunk)).collect())
}
