//! Bearer tokens, where the settings name any.

use std::collections::HashSet;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use tonic::{Status, metadata::MetadataMap};

/// Who may ask.
pub(super) struct Access {
    tokens: HashSet<String>,
}

impl Access {
    /// Without tokens everybody may ask.
    pub(super) fn new(tokens: HashSet<String>) -> Self {
        Self { tokens }
    }

    /// The token that `metadata` shows, as bearer or as the password of any user name; none where none is needed.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` if a token is needed and this is none.
    pub(super) fn check(&self, metadata: &MetadataMap) -> Result<Option<String>, Status> {
        if self.tokens.is_empty() {
            return Ok(None);
        }
        let shown = metadata.get("authorization").and_then(|value| value.to_str().ok()).and_then(token);
        // A set with keyed hashes: the time of a miss tells nothing about the tokens in it.
        match shown {
            Some(token) if self.tokens.contains(&token) => Ok(Some(token)),
            _ => Err(Status::unauthenticated(
                "no valid token; send the header `authorization: Bearer <token>`, or shake hands with it as the password",
            )),
        }
    }
}

/// `Bearer TOKEN`, or `Basic` with the base64 of `USER:TOKEN`.
fn token(header: &str) -> Option<String> {
    let (scheme, credentials) = header.split_once(' ')?;
    let credentials = credentials.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(credentials.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64_STANDARD.decode(credentials).ok()?).ok()?;
    pair.split_once(':').map(|(_user, password)| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: Option<&str>) -> Result<Option<String>, Status> {
        let mut metadata = MetadataMap::new();
        if let Some(header) = header {
            metadata.insert("authorization", header.parse().unwrap());
        }
        Access::new(HashSet::from(["secret".to_owned()])).check(&metadata)
    }

    #[test]
    fn only_a_named_token_opens() {
        let basic = |pair: &str| format!("Basic {}", BASE64_STANDARD.encode(pair));
        for header in ["Bearer secret", "bearer  secret", &basic("anyone:secret"), &basic(":secret")] {
            assert_eq!(check(Some(header)).unwrap().as_deref(), Some("secret"), "{header}");
        }
        let wrong = ["secret", "Bearer", "Bearer Secret", "Basic secret", &basic("secret"), &basic("secret:other")];
        for header in wrong {
            assert_eq!(check(Some(header)).unwrap_err().code(), tonic::Code::Unauthenticated, "{header}");
        }
        assert!(check(None).is_err());
        assert_eq!(Access::new(HashSet::new()).check(&MetadataMap::new()).unwrap(), None);
    }
}
