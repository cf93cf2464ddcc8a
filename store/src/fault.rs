//! What a check of a data directory can find wrong, and what to do about it.

use std::path::{Path, PathBuf};

use crate::table_storage::Tables;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// The file `FORMAT` is damaged or names a format that this build does not know.
    Format,
    /// The header of a log segment is damaged or belongs to another segment.
    WalHeader,
    /// Bytes of a log segment are no valid record.
    WalDamage,
    /// The newest log segment does not end with a valid record.
    WalTornEnd,
    /// A log record with a valid checksum cannot be decoded.
    WalRecord,
    /// Log records that no table holds are missing.
    WalGap,
    /// A Delta log entry is not what was written, or cannot be read.
    LogEntry,
    /// A Delta log entry has no checksum.
    LogEntryUnsealed,
    /// A version of the Delta log is missing.
    LogHole,
    /// A Delta log entry contradicts the ones before it.
    LogConflict,
    /// A checkpoint is not what was written, or contradicts the entries that it sums up.
    Checkpoint,
    /// A live file does not exist.
    FileMissing,
    /// A live file has another size than recorded.
    FileSize,
    /// A live file is not what was written.
    FileChecksum,
    /// A live file cannot be read or decoded.
    FileUnreadable,
    /// A live file has other columns than its table.
    FileSchema,
    /// Log, footer and rows of a file disagree on how many rows there are.
    FileRowCount,
    /// Rows are not in the order that the file declares.
    FileOrder,
    /// Rows lie outside the statistics of the Delta log or of the file.
    FileStatistics,
    /// Rows lie outside the day of their partition.
    FileDay,
    /// A series has more than one row on a day.
    SeriesRepeated,
    /// The ids of a series do not follow from its identity.
    SeriesIdentity,
    /// Points refer to a series that has no row on their day.
    SeriesMissing,
}

impl FaultKind {
    /// A stable name for scripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::WalHeader => "wal_header",
            Self::WalDamage => "wal_damage",
            Self::WalTornEnd => "wal_torn_end",
            Self::WalRecord => "wal_record",
            Self::WalGap => "wal_gap",
            Self::LogEntry => "log_entry",
            Self::LogEntryUnsealed => "log_entry_unsealed",
            Self::LogHole => "log_hole",
            Self::LogConflict => "log_conflict",
            Self::Checkpoint => "checkpoint",
            Self::FileMissing => "file_missing",
            Self::FileSize => "file_size",
            Self::FileChecksum => "file_checksum",
            Self::FileUnreadable => "file_unreadable",
            Self::FileSchema => "file_schema",
            Self::FileRowCount => "file_row_count",
            Self::FileOrder => "file_order",
            Self::FileStatistics => "file_statistics",
            Self::FileDay => "file_day",
            Self::SeriesRepeated => "series_repeated",
            Self::SeriesIdentity => "series_identity",
            Self::SeriesMissing => "series_missing",
        }
    }

    /// What to do, in one sentence.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Format => {
                "write the line back as `driftwatt data format 1`, or use the driftwatt that wrote the directory"
            }
            Self::WalHeader | Self::WalDamage => {
                "start the server: it keeps the valid records and moves the damaged segment to wal/quarantine"
            }
            Self::WalTornEnd => {
                "after a crash or power cut this is normal and was not acknowledged: start the server, it cuts the end"
            }
            Self::WalRecord => {
                "written by a newer version or by a bug: use the newest version; if that cannot read it, report it"
            }
            Self::WalGap => "the records are lost here; send them again if the source still has them",
            Self::LogEntry | Self::LogHole => "restore the file from a backup; the server does not guess what it said",
            Self::LogEntryUnsealed => {
                "if another program wrote the entry, nothing; otherwise restore the file from a backup"
            }
            Self::LogConflict => "another program wrote to the table, or this is a bug: report it with the entry",
            Self::Checkpoint => {
                "if the entries from version 0 on are all there, delete the checkpoint and _last_checkpoint; otherwise \
                 restore them from a backup"
            }
            Self::FileMissing | Self::FileSize => {
                "restore the file from a backup; otherwise the next start takes it out of the table and goes on"
            }
            Self::FileChecksum | Self::FileUnreadable => {
                "restore the file from a backup; otherwise move it away: the next start takes it out of the table"
            }
            Self::FileSchema
            | Self::FileRowCount
            | Self::FileOrder
            | Self::FileStatistics
            | Self::FileDay
            | Self::SeriesRepeated
            | Self::SeriesIdentity => "another program wrote the file, or this is a bug: report it with the file",
            Self::SeriesMissing => "the points are readable, without labels; restore the series file of the day",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub kind: FaultKind,
    /// The file, below the data directory.
    pub path: PathBuf,
    /// Where in the file, in bytes, if that is known.
    pub offset: Option<u64>,
    /// The first row concerned, counted from 0 in the file, if it is about rows.
    pub row: Option<u64>,
    /// The finding in words.
    pub message: String,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self { kind, path: path.into(), offset: None, row: None, message: message.into() }
    }

    pub(crate) fn at_offset(self, offset: usize) -> Self {
        Self { offset: Some(offset as u64), ..self }
    }

    pub(crate) fn at_row(self, row: u64) -> Self {
        Self { row: Some(row), ..self }
    }

    /// With the path cut to what is below `data_dir`.
    pub(crate) fn shown(mut self, tables: &Tables, data_dir: &Path) -> Self {
        self.path = tables.shown(self.path);
        if let Ok(path) = self.path.strip_prefix(data_dir) {
            self.path = path.to_owned();
        }
        self
    }
}
