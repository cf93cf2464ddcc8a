//! Who may ask, and how connections are encrypted.

use std::{collections::HashSet, fmt, net::SocketAddr};

use anyhow::bail;
use driftwatt_query::Tls;

use crate::config::ServerSection;

/// Checked settings of access.
#[derive(Clone, Default)]
pub(crate) struct Access {
    /// Accepted bearer tokens; empty: everybody may ask.
    pub(crate) tokens: HashSet<String>,
    /// Certificate and key; none: no encryption.
    pub(crate) tls: Option<Tls>,
}

// By hand, so that a log of the settings never shows a token.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("tokens", &self.tokens.len()).field("tls", &self.tls).finish()
    }
}

impl Access {
    /// Checks what `server` says of access.
    ///
    /// # Errors
    /// An empty token, half of a certificate and its key, a file that cannot be used, and an address that others reach
    /// while everybody may ask there: Flight SQL without a token, PostgreSQL without users.
    pub(crate) fn of(server: &ServerSection, has_users: bool) -> anyhow::Result<Self> {
        if server.tokens.iter().any(|token| token.trim().is_empty()) {
            bail!("setting server.tokens: a token is empty");
        }
        let tls = match (&server.tls_cert, &server.tls_key) {
            (Some(certificate), Some(key)) => Some(Tls::read(certificate, key)?),
            (None, None) => None,
            (Some(_), None) => bail!("setting server.tls_cert: server.tls_key is missing"),
            (None, Some(_)) => bail!("setting server.tls_key: server.tls_cert is missing"),
        };
        for (name, address, is_closed, remedy) in [
            ("flight", server.flight, !server.tokens.is_empty(), "tokens in server.tokens"),
            ("postgres", server.postgres, has_users, "users in [query.users]"),
        ] {
            if let Some(address) = address.filter(|address: &SocketAddr| !address.ip().is_loopback() && !is_closed) {
                bail!(
                    "setting server.{name}: {address} is not loopback, and whoever reaches it could read everything; \
                     name {remedy}, or listen on 127.0.0.1"
                );
            }
        }
        Ok(Self { tokens: server.tokens.iter().cloned().collect(), tls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(section: &str) -> anyhow::Result<Access> {
        Access::of(&toml::from_str(section)?, false)
    }

    #[test]
    fn an_address_that_others_reach_needs_tokens_or_users() {
        assert!(check("flight = \"127.0.0.1:1\"").is_ok() && check("flight = \"[::1]:1\"").is_ok());
        for address in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"] {
            let error = check(&format!("flight = \"{address}\"")).unwrap_err().to_string();
            assert!(error.contains("server.tokens") && error.contains(address), "{error}");
            let access = check(&format!("flight = \"{address}\"\ntokens = [\"hush\"]")).unwrap();
            assert!(!format!("{access:?}").contains("hush"));
            let error = check(&format!("postgres = \"{address}\"\ntokens = [\"hush\"]")).unwrap_err().to_string();
            assert!(error.contains("query.users") && error.contains(address), "{error}");
            Access::of(&toml::from_str(&format!("postgres = \"{address}\"")).unwrap(), true).unwrap();
        }
    }

    #[test]
    fn what_is_half_given_or_unreadable_is_named() {
        for (section, named) in [
            ("tokens = [\" \"]", "server.tokens"),
            ("tls_cert = \"a\"", "server.tls_key is missing"),
            ("tls_key = \"a\"", "server.tls_cert is missing"),
            ("tls_cert = \"/no/such.pem\"\ntls_key = \"a\"", "/no/such.pem"),
        ] {
            let error = check(section).unwrap_err().to_string();
            assert!(error.contains(named), "{section}: {error}");
        }
    }
}
