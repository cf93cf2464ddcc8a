//! The store: one data directory, opened by one process.

use std::sync::Arc;

use datafusion::{arrow::array::RecordBatch, catalog::TableProvider};

use crate::{config::Config, error::Result, write_batch::WriteBatch};

/// An open data directory.
#[derive(Debug)]
pub struct Store {}

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Position of the record in the log.
    pub sequence: u64,
    /// Points that replaced an unflushed point of the same identity.
    pub duplicate_count: u64,
}

/// What a flush wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FlushSummary {
    /// Rows written to all tables.
    pub row_count: u64,
    /// Files written.
    pub file_count: u64,
    /// Bytes written.
    pub size_bytes: u64,
}

/// Shape of one durable table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSummary {
    /// Table name.
    pub name: String,
    /// Delta version; -1 before the first commit.
    pub version: i64,
    /// Live files.
    pub file_count: u64,
    /// Rows in live files.
    pub row_count: u64,
    /// Bytes of live files.
    pub size_bytes: u64,
}

impl Store {
    /// Opens or creates the data directory, replays the log, and starts the flush task.
    ///
    /// # Errors
    /// [`crate::Error::Locked`] if another process has it open; [`crate::Error::Corrupt`] if the log or a table is damaged.
    pub async fn open(_config: Config) -> Result<Arc<Self>> {
        unimplemented!()
    }

    /// Makes `batch` durable and visible to queries.
    ///
    /// # Cancel safety
    /// Dropping the future does not undo the append: the batch may still become durable.
    ///
    /// # Errors
    /// [`crate::Error::Overloaded`] when unflushed data is at its limit; [`crate::Error::WalPoisoned`] after a failed sync.
    pub async fn append(&self, _batch: WriteBatch) -> Result<Appended> {
        unimplemented!()
    }

    /// Writes everything acknowledged so far to the tables and returns when it is committed.
    ///
    /// # Errors
    /// Any failure to write files or commit; nothing is lost, the data stays in the log and in memory.
    pub async fn flush(&self) -> Result<FlushSummary> {
        unimplemented!()
    }

    /// The table `name` as a DataFusion provider: unflushed rows and live files of the moment of the scan.
    /// Names: `samples`, `histograms`, `series`, `rejections` and every result table written so far.
    pub fn table(self: &Arc<Self>, _name: &str) -> Option<Arc<dyn TableProvider>> {
        unimplemented!()
    }

    /// Tables that [`Store::table`] knows, with their size.
    pub fn tables(&self) -> Vec<TableSummary> {
        unimplemented!()
    }

    /// Appends `batch` to the result table `name` (created on first use) and returns the Delta version.
    /// The first column must be `time`, a non-null UTC timestamp in microseconds; the partition `date` is derived from it.
    ///
    /// # Errors
    /// [`crate::Error::ResultSchema`] if the batch does not fit the table.
    pub async fn write_result(&self, _name: &str, _batch: RecordBatch) -> Result<i64> {
        unimplemented!()
    }

    /// Flushes, stops the background work and releases the directory.
    ///
    /// # Errors
    /// What [`Store::flush`] returns; the log keeps what was not flushed.
    pub async fn close(&self) -> Result<()> {
        unimplemented!()
    }
}
