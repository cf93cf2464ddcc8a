//! How answers are written, and how a client says which way it wants.

use axum::http::{HeaderMap, header};

use crate::error::{Error, Result};

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One object: columns, rows, count, time.
    Json,
    /// One object per row and line.
    Ndjson,
    /// RFC 4180 with a header line.
    Csv,
    /// Arrow IPC stream.
    Arrow,
    /// A Parquet file.
    Parquet,
}

impl Format {
    const ALL: [Self; 5] = [Self::Json, Self::Ndjson, Self::Csv, Self::Arrow, Self::Parquet];

    /// The format called `name`.
    ///
    /// # Errors
    /// [`Error::Invalid`] listing the formats.
    pub fn parse(name: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|format| format.name() == name);
        known.ok_or_else(|| Error::invalid(format!("unknown format {name:?}; use json, ndjson, csv, arrow or parquet")))
    }

    /// The format that a request wants: by `name`, by its header `accept`, or JSON.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown name. What the header asks for in vain is answered in JSON.
    pub(crate) fn wanted(name: Option<&str>, headers: &HeaderMap) -> Result<Self> {
        match name {
            Some(name) => Self::parse(name),
            None => {
                let ranked = ranked(headers, header::ACCEPT);
                Ok(ranked.iter().find_map(|media_type| Self::of_media_type(media_type)).unwrap_or(Self::Json))
            }
        }
    }

    fn of_media_type(media_type: &str) -> Option<Self> {
        match media_type {
            "*/*" | "application/*" => Some(Self::Json),
            "text/*" => Some(Self::Csv),
            "application/ndjson" | "application/jsonl" => Some(Self::Ndjson),
            other => Self::ALL.into_iter().find(|format| format.media_type() == other),
        }
    }

    /// As requests and answers call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Arrow => "arrow",
            Self::Parquet => "parquet",
        }
    }

    fn media_type(self) -> &'static str {
        self.content_type().split(';').next().unwrap_or_default()
    }

    /// The value of the header `content-type`.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// Whether compressing its bytes again is in vain.
    pub(crate) fn is_compressed(self) -> bool {
        self == Self::Parquet
    }
}

/// The elements of a header of preferences, the most wanted first, without those that are not wanted.
pub(crate) fn ranked(headers: &HeaderMap, name: header::HeaderName) -> Vec<String> {
    let lists = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    let mut elements: Vec<(f32, String)> = lists
        .flat_map(|list| list.split(','))
        .map(|element| {
            let (name, parameters) = element.split_once(';').unwrap_or((element, ""));
            let quality = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("q="));
            let quality = quality.map_or(1.0, |quality| quality.trim().parse().unwrap_or(0.0));
            (quality, name.trim().to_ascii_lowercase())
        })
        .filter(|(quality, _)| *quality > 0.0)
        .collect();
    // Stable: among equals the first comes first.
    elements.sort_by(|a, b| b.0.total_cmp(&a.0));
    elements.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_goes_before_the_header_and_the_header_before_json() {
        let wanted = |name: Option<&str>, accept: &str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            Format::wanted(name, &headers).unwrap()
        };
        assert_eq!(wanted(Some("csv"), "application/vnd.apache.parquet"), Format::Csv);
        for (accept, expected) in [
            ("*/*", Format::Json),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Json),
            ("text/csv", Format::Csv),
            ("application/json;q=0.5, Application/Vnd.Apache.Arrow.Stream", Format::Arrow),
            ("application/vnd.apache.parquet;q=0, application/x-ndjson;q=0.1", Format::Ndjson),
            ("image/png", Format::Json),
            ("text/csv; charset=utf-8; q=0.9, application/vnd.apache.parquet; q=0.95", Format::Parquet),
        ] {
            assert_eq!(wanted(None, accept), expected, "{accept}");
        }
        assert!(Format::wanted(Some("xml"), &HeaderMap::new()).unwrap_err().to_string().contains("parquet"));
    }
}
