//! Webhooks: an HTTP POST of JSON, signed as Standard Webhooks says.
//!
//! Source: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use std::time::{Duration, SystemTime};

use aws_lc_rs::{digest, hmac};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{Client, RequestBuilder, StatusCode, header, redirect};

use super::{
    Clock, DeliveryAttempt, DeliveryError, RetryPolicy, Secret, WebhookConfig,
    retry::{self, Failure, Label, Retry},
};
use crate::request_failure::request_failure;

/// Posts to one receiver.
#[derive(Debug)]
pub struct Webhook {
    client: Client,
    config: WebhookConfig,
    retry: RetryPolicy,
}

/// The key in `secret`: `whsec_` and the Base64 of 24 to 64 bytes.
pub(super) fn key_bytes(secret: &Secret) -> Option<Vec<u8>> {
    let text = secret.reveal().strip_prefix("whsec_")?;
    STANDARD.decode(text).ok().filter(|key| (24..=64).contains(&key.len()))
}

/// The header `webhook-signature`: `v1,` and the Base64 of HMAC-SHA256 over `id.timestamp.body`.
///
/// `None` if `secret` is not `whsec_` and the Base64 of 24 to 64 bytes.
pub fn sign(secret: &Secret, id: &str, unix_seconds: i64, body: &[u8]) -> Option<String> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key_bytes(secret)?);
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{id}.{unix_seconds}.").as_bytes());
    context.update(body);
    Some(format!("v1,{}", STANDARD.encode(context.sign())))
}

impl Webhook {
    /// A client of `config`; nothing is connected yet.
    ///
    /// # Errors
    /// [`DeliveryError::Client`] if TLS cannot be set up.
    pub fn new(config: WebhookConfig, retry: RetryPolicy) -> Result<Self, DeliveryError> {
        // A redirect would carry the signed body to an address that nobody configured.
        let client = Client::builder().timeout(config.timeout).redirect(redirect::Policy::none()).build();
        match client {
            Ok(client) => Ok(Self { client, config, retry }),
            Err(source) => Err(DeliveryError::Client { what: "the webhook client", source: Box::new(source) }),
        }
    }

    /// Posts `body` as the event `event` and returns every try, in order.
    ///
    /// All tries have one `webhook-id`, made of name, event, time and body, by which a receiver knows what it has already.
    pub async fn send(&self, event: &str, body: &serde_json::Value, clock: &dyn Clock) -> Vec<DeliveryAttempt> {
        let body = body.to_string().into_bytes();
        let mut digest = digest::Context::new(&digest::SHA256);
        for part in [self.config.name.as_bytes(), event.as_bytes(), &clock.unix_us().to_le_bytes(), &body] {
            digest.update(&(part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        let hex: String = digest.finish().as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let id = format!("msg_{hex}");
        let label = Label { channel: "webhook", recipient: &self.config.name, subject: event };
        retry::deliver(self.retry, clock, label, || self.post(&id, event, &body, clock)).await
    }

    async fn post(&self, id: &str, event: &str, body: &[u8], clock: &dyn Clock) -> Result<(), Failure> {
        let never = |reason: String| Failure { reason, retry: Retry::Never };
        // Signed anew for every try: receivers refuse a time that is more than a few minutes old.
        let unix_seconds = clock.unix_us() / 1_000_000;
        let signature =
            sign(&self.config.key, id, unix_seconds, body).ok_or_else(|| never("the secret is no key".into()))?;
        let request = self
            .client
            .post(self.config.url.reveal())
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", unix_seconds)
            .header("webhook-signature", signature)
            .header("x-driftwatt-event", event)
            .body(body.to_vec());
        posted(request, clock).await
    }
}

/// Sends `request`; whether another try can help is in the failure.
pub(super) async fn posted(request: RequestBuilder, clock: &dyn Clock) -> Result<(), Failure> {
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => {
            let retry = if error.is_builder() { Retry::Never } else { Retry::Later };
            return Err(Failure { reason: request_failure(error), retry });
        }
    };
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let reason = format!("the receiver answered {status}");
    let again =
        status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    if !again {
        return Err(Failure { reason, retry: Retry::Never });
    }
    let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let wait = retry_after.and_then(|text| wait_of(text, clock.unix_us()));
    Err(Failure { reason, retry: wait.map_or(Retry::Later, Retry::After) })
}

/// `Retry-After` (RFC 9110, 10.2.3): seconds, or a date.
fn wait_of(text: &str, unix_us: i64) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let now = SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(unix_us).ok()?);
    let date = httpdate::parse_http_date(text.trim()).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}
