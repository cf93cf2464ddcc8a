//! `[delivery]`: where mail and webhooks go, as written and checked.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use lettre::message::Mailbox;
use reqwest::Url;
use serde::Deserialize;

use super::{
    DeliveryError, RetryPolicy,
    secret::{self, Secret},
};

/// `[delivery]` as written.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawDelivery {
    /// Mail; none is sent without it.
    pub mail: Option<RawMail>,
    /// Webhooks, each with a name of its own.
    pub webhook: Vec<RawWebhook>,
    /// How often is tried.
    pub retry: RawRetry,
    /// Mail address of each team or owner that telemetry names.
    pub owners: BTreeMap<String, String>,
}

/// `[delivery.mail]` as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawMail {
    /// Name of the SMTP server; its certificate is checked against it.
    pub host: String,
    /// Default 587 with `starttls`, 465 with `tls`, 25 with `none`.
    pub port: Option<u16>,
    /// `starttls` (default), `tls` or `none`.
    pub security: Option<String>,
    /// Certificates (PEM) trusted besides the system's, for a server with a private authority.
    pub ca_file: Option<PathBuf>,
    /// Sender, `Driftwatt <driftwatt@example.com>`.
    pub from: String,
    /// Recipients of reports, and of alerts whose owner is unknown.
    pub to: Vec<String>,
    /// User name, if the server asks for one.
    pub user: Option<String>,
    /// File with the password.
    pub password_file: Option<PathBuf>,
    /// Environment variable with the password.
    pub password_env: Option<String>,
    /// Longest wait for one answer of the server, in seconds. Default 30.
    pub timeout_seconds: Option<u64>,
}

/// `[[delivery.webhook]]` as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawWebhook {
    /// What logs and the table `deliveries` call it, for the address may be a secret.
    pub name: String,
    /// Address; `https`, or `http` to this machine.
    pub url: Option<String>,
    /// File with the address.
    pub url_file: Option<PathBuf>,
    /// Environment variable with the address.
    pub url_env: Option<String>,
    /// File with the signing secret, `whsec_` and Base64.
    pub secret_file: Option<PathBuf>,
    /// Environment variable with the signing secret.
    pub secret_env: Option<String>,
    /// Longest wait for the answer, in seconds. Default 15.
    pub timeout_seconds: Option<u64>,
}

/// `[delivery.retry]` as written.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawRetry {
    /// Tries in all, 1 to 20. Default 5.
    pub attempts_max: Option<u32>,
    /// Pause after the first failure, doubled after each further one. Default 10 s.
    pub delay_first_seconds: Option<u64>,
    /// Longest pause, at most a day. Default 600 s.
    pub delay_max_seconds: Option<u64>,
}

/// Checked `[delivery]`.
#[derive(Debug, Clone)]
pub struct DeliveryConfig {
    /// Mail, if there is any.
    pub mail: Option<MailConfig>,
    /// Webhooks.
    pub webhooks: Vec<WebhookConfig>,
    /// How often is tried.
    pub retry: RetryPolicy,
    /// Mail address of each owner, by name in lower case.
    pub owners: BTreeMap<String, String>,
}

/// How the connection to the SMTP server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Begins in clear text and must turn to TLS; without STARTTLS nothing is sent.
    StartTls,
    /// TLS from the first byte.
    Tls,
    /// Clear text.
    None,
}

/// User name and password.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Name at the SMTP server.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

/// Checked `[delivery.mail]`.
#[derive(Debug, Clone)]
pub struct MailConfig {
    /// Name of the SMTP server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub security: Security,
    /// Certificates (PEM) trusted besides the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// Sender.
    pub from: Mailbox,
    /// Recipients of what has no owner.
    pub to: Vec<Mailbox>,
    /// Who logs in, if anybody.
    pub credentials: Option<Credentials>,
    /// Longest wait for one answer.
    pub timeout: Duration,
}

/// Checked `[[delivery.webhook]]`.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// What it is called.
    pub name: String,
    /// Its address, which may be a secret.
    pub url: Secret,
    /// The key of signatures.
    pub key: Secret,
    /// Longest wait for the answer.
    pub timeout: Duration,
}

fn refuse<T>(setting: impl Into<String>, reason: impl Into<String>) -> Result<T, DeliveryError> {
    Err(DeliveryError::Setting { setting: setting.into(), reason: reason.into() })
}

fn seconds(setting: &str, value: Option<u64>, default: u64, max: u64) -> Result<Duration, DeliveryError> {
    match value.unwrap_or(default) {
        value @ 1.. if value <= max => Ok(Duration::from_secs(value)),
        value => refuse(setting, format!("is {value}; write 1 to {max} seconds")),
    }
}

impl RawDelivery {
    /// Checks all of it and reads the secrets; `environment` looks a variable up.
    ///
    /// # Errors
    /// [`DeliveryError::Setting`], which names the setting and what to do.
    pub fn validate(self, environment: &dyn Fn(&str) -> Option<String>) -> Result<DeliveryConfig, DeliveryError> {
        let mut webhooks: Vec<WebhookConfig> = Vec::new();
        for raw in self.webhook {
            let webhook = raw.validate(environment)?;
            if webhooks.iter().any(|other| other.name == webhook.name) {
                return refuse("delivery.webhook.name", format!("{:?} is used twice; rename one", webhook.name));
            }
            webhooks.push(webhook);
        }
        let mail = self.mail.map(|mail| mail.validate(environment)).transpose()?;
        let mut owners = BTreeMap::new();
        for (owner, address) in self.owners {
            let address = mailbox("delivery.owners", &address)?.email.to_string();
            if owners.insert(owner.trim().to_lowercase(), address).is_some() {
                return refuse("delivery.owners", format!("{owner:?} is named twice (case does not count); keep one"));
            }
        }
        Ok(DeliveryConfig { mail, webhooks, retry: self.retry.validate()?, owners })
    }
}

impl RawRetry {
    fn validate(self) -> Result<RetryPolicy, DeliveryError> {
        let attempts_max = self.attempts_max.unwrap_or(5);
        if !(1..=20).contains(&attempts_max) {
            return refuse("delivery.retry.attempts_max", format!("is {attempts_max}; write 1 to 20"));
        }
        let delay_first = seconds("delivery.retry.delay_first_seconds", self.delay_first_seconds, 10, 86_400)?;
        let delay_max = seconds("delivery.retry.delay_max_seconds", self.delay_max_seconds, 600, 86_400)?;
        if delay_first > delay_max {
            return refuse(
                "delivery.retry.delay_first_seconds",
                "is above delay_max_seconds; lower one or raise the other",
            );
        }
        Ok(RetryPolicy { attempts_max, delay_first, delay_max })
    }
}

/// Reads the address `text` of the setting `setting`.
pub(super) fn mailbox(setting: &str, text: &str) -> Result<Mailbox, DeliveryError> {
    text.parse().or_else(|error| {
        refuse(
            setting,
            format!("{text:?} is no mail address ({error}); write name@example.com or Name <name@example.com>"),
        )
    })
}

/// Whether `host` is a name or address of this machine.
pub(crate) fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl RawMail {
    fn validate(self, environment: &dyn Fn(&str) -> Option<String>) -> Result<MailConfig, DeliveryError> {
        let (security, port) = match self.security.as_deref() {
            None | Some("starttls") => (Security::StartTls, 587),
            Some("tls") => (Security::Tls, 465),
            Some("none") => (Security::None, 25),
            Some(other) => {
                return refuse("delivery.mail.security", format!("{other:?} is unknown; write starttls, tls or none"));
            }
        };
        if self.host.trim().is_empty() {
            return refuse("delivery.mail.host", "is empty; write the name of the SMTP server");
        }
        let from = mailbox("delivery.mail.from", &self.from)?;
        let to = self.to.iter().map(|to| mailbox("delivery.mail.to", to)).collect::<Result<Vec<_>, _>>()?;
        if to.is_empty() {
            return refuse("delivery.mail.to", "is empty; name who gets reports and alerts without an owner");
        }
        let password = secret::read(
            "delivery.mail.password",
            self.password_file.as_ref(),
            self.password_env.as_deref(),
            environment,
        )?;
        let credentials = match (self.user, password) {
            (Some(user), Some(password)) => Some(Credentials { user, password }),
            (None, None) => None,
            (Some(_), None) => {
                return refuse("delivery.mail.user", "has no password; add password_file or password_env");
            }
            (None, Some(_)) => return refuse("delivery.mail.password", "has no user; add delivery.mail.user"),
        };
        if security == Security::None && credentials.is_some() && !is_this_machine(&self.host) {
            return refuse(
                "delivery.mail.security",
                "none would send the password in clear text; write starttls or tls",
            );
        }
        let ca_pem = match self.ca_file {
            None => None,
            Some(path) => match std::fs::read(&path) {
                Ok(pem) => Some(pem),
                Err(error) => return refuse("delivery.mail.ca_file", format!("read {}: {error}", path.display())),
            },
        };
        let timeout = seconds("delivery.mail.timeout_seconds", self.timeout_seconds, 30, 600)?;
        let port = self.port.unwrap_or(port);
        Ok(MailConfig { host: self.host, port, security, ca_pem, from, to, credentials, timeout })
    }
}

impl RawWebhook {
    fn validate(self, environment: &dyn Fn(&str) -> Option<String>) -> Result<WebhookConfig, DeliveryError> {
        if self.name.trim().is_empty() {
            return refuse("delivery.webhook.name", "is empty; name the webhook, such as \"chat\"");
        }
        let setting = |field: &str| format!("delivery.webhook {:?} {field}", self.name);
        let stored = secret::read(&setting("url"), self.url_file.as_ref(), self.url_env.as_deref(), environment)?;
        let url = match (self.url.as_deref().map(Secret::new), stored) {
            (Some(url), None) | (None, Some(url)) => url,
            (Some(_), Some(_)) => {
                return refuse(setting("url"), "is given twice; keep one of url, url_file and url_env");
            }
            (None, None) => return refuse(setting("url"), "is missing; add url, url_file or url_env"),
        };
        // The address itself is in no error: chat services put their token into it.
        let Ok(parsed) = Url::parse(url.reveal()) else {
            return refuse(setting("url"), "is no address; write https://…");
        };
        match (parsed.scheme(), parsed.host_str()) {
            ("https", Some(_)) => {}
            ("http", Some(host)) if is_this_machine(host) => {}
            _ => return refuse(setting("url"), "is not https; clear text is for addresses of this machine only"),
        }
        let key = secret::read(&setting("secret"), self.secret_file.as_ref(), self.secret_env.as_deref(), environment)?;
        let Some(key) = key else {
            return refuse(
                setting("secret"),
                "is missing; add secret_file or secret_env, so that receivers can check the sender",
            );
        };
        if super::webhook::key_bytes(&key).is_none() {
            let hint = "must be whsec_ and the Base64 of 24 to 64 random bytes; make one with: \
                        printf 'whsec_%s\\n' \"$(openssl rand -base64 32)\"";
            return refuse(setting("secret"), hint);
        }
        let timeout = seconds(&setting("timeout_seconds"), self.timeout_seconds, 15, 600)?;
        Ok(WebhookConfig { name: self.name, url, key, timeout })
    }
}
