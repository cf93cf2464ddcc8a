//! Everything on the HTTP port: SQL (from the query crate), remote write (from ingest), the answers, administration,
//! health, own metrics, a start page.

mod lineage_events;
mod lineage_records;

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Query, State},
    http::{Method, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use chrono::{NaiveDate, Utc};
use datafusion::prelude::SessionContext;
use driftwatt_analyze::{
    PriceBook,
    gates::{DatasetRecord, TABLE},
    ledger::Decision,
    lineage::answer::LineageScope,
};
use driftwatt_ingest::Ingest;
use driftwatt_query::Questions;
use driftwatt_store::{Compaction, ErrorKind, Expiry, Retention, Store};
use serde::Deserialize;
use serde_json::json;

use crate::{
    answers::{
        Answer, DecideQuestion, Desk, DiagnoseQuestion, DriftQuestion, DriftSettings, Format, IdleQuestion,
        LineageQuestion, MarkQuestion, OffPeakQuestion, RecommendQuestion, StreamQuestion, VERDICT_HEADER,
        WeeklyQuestion, read_prices, record_batch,
    },
    config::Config,
    drift_gauges,
    lineage_outlet::LineageOutlet,
    retention,
    scheduler::SchedulerHandle,
    self_metrics::SelfMetrics,
};

/// What the handlers share.
struct Web {
    store: Arc<Store>,
    ingest: Arc<Ingest>,
    session: SessionContext,
    metrics: Arc<SelfMetrics>,
    prices: Option<PriceBook>,
    holidays: Vec<NaiveDate>,
    scope: LineageScope,
    drift: DriftSettings,
    retention: Retention,
    schedules: SchedulerHandle,
    /// Who is told of the jobs that are asked for and recorded; none is nobody.
    outlet: Option<LineageOutlet>,
}

type Shared = State<Arc<Web>>;

/// All routes of the HTTP port.
///
/// # Errors
/// A price book that cannot be read.
pub(crate) fn router(
    store: &Arc<Store>,
    ingest: &Arc<Ingest>,
    questions: &Questions,
    metrics: &Arc<SelfMetrics>,
    (schedules, outlet): (SchedulerHandle, Option<LineageOutlet>),
    config: &Config,
) -> anyhow::Result<Router> {
    let web = Web {
        store: Arc::clone(store),
        ingest: Arc::clone(ingest),
        session: questions.session().clone(),
        metrics: Arc::clone(metrics),
        prices: read_prices(config.prices.as_ref())?,
        holidays: config.holidays.clone(),
        scope: config.lineage.scope(),
        drift: config.drift.clone(),
        retention: config.store.retention.clone(),
        schedules,
        outlet,
    };
    let own = Router::new()
        .route("/", get(start_page))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(own_metrics))
        .route("/api/v1/openapi.json", get(openapi))
        .route("/api/v1/admin/flush", post(flush))
        .route("/api/v1/admin/compact", post(compact))
        .route("/api/v1/admin/retention", post(retain))
        .route("/api/v1/reports/weekly", get(weekly).post(weekly))
        .route("/api/v1/idle", get(idle).post(idle))
        .route("/api/v1/recommendations", get(recommend).post(recommend))
        .route("/api/v1/recommendations/{id}/accept", post(accept))
        .route("/api/v1/recommendations/{id}/reject", post(reject))
        .route("/api/v1/offpeak", get(off_peak).post(off_peak))
        .route("/api/v1/drift", get(drift).post(drift))
        .route("/api/v1/schedules", get(list_schedules))
        .route("/api/v1/schedules/{id}/run", post(run_schedule))
        .route("/api/v1/diagnose", get(diagnose).post(diagnose))
        .route("/api/v1/deployments", post(mark))
        .route("/api/v1/datasets", post(record_dataset))
        .route("/api/v1/check", post(check_stream))
        .route("/api/v1/lineage", get(lineage).post(lineage_events::take))
        .route("/api/v1/lineage/work-trees", post(lineage_records::work_tree).layer(large_body()))
        .route("/api/v1/labels", post(lineage_records::labels).layer(large_body()))
        .with_state(Arc::new(web));
    let written = driftwatt_ingest::remote_write(Arc::clone(ingest));
    Ok(own.merge(written).merge(driftwatt_query::router(questions.clone())))
}

/// Lets a body of labels or data be larger than usual.
fn large_body() -> DefaultBodyLimit {
    DefaultBodyLimit::max(lineage_records::BODY_BYTES_MAX)
}

fn failure(status: StatusCode, error: &anyhow::Error) -> Response {
    let kind = if status.is_client_error() { "invalid" } else { "internal" };
    (status, Json(json!({ "error": { "kind": kind, "message": format!("{error:#}") } }))).into_response()
}

async fn start_page() -> Html<&'static str> {
    Html(include_str!("web/start.html"))
}

/// What all routes are, for programs that make clients of it; `tests/it/openapi.rs` holds the two together.
async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("web/openapi.json")).into_response()
}

/// Ready means that a query is answered, not only that the port is open.
async fn ready(State(web): Shared) -> Response {
    let answered = match web.session.sql("SELECT count(*) FROM raw.rejections WHERE false").await {
        Ok(frame) => frame.collect().await.map(|_batches| ()),
        Err(error) => Err(error),
    };
    match answered {
        Ok(()) => "ready\n".into_response(),
        Err(error) => failure(StatusCode::SERVICE_UNAVAILABLE, &error.into()),
    }
}

async fn own_metrics(State(web): Shared) -> Response {
    match web.metrics.to_prometheus() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

async fn flush(State(web): Shared) -> Response {
    match web.store.flush().await {
        Ok(summary) => {
            let body =
                json!({ "rows": summary.row_count, "files": summary.file_count, "size_bytes": summary.size_bytes });
            Json(body).into_response()
        }
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error.into()),
    }
}

/// What `POST /api/v1/admin/compact` is to merge.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CompactMode {
    /// Every day into one run of files.
    #[default]
    Full,
    /// What the background task would merge now.
    Due,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CompactQuestion {
    #[serde(default)]
    mode: CompactMode,
}

async fn compact(State(web): Shared, Query(question): Query<CompactQuestion>) -> Response {
    let compaction = match question.mode {
        CompactMode::Full => Compaction::Full,
        CompactMode::Due => Compaction::Due,
    };
    match web.store.compact(compaction).await {
        Ok(summary) => {
            let body = json!({
                "files_before": summary.files_before, "files_after": summary.files_after,
                "rows": summary.row_count, "duplicates": summary.duplicate_count,
                "size_bytes_before": summary.size_bytes_before, "size_bytes_after": summary.size_bytes_after,
            });
            Json(body).into_response()
        }
        Err(error) => unfinished(error),
    }
}

/// The answer to long work of the store that ended early.
fn unfinished(error: driftwatt_store::Error) -> Response {
    let closing = error.kind() == ErrorKind::Unavailable;
    let status = if closing { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::INTERNAL_SERVER_ERROR };
    failure(status, &error.into())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetentionQuestion {
    #[serde(default)]
    dry_run: bool,
}

async fn retain(State(web): Shared, Query(question): Query<RetentionQuestion>) -> Response {
    let expiry = if question.dry_run { Expiry::DryRun } else { Expiry::Apply };
    match web.store.expire(&web.retention, expiry).await {
        Ok(report) => Json(retention::json(&report, expiry)).into_response(),
        Err(error) => unfinished(error),
    }
}

impl Web {
    /// A GET only looks; a POST also records the result as rows of its table.
    fn desk(&self, method: &Method) -> Desk<'_> {
        let store = (*method == Method::POST).then_some(&*self.store);
        Desk {
            session: &self.session,
            store,
            prices: self.prices.clone(),
            holidays: self.holidays.clone(),
            scope: self.scope.clone(),
            drift: &self.drift,
            now_us: Utc::now().timestamp_micros(),
        }
    }
}

/// Runs `job`; one that is recorded is told of, as it begins and as it ends.
async fn told<T>(
    web: &Web,
    method: &Method,
    job: &str,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let outlet = web.outlet.as_ref().filter(|_| *method == Method::POST);
    LineageOutlet::around(outlet, job, None, work).await
}

fn answer(format: Format, answer: anyhow::Result<impl Into<Answer>>) -> Response {
    match answer.map(Into::into) {
        Ok(Answer { text, verdict }) => {
            let verdict = verdict.map(|verdict| [(VERDICT_HEADER, verdict)]);
            (verdict, [(header::CONTENT_TYPE, format.content_type())], text).into_response()
        }
        Err(error) => failure(answer_status(&error), &error),
    }
}

/// What of an answer's error is not the question's fault is the server's.
fn answer_status(error: &anyhow::Error) -> StatusCode {
    match error.downcast_ref::<driftwatt_analyze::Error>().map(driftwatt_analyze::Error::kind) {
        None | Some(ErrorKind::Invalid) => StatusCode::BAD_REQUEST,
        Some(ErrorKind::Overloaded | ErrorKind::Unavailable) => StatusCode::SERVICE_UNAVAILABLE,
        Some(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

async fn weekly(method: Method, State(web): Shared, Query(question): Query<WeeklyQuestion>) -> Response {
    let desk = web.desk(&method);
    answer(question.format, told(&web, &method, "weekly-report", desk.weekly(&question)).await)
}

async fn idle(method: Method, State(web): Shared, Query(question): Query<IdleQuestion>) -> Response {
    let desk = web.desk(&method);
    answer(question.format, told(&web, &method, "idle", desk.idle(&question)).await)
}

async fn recommend(method: Method, State(web): Shared, Query(question): Query<RecommendQuestion>) -> Response {
    let desk = web.desk(&method);
    answer(question.format, told(&web, &method, "recommend", desk.recommend(&question)).await)
}

async fn off_peak(method: Method, State(web): Shared, Query(question): Query<OffPeakQuestion>) -> Response {
    answer(question.format, web.desk(&method).off_peak(&question).await)
}

async fn accept(State(web): Shared, Path(id): Path<String>, Query(question): Query<DecideQuestion>) -> Response {
    answer(question.format, web.desk(&Method::POST).decide(&id, Decision::Accept, &question).await)
}

async fn reject(State(web): Shared, Path(id): Path<String>, Query(question): Query<DecideQuestion>) -> Response {
    answer(question.format, web.desk(&Method::POST).decide(&id, Decision::Reject, &question).await)
}

async fn diagnose(method: Method, State(web): Shared, Query(question): Query<DiagnoseQuestion>) -> Response {
    let desk = web.desk(&method);
    answer(question.format, told(&web, &method, "diagnose", desk.diagnose(&question)).await)
}

async fn lineage(method: Method, State(web): Shared, Query(question): Query<LineageQuestion>) -> Response {
    answer(question.format, web.desk(&method).lineage(&question).await)
}

async fn mark(method: Method, State(web): Shared, Query(question): Query<MarkQuestion>) -> Response {
    answer(Format::Text, web.desk(&method).mark(&question).await)
}

async fn drift(method: Method, State(web): Shared, Query(question): Query<DriftQuestion>) -> Response {
    let desk = web.desk(&method);
    let answered = async {
        let run = desk.drift_by_hand(&question).await?;
        // What is recorded as rows is a metric, too.
        if method == Method::POST {
            drift_gauges::store(&run, &web.ingest).await;
        }
        desk.drift_answer(&run, &question).await
    };
    answer(question.format, told(&web, &method, "drift", answered).await)
}

/// Records a batch that `driftwatt check` has judged beside its data.
async fn record_dataset(State(web): Shared, body: Bytes) -> Response {
    let record: DatasetRecord = match serde_json::from_slice(&body) {
        Ok(record) => record,
        Err(error) => return failure(StatusCode::BAD_REQUEST, &anyhow::Error::from(error).context("checked batch")),
    };
    match record_batch(&web.store, &record, Utc::now().timestamp_micros()).await {
        Ok(version) => Json(json!({ "table": TABLE, "version": version })).into_response(),
        Err(error) => {
            let error = error.into();
            failure(answer_status(&error), &error)
        }
    }
}

/// Checks points of a metric against a contract, and records them as a batch.
async fn check_stream(State(web): Shared, body: Bytes) -> Response {
    let question: StreamQuestion = match serde_json::from_slice(&body) {
        Ok(question) => question,
        Err(error) => return failure(StatusCode::BAD_REQUEST, &anyhow::Error::from(error).context("check")),
    };
    let desk = web.desk(&Method::POST);
    let checked = told(&web, &Method::POST, "check", desk.check_by_hand(&question)).await;
    answer(question.format, checked.and_then(|checked| checked.answer(question.format)))
}

async fn list_schedules(State(web): Shared) -> Response {
    match web.schedules.list().await {
        Ok(list) => Json(list).into_response(),
        Err(error) => failure(answer_status(&error), &error),
    }
}

async fn run_schedule(State(web): Shared, Path(name): Path<String>) -> Response {
    match web.schedules.run_now(&name).await {
        Ok(report) => Json(report).into_response(),
        Err(error) => failure(answer_status(&error), &error),
    }
}
