//! `[lineage.mlflow]`: where the registry is and what follows it, as written and checked.

use std::{path::PathBuf, time::Duration};

use reqwest::Url;
use serde::Deserialize;

use crate::{
    delivery::{DeliveryError, Secret, secret},
    duration_setting::duration,
    lineage::{deployment::Target, mlflow::Token},
};

/// `[lineage.mlflow]` as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawMlflow {
    /// Address of the tracking server, up to before `/api`.
    pub url: String,
    /// Name of a user, where the server asks for one (HTTP basic); the token is then the password.
    pub user: Option<String>,
    /// File with the token.
    pub token_file: Option<PathBuf>,
    /// Environment variable with the token.
    pub token_env: Option<String>,
    /// Time from one poll to the next. Default `60s`.
    pub interval: Option<String>,
    /// Time between polls that read everything. Default `1h`.
    pub full_interval: Option<String>,
    /// Longest wait for one answer. Default `30s`.
    pub timeout: Option<String>,
    /// Versions that are read; beyond, the poll fails and says so. Default 100 000.
    pub versions_max: Option<usize>,
    /// Ask for each alias of `follows` by itself, for registries whose search leaves aliases out. Default false.
    #[serde(default)]
    pub ask_aliases: bool,
    /// Services that run whatever an alias names.
    #[serde(default)]
    pub follows: Vec<RawFollow>,
}

/// `[[lineage.mlflow.follows]]` as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawFollow {
    /// `service.name`.
    pub service: String,
    /// `deployment.environment.name`. Default every one.
    pub environment: Option<String>,
    /// Name of the model in the registry.
    pub model: String,
    /// The alias.
    pub alias: String,
    /// Tag of a version that has its name in the words of the service's telemetry. Default the number of the registry.
    pub version_tag: Option<String>,
}

/// How the registry knows who asks.
#[derive(Debug, Clone)]
pub(super) enum Login {
    /// It does not ask.
    None,
    /// Bearer token.
    Token(Token),
    /// User and password.
    Basic { user: String, password: Secret },
}

/// Checked `[lineage.mlflow]`.
#[derive(Debug, Clone)]
pub struct MlflowConfig {
    /// Address without a `/` at its end.
    pub(super) url: String,
    pub(super) login: Login,
    /// Time from one poll to the next.
    pub interval: Duration,
    /// Time between polls that read everything.
    pub full_interval: Duration,
    pub(super) timeout: Duration,
    pub(super) versions_max: usize,
    pub(super) ask_aliases: bool,
    pub(super) follows: Vec<Follow>,
}

/// A service that runs whatever an alias names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follow {
    /// The service.
    pub target: Target,
    /// Name of the model.
    pub model: String,
    /// The alias.
    pub alias: String,
    /// Tag of a version that has its name in the words of the service.
    pub version_tag: Option<String>,
}

fn refuse<T>(setting: &str, reason: impl Into<String>) -> Result<T, DeliveryError> {
    Err(DeliveryError::Setting { setting: format!("lineage.mlflow.{setting}"), reason: reason.into() })
}

impl RawMlflow {
    /// Checks all of it and reads the token; `environment` looks a variable up.
    ///
    /// # Errors
    /// [`DeliveryError::Setting`], which names the setting and what to do.
    pub fn validate(self, environment: &dyn Fn(&str) -> Option<String>) -> Result<MlflowConfig, DeliveryError> {
        let url = self.url.trim().trim_end_matches('/').to_owned();
        let Ok(parsed) = Url::parse(&url) else {
            return refuse("url", format!("{url:?} is no address; write one such as http://mlflow:5000"));
        };
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
            return refuse("url", "is neither http nor https; write an address such as http://mlflow:5000");
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return refuse(
                "url",
                "has a user or password in it; write lineage.mlflow.user, and token_file or token_env",
            );
        }
        if parsed.query().is_some() || parsed.fragment().is_some() || parsed.path().contains("/api/2.0") {
            return refuse("url", "goes on after the server; it ends before /api, as in http://mlflow:5000");
        }
        let setting = "lineage.mlflow.token";
        let token = secret::read(setting, self.token_file.as_ref(), self.token_env.as_deref(), environment)?;
        let login = match (self.user, token) {
            (None, None) => Login::None,
            (Some(user), Some(password)) => Login::Basic { user, password },
            (Some(_), None) => return refuse("user", "has no password; add token_file or token_env"),
            (None, Some(token)) => match Token::new(token.reveal()) {
                Ok(token) => Login::Token(token),
                Err(error) => return refuse("token", error.to_string()),
            },
        };
        let is_open = parsed.scheme() == "http" && !parsed.host_str().is_some_and(crate::delivery::is_this_machine);
        if is_open && !matches!(login, Login::None) {
            return refuse("url", "is http, over which the token would be sent in clear text; write https");
        }
        let interval = duration("lineage.mlflow.interval", self.interval.as_deref(), Duration::from_secs(60))?;
        let full_interval = self.full_interval.as_deref();
        let full_interval = duration("lineage.mlflow.full_interval", full_interval, Duration::from_secs(3_600))?;
        if interval < Duration::from_secs(1) {
            return refuse("interval", "is below 1s; each poll asks the registry at least twice");
        }
        if full_interval < interval {
            return refuse("full_interval", "is below interval; raise it or lower the other");
        }
        let versions_max = self.versions_max.unwrap_or(100_000);
        if !(1..=10_000_000).contains(&versions_max) {
            return refuse("versions_max", format!("is {versions_max}; write 1 to 10000000"));
        }
        Ok(MlflowConfig {
            url,
            login,
            interval,
            full_interval,
            timeout: duration("lineage.mlflow.timeout", self.timeout.as_deref(), Duration::from_secs(30))?,
            versions_max,
            ask_aliases: self.ask_aliases,
            follows: self.follows.into_iter().map(RawFollow::validate).collect::<Result<_, _>>()?,
        })
    }
}

impl RawFollow {
    fn validate(self) -> Result<Follow, DeliveryError> {
        for (name, value) in [("service", &self.service), ("model", &self.model), ("alias", &self.alias)] {
            if value.trim().is_empty() {
                return refuse("follows", format!("{name} is empty; name service, model and alias"));
            }
        }
        let target = Target { service: self.service, environment: self.environment };
        Ok(Follow { target, model: self.model, alias: self.alias, version_tag: self.version_tag })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<MlflowConfig, DeliveryError> {
        let environment = |name: &str| (name == "MLFLOW_TOKEN").then(|| "s3cret".to_owned());
        toml::from_str::<RawMlflow>(text).unwrap().validate(&environment)
    }

    #[test]
    fn settings_have_defaults_and_show_no_token() {
        let config = checked("url = \"http://127.0.0.1:5000/\"\ntoken_env = \"MLFLOW_TOKEN\"").unwrap();
        assert_eq!((config.url.as_str(), config.interval.as_secs()), ("http://127.0.0.1:5000", 60));
        assert_eq!((config.full_interval.as_secs(), config.timeout.as_secs()), (3_600, 30));
        assert!(!format!("{config:?}").contains("s3cret"));
        let config = checked("url = \"https://mlflow\"\nuser = \"ops\"\ntoken_env = \"MLFLOW_TOKEN\"").unwrap();
        assert!(matches!(config.login, Login::Basic { .. }) && !format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        for (text, words) in [
            ("url = \"mlflow\"", "is no address"),
            ("url = \"ftp://mlflow\"", "neither http nor https"),
            ("url = \"http://u:p@mlflow:5000\"", "user or password"),
            ("url = \"http://mlflow:5000/api/2.0/mlflow\"", "ends before /api"),
            ("url = \"http://mlflow\"\ntoken_env = \"MLFLOW_TOKEN\"", "clear text"),
            ("url = \"https://mlflow\"\ntoken_env = \"OTHER\"", "OTHER is not set"),
            ("url = \"https://mlflow\"\nuser = \"ops\"", "has no password"),
            ("url = \"http://mlflow\"\ninterval = \"soon\"", "is no duration"),
            ("url = \"http://mlflow\"\ninterval = \"10ms\"", "below 1s"),
            ("url = \"http://mlflow\"\ninterval = \"2h\"", "full_interval"),
            ("url = \"http://mlflow\"\nversions_max = 0", "versions_max"),
            ("url = \"http://mlflow\"\n[[follows]]\nservice = \"\"\nmodel = \"m\"\nalias = \"a\"", "service is empty"),
        ] {
            let error = checked(text).unwrap_err().to_string();
            assert!(error.starts_with("setting lineage.mlflow.") && error.contains(words), "{text}: {error}");
        }
    }
}
