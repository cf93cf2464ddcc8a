//! Reports of instances, joined into stretches of one release.

use super::super::deployment::{Evidence, Observation, Release};

/// One instance reporting one release without a silence longer than the hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// `service.instance.id`, container or pod.
    pub instance: String,
    /// First report, UTC microseconds.
    pub from_us: i64,
    /// Last report, UTC microseconds.
    pub until_us: i64,
    /// What it reports.
    pub release: Release,
}

/// Joins sightings; a report of another release in between ends a span. Sorted by instance, then by time.
pub(super) fn spans(sightings: &[&Observation], hold_us: i64, now_us: i64) -> Vec<Span> {
    let mut all: Vec<Span> = sightings.iter().filter_map(|observation| span(observation, now_us)).collect();
    all.sort();
    let mut joined: Vec<Span> = Vec::new();
    for next in all {
        match joined.last_mut() {
            Some(last)
                if last.instance == next.instance
                    && last.release == next.release
                    && next.from_us - last.until_us <= hold_us =>
            {
                last.until_us = last.until_us.max(next.until_us);
            }
            _ => joined.push(next),
        }
    }
    joined
}

/// Nothing was seen after the present, whatever the clock of the instance says.
fn span(observation: &Observation, now_us: i64) -> Option<Span> {
    let Evidence::Sighting { instance, release, until_us } = &observation.evidence else { return None };
    Some(Span {
        instance: instance.clone(),
        from_us: observation.time_us.min(now_us),
        until_us: (*until_us).min(now_us),
        release: release.clone(),
    })
}
