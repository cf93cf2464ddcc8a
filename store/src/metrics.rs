//! The store's own metrics, on the global meter.

use std::{
    sync::{Arc, LazyLock, RwLock, Weak},
    time::Duration,
};

use opentelemetry::{
    global,
    metrics::{Counter, Histogram, ObservableGauge},
};

use crate::{
    compaction::CompactionSummary,
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
    _unflushed_size: ObservableGauge<u64>,
}

impl Metrics {
    /// Create it after the global meter provider is set: the instruments bind here.
    pub(crate) fn new(state: &Arc<RwLock<State>>) -> Self {
        let meter = global::meter(SCOPE);
        let state: Weak<RwLock<State>> = Arc::downgrade(state);
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
            _unflushed_size: meter
                .u64_observable_gauge("driftwatt_store_unflushed_size_bytes")
                .with_description("Acknowledged points that no file holds yet")
                .with_callback(move |observer| {
                    if let Some(state) = state.upgrade() {
                        observer.observe(read_state(&state).size_bytes() as u64, &[]);
                    }
                })
                .build(),
        }
    }

    pub(crate) fn flushed(&self, summary: &FlushSummary, duration: Duration) {
        self.flushed_rows.add(summary.row_count, &[]);
        self.flush_duration.record(duration.as_secs_f64(), &[]);
    }
}

impl Metrics {
    /// Records one merge.
    pub(crate) fn compacted(&self, summary: &CompactionSummary, duration: Duration) {
        self.compaction_duration.record(duration.as_secs_f64(), &[]);
        self.compacted_rows.add(summary.row_count, &[]);
        self.compacted_duplicates.add(summary.duplicate_count, &[]);
        self.compacted_bytes.add(summary.size_bytes_after, &[]);
    }
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
