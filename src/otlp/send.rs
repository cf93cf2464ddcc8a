//! Sends OTLP requests to a server as any client would: over HTTP, a few at a time, again when told to come back.

use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::{Stream, TryStreamExt as _};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use prost::Message as _;
use reqwest::{StatusCode, header};

/// Requests under way at once: enough to share one sync of the log, few enough to stay small in memory.
const IN_FLIGHT: usize = 4;
const ATTEMPTS_MAX: u32 = 60;
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(60);

/// What has been answered so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Requests that were answered with success.
    pub(crate) request_count: u64,
    /// Data points the server refused in them.
    pub(crate) rejected_point_count: u64,
    /// The server's reason for the last refusal.
    pub(crate) rejected_message: String,
}

/// Sends every request to `url` (`http://…/v1/metrics`) and calls `progress` after each answer.
///
/// # Errors
/// The first request that the server refuses as a whole, or that it does not take after a minute or more of retries; the first error
/// of `requests`.
pub(crate) async fn send(
    url: &str,
    requests: impl Stream<Item = anyhow::Result<ExportMetricsServiceRequest>>,
    mut progress: impl FnMut(&Sent),
) -> anyhow::Result<Sent> {
    let client = reqwest::Client::builder().timeout(TIMEOUT).build().context("HTTP client")?;
    let answers = requests
        .map_ok(|request| send_one(client.clone(), url, request.encode_to_vec().into()))
        .try_buffer_unordered(IN_FLIGHT);
    let mut answers = std::pin::pin!(answers);
    let mut sent = Sent::default();
    while let Some(answer) = answers.try_next().await? {
        sent.request_count += 1;
        if let Some(partial) = answer.partial_success.filter(|partial| partial.rejected_data_points > 0) {
            sent.rejected_point_count += partial.rejected_data_points.unsigned_abs();
            sent.rejected_message = partial.error_message;
        }
        progress(&sent);
    }
    Ok(sent)
}

async fn send_one(
    client: reqwest::Client,
    url: &str,
    body: bytes::Bytes,
) -> anyhow::Result<ExportMetricsServiceResponse> {
    for _ in 0..ATTEMPTS_MAX {
        // Cloning the body counts a reference, it does not copy.
        let post = client.post(url).header(header::CONTENT_TYPE, "application/x-protobuf").body(body.clone());
        let response = post.send().await.with_context(|| format!("send to {url}"))?;
        let status = response.status();
        if status.is_success() {
            let answer = response.bytes().await.with_context(|| format!("answer of {url}"))?;
            return ExportMetricsServiceResponse::decode(answer).context("answer is not an OTLP response");
        }
        if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            bail!("{url} answered {status}: {}", response.text().await.unwrap_or_default());
        }
        let seconds = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        tokio::time::sleep(Duration::from_secs(seconds.unwrap_or(1)).min(RETRY_AFTER_MAX)).await;
    }
    bail!("{url} is still overloaded after {ATTEMPTS_MAX} attempts")
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use axum::{Router, body::Bytes, http::HeaderMap, routing::post};
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsPartialSuccess;

    use futures::stream;

    use super::*;
    use crate::demo::Fleet;

    /// Serves `answer`, which gets the number of the call, until the guard is dropped.
    async fn serve(
        answer: impl Fn(u64, Bytes) -> (StatusCode, HeaderMap, Vec<u8>) + Clone + Send + Sync + 'static,
    ) -> (String, tokio::task::JoinSet<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/metrics", listener.local_addr().unwrap());
        let calls = Arc::new(AtomicU64::new(0));
        let handler = move |body: Bytes| async move { answer(calls.fetch_add(1, Ordering::SeqCst), body) };
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(
            async move { axum::serve(listener, Router::new().route("/v1/metrics", post(handler))).await.unwrap() },
        );
        (url, tasks)
    }

    fn requests() -> impl Stream<Item = anyhow::Result<ExportMetricsServiceRequest>> {
        stream::iter(Fleet::new(1, 1_763_942_400_000_000_000).requests().take(6).map(Ok))
    }

    #[tokio::test]
    async fn an_overloaded_server_is_asked_again_and_refused_points_are_counted() {
        let (url, _server) = serve(|call, body| {
            if call == 1 {
                let later = HeaderMap::from_iter([(header::RETRY_AFTER, "0".parse().unwrap())]);
                return (StatusCode::TOO_MANY_REQUESTS, later, Vec::new());
            }
            assert!(ExportMetricsServiceRequest::decode(body).is_ok());
            let partial = ExportMetricsPartialSuccess { rejected_data_points: 2, error_message: "why".into() };
            let answer = ExportMetricsServiceResponse { partial_success: (call == 0).then_some(partial) };
            (StatusCode::OK, HeaderMap::new(), answer.encode_to_vec())
        })
        .await;
        let mut steps = Vec::new();
        let sent = send(&url, requests(), |sent| steps.push(sent.request_count)).await.unwrap();
        assert_eq!(sent, Sent { request_count: 6, rejected_point_count: 2, rejected_message: "why".into() });
        assert_eq!(steps, [1, 2, 3, 4, 5, 6]);
    }

    #[tokio::test]
    async fn a_refusal_ends_the_sending_with_the_servers_words() {
        let (url, _server) = serve(|_, _| (StatusCode::BAD_REQUEST, HeaderMap::new(), b"malformed".to_vec())).await;
        let error = send(&url, requests(), |_| {}).await.unwrap_err();
        assert!(error.to_string().contains("400 Bad Request: malformed"), "{error}");
    }
}
