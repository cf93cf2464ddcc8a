//! Remote-write requests of Prometheus to a [`WriteBatch`]: `prometheus.WriteRequest` and `io.prometheus.write.v2.Request`.
//!
//! Both are lists of series with their samples. They differ in where texts are (in the labels, or in a table of symbols)
//! and where metadata is (in requests of its own, or beside the samples). Names and labels are kept as received, except
//! those that OpenTelemetry has a place for (see [`labels`]).
//!
//! Source: <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/>, and `prompb/` in the repository of Prometheus

mod family;
mod head;
mod labels;
mod native_histogram;
mod symbols;
#[cfg(test)]
mod tests;
mod unit;

use std::sync::{Arc, PoisonError};

use driftwatt_store::{Attributes, Kind, SampleColumns, Series, SeriesDefinition, Temporality, WriteBatch};
use xxhash_rust::xxh3::xxh3_128_with_seed;

pub(super) use self::family::Families;
use self::{
    family::{Family, MetricType},
    head::Head,
    labels::Labels,
    symbols::Symbols,
};
use super::{Decoded, Decoder, Fault, metric::NAME_SIZE_MAX, point::check_time};
use crate::{
    reason::{Reason, Rejections},
    wire::{Malformed, Reader, Slice},
};

/// Which message a remote-write body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteMessage {
    /// `prometheus.WriteRequest` of remote write 1.0.
    V1,
    /// `io.prometheus.write.v2.Request` of remote write 2.0.
    V2,
}

impl Decoder {
    /// Decodes one remote-write request.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes are not that message; nothing of the request is then used.
    pub(crate) fn decode_remote_write(&self, request: &[u8], message: WriteMessage) -> Result<Decoded, Malformed> {
        let request = Slice { bytes: request, offset: 0 };
        let mut walk = Walk::new(self, message);
        let series_field = match message {
            WriteMessage::V1 => {
                self.remember_families(request)?;
                1
            }
            WriteMessage::V2 => {
                walk.symbols = Symbols::read(request)?;
                5
            }
        };
        let mut reader = Reader::new(request);
        while let Some(field) = reader.next()? {
            if field.number == series_field {
                walk.time_series(field.slice()?)?;
            }
        }
        Ok(walk.finish())
    }

    /// Metadata of a 1.0 request, before its samples, wherever it stands.
    fn remember_families(&self, request: Slice<'_>) -> Result<(), Malformed> {
        let mut reader = Reader::new(request);
        while let Some(field) = reader.next()? {
            if field.number == 3 {
                let metadata = family::read(field.slice()?)?;
                self.families.lock().unwrap_or_else(PoisonError::into_inner).remember(&metadata);
            }
        }
        Ok(())
    }
}

/// One pass over one request.
struct Walk<'d, 'a> {
    decoder: &'d Decoder,
    message: WriteMessage,
    now: i64,
    batch: WriteBatch,
    rejections: Rejections,
    exemplar_count: u64,
    symbols: Symbols<'a>,
    /// Labels of the series at hand.
    labels: Labels<'a>,
    /// The same as references to symbols.
    label_refs: Vec<u64>,
    /// Explicit bounds of the point at hand.
    bounds: Vec<f64>,
    key: Vec<u8>,
}

/// A series whose labels are in order.
struct Stream<'a> {
    name: &'a str,
    family: Family<'a>,
    created_ms: i64,
    /// Hash of labels and unit.
    key: u128,
    /// The series of its number points, or why there is none, once one was looked at.
    numbers: Option<Result<u32, Reason>>,
}

/// What a series is, beside its labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Form {
    kind: Kind,
    temporality: Temporality,
    monotonic: bool,
}

impl<'d, 'a> Walk<'d, 'a> {
    fn new(decoder: &'d Decoder, message: WriteMessage) -> Self {
        Self {
            decoder,
            message,
            now: (decoder.now)(),
            batch: WriteBatch::default(),
            rejections: Rejections::default(),
            exemplar_count: 0,
            symbols: Symbols::default(),
            labels: Labels::default(),
            label_refs: Vec::new(),
            bounds: Vec::new(),
            key: Vec::new(),
        }
    }

    fn finish(self) -> Decoded {
        let rejected_count = self.rejections.total();
        let mut batch = self.batch;
        batch.rejections = self.rejections.into_rows(self.now);
        Decoded { batch, rejected_count, duplicate_key_count: 0, exemplar_count: self.exemplar_count }
    }

    fn time_series(&mut self, slice: Slice<'a>) -> Result<(), Malformed> {
        let mut head = self.head(slice)?;
        let (point_count, fault) = (head.point_count, head.fault);
        let mut stream = match fault.map_or_else(|| self.stream(&mut head), Err) {
            Ok(stream) => stream,
            Err(reason) => {
                self.rejections.add(reason, self.labels.name().unwrap_or_default(), point_count);
                return Ok(());
            }
        };
        let mut reader = Reader::new(slice);
        while let Some(field) = reader.next()? {
            let added = match (self.message, field.number) {
                (_, 2) => self.sample(&mut stream, field.slice()?),
                (WriteMessage::V1, 4) | (WriteMessage::V2, 3) => self.native_histogram(&stream, field.slice()?),
                _ => continue,
            };
            match added {
                Ok(()) => {}
                Err(Fault::Refused(reason)) => self.rejections.add(reason, stream.name, 1),
                Err(Fault::Malformed(malformed)) => return Err(malformed),
            }
        }
        Ok(())
    }

    /// Checks labels and metadata as far as every point needs them.
    fn stream(&mut self, head: &mut Head<'a>) -> Result<Stream<'a>, Reason> {
        self.labels.sort()?;
        let name = self.labels.name()?;
        if name.is_empty() {
            return Err(Reason::METRIC_NAME_EMPTY);
        }
        if name.len() > NAME_SIZE_MAX {
            return Err(Reason::METRIC_NAME_TOO_LONG);
        }
        let mut family = std::mem::take(&mut head.family);
        if self.message == WriteMessage::V1 {
            let mut families = self.decoder.families.lock().unwrap_or_else(PoisonError::into_inner);
            family = families.of_series(name);
        }
        self.key.clear();
        self.labels.write_key(&mut self.key);
        self.key.extend_from_slice(family.unit.as_bytes());
        let key = self.hash();
        Ok(Stream { name, family, created_ms: head.created_ms, key, numbers: None })
    }

    fn hash(&self) -> u128 {
        // Another seed than OTLP's: equal bytes do not mean the same there.
        xxh3_128_with_seed(&self.key, self.decoder.seed.wrapping_add(1))
    }

    fn sample(&mut self, stream: &mut Stream<'a>, slice: Slice<'a>) -> Result<(), Fault> {
        let (mut value, mut time_ms, mut start_ms) = (0.0_f64, 0, 0);
        let mut reader = Reader::new(slice);
        while let Some(field) = reader.next()? {
            match field.number {
                1 => value = field.double()?,
                2 => time_ms = field.int64()?,
                3 => start_ms = field.int64()?,
                _ => {}
            }
        }
        let time = self.time(time_ms)?;
        let form = family::number_form(stream.family.metric_type, stream.name);
        let series = match stream.numbers {
            Some(series) => series?,
            None => {
                self.bounds.clear();
                let series = self.resolve(stream, form);
                stream.numbers = Some(series);
                series?
            }
        };
        // A staleness marker is a NaN; any other NaN says as little.
        let (bits, value_form) =
            if value.is_nan() { (0, SampleColumns::NO_VALUE) } else { (value.to_bits(), SampleColumns::DOUBLE) };
        let start_time = stream.start_time(start_ms, time, form);
        self.batch.samples.push(series, start_time, time, bits, value_form);
        Ok(())
    }

    /// The time of a point in microseconds, checked.
    fn time(&self, time_ms: i64) -> Result<i64, Reason> {
        if time_ms == 0 {
            return Err(Reason::TIMESTAMP_MISSING);
        }
        let time = time_ms.saturating_mul(1000);
        check_time(time, self.now, &self.decoder.limits)?;
        Ok(time)
    }

    /// The index in the batch of the series of `form` with the labels at hand.
    fn resolve(&mut self, stream: &Stream<'a>, form: Form) -> Result<u32, Reason> {
        self.key.clear();
        self.key.extend_from_slice(&stream.key.to_le_bytes());
        self.key.extend_from_slice(&[form.kind as u8, form.temporality as u8, u8::from(form.monotonic)]);
        for bound in &self.bounds {
            self.key.extend_from_slice(&bound.to_le_bytes());
        }
        let key = self.hash();
        let series = match self.decoder.series.get(key, self.now) {
            Some(series) => series,
            None => {
                let series = self.new_series(stream, form)?;
                self.decoder.series.admit(key, &series, self.now)?;
                series
            }
        };
        let index = self.batch.series.len() as u32;
        self.batch.series.push(series);
        Ok(index)
    }

    fn new_series(&self, stream: &Stream<'a>, form: Form) -> Result<Arc<Series>, Reason> {
        let labels = self.labels.split(&self.decoder.limits)?;
        let mut interner = self.decoder.interner();
        Ok(Series::new(SeriesDefinition {
            metric: interner.text(stream.name),
            unit: interner.text(&stream.family.unit),
            description: interner.text(&stream.family.help),
            kind: form.kind,
            temporality: form.temporality,
            monotonic: form.monotonic,
            bounds: self.bounds.clone(),
            resource: interner.list(labels.resource),
            scope_name: interner.text(labels.scope_name),
            scope_version: interner.text(labels.scope_version),
            scope: interner.list(Attributes::new()),
            point: labels.point,
        }))
    }
}

impl Stream<'_> {
    /// Since when the point counts, in microseconds; 0 when not given or not before `time`, which some clients send.
    fn start_time(&self, start_ms: i64, time: i64, form: Form) -> i64 {
        let start_ms = if start_ms == 0 { self.created_ms } else { start_ms };
        let start_time = start_ms.saturating_mul(1000);
        if form.temporality == Temporality::Cumulative && (1..=time).contains(&start_time) { start_time } else { 0 }
    }
}
