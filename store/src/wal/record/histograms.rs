//! Histogram, exponential histogram and summary points, one after another; counts are varints.

use super::{
    columns::{put_f64s, read_f64s},
    reader::{DecodeResult, Reader},
    writer::{put_varint, put_zigzag},
};
use crate::write_batch::{HistogramPoint, HistogramShape};

/// Series, two times, flags, count, and an empty shape.
const POINT_SIZE_MIN: usize = 20;

const RECORDED: u8 = 1;
const HAS_SUM: u8 = 1 << 1;
const HAS_MIN: u8 = 1 << 2;
const HAS_MAX: u8 = 1 << 3;
/// Bits 4 and 5 of the flags.
const SHAPE_SHIFT: u8 = 4;
const EXPLICIT: u8 = 0;
const EXPONENTIAL: u8 = 1;
const SUMMARY: u8 = 2;

pub(super) fn put_all(out: &mut Vec<u8>, points: &[HistogramPoint]) {
    put_varint(out, points.len() as u64);
    for point in points {
        put_varint(out, u64::from(point.series));
        out.extend_from_slice(&point.start_time.to_le_bytes());
        out.extend_from_slice(&point.time.to_le_bytes());
        let shape = match point.shape {
            HistogramShape::Explicit { .. } => EXPLICIT,
            HistogramShape::Exponential { .. } => EXPONENTIAL,
            HistogramShape::Summary { .. } => SUMMARY,
        };
        let optional = [(point.sum, HAS_SUM), (point.min, HAS_MIN), (point.max, HAS_MAX)];
        let present = optional.iter().filter(|(value, _)| value.is_some()).fold(0, |flags, (_, flag)| flags | flag);
        out.push((u8::from(point.recorded) * RECORDED) | present | (shape << SHAPE_SHIFT));
        put_varint(out, point.count);
        optional.iter().filter_map(|(value, _)| *value).for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
        put_shape(out, &point.shape);
    }
}

fn put_shape(out: &mut Vec<u8>, shape: &HistogramShape) {
    match shape {
        HistogramShape::Explicit { counts } => put_counts(out, counts),
        HistogramShape::Exponential {
            scale,
            zero_count,
            zero_threshold,
            positive_offset,
            positive_counts,
            negative_offset,
            negative_counts,
        } => {
            put_zigzag(out, *scale);
            put_varint(out, *zero_count);
            out.extend_from_slice(&zero_threshold.to_le_bytes());
            put_zigzag(out, *positive_offset);
            put_counts(out, positive_counts);
            put_zigzag(out, *negative_offset);
            put_counts(out, negative_counts);
        }
        HistogramShape::Summary { quantiles, values } => {
            for column in [quantiles, values] {
                put_varint(out, column.len() as u64);
                put_f64s(out, column);
            }
        }
    }
}

fn put_counts(out: &mut Vec<u8>, counts: &[u64]) {
    put_varint(out, counts.len() as u64);
    counts.iter().for_each(|count| put_varint(out, *count));
}

pub(super) fn read_all(reader: &mut Reader<'_>, series_count: usize) -> DecodeResult<Vec<HistogramPoint>> {
    let count = reader.count(POINT_SIZE_MIN)?;
    let mut points = Vec::with_capacity(count);
    for _ in 0..count {
        points.push(read_point(reader, series_count)?);
    }
    Ok(points)
}

fn read_point(reader: &mut Reader<'_>, series_count: usize) -> DecodeResult<HistogramPoint> {
    let series = reader.index(series_count)?;
    let series = u32::try_from(series).map_err(|_| reader.error("series index over 32 bits"))?;
    let (start_time, time) = (reader.i64()?, reader.i64()?);
    let flags = reader.u8()?;
    let count = reader.varint()?;
    let mut optional = |flag| if flags & flag == 0 { Ok(None) } else { reader.f64().map(Some) };
    let (sum, min, max) = (optional(HAS_SUM)?, optional(HAS_MIN)?, optional(HAS_MAX)?);
    let shape = match flags >> SHAPE_SHIFT {
        EXPLICIT => HistogramShape::Explicit { counts: read_counts(reader)? },
        EXPONENTIAL => HistogramShape::Exponential {
            scale: reader.zigzag()?,
            zero_count: reader.varint()?,
            zero_threshold: reader.f64()?,
            positive_offset: reader.zigzag()?,
            positive_counts: read_counts(reader)?,
            negative_offset: reader.zigzag()?,
            negative_counts: read_counts(reader)?,
        },
        SUMMARY => HistogramShape::Summary { quantiles: read_list(reader)?, values: read_list(reader)? },
        _ => return Err(reader.error("unknown histogram shape")),
    };
    Ok(HistogramPoint { series, start_time, time, recorded: flags & RECORDED != 0, count, sum, min, max, shape })
}

fn read_counts(reader: &mut Reader<'_>) -> DecodeResult<Vec<u64>> {
    let count = reader.count(1)?;
    let mut counts = Vec::with_capacity(count);
    for _ in 0..count {
        counts.push(reader.varint()?);
    }
    Ok(counts)
}

fn read_list(reader: &mut Reader<'_>) -> DecodeResult<Vec<f64>> {
    let count = reader.count(8)?;
    read_f64s(reader, count)
}
