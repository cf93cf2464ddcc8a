//! Statements of aliases and marks, with the window in which each may have become true.

use super::super::deployment::{Evidence, Observation, Release};
use super::Basis;

/// From `time_us` on somebody says that this is deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edge {
    /// UTC microseconds from which the statement surely holds.
    pub(super) time_us: i64,
    /// The change happened after this; equal to `time_us` where the moment is exact.
    pub(super) not_before_us: i64,
    /// None: withdrawn. One: stated. Several: contradictory. Sorted.
    pub(super) releases: Vec<Release>,
    pub(super) basis: Basis,
}

/// One edge per moment, in order of time; of the statements of one moment those of the best source stay.
///
/// `statements` are sorted by time.
pub(super) fn edges(statements: &[&Observation]) -> Vec<Edge> {
    let mut edges: Vec<Edge> = Vec::new();
    for edge in statements.iter().filter_map(|observation| edge(observation)) {
        match edges.last_mut() {
            Some(last) if last.time_us == edge.time_us && last.basis > edge.basis => {}
            Some(last) if last.time_us == edge.time_us && last.basis == edge.basis => {
                last.not_before_us = last.not_before_us.min(edge.not_before_us);
                last.releases.extend(edge.releases);
                last.releases.sort();
                last.releases.dedup();
            }
            Some(last) if last.time_us == edge.time_us => *last = edge,
            _ => edges.push(edge),
        }
    }
    for index in 1..edges.len() {
        let (earlier, rest) = edges.split_at_mut(index);
        if let Some(edge) = rest.first_mut() {
            settle_window(earlier, edge);
        }
    }
    edges
}

/// A statement inside the window of a move that was noticed later: the same release dates the move; another one leaves
/// open which of the two came last.
fn settle_window(earlier: &[Edge], edge: &mut Edge) {
    let within = earlier.iter().rev().take_while(|inside| inside.time_us > edge.not_before_us);
    // Moves that polls noticed one after the other are in order, although the window of a poll reaches back to the start
    // of the poll before.
    let Some(inside) = within.into_iter().find(|inside| inside.basis != edge.basis) else { return };
    if inside.releases == edge.releases {
        edge.not_before_us = inside.time_us;
        return;
    }
    edge.releases.extend(inside.releases.iter().cloned());
    edge.releases.sort();
    edge.releases.dedup();
}

fn edge(observation: &Observation) -> Option<Edge> {
    let (time_us, not_before_us, basis) = match &observation.evidence {
        Evidence::Alias { not_before_us, .. } => (observation.time_us, *not_before_us, Basis::Alias),
        Evidence::Mark { .. } => (observation.time_us, observation.time_us, Basis::Mark),
        Evidence::Sighting { .. } => return None,
    };
    Some(Edge { time_us, not_before_us, releases: observation.release().cloned().into_iter().collect(), basis })
}
