//! `GET` and `POST /api/v1/sql`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, FromRequest, Query, Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    body::{Begun, body},
    config::Config,
    error::{Error, ErrorKind, Result},
    metrics::{Metrics, Running},
    output::{BatchWriter, Format, json_answer},
    run,
};

/// A query text longer than this is refused.
const QUERY_SIZE_BYTES_MAX: usize = 1 << 20;

struct Sql {
    ctx: SessionContext,
    config: Config,
    slots: Arc<Semaphore>,
    metrics: Metrics,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
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

/// The SQL routes over `ctx`.
pub fn router(ctx: SessionContext, config: Config) -> Router {
    let slots = Arc::new(Semaphore::new(config.concurrency_max));
    Router::new()
        .route("/api/v1/sql", get(sql).post(sql))
        .layer(DefaultBodyLimit::max(QUERY_SIZE_BYTES_MAX))
        .with_state(Arc::new(Sql { ctx, config, slots, metrics: Metrics::new() }))
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, kind) = match self.kind() {
            ErrorKind::Invalid => (StatusCode::BAD_REQUEST, "invalid"),
            ErrorKind::Denied => (StatusCode::FORBIDDEN, "denied"),
            ErrorKind::Timeout => (StatusCode::GATEWAY_TIMEOUT, "timeout"),
            ErrorKind::Limit => (StatusCode::TOO_MANY_REQUESTS, "limit"),
            ErrorKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        if kind == "internal" {
            tracing::error!(error = %self, "query failed");
        }
        let position = if let Self::Invalid { position, .. } = &self { *position } else { None };
        let body = json!({ "error": { "kind": kind, "message": self.to_string(), "position": position } });
        let mut response = (status, Json(body)).into_response();
        if matches!(self, Self::Busy { .. }) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

async fn sql(State(sql): State<Arc<Sql>>, request: Request) -> Response {
    match question(request).await {
        Ok(question) => sql.answer(question).await.unwrap_or_else(IntoResponse::into_response),
        Err(error) => error.into_response(),
    }
}

async fn question(request: Request) -> Result<Question> {
    if request.method() == Method::GET {
        let Query(get) =
            Query::<GetQuestion>::try_from_uri(request.uri()).map_err(|error| Error::invalid(error.body_text()))?;
        return Ok(Question { query: get.query, params: vec![], format: get.format, timeout_ms: get.timeout_ms });
    }
    let body = Bytes::from_request(request, &()).await.map_err(|error| Error::invalid(error.body_text()))?;
    serde_json::from_slice(&body)
        .map_err(|error| Error::invalid(format!("the body must be JSON like {{\"query\": \"SELECT 1\"}}: {error}")))
}

impl Sql {
    async fn answer(&self, question: Question) -> Result<Response> {
        let format = Format::parse(question.format.as_deref().unwrap_or("json"))?;
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_full| {
            self.metrics.refused();
            Error::Busy { running: self.config.concurrency_max }
        })?;
        let running = self.metrics.begin();
        if format != Format::Json {
            return self.streamed(question, format, slot, running).await;
        }
        let answer = self.whole(&question, running.started()).await;
        match &answer {
            Ok(_) => running.answered(),
            Err(error) => running.failed(error),
        }
        answer.map(|answer| Json(answer).into_response())
    }

    /// Shorter than the server's limit, never longer.
    fn timeout(&self, question: &Question) -> Duration {
        let asked = question.timeout_ms.map_or(self.config.timeout, Duration::from_millis);
        asked.min(self.config.timeout)
    }

    async fn whole(&self, question: &Question, started: Instant) -> Result<Value> {
        let timeout = self.timeout(question);
        let work = async {
            let stream = run::start(&self.ctx, &question.query, &question.params).await?;
            json_answer(&question.query, stream, self.config.rows_max, started).await
        };
        tokio::time::timeout(timeout, work).await.map_err(|_elapsed| Error::Timeout { timeout })?
    }

    /// The first batch is awaited before the status is sent, so that most errors still get their own status.
    async fn streamed(
        &self,
        question: Question,
        format: Format,
        slot: OwnedSemaphorePermit,
        running: Running,
    ) -> Result<Response> {
        let timeout = self.timeout(&question);
        let of = |error| Error::of(&question.query, error);
        let first = async {
            let mut stream = run::start(&self.ctx, &question.query, &question.params).await?;
            let first = stream.next().await.transpose().map_err(of)?;
            let writer = BatchWriter::new(format, stream.schema()).map_err(|error| of(error.into()))?;
            Ok((stream, first, writer))
        };
        let first = tokio::time::timeout(timeout, first).await.map_err(|_elapsed| Error::Timeout { timeout });
        let (batches, first, writer) = match first.flatten() {
            Ok(first) => first,
            Err(error) => {
                running.failed(&error);
                return Err(error);
            }
        };
        let begun = Begun { first, batches, writer, slot, running, timeout };
        Ok(([(header::CONTENT_TYPE, format.content_type())], Body::from_stream(body(begun))).into_response())
    }
}
