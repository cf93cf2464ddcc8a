//! `[drift]` of the configuration: what features weigh, and windows that have a name.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use driftwatt_analyze::{Window, drift::FeatureWeights};
use serde::Deserialize;

use super::question::{span, span_text};

/// Names that stand for something else where a reference is asked for.
const TAKEN: [&str; 2] = ["trailing", "seasonal"];

/// `[drift]` as written.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DriftSection {
    /// Weight of each feature, by its name. Default 1.
    pub(crate) weights: BTreeMap<String, f64>,
    /// Reference windows by name, `FROM/TO` in UTC, as those of releases. Default none.
    pub(crate) references: BTreeMap<String, String>,
}

/// The same, checked.
#[derive(Debug, Default, Clone)]
pub(crate) struct DriftSettings {
    /// What each feature weighs in a rank.
    pub(crate) weights: FeatureWeights,
    references: BTreeMap<String, Window>,
}

impl DriftSection {
    /// Checks it.
    ///
    /// # Errors
    /// A weight that is none, a name that is taken, a window that cannot be read.
    pub(crate) fn validate(self) -> anyhow::Result<DriftSettings> {
        let mut references = BTreeMap::new();
        for (name, text) in self.references {
            let setting = format!("setting drift.references.{name:?}");
            ensure!(
                !name.trim().is_empty() && !name.contains('/') && !TAKEN.contains(&name.as_str()),
                "{setting}: trailing, seasonal and names with a / mean something else; write another name"
            );
            let window = span(&text).context(setting)?;
            references.insert(name, window);
        }
        Ok(DriftSettings { weights: FeatureWeights::new(self.weights)?, references })
    }
}

impl DriftSettings {
    /// `text`, or the window that it names, written down: a question that is recorded must not change with the configuration.
    pub(crate) fn written(&self, text: &str) -> String {
        self.references.get(text).map_or_else(|| text.to_owned(), |window| span_text(*window))
    }

    /// The window that `text` names or writes down.
    ///
    /// # Errors
    /// It does neither.
    pub(crate) fn reference(&self, text: &str) -> anyhow::Result<Window> {
        if let Some(window) = self.references.get(text) {
            return Ok(*window);
        }
        if !text.contains('/') {
            let known = self.references.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() { "none is configured".to_owned() } else { format!("there are {known}") };
            bail!(
                "no reference is called {text:?} in [drift.references] ({known}); write trailing, seasonal, or a window like \
                 2026-11-09/2026-11-16"
            );
        }
        span(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_a_name_or_is_a_window() {
        let section = |text: &str| toml::from_str::<DriftSection>(text).unwrap().validate();
        let settings = section("references = { \"resnet 2.1\" = \"2026-11-02/2026-11-09\" }").unwrap();
        let window = span("2026-11-02/2026-11-09").unwrap();
        assert_eq!(settings.reference("resnet 2.1").unwrap(), window);
        assert_eq!(settings.reference("2026-11-02T00:00:00Z/2026-11-09").unwrap(), window);
        assert_eq!(settings.written("resnet 2.1"), "2026-11-02T00:00:00Z/2026-11-09T00:00:00Z");
        assert_eq!(settings.written("seasonal"), "seasonal");
        let unknown = settings.reference("resnet").unwrap_err().to_string();
        assert!(unknown.contains("there are resnet 2.1"), "{unknown}");
        for (text, words) in [
            ("references = { seasonal = \"2026-11-02/2026-11-09\" }", "another name"),
            ("references = { \"a/b\" = \"2026-11-02/2026-11-09\" }", "another name"),
            ("references = { old = \"2026-11-02\" }", "drift.references.\"old\""),
            ("weights = { a = -1 }", "drift.weights.\"a\""),
        ] {
            let error = format!("{:#}", section(text).unwrap_err());
            assert!(error.contains(words), "{error}");
        }
    }
}
