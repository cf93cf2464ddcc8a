//! `/api/v1/sql/jobs`: submit, look at, fetch and remove.

use axum::{
    Json,
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::BytesMut;
use futures::{Stream, stream};
use serde_json::json;
use tokio::{fs::File, io::AsyncReadExt};

use super::{Shared, not_found, question::HttpQuestion, respond};
use crate::{
    body::BodyError,
    compression::Encoding,
    error::{Error, Result},
    format::Format,
    jobs::{Job, JobQuestion, State as JobState},
};

/// What is read of a result at once.
const PIECE_SIZE_BYTES: usize = 256 << 10;

pub(super) async fn list(State(shared): State<Shared>) -> Response {
    Json(json!({ "jobs": shared.jobs.all() })).into_response()
}

pub(super) async fn submit(State(shared): State<Shared>, request: Request) -> Response {
    let headers = request.headers().clone();
    let submitted = async {
        let question = HttpQuestion::read(request).await?;
        if question.explain.is_some() {
            return Err(Error::invalid("a job has no explain; run EXPLAIN ANALYZE as its query"));
        }
        let (format, timeout) = (Format::wanted(question.format.as_deref(), &headers)?, question.timeout());
        shared.jobs.submit(JobQuestion { query: question.query, params: question.params, format, timeout })
    };
    match submitted.await {
        Ok(job) => {
            let location = [(header::LOCATION, format!("/api/v1/sql/jobs/{}", job.id()))];
            (StatusCode::ACCEPTED, location, Json(shared.jobs.describe(&job))).into_response()
        }
        Err(error) => error.into_response(),
    }
}

fn unknown(id: &str) -> Response {
    not_found(format!("there is no job {id}; it was removed, or its time is over"))
}

pub(super) async fn look(State(shared): State<Shared>, Path(id): Path<String>) -> Response {
    match shared.jobs.job(&id) {
        Some(job) => Json(shared.jobs.describe(&job)).into_response(),
        None => unknown(&id),
    }
}

pub(super) async fn remove(State(shared): State<Shared>, Path(id): Path<String>) -> Response {
    if shared.jobs.remove(&id) { Json(json!({ "removed": id })).into_response() } else { unknown(&id) }
}

pub(super) async fn result(State(shared): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let Some(job) = shared.jobs.job(&id) else { return unknown(&id) };
    match job.state() {
        JobState::Waiting | JobState::Running => {
            let message = "the job has no result yet; ask for its state";
            let error = json!({ "kind": "invalid", "message": message });
            (StatusCode::CONFLICT, Json(json!({ "error": error }))).into_response()
        }
        JobState::Failed(error) => (error.status(), Json(json!({ "error": error.to_json() }))).into_response(),
        JobState::Done(result) => {
            let sent = async { Ok(send(&job, result.open().await?, result.size_bytes(), &headers)) };
            sent.await.unwrap_or_else(|error: Error| error.into_response())
        }
    }
}

fn send(job: &Job, file: File, size_bytes: u64, headers: &HeaderMap) -> Response {
    let format = job.format();
    let encoding = Encoding::accepted(headers).filter(|_| !format.is_compressed());
    let mut response = respond(pieces(file), format, encoding);
    let headers = response.headers_mut();
    if encoding.is_none() {
        headers.insert(header::CONTENT_LENGTH, size_bytes.into());
    }
    let name = format!("attachment; filename=\"{}.{}\"", job.id(), format.name());
    if let Ok(name) = HeaderValue::from_str(&name) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    response
}

fn pieces(file: File) -> impl Stream<Item = Result<bytes::Bytes, BodyError>> + Send {
    stream::unfold(Some(file), async |file| {
        let mut file = file?;
        let mut piece = BytesMut::with_capacity(PIECE_SIZE_BYTES);
        match file.read_buf(&mut piece).await {
            Ok(0) => None,
            Ok(_) => Some((Ok(piece.freeze()), Some(file))),
            Err(error) => Some((Err(error.into()), None)),
        }
    })
}
