//! OTLP/HTTP clients: each sends its requests one after the other and comes back when told to.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message as _;
use reqwest::{Client, StatusCode, header};
use tokio::task::JoinSet;

use crate::load::{CLIENTS, Load};

const ATTEMPTS_MAX: u64 = 100;
const RETRY_AFTER: Duration = Duration::from_millis(250);
const TIMEOUT: Duration = Duration::from_secs(60);

/// What the server answered.
#[derive(Debug, Default)]
pub(crate) struct Acknowledged {
    /// From the moment the request was due to the answer that took it, refusals and waits between them included; sorted.
    pub(crate) latencies: Vec<Duration>,
    /// Answers that asked to come back later.
    pub(crate) overloaded_count: u64,
    /// Body bytes of the acknowledged requests.
    pub(crate) size_bytes: u64,
}

impl Acknowledged {
    /// The latency that a share of `quantile` of the requests did not exceed, in milliseconds.
    pub(crate) fn latency_ms(&self, quantile: f64) -> f64 {
        latency_ms(&self.latencies, quantile)
    }
}

/// The latency that a share of `quantile` of the sorted `latencies` did not exceed, in milliseconds.
pub(crate) fn latency_ms(latencies: &[Duration], quantile: f64) -> f64 {
    let rank = ((latencies.len() as f64 * quantile).ceil() as usize).clamp(1, latencies.len().max(1));
    latencies.get(rank - 1).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
}

/// Sends `request_count` requests of each load, all clients at once: each as soon as the one before is answered, or, with
/// `every`, at that interval and measured from when it was due.
///
/// # Errors
/// The first request that is refused, in whole or in part.
pub(crate) async fn send_all(
    url: &str,
    loads: &mut Vec<Load>,
    request_count: u64,
    every: Option<Duration>,
) -> anyhow::Result<Acknowledged> {
    let mut clients = JoinSet::new();
    for (index, load) in loads.drain(..).enumerate() {
        // Clients do not know of each other, so their requests do not come all at once.
        let offset = every.map(|every| every.mul_f64(index as f64 / CLIENTS as f64));
        clients.spawn(send(url.to_owned(), load, request_count, every.zip(offset)));
    }
    let mut all = Acknowledged::default();
    while let Some(client) = clients.join_next().await {
        let (load, one) = client.context("client task")??;
        loads.push(load);
        all.latencies.extend(one.latencies);
        all.overloaded_count += one.overloaded_count;
        all.size_bytes += one.size_bytes;
    }
    all.latencies.sort_unstable();
    Ok(all)
}

async fn send(
    url: String,
    mut load: Load,
    request_count: u64,
    pace: Option<(Duration, Duration)>,
) -> anyhow::Result<(Load, Acknowledged)> {
    let http = Client::builder().timeout(TIMEOUT).no_proxy().build()?;
    let mut acknowledged = Acknowledged::default();
    let begin = Instant::now();
    for number in 0..request_count {
        let body = Bytes::from(load.next_body()?);
        let due = match pace {
            Some((every, offset)) => {
                let due = begin + offset + every.mul_f64(number as f64);
                tokio::time::sleep_until(due.into()).await;
                due
            }
            None => Instant::now(),
        };
        acknowledged.overloaded_count += post(&http, &url, &body).await?;
        acknowledged.latencies.push(due.elapsed());
        acknowledged.size_bytes += body.len() as u64;
    }
    Ok((load, acknowledged))
}

/// Posts until the server takes it; returns how often it asked to come back.
async fn post(http: &Client, url: &str, body: &Bytes) -> anyhow::Result<u64> {
    for overloaded_count in 0..ATTEMPTS_MAX {
        let request = http.post(url).header(header::CONTENT_TYPE, "application/x-protobuf");
        let request = request.header(header::CONTENT_ENCODING, "gzip").body(Bytes::clone(body));
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
