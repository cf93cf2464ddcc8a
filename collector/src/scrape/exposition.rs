//! Exposition pages: Prometheus text 0.0.4 and OpenMetrics 1.0.
//!
//! A line that cannot be read is counted and left out; the rest of the page is kept. An OpenMetrics page says where it
//! ends, so one that was cut off is known as such.
//!
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/> and
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>

mod line;

use std::{collections::HashMap, sync::Arc};

use self::line::{name_and_rest, read_sample, unescape};

/// How a page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// Type of a metric family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum FamilyType {
    #[default]
    Unknown,
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    StateSet,
}

impl FamilyType {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "counter" => Self::Counter,
            "gauge" => Self::Gauge,
            "histogram" => Self::Histogram,
            "gaugehistogram" => Self::GaugeHistogram,
            "summary" => Self::Summary,
            "info" => Self::Info,
            "stateset" => Self::StateSet,
            "unknown" | "untyped" => Self::Unknown,
            _ => return None,
        })
    }

    /// What the names of its samples may end in, beside nothing.
    fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Counter => &["_total", "_created"],
            Self::Histogram => &["_bucket", "_count", "_sum", "_created"],
            Self::GaugeHistogram => &["_bucket", "_gcount", "_gsum", "_count", "_sum"],
            Self::Summary => &["_count", "_sum", "_created"],
            Self::Info => &["_info"],
            Self::Gauge | Self::StateSet | Self::Unknown => &[],
        }
    }
}

/// One metric family with its samples in the order of the page.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) name: Arc<str>,
    pub(crate) family_type: FamilyType,
    pub(crate) help: Arc<str>,
    /// As written, such as `seconds`.
    pub(crate) unit: Arc<str>,
    pub(crate) samples: Vec<Sample>,
    is_typed: bool,
}

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    /// In the order of the page; none has an empty value.
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: f64,
    /// UTC milliseconds, where the page has a time.
    pub(crate) time_ms: Option<i64>,
}

/// What a page holds.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) families: Vec<Family>,
    pub(crate) sample_count: usize,
    /// Lines left out.
    pub(crate) error_count: usize,
    /// The first of them, counted from 1, and what is wrong with it.
    pub(crate) first_error: Option<(usize, &'static str)>,
    /// False for an OpenMetrics page without its end.
    pub(crate) is_complete: bool,
    by_name: HashMap<Arc<str>, usize>,
}

/// Reads a page.
pub(crate) fn parse(text: &str, format: Format) -> Page {
    let mut page = Page { is_complete: format == Format::Text, ..Page::default() };
    let mut has_ended = false;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_matches([' ', '\t', '\r']);
        if line.is_empty() {
            continue;
        }
        let read = if has_ended {
            Err("text after # EOF")
        } else if format == Format::OpenMetrics && line == "# EOF" {
            (has_ended, page.is_complete) = (true, true);
            Ok(())
        } else if let Some(comment) = line.strip_prefix('#') {
            page.comment(comment.trim_start(), format)
        } else {
            read_sample(line, format).map(|sample| page.add(sample))
        };
        if let Err(reason) = read {
            page.error_count += 1;
            page.first_error.get_or_insert((number + 1, reason));
        }
    }
    page
}

impl Page {
    /// `HELP`, `TYPE` and `UNIT`; every other comment is for people.
    fn comment(&mut self, comment: &str, format: Format) -> Result<(), &'static str> {
        let (keyword, rest) = comment.split_once([' ', '\t']).unwrap_or((comment, ""));
        let is_known = matches!(keyword, "HELP" | "TYPE") || keyword == "UNIT" && format == Format::OpenMetrics;
        if !is_known {
            return Ok(());
        }
        let (name, rest) = name_and_rest(rest.trim_start())?;
        let family = self.family(&name);
        match keyword {
            "HELP" => family.help = unescape(rest.trim_start()).into(),
            "UNIT" => family.unit = rest.trim().into(),
            _ => {
                let family_type = FamilyType::parse(rest.trim()).ok_or("TYPE names no type that there is")?;
                if family.is_typed || !family.samples.is_empty() {
                    return Err("TYPE comes a second time or after the samples");
                }
                (family.family_type, family.is_typed) = (family_type, true);
            }
        }
        Ok(())
    }

    fn family(&mut self, name: &str) -> &mut Family {
        let index = match self.by_name.get(name) {
            Some(index) => *index,
            None => {
                let name: Arc<str> = Arc::from(name);
                self.by_name.insert(Arc::clone(&name), self.families.len());
                self.families.push(Family { name, ..Family::default() });
                self.families.len() - 1
            }
        };
        &mut self.families[index]
    }

    /// Puts a sample in the family that was declared for it, else in one of its own.
    fn add(&mut self, sample: Sample) {
        self.sample_count += 1;
        let is_declared = |name: &str| self.by_name.contains_key(name);
        let parts = ["_total", "_bucket", "_count", "_sum", "_created", "_gcount", "_gsum", "_info"];
        let declared = parts.iter().find_map(|part| {
            let index = self.by_name.get(sample.name.strip_suffix(part)?)?;
            self.families[*index].family_type.suffixes().contains(part).then_some(*index)
        });
        match declared {
            Some(index) if !is_declared(&sample.name) => self.families[index].samples.push(sample),
            _ => {
                let name = sample.name.clone();
                self.family(&name).samples.push(sample);
            }
        }
    }
}

#[cfg(test)]
mod tests;
