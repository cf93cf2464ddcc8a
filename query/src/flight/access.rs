//! Who may ask, decided before any call: bearer tokens, where the settings name any, and as many connections as they allow.

use std::{collections::HashSet, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use tonic::{Request, Status, metadata::MetadataMap, service::Interceptor};

use super::connection::Admission;

/// The token that a client showed, in the extensions of its request.
#[derive(Clone)]
pub(super) struct Token(pub(super) String);

/// Who may ask.
#[derive(Clone)]
pub(super) struct Access {
    tokens: Arc<HashSet<String>>,
    connections_max: usize,
}

impl Access {
    /// Without tokens everybody may ask.
    pub(super) fn new(tokens: HashSet<String>, connections_max: usize) -> Self {
        Self { tokens: Arc::new(tokens), connections_max }
    }

    /// The token that `metadata` shows, as bearer or as the password of any user name; none where none is needed.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` if a token is needed and this is none.
    fn check(&self, metadata: &MetadataMap) -> Result<Option<String>, Status> {
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

impl Interceptor for Access {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if request.extensions().get::<Admission>().is_some_and(|admission| admission.is_full) {
            let limit = self.connections_max;
            let message = format!("too many clients: {limit} connections are open (query.connections_max)");
            return Err(Status::resource_exhausted(message));
        }
        if let Some(token) = self.check(request.metadata())? {
            request.extensions_mut().insert(Token(token));
        }
        Ok(request)
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
        Access::new(HashSet::from(["secret".to_owned()]), 1).check(&metadata)
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
        assert_eq!(Access::new(HashSet::new(), 1).check(&MetadataMap::new()).unwrap(), None);
    }
}
