//! `ExportMetricsServiceRequest` bytes to a [`WriteBatch`], without an object per point.
//!
//! A point's series is found by a hash of the raw bytes that define it (resource, scope, metric header, attributes,
//! bounds); only unknown series have their attributes parsed. A bad point is refused alone; only bytes that are not
//! protobuf refuse the whole request. Field order does not matter: each message is read to its end before it is used.
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod attributes;
mod exponential;
mod histogram;
mod metric;
#[cfg(test)]
mod mutation_tests;
mod number;
mod point;
mod remote_write;
mod series_table;
mod summary;
#[cfg(test)]
mod tests;

use std::{
    cell::OnceCell,
    hash::{BuildHasher, RandomState},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use driftwatt_store::{ActiveSeries, Attributes, Interner, Series, SeriesDefinition, WriteBatch};
use xxhash_rust::xxh3::xxh3_128_with_seed;

pub(crate) use self::remote_write::WriteMessage;
use self::{
    attributes::{parse_attribute, repeated_keys, text},
    metric::Metric,
    remote_write::Families,
    series_table::{HashKeyed, SeriesTable},
};
use crate::{
    config::{Config, Limits},
    reason::{Reason, Rejections},
    wire::{Malformed, Reader, Slice},
};

/// What a request holds.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Accepted points, and the refused ones as counts.
    pub batch: WriteBatch,
    /// Number of refused points.
    pub rejected_count: u64,
    /// Repeated attribute keys in series seen for the first time; the last value stays.
    pub duplicate_key_count: u64,
    /// Exemplars received: none of them is stored.
    pub exemplar_count: u64,
}

/// Decodes requests; shared by all of them.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    now: fn() -> i64,
    series: SeriesTable,
    interner: Mutex<Interner>,
    families: Mutex<Families>,
    // Random, so that nobody can prepare two series with the same raw key.
    seed: u64,
}

/// Why a point is not stored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The whole request is refused.
    Malformed(Malformed),
    /// This point is refused.
    Refused(Reason),
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<Reason> for Fault {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason)
    }
}

impl Decoder {
    /// A decoder with a register of series of its own, empty.
    pub fn new(config: &Config) -> Self {
        Self::with_register(config, Arc::new(ActiveSeries::new()))
    }

    /// A decoder that lets series in as `active`, the register of a store, allows.
    pub fn with_register(config: &Config, active: Arc<ActiveSeries>) -> Self {
        Self {
            limits: config.limits.clone(),
            now: config.now,
            series: SeriesTable::new(&config.limits, active),
            interner: Mutex::default(),
            families: Mutex::default(),
            seed: RandomState::new().hash_one(0),
        }
    }

    /// Decodes one request.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes are not protobuf; nothing of the request is then used.
    pub fn decode(&self, request: &[u8]) -> Result<Decoded, Malformed> {
        let mut walk = Walk {
            decoder: self,
            now: (self.now)(),
            batch: WriteBatch::default(),
            rejections: Rejections::default(),
            duplicate_key_count: 0,
            exemplar_count: 0,
            last: None,
            refused: HashKeyed::default(),
            point_attributes: Vec::new(),
            bounds: Vec::new(),
            key: Vec::new(),
        };
        let mut reader = Reader::new(Slice { bytes: request, offset: 0 });
        while let Some(field) = reader.next()? {
            if field.number == 1 {
                walk.resource_metrics(field.slice()?)?;
            }
        }
        let mut batch = walk.batch;
        let rejected_count = walk.rejections.total();
        batch.rejections = walk.rejections.into_rows(walk.now);
        let (duplicate_key_count, exemplar_count) = (walk.duplicate_key_count, walk.exemplar_count);
        Ok(Decoded { batch, rejected_count, duplicate_key_count, exemplar_count })
    }

    fn interner(&self) -> MutexGuard<'_, Interner> {
        // Every update leaves the tables usable, so a panic elsewhere is no reason to stop.
        self.interner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hash(&self, bytes: &[u8]) -> u128 {
        xxh3_128_with_seed(bytes, self.seed)
    }
}

/// A resource or scope: its bytes, and what they say once someone asks.
struct Owner<'a> {
    raw: Slice<'a>,
    key: u128,
    parsed: OnceCell<Result<Parsed, Fault>>,
}

#[derive(Debug, Clone)]
struct Parsed {
    name: Arc<str>,
    version: Arc<str>,
    attributes: Arc<Attributes>,
    /// As received, repeated keys included.
    attribute_count: usize,
    repeated_key_count: u64,
}

impl<'a> Owner<'a> {
    fn new(raw: Slice<'a>, key: u128) -> Self {
        Self { raw, key, parsed: OnceCell::new() }
    }
}

/// One pass over one request.
struct Walk<'d, 'a> {
    decoder: &'d Decoder,
    now: i64,
    batch: WriteBatch,
    rejections: Rejections,
    duplicate_key_count: u64,
    exemplar_count: u64,
    /// Raw key and index in `batch.series` of the last point: its neighbours often belong to the same series.
    last: Option<(u128, u32)>,
    /// Why a series is refused, by raw key.
    refused: HashKeyed<u128, Reason>,
    /// Attributes of the point at hand.
    point_attributes: Vec<Slice<'a>>,
    /// Explicit bounds of the point at hand.
    bounds: Vec<f64>,
    key: Vec<u8>,
}

impl<'a> Walk<'_, 'a> {
    fn resource_metrics(&mut self, slice: Slice<'a>) -> Result<(), Malformed> {
        let mut resource = Slice::default();
        let mut reader = Reader::new(slice);
        while let Some(field) = reader.next()? {
            if field.number == 1 {
                resource = field.slice()?;
            }
        }
        let resource = Owner::new(resource, self.decoder.hash(resource.bytes));
        let mut reader = Reader::new(slice);
        while let Some(field) = reader.next()? {
            if field.number == 2 {
                self.scope_metrics(&resource, field.slice()?)?;
            }
        }
        Ok(())
    }

    fn scope_metrics(&mut self, resource: &Owner<'a>, slice: Slice<'a>) -> Result<(), Malformed> {
        let mut scope = Slice::default();
        let mut reader = Reader::new(slice);
        while let Some(field) = reader.next()? {
            if field.number == 1 {
                scope = field.slice()?;
            }
        }
        let scope = Owner::new(scope, self.decoder.hash(scope.bytes));
        let mut reader = Reader::new(slice);
        while let Some(field) = reader.next()? {
            if field.number == 2 {
                self.metric(resource, &scope, field.slice()?)?;
            }
        }
        Ok(())
    }

    /// The index in the batch of the series that the point at hand belongs to.
    fn resolve(&mut self, metric: &Metric<'_, 'a>) -> Result<u32, Fault> {
        let mut bytes = mem::take(&mut self.key);
        bytes.clear();
        bytes.extend_from_slice(&metric.key.to_le_bytes());
        bytes.extend_from_slice(&(self.bounds.len() as u64).to_le_bytes());
        for bound in &self.bounds {
            bytes.extend_from_slice(&bound.to_le_bytes());
        }
        for attribute in &self.point_attributes {
            bytes.extend_from_slice(&(attribute.bytes.len() as u64).to_le_bytes());
            bytes.extend_from_slice(attribute.bytes);
        }
        let key = self.decoder.hash(&bytes);
        self.key = bytes;
        if let Some((last, index)) = self.last
            && last == key
        {
            return Ok(index);
        }
        if let Some(reason) = self.refused.get(&key) {
            return Err(Fault::Refused(*reason));
        }
        match self.find_or_create(metric, key) {
            Ok(series) => {
                let index = self.batch.series.len() as u32;
                self.batch.series.push(series);
                self.last = Some((key, index));
                Ok(index)
            }
            Err(Fault::Refused(reason)) => {
                self.refused.insert(key, reason);
                Err(Fault::Refused(reason))
            }
            Err(malformed) => Err(malformed),
        }
    }

    fn find_or_create(&mut self, metric: &Metric<'_, 'a>, key: u128) -> Result<Arc<Series>, Fault> {
        if let Some(series) = self.decoder.series.get(key, self.now) {
            return Ok(series);
        }
        let limits = &self.decoder.limits;
        let resource = self.parse(metric.resource, false)?;
        let scope = self.parse(metric.scope, true)?;
        let mut point = Attributes::with_capacity(self.point_attributes.len().min(limits.attributes_max));
        for attribute in &self.point_attributes {
            parse_attribute(*attribute, limits, &mut point)?;
        }
        if resource.attribute_count + scope.attribute_count + point.len() > limits.attributes_max {
            return Err(Reason::ATTRIBUTES_TOO_MANY.into());
        }
        let duplicates = resource.repeated_key_count + scope.repeated_key_count + repeated_keys(&point);
        let [name, unit, description] = {
            let mut interner = self.decoder.interner();
            [metric.name, metric.unit, metric.description].map(|text| interner.text(text))
        };
        let series = Series::new(SeriesDefinition {
            metric: name,
            unit,
            description,
            kind: metric.kind,
            temporality: metric.temporality,
            monotonic: metric.monotonic,
            bounds: self.bounds.clone(),
            resource: resource.attributes,
            scope_name: scope.name,
            scope_version: scope.version,
            scope: scope.attributes,
            point,
        });
        self.decoder.series.admit(key, &series, self.now)?;
        self.duplicate_key_count += duplicates;
        Ok(series)
    }

    fn parse(&self, owner: &Owner<'a>, is_scope: bool) -> Result<Parsed, Fault> {
        owner.parsed.get_or_init(|| parse_owner(owner.raw, is_scope, self.decoder)).clone()
    }
}

/// `Resource` has its attributes in field 1, `InstrumentationScope` has name, version, attributes.
fn parse_owner(raw: Slice<'_>, is_scope: bool, decoder: &Decoder) -> Result<Parsed, Fault> {
    let (mut name, mut version, mut attributes) = ("", "", Attributes::new());
    let mut reader = Reader::new(raw);
    while let Some(field) = reader.next()? {
        match (is_scope, field.number) {
            (false, 1) | (true, 3) => parse_attribute(field.slice()?, &decoder.limits, &mut attributes)?,
            (true, 1) => name = text(field.slice()?)?,
            (true, 2) => version = text(field.slice()?)?,
            _ => {}
        }
    }
    let (attribute_count, repeated_key_count) = (attributes.len(), repeated_keys(&attributes));
    let mut interner = decoder.interner();
    let (name, version) = (interner.text(name), interner.text(version));
    Ok(Parsed { name, version, attributes: interner.list(attributes), attribute_count, repeated_key_count })
}
