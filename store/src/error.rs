//! What can go wrong in the store, by remedy.
#![expect(missing_docs, reason = "the messages name the fields")]

use std::{io, path::PathBuf};

use datafusion::error::DataFusionError;

use crate::wal::record::reader::DecodeError;

/// Result with the store's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation on `path`.
    #[error("{action} {}", .path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// Another process holds the lock of the data directory.
    #[error("data directory {} is in use by another driftwatt process; stop it, or choose another directory with --data", .path.display())]
    Locked { path: PathBuf },
    #[error("{} is a file, not a directory; choose another data directory with --data", .path.display())]
    NotADirectory { path: PathBuf },
    #[error("{} cannot be written; mend its owner, mode or mount, or choose another data directory with --data", .path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    /// The directory was written by a newer build.
    #[error("data directory {} has format {version}, newer than {known}, which this build knows; it was left untouched, use a newer driftwatt", .path.display())]
    NewerFormat { path: PathBuf, version: u32, known: u32 },
    /// Free space is below the floor; writes are accepted again as soon as it is back.
    #[error("the disk of {} is nearly full: {free_bytes} bytes are free, {needed_bytes} are needed (store.disk_free_min and room for a flush); free space, writes then resume by themselves", .path.display())]
    DiskFull { path: PathBuf, free_bytes: u64, needed_bytes: u64 },
    /// A log write found no space and was taken back whole; the log stays usable.
    #[error("{} could not grow ({reason}); nothing of the request was stored, retry when space is free", .path.display())]
    WalFull { path: PathBuf, reason: io::ErrorKind },
    /// A failed write or sync poisoned the log: no write is accepted until it is reopened.
    #[error(
        "the write-ahead log is closed after a failed write or sync; mend the disk, then restart: what was acknowledged is replayed"
    )]
    WalPoisoned,
    /// The log thread has stopped.
    #[error("the write-ahead log is closed")]
    WalClosed,
    /// The store closes, so long work is given up.
    #[error("the store is closing")]
    Closing,
    /// One record is larger than the log can hold.
    #[error("a log record of {size_bytes} bytes is over the limit of {limit_bytes}; send smaller requests")]
    RecordTooLarge { size_bytes: usize, limit_bytes: usize },
    /// Bytes on disk are not what was written.
    #[error("{} is damaged at byte {offset}: {reason}", .path.display())]
    Corrupt { path: PathBuf, offset: u64, reason: String },
    /// A data file is not what was written.
    #[error("{} is damaged: {reason}; stop the server and run `driftwatt verify --data DIR`", .path.display())]
    DamagedFile { path: PathBuf, reason: String },
    /// The object store did not do what was asked, however often it was asked within `store.s3.retry_timeout`.
    #[error("{action} {location}: {cause}")]
    Storage { action: &'static str, location: String, cause: object_store::Error },
    /// Another entry has the version of a commit.
    #[error(
        "{location} was committed by another program; it is read before the next commit, let no other program write to the table"
    )]
    VersionTaken { location: String },
    #[error("the tables of data directory {} are at {tables}; set store.tables to that (a folder is what it is without the setting), or choose another data directory", .path.display())]
    TablesElsewhere { path: PathBuf, tables: String },
    #[error(
        "another data directory writes to {tables}; choose another prefix, or, if that directory is gone for good, delete {object} and start again"
    )]
    TablesTaken { tables: String, object: String },
    /// A live file without its day: another program added it.
    #[error(
        "file {file} of table {table} has no partition date, so another program added it; take the table back to the version before it"
    )]
    NoDay { table: String, file: String },
    #[error(
        "the columns of table {table} are {found}, this version stores {expected}; open it with the version that wrote it, or choose another data directory"
    )]
    OtherColumns { table: String, found: String, expected: String },
    /// The memtable is full and flushing has not caught up.
    #[error("memtable holds {size_bytes} bytes, limit {limit_bytes}; retry later")]
    Overloaded { size_bytes: usize, limit_bytes: usize },
    /// Two different series have the same 64-bit id.
    #[error("series id {id:#018x} of metric {metric} already belongs to another series")]
    SeriesCollision { id: u64, metric: String },
    /// A setting is out of range.
    #[error("setting store.{name}: {reason}")]
    Config { name: &'static str, reason: String },
    /// The test hook `DRIFTWATT_FAILPOINT` cannot be read.
    #[error("DRIFTWATT_FAILPOINT: {reason}; it is for tests, unset it otherwise")]
    Failpoint { reason: String },
    /// No table of that name.
    #[error("no table named {name}")]
    UnknownTable { name: String },
    /// A result batch does not have the required shape.
    #[error("result table {table}: {reason}")]
    ResultSchema { table: String, reason: String },
    /// An intact log record holds something that this build does not write.
    #[error("log record {sequence}: {reason}; open the directory with the version that wrote it")]
    Record { sequence: u64, reason: String },
    #[error("delta table: {0}")]
    Delta(#[from] deltalake::DeltaTableError),
    #[error("parquet: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    #[error("arrow: {0}")]
    Arrow(#[from] datafusion::arrow::error::ArrowError),
    #[error("datafusion: {0}")]
    DataFusion(#[from] DataFusionError),
    #[error("object store: {0}")]
    ObjectStore(#[from] object_store::Error),
    #[error("background task failed: {0}")]
    Task(String),
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        Self::External(Box::new(error))
    }
}

/// Errors by what the caller can do about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Retry later; the store is busy.
    Overloaded,
    /// Retry later; there is no space, which somebody has to free.
    StorageFull,
    /// Retry; the store is closed or restarting.
    Unavailable,
    /// Mend the request.
    Invalid,
    /// Stop and inspect the data directory.
    Corrupt,
    /// A bug or an unexpected failure.
    Internal,
}

impl Error {
    /// The remedy this error asks for.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Overloaded { .. } => ErrorKind::Overloaded,
            Self::DiskFull { .. } | Self::WalFull { .. } => ErrorKind::StorageFull,
            Self::WalPoisoned
            | Self::WalClosed
            | Self::Locked { .. }
            | Self::Closing
            | Self::Storage { .. }
            | Self::VersionTaken { .. } => ErrorKind::Unavailable,
            Self::SeriesCollision { .. }
            | Self::RecordTooLarge { .. }
            | Self::NotADirectory { .. }
            | Self::NewerFormat { .. }
            | Self::Unwritable { .. }
            | Self::Config { .. }
            | Self::Failpoint { .. }
            | Self::UnknownTable { .. }
            | Self::TablesElsewhere { .. }
            | Self::TablesTaken { .. }
            | Self::OtherColumns { .. }
            | Self::ResultSchema { .. } => ErrorKind::Invalid,
            Self::Corrupt { .. } | Self::DamagedFile { .. } | Self::NoDay { .. } | Self::Record { .. } => {
                ErrorKind::Corrupt
            }
            _ => ErrorKind::Internal,
        }
    }

    pub(crate) fn record(sequence: u64) -> impl FnOnce(DecodeError) -> Self {
        move |error| Self::Record { sequence, reason: error.to_string() }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
