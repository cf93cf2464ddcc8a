//! Sizes in settings: a text with a unit, or a bare number of bytes.

use serde::{Deserialize, Deserializer, de::Error as _};

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Bytes(i64),
    Text(String),
}

/// A size as written, `"64MiB"` or `67108864`, as text for whoever checks the setting. For `deserialize_with`.
///
/// # Errors
/// Anything but a text and a number that is not negative.
pub fn size_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let wrong = || D::Error::custom("a size is written as \"64MiB\", or as a number of bytes");
    match Written::deserialize(deserializer).map_err(|_| wrong())? {
        Written::Bytes(bytes) if bytes < 0 => Err(wrong()),
        Written::Bytes(bytes) => Ok(Some(bytes.to_string())),
        Written::Text(text) => Ok(Some(text)),
    }
}

#[cfg(test)]
mod tests {
    use crate::RawConfig;

    #[test]
    fn a_size_is_a_text_or_a_number_of_bytes() {
        let read = |json: &str| serde_json::from_str::<RawConfig>(json).map(|raw| raw.flush_size);
        assert_eq!(read("{}").unwrap(), None);
        assert_eq!(read("{\"flush_size\": \"64MiB\"}").unwrap().as_deref(), Some("64MiB"));
        assert_eq!(read("{\"flush_size\": 1048576}").unwrap().as_deref(), Some("1048576"));
        for wrong in ["-1", "1.5", "true", "[]"] {
            let error = read(&format!("{{\"flush_size\": {wrong}}}")).unwrap_err().to_string();
            assert!(error.contains("number of bytes"), "{error}");
        }
    }
}
