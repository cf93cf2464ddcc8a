//! Known series: a bounded cache from raw bytes to series, and the register of live ids.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use driftwatt_store::{Series, SeriesId};
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

/// A series is forgotten after a day without a point, but only when room is needed.
const IDLE_US: i64 = 24 * 3600 * 1_000_000;
/// At the limit, idle series are looked for once a minute at most.
const SWEEP_INTERVAL_US: i64 = 60 * 1_000_000;

#[derive(Debug)]
struct Live {
    fingerprint: u128,
    metric: u64,
    last_seen: i64,
}

/// Series by raw key, and live series by id. Shared by every request.
#[derive(Debug)]
pub(crate) struct SeriesTable {
    limits: Limits,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    // Two generations bound the cache: when the young one is half the limit, the old one goes.
    young: HashKeyed<u128, Arc<Series>>,
    old: HashKeyed<u128, Arc<Series>>,
    live: HashKeyed<u64, Live>,
    per_metric: HashKeyed<u64, usize>,
    swept: i64,
}

impl SeriesTable {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every update leaves the maps usable, so a panic elsewhere is no reason to stop.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The series whose raw bytes hash to `key`, if it is known and live.
    pub(crate) fn get(&self, key: u128, now: i64) -> Option<Arc<Series>> {
        let mut inner = self.lock();
        let series = match inner.young.get(&key) {
            Some(series) => Arc::clone(series),
            None => {
                let series = inner.old.remove(&key)?;
                inner.remember(key, Arc::clone(&series), self.limits.series_max);
                series
            }
        };
        let live = inner.live.get_mut(&series.id.0)?;
        live.last_seen = now;
        Some(series)
    }

    /// Registers `series`, or says why it is refused.
    pub(crate) fn admit(&self, key: u128, series: &Arc<Series>, now: i64) -> Result<(), Reason> {
        let mut inner = self.lock();
        inner.register(series.id, series, now, &self.limits)?;
        inner.remember(key, Arc::clone(series), self.limits.series_max);
        Ok(())
    }
}

impl Inner {
    fn remember(&mut self, key: u128, series: Arc<Series>, series_max: usize) {
        if self.young.len() >= series_max.div_ceil(2) {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, series);
    }

    fn register(&mut self, id: SeriesId, series: &Series, now: i64, limits: &Limits) -> Result<(), Reason> {
        if let Some(live) = self.live.get_mut(&id.0) {
            if live.fingerprint != series.fingerprint {
                return Err(Reason::SERIES_ID_COLLISION);
            }
            live.last_seen = now;
            return Ok(());
        }
        let metric = xxh3_64(series.definition.metric.as_bytes());
        if self.is_full(metric, limits) {
            self.sweep(now);
            if self.is_full(metric, limits) {
                return Err(Reason::CARDINALITY_LIMIT);
            }
        }
        self.live.insert(id.0, Live { fingerprint: series.fingerprint, metric, last_seen: now });
        *self.per_metric.entry(metric).or_default() += 1;
        Ok(())
    }

    fn is_full(&self, metric: u64, limits: &Limits) -> bool {
        self.live.len() >= limits.series_max
            || self.per_metric.get(&metric).is_some_and(|count| *count >= limits.series_per_metric_max)
    }

    fn sweep(&mut self, now: i64) {
        if now - self.swept < SWEEP_INTERVAL_US {
            return;
        }
        self.swept = now;
        let per_metric = &mut self.per_metric;
        self.live.retain(|_, live| {
            let keep = now - live.last_seen < IDLE_US;
            if !keep && let Some(count) = per_metric.get_mut(&live.metric) {
                *count -= 1;
            }
            keep
        });
        per_metric.retain(|_, count| *count > 0);
    }
}

#[cfg(test)]
mod tests {
    use driftwatt_store::{AttributeValue, Kind, SeriesDefinition, Temporality};

    use super::*;

    fn series(metric: &str, value: i64) -> Arc<Series> {
        Series::new(SeriesDefinition {
            metric: metric.into(),
            unit: String::new(),
            description: String::new(),
            kind: Kind::Gauge,
            temporality: Temporality::Unspecified,
            monotonic: false,
            bounds: vec![],
            resource: vec![],
            scope_name: String::new(),
            scope_version: String::new(),
            scope: vec![],
            point: vec![("k".into(), AttributeValue::Int(value))],
        })
    }

    fn table(series_per_metric_max: usize, series_max: usize) -> SeriesTable {
        SeriesTable::new(Limits { series_per_metric_max, series_max, ..Limits::default() })
    }

    #[test]
    fn known_series_continue_at_the_limit_and_idle_ones_make_room() {
        let table = table(2, 100);
        let start = 1_000_000_000_000;
        table.admit(1, &series("m", 1), start).unwrap();
        table.admit(2, &series("m", 2), start).unwrap();
        assert_eq!(table.admit(3, &series("m", 3), start), Err(Reason::CARDINALITY_LIMIT));
        assert_eq!(table.admit(4, &series("other", 3), start), Ok(()));
        assert!(table.get(1, start + IDLE_US).is_some());
        assert_eq!(table.admit(3, &series("m", 3), start + IDLE_US), Ok(()));
        assert!(table.get(2, start + IDLE_US).is_none(), "a forgotten series must be registered again");
    }

    #[test]
    fn the_total_is_limited_too() {
        let table = table(10, 2);
        table.admit(1, &series("a", 1), 0).unwrap();
        table.admit(2, &series("b", 1), 0).unwrap();
        assert_eq!(table.admit(3, &series("c", 1), 0), Err(Reason::CARDINALITY_LIMIT));
    }

    #[test]
    fn a_collision_of_ids_is_refused() {
        let table = table(10, 10);
        let first = series("a", 1);
        table.admit(1, &first, 0).unwrap();
        let forged = Arc::new(Series { id: first.id, ..(*series("a", 2)).clone() });
        assert_eq!(table.admit(2, &forged, 0), Err(Reason::SERIES_ID_COLLISION));
    }

    #[test]
    fn the_cache_is_bounded() {
        let table = table(100, 10);
        let one = series("a", 1);
        for key in 0..1000 {
            table.admit(key, &one, 0).unwrap();
        }
        let inner = table.lock();
        assert!(inner.young.len() + inner.old.len() <= 10);
        assert_eq!(inner.live.len(), 1);
    }
}
