//! OTLP/HTTP clients: each sends its requests one after the other and comes back when told to.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message as _;
use reqwest::{Client, StatusCode, header};
use tokio::task::JoinSet;

use crate::load::Load;

const ATTEMPTS_MAX: u64 = 100;
const RETRY_AFTER: Duration = Duration::from_millis(250);
const TIMEOUT: Duration = Duration::from_secs(60);

/// What the server answered.
#[derive(Debug, Default)]
pub(crate) struct Acknowledged {
    /// From the first byte sent to the answer that took the request, refusals and waits between them included.
    pub(crate) latencies: Vec<Duration>,
    /// Answers that asked to come back later.
    pub(crate) overloaded_count: u64,
    /// Body bytes of the acknowledged requests.
    pub(crate) size_bytes: u64,
}

/// Sends `request_count` requests of each load, all clients at once.
///
/// # Errors
/// The first request that is refused, in whole or in part.
pub(crate) async fn send_all(url: &str, loads: Vec<Load>, request_count: u64) -> anyhow::Result<Acknowledged> {
    let mut clients = JoinSet::new();
    for load in loads {
        clients.spawn(send(url.to_owned(), load, request_count));
    }
    let mut all = Acknowledged::default();
    while let Some(client) = clients.join_next().await {
        let one = client.context("client task")??;
        all.latencies.extend(one.latencies);
        all.overloaded_count += one.overloaded_count;
        all.size_bytes += one.size_bytes;
    }
    all.latencies.sort_unstable();
    Ok(all)
}

async fn send(url: String, mut load: Load, request_count: u64) -> anyhow::Result<Acknowledged> {
    let http = Client::builder().timeout(TIMEOUT).no_proxy().build()?;
    let mut acknowledged = Acknowledged::default();
    for _ in 0..request_count {
        let body = Bytes::from(load.next_body());
        let started = Instant::now();
        acknowledged.overloaded_count += post(&http, &url, &body).await?;
        acknowledged.latencies.push(started.elapsed());
        acknowledged.size_bytes += body.len() as u64;
    }
    Ok(acknowledged)
}

/// Posts until the server takes it; returns how often it asked to come back.
async fn post(http: &Client, url: &str, body: &Bytes) -> anyhow::Result<u64> {
    for overloaded_count in 0..ATTEMPTS_MAX {
        let request = http.post(url).header(header::CONTENT_TYPE, "application/x-protobuf").body(Bytes::clone(body));
        let answer = request.send().await.context("send")?;
        let status = answer.status();
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            let seconds = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            tokio::time::sleep(seconds.map_or(RETRY_AFTER, Duration::from_secs)).await;
            continue;
        }
        let answer = answer.bytes().await.context("read the answer")?;
        ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&answer));
        let partial = ExportMetricsServiceResponse::decode(answer)?.partial_success.unwrap_or_default();
        let refused = partial.rejected_data_points;
        ensure!(refused == 0, "{refused} points refused: {}", partial.error_message);
        return Ok(overloaded_count);
    }
    bail!("overloaded {ATTEMPTS_MAX} times in a row")
}
