//! Which series are active: the register that bounds cardinality and detects a collision of ids.
//!
//! A series is active from its first point until 24 h without one. It costs 24 bytes here. The register is exact: it is
//! one lock, so two requests cannot pass a limit together. At the start it is filled from the `series` table and the log,
//! so that series known before a restart go on after it.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use datafusion::arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Int64Type, TimestampMicrosecondType},
};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    delta_log::TableSnapshot,
    error::Result,
    live_file::LiveFile,
    memtable::day_of,
    parquet_file::read_columns,
    series::{Series, SeriesId},
    series_map::SeriesMap,
    table_storage::TableStorage,
};

const MINUTE_US: i64 = 60_000_000;
const HOUR_US: i64 = 60 * MINUTE_US;
/// Hours after which a series without a point makes room for a new one.
const IDLE_HOURS: u32 = 24;

/// Bounds on the series that are active at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesLimits {
    /// Of all metrics together.
    pub total: usize,
    /// Of one metric.
    pub per_metric: usize,
    /// New ones within one minute.
    pub new_per_minute: usize,
}

impl Default for SeriesLimits {
    fn default() -> Self {
        Self { total: 1_000_000, per_metric: 100_000, new_per_minute: 1_000_000 }
    }
}

/// Why a series is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeriesRefusal {
    /// Another series has the same 64-bit id.
    Collision,
    /// Too many series are active, of this metric or in total.
    Cardinality,
    /// Too many new series came within this minute.
    Rate,
}

/// The hour that activity is counted in, of a time in UTC microseconds.
pub fn hour_of(time_us: i64) -> u32 {
    u32::try_from(time_us / HOUR_US).unwrap_or(0)
}

/// The register of active series.
#[derive(Debug, Default)]
pub struct ActiveSeries {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    series: SeriesMap<Entry>,
    /// Slot of each metric, by the hash of its name.
    slots: HashMap<u64, u32>,
    metrics: Vec<Metric>,
    free_slots: Vec<u32>,
    minute: i64,
    new_in_minute: usize,
    swept_minute: i64,
}

/// 16 bytes; the key has 8.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The upper half of the fingerprint: together with the id 128 bits that tell two series apart.
    check: u64,
    metric: u32,
    hour: u32,
}

#[derive(Debug, Clone, Copy)]
struct Metric {
    hash: u64,
    series_count: u32,
}

fn check_of(fingerprint: u128) -> u64 {
    (fingerprint >> 64) as u64
}

impl ActiveSeries {
    /// An empty register.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that `series` has a point at the moment `now_us`; a new series is let in if the limits allow it.
    ///
    /// # Errors
    /// Why it is refused. A series that is active already is refused for a collision only.
    pub fn admit(&self, series: &Series, now_us: i64, limits: &SeriesLimits) -> Result<(), SeriesRefusal> {
        let mut inner = self.lock();
        let (check, hour) = (check_of(series.fingerprint), hour_of(now_us));
        if let Some(entry) = inner.series.get_mut(&series.id) {
            if entry.check != check {
                return Err(SeriesRefusal::Collision);
            }
            entry.hour = entry.hour.max(hour);
            return Ok(());
        }
        let metric = xxh3_64(series.definition.metric.as_bytes());
        let minute = now_us.div_euclid(MINUTE_US);
        if inner.is_full(metric, limits) {
            inner.sweep(minute, hour);
            if inner.is_full(metric, limits) {
                return Err(SeriesRefusal::Cardinality);
            }
        }
        if inner.minute != minute {
            (inner.minute, inner.new_in_minute) = (minute, 0);
        }
        if inner.new_in_minute >= limits.new_per_minute {
            return Err(SeriesRefusal::Rate);
        }
        inner.new_in_minute += 1;
        inner.insert(series.id, check, metric, hour);
        Ok(())
    }

    /// Number of series held; those idle for a day are dropped when room is needed.
    pub fn count(&self) -> usize {
        self.lock().series.len()
    }

    /// Notes a series known from before the start, whatever the limits.
    pub(crate) fn seed(&self, id: SeriesId, fingerprint: u128, metric: &str, time_us: i64) {
        let mut inner = self.lock();
        let hour = hour_of(time_us);
        match inner.series.get_mut(&id) {
            Some(entry) => entry.hour = entry.hour.max(hour),
            None => inner.insert(id, check_of(fingerprint), xxh3_64(metric.as_bytes()), hour),
        }
    }

    /// Notes the series that the files of the table `series` show as active in the day before `now_us`.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Parquet`] for the first file that cannot be read; the others are noted all the same.
    pub(crate) fn seed_from_files(&self, snapshot: &TableSnapshot, now_us: i64) -> Result<()> {
        let since_us = now_us - i64::from(IDLE_HOURS) * HOUR_US;
        let mut outcome = Ok(());
        for file in snapshot.files.iter().filter(|file| file.date >= day_of(since_us)) {
            outcome = outcome.and(self.seed_from_file(&snapshot.storage, file, since_us, now_us));
        }
        outcome
    }

    fn seed_from_file(&self, storage: &TableStorage, file: &LiveFile, since_us: i64, now_us: i64) -> Result<()> {
        let columns = ["metric", "series_id", "fingerprint", "last_time"];
        for batch in read_columns(storage.open(file)?, &columns)? {
            self.seed_from_batch(&batch?, since_us, now_us);
        }
        Ok(())
    }

    fn seed_from_batch(&self, batch: &RecordBatch, since_us: i64, now_us: i64) {
        let ids = batch["series_id"].as_primitive::<Int64Type>();
        let times = batch["last_time"].as_primitive::<TimestampMicrosecondType>();
        let (metrics, fingerprints) = (batch["metric"].as_string::<i32>(), batch["fingerprint"].as_string::<i32>());
        for row in 0..batch.num_rows() {
            let fingerprint = u128::from_str_radix(fingerprints.value(row), 16);
            if let (Ok(fingerprint), true) = (fingerprint, times.value(row) >= since_us) {
                let id = SeriesId(ids.value(row).cast_unsigned());
                self.seed(id, fingerprint, metrics.value(row), times.value(row).min(now_us));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every update leaves the maps usable, so a panic elsewhere is no reason to stop.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn is_full(&self, metric: u64, limits: &SeriesLimits) -> bool {
        let of_metric = self.slots.get(&metric).map_or(0, |slot| self.metrics[*slot as usize].series_count);
        self.series.len() >= limits.total || of_metric as usize >= limits.per_metric
    }

    fn insert(&mut self, id: SeriesId, check: u64, metric: u64, hour: u32) {
        let slot = self.slot(metric);
        self.metrics[slot as usize].series_count += 1;
        self.series.insert(id, Entry { check, metric: slot, hour });
    }

    fn slot(&mut self, metric: u64) -> u32 {
        if let Some(slot) = self.slots.get(&metric) {
            return *slot;
        }
        let new = Metric { hash: metric, series_count: 0 };
        let slot = match self.free_slots.pop() {
            Some(slot) => {
                self.metrics[slot as usize] = new;
                slot
            }
            None => {
                self.metrics.push(new);
                (self.metrics.len() - 1) as u32
            }
        };
        self.slots.insert(metric, slot);
        slot
    }

    /// Drops idle series; looks through all of them, so once a minute at most.
    fn sweep(&mut self, minute: i64, hour: u32) {
        // Unequal rather than later, so that a clock set back does not stop the sweeps.
        if self.swept_minute == minute {
            return;
        }
        self.swept_minute = minute;
        let Self { series, slots, metrics, free_slots, .. } = self;
        series.retain(|_, entry| {
            let keep = hour.saturating_sub(entry.hour) <= IDLE_HOURS;
            if !keep {
                let metric = &mut metrics[entry.metric as usize];
                metric.series_count -= 1;
                if metric.series_count == 0 {
                    slots.remove(&metric.hash);
                    free_slots.push(entry.metric);
                }
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::series::{AttributeValue, Kind, SeriesDefinition, Temporality};

    const START: i64 = 1_795_000_000_000_000;

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

    fn limits(total: usize, per_metric: usize, new_per_minute: usize) -> SeriesLimits {
        SeriesLimits { total, per_metric, new_per_minute }
    }

    #[test]
    fn known_series_continue_at_the_limit_and_idle_ones_make_room() {
        let (active, limits) = (ActiveSeries::new(), limits(100, 2, 100));
        let admit = |metric, value, now| active.admit(&series(metric, value), now, &limits);
        admit("m", 1, START).unwrap();
        admit("m", 2, START).unwrap();
        assert_eq!(admit("m", 3, START), Err(SeriesRefusal::Cardinality));
        admit("other", 3, START).unwrap();
        let later = START + 25 * HOUR_US;
        admit("m", 1, later).unwrap();
        admit("m", 3, later).unwrap();
        assert_eq!(admit("m", 2, later), Err(SeriesRefusal::Cardinality));
        assert_eq!(active.count(), 2, "m 2 and other 3 made room");
    }

    #[test]
    fn the_total_is_limited_and_slots_of_gone_metrics_are_used_again() {
        let (active, limits) = (ActiveSeries::new(), limits(3, 10, 100));
        for day in 0..50 {
            let now = START + day * 26 * HOUR_US;
            for metric in 0..3 {
                active.admit(&series(&format!("{day}-{metric}"), 1), now, &limits).unwrap();
            }
            assert_eq!(active.admit(&series("one more", 1), now, &limits), Err(SeriesRefusal::Cardinality));
        }
        let inner = active.lock();
        assert_eq!((inner.series.len(), inner.slots.len(), inner.metrics.len()), (3, 3, 3));
    }

    #[test]
    fn new_series_are_limited_by_the_minute_and_known_ones_are_not() {
        let (active, limits) = (ActiveSeries::new(), limits(100, 100, 2));
        let minute = START - START % MINUTE_US;
        for value in 0..2 {
            active.admit(&series("m", value), minute, &limits).unwrap();
        }
        assert_eq!(active.admit(&series("m", 2), minute + MINUTE_US - 1, &limits), Err(SeriesRefusal::Rate));
        active.admit(&series("m", 1), minute + 1, &limits).unwrap();
        active.admit(&series("m", 2), minute + MINUTE_US, &limits).unwrap();
    }

    #[test]
    fn a_collision_of_ids_is_refused_and_the_first_stays() {
        let active = ActiveSeries::new();
        let first = series("a", 1);
        active.admit(&first, START, &SeriesLimits::default()).unwrap();
        let forged = Series { id: first.id, ..(*series("a", 2)).clone() };
        assert_eq!(active.admit(&forged, START, &SeriesLimits::default()), Err(SeriesRefusal::Collision));
        active.admit(&first, START, &SeriesLimits::default()).unwrap();
    }

    #[test]
    fn many_threads_at_once_admit_exactly_the_limit() {
        let (active, limits) = (ActiveSeries::new(), limits(1000, 1000, 10_000));
        let admitted = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|thread| {
                    let active = &active;
                    let one =
                        move |value: i64| active.admit(&series("m", thread * 1000 + value), START, &limits).is_ok();
                    scope.spawn(move || (0..500).filter(|value| one(*value)).count())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert_eq!((admitted, active.count()), (1000, 1000));
    }

    #[test]
    fn a_clock_that_jumps_neither_forgets_nor_stops() {
        let (active, limits) = (ActiveSeries::new(), limits(1, 1, 100));
        active.admit(&series("m", 1), START, &limits).unwrap();
        let past = START - 1000 * HOUR_US;
        active.admit(&series("m", 1), past, &limits).unwrap();
        assert_eq!(active.admit(&series("m", 2), past, &limits), Err(SeriesRefusal::Cardinality));
        active.admit(&series("m", 2), START + 1000 * HOUR_US, &limits).unwrap();
        assert_eq!(active.admit(&series("m", 1), -5, &limits), Err(SeriesRefusal::Cardinality));
    }

    #[test]
    fn an_entry_has_the_size_it_is_said_to_have() {
        assert_eq!(size_of::<(SeriesId, Entry)>(), 24);
    }
}
