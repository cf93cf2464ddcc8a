//! The last stored time of each series, which tells fresh points from possible repeats.
//!
//! Invariant: a point after [`StoredTimes::through`] of its series is in no file. The converse does not hold: a point at or
//! before it is only suspect. So forgetting a series is safe as long as the horizon moves behind its last time.

use std::collections::BTreeMap;

use datafusion::arrow::{
    array::AsArray,
    datatypes::{Int64Type, TimestampMicrosecondType},
};

use crate::{
    delta_log::TableSnapshot, error::Result, live_file::LiveFile, memtable::DAY_US, parquet_file::read_columns,
    series::SeriesId, series_map::SeriesMap, table_storage::TableStorage,
};

/// Series remembered; 16 bytes each and the table's slack, below 40 MB together.
const SERIES_COUNT_MAX: usize = 1_800_000;
/// Newest days of `series` that are read at open.
const DAYS_LOADED: usize = 3;

/// Last stored time by series, for series stored at or after the horizon.
#[derive(Debug)]
pub(crate) struct StoredTimes {
    times: SeriesMap<i64>,
    /// UTC microseconds. Series that are not in `times` were stored before it only.
    horizon: i64,
    series_count_max: usize,
}

impl StoredTimes {
    /// Nothing is stored.
    pub(crate) fn new() -> Self {
        Self { times: SeriesMap::default(), horizon: i64::MIN, series_count_max: SERIES_COUNT_MAX }
    }

    /// Reads the newest days of the table `series`. A day that cannot be read ends it: everything up to and including
    /// that day is then suspect, which costs time and no correctness.
    pub(crate) fn load(series: &TableSnapshot) -> Self {
        let mut stored = Self::new();
        let mut days: BTreeMap<i32, Vec<&LiveFile>> = BTreeMap::new();
        for file in &series.files {
            days.entry(file.date).or_default().push(file);
        }
        for (count, (day, files)) in days.into_iter().rev().enumerate() {
            let full = count == DAYS_LOADED || stored.times.len() >= stored.series_count_max;
            let loaded = !full && files.iter().all(|file| stored.load_file(&series.storage, file).is_ok());
            if !full && !loaded {
                tracing::warn!(
                    day,
                    "a day of series cannot be read; points up to it are looked up in files when queried"
                );
            }
            if !loaded {
                stored.horizon = stored.horizon.max((i64::from(day) + 1) * DAY_US);
                break;
            }
        }
        stored
    }

    fn load_file(&mut self, storage: &TableStorage, file: &LiveFile) -> Result<()> {
        for batch in read_columns(storage.open(file)?, &["series_id", "last_time"])? {
            let batch = batch?;
            let ids = batch["series_id"].as_primitive::<Int64Type>();
            let times = batch["last_time"].as_primitive::<TimestampMicrosecondType>();
            for (id, time) in ids.values().iter().zip(times.values()) {
                self.extend(SeriesId(id.cast_unsigned()), *time);
            }
            self.bound();
        }
        Ok(())
    }

    /// A point of series `id` after this time, UTC microseconds, is in no file.
    pub(crate) fn through(&self, id: SeriesId) -> i64 {
        self.times.get(&id).copied().unwrap_or_else(|| self.horizon.saturating_sub(1))
    }

    /// Notes that a point of series `id` at `time` is stored.
    pub(crate) fn extend(&mut self, id: SeriesId, time: i64) {
        // A series that was forgotten may have been stored up to the horizon.
        let before = self.horizon.saturating_sub(1);
        let last = self.times.entry(id).or_insert(before);
        *last = time.max(*last);
    }

    /// Forgets the longest silent half of the series when there are too many, and moves the horizon behind them.
    pub(crate) fn bound(&mut self) {
        if self.times.len() <= self.series_count_max {
            return;
        }
        let mut times: Vec<i64> = self.times.values().copied().collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        self.horizon = self.horizon.max(median.saturating_add(1));
        let horizon = self.horizon;
        self.times.retain(|_, last| *last >= horizon);
        self.times.shrink_to(self.series_count_max);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_stored_point_is_never_called_fresh_however_many_series_are_forgotten() {
        let mut stored = StoredTimes { series_count_max: 100, ..StoredTimes::new() };
        let mut all: HashMap<SeriesId, i64> = HashMap::new();
        let mut random = 1u64;
        for round in 0..2000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (id, time) = (SeriesId((random >> 33) % 400), round + ((random >> 20) % 50) as i64);
            stored.extend(id, time);
            stored.bound();
            let last = all.entry(id).or_insert(time);
            *last = time.max(*last);
            assert!(stored.times.len() <= 100);
            assert!(all.iter().all(|(id, last)| stored.through(*id) >= *last), "round {round}");
        }
        assert!(stored.through(SeriesId(9999)) < 2100, "a new series of today is fresh");
    }

    #[test]
    fn nothing_stored_means_everything_is_fresh() {
        assert_eq!(StoredTimes::new().through(SeriesId(1)), i64::MIN);
    }
}
