//! What can go wrong in the collector.
#![expect(missing_docs, reason = "the messages name the fields")]

use std::{io, path::PathBuf};

/// Result with the collector's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the collector.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is out of range.
    #[error("setting collector.{name}: {reason}")]
    Config { name: &'static str, reason: String },
    /// The exporters need a Tokio runtime to run on.
    #[error("the collector must be started inside a tokio runtime")]
    NoRuntime,
    /// The OTLP exporter refused its settings.
    #[error("build the OTLP exporter for {endpoint}")]
    Exporter { endpoint: String, source: opentelemetry_otlp::ExporterBuildError },
    /// The operating system started no thread for a source.
    #[error("start the {source_name} thread")]
    Thread { source_name: &'static str, source: io::Error },
    /// The process that reads GPUs could not take a request or give an answer.
    #[error("answer with GPU readings")]
    GpuProcess { source: io::Error },
    /// There is no client to scrape or to send with.
    #[error("scrape: {reason}")]
    Scrape { reason: String },
    /// The server did not accept an export, after all retries.
    #[error("export metrics: {reason}")]
    Export { reason: String },
    /// Two collectors cannot share a buffer.
    #[error("another collector uses the buffer {}; give each its own buffer_dir", .dir.display())]
    BufferInUse { dir: PathBuf },
    /// The operating system did not do what the buffer on disk needs.
    #[error("buffer: {action} {}: {source}", .path.display())]
    Buffer { action: &'static str, path: PathBuf, source: io::Error },
}

/// An error with its causes in one line: the first sentence alone does not say what happened.
pub(crate) fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
