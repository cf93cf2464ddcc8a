//! Getting a page: one GET with a deadline and a bound on its bytes.

use std::time::Duration;

use super::exposition::Format;
use crate::error::in_words;

/// OpenMetrics first: it says where a page ends and since when a counter counts.
const ACCEPT: &str = "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// A page as received.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) text: String,
    pub(crate) format: Format,
}

/// Gets `url` within `timeout`, at most `size_max` bytes of it; what went wrong otherwise, in words.
pub(crate) async fn fetch(
    client: &reqwest::Client,
    url: &str,
    timeout: Duration,
    size_max: usize,
) -> Result<Fetched, String> {
    let whole = async {
        let request = client.get(url).header(reqwest::header::ACCEPT, ACCEPT);
        let mut response = request.send().await.map_err(without_url)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(format!("the target answered {}", response.status()));
        }
        let content_type = response.headers().get(reqwest::header::CONTENT_TYPE).map(|value| value.as_bytes());
        let is_open_metrics = content_type.is_some_and(|value| value.starts_with(b"application/openmetrics-text"));
        let format = if is_open_metrics { Format::OpenMetrics } else { Format::Text };
        let tells_its_end =
            response.content_length().is_some() || response.headers().contains_key(reqwest::header::TRANSFER_ENCODING);
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(without_url)? {
            if bytes.len() + chunk.len() > size_max {
                return Err(format!("the page is over {size_max} bytes; raise body_size_max of the scrape"));
            }
            bytes.extend_from_slice(&chunk);
        }
        let text = String::from_utf8(bytes).map_err(|error| format!("the page is no UTF-8: {}", error.utf8_error()))?;
        // Text does not say where it ends. Where the answer does not either, a page that stops amid a line was cut off.
        if !tells_its_end && format == Format::Text && !text.ends_with('\n') {
            return Err("the page ends amid a line and its length is not given: it is half a page".to_owned());
        }
        Ok(Fetched { text, format })
    };
    let fetched = tokio::time::timeout(timeout, whole).await;
    fetched.unwrap_or_else(|_elapsed| Err(format!("the page did not arrive within {timeout:?}")))
}

/// The error in words; a URL may hold a password.
fn without_url(error: reqwest::Error) -> String {
    in_words(&error.without_url())
}
