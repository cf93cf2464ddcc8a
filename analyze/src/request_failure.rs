//! Why an HTTP request came to nothing.

use std::error::Error as _;

/// The error and its causes, without the address, which may hold a token.
pub(crate) fn request_failure(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        reason += &format!(": {cause}");
        source = cause.source();
    }
    reason
}
