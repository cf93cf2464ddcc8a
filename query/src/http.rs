//! `GET` and `POST /api/v1/sql`, and `POST /api/v1/admin/queries/{id}/cancel`.

use std::time::Duration;

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, FromRequest, Path, Query, Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    answer::Answer,
    body::body,
    error::{Error, ErrorKind, Result},
    output::{BatchWriter, Format, json_answer},
    question_log::Surface,
    questions::{Asked, Questions},
    run,
};

/// A query text longer than this is refused.
const QUERY_SIZE_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PostQuestion {
    query: String,
    #[serde(default)]
    params: Vec<Value>,
    #[serde(default)]
    format: Option<String>,
    /// Shorter than the server's limit, never longer.
    #[serde(default)]
    timeout_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GetQuestion {
    query: String,
    #[serde(default)]
    format: Option<String>,
    #[serde(default)]
    timeout_ms: Option<u64>,
}

/// The SQL routes over `questions`.
pub fn router(questions: Questions) -> Router {
    Router::new()
        .route("/api/v1/sql", get(sql).post(sql))
        .route("/api/v1/admin/queries/{id}/cancel", post(cancel))
        .layer(DefaultBodyLimit::max(QUERY_SIZE_BYTES_MAX))
        .with_state(questions)
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = match self.kind() {
            ErrorKind::Invalid => StatusCode::BAD_REQUEST,
            ErrorKind::Denied => StatusCode::FORBIDDEN,
            ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            ErrorKind::Limit => StatusCode::TOO_MANY_REQUESTS,
            ErrorKind::Cancelled => StatusCode::CONFLICT,
            ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if self.kind() == ErrorKind::Internal {
            tracing::error!(error = %self, "query failed");
        }
        let position = if let Self::Invalid { position, .. } = &self { *position } else { None };
        let error = json!({ "kind": self.kind().name(), "message": self.to_string(), "position": position });
        let mut response = (status, Json(json!({ "error": error }))).into_response();
        if matches!(self, Self::Busy { .. }) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

async fn sql(State(questions): State<Questions>, request: Request) -> Response {
    match post_question(request).await {
        Ok(question) => answer(&questions, question).await.unwrap_or_else(IntoResponse::into_response),
        Err(error) => error.into_response(),
    }
}

async fn post_question(request: Request) -> Result<PostQuestion> {
    if request.method() == Method::GET {
        let Query(get) =
            Query::<GetQuestion>::try_from_uri(request.uri()).map_err(|error| Error::invalid(error.body_text()))?;
        return Ok(PostQuestion { query: get.query, params: vec![], format: get.format, timeout_ms: get.timeout_ms });
    }
    let body = Bytes::from_request(request, &()).await.map_err(|error| Error::invalid(error.body_text()))?;
    serde_json::from_slice(&body)
        .map_err(|error| Error::invalid(format!("the body must be JSON like {{\"query\": \"SELECT 1\"}}: {error}")))
}

async fn answer(questions: &Questions, question: PostQuestion) -> Result<Response> {
    let format = Format::parse(question.format.as_deref().unwrap_or("json"))?;
    let PostQuestion { query, params, timeout_ms, .. } = question;
    let asked =
        Asked { surface: Surface::Http, user: None, text: &query, timeout: timeout_ms.map(Duration::from_millis) };
    let question = questions.ask(asked).await?;
    let answer = question.answer(run::start(questions.session(), &query, &params)).await?;
    if format == Format::Json {
        return Ok(Json(json_answer(answer, questions.config().rows_max).await?).into_response());
    }
    streamed(answer, format).await
}

/// The first batch is awaited before the status is sent, so that most errors still get their own status.
async fn streamed(mut answer: Answer, format: Format) -> Result<Response> {
    let first = answer.next().await.transpose()?;
    let writer = BatchWriter::new(format, answer.schema()).map_err(|error| Error::of("", error.into()))?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], Body::from_stream(body(first, answer, writer)))
        .into_response())
}

async fn cancel(State(questions): State<Questions>, Path(id): Path<u64>) -> Response {
    if questions.cancel(id) {
        return Json(json!({ "cancelled": id })).into_response();
    }
    let message = format!("no query with the id {id} waits or runs; system.queries lists those that do");
    (StatusCode::NOT_FOUND, Json(json!({ "error": { "kind": "invalid", "message": message } }))).into_response()
}
