//! Requests to the registry, as data.

use crate::delivery::Secret;

/// Rows asked for in one page; the most that `registered-models/search` allows.
pub(super) const PAGE_ROWS: usize = 1_000;

/// Why a text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Empty or white space only.
    #[error("the registry token is empty: set it, or leave the setting out for a registry without login")]
    Empty,
    /// A character that no HTTP header may carry, most often a line break of a file.
    #[error("the registry token has a character that no HTTP header may carry, at byte {at}: is it one line?")]
    Character {
        /// Byte offset of the first such character.
        at: usize,
    },
}

/// A bearer token. Its text appears in the header only, never in `Debug` or an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token(Secret);

impl Token {
    /// Takes a token; white space around it is dropped, as files end with a line break.
    ///
    /// # Errors
    /// [`TokenError`] if nothing is left or the text cannot stand in a header.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        match text.bytes().position(|byte| !byte.is_ascii_graphic()) {
            Some(at) => Err(TokenError::Character { at }),
            None => Ok(Self(Secret::new(text))),
        }
    }

    /// Value of the `Authorization` header; the caller marks it sensitive.
    pub fn authorization(&self) -> String {
        format!("Bearer {}", self.0.reveal())
    }
}

/// One `GET` of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Path below the address of the tracking server.
    pub path: &'static str,
    /// Query parameters, not yet percent-encoded.
    pub query: Vec<(&'static str, String)>,
}

impl Request {
    /// One page of registered models, with their aliases and tags.
    pub fn registered_models(page_token: Option<&str>) -> Self {
        Self::search("/api/2.0/mlflow/registered-models/search", "name ASC", page_token)
    }

    /// One page of the versions of all models, the last changed first.
    pub fn model_versions(page_token: Option<&str>) -> Self {
        Self::search("/api/2.0/mlflow/model-versions/search", "last_updated_timestamp DESC", page_token)
    }

    /// The version that an alias names, for registries whose search leaves aliases out.
    pub fn version_by_alias(model: &str, alias: &str) -> Self {
        let query = vec![("name", model.to_owned()), ("alias", alias.to_owned())];
        Self { path: "/api/2.0/mlflow/registered-models/alias", query }
    }

    /// The run that made a version: parameters, metrics, tags and data sets.
    pub fn run(run_id: &str) -> Self {
        Self { path: "/api/2.0/mlflow/runs/get", query: vec![("run_id", run_id.to_owned())] }
    }

    fn search(path: &'static str, order: &str, page_token: Option<&str>) -> Self {
        let mut query = vec![("max_results", PAGE_ROWS.to_string()), ("order_by", order.to_owned())];
        query.extend(page_token.map(|token| ("page_token", token.to_owned())));
        Self { path, query }
    }
}
