//! Where tables are on an S3-compatible store, and how it is reached.

use std::{fmt, time::Duration};

use object_store::{
    ClientOptions, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path as ObjectPath,
};
use serde::Deserialize;

use super::{parse_duration, parse_size};
use crate::error::{Error, Result};

/// The bucket and the prefix below which the tables are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Url {
    /// Name of the bucket.
    pub bucket: String,
    /// Without a slash at either end; may be empty.
    pub prefix: ObjectPath,
}

impl S3Url {
    /// Reads `s3://bucket/prefix`.
    ///
    /// # Errors
    /// [`Error::Config`] if it has another form.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |what: &str| Error::Config { name: "tables", reason: format!("{text:?} {what}") };
        let rest = text.strip_prefix("s3://").ok_or_else(|| wrong("is not like \"s3://bucket/prefix\""))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._/=".contains(c);
        if bucket.is_empty() || !rest.chars().all(plain) {
            return Err(wrong("must be \"s3://bucket/prefix\" of letters, digits and . - _ ="));
        }
        let prefix = ObjectPath::parse(prefix).map_err(|_| wrong("has an empty part or one of dots only"))?;
        Ok(Self { bucket: bucket.to_owned(), prefix })
    }
}

impl fmt::Display for S3Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if self.prefix.as_ref().is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

/// A value that no log and no message shows.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// The `[store.s3]` section as written. What it leaves open comes from the `AWS_*` variables that all S3 clients know.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawS3 {
    /// URL of the service. Default: that of AWS in the region.
    pub endpoint: Option<String>,
    /// Default `AWS_REGION`, else `us-east-1`.
    pub region: Option<String>,
    /// Default `AWS_ACCESS_KEY_ID`.
    pub access_key_id: Option<Secret>,
    /// Default `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: Option<Secret>,
    /// Default `AWS_SESSION_TOKEN`.
    pub session_token: Option<Secret>,
    /// Whether `http://` will do. Default false.
    pub allow_http: Option<bool>,
    /// Time for one answer. Default 30 s.
    pub request_timeout: Option<String>,
    /// How long a request is tried again. Default 60 s.
    pub retry_timeout: Option<String>,
    /// Disk for copies of data files. Default 1 GiB.
    pub cache_size: Option<String>,
}

/// Checked settings of an S3-compatible store.
#[derive(Debug, Clone)]
pub struct S3Settings {
    raw: RawS3,
    request_timeout: Duration,
    retry_timeout: Duration,
    pub(crate) cache_size_bytes: u64,
}

impl Default for S3Settings {
    fn default() -> Self {
        Self {
            raw: RawS3::default(),
            request_timeout: Duration::from_secs(30),
            retry_timeout: Duration::from_secs(60),
            cache_size_bytes: 1 << 30,
        }
    }
}

impl RawS3 {
    /// Checks the section and fills in defaults.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting that cannot be read.
    pub fn validate(self) -> Result<S3Settings> {
        let mut settings = S3Settings::default();
        if let Some(text) = &self.request_timeout {
            settings.request_timeout = parse_duration("s3.request_timeout", text)?;
        }
        if let Some(text) = &self.retry_timeout {
            settings.retry_timeout = parse_duration("s3.retry_timeout", text)?;
        }
        if let Some(text) = &self.cache_size {
            settings.cache_size_bytes = parse_size("s3.cache_size", text)?;
        }
        let http = self.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        if http && self.allow_http != Some(true) {
            let reason = "is http, which anybody on the way can read; set store.s3.allow_http if that is meant";
            return Err(Error::Config { name: "s3.endpoint", reason: reason.into() });
        }
        settings.raw = self;
        Ok(settings)
    }
}

impl S3Settings {
    /// A client of `bucket`; what is not set here comes from the environment.
    ///
    /// # Errors
    /// [`Error::Config`] if the settings do not fit together.
    pub(crate) fn client(&self, bucket: &str) -> Result<AmazonS3> {
        let allow_http = self.raw.allow_http.or_else(|| {
            let text = std::env::var("AWS_ALLOW_HTTP").ok()?;
            Some(["1", "true"].contains(&text.as_str()))
        });
        let options = ClientOptions::new()
            .with_timeout(self.request_timeout)
            .with_connect_timeout(self.request_timeout)
            .with_allow_http(allow_http.unwrap_or(false));
        let retry = RetryConfig { retry_timeout: self.retry_timeout, ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_client_options(options);
        builder = builder.with_retry(retry);
        if let Some(endpoint) = &self.raw.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(region) = &self.raw.region {
            builder = builder.with_region(region);
        }
        if let Some(Secret(key)) = &self.raw.access_key_id {
            builder = builder.with_access_key_id(key);
        }
        if let Some(Secret(key)) = &self.raw.secret_access_key {
            builder = builder.with_secret_access_key(key);
        }
        if let Some(Secret(token)) = &self.raw.session_token {
            builder = builder.with_token(token);
        }
        builder.build().map_err(|error| Error::Config { name: "s3", reason: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_with_and_without_prefix_and_wrong_ones_are_told_apart() {
        for text in ["s3://bucket", "s3://bucket/a", "s3://my.bucket/a/b=c"] {
            assert_eq!(S3Url::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(S3Url::parse("s3://bucket/a/").unwrap().to_string(), "s3://bucket/a");
        for text in
            ["", "bucket", "s3://", "s3:///a", "gs://bucket", "s3://bucket/a//b", "s3://bucket/a b", "s3://b/?x"]
        {
            assert!(S3Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn secrets_are_not_shown_and_http_has_to_be_meant() {
        let settings = |text: &str| serde_json::from_str::<RawS3>(text).unwrap().validate();
        let secret = settings(r#"{"access_key_id": "AKIA", "secret_access_key": "hush", "session_token": "hush"}"#);
        let shown = format!("{:?}", secret.unwrap());
        assert!(!shown.contains("hush") && !shown.contains("AKIA"), "{shown}");
        let error = settings(r#"{"endpoint": "http://127.0.0.1:9000"}"#).unwrap_err().to_string();
        assert!(error.contains("store.s3.endpoint") && error.contains("allow_http"), "{error}");
        settings(r#"{"endpoint": "http://127.0.0.1:9000", "allow_http": true}"#).unwrap();
    }
}
