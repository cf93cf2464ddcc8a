//! What a check found.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{fault::Fault, live_file::LiveFile, table_storage::Tables};

/// Outcome of [`crate::verify()`].
#[derive(Debug, Clone, Default)]
pub struct VerifyReport {
    /// The write-ahead log.
    pub wal: WalReport,
    /// Every table, by name.
    pub tables: Vec<TableReport>,
    /// Everything wrong.
    pub faults: Vec<Fault>,
    /// What is no fault but worth knowing.
    pub notes: Vec<Note>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }
}

/// The write-ahead log as found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WalReport {
    /// Segments.
    pub segment_count: u64,
    /// Valid records.
    pub record_count: u64,
    /// Bytes of all segments.
    pub size_bytes: u64,
    /// Faults among them.
    pub fault_count: u64,
}

/// One table as found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableReport {
    /// Table name.
    pub name: String,
    /// Newest Delta version; -1 if there is none.
    pub version: i64,
    /// Live files.
    pub file_count: u64,
    /// Rows, as the Delta log says.
    pub row_count: u64,
    /// Bytes of live files, as the Delta log says.
    pub size_bytes: u64,
    /// Faults in its Delta log and files.
    pub fault_count: u64,
}

impl TableReport {
    pub(super) fn new(name: String, version: i64, files: &BTreeMap<String, LiveFile>, fault_count: usize) -> Self {
        Self {
            name,
            version,
            file_count: files.len() as u64,
            row_count: files.values().map(|file| file.row_count).sum(),
            size_bytes: files.values().map(|file| file.size_bytes).sum(),
            fault_count: fault_count as u64,
        }
    }
}

/// What a file that is no fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoteKind {
    /// A data file that the newest version does not refer to: replaced, or left by a crash before its commit.
    Orphan,
    /// An unfinished file under a temporary name.
    Temporary,
    /// A file that Driftwatt did not make; it is never touched.
    Foreign,
    /// A damaged file that was put aside.
    Quarantined,
    /// A file without a recorded checksum: it was decoded, but a changed value in it cannot be seen.
    NoChecksum,
}

impl NoteKind {
    /// A stable name for scripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Orphan => "orphan",
            Self::Temporary => "temporary",
            Self::Foreign => "foreign",
            Self::Quarantined => "quarantined",
            Self::NoChecksum => "no_checksum",
        }
    }
}

/// One file that is worth knowing of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What it is.
    pub kind: NoteKind,
    /// The file, below the data directory.
    pub path: PathBuf,
    /// Its size.
    pub size_bytes: u64,
}

impl Note {
    pub(super) fn new(kind: NoteKind, path: PathBuf) -> Self {
        let size_bytes = path.metadata().map_or(0, |metadata| metadata.len());
        Self { kind, path, size_bytes }
    }

    pub(super) fn shown(mut self, tables: &Tables, data_dir: &Path) -> Self {
        self.path = tables.shown(self.path);
        if let Ok(path) = self.path.strip_prefix(data_dir) {
            self.path = path.to_owned();
        }
        self
    }
}
