//! Which release ran where and when, from observations in any order.
//!
//! # Rules
//! 1. What instances report about themselves wins while they report it. Two releases at once are `Mixed`.
//! 2. After the last report the release is taken to run on for `sighting_hold_us`, which is the resolution of the
//!    telemetry and covers restarts. A statement after the last report (a mark, an alias that moved) takes over at once.
//! 3. Where nothing is reported, the last statement holds. At the same moment a mark precedes an alias.
//! 4. A silence between two reports of one release is bridged, with lower confidence. A silence between two different
//!    ones, without a statement inside, is `Uncertain` after the hold, and so is the time between two polls of a
//!    registry in which an alias moved, a statement that the next report contradicts, and two statements whose order
//!    is not known.
//! 5. Reports that keep returning to a release that was just left are `Flapping`: the label is wrong, not the fleet.
//! 6. Statements about the future are listed as planned and change nothing until their time.
//!
//! Invariant: intervals do not overlap, leave no gap, and depend on the set of observations only.

mod edges;
mod flapping;
#[cfg(test)]
mod property_tests;
mod spans;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::deployment::{Evidence, Observation, ObservationError, Release, Target};
use crate::window::MINUTE_US;
pub use spans::Span;

/// Limits of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimelineRules {
    /// How long a release is taken to run on after its last report, microseconds. Default 5 minutes.
    pub sighting_hold_us: i64,
    /// A reported release that stays shorter than this may be a flap, microseconds. Default 10 minutes.
    pub flap_dwell_us: i64,
    /// Returns to a release just left that make a flap; a rollback is one return. Default 2.
    pub flap_returns_min: usize,
    /// How far a clock may be ahead before its reports are refused, microseconds. Default 1 minute.
    pub clock_ahead_us_max: i64,
}

impl Default for TimelineRules {
    fn default() -> Self {
        Self {
            sighting_hold_us: 5 * MINUTE_US,
            flap_dwell_us: 10 * MINUTE_US,
            flap_returns_min: 2,
            clock_ahead_us_max: MINUTE_US,
        }
    }
}

/// Where a known release is known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Basis {
    /// The registry's alias.
    Alias,
    /// A mark by a script or person.
    Mark,
    /// Resource attributes of the instances.
    Telemetry,
}

/// How sure a known release is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// Bridged over a silence.
    Inferred,
    /// Somebody said so, and no report contradicts it.
    Stated,
    /// The instances themselves report it.
    Confirmed,
}

/// Why there is no release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnknownReason {
    /// Nothing was observed up to then.
    NoEvidence,
    /// Reports ended, and nothing later tells more.
    NotSeen,
    /// The alias was removed.
    Withdrawn,
    /// The moment lies in the future.
    Future,
}

/// What ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// One release.
    Known {
        /// The release.
        release: Release,
        /// Where that is known from.
        basis: Basis,
        /// How sure that is.
        confidence: Confidence,
    },
    /// Several releases at once, as during a rolling update or a canary; sorted.
    Mixed(Vec<Release>),
    /// Reports that swing between releases; sorted.
    Flapping(Vec<Release>),
    /// One of these, or nothing; the evidence does not settle which. Sorted.
    Uncertain(Vec<Release>),
    /// No release is known.
    Unknown(UnknownReason),
}

impl Status {
    /// The release, where it is known.
    pub fn release(&self) -> Option<&Release> {
        match self {
            Self::Known { release, .. } => Some(release),
            _ => None,
        }
    }

    /// Releases that are in question, or the one that is known.
    pub fn candidates(&self) -> &[Release] {
        match self {
            Self::Known { release, .. } => std::slice::from_ref(release),
            Self::Mixed(releases) | Self::Flapping(releases) | Self::Uncertain(releases) => releases,
            Self::Unknown(_) => &[],
        }
    }
}

/// A stretch of time with one status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    /// UTC microseconds, inclusive.
    pub from_us: i64,
    /// UTC microseconds, exclusive; `None` for the interval that contains the present.
    pub to_us: Option<i64>,
    /// What ran.
    pub status: Status,
    /// The release that the last statement names, where instances report another: an alias that moved without a
    /// restart, or a deployment that nobody marked.
    pub claimed: Option<Release>,
}

/// A change from one known release to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// UTC microseconds from which only `from` no longer ran: the end of its interval.
    pub begin_us: i64,
    /// UTC microseconds from which only `to` ran. Between the two, both or either.
    pub end_us: i64,
    /// Release before.
    pub from: Release,
    /// Release after.
    pub to: Release,
    /// Whether `to` had run before `from`.
    pub rollback: bool,
}

/// The intervals of one service and environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// In order of time, from the first observation on.
    pub intervals: Vec<Interval>,
    /// What each instance reported; in order of instance and time. A further span of the same release is a restart.
    pub spans: Vec<Span>,
    /// Statements about the future, which have not changed anything yet.
    pub planned: Vec<Observation>,
    /// Observations that were not used, with the reason.
    pub rejected: Vec<(Observation, ObservationError)>,
    now_us: i64,
    sighting_hold_us: i64,
}

/// Builds the timeline of every target at the present `now_us`, UTC microseconds.
///
/// Order and repetition of the observations do not matter. For what was known at an earlier time, pass only
/// observations with `received_us` up to it, and that time as `now_us`.
pub fn timelines(observations: &[Observation], rules: &TimelineRules, now_us: i64) -> BTreeMap<Target, Timeline> {
    let mut by_target: BTreeMap<&Target, Vec<&Observation>> = BTreeMap::new();
    for observation in observations {
        by_target.entry(&observation.target).or_default().push(observation);
    }
    let build = |(target, group): (&Target, Vec<&Observation>)| (target.clone(), Timeline::build(group, rules, now_us));
    by_target.into_iter().map(build).collect()
}

impl Timeline {
    fn build(mut group: Vec<&Observation>, rules: &TimelineRules, now_us: i64) -> Self {
        group.sort();
        // The same evidence may come twice; the first receipt sorts first and stays.
        group.dedup_by(|next, kept| next.time_us == kept.time_us && next.evidence == kept.evidence);
        let mut sightings = Vec::new();
        let mut statements = Vec::new();
        let mut planned = Vec::new();
        let mut rejected = Vec::new();
        for observation in group {
            let ahead_us = observation.time_us - now_us;
            match (observation.check(), &observation.evidence) {
                (Err(error), _) => rejected.push((observation.clone(), error)),
                (Ok(()), Evidence::Sighting { instance, .. }) if ahead_us > rules.clock_ahead_us_max => {
                    let error = ObservationError::ClockAhead { instance: instance.clone(), ahead_us };
                    rejected.push((observation.clone(), error));
                }
                (Ok(()), Evidence::Sighting { .. }) => sightings.push(observation),
                (Ok(()), _) if ahead_us > 0 => planned.push(observation.clone()),
                (Ok(()), _) => statements.push(observation),
            }
        }
        let spans = spans::spans(&sightings, rules.sighting_hold_us, now_us);
        let edges = edges::edges(&statements);
        let intervals = sweep::intervals(&spans, &edges, rules.sighting_hold_us, now_us);
        let intervals = flapping::mark_flapping(intervals, rules, now_us);
        Self { intervals, spans, planned, rejected, now_us, sighting_hold_us: rules.sighting_hold_us }
    }

    /// What ran at `time_us`, UTC microseconds.
    pub fn at(&self, time_us: i64) -> Status {
        if time_us > self.now_us {
            return Status::Unknown(UnknownReason::Future);
        }
        let after = self.intervals.partition_point(|interval| interval.from_us <= time_us);
        match after.checked_sub(1).and_then(|index| self.intervals.get(index)) {
            Some(interval) => interval.status.clone(),
            None => Status::Unknown(UnknownReason::NoEvidence),
        }
    }

    /// What one instance ran at `time_us`: its own report where there is one, else what is known of the service.
    ///
    /// This settles which release answered during a rolling update, where [`Timeline::at`] can only say `Mixed`.
    pub fn at_instance(&self, instance: &str, time_us: i64) -> Status {
        if time_us > self.now_us {
            return Status::Unknown(UnknownReason::Future);
        }
        let start = self.spans.partition_point(|span| span.instance.as_str() < instance);
        let own = self.spans[start..].iter().take_while(|span| span.instance == instance && span.from_us <= time_us);
        match own.last() {
            Some(span) if time_us - span.until_us <= self.sighting_hold_us => Status::Known {
                release: span.release.clone(),
                basis: Basis::Telemetry,
                confidence: Confidence::Confirmed,
            },
            _ => self.at(time_us),
        }
    }

    /// Changes from one known release to the next, in order of time.
    pub fn moves(&self) -> Vec<Move> {
        let mut moves: Vec<Move> = Vec::new();
        let mut ran: Vec<&Release> = Vec::new();
        let mut left_us = 0;
        for interval in &self.intervals {
            let Some(release) = interval.status.release() else { continue };
            match ran.last() {
                Some(&before) if before != release => {
                    let rollback = ran.contains(&release);
                    let (from, to) = (before.clone(), release.clone());
                    moves.push(Move { begin_us: left_us, end_us: interval.from_us, from, to, rollback });
                    ran.push(release);
                }
                Some(_) => {}
                None => ran.push(release),
            }
            left_us = interval.to_us.unwrap_or(self.now_us);
        }
        moves
    }
}
