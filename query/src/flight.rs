//! Arrow Flight SQL: answers as Arrow batches over gRPC, for ADBC, JDBC, Python, DuckDB and notebooks.
//!
//! What a client asks for is in its ticket, so that nothing waits here between `GetFlightInfo` and `DoGet`; only prepared
//! statements are kept, within a limit. Answers are those of [`Questions`]: a client that reads slowly slows its query
//! down, one that leaves ends it.
//!
//! Source: <https://arrow.apache.org/docs/format/FlightSql.html>

mod access;
mod command;
mod connection;
mod metadata;
mod parameters;
mod prepared;
mod running;
mod server_info;
mod service;
mod statement;
mod xdbc_types;

use std::{collections::HashSet, fmt, time::Duration};

use arrow::{datatypes::SchemaRef, error::ArrowError};
use arrow_flight::{encode::FlightDataEncoderBuilder, flight_service_server::FlightServiceServer};
use futures::stream;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, service::interceptor::InterceptedService, transport::Server};

use self::{access::Access, connection::incoming, service::Service};
use crate::{
    error::{Error, ErrorKind, Result},
    questions::Questions,
    tls::Tls,
};

/// A request longer than this is refused: a statement, a ticket, or a row of parameters.
const MESSAGE_SIZE_BYTES_MAX: usize = 4 << 20;
/// Calls at once on one connection; further ones wait.
const CALLS_MAX: u32 = 128;
/// A client that vanished without a word is noticed by an unanswered ping.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Who may ask over Flight SQL, and how.
#[derive(Default)]
pub struct FlightOptions {
    /// Accepted bearer tokens; empty: everybody may ask.
    pub tokens: HashSet<String>,
    /// Certificate and key; none: without encryption.
    pub tls: Option<Tls>,
}

// By hand, so that no log shows a token.
impl fmt::Debug for FlightOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlightOptions").field("tokens", &self.tokens.len()).field("tls", &self.tls).finish()
    }
}

/// Answers Flight SQL clients of `listener` until `shutdown`, then lets calls in flight end.
///
/// # Errors
/// [`Error::ServeFlight`] if the listener fails.
pub async fn serve_flight(
    questions: Questions,
    options: FlightOptions,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<()> {
    let connections_max = questions.config().connections_max;
    let service = FlightServiceServer::new(Service::new(questions)).max_decoding_message_size(MESSAGE_SIZE_BYTES_MAX);
    // In front of every call, so that none can forget it.
    let service = InterceptedService::new(service, Access::new(options.tokens, connections_max));
    let incoming = incoming(listener, options.tls, connections_max);
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .max_concurrent_streams(CALLS_MAX)
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, async move { shutdown.cancelled().await })
        .await
        .map_err(|error| Error::ServeFlight(Box::new(error)))
}

/// The gRPC status of an error of a question.
fn status(error: &Error) -> Status {
    let code = match error.kind() {
        ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::Denied => Code::PermissionDenied,
        ErrorKind::Timeout => Code::DeadlineExceeded,
        ErrorKind::Limit => Code::ResourceExhausted,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::Internal => Code::Internal,
    };
    if code == Code::Internal {
        tracing::error!(%error, "query failed");
    }
    match error {
        Error::Invalid { message, position: Some(position), .. } => {
            Status::new(code, format!("{message} (character {position})"))
        }
        _ => Status::new(code, error.to_string()),
    }
}

/// The status of what can only fail by a fault of ours.
fn internal(error: ArrowError) -> Status {
    tracing::error!(%error, "Flight SQL answer failed");
    Status::internal(error.to_string())
}

/// How rows of `schema` are sent: dictionaries as the values they stand for, which every client reads.
fn sent_schema(schema: SchemaRef) -> SchemaRef {
    let encoder = FlightDataEncoderBuilder::new().with_schema(SchemaRef::clone(&schema)).build(stream::empty());
    encoder.known_schema().unwrap_or(schema)
}
