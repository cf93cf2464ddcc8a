//! A page to points: families put together, labels in their place.
//!
//! A counter is a monotonic sum, a histogram one explicit histogram, a summary one summary; all else are gauges. Names stay
//! as they are on the page. What belongs together and does not fit is left out and counted.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::{
    exposition::{Family, FamilyType, Page, Sample},
    owner::{Owner, TargetLabels},
    unit::ucum,
};

type Labels = Vec<(String, String)>;

/// One point and the series it belongs to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    pub(crate) owner: Arc<Owner>,
    pub(crate) metric: Arc<str>,
    pub(crate) unit: Arc<str>,
    pub(crate) description: Arc<str>,
    /// Sorted by name.
    pub(crate) attributes: Labels,
    /// UTC milliseconds.
    pub(crate) time_ms: i64,
    /// Whether the page gave the time.
    pub(crate) has_own_time: bool,
    /// Since when it counts; 0 for what does not.
    pub(crate) start_ms: i64,
    /// True for a staleness marker.
    pub(crate) is_stale: bool,
    pub(crate) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Gauge(f64),
    /// Monotonic, cumulative.
    Sum(f64),
    /// Cumulative; one count more than bounds.
    Histogram {
        bounds: Vec<f64>,
        counts: Vec<u64>,
        count: u64,
        sum: Option<f64>,
    },
    Summary {
        count: u64,
        sum: f64,
        quantiles: Vec<(f64, f64)>,
    },
}

impl Value {
    /// What only grows until it is reset; none for a gauge.
    pub(crate) fn growing(&self) -> Option<f64> {
        match self {
            Self::Gauge(_) => None,
            Self::Sum(value) => Some(*value),
            Self::Histogram { count, .. } | Self::Summary { count, .. } => Some(*count as f64),
        }
    }
}

/// Points of a page, and how many of its samples did not fit.
#[derive(Debug, Default)]
pub(crate) struct Points {
    pub(crate) points: Vec<Point>,
    pub(crate) error_count: usize,
}

/// The points of `page`, scraped at `time_ms`.
pub(crate) fn points(page: &Page, target: &TargetLabels, time_ms: i64) -> Points {
    let mut assembly =
        Assembly { target, time_ms, seen: HashSet::new(), owners: BTreeMap::new(), out: Points::default() };
    for family in &page.families {
        match family.family_type {
            FamilyType::Histogram | FamilyType::Summary => assembly.distributions(family),
            _ => assembly.numbers(family),
        }
    }
    assembly.out
}

struct Assembly<'t> {
    target: &'t TargetLabels,
    time_ms: i64,
    /// Names and labels so far: a page must not have a series twice.
    seen: HashSet<(Arc<str>, Arc<Owner>, Labels)>,
    owners: BTreeMap<Owner, Arc<Owner>>,
    out: Points,
}

/// The samples of one histogram or summary.
#[derive(Debug, Default)]
struct Parts {
    /// Upper bound and cumulative count, or quantile and value.
    steps: Vec<(f64, f64)>,
    sum: Option<f64>,
    count: Option<f64>,
    created: Option<f64>,
    time_ms: Option<i64>,
    sample_count: usize,
}

impl Assembly<'_> {
    fn numbers(&mut self, family: &Family) {
        let is_counter = family.family_type == FamilyType::Counter;
        let mut created: BTreeMap<Labels, f64> = BTreeMap::new();
        if is_counter {
            let times = family.samples.iter().filter(|sample| is_created(family, sample));
            created.extend(times.map(|sample| (sorted(&sample.labels), sample.value)));
        }
        for sample in &family.samples {
            if is_counter && is_created(family, sample) {
                continue;
            }
            let grows = match family.family_type {
                FamilyType::Counter => true,
                FamilyType::Unknown => {
                    ["_total", "_bucket", "_count", "_sum"].iter().any(|suffix| sample.name.ends_with(suffix))
                }
                _ => false,
            };
            let value = if grows { Value::Sum(sample.value) } else { Value::Gauge(sample.value) };
            let labels = sorted(&sample.labels);
            let start_ms = created.get(&labels).map_or(0, |seconds| millis(*seconds));
            self.push(family, sample.name.as_str().into(), labels, sample.time_ms, start_ms, value);
        }
    }

    fn distributions(&mut self, family: &Family) {
        let is_histogram = family.family_type == FamilyType::Histogram;
        let step_label = if is_histogram { "le" } else { "quantile" };
        let mut series: BTreeMap<Labels, Parts> = BTreeMap::new();
        for sample in &family.samples {
            let step = sample.labels.iter().find(|(name, _)| name == step_label).map(|(_, value)| value.parse::<f64>());
            let labels = sample.labels.iter().filter(|(name, _)| name != step_label).cloned().collect::<Labels>();
            let parts = series.entry(sorted(&labels)).or_default();
            parts.sample_count += 1;
            parts.time_ms = parts.time_ms.or(sample.time_ms);
            match (sample.name.strip_prefix(&*family.name).unwrap_or_default(), step) {
                ("_sum", None) => parts.sum = Some(sample.value),
                ("_count", None) => parts.count = Some(sample.value),
                ("_created", None) => parts.created = Some(sample.value),
                ("_bucket", Some(Ok(bound))) if is_histogram => parts.steps.push((bound, sample.value)),
                ("", Some(Ok(quantile))) if !is_histogram => parts.steps.push((quantile, sample.value)),
                _ => {
                    parts.sample_count -= 1;
                    self.out.error_count += 1;
                }
            }
        }
        for (labels, parts) in series {
            let (time_ms, start_ms) = (parts.time_ms, parts.created.map_or(0, millis));
            let sample_count = parts.sample_count;
            match if is_histogram { parts.histogram() } else { parts.summary() } {
                Some(value) => self.push(family, Arc::clone(&family.name), labels, time_ms, start_ms, value),
                None => self.out.error_count += sample_count,
            }
        }
    }

    fn push(
        &mut self,
        family: &Family,
        metric: Arc<str>,
        labels: Labels,
        own_time_ms: Option<i64>,
        start_ms: i64,
        value: Value,
    ) {
        let (owner, attributes) = self.target.place(labels);
        let owner = match self.owners.get(&owner) {
            Some(known) => Arc::clone(known),
            None => {
                let shared = Arc::new(owner.clone());
                self.owners.insert(owner, Arc::clone(&shared));
                shared
            }
        };
        if !self.seen.insert((Arc::clone(&metric), Arc::clone(&owner), attributes.clone())) {
            self.out.error_count += 1;
            return;
        }
        let is_number = matches!(value, Value::Gauge(number) | Value::Sum(number) if number.is_nan());
        self.out.points.push(Point {
            owner,
            metric,
            unit: ucum(&family.unit).into(),
            description: Arc::clone(&family.help),
            attributes,
            time_ms: own_time_ms.unwrap_or(self.time_ms),
            has_own_time: own_time_ms.is_some(),
            start_ms,
            // Not a number is no value: the store knows that as a marker.
            is_stale: is_number,
            value,
        });
    }
}

impl Parts {
    /// `None` if bounds repeat, cumulative counts fall, or the count is another than that of the last bucket.
    fn histogram(mut self) -> Option<Value> {
        self.steps.sort_by(|a, b| a.0.total_cmp(&b.0));
        if self.steps.iter().any(|(bound, _)| bound.is_nan())
            || self.steps.windows(2).any(|pair| pair[0].0 == pair[1].0)
        {
            return None;
        }
        let last = self.steps.last().filter(|(bound, _)| *bound == f64::INFINITY).map(|(_, count)| *count);
        let total = whole(last.or(self.count)?)?;
        if self.count.is_some_and(|count| whole(count) != Some(total)) {
            return None;
        }
        let sum = self.sum.filter(|sum| sum.is_finite());
        let finite = self.steps.iter().filter(|(bound, _)| bound.is_finite());
        let (mut bounds, mut counts, mut below) = (Vec::new(), Vec::new(), 0);
        for (bound, cumulative) in finite {
            let cumulative = whole(*cumulative)?;
            bounds.push(*bound);
            counts.push(cumulative.checked_sub(below)?);
            below = cumulative;
        }
        if !self.steps.is_empty() {
            counts.push(total.checked_sub(below)?);
        }
        Some(Value::Histogram { bounds, counts, count: total, sum })
    }

    /// `None` without a count, or if a quantile is not from 0 to 1.
    fn summary(self) -> Option<Value> {
        if self.steps.iter().any(|(quantile, _)| !(0.0..=1.0).contains(quantile)) {
            return None;
        }
        let count = whole(self.count?)?;
        Some(Value::Summary {
            count,
            sum: self.sum.filter(|sum| sum.is_finite()).unwrap_or(0.0),
            quantiles: self.steps,
        })
    }
}

fn is_created(family: &Family, sample: &Sample) -> bool {
    sample.name.strip_prefix(&*family.name) == Some("_created")
}

fn sorted(labels: &[(String, String)]) -> Labels {
    let mut labels = labels.to_vec();
    labels.sort();
    labels
}

fn whole(count: f64) -> Option<u64> {
    // From 2^53 on, whole numbers are not all doubles.
    ((0.0..9_007_199_254_740_992.0).contains(&count) && count.fract() == 0.0).then_some(count as u64)
}

fn millis(seconds: f64) -> i64 {
    if (0.0..1e12).contains(&seconds) { (seconds * 1000.0).round() as i64 } else { 0 }
}

#[cfg(test)]
#[path = "points_tests.rs"]
mod tests;
