//! What to compare with what.

use serde::Serialize;

use super::{label::label_sql, reference_window::ReferenceKind};
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
    /// How often each value of an attribute was counted: a counter, and the key whose values are the categories.
    Category {
        /// The counter.
        metric: String,
        /// The attribute, as `language`.
        key: String,
    },
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
    /// Stored states by the hour, brought up to date: windows of whole hours. Numbers are counted in buckets 2.2 % wide.
    States,
}

impl Source {
    /// The source called `auto`, `samples`, `histograms` or `states`.
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Auto, Self::Samples, Self::Histograms, Self::States];
        all.into_iter().find(|source| source.as_str() == text)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Samples => "samples",
            Self::Histograms => "histograms",
            Self::States => "states",
        }
    }
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
    /// When: one window, or several that are pooled, oldest first and apart from each other.
    pub windows: Vec<Window>,
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
    /// How the reference was chosen.
    pub reference_kind: ReferenceKind,
    /// What it looks like: one window.
    pub current: Side,
    /// The label value that both sides are limited to, of a run by segments.
    pub segment: Option<Filter>,
}

impl DriftRequest {
    /// The same for the series whose label has this value.
    pub(crate) fn of_segment(&self, segment: &Filter) -> Self {
        let mut request = Self { segment: Some(segment.clone()), ..self.clone() };
        request.reference.filters.push(segment.clone());
        request.current.filters.push(segment.clone());
        request
    }

    /// The same against another reference, with the filters of this one.
    pub(crate) fn against(&self, kind: ReferenceKind, windows: Vec<Window>) -> Self {
        let reference = Side { windows, filters: self.reference.filters.clone() };
        Self { reference, reference_kind: kind, ..self.clone() }
    }

    /// The filters besides the segment, in the order of their text: `region=eu,service.name=chat`, and
    /// `reference: model_version=1; current: model_version=2` where the sides have others; none without any.
    ///
    /// With subject, segment and kind of reference it tells which scores are of the same question.
    pub fn filters_text(&self) -> Option<String> {
        let text = |side: &Side| {
            // The segment is the last filter of both sides.
            let own = side.filters.len() - usize::from(self.segment.is_some());
            let mut filters: Vec<String> = side.filters[..own].iter().map(Filter::text).collect();
            filters.sort_unstable();
            filters.join(",")
        };
        let [reference, current] = [&self.reference, &self.current].map(text);
        match () {
            () if reference == current && reference.is_empty() => None,
            () if reference == current => Some(reference),
            () => Some(format!("reference: {reference}; current: {current}")),
        }
    }
}

impl Subject {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Metric(name) | Self::Role(name) => name,
            Self::Category { metric, .. } => metric,
        }
    }

    /// Name of a metric, or `metric[key]` for the categories of a counter.
    pub fn parse(text: &str) -> Self {
        match text.strip_suffix(']').and_then(|text| text.split_once('[')) {
            Some((metric, key)) if !metric.is_empty() && !key.is_empty() => {
                Self::Category { metric: metric.to_owned(), key: key.to_owned() }
            }
            _ => Self::Metric(text.to_owned()),
        }
    }

    /// Its name in tables: the metric or role, or `metric[key]`.
    pub fn label(&self) -> String {
        match self {
            Self::Metric(name) | Self::Role(name) => name.clone(),
            Self::Category { metric, key } => format!("{metric}[{key}]"),
        }
    }

    /// The view that holds its samples, and the condition that selects them there.
    pub(crate) fn samples(&self) -> (&'static str, String) {
        match self {
            Self::Metric(name) | Self::Category { metric: name, .. } => {
                ("metrics", format!("metric = {}", literal(name)))
            }
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

    /// SQL condition that holds for the series that have it.
    pub(crate) fn sql(&self) -> String {
        format!("{} = {}", label_sql(&self.key), literal(&self.value))
    }

    /// `key=value`
    pub(crate) fn text(&self) -> String {
        format!("{}={}", self.key, self.value)
    }
}

impl Side {
    /// One window.
    pub fn new(window: Window, filters: Vec<Filter>) -> Self {
        Self { windows: vec![window], filters }
    }

    /// From the start of the first window to the end of the last; empty without one.
    pub fn span(&self) -> Window {
        span(&self.windows)
    }

    /// Microseconds of all windows together.
    pub(crate) fn length_us(&self) -> i64 {
        self.windows.iter().map(|window| window.end_us - window.start_us).sum()
    }

    /// The window that holds `time_us`.
    pub(crate) fn window_of(&self, time_us: i64) -> Option<&Window> {
        self.windows.iter().find(|window| (window.start_us..window.end_us).contains(&time_us))
    }

    /// Each window moved back by its own length.
    pub(crate) fn before(&self) -> Self {
        Self { windows: self.windows.iter().map(|window| window.before()).collect(), filters: self.filters.clone() }
    }

    /// SQL condition on `column` that holds inside the windows.
    pub(crate) fn time_sql(&self, column: &str) -> String {
        time_sql(&self.windows, column)
    }

    /// SQL condition of the filters; empty without any, else it starts with ` AND `.
    pub(crate) fn filter_sql(&self) -> String {
        self.filters.iter().map(|filter| format!(" AND {}", filter.sql())).collect()
    }
}

/// From the start of the first window to the end of the last; empty without one.
fn span(windows: &[Window]) -> Window {
    let start_us = windows.iter().map(|window| window.start_us).min().unwrap_or(0);
    Window { start_us, end_us: windows.iter().map(|window| window.end_us).max().unwrap_or(start_us) }
}

/// SQL condition on `column` that holds inside the windows. Of several their span stands before them: a file is left out by the
/// times it begins and ends at, which no list of alternatives bounds.
pub(crate) fn time_sql(windows: &[Window], column: &str) -> String {
    match windows {
        [] => "false".into(),
        [one] => one.condition(column),
        several => {
            let each: Vec<String> = several.iter().map(|window| window.condition(column)).collect();
            format!("{} AND ({})", span(several).condition(column), each.join(" OR "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_windows_are_bounded_by_their_span() {
        let windows = [Window { start_us: 10, end_us: 20 }, Window { start_us: 70, end_us: 80 }];
        let [first, last] = windows.map(|window| window.condition("h.time"));
        let span = Window { start_us: 10, end_us: 80 }.condition("h.time");
        assert_eq!(time_sql(&windows, "h.time"), format!("{span} AND ({first} OR {last})"));
        assert_eq!(time_sql(&windows[..1], "h.time"), first);
        assert_eq!(time_sql(&[], "h.time"), "false");
    }

    #[test]
    fn filters_are_named_without_the_segment() {
        let window = Window { start_us: 10, end_us: 20 };
        let side =
            |filters: &[&str]| Side::new(window, filters.iter().map(|text| Filter::parse(text).unwrap()).collect());
        let request = |reference: &[&str], current: &[&str]| DriftRequest {
            subject: Subject::parse("m"),
            source: Source::Auto,
            reference: side(reference),
            reference_kind: ReferenceKind::Trailing,
            current: side(current),
            segment: None,
        };
        let segment = Filter { key: "tenant".into(), value: "a".into() };
        for (reference, current, text) in [
            (&[][..], &[][..], None),
            (&["b=2", "a=1"], &["a=1", "b=2"], Some("a=1,b=2")),
            (&["v=1"], &["v=2"], Some("reference: v=1; current: v=2")),
            (&["v=1"], &[], Some("reference: v=1; current: ")),
        ] {
            let whole = request(reference, current);
            assert_eq!(whole.filters_text().as_deref(), text);
            assert_eq!(whole.of_segment(&segment).filters_text().as_deref(), text);
        }
    }
}
