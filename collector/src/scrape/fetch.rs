//! Getting a page: one GET with a deadline and a bound on its bytes.

use std::path::Path;

use tokio::{fs::File, io::AsyncReadExt as _};

use super::exposition::Format;
use crate::{config::ScrapeJob, error::in_words};

/// OpenMetrics first: it says where a page ends and since when a counter counts.
const ACCEPT: &str = "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// A page as received.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) text: String,
    pub(crate) format: Format,
}

/// Longest token; a kubelet's has some 1000 characters.
const TOKEN_BYTES_MAX: u64 = 16 << 10;

/// Reads the token in the file `path`, which another program may change at any time.
async fn token(path: &Path) -> Result<String, String> {
    let wrong = |reason: &str| format!("bearer_token_file {}: {reason}", path.display());
    let mut text = String::new();
    let file = File::open(path).await.map_err(|error| wrong(&error.to_string()))?;
    file.take(TOKEN_BYTES_MAX).read_to_string(&mut text).await.map_err(|error| wrong(&error.to_string()))?;
    match text.trim() {
        "" => Err(wrong("there is no token in it")),
        token => Ok(token.to_owned()),
    }
}

/// Gets `url` within the time of `job`, at most its bytes of it; what went wrong otherwise, in words.
pub(crate) async fn fetch(client: &reqwest::Client, url: &str, job: &ScrapeJob) -> Result<Fetched, String> {
    let (timeout, size_max) = (job.timeout, job.body_size_max);
    let whole = async {
        let mut request = client.get(url).header(reqwest::header::ACCEPT, ACCEPT);
        if let Some(path) = &job.bearer_token_file {
            request = request.bearer_auth(token(path).await?);
        }
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
