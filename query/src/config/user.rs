//! One user of `[query.users]`: a password, and limits of the user's own.

use std::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{DURATION_UNITS, SIZE_UNITS, WAITING_PER_SLOT, quantity};
use crate::{
    error::{Error, Result},
    postgres::Verifier,
};

/// A user as written: a password alone, or a table with a `password` and limits.
#[derive(Clone)]
pub struct RawUser(Section);

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    password: String,
    timeout: Option<String>,
    rows_max: Option<u64>,
    #[serde(default, deserialize_with = "driftwatt_store::size_text")]
    bytes_max: Option<String>,
    #[serde(default, deserialize_with = "driftwatt_store::size_text")]
    memory: Option<String>,
    concurrency_max: Option<usize>,
}

// By hand, so that no log shows a password.
impl fmt::Debug for RawUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RawUser(…)")
    }
}

impl<'de> Deserialize<'de> for RawUser {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UserVisitor)
    }
}

struct UserVisitor;

impl<'de> Visitor<'de> for UserVisitor {
    type Value = RawUser;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a password, or a table with a password and limits")
    }

    fn visit_str<E>(self, password: &str) -> Result<RawUser, E> {
        let password = password.to_owned();
        let (timeout, rows_max, bytes_max, memory, concurrency_max) = (None, None, None, None, None);
        Ok(RawUser(Section { password, timeout, rows_max, bytes_max, memory, concurrency_max }))
    }

    // The usual error would show it.
    fn visit_i64<E: serde::de::Error>(self, _password: i64) -> Result<RawUser, E> {
        Err(E::custom("a password of digits only must be in quotes, in the configuration file"))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawUser, A::Error> {
        Section::deserialize(MapAccessDeserializer::new(map)).map(RawUser)
    }
}

/// What a user may use; none is what everybody may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserLimits {
    /// Time one query of the user may take.
    pub timeout: Option<Duration>,
    /// Rows of one answer; a longer one ends with an error.
    pub rows_max: Option<u64>,
    /// Bytes of one answer as Arrow columns, before it is written as text or compressed; a larger one ends with an error.
    pub bytes_max: Option<u64>,
    /// Memory of all queries of the user together.
    pub memory_bytes: Option<usize>,
    /// Queries of the user at once; eight times as many wait, further ones are refused.
    pub concurrency_max: Option<usize>,
}

impl UserLimits {
    /// Queries of the user that wait for a place among `concurrency_max`.
    pub(crate) fn waiting_max(concurrency_max: usize) -> usize {
        concurrency_max.saturating_mul(WAITING_PER_SLOT)
    }
}

impl RawUser {
    /// What passwords are checked against, and the limits.
    ///
    /// # Errors
    /// [`Error::Config`] naming `user` and what cannot be read.
    pub(super) fn validate(self, user: &str) -> Result<(Verifier, UserLimits)> {
        let Section { password, timeout, rows_max, bytes_max, memory, concurrency_max } = self.0;
        let wrong = |reason: String| Error::Config { name: "users", reason: format!("{user}: {reason}") };
        let read = |name: &str, text: Option<String>, units: &[(&str, u64)], expected: &str| {
            let value = text.map(|text| quantity("users", &text, units, expected)).transpose();
            value.map_err(|error| match error {
                Error::Config { reason, .. } => wrong(format!("{name}: {reason}")),
                other => other,
            })
        };
        let timeout = read("timeout", timeout, &DURATION_UNITS, "a duration like \"30s\"")?;
        let memory = read("memory", memory, &SIZE_UNITS, "a size like \"1GiB\"")?;
        let bytes_max = read("bytes_max", bytes_max, &SIZE_UNITS, "a size like \"64MiB\"")?;
        if rows_max == Some(0) || bytes_max == Some(0) || concurrency_max == Some(0) {
            return Err(wrong("rows_max, bytes_max and concurrency_max must be above 0".into()));
        }
        let limits = UserLimits {
            timeout: timeout.map(Duration::from_millis),
            rows_max,
            bytes_max,
            memory_bytes: memory.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
            concurrency_max,
        };
        Ok((verifier(&password).map_err(|reason| wrong(reason.into()))?, limits))
    }
}

fn verifier(password: &str) -> Result<Verifier, &'static str> {
    match password.parse() {
        Ok(verifier) => Ok(verifier),
        Err(_) if password.starts_with("SCRAM-SHA-256$") => Err("a verifier is cut or changed"),
        Err(_) if password.starts_with("md5") => Err("passwords hashed by MD5 are not taken"),
        Err(_) if password.is_empty() => Err("a password is empty"),
        Err(_) => Ok(Verifier::of(password)),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::RawConfig, *};

    #[test]
    fn a_user_is_a_password_or_a_table_with_limits() {
        let section = "[users]\nplain = \"secret\"\n[users.guest]\npassword = \"other\"\ntimeout = \"2s\"\n\
                       rows_max = 100\nbytes_max = \"1MiB\"\nmemory = \"64MiB\"\nconcurrency_max = 1";
        let raw: RawConfig = toml::from_str(section).unwrap();
        assert!(!format!("{raw:?}").contains("secret"));
        let config = raw.validate().unwrap();
        assert_eq!(config.users.keys().collect::<Vec<_>>(), ["guest", "plain"]);
        let limits = UserLimits {
            timeout: Some(Duration::from_secs(2)),
            rows_max: Some(100),
            bytes_max: Some(1 << 20),
            memory_bytes: Some(64 << 20),
            concurrency_max: Some(1),
        };
        assert_eq!(config.user_limits.get("guest"), Some(&limits));
        assert_eq!(config.user_limits.get("plain"), Some(&UserLimits::default()));
    }

    #[test]
    fn what_is_wrong_with_a_user_is_named_and_no_password_shown() {
        let check = |user: &str| {
            let raw = toml::from_str::<RawConfig>(&format!("[users.guest]\n{user}"));
            raw.map_err(|error| error.message().to_owned())
                .and_then(|raw| raw.validate().map(|_| ()).map_err(|error| error.to_string()))
        };
        for (user, part) in [
            ("password = \"\"", "guest: a password is empty"),
            ("password = \"hunter2\"\ntimeout = \"soon\"", "guest: timeout:"),
            ("password = \"hunter2\"\nrows_max = 0", "guest: rows_max"),
            ("password = \"hunter2\"\nbytes_max = \"much\"", "guest: bytes_max:"),
            ("password = \"hunter2\"\nrows = 5", "unknown field `rows`"),
            ("", "missing field `password`"),
            ("timeout = \"1s\"", "missing field `password`"),
        ] {
            let message = check(user).unwrap_err();
            assert!(message.contains(part) && !message.contains("hunter2"), "{user}: {message}");
        }
    }
}
