//! SQL over HTTP: `/api/v1/sql`, jobs below it, and `POST /api/v1/admin/queries/{id}/cancel`.

mod jobs;
mod question;

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Path, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::question::{Explain, HttpQuestion};
use crate::{
    answer::Answer,
    batch_writer::BatchWriter,
    body::{BodyError, body},
    compression::{Encoding, compressed},
    error::{Error, ErrorKind, Result},
    format::Format,
    jobs::Jobs,
    output::json_answer,
    question_log::Surface,
    questions::{Asked, Questions},
    run,
    summary::summary,
};

/// A whole answer smaller than this is not worth compressing.
const COMPRESSED_SIZE_BYTES_MIN: usize = 1024;

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    questions: Questions,
    jobs: Jobs,
}

/// The SQL routes over `questions`.
pub fn router(questions: Questions) -> Router {
    let jobs = Jobs::new(questions.clone());
    Router::new()
        .route("/api/v1/sql", get(sql).post(sql))
        .route("/api/v1/sql/jobs", get(jobs::list).post(jobs::submit))
        .route("/api/v1/sql/jobs/{id}", get(jobs::look).delete(jobs::remove))
        .route("/api/v1/sql/jobs/{id}/result", get(jobs::result))
        .route("/api/v1/admin/queries/{id}/cancel", post(cancel))
        .layer(DefaultBodyLimit::max(run::QUERY_SIZE_BYTES_MAX))
        .with_state(Shared { questions, jobs })
}

impl Error {
    fn status(&self) -> StatusCode {
        match self.kind() {
            ErrorKind::Invalid => StatusCode::BAD_REQUEST,
            ErrorKind::Denied => StatusCode::FORBIDDEN,
            ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            ErrorKind::Limit => StatusCode::TOO_MANY_REQUESTS,
            ErrorKind::Cancelled => StatusCode::CONFLICT,
            ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// As clients see it.
    pub(crate) fn to_json(&self) -> Value {
        let position = if let Self::Invalid { position, .. } = self { *position } else { None };
        json!({ "kind": self.kind().name(), "message": self.to_string(), "position": position })
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if self.kind() == ErrorKind::Internal {
            tracing::error!(error = %self, "query failed");
        }
        let mut response = (self.status(), Json(json!({ "error": self.to_json() }))).into_response();
        if matches!(self, Self::Busy { .. } | Self::Jobs { .. }) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Where there is nothing of this name.
fn not_found(message: String) -> Response {
    (StatusCode::NOT_FOUND, Json(json!({ "error": { "kind": "invalid", "message": message } }))).into_response()
}

async fn sql(State(shared): State<Shared>, request: Request) -> Response {
    let headers = request.headers().clone();
    let answered = async {
        let question = HttpQuestion::read(request).await?;
        answer(&shared.questions, question, &headers).await
    };
    answered.await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(questions: &Questions, question: HttpQuestion, headers: &HeaderMap) -> Result<Response> {
    let format = Format::wanted(question.format.as_deref(), headers)?;
    let HttpQuestion { query, params, explain, .. } = &question;
    let stop = CancellationToken::new();
    let asked = Asked { surface: Surface::Http, user: None, text: query, timeout: question.timeout(), stop };
    let asked = questions.ask(asked).await?;
    if *explain == Some(Explain::Analyze) {
        let mut plan = None;
        let begin = async {
            let (physical, batches) = run::start_with_plan(questions.session(), query, params).await?;
            plan = Some(physical);
            Ok(batches)
        };
        let answer = asked.answer(begin).await?;
        let plan = plan.ok_or_else(|| Error::invalid("there is no plan"))?;
        return Ok(whole(&summary(answer, &plan).await?, headers));
    }
    let answer = asked.answer(run::start(questions.session(), query, params)).await?;
    if format == Format::Json {
        return Ok(whole(&json_answer(answer, questions.config().rows_max).await?, headers));
    }
    streamed(answer, format, headers).await
}

/// A JSON answer.
fn whole(answer: &Value, headers: &HeaderMap) -> Response {
    let text = answer.to_string();
    let encoding = Encoding::accepted(headers).filter(|_| text.len() >= COMPRESSED_SIZE_BYTES_MIN);
    match encoding {
        Some(_) => respond(stream::iter([Ok(Bytes::from(text))]), Format::Json, encoding),
        None => ([(header::CONTENT_TYPE, Format::Json.content_type())], text).into_response(),
    }
}

/// The first piece is awaited before the status is sent, so that most errors still get their own status.
async fn streamed(answer: Answer, format: Format, headers: &HeaderMap) -> Result<Response> {
    let writer = BatchWriter::new(format, answer.schema(), answer.started());
    let writer = writer.map_err(|error| Error::of("", error.into()))?;
    let mut pieces = body(answer, writer).boxed();
    let first = pieces.next().await.transpose()?;
    let pieces = stream::iter(first.map(Ok)).chain(pieces).map_err(BodyError::from);
    let encoding = Encoding::accepted(headers).filter(|_| !format.is_compressed());
    Ok(respond(pieces, format, encoding))
}

/// Sends `pieces` as they come.
fn respond(
    pieces: impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static,
    format: Format,
    encoding: Option<Encoding>,
) -> Response {
    let content_type = (header::CONTENT_TYPE, format.content_type());
    let vary = (header::VARY, "accept, accept-encoding");
    let Some(encoding) = encoding else {
        return ([content_type, vary], Body::from_stream(pieces)).into_response();
    };
    match compressed(pieces, encoding) {
        Ok(pieces) => {
            let encoded = (header::CONTENT_ENCODING, encoding.name());
            ([content_type, vary, encoded], Body::from_stream(pieces)).into_response()
        }
        Err(error) => Error::Internal(error.into()).into_response(),
    }
}

async fn cancel(State(shared): State<Shared>, Path(id): Path<u64>) -> Response {
    if shared.questions.cancel(id) {
        return Json(json!({ "cancelled": id })).into_response();
    }
    not_found(format!("no query with the id {id} waits or runs; system.queries lists those that do"))
}
