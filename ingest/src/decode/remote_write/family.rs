//! Metric families: what type, unit and help Prometheus knows of a name, and what kind of series that makes.
//!
//! 2.0 sends them with the samples. 1.0 sends them now and then by name; they are remembered, in bounded memory.

use std::{collections::HashMap, mem, ops::Deref, sync::Arc};

use driftwatt_store::{Kind, Temporality};

use super::{Form, unit::ucum};
use crate::{
    decode::metric::NAME_SIZE_MAX,
    wire::{Malformed, Reader, Slice},
};

/// Bytes of all that is remembered, about.
const FAMILIES_SIZE_BYTES_MAX: usize = 4 << 20;
/// Bytes of a help text kept.
const HELP_SIZE_MAX: usize = 1024;
/// Bytes of a unit kept.
const UNIT_SIZE_MAX: usize = 64;
/// Bytes of an entry beside its texts, and what a map keeps free.
const ENTRY_SIZE_BYTES: usize = 2 * size_of::<(Arc<str>, Known)>() + 96;

/// `MetricType` of both messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum MetricType {
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

impl MetricType {
    /// A number of a later version is as good as none.
    pub(super) fn from_wire(number: u64) -> Self {
        match number {
            1 => Self::Counter,
            2 => Self::Gauge,
            3 => Self::Histogram,
            4 => Self::GaugeHistogram,
            5 => Self::Summary,
            6 => Self::Info,
            7 => Self::StateSet,
            _ => Self::Unknown,
        }
    }
}

/// A text of the request, or one that is remembered.
#[derive(Debug, Clone)]
pub(super) enum Text<'a> {
    Borrowed(&'a str),
    Shared(Arc<str>),
}

impl Default for Text<'_> {
    fn default() -> Self {
        Self::Borrowed("")
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

/// What is known of the family of a series.
#[derive(Debug, Clone, Default)]
pub(super) struct Family<'a> {
    pub(super) metric_type: MetricType,
    /// UCUM.
    pub(super) unit: Text<'a>,
    pub(super) help: Text<'a>,
}

impl<'a> Family<'a> {
    pub(super) fn new(metric_type: MetricType, unit: &'a str, help: &'a str) -> Self {
        let help = help.get(..help.floor_char_boundary(HELP_SIZE_MAX)).unwrap_or_default();
        let unit = ucum(unit.get(..unit.floor_char_boundary(UNIT_SIZE_MAX)).unwrap_or_default());
        Self { metric_type, unit: Text::Borrowed(unit), help: Text::Borrowed(help) }
    }
}

/// What a number series is. Names of parts say more than the family: of a histogram or a summary `_bucket`, `_count` and
/// `_sum` grow, quantiles do not, and `_created` is a time.
pub(super) fn number_form(metric_type: MetricType, name: &str) -> Form {
    let ends_in = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix));
    let grows = match metric_type {
        MetricType::Counter => !name.ends_with("_created"),
        MetricType::Histogram | MetricType::Summary => ends_in(&["_bucket", "_count", "_sum"]),
        MetricType::Unknown => ends_in(&["_total", "_bucket", "_count", "_sum"]),
        MetricType::Gauge | MetricType::GaugeHistogram | MetricType::Info | MetricType::StateSet => false,
    };
    if grows {
        Form { kind: Kind::Sum, temporality: Temporality::Cumulative, monotonic: true }
    } else {
        Form { kind: Kind::Gauge, temporality: Temporality::Unspecified, monotonic: false }
    }
}

/// `MetricMetadata` of 1.0.
#[derive(Debug, Default)]
pub(super) struct Metadata<'a> {
    name: &'a str,
    family: Family<'a>,
}

/// Reads one `MetricMetadata`. A text that is no UTF-8 is as good as none.
pub(super) fn read(slice: Slice<'_>) -> Result<Metadata<'_>, Malformed> {
    let (mut metric_type, mut name, mut help, mut unit) = (0, "", "", "");
    let mut reader = Reader::new(slice);
    while let Some(field) = reader.next()? {
        match field.number {
            1 => metric_type = field.varint()?,
            2 => name = lenient_text(field.slice()?),
            4 => help = lenient_text(field.slice()?),
            5 => unit = lenient_text(field.slice()?),
            _ => {}
        }
    }
    Ok(Metadata { name, family: Family::new(MetricType::from_wire(metric_type), unit, help) })
}

fn lenient_text(slice: Slice<'_>) -> &str {
    str::from_utf8(slice.bytes).unwrap_or_default()
}

#[derive(Debug, Clone)]
struct Known {
    metric_type: MetricType,
    unit: Arc<str>,
    help: Arc<str>,
}

/// Families by name. Two generations bound the memory: when the young one has half of the bytes, the old one goes.
#[derive(Debug, Default)]
pub(in crate::decode) struct Families {
    young: HashMap<Arc<str>, Known>,
    old: HashMap<Arc<str>, Known>,
    young_size_bytes: usize,
}

impl Families {
    /// Remembers a family. A type that is known stays: two exporters that disagree would else split every series of both
    /// again and again, because the kind is part of a series.
    pub(super) fn remember(&mut self, metadata: &Metadata<'_>) {
        let Metadata { name, family } = metadata;
        if name.is_empty() || name.len() > NAME_SIZE_MAX {
            return;
        }
        if self.get(name).is_some_and(|known| known.metric_type != MetricType::Unknown) {
            return;
        }
        let known =
            Known { metric_type: family.metric_type, unit: Arc::from(&*family.unit), help: Arc::from(&*family.help) };
        self.put(Arc::from(*name), known);
    }

    /// What is known of the family that a series called `name` belongs to.
    pub(super) fn of_series<'a>(&mut self, name: &str) -> Family<'a> {
        let parts = ["_bucket", "_count", "_sum", "_total", "_created", "_gcount", "_gsum", "_info"];
        let part_of = parts.iter().find_map(|part| name.strip_suffix(part));
        let known = match (self.get(name), part_of) {
            (None, Some(family)) => self.get(family),
            (known, _) => known,
        };
        known.map_or_else(Family::default, |known| Family {
            metric_type: known.metric_type,
            unit: Text::Shared(known.unit),
            help: Text::Shared(known.help),
        })
    }

    fn get(&mut self, name: &str) -> Option<Known> {
        if let Some(known) = self.young.get(name) {
            return Some(known.clone());
        }
        let (name, known) = self.old.remove_entry(name)?;
        self.put(name, known.clone());
        Some(known)
    }

    fn put(&mut self, name: Arc<str>, known: Known) {
        let size_bytes = ENTRY_SIZE_BYTES + name.len() + known.unit.len() + known.help.len();
        if self.young_size_bytes + size_bytes > FAMILIES_SIZE_BYTES_MAX / 2 {
            self.old = mem::take(&mut self.young);
            self.young_size_bytes = 0;
        }
        // One that is replaced counts twice until its generation ends, which errs on the side of the bound.
        self.young_size_bytes += size_bytes;
        self.young.insert(name, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_part_says_what_it_is() {
        use MetricType::{Counter, Gauge, GaugeHistogram, Histogram, Summary, Unknown};
        for (metric_type, name, kind) in [
            (Counter, "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", Kind::Sum),
            (Counter, "requests_created", Kind::Gauge),
            (Gauge, "slots_total", Kind::Gauge),
            (Histogram, "seconds_bucket", Kind::Sum),
            (Histogram, "seconds_created", Kind::Gauge),
            (GaugeHistogram, "sizes_bucket", Kind::Gauge),
            (Summary, "seconds", Kind::Gauge),
            (Summary, "seconds_sum", Kind::Sum),
            (Unknown, "requests_total", Kind::Sum),
            (Unknown, "temperature", Kind::Gauge),
        ] {
            assert_eq!(number_form(metric_type, name).kind, kind, "{metric_type:?} {name}");
        }
    }

    fn metadata<'a>(name: &'a str, metric_type: MetricType, help: &'a str) -> Metadata<'a> {
        Metadata { name, family: Family::new(metric_type, "seconds", help) }
    }

    #[test]
    fn a_known_type_stays_and_parts_find_their_family() {
        let mut families = Families::default();
        families.remember(&metadata("f", MetricType::Unknown, "first"));
        families.remember(&metadata("f", MetricType::Histogram, "second"));
        families.remember(&metadata("f", MetricType::Gauge, "third"));
        let family = families.of_series("f_bucket");
        assert_eq!((family.metric_type, &*family.unit, &*family.help), (MetricType::Histogram, "s", "second"));
        assert_eq!(families.of_series("g").metric_type, MetricType::Unknown);
    }

    #[test]
    fn memory_is_bounded_and_one_in_use_stays() {
        let mut families = Families::default();
        let help = "h".repeat(HELP_SIZE_MAX);
        families.remember(&metadata("used", MetricType::Counter, "x"));
        for number in 0..20_000 {
            families.remember(&metadata(&format!("family_{number}"), MetricType::Gauge, &help));
            families.of_series("used");
        }
        let kept = families.young.len() + families.old.len();
        assert!(kept * HELP_SIZE_MAX < FAMILIES_SIZE_BYTES_MAX, "{kept} kept");
        assert_eq!(families.of_series("used").metric_type, MetricType::Counter);
    }
}
