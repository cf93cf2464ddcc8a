//! The durable half of Driftwatt: what is acknowledged is in the log, what is in the log reaches a Delta Lake table
//! exactly once, and every table is scanned through DataFusion.
//!
//! Invariants (see `ARCHITECTURE.md`): `WAL-1` acknowledged means synced, `WAL-2` nothing enters the log that cannot be
//! replayed, `STORE-1` every record reaches the tables exactly once, `STORE-2` received = stored + duplicate + rejected.

mod active_series;
mod background;
mod checksum;
mod compaction;
mod config;
mod data_dir;
mod delta_log;
mod disk_space;
mod error;
mod failpoint;
mod fault;
mod file_memory;
mod file_name;
mod flush;
mod inspect;
mod interner;
mod lanes;
mod last_write;
mod live_file;
mod memtable;
mod merge;
mod merge_exec;
mod metrics;
mod overlap;
mod parquet_file;
mod partial_file;
mod point_cursor;
mod points;
mod quarantine;
mod replay;
mod result_table;
mod retention;
mod rows;
mod sample;
mod sample_projection;
mod sample_rows;
mod scan;
mod schema;
mod series;
mod series_day;
mod series_map;
#[cfg(test)]
mod simulation;
mod size_text;
mod stage;
mod state;
mod store;
mod stored_times;
mod table_storage;
mod verify;
mod wal;
mod write_batch;

pub use active_series::{ActiveSeries, SeriesLimits, SeriesRefusal, hour_of};
pub use compaction::{Compaction, CompactionSummary};
pub use config::{Config, Durability, RawConfig, RawS3, S3Settings, S3Url, Secret};
pub use error::{Error, ErrorKind, Result};
#[doc(hidden)]
pub use failpoint::Failpoint;
pub use fault::{Fault, FaultKind};
pub use inspect::{ColumnContents, InspectReport, MetricContents, Share, TableContents, inspect};
pub use interner::Interner;
#[doc(hidden)]
pub use parquet_file::write_compacted;
pub use retention::{
    ExpiredDays, ExpiredMetrics, Expiry, Keep, MetricRule, RawMetricRule, RawRetention, Retention, RetentionReport,
    preview_retention,
};
pub use schema::{PROMOTED, Promoted, histograms_schema, rejections_schema, samples_schema, series_schema};
pub use series::{AttributeValue, Attributes, Kind, Series, SeriesDefinition, SeriesId, Temporality};
pub use size_text::size_text;
pub use store::{Appended, FlushSummary, Store, TableSummary};
pub use verify::{Note, NoteKind, TableReport, VerifyReport, WalReport, verify};
#[doc(hidden)]
pub use wal::fuzzing;
pub use write_batch::{HistogramPoint, HistogramShape, Rejection, SampleColumns, WriteBatch};
