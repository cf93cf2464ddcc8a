//! `POST /api/v1/lineage`: one run event of OpenLineage, at the path that its HTTP transport uses by default.

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use chrono::Utc;
use driftwatt_analyze::{
    Error,
    lineage::{event_inlet, open_lineage::EventError},
};
use serde_json::json;

use super::{Shared, answer_status, failure};

pub(super) async fn take(State(web): Shared, headers: HeaderMap, body: Result<Bytes, BytesRejection>) -> Response {
    let encoding = headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("unreadable"));
    if let Some(encoding) = encoding.filter(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        let error = anyhow::anyhow!("the event is encoded as {encoding}: send it as plain JSON");
        return failure(StatusCode::UNSUPPORTED_MEDIA_TYPE, &error);
    }
    let body = match body {
        Ok(body) => body,
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let error = anyhow::anyhow!("event of more than 1 MiB: leave large facets out");
            return failure(StatusCode::PAYLOAD_TOO_LARGE, &error);
        }
        Err(rejection) => return failure(StatusCode::BAD_REQUEST, &anyhow::Error::new(rejection)),
    };
    match event_inlet::take(&web.store, &body, Utc::now().timestamp_micros()).await {
        Ok(taken) => {
            Json(json!({ "datasets": taken.dataset_count, "facets_left_out": taken.facets_left_out })).into_response()
        }
        Err(error) => {
            let is_too_large = matches!(error, Error::LineageEvent(EventError::TooLarge { .. }));
            let error = anyhow::Error::from(error);
            failure(if is_too_large { StatusCode::PAYLOAD_TOO_LARGE } else { answer_status(&error) }, &error)
        }
    }
}
