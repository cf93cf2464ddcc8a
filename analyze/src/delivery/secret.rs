//! Secrets: read from a file or an environment variable, never from the configuration itself, never printed.

use std::{fmt, path::PathBuf};

use super::DeliveryError;

/// Longest secret that is read, in bytes; a longer file is some other file.
const SECRET_BYTES_MAX: u64 = 4_096;

/// A text that no `Debug` shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// Reads the secret `setting`, given as `setting_file` or `setting_env`; none if neither is.
pub(crate) fn read(
    setting: &str,
    file: Option<&PathBuf>,
    variable: Option<&str>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Secret>, DeliveryError> {
    let refuse = |reason: String| Err(DeliveryError::Setting { setting: setting.to_owned(), reason });
    let text = match (file, variable) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return refuse(format!("is given twice; keep either {setting}_file or {setting}_env"));
        }
        (Some(path), None) => {
            match std::fs::metadata(path) {
                Ok(metadata) if metadata.len() > SECRET_BYTES_MAX => {
                    return refuse(format!("{} is longer than {SECRET_BYTES_MAX} bytes, so no secret", path.display()));
                }
                Ok(_) => {}
                Err(error) => return refuse(format!("read {}: {error}", path.display())),
            }
            match std::fs::read_to_string(path) {
                Ok(text) => text,
                Err(error) => return refuse(format!("read {}: {error}", path.display())),
            }
        }
        (None, Some(name)) => match environment(name) {
            Some(text) => text,
            None => return refuse(format!("the environment variable {name} is not set; set it or use {setting}_file")),
        },
    };
    // Editors and `echo` end a file with a line feed that is no part of the secret.
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return refuse("is empty".into());
    }
    Ok(Some(Secret::new(text)))
}
