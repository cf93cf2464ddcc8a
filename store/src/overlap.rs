//! Which sources of a scan may hold the same point, so that only these are merged.

use crate::live_file::KeyRange;

/// What is known of the rows of one source, a file or a memtable.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    /// Highest log sequence of the rows; 0 where it is not known.
    pub(crate) sequence: u64,
    pub(crate) keys: KeyRange,
    /// What the rows that may repeat an older source lie within; `None` if there are no such rows.
    pub(crate) repeats: Option<KeyRange>,
}

fn meet<T: PartialOrd>(a: &Option<(T, T)>, b: &Option<(T, T)>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.0 <= b.1 && b.0 <= a.1,
        // Where nothing is known everything is possible.
        _ => true,
    }
}

fn may_share_a_point(newer: &Span, older: &Span) -> bool {
    let Some(repeats) = &newer.repeats else { return false };
    // Files of one sequence are the parts of one merge and share nothing.
    let parts = newer.sequence != 0 && newer.sequence == older.sequence;
    !parts
        && meet(&repeats.date, &older.keys.date)
        && meet(&repeats.time, &older.keys.time)
        && meet(&repeats.metric, &older.keys.metric)
        && meet(&repeats.series_id, &older.keys.series_id)
}

/// The groups of sources that must be merged, as ascending indices; a source in no group shares no point with another.
/// `spans` are oldest first.
pub(crate) fn merge_groups(spans: &[Span]) -> Vec<Vec<usize>> {
    // The group of a source is named by the lowest index in it.
    let mut group: Vec<usize> = (0..spans.len()).collect();
    for (newer, span) in spans.iter().enumerate().filter(|(_, span)| span.repeats.is_some()) {
        for older in 0..newer {
            let (from, to) = (group[newer].max(group[older]), group[newer].min(group[older]));
            if from != to && may_share_a_point(span, &spans[older]) {
                group.iter_mut().filter(|name| **name == from).for_each(|name| *name = to);
            }
        }
    }
    let members = |name: usize| (0..spans.len()).filter(|index| group[*index] == name).collect::<Vec<_>>();
    (0..spans.len()).filter(|name| group[*name] == *name).map(members).filter(|group| group.len() > 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(sequence: u64, time: (i64, i64), repeats: Option<(i64, i64)>) -> Span {
        let keys = |time| KeyRange { time: Some(time), date: Some((1, 1)), ..KeyRange::default() };
        Span { sequence, keys: keys(time), repeats: repeats.map(keys) }
    }

    #[test]
    fn only_sources_that_a_possible_repeat_reaches_are_merged() {
        let check = |spans: &[Span], expected: &[&[usize]]| assert_eq!(merge_groups(spans), expected);
        // Overlap alone is no reason.
        check(&[span(1, (0, 10), None), span(2, (5, 15), None)], &[]);
        check(&[span(1, (0, 10), None), span(2, (5, 25), Some((5, 6))), span(3, (20, 30), None)], &[&[0, 1]]);
        check(&[span(1, (0, 10), None), span(2, (5, 25), Some((11, 12)))], &[]);
        // The older one being suspect does not reach forward.
        check(&[span(1, (0, 10), Some((0, 10))), span(2, (5, 15), None)], &[]);
        // Groups join through a common member.
        let chain = [
            span(1, (0, 10), None),
            span(2, (20, 30), None),
            span(3, (40, 50), None),
            span(4, (5, 45), Some((5, 6))),
            span(5, (5, 45), Some((25, 45))),
        ];
        check(&chain, &[&[0, 1, 2, 3, 4]]);
        // Parts of one merge share nothing with each other, but each may repeat what is older.
        let parts = [span(1, (0, 10), None), span(3, (0, 10), Some((0, 10))), span(3, (0, 10), Some((0, 10)))];
        check(&parts[1..], &[]);
        check(&parts, &[&[0, 1, 2]]);
        // Of files with foreign names nothing is known.
        check(&[span(0, (0, 10), Some((0, 10))), span(0, (0, 10), Some((0, 10)))], &[&[0, 1]]);
    }

    #[test]
    fn other_metrics_series_and_days_do_not_meet() {
        let keys = |metric: &str, id, day| KeyRange {
            metric: Some((metric.into(), metric.into())),
            series_id: Some((id, id)),
            time: None,
            date: Some((day, day)),
        };
        let older = Span { sequence: 1, keys: keys("a", 1, 1), repeats: None };
        for (keys, merged) in
            [(keys("a", 1, 1), true), (keys("b", 1, 1), false), (keys("a", 2, 1), false), (keys("a", 1, 2), false)]
        {
            let newer = Span { sequence: 2, keys: keys.clone(), repeats: Some(keys) };
            assert_eq!(merge_groups(&[older.clone(), newer]).len(), usize::from(merged));
        }
    }
}
