//! One pass over time: at each boundary the rules of the timeline are asked again.

use std::collections::BTreeMap;

use super::super::deployment::Release;
use super::edges::Edge;
use super::spans::Span;
use super::{Basis, Confidence, Interval, Status, UnknownReason};

/// The intervals that spans and edges make, merged where nothing changes.
pub(super) fn intervals(spans: &[Span], edges: &[Edge], hold_us: i64, now_us: i64) -> Vec<Interval> {
    let mut sweep = Sweep::new(spans, edges, hold_us);
    let mut intervals: Vec<Interval> = Vec::new();
    for time_us in boundaries(spans, edges, hold_us, now_us) {
        sweep.advance(time_us);
        let status = sweep.status();
        let claimed = sweep.claimed(&status);
        if let Some(last) = intervals.last_mut() {
            if last.status == status && last.claimed == claimed {
                continue;
            }
            last.to_us = Some(time_us);
        }
        intervals.push(Interval { from_us: time_us, to_us: None, status, claimed });
    }
    intervals
}

/// Moments at which a rule may give another answer.
fn boundaries(spans: &[Span], edges: &[Edge], hold_us: i64, now_us: i64) -> Vec<i64> {
    let of_spans = spans.iter().flat_map(|span| [span.from_us, span.until_us, span.until_us.saturating_add(hold_us)]);
    let of_edges = edges.iter().flat_map(|edge| [edge.not_before_us, edge.time_us]);
    let mut times: Vec<i64> = of_spans.chain(of_edges).filter(|&time_us| time_us <= now_us).collect();
    times.sort_unstable();
    times.dedup();
    times
}

/// State of the pass: everything at or before `time_us`, and the next thing after it.
struct Sweep<'a> {
    by_start: Vec<&'a Span>,
    by_end: Vec<&'a Span>,
    edges: &'a [Edge],
    /// Indices into `edges`, by the start of their window.
    windows: Vec<usize>,
    hold_us: i64,
    time_us: i64,
    started: usize,
    ended: usize,
    passed_edges: usize,
    opened_windows: usize,
    /// Windows that are open now.
    open: Vec<usize>,
    /// Releases that instances report now, with how many do.
    active: BTreeMap<&'a Release, usize>,
}

impl<'a> Sweep<'a> {
    fn new(spans: &'a [Span], edges: &'a [Edge], hold_us: i64) -> Self {
        let mut by_start: Vec<&Span> = spans.iter().collect();
        by_start.sort_by_key(|span| span.from_us);
        let mut by_end = by_start.clone();
        by_end.sort_by_key(|span| span.until_us);
        let mut windows: Vec<usize> = (0..edges.len()).collect();
        windows.sort_by_key(|&index| edges[index].not_before_us);
        Self {
            by_start,
            by_end,
            edges,
            windows,
            hold_us,
            time_us: i64::MIN,
            started: 0,
            ended: 0,
            passed_edges: 0,
            opened_windows: 0,
            open: Vec::new(),
            active: BTreeMap::new(),
        }
    }

    fn advance(&mut self, time_us: i64) {
        self.time_us = time_us;
        while let Some(span) = self.by_start.get(self.started).filter(|span| span.from_us <= time_us) {
            *self.active.entry(&span.release).or_default() += 1;
            self.started += 1;
        }
        while let Some(span) = self.by_end.get(self.ended).filter(|span| span.until_us <= time_us) {
            if let Some(count) = self.active.get_mut(&span.release) {
                *count -= 1;
                if *count == 0 {
                    self.active.remove(&span.release);
                }
            }
            self.ended += 1;
        }
        self.passed_edges += self.edges[self.passed_edges..].iter().take_while(|edge| edge.time_us <= time_us).count();
        while let Some(&index) = self.windows.get(self.opened_windows) {
            if self.edges[index].not_before_us > time_us {
                break;
            }
            self.open.push(index);
            self.opened_windows += 1;
        }
        self.open.retain(|&index| self.edges[index].time_us > time_us);
    }

    fn status(&self) -> Status {
        if self.active.len() > 1 {
            return Status::Mixed(self.active.keys().map(|&release| release.clone()).collect());
        }
        if let Some((&release, _)) = self.active.first_key_value() {
            return known(release, Basis::Telemetry, Confidence::Confirmed);
        }
        let last_end_us = self.last_end_us();
        match (self.last_edge(), last_end_us) {
            (Some(edge), end_us) if end_us.is_none_or(|end_us| edge.time_us > end_us) => {
                self.within_open_windows(self.stated(edge))
            }
            (_, Some(end_us)) if self.time_us < end_us.saturating_add(self.hold_us) => self.held(end_us),
            (_, Some(end_us)) => self.within_open_windows(self.silent(end_us)),
            (_, None) => self.within_open_windows(Status::Unknown(UnknownReason::NoEvidence)),
        }
    }

    /// What the last statement names, where something else is known to run.
    fn claimed(&self, status: &Status) -> Option<Release> {
        let known = status.release()?;
        match self.last_edge()?.releases.as_slice() {
            [claim] if claim != known => Some(claim.clone()),
            _ => None,
        }
    }

    /// The statement holds, unless the next report contradicts it before another statement comes.
    fn stated(&self, edge: &Edge) -> Status {
        let release = match edge.releases.as_slice() {
            [] => return Status::Unknown(UnknownReason::Withdrawn),
            [release] => release,
            several => return Status::Uncertain(several.to_vec()),
        };
        let next = self.next_reports();
        if next.is_empty() || next.contains(&release) {
            return known(release, edge.basis, Confidence::Stated);
        }
        uncertain(next.into_iter().chain([release]))
    }

    /// Within the hold after the last report.
    fn held(&self, end_us: i64) -> Status {
        match self.reported_at_end(end_us).as_slice() {
            [release] => known(release, Basis::Telemetry, Confidence::Confirmed),
            several => Status::Mixed(several.iter().map(|&release| release.clone()).collect()),
        }
    }

    /// After the hold: bridged to the next report or statement, if there is one.
    fn silent(&self, end_us: i64) -> Status {
        let last = self.reported_at_end(end_us);
        let [release] = last.as_slice() else { return Status::Unknown(UnknownReason::NotSeen) };
        let next = self.next_reports();
        if next.is_empty() {
            return match self.edges.get(self.passed_edges) {
                Some(_) => known(release, Basis::Telemetry, Confidence::Inferred),
                None => Status::Unknown(UnknownReason::NotSeen),
            };
        }
        if next.contains(release) {
            return known(release, Basis::Telemetry, Confidence::Inferred);
        }
        uncertain(next.into_iter().chain([*release]))
    }

    /// While a move may have happened already, its release is a candidate besides the one before.
    fn within_open_windows(&self, status: Status) -> Status {
        let moved_to: Vec<&Release> = self.open.iter().flat_map(|&index| &self.edges[index].releases).collect();
        let withdrawn = self.open.iter().any(|&index| self.edges[index].releases.is_empty());
        let changes = moved_to.iter().any(|&release| status.release() != Some(release));
        if !changes && !withdrawn {
            return status;
        }
        let candidates: Vec<&Release> = status.candidates().iter().chain(moved_to).collect();
        if candidates.is_empty() { status } else { uncertain(candidates.into_iter()) }
    }

    fn last_edge(&self) -> Option<&'a Edge> {
        self.passed_edges.checked_sub(1).and_then(|index| self.edges.get(index))
    }

    fn last_end_us(&self) -> Option<i64> {
        self.ended.checked_sub(1).and_then(|index| self.by_end.get(index)).map(|span| span.until_us)
    }

    /// Releases whose last report is at `end_us`; sorted.
    fn reported_at_end(&self, end_us: i64) -> Vec<&'a Release> {
        let ended = self.by_end[..self.ended].iter().rev();
        let mut releases: Vec<&Release> =
            ended.take_while(|span| span.until_us == end_us).map(|span| &span.release).collect();
        releases.sort();
        releases.dedup();
        releases
    }

    /// What is reported next, if that comes before the next statement can have become true.
    fn next_reports(&self) -> Vec<&'a Release> {
        let Some(first) = self.by_start.get(self.started) else { return Vec::new() };
        if self.edges.get(self.passed_edges).is_some_and(|edge| edge.not_before_us.max(self.time_us) < first.from_us) {
            return Vec::new();
        }
        let upcoming = self.by_start[self.started..].iter();
        upcoming.take_while(|span| span.from_us == first.from_us).map(|span| &span.release).collect()
    }
}

fn known(release: &Release, basis: Basis, confidence: Confidence) -> Status {
    Status::Known { release: release.clone(), basis, confidence }
}

fn uncertain<'a>(candidates: impl Iterator<Item = &'a Release>) -> Status {
    let mut releases: Vec<Release> = candidates.cloned().collect();
    releases.sort();
    releases.dedup();
    Status::Uncertain(releases)
}
