//! `POST /api/v1/labels` and `POST /api/v1/lineage/work-trees`: what programs tell of predictions and of data.

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use chrono::Utc;
use driftwatt_analyze::lineage::{
    prediction_label::{self, LabelRequest, TakenLabels},
    work_tree::WorkTree,
};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{Shared, answer_status, failure};

/// Bytes of a body.
pub(super) const BODY_BYTES_MAX: usize = 16 << 20;

/// The body as what it should be, or the answer that says why not.
#[expect(clippy::result_large_err, reason = "the error is the answer")]
fn read<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>, what: &'static str) -> Result<T, Response> {
    let body = body.map_err(|rejection| {
        let status = rejection.status();
        let error = match status {
            StatusCode::PAYLOAD_TOO_LARGE => anyhow::anyhow!("more than 16 MiB: send several requests"),
            _ => anyhow::Error::new(rejection),
        };
        failure(status, &error)
    })?;
    serde_json::from_slice(&body)
        .map_err(|error| failure(StatusCode::BAD_REQUEST, &anyhow::Error::from(error).context(what)))
}

/// Takes what can be used of some labels; the rest is refused label by label.
pub(super) async fn labels(State(web): Shared, body: Result<Bytes, BytesRejection>) -> Response {
    let request: LabelRequest = match read(body, "labels") {
        Ok(request) => request,
        Err(answer) => return answer,
    };
    match prediction_label::take(&web.store, &request, Utc::now().timestamp_micros()).await {
        Ok(taken) if taken.taken == 0 => {
            let first = taken.reasons.first().map_or("", |refused| refused.reason.as_str());
            let error = json!({ "kind": "invalid", "message": format!("no label can be used; the first: {first}") });
            let TakenLabels { taken, refused, reasons } = taken;
            let body = json!({ "error": error, "taken": taken, "refused": refused, "reasons": reasons });
            (StatusCode::BAD_REQUEST, Json(body)).into_response()
        }
        Ok(taken) => Json(taken).into_response(),
        Err(error) => {
            let error = error.into();
            failure(answer_status(&error), &error)
        }
    }
}

/// Records what the DVC files of a work tree name.
pub(super) async fn work_tree(State(web): Shared, body: Result<Bytes, BytesRejection>) -> Response {
    let tree: WorkTree = match read(body, "work tree") {
        Ok(tree) => tree,
        Err(answer) => return answer,
    };
    match tree.record(&web.store, Utc::now().timestamp_micros()).await {
        Ok(()) => Json(json!({ "datasets": tree.data.len() })).into_response(),
        Err(error) => {
            let error = error.into();
            failure(answer_status(&error), &error)
        }
    }
}
