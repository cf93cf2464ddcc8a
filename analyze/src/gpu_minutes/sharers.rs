//! Who has parts of a card at once, from the labels and times of its series.
//!
//! Several exporters may report one card and label it differently, and that makes no sharers. Pods are sharers, whoever names
//! them; two names of one pod are one. What is told without a pod counts only while no pod is named, and of several exporters
//! that contradict each other the one that tells most is believed.

#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::Holder;
use crate::{price_book::Period, window::MINUTE_US};

/// Longest silence between two points of one holder that is taken to be its own.
pub(crate) const BRIDGED_US: i64 = 60 * MINUTE_US;

/// One of several that have a card.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sharer {
    pub(crate) holder: Holder,
    /// Its MIG slice; none where it has a share of the whole card.
    pub(crate) slice: Option<String>,
    /// Part of the card, where it is a MIG slice whose size is known.
    pub(crate) fraction: Option<f64>,
    /// Whole minutes from its first point until after its last.
    pub(crate) period: Period,
}

/// A sharer, and which exporter says so.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    pub(crate) sharer: Sharer,
    pub(crate) exporter: String,
}

impl Sharer {
    /// From the first and last point; a point speaks for its minute, as everywhere.
    pub(crate) fn new(
        holder: Holder,
        slice: Option<String>,
        fraction: Option<f64>,
        first_us: i64,
        last_us: i64,
    ) -> Self {
        let minute = |time_us: i64| time_us.div_euclid(MINUTE_US) * MINUTE_US;
        let period = Period { start_us: minute(first_us), end_us: minute(last_us) + MINUTE_US };
        Self { holder, slice, fraction, period }
    }
}

/// Sharers of one card, each once, by slice and time. A point speaks for the usual step of its slice or card, which
/// `step_minutes` gives, unless somebody else begins before.
pub(crate) fn once_each(told: Vec<Told>, step_minutes: impl Fn(Option<&str>) -> usize) -> Vec<Sharer> {
    let mut by_slice: BTreeMap<Option<String>, Vec<Told>> = BTreeMap::new();
    for one in told {
        by_slice.entry(one.sharer.slice.clone()).or_default().push(one);
    }
    let mut all = Vec::new();
    for (slice, told) in by_slice {
        let mut sharers = believed(told);
        let step_us = step_minutes(slice.as_deref()).max(1) as i64 * MINUTE_US;
        let starts: Vec<i64> = sharers.iter().map(|sharer| sharer.period.start_us).collect();
        for sharer in &mut sharers {
            let last_us = sharer.period.end_us - MINUTE_US;
            let next_us = starts.iter().copied().filter(|start_us| *start_us > last_us).min();
            let end_us = (last_us + step_us).min(next_us.unwrap_or(i64::MAX));
            sharer.period.end_us = end_us.max(sharer.period.end_us);
        }
        all.extend(sharers);
    }
    all
}

/// Most of `sharers` that have the card, or one slice of it, at once.
pub(crate) fn most_at_once(sharers: &[Sharer]) -> u64 {
    let at = |time_us: i64, slice: &Option<String>| {
        let here = sharers.iter().filter(|one| one.slice == *slice && one.period.contains(time_us));
        here.map(|one| &one.holder).collect::<BTreeSet<_>>().len() as u64
    };
    sharers.iter().map(|one| at(one.period.start_us, &one.slice)).max().unwrap_or(0)
}

/// What is to be believed of what is `told` of one slice or card.
fn believed(told: Vec<Told>) -> Vec<Sharer> {
    let (with_pod, without): (Vec<Told>, Vec<Told>) = told.into_iter().partition(|one| one.sharer.holder.pod.is_some());
    let mut kept: Vec<Sharer> = Vec::new();
    for sharers in by_exporter(with_pod) {
        // Another pod shares; the same pod is the same.
        let more = sharers.into_iter().flat_map(|one| added(one, &mut kept, is_same_pod)).collect::<Vec<_>>();
        kept.extend(more);
    }
    for sharers in by_exporter(without) {
        let more = sharers.into_iter().flat_map(|one| added(one, &mut kept, |_, _| true)).collect::<Vec<_>>();
        kept.extend(more);
    }
    // What was cut stays cut.
    joined(kept, 0)
}

/// What each exporter says, the one that tells most first: holders, then labels, then by name.
fn by_exporter(told: Vec<Told>) -> Vec<Vec<Sharer>> {
    let mut all: BTreeMap<String, Vec<Sharer>> = BTreeMap::new();
    for one in told {
        all.entry(one.exporter).or_default().push(one.sharer);
    }
    // The sort keeps the order of names among equals.
    let mut all: Vec<Vec<Sharer>> = all.into_values().map(|sharers| joined(sharers, BRIDGED_US)).collect();
    all.sort_by_key(|sharers| {
        let holders: BTreeSet<&Holder> = sharers.iter().map(|one| &one.holder).collect();
        let label_count: usize = holders.iter().map(|holder| holder.labels().flatten().count()).sum();
        Reverse((holders.len(), label_count))
    });
    all
}

/// The parts of `one` in which nobody of `kept` is there who `stands_for` it. Those who are the same get its labels.
fn added(one: Sharer, kept: &mut [Sharer], stands_for: impl Fn(&Holder, &Holder) -> bool) -> Vec<Sharer> {
    let (mut parts, mut holder) = (vec![one.period], one.holder.clone());
    for other in kept.iter_mut().filter(|other| stands_for(&other.holder, &one.holder)) {
        if other.period.intersect(one.period).is_none() {
            continue;
        }
        if is_same_holder(&other.holder, &one.holder) {
            other.holder = both(&other.holder, &one.holder);
            holder = both(&holder, &other.holder);
        }
        parts = parts.into_iter().flat_map(|part| outside(part, other.period)).collect();
    }
    parts.into_iter().map(|period| Sharer { period, holder: holder.clone(), ..one.clone() }).collect()
}

/// The parts of `period` that are not in `other`.
fn outside(period: Period, other: Period) -> Vec<Period> {
    let Some(both) = period.intersect(other) else { return vec![period] };
    let around = [Period { end_us: both.start_us, ..period }, Period { start_us: both.end_us, ..period }];
    around.into_iter().filter(|part| part.end_us > part.start_us).collect()
}

/// `sharers` by time, with those of one name that have at most `silence_us` between them made one.
fn joined(mut sharers: Vec<Sharer>, silence_us: i64) -> Vec<Sharer> {
    sharers.sort_by(|a, b| (&a.holder, a.period).cmp(&(&b.holder, b.period)));
    let mut joined: Vec<Sharer> = Vec::new();
    for one in sharers {
        let goes_on =
            |before: &Sharer| before.holder == one.holder && one.period.start_us - before.period.end_us <= silence_us;
        match joined.last_mut().filter(|before| goes_on(before)) {
            Some(before) => {
                before.period.end_us = before.period.end_us.max(one.period.end_us);
                before.fraction = before.fraction.or(one.fraction);
            }
            None => joined.push(one),
        }
    }
    joined.sort_by(|a, b| (a.period, &a.holder).cmp(&(b.period, &b.holder)));
    joined
}

fn agree(a: &Option<String>, b: &Option<String>) -> bool {
    a == b || a.is_none() || b.is_none()
}

fn is_same_pod(a: &Holder, b: &Holder) -> bool {
    a.pod == b.pod && agree(&a.namespace, &b.namespace)
}

/// Whether both names are of one: the same pod, or without pods no label that contradicts.
fn is_same_holder(a: &Holder, b: &Holder) -> bool {
    match (&a.pod, &b.pod) {
        (Some(_), Some(_)) => is_same_pod(a, b),
        (None, None) => a.labels().zip(b.labels()).all(|(a, b)| agree(a, b)),
        _ => false,
    }
}

/// `first` with the labels that it lacks from `second`.
fn both(first: &Holder, second: &Holder) -> Holder {
    let of = |first: &Option<String>, second: &Option<String>| first.as_ref().or(second.as_ref()).cloned();
    // A version belongs to its model.
    let is_one_model = agree(&first.model, &second.model);
    Holder {
        service: of(&first.service, &second.service),
        team: of(&first.team, &second.team),
        namespace: of(&first.namespace, &second.namespace),
        pod: of(&first.pod, &second.pod),
        model: of(&first.model, &second.model),
        model_version: of(&first.model_version, &second.model_version.clone().filter(|_| is_one_model)),
        job: of(&first.job, &second.job),
    }
}
