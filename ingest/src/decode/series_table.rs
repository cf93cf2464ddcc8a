//! Known series: a bounded cache from raw bytes to series, in front of the store's register of active ones.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use driftwatt_store::{ActiveSeries, Series, SeriesLimits, SeriesRefusal, hour_of};
use xxhash_rust::xxh3::xxh3_64;

use crate::{config::Limits, reason::Reason};

/// A map whose keys are hashes already.
pub(crate) type HashKeyed<K, V> = HashMap<K, V, BuildHasherDefault<Unhashed>>;

/// Takes the low 64 bits of a key that is a hash already.
#[derive(Debug, Default)]
pub(crate) struct Unhashed(u64);

impl Hasher for Unhashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn write_u128(&mut self, value: u128) {
        self.0 = value as u64;
    }
}

/// Bytes of a cache entry beside the series: key, entry, and what a map keeps free.
const ENTRY_SIZE_BYTES: usize = 2 * size_of::<(u128, Cached)>();

#[derive(Debug)]
struct Cached {
    series: Arc<Series>,
    /// When the register last heard of it; it forgets nothing within an hour.
    hour: u32,
    size_bytes: usize,
}

/// Series by the hash of their raw bytes, in front of the store's register of active series. Shared by every request.
#[derive(Debug)]
pub(crate) struct SeriesTable {
    limits: SeriesLimits,
    active: Arc<ActiveSeries>,
    cache_size_bytes_max: usize,
    cache: Mutex<Cache>,
}

/// Two generations bound the cache: when the young one has half of the bytes, the old one goes. What is gone costs a
/// parse of its attributes, no more: the register knows it still.
#[derive(Debug, Default)]
struct Cache {
    young: HashKeyed<u128, Cached>,
    old: HashKeyed<u128, Cached>,
    young_size_bytes: usize,
}

impl SeriesTable {
    pub(crate) fn new(limits: &Limits, active: Arc<ActiveSeries>) -> Self {
        let cache_size_bytes_max = limits.series_cache_size_max;
        let limits = SeriesLimits {
            total: limits.series_max,
            per_metric: limits.series_per_metric_max,
            new_per_minute: limits.new_series_per_minute_max,
        };
        Self { limits, active, cache_size_bytes_max, cache: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        // Every update leaves the maps usable, so a panic elsewhere is no reason to stop.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The series whose raw bytes hash to `key`, if it is known and active.
    pub(crate) fn get(&self, key: u128, now: i64) -> Option<Arc<Series>> {
        let hour = hour_of(now);
        let mut cache = self.lock();
        let (series, known_hour) = cache.get(key, self.cache_size_bytes_max)?;
        if known_hour != hour {
            // Forgotten meanwhile, it must ask to be let in like a new one.
            self.active.admit(&series, now, &self.limits).ok()?;
            cache.set_hour(key, hour);
        }
        Some(series)
    }

    /// Registers `series`, or says why it is refused.
    pub(crate) fn admit(&self, key: u128, series: &Arc<Series>, now: i64) -> Result<(), Reason> {
        self.active.admit(series, now, &self.limits).map_err(|refusal| match refusal {
            SeriesRefusal::Collision => Reason::SERIES_ID_COLLISION,
            SeriesRefusal::Cardinality => Reason::CARDINALITY_LIMIT,
            SeriesRefusal::Rate => Reason::NEW_SERIES_RATE,
        })?;
        let size_bytes = series.size_bytes() + ENTRY_SIZE_BYTES;
        let cached = Cached { series: Arc::clone(series), hour: hour_of(now), size_bytes };
        self.lock().remember(key, cached, self.cache_size_bytes_max);
        Ok(())
    }
}

impl Cache {
    fn get(&mut self, key: u128, size_bytes_max: usize) -> Option<(Arc<Series>, u32)> {
        if let Some(cached) = self.young.get(&key) {
            return Some((Arc::clone(&cached.series), cached.hour));
        }
        let cached = self.old.remove(&key)?;
        let found = (Arc::clone(&cached.series), cached.hour);
        self.remember(key, cached, size_bytes_max);
        Some(found)
    }

    fn set_hour(&mut self, key: u128, hour: u32) {
        if let Some(cached) = self.young.get_mut(&key) {
            cached.hour = hour;
        }
    }

    fn remember(&mut self, key: u128, cached: Cached, size_bytes_max: usize) {
        if self.young_size_bytes + cached.size_bytes > size_bytes_max / 2 {
            self.old = mem::take(&mut self.young);
            self.young_size_bytes = 0;
        }
        self.young_size_bytes += cached.size_bytes;
        if let Some(replaced) = self.young.insert(key, cached) {
            self.young_size_bytes -= replaced.size_bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use driftwatt_store::{AttributeValue, Kind, SeriesDefinition, Temporality};

    use super::*;

    fn series(metric: &str, value: i64) -> Arc<Series> {
        Series::new(SeriesDefinition {
            metric: metric.into(),
            unit: "".into(),
            description: "".into(),
            kind: Kind::Gauge,
            temporality: Temporality::Unspecified,
            monotonic: false,
            bounds: vec![],
            resource: vec![].into(),
            scope_name: "".into(),
            scope_version: "".into(),
            scope: vec![].into(),
            point: vec![("k".into(), AttributeValue::Int(value))],
        })
    }

    const HOUR_US: i64 = 3600 * 1_000_000;
    const START: i64 = 1_795_000_000_000_000;

    fn table(limits: Limits) -> SeriesTable {
        SeriesTable::new(&limits, Arc::new(ActiveSeries::new()))
    }

    #[test]
    fn known_series_continue_at_the_limit_and_forgotten_ones_must_ask_again() {
        let table = table(Limits { series_per_metric_max: 2, ..Limits::default() });
        table.admit(1, &series("m", 1), START).unwrap();
        table.admit(2, &series("m", 2), START).unwrap();
        assert_eq!(table.admit(3, &series("m", 3), START), Err(Reason::CARDINALITY_LIMIT));
        let later = START + 25 * HOUR_US;
        assert!(table.get(1, later).is_some());
        table.admit(3, &series("m", 3), later).unwrap();
        assert!(table.get(2, later).is_none(), "its place is taken");
        assert!(table.get(1, later).is_some());
    }

    #[test]
    fn each_refusal_has_its_reason() {
        let table = table(Limits { new_series_per_minute_max: 1, ..Limits::default() });
        let first = series("a", 1);
        table.admit(1, &first, START).unwrap();
        assert_eq!(table.admit(2, &series("a", 2), START), Err(Reason::NEW_SERIES_RATE));
        let forged = Arc::new(Series { id: first.id, ..(*series("a", 2)).clone() });
        assert_eq!(table.admit(2, &forged, START), Err(Reason::SERIES_ID_COLLISION));
    }

    #[test]
    fn the_cache_is_bounded_in_bytes_and_what_it_drops_is_still_active() {
        let table = table(Limits { series_cache_size_max: 100_000, ..Limits::default() });
        for key in 0..1000 {
            table.admit(key, &series("a", key as i64), START).unwrap();
            table.get(0, START);
        }
        let cache = table.lock();
        let entries = cache.young.values().chain(cache.old.values());
        let size_bytes: usize = entries.map(|cached| cached.size_bytes).sum();
        assert!(size_bytes <= 100_000, "{size_bytes}");
        assert!(cache.young.len() + cache.old.len() > 20);
        assert!(cache.young.contains_key(&0), "one in use stays");
        assert_eq!(table.active.count(), 1000);
    }
}
