//! Labels that swing: reports that keep returning to a release that was just left.

use super::super::deployment::Release;
use super::{Basis, Interval, Status, TimelineRules};

/// Consecutive intervals in which telemetry reports one release.
struct Run {
    first: usize,
    last: usize,
    short: bool,
}

/// Replaces the swinging part of a timeline by one `Flapping` interval.
///
/// It begins with the second release of the swing and ends with the last that stays; where the swing goes on to the
/// present, or began with the first report, it takes the short ends in.
pub(super) fn mark_flapping(intervals: Vec<Interval>, rules: &TimelineRules, now_us: i64) -> Vec<Interval> {
    let runs = runs(&intervals, rules.flap_dwell_us, now_us);
    let mut marked: Vec<Interval> = Vec::new();
    let mut kept = 0;
    let mut index = 0;
    while index < runs.len() {
        let end = swing_end(&intervals, &runs, index);
        let returns = (index + 2..=end).filter(|&at| returns(&intervals, &runs, at)).count();
        if returns < rules.flap_returns_min {
            index += 1;
            continue;
        }
        // A short end was taken by the swing before.
        let first = runs[if runs[index].short { index } else { index + 1 }].first.max(kept);
        let last = runs[if runs[end].short { end } else { end - 1 }].last;
        marked.extend_from_slice(&intervals[kept..first]);
        marked.push(flapping(&intervals[first..=last]));
        kept = last + 1;
        // The release that stays may be where the next swing starts.
        index = end.max(index + 1);
    }
    marked.extend_from_slice(&intervals[kept..]);
    marked
}

fn runs(intervals: &[Interval], dwell_us: i64, now_us: i64) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (index, interval) in intervals.iter().enumerate() {
        let Some(release) = reported(interval) else { continue };
        match runs.last_mut() {
            Some(run) if run.last + 1 == index && reported(&intervals[run.last]) == Some(release) => run.last = index,
            _ => runs.push(Run { first: index, last: index, short: false }),
        }
    }
    for run in &mut runs {
        let end_us = intervals[run.last].to_us.unwrap_or(now_us);
        run.short = end_us - intervals[run.first].from_us <= dwell_us;
    }
    runs
}

/// The last run of a chain that starts at `start`, touches without a gap and is short inside.
fn swing_end(intervals: &[Interval], runs: &[Run], start: usize) -> usize {
    let mut end = start;
    while end + 1 < runs.len() && runs[end].last + 1 == runs[end + 1].first && (end == start || runs[end].short) {
        // A chain goes on while it returns; what never ran before is a deployment.
        if end > start && !returns(intervals, runs, end + 1) {
            break;
        }
        end += 1;
    }
    end
}

/// Whether the run at `at` goes back to the release of two runs before.
fn returns(intervals: &[Interval], runs: &[Run], at: usize) -> bool {
    reported(&intervals[runs[at - 2].first]) == reported(&intervals[runs[at].first])
}

fn reported(interval: &Interval) -> Option<&Release> {
    match &interval.status {
        Status::Known { release, basis: Basis::Telemetry, .. } => Some(release),
        _ => None,
    }
}

fn flapping(swing: &[Interval]) -> Interval {
    let mut releases: Vec<Release> = swing.iter().filter_map(|interval| reported(interval).cloned()).collect();
    releases.sort();
    releases.dedup();
    Interval {
        from_us: swing.first().map_or(0, |interval| interval.from_us),
        to_us: swing.last().and_then(|interval| interval.to_us),
        status: Status::Flapping(releases),
        claimed: None,
    }
}
