//! What can be wrong with a contract, an imported document or a batch.

use std::fmt;

use datafusion::arrow::error::ArrowError;

/// Where in a document something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Name of the file as the caller gave it.
    pub file: String,
    /// Line, from 1; `None` where the reader of the format tells none (JSON beyond its syntax).
    pub line: Option<usize>,
    /// Path from the root, such as `schema[0].properties[2].quality[0].mustBe`; empty for the root.
    pub path: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.path.is_empty() {
            write!(f, " at {}", self.path)?;
        }
        Ok(())
    }
}

/// Failures of the gates themselves; data that breaks a rule is a result, not an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A document cannot be read as what it should be.
    #[error("{place}: {problem}; {remedy}")]
    Document {
        /// Where it stands.
        place: Place,
        /// What is wrong.
        problem: String,
        /// What the author can do.
        remedy: String,
    },
    /// A contract has no table of this name.
    #[error("{wanted}: the rules are of {known}; name one of them with --table")]
    UnknownTable {
        /// What was asked for.
        wanted: String,
        /// The names that exist.
        known: String,
    },
    /// A batch has another schema than the scan was made for.
    #[error("the schema changed within the batches: {difference}; scan each schema by itself")]
    SchemaChanged {
        /// The first difference.
        difference: String,
    },
    /// Two scans of different contracts or schemas cannot become one.
    #[error("the two scans were not made from the same contract and schema")]
    ForeignScan,
    /// A kernel refused a column.
    #[error("column {column:?}: {source}")]
    Column {
        /// Name of the column.
        column: String,
        /// What the kernel said.
        source: ArrowError,
    },
    /// A table of a contract says nothing about images.
    #[error(
        "{path} is a folder or a list of images, and the table {table:?} has no rule for images; add to its quality: \
         {{ type: custom, engine: driftwatt, implementation: {{ rule: images, sizesMax: 1 }} }}"
    )]
    NoImageRule {
        /// The folder or the manifest.
        path: String,
        /// The table.
        table: String,
    },
    /// No rule needs what was given.
    #[error("no rule refers to the table {table:?}: {known}")]
    UnusedReference {
        /// The name that was given.
        table: String,
        /// The tables that rules refer to, as a sentence.
        known: String,
    },
    /// A folder or a manifest of images cannot be read.
    #[error("read {path}: {source}")]
    Read {
        /// The file or folder.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// Result with the [`Error`] of this module.
pub type Result<T> = std::result::Result<T, Error>;
