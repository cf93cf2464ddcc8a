//! OTLP over gRPC and HTTP and Prometheus remote write, decoded to columnar batches.
//!
//! One pipeline serves every transport: [`Ingest::export`] decodes, validates, appends to the store and counts. What is
//! refused, and why, is in `docs/ingest.md`.

mod admission;
mod authorization;
mod compression;
mod config;
mod decode;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod grpc;
mod http;
mod ingest;
mod json;
mod metrics;
mod reason;
mod remote_write;
mod rpc_status;
mod wire;

pub use config::{Config, Limits, RawConfig};
pub use decode::{Decoded, Decoder};
pub use error::{Error, ErrorKind, Result};
pub use grpc::serve_grpc;
pub use http::serve_http;
pub use ingest::{Ingest, Outcome};
pub use reason::Reason;
pub use remote_write::remote_write;
pub use wire::Malformed;
