//! What to compare with what.

use driftwatt_store::PROMOTED;
use serde::Serialize;

use crate::{
    error::{Error, Result},
    rows::literal,
    window::Window,
};

/// Most values of one side that are scored; beyond it every k-th in time order is taken and the score says so.
pub const VALUES_MAX: u64 = 1_000_000;

/// What is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// A metric by the name it was received under.
    Metric(String),
    /// A role of the vocabulary, such as `input.tokens`: whatever metrics carry it, in the canonical unit. Samples only.
    Role(String),
}

/// Where the values come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Samples where there are any, else histograms.
    #[default]
    Auto,
    /// Number data points.
    Samples,
    /// Explicit or exponential histogram data points.
    Histograms,
}

/// A label that must equal a value. The key is a column (`service_name`), the attribute key that fills one
/// (`service.name`), or any other attribute key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Filter {
    /// Column or attribute key.
    pub key: String,
    /// Value.
    pub value: String,
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Side {
    /// When.
    pub window: Window,
    /// Which series; all must hold.
    pub filters: Vec<Filter>,
}

/// A drift question.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DriftRequest {
    /// What is compared.
    pub subject: Subject,
    /// Where the values come from.
    pub source: Source,
    /// What it should look like.
    pub reference: Side,
    /// What it looks like.
    pub current: Side,
}

impl Subject {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Metric(name) | Self::Role(name) => name,
        }
    }

    /// The view that holds its samples, and the condition that selects them there.
    pub(crate) fn samples(&self) -> (&'static str, String) {
        match self {
            Self::Metric(name) => ("metrics", format!("metric = {}", literal(name))),
            Self::Role(role) => {
                let view = match role.split('.').next() {
                    Some("input" | "output") => "inputs",
                    Some("gpu") => "gpu",
                    Some("latency" | "queue") => "latency",
                    _ => "system",
                };
                (view, format!("role = {}", literal(role)))
            }
        }
    }
}

impl Filter {
    /// The filter written `key=value`.
    ///
    /// # Errors
    /// [`Error::Filter`] without a key or without `=`.
    pub fn parse(text: &str) -> Result<Self> {
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                Ok(Self { key: key.trim().to_owned(), value: value.to_owned() })
            }
            _ => Err(Error::Filter(text.to_owned())),
        }
    }

    fn sql(&self) -> String {
        let promoted =
            PROMOTED.iter().find(|label| label.column == self.key || label.keys.contains(&self.key.as_str()));
        match promoted {
            Some(label) => format!("{} = {}", label.column, literal(&self.value)),
            // An absent mark means "not simulated", so that `=false` selects what real sources send.
            None if self.key == "driftwatt.simulated" => {
                format!("coalesce(attributes['driftwatt.simulated'], 'false') = {}", literal(&self.value))
            }
            None => format!("attributes[{}] = {}", literal(&self.key), literal(&self.value)),
        }
    }
}

impl Side {
    /// SQL condition of the filters; empty without any, else it starts with ` AND `.
    pub(crate) fn filter_sql(&self) -> String {
        self.filters.iter().map(|filter| format!(" AND {}", filter.sql())).collect()
    }
}
