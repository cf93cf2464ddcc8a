//! `[lineage.openlineage]`: events of our own jobs, posted to a receiver of OpenLineage.

use std::{path::PathBuf, time::Duration};

use reqwest::{Client, Url, redirect};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Clock, DeliveryAttempt, DeliveryError, RetryPolicy, Secret,
    retry::{self, Label},
    secret,
    webhook::posted,
};
use crate::duration_setting::duration;

/// `[lineage.openlineage]` as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawOpenLineage {
    /// Address of the receiver, up to before the endpoint.
    pub url: String,
    /// Path of the events below it. Default `api/v1/lineage`, as OpenLineage's own HTTP transport has it.
    pub endpoint: Option<String>,
    /// File with a bearer token.
    pub token_file: Option<PathBuf>,
    /// Environment variable with a bearer token.
    pub token_env: Option<String>,
    /// Namespace of our jobs and tables. Default `driftwatt`.
    pub namespace: Option<String>,
    /// Longest wait for one answer. Default `5s`.
    pub timeout: Option<String>,
}

/// Posts events to one receiver.
#[derive(Debug)]
pub struct LineagePost {
    client: Client,
    url: Url,
    token: Option<Secret>,
    retry: RetryPolicy,
    /// Namespace of our jobs and tables.
    pub namespace: String,
}

impl RawOpenLineage {
    /// Checks all of it and reads the token; `environment` looks a variable up. Nothing is connected yet.
    ///
    /// # Errors
    /// [`DeliveryError::Setting`], which names the setting and what to do; [`DeliveryError::Client`] if TLS cannot be set up.
    pub fn validate(self, environment: &dyn Fn(&str) -> Option<String>) -> Result<LineagePost, DeliveryError> {
        let refuse = |setting: &str, reason: &str| {
            Err(DeliveryError::Setting { setting: format!("lineage.openlineage.{setting}"), reason: reason.to_owned() })
        };
        let (base, endpoint) = (self.url.trim().trim_end_matches('/'), self.endpoint.as_deref());
        let endpoint = endpoint.unwrap_or("api/v1/lineage").trim_start_matches('/');
        let url = match Url::parse(&format!("{base}/{endpoint}")) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.host_str().is_some() => url,
            _ => return refuse("url", "is no address; write one such as http://marquez:5000"),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("url", "has a user or password in it; write token_file or token_env");
        }
        let setting = "lineage.openlineage.token";
        let token = secret::read(setting, self.token_file.as_ref(), self.token_env.as_deref(), environment)?;
        let is_open = url.scheme() == "http" && !url.host_str().is_some_and(super::is_this_machine);
        if token.is_some() && is_open {
            return refuse("url", "is http, over which the token would be sent in clear text; write https");
        }
        let namespace = self.namespace.unwrap_or_else(|| "driftwatt".to_owned());
        if namespace.trim().is_empty() {
            return refuse("namespace", "is empty; leave it out or name one");
        }
        let timeout = duration("lineage.openlineage.timeout", self.timeout.as_deref(), Duration::from_secs(5))?;
        let client = Client::builder().timeout(timeout).redirect(redirect::Policy::none()).build();
        let client = client
            .map_err(|source| DeliveryError::Client { what: "the client of OpenLineage", source: Box::new(source) })?;
        let retry =
            RetryPolicy { attempts_max: 6, delay_first: Duration::from_secs(1), delay_max: Duration::from_secs(60) };
        Ok(LineagePost { client, url, token, retry, namespace })
    }
}

impl LineagePost {
    /// Posts `event` and returns every try, in order.
    pub async fn send(&self, event: &Value, clock: &dyn Clock) -> Vec<DeliveryAttempt> {
        let label = Label { channel: "openlineage", recipient: self.url.as_str(), subject: "run event" };
        retry::deliver(self.retry, clock, label, || async {
            let request = self.client.post(self.url.clone()).json(event);
            let request = match &self.token {
                Some(token) => request.bearer_auth(token.reveal()),
                None => request,
            };
            posted(request, clock).await
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_defaults_and_say_what_is_wrong() {
        let checked = |text: &str| toml::from_str::<RawOpenLineage>(text).unwrap().validate(&|_| Some("t".into()));
        let post = checked("url = \"http://marquez:5000/\"").unwrap();
        assert_eq!((post.url.as_str(), post.namespace.as_str()), ("http://marquez:5000/api/v1/lineage", "driftwatt"));
        for (text, words) in [
            ("url = \"marquez\"", "url: is no address"),
            ("url = \"http://u:p@marquez\"", "token_file"),
            ("url = \"http://marquez\"\ntoken_env = \"T\"", "clear text"),
            ("url = \"http://marquez\"\nnamespace = \" \"", "namespace"),
            ("url = \"http://marquez\"\ntimeout = \"soon\"", "timeout"),
        ] {
            let error = checked(text).unwrap_err().to_string();
            assert!(error.contains("lineage.openlineage") && error.contains(words), "{error}");
        }
        assert!(checked("url = \"http://127.0.0.1:1\"\ntoken_env = \"T\"").is_ok());
    }
}
