//! Answers of OTLP/HTTP, in the format of the request.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use prost::Message;
use serde_json::json;

use crate::{
    error::{Error, ErrorKind},
    ingest::{Format, Outcome},
    rpc_status::{ExportResponse, PartialSuccess, RpcStatus},
};

/// Seconds after which an overloaded server may be asked again.
pub(crate) const RETRY_AFTER_SECONDS: u32 = 1;
/// Seconds after which a server without disk space may be asked again: space is rarely back sooner.
pub(crate) const STORAGE_RETRY_AFTER_SECONDS: u32 = 5;

pub(super) fn success(outcome: &Outcome, format: Format) -> Response {
    let body = match format {
        Format::Protobuf => export_response(outcome).encode_to_vec(),
        Format::Json if outcome.message.is_empty() => b"{}".to_vec(),
        // The proto3 JSON mapping writes 64-bit integers as text.
        Format::Json => json!({ "partialSuccess": {
            "rejectedDataPoints": outcome.rejected_count.to_string(),
            "errorMessage": outcome.message,
        } })
        .to_string()
        .into_bytes(),
    };
    respond(StatusCode::OK, body, format)
}

/// `ExportMetricsServiceResponse`; without partial success if nothing was refused, as the specification asks.
pub(crate) fn export_response(outcome: &Outcome) -> ExportResponse {
    let partial_success = (!outcome.message.is_empty()).then(|| PartialSuccess {
        rejected_data_points: i64::try_from(outcome.rejected_count).unwrap_or(i64::MAX),
        error_message: outcome.message.clone(),
    });
    ExportResponse { partial_success }
}

pub(super) fn failure(error: &Error, format: Format) -> Response {
    let (status, retry) = match error.kind() {
        ErrorKind::Overloaded => (StatusCode::TOO_MANY_REQUESTS, Some(RETRY_AFTER_SECONDS)),
        ErrorKind::StorageFull => (StatusCode::SERVICE_UNAVAILABLE, Some(STORAGE_RETRY_AFTER_SECONDS)),
        ErrorKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, Some(RETRY_AFTER_SECONDS)),
        ErrorKind::Invalid => (StatusCode::BAD_REQUEST, None),
        ErrorKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, None),
        ErrorKind::Unsupported => (StatusCode::UNSUPPORTED_MEDIA_TYPE, None),
        ErrorKind::Unauthenticated => (StatusCode::UNAUTHORIZED, None),
        ErrorKind::Internal => {
            tracing::error!(%error, "export failed");
            (StatusCode::INTERNAL_SERVER_ERROR, None)
        }
    };
    let mut response = plain(status, &error.to_string(), format);
    if let Some(seconds) = retry {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

pub(super) fn plain(status: StatusCode, message: &str, format: Format) -> Response {
    let code = match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => tonic::Code::Unavailable,
        StatusCode::UNAUTHORIZED => tonic::Code::Unauthenticated,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => tonic::Code::Unimplemented,
        StatusCode::INTERNAL_SERVER_ERROR => tonic::Code::Internal,
        _ => tonic::Code::InvalidArgument,
    } as i32;
    let body = match format {
        Format::Protobuf => RpcStatus::new(code, message.to_owned(), None).encode_to_vec(),
        Format::Json => json!({ "code": code, "message": message }).to_string().into_bytes(),
    };
    respond(status, body, format)
}

fn respond(status: StatusCode, body: Vec<u8>, format: Format) -> Response {
    let content_type = match format {
        Format::Protobuf => "application/x-protobuf",
        Format::Json => "application/json",
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;

    use super::*;

    #[test]
    fn clients_can_read_a_partial_success() {
        let outcome = Outcome { rejected_count: 3, message: "why".into(), ..Outcome::default() };
        let bytes = export_response(&outcome).encode_to_vec();
        let partial = ExportMetricsServiceResponse::decode(bytes.as_slice()).unwrap().partial_success.unwrap();
        assert_eq!((partial.rejected_data_points, partial.error_message.as_str()), (3, "why"));
        assert!(export_response(&Outcome::default()).encode_to_vec().is_empty());
    }

    #[test]
    fn overload_says_when_to_come_back() {
        let response = failure(&Error::Overloaded { what: "bytes in flight" }, Format::Protobuf);
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        let response = failure(&Error::ContentType("x".into()), Format::Json);
        assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert!(response.headers().get(header::RETRY_AFTER).is_none());
    }
}
