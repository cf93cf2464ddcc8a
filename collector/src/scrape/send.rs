//! Sending scraped points over OTLP, with the endpoint, deadline and retries of the rest of the collector.
//!
//! The exporter of the SDK takes what the SDK's own instruments measured and nothing else, and one resource at a time. So
//! the messages and the client are those that it is built on, and what is worth a retry is what OTLP says.
//!
//! Source: <https://opentelemetry.io/docs/specs/otlp/#failures>

use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse, metrics_service_client::MetricsServiceClient,
};
use prost::Message as _;
use tonic::{
    Code, Status,
    metadata::{MetadataKey, MetadataMap, MetadataValue},
    transport::{Channel, Endpoint},
};

use super::fetch::in_words;
use crate::{
    config::{Config, Protocol},
    error::{Error, Result},
};

const DELAY_FIRST: Duration = Duration::from_millis(200);
const DELAY_MAX: Duration = Duration::from_secs(5);

/// Sends requests; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    transport: Transport,
    headers: Vec<(String, String)>,
    timeout: Duration,
    retries_max: usize,
}

#[derive(Debug, Clone)]
enum Transport {
    Grpc(MetricsServiceClient<Channel>),
    Http { client: reqwest::Client, url: String },
}

/// Why an attempt failed.
#[derive(Debug)]
struct Failure {
    reason: String,
    is_passing: bool,
    retry_after: Option<Duration>,
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
                Transport::Grpc(MetricsServiceClient::new(endpoint.connect_lazy()))
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
    pub(crate) async fn send(&self, request: &ExportMetricsServiceRequest) -> Result<(i64, String)> {
        let mut reason = String::from("no attempt was finished");
        let answered = tokio::time::timeout(self.timeout, self.attempts(request, &mut reason)).await;
        match answered {
            Ok(Some(response)) => Ok(response
                .partial_success
                .map_or((0, String::new()), |partial| (partial.rejected_data_points, partial.error_message))),
            Ok(None) => Err(Error::Export { reason }),
            Err(_elapsed) => Err(Error::Export { reason: format!("not accepted within {:?}: {reason}", self.timeout) }),
        }
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
            if !failure.is_passing || attempt == self.retries_max {
                return None;
            }
            tokio::time::sleep(failure.retry_after.unwrap_or(delay)).await;
            delay = (delay * 2).min(DELAY_MAX);
        }
        None
    }

    async fn attempt(&self, request: &ExportMetricsServiceRequest) -> Result<ExportMetricsServiceResponse, Failure> {
        match &self.transport {
            Transport::Grpc(client) => {
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
        Self { reason, is_passing: true, retry_after: None }
    }

    fn lasting(reason: String) -> Self {
        Self { reason, is_passing: false, retry_after: None }
    }

    fn of_status(status: &Status) -> Self {
        use Code::{Aborted, Cancelled, DataLoss, DeadlineExceeded, OutOfRange, ResourceExhausted, Unavailable};
        let reason = format!("{}: {}", status.code(), status.message());
        match status.code() {
            Cancelled | DeadlineExceeded | Aborted | OutOfRange | Unavailable | DataLoss => Self::passing(reason),
            // Worth a retry only if the server says when, which it does in the details.
            ResourceExhausted if !status.details().is_empty() => Self::passing(reason),
            _ => Self::lasting(reason),
        }
    }

    fn of_response(response: &reqwest::Response) -> Self {
        let seconds = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        Self {
            reason: format!("the server answered {}", response.status()),
            is_passing: matches!(response.status().as_u16(), 429 | 502 | 503 | 504),
            retry_after: seconds.map(Duration::from_secs),
        }
    }
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
    fn only_what_may_pass_is_tried_again() {
        assert!(Failure::of_status(&Status::unavailable("x")).is_passing);
        assert!(!Failure::of_status(&Status::resource_exhausted("x")).is_passing);
        assert!(!Failure::of_status(&Status::invalid_argument("x")).is_passing);
        let full = Status::with_details(Code::ResourceExhausted, "full", vec![1].into());
        assert!(Failure::of_status(&full).is_passing);
    }
}
