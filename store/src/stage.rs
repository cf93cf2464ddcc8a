//! CPU time by stage of the write path, so that a slow server says where its time goes.

use std::sync::LazyLock;

use cpu_time::ThreadTime;
use opentelemetry::{KeyValue, global, metrics::Counter};

/// A part of the write path that runs on one thread without waiting for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Encoding log records, apart from the definitions of series.
    Record,
    /// Framing, definitions, writing and syncing the log.
    Log,
    /// Sorting points into the memtable.
    Memtable,
    /// Memtable to synced files.
    Flush,
    /// Merging files.
    Compaction,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Log => "log",
            Self::Memtable => "memtable",
            Self::Flush => "flush",
            Self::Compaction => "compaction",
        }
    }

    /// Runs `work` and counts the CPU time of this thread meanwhile.
    pub(crate) fn run<R>(self, work: impl FnOnce() -> R) -> R {
        static SECONDS: LazyLock<Counter<f64>> = LazyLock::new(|| {
            global::meter("driftwatt_store")
                .f64_counter("driftwatt_store_stage_cpu_seconds")
                .with_description("CPU time of the write path in the store, by stage")
                .build()
        });
        let started = ThreadTime::now();
        let result = work();
        SECONDS.add(started.elapsed().as_secs_f64(), &[KeyValue::new("stage", self.as_str())]);
        result
    }
}
