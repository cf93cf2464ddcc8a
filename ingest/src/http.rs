//! OTLP/HTTP: `POST /v1/metrics` in protobuf or JSON.
//!
//! Source: <https://opentelemetry.io/docs/specs/otlp/#otlphttp>

pub(crate) mod answer;
pub(crate) mod body;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::Response,
    routing::post,
};
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::body::{check_token, receive_body};
use crate::{
    admission::Admission,
    compression::Encoding,
    error::{Error, Result},
    ingest::{Format, Ingest, Outcome},
};

/// Serves OTLP/HTTP until `shutdown`, then lets requests in flight end.
///
/// # Errors
/// [`Error::Serve`] if the listener fails.
pub async fn serve_http(ingest: Arc<Ingest>, listener: TcpListener, shutdown: CancellationToken) -> Result<()> {
    let signal = async move { shutdown.cancelled().await };
    axum::serve(listener, router(ingest)).with_graceful_shutdown(signal).await?;
    Ok(())
}

fn router(ingest: Arc<Ingest>) -> Router {
    Router::new().route("/v1/metrics", post(metrics).fallback(wrong_method)).fallback(unknown_path).with_state(ingest)
}

async fn metrics(State(ingest): State<Arc<Ingest>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let format = content_format(&parts.headers);
    // Without a known content type the error itself is written as JSON, which people can read.
    let answer_format = format.as_ref().copied().unwrap_or(Format::Json);
    let outcome = match format {
        Ok(format) => receive(&ingest, &parts.headers, body, format).await,
        Err(error) => Err(error),
    };
    let response = match outcome {
        Ok(outcome) => answer::success(&outcome, answer_format),
        Err(error) => answer::failure(&error, answer_format),
    };
    ingest.metrics().request("http", response.status().as_u16().into());
    response
}

async fn receive(ingest: &Ingest, headers: &HeaderMap, body: Body, format: Format) -> Result<Outcome> {
    check_token(ingest, headers)?;
    let encoding = match headers.get(header::CONTENT_ENCODING) {
        Some(value) => Encoding::parse(&String::from_utf8_lossy(value.as_bytes()))?,
        None => Encoding::Identity,
    };
    let (mut admission, body) = receive_body(ingest, headers, body).await?;
    let body = decompress(ingest, &mut admission, encoding, body).await?;
    ingest.export_admitted(admission, body, format).await
}

async fn decompress(ingest: &Ingest, admission: &mut Admission, encoding: Encoding, body: Bytes) -> Result<Bytes> {
    if encoding == Encoding::Identity {
        return Ok(body);
    }
    // Few bytes can become many, so even a small body goes to the blocking pool.
    let compressed_size = body.len();
    let (limit_bytes, stage_cpu) = (ingest.config().decompressed_size_max, ingest.metrics().stage_cpu());
    let work = move || stage_cpu.run("decompress", || encoding.decompress(&body, limit_bytes));
    let body = tokio::task::spawn_blocking(work).await??;
    admission.reserve(compressed_size + body.len())?;
    Ok(body.into())
}

fn content_format(headers: &HeaderMap) -> Result<Format> {
    let value = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    let text = String::from_utf8_lossy(value);
    match text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/x-protobuf" => Ok(Format::Protobuf),
        "application/json" => Ok(Format::Json),
        other => Err(Error::ContentType(other.chars().take(64).collect())),
    }
}

async fn wrong_method(State(ingest): State<Arc<Ingest>>) -> Response {
    let mut response =
        answer::plain(StatusCode::METHOD_NOT_ALLOWED, "send metrics with POST /v1/metrics", Format::Json);
    response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("POST"));
    ingest.metrics().request("http", 405);
    response
}

async fn unknown_path(State(ingest): State<Arc<Ingest>>, request: Request) -> Response {
    let format = content_format(request.headers()).unwrap_or(Format::Json);
    let message = match request.uri().path() {
        "/v1/logs" => "Driftwatt stores metrics only; export logs to another backend, or set OTEL_LOGS_EXPORTER=none",
        "/v1/traces" => {
            "Driftwatt stores metrics only; export traces to another backend, or set OTEL_TRACES_EXPORTER=none"
        }
        _ => "no such path; send metrics with POST /v1/metrics",
    };
    ingest.metrics().request("http", 404);
    answer::plain(StatusCode::NOT_FOUND, message, format)
}
