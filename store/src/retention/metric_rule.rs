//! Metrics that are kept longer or shorter than their table: names in order, cut where another rule begins to hold.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::policy::{Keep, keep};
use crate::error::{Error, Result};

const NAME: &str = "retention.metric";

/// One `[[store.retention.metric]]` as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawMetricRule {
    /// A metric's name, or the beginning of names and `*`.
    pub pattern: String,
    /// `"30d"`, `"8w"` or `"forever"`, at least one day.
    pub keep: String,
}

/// How long the metrics of a pattern are kept, whatever their tables keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricRule {
    /// A metric's name, or the beginning of names and `*`.
    pub pattern: String,
    /// How long.
    pub keep: Keep,
}

impl MetricRule {
    fn prefix(&self) -> Option<&str> {
        self.pattern.strip_suffix('*')
    }

    /// How many bytes of `metric` the pattern names, plus one for all of it; `None` if it does not match.
    fn match_length(&self, metric: &str) -> Option<usize> {
        match self.prefix() {
            Some(prefix) => metric.starts_with(prefix).then_some(prefix.len()),
            None => (metric == self.pattern).then_some(metric.len() + 1),
        }
    }

    /// The first name that matches, and the first one after all that do, if any is.
    fn range(&self) -> (String, Option<String>) {
        match self.prefix() {
            Some(prefix) => (prefix.to_owned(), first_after(prefix)),
            None => (self.pattern.clone(), Some(format!("{}\0", self.pattern))),
        }
    }

    /// The condition in SQL, for whoever reads the table's history.
    pub(super) fn predicate(&self) -> String {
        match self.prefix() {
            Some(prefix) => format!("starts_with(metric, '{}')", prefix.replace('\'', "''")),
            None => format!("metric = '{}'", self.pattern.replace('\'', "''")),
        }
    }
}

/// The first text after all that begin with `prefix`.
fn first_after(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        // Between the two there is no character, only halves of pairs in UTF-16.
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            text.push(next);
            return Some(text);
        }
    }
    None
}

/// Checks the rules of the section.
///
/// # Errors
/// [`Error::Config`] naming the pattern that is wrong.
pub(super) fn validate(raw: &[RawMetricRule]) -> Result<Vec<MetricRule>> {
    let mut seen = BTreeSet::new();
    let mut rules = Vec::new();
    for RawMetricRule { pattern, keep: text } in raw {
        let refuse = |reason: &str| Error::Config { name: NAME, reason: format!("pattern {pattern:?} {reason}") };
        let name = pattern.strip_suffix('*').unwrap_or(pattern);
        if name.is_empty() || name.contains('*') {
            return Err(refuse("must be a metric's name, or the beginning of names and * at its end"));
        }
        if !seen.insert(pattern) {
            return Err(refuse("stands there twice"));
        }
        rules.push(MetricRule { pattern: pattern.clone(), keep: keep(NAME, Some(text), Keep::Forever)? });
    }
    Ok(rules)
}

/// Which rule holds for which metric: that of the longest pattern, an exact name before all.
#[derive(Debug)]
pub(super) struct MetricRanges {
    /// From this name to the next the rule at this index holds; `None` where the table's own does. Sorted.
    cuts: Vec<(String, Option<usize>)>,
}

impl MetricRanges {
    pub(super) fn new(rules: &[MetricRule]) -> Self {
        let mut names = BTreeSet::from([String::new()]);
        for (first, end) in rules.iter().map(MetricRule::range) {
            names.insert(first);
            names.extend(end);
        }
        let longest = |name: &str| {
            let matching = rules.iter().enumerate().filter_map(|(at, rule)| Some((rule.match_length(name)?, at)));
            matching.max().map(|(_, at)| at)
        };
        // Between two cuts no pattern begins or ends to match.
        let cuts = names.into_iter().map(|name| {
            let rule = longest(&name);
            (name, rule)
        });
        Self { cuts: cuts.collect() }
    }

    fn position(&self, metric: &str) -> usize {
        // The first cut is the empty name, which no name is before.
        self.cuts.partition_point(|(from, _)| from.as_str() <= metric).saturating_sub(1)
    }

    /// The rule of `metric`.
    pub(super) fn rule_of(&self, metric: &str) -> Option<usize> {
        self.cuts[self.position(metric)].1
    }

    /// The rules that metrics from `low` to `high` may have; all where the range is not known.
    pub(super) fn rules_within(&self, range: Option<&(String, String)>) -> impl Iterator<Item = Option<usize>> {
        let (first, last) = match range {
            Some((low, high)) => (self.position(low), self.position(high)),
            None => (0, self.cuts.len() - 1),
        };
        self.cuts[first..=last.max(first)].iter().map(|(_, rule)| *rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(patterns: &[&str]) -> Vec<MetricRule> {
        patterns.iter().map(|pattern| MetricRule { pattern: (*pattern).into(), keep: Keep::Forever }).collect()
    }

    #[test]
    fn the_longest_pattern_holds_whatever_the_order() {
        let mut rules =
            rules(&["k8s.*", "k8s.pod.*", "k8s.pod.cpu", "hw.gpu.power", "k8s.pod.cpu.time", "z\u{10ffff}*"]);
        for _ in 0..2 {
            let ranges = MetricRanges::new(&rules);
            for (metric, expected) in [
                ("k8s.node.cpu", "k8s.*"),
                ("k8s.", "k8s.*"),
                ("k8s", ""),
                ("k8s/x", ""),
                ("k8s.pod.memory", "k8s.pod.*"),
                ("k8s.pod.cpu", "k8s.pod.cpu"),
                ("k8s.pod.cpu.", "k8s.pod.*"),
                ("k8s.pod.cpu.time", "k8s.pod.cpu.time"),
                ("hw.gpu.power", "hw.gpu.power"),
                ("hw.gpu.power.limit", ""),
                ("z\u{10ffff}\u{10ffff}a", "z\u{10ffff}*"),
                ("", ""),
                ("\u{10ffff}", ""),
            ] {
                let found = ranges.rule_of(metric).map_or("", |at| &rules[at].pattern);
                assert_eq!(found, expected, "{metric}");
            }
            rules.reverse();
        }
    }

    #[test]
    fn a_range_of_names_meets_the_rules_in_it() {
        let ranges = MetricRanges::new(&rules(&["b.*", "b.c"]));
        let within = |low: &str, high: &str| {
            let names = (low.to_owned(), high.to_owned());
            ranges.rules_within(Some(&names)).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
        };
        assert_eq!(within("a", "b"), [None]);
        assert_eq!(within("a", "b."), [None, Some(0)]);
        assert_eq!(within("b.a", "b.b"), [Some(0)]);
        assert_eq!(within("b.c", "b.c"), [Some(1)]);
        assert_eq!(within("b.a", "c"), [None, Some(0), Some(1)]);
        assert_eq!(within("b/", "z"), [None]);
        assert_eq!(ranges.rules_within(None).collect::<BTreeSet<_>>().len(), 3);
        assert_eq!(MetricRanges::new(&[]).rules_within(None).collect::<Vec<_>>(), [None]);
    }

    #[test]
    fn patterns_that_mean_nothing_are_refused_by_name() {
        let raw = |pattern: &str, keep: &str| RawMetricRule { pattern: pattern.into(), keep: keep.into() };
        let error = |raw: &[RawMetricRule]| validate(raw).unwrap_err().to_string();
        for pattern in ["", "*", "a*b", "**"] {
            let text = error(&[raw(pattern, "30d")]);
            assert!(text.contains("store.retention.metric") && text.contains(&format!("{pattern:?}")), "{text}");
        }
        assert!(error(&[raw("a", "30d"), raw("a", "40d")]).contains("twice"));
        assert!(error(&[raw("a", "1h")]).contains("below 1d"));
        let rule = &validate(&[raw("k8s.*", "8w")]).unwrap()[0];
        assert_eq!((rule.pattern.as_str(), rule.keep.to_string().as_str()), ("k8s.*", "56d"));
    }

    #[test]
    fn the_end_of_a_prefix_is_the_next_text_that_does_not_begin_so() {
        for (prefix, expected) in [
            ("a.", Some("a/")),
            ("a\u{7f}", Some("a\u{80}")),
            ("a\u{d7ff}", Some("a\u{e000}")),
            ("a\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
        ] {
            assert_eq!(first_after(prefix).as_deref(), expected);
        }
    }
}
