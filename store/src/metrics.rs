//! The store's own metrics, on the global meter.

use std::{
    sync::{Arc, LazyLock, RwLock, Weak},
    time::Duration,
};

use opentelemetry::{
    global,
    metrics::{Counter, Gauge, Histogram, ObservableGauge},
};

use crate::{
    active_series::ActiveSeries,
    compaction::CompactionSummary,
    disk_space::DiskSpace,
    state::State,
    store::{FlushSummary, read_state},
};

const SCOPE: &str = "driftwatt_store";

/// Instruments of one open store.
#[derive(Debug)]
pub(crate) struct Metrics {
    flush_duration: Histogram<f64>,
    flushed_rows: Counter<u64>,
    compaction_duration: Histogram<f64>,
    compacted_rows: Counter<u64>,
    compacted_duplicates: Counter<u64>,
    compacted_bytes: Counter<u64>,
    expired_rows: Counter<u64>,
    expired_bytes: Counter<u64>,
    quarantined_files: Gauge<u64>,
    _observed: [ObservableGauge<u64>; 4],
}

impl Metrics {
    /// Create it after the global meter provider is set: the instruments bind here.
    pub(crate) fn new(state: &Arc<RwLock<State>>, series: &Arc<ActiveSeries>, disk: &Arc<DiskSpace>) -> Self {
        let meter = global::meter(SCOPE);
        let state: Weak<RwLock<State>> = Arc::downgrade(state);
        let (series, free, floor) = (Arc::downgrade(series), Arc::downgrade(disk), Arc::downgrade(disk));
        let unflushed = move || state.upgrade().map(|state| read_state(&state).size_bytes() as u64);
        let active = move || series.upgrade().map(|series| series.count() as u64);
        let free = move || free.upgrade()?.free_and_floor().map(|(free, _)| free);
        let floor = move || floor.upgrade()?.free_and_floor().map(|(_, floor)| floor);
        Self {
            flush_duration: meter
                .f64_histogram("driftwatt_store_flush_duration_seconds")
                .with_description("Time of one flush, from sealing the memtable to the last commit")
                .build(),
            flushed_rows: meter
                .u64_counter("driftwatt_store_flushed_rows")
                .with_description("Rows written to tables by flushes")
                .build(),
            compaction_duration: meter
                .f64_histogram("driftwatt_store_compaction_duration_seconds")
                .with_description("Time of one merge of files, from reading them to its commit")
                .build(),
            compacted_rows: meter
                .u64_counter("driftwatt_store_compacted_rows")
                .with_description("Rows written by merges of files")
                .build(),
            compacted_duplicates: meter
                .u64_counter("driftwatt_store_compacted_duplicates")
                .with_description("Rows dropped by merges because a newer one has the same identity")
                .build(),
            compacted_bytes: meter
                .u64_counter("driftwatt_store_compacted_bytes")
                .with_description("Bytes of files written by merges")
                .build(),
            expired_rows: meter
                .u64_counter("driftwatt_store_expired_rows")
                .with_description("Rows removed because they are older than their table or metric is kept")
                .build(),
            expired_bytes: meter
                .u64_counter("driftwatt_store_expired_bytes")
                .with_description("Bytes of these rows in their files")
                .build(),
            quarantined_files: meter
                .u64_gauge("driftwatt_store_quarantined_files")
                .with_description("Damaged data files taken out of their tables")
                .build(),
            _observed: [
                gauge("driftwatt_store_unflushed_size_bytes", "Acknowledged points that no file holds yet", unflushed),
                gauge("driftwatt_store_active_series", "Series with a point within the last day or so", active),
                gauge("driftwatt_store_disk_free_bytes", "Free space of the disk of the data directory", free),
                gauge("driftwatt_store_disk_free_min_bytes", "Free space below which writes are refused", floor),
            ],
        }
    }

    pub(crate) fn quarantined(&self, file_count: u64) {
        self.quarantined_files.record(file_count, &[]);
    }

    pub(crate) fn flushed(&self, summary: &FlushSummary, duration: Duration) {
        self.flushed_rows.add(summary.row_count, &[]);
        self.flush_duration.record(duration.as_secs_f64(), &[]);
    }

    /// Records rows of one table that were removed, and their share of the bytes of their files.
    pub(crate) fn expired(&self, row_count: u64, size_bytes: u64) {
        self.expired_rows.add(row_count, &[]);
        self.expired_bytes.add(size_bytes, &[]);
    }

    /// Records one merge.
    pub(crate) fn compacted(&self, summary: &CompactionSummary, duration: Duration) {
        self.compaction_duration.record(duration.as_secs_f64(), &[]);
        self.compacted_rows.add(summary.row_count, &[]);
        self.compacted_duplicates.add(summary.duplicate_count, &[]);
        self.compacted_bytes.add(summary.size_bytes_after, &[]);
    }
}

/// A gauge that shows what `read` returns at the moment of collection, if anything.
fn gauge(
    name: &'static str,
    description: &'static str,
    read: impl Fn() -> Option<u64> + Send + Sync + 'static,
) -> ObservableGauge<u64> {
    let observed = move |observer: &dyn opentelemetry::metrics::AsyncInstrument<u64>| {
        if let Some(value) = read() {
            observer.observe(value, &[]);
        }
    };
    global::meter(SCOPE).u64_observable_gauge(name).with_description(description).with_callback(observed).build()
}

/// Records one sync of the log.
pub(crate) fn wal_synced(duration: Duration) {
    static SYNC_DURATION: LazyLock<Histogram<f64>> = LazyLock::new(|| {
        global::meter(SCOPE)
            .f64_histogram("driftwatt_store_wal_sync_duration_seconds")
            .with_description("Time to make one group of log records durable")
            .with_boundaries([0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0].to_vec())
            .build()
    });
    SYNC_DURATION.record(duration.as_secs_f64(), &[]);
}
