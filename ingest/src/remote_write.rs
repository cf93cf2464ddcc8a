//! Prometheus remote write 1.0 and 2.0: `POST /api/v1/write`.
//!
//! Stock senders repeat a request after a status of 5xx and drop it after one of 4xx, 429 included unless they are told
//! otherwise. So overload is 503 here, 400 means that what is missing will never be stored, and 429 that of what is missing
//! some may be stored later.
//!
//! Source: <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/>

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
    routing::post,
};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    decode::WriteMessage,
    error::{Error, ErrorKind, Result},
    http::{
        answer::{RETRY_AFTER_SECONDS, STORAGE_RETRY_AFTER_SECONDS},
        body::{check_token, receive_body},
    },
    ingest::{Ingest, Outcome},
};

const PATH: &str = "/api/v1/write";
const SAMPLES_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-samples-written");
const HISTOGRAMS_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-histograms-written");
const EXEMPLARS_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-exemplars-written");
/// Seconds after which there may be room for series that were refused for now.
const NEW_SERIES_RETRY_AFTER_SECONDS: u32 = 60;

/// What the handlers share.
#[derive(Debug, Clone)]
struct Receiver {
    ingest: Arc<Ingest>,
    runtime: Handle,
}

/// The route of remote write. Whatever runtime serves it, requests are decoded and stored on the one it is made in.
///
/// # Panics
/// Outside a Tokio runtime.
pub fn remote_write(ingest: Arc<Ingest>) -> Router {
    let receiver = Receiver { ingest, runtime: Handle::current() };
    Router::new().route(PATH, post(write).fallback(wrong_method)).with_state(receiver)
}

async fn write(State(receiver): State<Receiver>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let response = match negotiate(&parts.headers) {
        Ok(message) => {
            let outcome = receive(&receiver, &parts.headers, body, message).await;
            let written = outcome.as_ref().ok().cloned().unwrap_or_default();
            let mut response = outcome.map_or_else(|error| failure(&error), |outcome| answer(&outcome));
            // A sender of 2.0 takes an answer without these for that of a receiver which does not know it.
            if message == WriteMessage::V2 {
                put_written(response.headers_mut(), &written);
            }
            response
        }
        Err(error) => failure(&error),
    };
    receiver.ingest.metrics().request("remote_write", response.status().as_u16().into());
    response
}

async fn receive(receiver: &Receiver, headers: &HeaderMap, body: Body, message: WriteMessage) -> Result<Outcome> {
    check_token(&receiver.ingest, headers)?;
    let (admission, body) = receive_body(&receiver.ingest, headers, body).await?;
    let ingest = Arc::clone(&receiver.ingest);
    // The port is that of queries, whose threads may give way to those that receive and store: this is receiving.
    let stored = receiver.runtime.spawn(async move { ingest.write_admitted(admission, body, message).await });
    AbortOnDropHandle::new(stored).await?
}

/// Which message the body holds, by content type and encoding.
fn negotiate(headers: &HeaderMap) -> Result<WriteMessage> {
    let value = |name: HeaderName| {
        let value = headers.get(name).map(|value| value.as_bytes()).unwrap_or_default();
        String::from_utf8_lossy(value).chars().take(200).collect::<String>()
    };
    let encoding = value(header::CONTENT_ENCODING);
    // Senders from before the specification leave it out.
    if !matches!(encoding.trim().to_ascii_lowercase().as_str(), "" | "snappy") {
        return Err(Error::WriteContentEncoding(encoding));
    }
    let content_type = value(header::CONTENT_TYPE);
    message(&content_type).ok_or(Error::WriteContentType(content_type))
}

fn message(content_type: &str) -> Option<WriteMessage> {
    let mut parts = content_type.split(';').map(str::trim);
    if !parts.next().is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/x-protobuf")) {
        return None;
    }
    let mut parameters = parts.filter_map(|part| part.split_once('='));
    let proto = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("proto"));
    match proto.map(|(_, proto)| proto.trim().trim_matches('"')) {
        None | Some("prometheus.WriteRequest") => Some(WriteMessage::V1),
        Some("io.prometheus.write.v2.Request") => Some(WriteMessage::V2),
        Some(_) => None,
    }
}

fn answer(outcome: &Outcome) -> Response {
    let Outcome { stored_count, rejected_count, passing_count, message, .. } = outcome;
    if *rejected_count == 0 {
        return respond(StatusCode::NO_CONTENT, String::new());
    }
    if *passing_count > 0 {
        // Sent again, what is stored already is stored once, and what is hopeless is refused again.
        let text = format!("{rejected_count} points were refused for now, {stored_count} were stored: {message}\n");
        return retry_after(respond(StatusCode::TOO_MANY_REQUESTS, text), NEW_SERIES_RETRY_AFTER_SECONDS);
    }
    let text = format!(
        "{rejected_count} points were refused and must not be sent again, {stored_count} were stored: {message}\n"
    );
    respond(StatusCode::BAD_REQUEST, text)
}

fn failure(error: &Error) -> Response {
    let (status, retry) = match error.kind() {
        ErrorKind::Overloaded | ErrorKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, Some(RETRY_AFTER_SECONDS)),
        ErrorKind::StorageFull => (StatusCode::SERVICE_UNAVAILABLE, Some(STORAGE_RETRY_AFTER_SECONDS)),
        ErrorKind::Invalid => (StatusCode::BAD_REQUEST, None),
        ErrorKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, None),
        ErrorKind::Unsupported => (StatusCode::UNSUPPORTED_MEDIA_TYPE, None),
        ErrorKind::Unauthenticated => (StatusCode::UNAUTHORIZED, None),
        ErrorKind::Internal => {
            tracing::error!(%error, "remote write failed");
            (StatusCode::INTERNAL_SERVER_ERROR, None)
        }
    };
    let mut response = respond(status, format!("{error}\n"));
    if let Some(seconds) = retry {
        response = retry_after(response, seconds);
    }
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

async fn wrong_method(State(receiver): State<Receiver>) -> Response {
    receiver.ingest.metrics().request("remote_write", 405);
    let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, format!("send metrics with POST {PATH}\n"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}

/// There is no table for exemplars, so none is ever written.
fn put_written(headers: &mut HeaderMap, outcome: &Outcome) {
    headers.insert(SAMPLES_WRITTEN, HeaderValue::from(outcome.stored_count - outcome.histogram_count));
    headers.insert(HISTOGRAMS_WRITTEN, HeaderValue::from(outcome.histogram_count));
    headers.insert(EXEMPLARS_WRITTEN, HeaderValue::from(0));
}

fn retry_after(mut response: Response, seconds: u32) -> Response {
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

fn respond(status: StatusCode, text: String) -> Response {
    let is_empty = text.is_empty();
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    if !is_empty {
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, text);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_type_names_the_message() {
        for (content_type, expected) in [
            ("application/x-protobuf", Some(WriteMessage::V1)),
            ("application/x-protobuf;proto=prometheus.WriteRequest", Some(WriteMessage::V1)),
            ("application/x-protobuf; proto=io.prometheus.write.v2.Request", Some(WriteMessage::V2)),
            ("Application/X-Protobuf;Proto=\"io.prometheus.write.v2.Request\"", Some(WriteMessage::V2)),
            ("application/x-protobuf;charset=utf-8", Some(WriteMessage::V1)),
            ("application/x-protobuf;proto=io.prometheus.write.v3.Request", None),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(message(content_type), expected, "{content_type:?}");
        }
    }

    #[test]
    fn a_stock_sender_comes_again_after_overload() {
        let response = failure(&Error::Overloaded { what: "requests in flight" });
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }

    #[test]
    fn a_body_that_is_late_is_sent_again() {
        let response = failure(&Error::BodyTimeout { seconds: 30 });
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }
}
