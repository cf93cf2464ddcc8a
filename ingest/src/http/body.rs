//! The body of a request, taken under the limits.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::{
    admission::Admission,
    authorization::authorize,
    error::{Error, Result},
    ingest::Ingest,
};

/// Time for a body to arrive; a slower sender gives its slot back.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Checks the token that the settings may ask for.
pub(crate) fn check_token(ingest: &Ingest, headers: &HeaderMap) -> Result<()> {
    authorize(&ingest.config().tokens, headers.get(header::AUTHORIZATION).map(|value| value.as_bytes()))
}

/// Takes a request slot and reads the body as sent.
pub(crate) async fn receive_body(ingest: &Ingest, headers: &HeaderMap, body: Body) -> Result<(Admission, Bytes)> {
    let config = ingest.config();
    let mut admission = ingest.gate().enter()?;
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let too_large =
        || Error::TooLarge { stage: "as sent", limit_bytes: config.body_size_max, setting: "body_size_max" };
    if announced.is_some_and(|size| size > config.body_size_max) {
        return Err(too_large());
    }
    // An unannounced (chunked) body may grow to the limit, so all of that is held for it.
    admission.reserve(announced.unwrap_or(config.body_size_max))?;
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, config.body_size_max).collect())
        .await
        .map_err(|_| Error::BodyTimeout { seconds: BODY_TIMEOUT.as_secs() })?;
    match collected {
        Ok(collected) => Ok((admission, collected.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => Err(Error::Body(error.to_string())),
    }
}
