//! OTLP/gRPC. The request message is handed on as bytes: the decoder reads them in place.
//!
//! Source: <https://opentelemetry.io/docs/specs/otlp/#otlpgrpc>

mod codec;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request, extract::State, http::header, response::Response, routing::post};
use bytes::Bytes;
use prost::Message;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    codec::CompressionEncoding,
    server::{Grpc, UnaryService},
    service::Routes,
    transport::Server,
};

use self::codec::BytesCodec;
use crate::{
    admission::Admission,
    authorization::authorize,
    error::{Error, ErrorKind, Result},
    http::answer::{RETRY_AFTER_SECONDS, STORAGE_RETRY_AFTER_SECONDS, export_response},
    ingest::{Format, Ingest},
    rpc_status::RpcStatus,
};

const EXPORT_METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/";
const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/";
/// A client that vanished without a word is noticed by an unanswered ping.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Serves OTLP/gRPC until `shutdown`, then lets requests in flight end.
///
/// # Errors
/// [`Error::ServeGrpc`] if the listener fails.
pub async fn serve_grpc(ingest: Arc<Ingest>, listener: TcpListener, shutdown: CancellationToken) -> Result<()> {
    let router = Router::new().route(EXPORT_METRICS, post(export)).fallback(unsupported).with_state(ingest);
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .add_routes(Routes::from(router))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async move { shutdown.cancelled().await })
        .await?;
    Ok(())
}

async fn export(State(ingest): State<Arc<Ingest>>, request: Request) -> Response {
    let response = match admit(&ingest, &request) {
        Ok(admission) => {
            let mut grpc = Grpc::new(BytesCodec)
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Zstd)
                .max_decoding_message_size(ingest.config().decompressed_size_max);
            let service = Export { ingest: Arc::clone(&ingest), admission: Some(admission) };
            grpc.unary(service, request).await.map(Body::new)
        }
        Err(error) => status(&error).into_http(),
    };
    let (response, code) = permanent_if_too_large(&ingest, response);
    ingest.metrics().request("grpc", code);
    response
}

fn admit(ingest: &Ingest, request: &Request) -> Result<Admission> {
    let token = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
    authorize(&ingest.config().tokens, token)?;
    ingest.gate().enter()
}

/// The library answers OUT_OF_RANGE or RESOURCE_EXHAUSTED to a message over the limit, and OTLP clients may send such
/// a request again for ever; an invalid argument they drop.
fn permanent_if_too_large(ingest: &Ingest, response: Response) -> (Response, i64) {
    let answered = Status::from_header_map(response.headers()).unwrap_or_else(|| Status::ok(""));
    // With details it is an answer of ours, which says when to come again.
    if !matches!(answered.code(), Code::OutOfRange | Code::ResourceExhausted) || !answered.details().is_empty() {
        return (response, answered.code() as i64);
    }
    let limit_bytes = ingest.config().decompressed_size_max;
    let error = Error::TooLarge { stage: "after decompression", limit_bytes, setting: "decompressed_size_max" };
    let status = status(&error);
    let code = status.code() as i64;
    (status.into_http(), code)
}

async fn unsupported(State(ingest): State<Arc<Ingest>>, request: Request) -> Response {
    let path = request.uri().path();
    let message = if path.starts_with(LOGS) {
        "Driftwatt stores metrics only; export logs to another backend, or set OTEL_LOGS_EXPORTER=none"
    } else if path.starts_with(TRACES) {
        "Driftwatt stores metrics only; export traces to another backend, or set OTEL_TRACES_EXPORTER=none"
    } else {
        "no such method; send metrics to opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
    };
    ingest.metrics().request("grpc", Code::Unimplemented as i64);
    Status::unimplemented(message).into_http()
}

struct Export {
    ingest: Arc<Ingest>,
    // Taken by the only message of the call.
    admission: Option<Admission>,
}

impl UnaryService<Bytes> for Export {
    type Response = Bytes;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let ingest = Arc::clone(&self.ingest);
        let admission = self.admission.take();
        Box::pin(async move {
            let Some(admission) = admission else { return Err(Status::internal("a second message in a unary call")) };
            match ingest.export_admitted(admission, request.into_inner(), Format::Protobuf).await {
                Ok(outcome) => Ok(tonic::Response::new(export_response(&outcome).encode_to_vec().into())),
                Err(error) => Err(status(&error)),
            }
        })
    }
}

fn status(error: &Error) -> Status {
    let (code, retry) = match error.kind() {
        ErrorKind::Overloaded | ErrorKind::Unavailable => (Code::Unavailable, Some(RETRY_AFTER_SECONDS)),
        ErrorKind::StorageFull => (Code::ResourceExhausted, Some(STORAGE_RETRY_AFTER_SECONDS)),
        ErrorKind::Invalid | ErrorKind::TooLarge | ErrorKind::Unsupported => (Code::InvalidArgument, None),
        ErrorKind::Unauthenticated => (Code::Unauthenticated, None),
        ErrorKind::Internal => {
            tracing::error!(%error, "export failed");
            (Code::Internal, None)
        }
    };
    let message = error.to_string();
    match retry {
        Some(_) => {
            let details = RpcStatus::new(code as i32, message.clone(), retry).encode_to_vec();
            Status::with_details(code, message, details.into())
        }
        None => Status::new(code, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_helps_to_repeat_says_when() {
        let overloaded = status(&Error::Overloaded { what: "requests in flight" });
        assert_eq!(overloaded.code(), Code::Unavailable);
        let details = RpcStatus::decode(overloaded.details()).unwrap();
        assert_eq!(details.code, Code::Unavailable as i32);
        assert_eq!(details.details[0].type_url, "type.googleapis.com/google.rpc.RetryInfo");
        // Field 1, a message of two bytes: seconds (field 1) is 1.
        assert_eq!(details.details[0].value, [0x0a, 2, 0x08, 1]);
        let full = driftwatt_store::Error::DiskFull { path: "/data".into(), free_bytes: 1, needed_bytes: 2 };
        let full = status(&Error::Store(full));
        assert_eq!(full.code(), Code::ResourceExhausted);
        assert_eq!(RpcStatus::decode(full.details()).unwrap().details[0].value, [0x0a, 2, 0x08, 5]);
        let refused = status(&Error::Unauthenticated);
        assert_eq!((refused.code(), refused.details()), (Code::Unauthenticated, [].as_slice()));
    }
}
