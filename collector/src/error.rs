//! What can go wrong in the collector.
#![expect(missing_docs, reason = "the messages name the fields")]

use std::io;

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
}
