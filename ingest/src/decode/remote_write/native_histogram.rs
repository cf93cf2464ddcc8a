//! Native histograms: exponential buckets become an exponential histogram, custom buckets an explicit one.
//!
//! Bucket `i` of Prometheus ends where bucket `i` of OpenTelemetry begins, so offsets differ by one. A gauge histogram is
//! one without temporality. Counts of the store are whole numbers: a float histogram is stored if its counts are whole.
//!
//! Source: <https://prometheus.io/docs/specs/native_histograms/>

use driftwatt_store::{HistogramPoint, HistogramShape, Kind, Temporality};

use super::{Form, MetricType, Stream, Walk};
use crate::{
    decode::{
        Fault,
        histogram::{BUCKETS_MAX, check_bounds},
        point::{storable, total},
    },
    reason::Reason,
    wire::{Field, Malformed, Reader, Slice, zigzag},
};

/// Sum of a histogram that is a staleness marker.
const STALE_NAN: u64 = 0x7ff0_0000_0000_0002;
/// The schema that means custom buckets.
const CUSTOM_BUCKETS: i32 = -53;
const RESET_HINT_GAUGE: u64 = 3;
/// Whole numbers from here on are not all doubles.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

#[derive(Debug, Clone, Copy)]
enum Count {
    Int(u64),
    Float(f64),
}

/// `Histogram` as received, except the custom bounds, which go to [`Walk::bounds`].
#[derive(Debug)]
struct Native {
    count: Count,
    zero_count: Count,
    sum: f64,
    schema: i32,
    zero_threshold: f64,
    positive: Side,
    negative: Side,
    reset_hint: u64,
    time_ms: i64,
    start_ms: i64,
}

/// Buckets on one side of zero.
#[derive(Debug, Default)]
struct Side {
    /// Offset and length.
    spans: Vec<(i32, u32)>,
    deltas: Vec<i64>,
    floats: Vec<f64>,
}

/// Buckets without gaps, the first of them with Prometheus' index.
#[derive(Debug, Default)]
struct Dense {
    first: i64,
    counts: Vec<u64>,
}

impl<'a> Walk<'_, 'a> {
    pub(super) fn native_histogram(&mut self, stream: &Stream<'a>, slice: Slice<'a>) -> Result<(), Fault> {
        self.bounds.clear();
        let native = Native::read(slice, &mut self.bounds)?;
        let time = self.time(native.time_ms)?;
        let custom = native.schema == CUSTOM_BUCKETS;
        if !custom && !(-4..=8).contains(&native.schema) {
            return Err(Reason::NATIVE_SCHEMA_UNKNOWN.into());
        }
        if !custom {
            self.bounds.clear();
        }
        check_bounds(&self.bounds)?;
        let recorded = native.sum.to_bits() != STALE_NAN;
        let (count, shape) = match (recorded, custom) {
            (true, true) => native.explicit(self.bounds.len())?,
            (true, false) => native.exponential()?,
            (false, true) => (0, HistogramShape::Explicit { counts: Vec::new() }),
            (false, false) => (0, exponential_shape(0, 0, 0.0, [Dense::default(), Dense::default()])?),
        };
        let gauge = native.reset_hint == RESET_HINT_GAUGE || stream.family.metric_type == MetricType::GaugeHistogram;
        let form = Form {
            kind: if custom { Kind::Histogram } else { Kind::ExponentialHistogram },
            temporality: if gauge { Temporality::Unspecified } else { Temporality::Cumulative },
            monotonic: false,
        };
        let series = self.resolve(stream, form)?;
        let start_time = stream.start_time(native.start_ms, time, form);
        // One observation of NaN or infinity makes the sum so for ever; the buckets still say something.
        let sum = Some(native.sum).filter(|sum| sum.is_finite());
        let (min, max) = (None, None);
        self.batch.histograms.push(HistogramPoint { series, start_time, time, recorded, count, sum, min, max, shape });
        Ok(())
    }
}

impl Native {
    fn read(slice: Slice<'_>, bounds: &mut Vec<f64>) -> Result<Self, Malformed> {
        let mut native = Self {
            count: Count::Int(0),
            zero_count: Count::Int(0),
            sum: 0.0,
            schema: 0,
            zero_threshold: 0.0,
            positive: Side::default(),
            negative: Side::default(),
            reset_hint: 0,
            time_ms: 0,
            start_ms: 0,
        };
        let mut reader = Reader::new(slice);
        while let Some(field) = reader.next()? {
            match field.number {
                1 => native.count = Count::Int(field.varint()?),
                2 => native.count = Count::Float(field.double()?),
                3 => native.sum = field.double()?,
                4 => native.schema = field.sint32()?,
                5 => native.zero_threshold = field.double()?,
                6 => native.zero_count = Count::Int(field.varint()?),
                7 => native.zero_count = Count::Float(field.double()?),
                8 => native.negative.read_span(field.slice()?)?,
                9 => native.negative.read_deltas(&field)?,
                10 => native.negative.read_floats(&field)?,
                11 => native.positive.read_span(field.slice()?)?,
                12 => native.positive.read_deltas(&field)?,
                13 => native.positive.read_floats(&field)?,
                14 => native.reset_hint = field.varint()?,
                15 => native.time_ms = field.int64()?,
                16 => field.each_fixed64(BUCKETS_MAX, |bound| {
                    bounds.push(f64::from_bits(bound));
                    bounds.len()
                })?,
                17 => native.start_ms = field.int64()?,
                _ => {}
            }
        }
        Ok(native)
    }

    fn exponential(&self) -> Result<(u64, HistogramShape), Fault> {
        if !(self.zero_threshold.is_finite() && self.zero_threshold >= 0.0) {
            return Err(Reason::ZERO_THRESHOLD_OUT_OF_RANGE.into());
        }
        let (count, zero_count) = (self.count.whole()?, self.zero_count.whole()?);
        storable(count)?;
        let (positive, negative) = (self.positive.dense()?, self.negative.dense()?);
        let sum = u128::from(zero_count) + total(&positive.counts) + total(&negative.counts);
        if sum != u128::from(count) {
            return Err(Reason::BUCKET_COUNT_MISMATCH.into());
        }
        let shape = exponential_shape(self.schema, zero_count, self.zero_threshold, [positive, negative])?;
        Ok((count, shape))
    }

    fn explicit(&self, bound_count: usize) -> Result<(u64, HistogramShape), Fault> {
        let count = self.count.whole()?;
        storable(count)?;
        let Dense { first, counts: filled } = self.positive.dense()?;
        let mut counts = vec![0; bound_count + 1];
        let first = usize::try_from(first).map_err(|_| Reason::BUCKET_BOUNDS_MISMATCH)?;
        let place = counts.get_mut(first..first + filled.len()).ok_or(Reason::BUCKET_BOUNDS_MISMATCH)?;
        place.copy_from_slice(&filled);
        if total(&counts) != u128::from(count) {
            return Err(Reason::BUCKET_COUNT_MISMATCH.into());
        }
        Ok((count, HistogramShape::Explicit { counts }))
    }
}

fn exponential_shape(
    scale: i32,
    zero_count: u64,
    zero_threshold: f64,
    [positive, negative]: [Dense; 2],
) -> Result<HistogramShape, Reason> {
    Ok(HistogramShape::Exponential {
        scale,
        zero_count,
        zero_threshold,
        positive_offset: positive.offset()?,
        positive_counts: positive.counts,
        negative_offset: negative.offset()?,
        negative_counts: negative.counts,
    })
}

impl Count {
    fn whole(self) -> Result<u64, Reason> {
        match self {
            Self::Int(count) => Ok(count),
            Self::Float(count) if (0.0..=WHOLE_MAX).contains(&count) && count.fract() == 0.0 => Ok(count as u64),
            Self::Float(_) => Err(Reason::NATIVE_COUNT_INVALID),
        }
    }
}

impl Side {
    fn read_span(&mut self, slice: Slice<'_>) -> Result<(), Malformed> {
        let (mut offset, mut length) = (0, 0);
        let mut reader = Reader::new(slice);
        while let Some(field) = reader.next()? {
            match field.number {
                1 => offset = field.sint32()?,
                // Longer than 32 bits is longer than any histogram may be.
                2 => length = u32::try_from(field.varint()?).unwrap_or(u32::MAX),
                _ => {}
            }
        }
        // One more than allowed is enough to refuse the point.
        if self.spans.len() <= BUCKETS_MAX {
            self.spans.push((offset, length));
        }
        Ok(())
    }

    fn read_deltas(&mut self, field: &Field<'_>) -> Result<(), Malformed> {
        field.each_varint(|delta| {
            if self.deltas.len() <= BUCKETS_MAX {
                self.deltas.push(zigzag(delta));
            }
        })
    }

    fn read_floats(&mut self, field: &Field<'_>) -> Result<(), Malformed> {
        field.each_fixed64(BUCKETS_MAX, |count| {
            if self.floats.len() <= BUCKETS_MAX {
                self.floats.push(f64::from_bits(count));
            }
            self.floats.len()
        })
    }

    /// Counts in the order of the spans.
    fn counts(&self) -> Result<Vec<u64>, Reason> {
        if !self.floats.is_empty() {
            return self.floats.iter().map(|count| Count::Float(*count).whole()).collect();
        }
        let mut count = 0_i64;
        let mut counts = Vec::with_capacity(self.deltas.len());
        for delta in &self.deltas {
            count = count.checked_add(*delta).ok_or(Reason::NATIVE_COUNT_INVALID)?;
            counts.push(u64::try_from(count).map_err(|_| Reason::NATIVE_COUNT_INVALID)?);
        }
        Ok(counts)
    }

    fn dense(&self) -> Result<Dense, Reason> {
        if [self.spans.len(), self.deltas.len(), self.floats.len()].iter().any(|length| *length > BUCKETS_MAX) {
            return Err(Reason::BUCKETS_TOO_MANY);
        }
        let filled = self.counts()?;
        let mut filled = filled.as_slice();
        let mut dense = Dense::default();
        for (number, (offset, length)) in self.spans.iter().enumerate() {
            if number == 0 {
                dense.first = i64::from(*offset);
            } else {
                let gap = usize::try_from(*offset).map_err(|_| Reason::NATIVE_SPANS_MISMATCH)?;
                if dense.counts.len() + gap > BUCKETS_MAX {
                    return Err(Reason::BUCKETS_TOO_MANY);
                }
                dense.counts.resize(dense.counts.len() + gap, 0);
            }
            let (span, rest) = filled.split_at_checked(*length as usize).ok_or(Reason::NATIVE_SPANS_MISMATCH)?;
            if dense.counts.len() + span.len() > BUCKETS_MAX {
                return Err(Reason::BUCKETS_TOO_MANY);
            }
            dense.counts.extend_from_slice(span);
            filled = rest;
        }
        if filled.is_empty() { Ok(dense) } else { Err(Reason::NATIVE_SPANS_MISMATCH) }
    }
}

impl Dense {
    /// OpenTelemetry's index of the first bucket.
    fn offset(&self) -> Result<i32, Reason> {
        if self.counts.is_empty() {
            return Ok(0);
        }
        let last = self.first + self.counts.len() as i64;
        i32::try_from(last).and_then(|_| i32::try_from(self.first - 1)).map_err(|_| Reason::BUCKET_OFFSET_OUT_OF_RANGE)
    }
}
