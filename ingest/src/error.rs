//! What can go wrong with a request, by remedy.
#![expect(missing_docs, reason = "the messages name the fields")]

use std::io;

use crate::wire::Malformed;

/// Result with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of ingest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{0}")]
    Malformed(Malformed),
    #[error("malformed OTLP/JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("body cannot be decompressed as {encoding}: {reason}")]
    Decompress { encoding: &'static str, reason: String },
    #[error("body ended early: {0}")]
    Body(String),
    #[error("body did not arrive within {seconds} s; retry later")]
    BodyTimeout { seconds: u64 },
    #[error("request is over {limit_bytes} bytes {stage}; send smaller batches, or raise ingest.{setting}")]
    TooLarge { stage: &'static str, limit_bytes: usize, setting: &'static str },
    #[error("content type {0:?} is not supported; send application/x-protobuf or application/json")]
    ContentType(String),
    #[error("content encoding {0:?} is not supported; send gzip, zstd or identity")]
    ContentEncoding(String),
    #[error(
        "content type {0:?} is not supported; send application/x-protobuf, with proto=io.prometheus.write.v2.Request or \
         proto=prometheus.WriteRequest"
    )]
    WriteContentType(String),
    #[error("content encoding {0:?} is not supported; send snappy")]
    WriteContentEncoding(String),
    #[error("no valid bearer token; send the header `authorization: Bearer <token>`")]
    Unauthenticated,
    #[error("{what} are at their limit; retry later")]
    Overloaded { what: &'static str },
    #[error(transparent)]
    Store(#[from] driftwatt_store::Error),
    #[error("setting ingest.{name}: {reason}")]
    Config { name: &'static str, reason: String },
    #[error("serve OTLP: {0}")]
    Serve(#[from] io::Error),
    #[error("serve OTLP/gRPC: {0}")]
    ServeGrpc(#[from] tonic::transport::Error),
    #[error("decoding task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Errors by what the sender can do about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Retry later.
    Overloaded,
    /// Retry later; the disk is full, which somebody has to mend.
    StorageFull,
    /// Retry; the store is closed or restarting, or the network was too slow.
    Unavailable,
    /// Mend the request.
    Invalid,
    /// Send smaller requests.
    TooLarge,
    /// Send another content type or encoding.
    Unsupported,
    /// Send a token.
    Unauthenticated,
    /// A bug or an unexpected failure.
    Internal,
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl Error {
    /// The remedy this error asks for.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Malformed(_) | Self::Json(_) | Self::Decompress { .. } | Self::Body(_) | Self::Config { .. } => {
                ErrorKind::Invalid
            }
            // A slow network or a busy machine, on either side; the same bytes may arrive in time next time.
            Self::BodyTimeout { .. } => ErrorKind::Unavailable,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::ContentType(_)
            | Self::ContentEncoding(_)
            | Self::WriteContentType(_)
            | Self::WriteContentEncoding(_) => ErrorKind::Unsupported,
            Self::Unauthenticated => ErrorKind::Unauthenticated,
            Self::Overloaded { .. } => ErrorKind::Overloaded,
            Self::Store(error) => match error.kind() {
                driftwatt_store::ErrorKind::Overloaded => ErrorKind::Overloaded,
                driftwatt_store::ErrorKind::StorageFull => ErrorKind::StorageFull,
                driftwatt_store::ErrorKind::Unavailable => ErrorKind::Unavailable,
                driftwatt_store::ErrorKind::Invalid => ErrorKind::Invalid,
                _ => ErrorKind::Internal,
            },
            Self::Serve(_) | Self::ServeGrpc(_) | Self::Task(_) => ErrorKind::Internal,
        }
    }
}
