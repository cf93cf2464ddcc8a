//! Sending requests over OTLP, with the endpoint, deadline and retries of the rest of the collector.
//!
//! The exporter of the SDK takes what the SDK's own instruments measured and nothing else, and one resource at a time. So
//! for scraped points and for what was buffered the messages and the client are those that it is built on, and what is
//! worth a retry is what OTLP says.
//!
//! Source: <https://opentelemetry.io/docs/specs/otlp/#failures>

use std::{error::Error as _, time::Duration};

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse, metrics_service_client::MetricsServiceClient,
};
use prost::Message as _;
use tonic::{
    Code, Status,
    metadata::{MetadataKey, MetadataMap, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::{
    config::{Config, Protocol},
    error::{Error, Result, in_words},
};

/// Wait after the first failure; each further one doubles it.
pub(crate) const DELAY_FIRST: Duration = Duration::from_millis(200);
/// Longest wait between two attempts.
pub(crate) const DELAY_MAX: Duration = Duration::from_secs(5);

/// Sends requests; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    transport: Transport,
    headers: Vec<(String, String)>,
    pub(crate) timeout: Duration,
    pub(crate) retries_max: usize,
}

#[derive(Debug, Clone)]
enum Transport {
    Grpc { endpoint: Box<Endpoint>, client: MetricsServiceClient<Channel> },
    Http { client: reqwest::Client, url: String },
}

/// What the server answered to a request that it took: how many points it refused, and why.
pub(crate) type Answer = (i64, String);

/// Why an attempt failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    pub(crate) remedy: Remedy,
    pub(crate) retry_after: Option<Duration>,
}

/// What helps against a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// The server cannot be reached or is overloaded: the request is not at fault, however often it fails.
    Wait,
    /// It may pass, but a request that fails again and again may be at fault itself.
    Retry,
    /// Nothing: the server does not want the request.
    Drop,
}

impl Sender {
    /// A sender to the endpoint of `config`; it connects with the first request.
    ///
    /// # Errors
    /// [`Error::Scrape`] if the endpoint is no address.
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let wrong = |error: &dyn std::error::Error| Error::Scrape {
            reason: format!("{}: {}", config.endpoint, in_words(error)),
        };
        let transport = match config.protocol {
            Protocol::Grpc => {
                let endpoint = Endpoint::from_shared(config.endpoint.clone()).map_err(|error| wrong(&error))?;
                Transport::Grpc {
                    client: MetricsServiceClient::new(endpoint.connect_lazy()),
                    endpoint: Box::new(endpoint),
                }
            }
            Protocol::Http => {
                let client = reqwest::Client::builder().build().map_err(|error| wrong(&error))?;
                Transport::Http { client, url: config.endpoint.clone() }
            }
        };
        let (timeout, retries_max) = (config.export_timeout, config.retries_max);
        Ok(Self { transport, headers: headers(), timeout, retries_max })
    }

    /// Sends `request`, again while the failure is a passing one; how many of its points were refused, and why.
    ///
    /// # Errors
    /// [`Error::Export`] if the server did not accept it.
    pub(crate) async fn send(&self, request: &ExportMetricsServiceRequest) -> Result<Answer> {
        let mut reason = String::from("no attempt was finished");
        let answered = tokio::time::timeout(self.timeout, self.attempts(request, &mut reason)).await;
        match answered {
            Ok(Some(response)) => Ok(answer(response)),
            Ok(None) => Err(Error::Export { reason }),
            Err(_elapsed) => Err(Error::Export { reason: format!("not accepted within {:?}: {reason}", self.timeout) }),
        }
    }

    /// Sends `request` once, within the time for an export.
    pub(crate) async fn send_once(&mut self, request: &ExportMetricsServiceRequest) -> Result<Answer, Failure> {
        let answered = tokio::time::timeout(self.timeout, self.attempt(request)).await;
        answered.map(|response| response.map(answer)).unwrap_or_else(|_elapsed| {
            if let Transport::Grpc { endpoint, client } = &mut self.transport {
                // The other end may be gone without a word, and a connection to it would go on to be used.
                *client = MetricsServiceClient::new(endpoint.connect_lazy());
            }
            Err(Failure::passing(format!("no answer within {:?}", self.timeout)))
        })
    }

    async fn attempts(
        &self,
        request: &ExportMetricsServiceRequest,
        reason: &mut String,
    ) -> Option<ExportMetricsServiceResponse> {
        let mut delay = DELAY_FIRST;
        for attempt in 0..=self.retries_max {
            let failure = match self.attempt(request).await {
                Ok(response) => return Some(response),
                Err(failure) => failure,
            };
            *reason = failure.reason;
            if failure.remedy == Remedy::Drop || attempt == self.retries_max {
                return None;
            }
            tokio::time::sleep(failure.retry_after.unwrap_or(delay)).await;
            delay = (delay * 2).min(DELAY_MAX);
        }
        None
    }

    async fn attempt(&self, request: &ExportMetricsServiceRequest) -> Result<ExportMetricsServiceResponse, Failure> {
        match &self.transport {
            Transport::Grpc { client, .. } => {
                let mut call = tonic::Request::new(request.clone());
                put_metadata(call.metadata_mut(), &self.headers);
                let answered = client.clone().export(call).await;
                answered.map(tonic::Response::into_inner).map_err(|status| Failure::of_status(&status))
            }
            Transport::Http { client, url } => {
                let mut post = client.post(url).header("content-type", "application/x-protobuf");
                for (name, value) in &self.headers {
                    post = post.header(name, value);
                }
                let passing = |error: reqwest::Error| Failure::passing(in_words(&error));
                let response = post.body(request.encode_to_vec()).send().await.map_err(passing)?;
                if !response.status().is_success() {
                    return Err(Failure::of_response(&response));
                }
                let body = response.bytes().await.map_err(passing)?;
                ExportMetricsServiceResponse::decode(body).map_err(|error| Failure::lasting(error.to_string()))
            }
        }
    }
}

impl Failure {
    fn passing(reason: String) -> Self {
        Self { reason, remedy: Remedy::Wait, retry_after: None }
    }

    fn lasting(reason: String) -> Self {
        Self { reason, remedy: Remedy::Drop, retry_after: None }
    }

    fn of_status(status: &Status) -> Self {
        use Code::{Aborted, Cancelled, DataLoss, DeadlineExceeded, OutOfRange, ResourceExhausted, Unavailable};
        let reason = format!("{}: {}", status.code(), status.message());
        match status.code() {
            // With a source it is what happened to the connection, of whatever code, and not an answer of the server.
            _ if status.source().is_some() => Self::passing(in_words(status)),
            Unavailable => Self::passing(reason),
            Cancelled | DeadlineExceeded | Aborted | OutOfRange | DataLoss => {
                Self { reason, remedy: Remedy::Retry, retry_after: None }
            }
            // Worth a retry only if the server says when, which it does in the details.
            ResourceExhausted if !status.details().is_empty() => Self::passing(reason),
            _ => Self::lasting(reason),
        }
    }

    fn of_response(response: &reqwest::Response) -> Self {
        let seconds = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let is_passing = matches!(response.status().as_u16(), 429 | 502 | 503 | 504);
        Self {
            reason: format!("the server answered {}", response.status()),
            remedy: if is_passing { Remedy::Wait } else { Remedy::Drop },
            retry_after: seconds.map(Duration::from_secs),
        }
    }
}

fn answer(response: ExportMetricsServiceResponse) -> Answer {
    let partial = response.partial_success;
    partial.map_or((0, String::new()), |partial| (partial.rejected_data_points, partial.error_message))
}

/// Headers that the SDK's exporter takes from the environment too, percent-encoded as there.
fn headers() -> Vec<(String, String)> {
    let read = |name| std::env::var(name).unwrap_or_default();
    let mut headers = parse_headers(&read("OTEL_EXPORTER_OTLP_HEADERS"));
    for (name, value) in parse_headers(&read("OTEL_EXPORTER_OTLP_METRICS_HEADERS")) {
        headers.retain(|(known, _)| *known != name);
        headers.push((name, value));
    }
    headers
}

fn parse_headers(text: &str) -> Vec<(String, String)> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_ascii_lowercase(), percent_decoded(value.trim()))).collect()
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = (byte == b'%').then(|| after.get(..2)).flatten();
        let code = code.and_then(|code| u8::from_str_radix(str::from_utf8(code).ok()?, 16).ok());
        bytes.push(code.unwrap_or(byte));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn put_metadata(metadata: &mut MetadataMap, headers: &[(String, String)]) {
    for (name, value) in headers {
        // A name or value that no header can have is left out, as the SDK does.
        if let (Ok(name), Ok(value)) = (MetadataKey::from_bytes(name.as_bytes()), MetadataValue::try_from(value)) {
            metadata.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_decoded() {
        let expected = [("authorization", "Bearer a b"), ("x", "100%"), ("y", "é")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(parse_headers("Authorization=Bearer%20a%20b, x=100%,broken,y=%C3%A9"), expected);
    }

    #[test]
    fn what_a_failure_asks_for() {
        let check = |status: Status, expected: Remedy| assert_eq!(Failure::of_status(&status).remedy, expected);
        check(Status::unavailable("x"), Remedy::Wait);
        check(Status::resource_exhausted("x"), Remedy::Drop);
        check(Status::with_details(Code::ResourceExhausted, "full", vec![1].into()), Remedy::Wait);
        check(Status::out_of_range("x"), Remedy::Retry);
        check(Status::invalid_argument("x"), Remedy::Drop);
        check(Status::unknown("an answer of the server"), Remedy::Drop);
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        check(Status::from_error(Box::new(reset)), Remedy::Wait);
    }
}
