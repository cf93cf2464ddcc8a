//! Bearer tokens, where the settings name any.

use std::collections::HashSet;

use crate::error::{Error, Result};

/// Checks the header `authorization` against `tokens`; without tokens everyone may write.
pub(crate) fn authorize(tokens: &HashSet<String>, header: Option<&[u8]>) -> Result<()> {
    if tokens.is_empty() {
        return Ok(());
    }
    let token = header
        .and_then(|header| str::from_utf8(header).ok())
        .and_then(|header| header.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    // A set with keyed hashes: the time of a miss tells nothing about the tokens in it.
    match token {
        Some(token) if tokens.contains(token) => Ok(()),
        _ => Err(Error::Unauthenticated),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_named_token_opens() {
        let tokens = HashSet::from(["secret".to_owned()]);
        let check = |header: &str| authorize(&tokens, Some(header.as_bytes())).is_ok();
        assert!(check("Bearer secret"));
        assert!(check("bearer secret"));
        assert!(!check("Bearer other"));
        assert!(!check("Basic secret"));
        assert!(!check("secret"));
        assert!(authorize(&tokens, None).is_err());
        assert!(authorize(&HashSet::new(), None).is_ok());
    }
}
