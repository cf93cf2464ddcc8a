//! The vocabulary: which source metric means what, in which unit. Data, in `roles.toml` and in the user's file.

mod advice;
mod asked;
mod claims;
mod parse;
mod resolve;
mod spelling;
mod unit;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::{Arc, LazyLock},
};

use serde::Deserialize;

use crate::error::{Error, Result};

pub(crate) use advice::RoleSuggestion;
pub(crate) use asked::{Asked, is_profiling};
pub(crate) use claims::{CLAIMS_FUNCTION, claims_function};
pub(crate) use resolve::{ROLE_FUNCTION, RoleOf};
pub(crate) use spelling::label;
pub(crate) use unit::Conversion;

/// A view over one part of the vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum View {
    Gpu,
    System,
    Latency,
    Inputs,
    Models,
}

impl View {
    pub(crate) const ALL: [Self; 5] = [Self::Gpu, Self::System, Self::Latency, Self::Inputs, Self::Models];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gpu => "gpu",
            Self::System => "system",
            Self::Latency => "latency",
            Self::Inputs => "inputs",
            Self::Models => "models",
        }
    }

    /// Which half of running AI it describes.
    pub(crate) fn dimension(self) -> &'static str {
        match self {
            Self::Gpu | Self::System => "system",
            Self::Latency | Self::Inputs | Self::Models => "ai",
        }
    }
}

/// What one value speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scope {
    Device,
    Mig,
    Process,
    Container,
    Pod,
    Node,
    Cluster,
    Request,
    Model,
}

impl Scope {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Mig => "mig",
            Self::Process => "process",
            Self::Container => "container",
            Self::Pod => "pod",
            Self::Node => "node",
            Self::Cluster => "cluster",
            Self::Request => "request",
            Self::Model => "model",
        }
    }
}

/// What a quantity is, whatever its sources call it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Definition {
    pub(crate) view: View,
    /// Canonical unit (UCUM); `*` is the unit that the source declares.
    pub(crate) unit: String,
    /// One sentence for people.
    #[serde(default)]
    pub(crate) about: String,
    /// How deep a measure of "busy" it is: `duty_cycle`, `engine_active`, `sm_active`, …
    #[serde(default)]
    pub(crate) rung: Option<String>,
    /// Values outside are implausible.
    #[serde(default)]
    pub(crate) min: Option<f64>,
    #[serde(default)]
    pub(crate) max: Option<f64>,
    /// A property of the whole card: what a source reports per slice or pod are copies.
    #[serde(default)]
    pub(crate) card: bool,
    /// The source counts up from a start.
    #[serde(default)]
    pub(crate) counter: bool,
    /// What it counts since, which says what a reset means.
    #[serde(default)]
    pub(crate) counts_since: CountsSince,
    /// The role of what the counter gains in a second.
    #[serde(default)]
    pub(crate) rate: Option<String>,
    /// How it follows from counters.
    #[serde(default)]
    pub(crate) quotient: Option<Quotient>,
}

/// The moment a counter counts since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CountsSince {
    /// The driver was loaded. It goes on when whoever reports it restarts; what was lost when it falls cannot be known.
    Driver,
    /// The machine was booted, or the container made. It goes on when whoever reports it restarts.
    Boot,
    /// The process began: a new start time is a reset.
    #[default]
    Process,
}

impl CountsSince {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Driver => "driver",
            Self::Boot => "boot",
            Self::Process => "process",
        }
    }
}

/// A role as the increase of one counter over that of another, of all series of one owner and moment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Quotient {
    /// Role of the counter above.
    pub(crate) of: String,
    /// Role of the counter below; of several the first one that there is.
    pub(crate) per: Vec<String>,
    /// Attributes and values, both `a|b`: series that have one do not count above, and without any there is no answer.
    #[serde(default)]
    pub(crate) unless: BTreeMap<String, String>,
}

/// One row of the table: a source metric, under conditions, means a role.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// The group it stands in.
    pub(crate) source: Arc<str>,
    /// Place of the group: of two sources for one role of one device, the smaller place holds.
    pub(crate) rank: i64,
    /// Source metric name as received, or its beginning and `*`.
    pub(crate) metric: String,
    /// All names that are taken for it, `metric` first.
    pub(crate) spellings: Vec<String>,
    pub(crate) when: Vec<Condition>,
    /// What it is; after a prefix, `*` stands for the rest of the name.
    pub(crate) role: String,
    pub(crate) definition: Arc<Definition>,
    /// The unit of the source's values.
    pub(crate) unit: String,
    pub(crate) conversion: Conversion,
    pub(crate) scope: Scope,
    /// Values from here on mean "no value" at the source (DCGM).
    pub(crate) blank_from: Option<f64>,
    /// What its increase per second is.
    pub(crate) rate: Option<Rate>,
}

/// What the increase per second of a counter is.
#[derive(Debug, Clone)]
pub(crate) struct Rate {
    pub(crate) role: String,
    pub(crate) definition: Arc<Definition>,
    /// From the unit of the counter's role per second.
    pub(crate) conversion: Conversion,
}

/// An attribute that must have this value, under any of its keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Condition {
    pub(crate) keys: Vec<String>,
    pub(crate) value: String,
}

impl Row {
    /// For a name that ends in `*`: the beginning.
    pub(crate) fn prefix(&self) -> Option<&str> {
        self.metric.strip_suffix('*')
    }

    /// The role of a series called `metric`.
    pub(crate) fn role_of(&self, metric: &str) -> String {
        match (self.role.strip_suffix('*'), self.prefix().and_then(|prefix| metric.strip_prefix(prefix))) {
            (Some(start), Some(rest)) => format!("{start}{rest}"),
            _ => self.role.clone(),
        }
    }

    /// Conditions as text: `hw.type=gpu`.
    pub(crate) fn conditions(&self) -> String {
        let pairs = self.when.iter().map(|condition| format!("{}={}", condition.keys.join("|"), condition.value));
        pairs.collect::<Vec<_>>().join(",")
    }
}

/// An attribute key that fills a label of the role views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LabelKey {
    pub(crate) key: String,
    /// Put before a bare UUID, so that all sources name a device alike.
    pub(crate) uuid_prefix: Option<String>,
}

/// The whole vocabulary, ready to be asked.
#[derive(Debug)]
pub struct RoleTable {
    /// In the order in which they are applied.
    pub(crate) rows: Vec<Row>,
    pub(crate) labels: BTreeMap<String, Vec<LabelKey>>,
    /// Every role, also those without a source of their own.
    pub(crate) definitions: BTreeMap<String, Arc<Definition>>,
    /// Attributes that tell the series of a sum apart, such as the mode and number of a CPU.
    summed: BTreeSet<String>,
    /// Attributes that say whose work it is, not which device; names, and beginnings that end in `*`.
    workload: BTreeSet<String>,
    by_name: HashMap<String, Vec<usize>>,
    prefixes: Vec<usize>,
}

impl RoleTable {
    /// The table that ships with the binary.
    ///
    /// # Errors
    /// [`Error::Roles`] naming the row that is wrong.
    pub(crate) fn shipped() -> Result<Arc<Self>> {
        static SHIPPED: LazyLock<Result<Arc<RoleTable>, String>> =
            LazyLock::new(|| parse::table(&[("roles.toml", SHIPPED_TEXT)]).map(Arc::new));
        SHIPPED.clone().map_err(Error::Roles)
    }

    /// The shipped table under the rows of `file`, which come first.
    ///
    /// # Errors
    /// [`Error::Roles`] naming the file, and the row that is wrong.
    pub(crate) fn with_file(file: &Path) -> Result<Arc<Self>> {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|error| Error::Roles(format!("read {name}: {error}")))?;
        let table = parse::table(&[(&name, &text), ("roles.toml", SHIPPED_TEXT)]).map_err(Error::Roles)?;
        Ok(Arc::new(table))
    }

    fn new(rows: Vec<Row>, definitions: BTreeMap<String, Arc<Definition>>) -> Self {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        let mut prefixes = Vec::new();
        for (place, row) in rows.iter().enumerate() {
            if row.prefix().is_some() {
                prefixes.push(place);
            }
            for name in &row.spellings {
                by_name.entry(name.clone()).or_default().push(place);
            }
        }
        let (labels, summed, workload) = Default::default();
        Self { rows, labels, definitions, summed, workload, by_name, prefixes }
    }

    /// The rows that may hold for a series called `metric`, the first one first: exact names, then patterns.
    pub(crate) fn candidates<'a>(&'a self, metric: &'a str) -> impl Iterator<Item = usize> + 'a {
        let exact = self.by_name.get(metric).map(Vec::as_slice).unwrap_or_default();
        let fits = move |place: &usize| self.rows[*place].prefix().is_some_and(|prefix| metric.starts_with(prefix));
        exact.iter().copied().chain(self.prefixes.iter().copied().filter(fits))
    }

    /// Whether the attribute `key` says whose work it is, or which device, and not which part of the device.
    pub(crate) fn names_no_part(&self, key: &str) -> bool {
        let begins = |pattern: &String| pattern.strip_suffix('*').is_some_and(|start| key.starts_with(start));
        self.workload.contains(key)
            || self.labels.values().flatten().any(|label| label.key == key)
            || self.workload.iter().any(begins)
    }

    /// Whether the attribute `key` tells the series of a sum apart.
    pub(crate) fn is_summed(&self, key: &str) -> bool {
        self.summed.contains(key)
    }

    /// Every metric that may have one of `roles` if `asked`.
    pub(crate) fn metrics_of(&self, asked: Asked, roles: &[&str]) -> Metrics {
        let mut metrics = Metrics::default();
        for row in &self.rows {
            let may = |role: &&str| match asked.role(row) {
                None => false,
                Some(known) => match known.strip_suffix('*') {
                    Some(start) => role.starts_with(start),
                    None => *role == known,
                },
            };
            if !roles.iter().any(may) {
                continue;
            }
            metrics.prefixes.extend(row.prefix().map(str::to_owned));
            metrics.names.extend(row.spellings.iter().cloned());
        }
        metrics
    }
}

/// Metrics by name and by beginning.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) names: BTreeSet<String>,
    pub(crate) prefixes: BTreeSet<String>,
}

impl Metrics {
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.prefixes.is_empty()
    }
}

const SHIPPED_TEXT: &str = include_str!("roles.toml");

#[cfg(test)]
mod document;
#[cfg(test)]
mod tests;
