//! The options of `driftwatt import`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::super::ReportFormat;

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// CSV with a header, Parquet or JSON lines
    pub(super) file: PathBuf,
    /// The column that says when; times without a zone are UTC
    #[arg(long)]
    pub(super) time_column: String,
    /// What whole numbers in it count since 1970
    #[arg(long, value_enum)]
    pub(super) time_unit: Option<ImportTimeUnit>,
    /// A column of numbers that becomes a metric; may be given again [default: all that have no other use]
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    pub(super) value: Vec<String>,
    /// A column whose values are counted, as categories for driftwatt drift; may be given again
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    pub(super) category: Vec<String>,
    /// A column of few values that becomes a label of every point, to filter and to split by; may be given again
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    pub(super) label: Vec<String>,
    /// Put before the name of each column to make that of its metric, such as driftwatt.input.
    #[arg(long, default_value = "")]
    pub(super) prefix: String,
    /// Label driftwatt.dataset of every point [default: the name of the file]
    #[arg(long)]
    pub(super) dataset: Option<String>,
    /// Label service.name of every point
    #[arg(long)]
    pub(super) service: Option<String>,
    /// OTLP/HTTP of a running server
    #[arg(long, default_value = "http://127.0.0.1:4318", conflicts_with = "data")]
    pub(super) server: String,
    /// A data directory, with its server stopped
    #[arg(long)]
    pub(super) data: Option<PathBuf>,
    /// Configuration file (docs/config.md), for --data
    #[arg(long)]
    pub(super) config: Option<PathBuf>,
    /// [default: text on a terminal, json in a pipe]
    #[arg(long)]
    pub(super) format: Option<ReportFormat>,
}

/// What whole numbers in a column of times count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImportTimeUnit {
    /// Seconds
    S,
    /// Milliseconds
    Ms,
    /// Microseconds
    Us,
    /// Nanoseconds
    Ns,
}
