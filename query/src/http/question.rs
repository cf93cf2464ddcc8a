//! What a request asks.

use std::time::Duration;

use axum::{
    extract::{FromRequest, Query, Request},
    http::Method,
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};

/// A question, as the JSON body of a POST.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpQuestion {
    pub(super) query: String,
    #[serde(default)]
    pub(super) params: Vec<Value>,
    #[serde(default)]
    pub(super) format: Option<String>,
    /// Shorter than the server's limit, never longer.
    #[serde(default)]
    timeout_ms: Option<u64>,
    #[serde(default)]
    pub(super) explain: Option<Explain>,
}

/// What to tell instead of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Explain {
    /// What the query cost.
    Analyze,
}

/// The same as the query of a GET, which has no parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GetQuestion {
    query: String,
    #[serde(default)]
    format: Option<String>,
    #[serde(default)]
    timeout_ms: Option<u64>,
    #[serde(default)]
    explain: Option<Explain>,
}

impl HttpQuestion {
    /// The question of `request`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it cannot be read.
    pub(super) async fn read(request: Request) -> Result<Self> {
        if request.method() == Method::GET {
            let get = Query::<GetQuestion>::try_from_uri(request.uri());
            let Query(GetQuestion { query, format, timeout_ms, explain }) =
                get.map_err(|error| Error::invalid(error.body_text()))?;
            return Ok(Self { query, params: vec![], format, timeout_ms, explain });
        }
        let body = Bytes::from_request(request, &()).await.map_err(|error| Error::invalid(error.body_text()))?;
        serde_json::from_slice(&body)
            .map_err(|error| Error::invalid(format!("the body must be JSON like {{\"query\": \"SELECT 1\"}}: {error}")))
    }

    pub(super) fn timeout(&self) -> Option<Duration> {
        self.timeout_ms.map(Duration::from_millis)
    }
}
