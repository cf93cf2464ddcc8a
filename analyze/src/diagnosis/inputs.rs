//! The input side: which number moved, through the mix of segments or within them, and which categories are new.

use std::{collections::BTreeMap, ops::Range};

use super::{
    cost_model::CostModel,
    robust,
    service_window::{Dimension, Labels, Role, ServiceWindow},
    split::Split,
};

/// Smallest share of a category that counts as new or gone.
const SHARE_MIN: f64 = 0.005;
/// Share of images at one size that shows a client which scales down.
const CAP_SHARE_MIN: f64 = 0.3;

/// One number of the inputs, before and after.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureChange {
    /// Which.
    pub role: Role,
    /// Part of the change of the mean latency, milliseconds.
    pub part_ms: f64,
    /// Medians before and after; none where rows are means of several requests.
    pub medians: Option<(f64, f64)>,
    /// Means before and after.
    pub means: (f64, f64),
    /// The segments that explain most of it by their mix; none without labels or where the mix explains little.
    pub mix: Option<MixChange>,
    /// An upper limit that held before and does not any more.
    pub cap_lost: Option<CapLost>,
}

/// A change of a mean, divided over segments: `Σ Δw · x̄` is mix, `Σ w̄ · Δx` is within; they sum exactly.
#[derive(Debug, Clone, PartialEq)]
pub struct MixChange {
    /// Attribute that segments.
    pub label: String,
    /// Share of the change of the mean that the mix makes, 1 = all; may lie outside 0 to 1 where both oppose.
    pub mix_share: f64,
    /// Segment whose share moved the mean most, and its share before and after.
    pub segment: (String, f64, f64),
}

/// Images (or prompts) used to end at one size: a client that scaled down stopped doing so.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CapLost {
    /// The size.
    pub cap: f64,
    /// Share of the requests above it, before and after.
    pub above: (f64, f64),
}

/// A category whose share moved.
#[derive(Debug, Clone, PartialEq)]
pub struct CategoryChange {
    /// Attribute.
    pub label: String,
    /// Value.
    pub value: String,
    /// Share before and after.
    pub shares: (f64, f64),
    /// Whether it was absent before.
    pub is_new: bool,
}

/// What moved on the input side, largest part first.
pub fn feature_changes(
    model: &CostModel,
    window: &ServiceWindow,
    split: &Split,
    before: &Range<usize>,
    after: &Range<usize>,
) -> Vec<FeatureChange> {
    let mut changes: Vec<FeatureChange> = model
        .roles
        .iter()
        .filter(|role| !role.is_load())
        .filter_map(|&role| {
            let values = window.feature(role)?;
            let part_ms = split.by_role.iter().find(|(other, _)| *other == role)?.1;
            let side = |rows: &Range<usize>| -> Vec<f64> {
                rows.clone().map(|row| f64::from(values[row])).filter(|value| value.is_finite()).collect()
            };
            let (old, new) = (side(before), side(after));
            let means = (mean_of(window, values, before)?, mean_of(window, values, after)?);
            let medians = robust::median(old.iter().copied()).zip(robust::median(new.iter().copied()));
            // The mean of an interval is no size that anybody sent.
            let single = !window.is_aggregated();
            Some(FeatureChange {
                role,
                part_ms,
                medians: medians.filter(|_| single),
                means,
                mix: mix_change(window, values, before, after),
                cap_lost: if single { cap_lost(old, &new) } else { None },
            })
        })
        .collect();
    changes.sort_by(|a, b| b.part_ms.abs().total_cmp(&a.part_ms.abs()));
    changes
}

/// Mean of the known values over requests.
fn mean_of(window: &ServiceWindow, values: &[f32], rows: &Range<usize>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0);
    for row in rows.clone().filter(|&row| values[row].is_finite()) {
        sum += f64::from(values[row]) * window.weight(row) as f64;
        count += window.weight(row);
    }
    (count > 0).then(|| sum / count as f64)
}

/// The label whose mix explains most of the change of the mean, if it explains half.
fn mix_change(
    window: &ServiceWindow,
    values: &[f32],
    before: &Range<usize>,
    after: &Range<usize>,
) -> Option<MixChange> {
    let segmenting = |labels: &&Labels| matches!(labels.dimension, Dimension::Tenant | Dimension::Input);
    let changes = window.labels.iter().filter(segmenting).filter_map(|labels| {
        let (old, new) = (segments(window, labels, values, before), segments(window, labels, values, after));
        let mean = |side: &[(f64, f64)]| side.iter().map(|(share, mean)| share * mean).sum::<f64>();
        let change = mean(&new) - mean(&old);
        // A segment that is absent on one side has that side's mean from the other: its coming is mix alone.
        let part = |segment: usize| {
            let ((w0, x0), (w1, x1)) = (old[segment], new[segment]);
            let level = match (w0 > 0.0, w1 > 0.0) {
                (true, true) => (x0 + x1) / 2.0,
                (true, false) => x0,
                _ => x1,
            };
            (w1 - w0) * (level - mean(&old))
        };
        let mix: f64 = (0..old.len()).map(part).sum();
        let largest = (0..old.len()).max_by(|&a, &b| part(a).abs().total_cmp(&part(b).abs()))?;
        let segment = (labels.values[largest].clone(), old[largest].0, new[largest].0);
        (change != 0.0).then(|| MixChange { label: labels.name.clone(), mix_share: mix / change, segment })
    });
    changes.filter(|change| change.mix_share >= 0.5).max_by(|a, b| a.mix_share.total_cmp(&b.mix_share))
}

/// Share and mean of each segment.
fn segments(window: &ServiceWindow, labels: &Labels, values: &[f32], rows: &Range<usize>) -> Vec<(f64, f64)> {
    let mut sums = vec![(0u64, 0.0); labels.values.len()];
    let mut total = 0u64;
    for row in rows.clone().filter(|&row| values[row].is_finite()) {
        let (count, sum) = &mut sums[usize::from(labels.codes[row])];
        *count += window.weight(row);
        *sum += f64::from(values[row]) * window.weight(row) as f64;
        total += window.weight(row);
    }
    let share = |count: u64| count as f64 / total.max(1) as f64;
    sums.into_iter().map(|(count, sum)| (share(count), if count > 0 { sum / count as f64 } else { 0.0 })).collect()
}

/// A limit is a size that at least 30 % of the requests had and at most 2 % passed; it is lost when 10 % pass it.
fn cap_lost(mut before: Vec<f64>, after: &[f64]) -> Option<CapLost> {
    before.sort_unstable_by(f64::total_cmp);
    let cap = robust::quantile_of_sorted(&before, 0.98)?;
    let share = |values: &[f64], holds: &dyn Fn(f64) -> bool| {
        values.iter().filter(|&&value| holds(value)).count() as f64 / values.len().max(1) as f64
    };
    let is_above = |value: f64| value > cap * 1.01;
    let at_cap = share(&before, &|value| value > cap * 0.97 && !is_above(value));
    let above = (share(&before, &is_above), share(after, &is_above));
    let everything_equal = before.first().is_some_and(|least| *least > cap * 0.97);
    (at_cap >= CAP_SHARE_MIN && !everything_equal && above.1 >= 0.1).then_some(CapLost { cap, above })
}

/// Categories of inputs, tenants, versions and finish reasons that came, went or moved by 5 points.
pub fn category_changes(window: &ServiceWindow, before: &Range<usize>, after: &Range<usize>) -> Vec<CategoryChange> {
    let mut changes = Vec::new();
    for labels in &window.labels {
        if matches!(labels.dimension, Dimension::Host | Dimension::Gpu | Dimension::Zone) {
            continue;
        }
        let (old, new) = (shares(window, labels, before), shares(window, labels, after));
        let smallest = SHARE_MIN.max(3.0 / window.request_count(after).max(1) as f64);
        for (code, value) in labels.values.iter().enumerate() {
            let at = |side: &BTreeMap<usize, f64>| side.get(&code).copied().unwrap_or(0.0);
            let shares = (at(&old), at(&new));
            let is_new = shares.0 == 0.0 && shares.1 >= smallest;
            let is_gone = shares.1 == 0.0 && shares.0 >= smallest;
            if is_new || is_gone || (shares.1 - shares.0).abs() >= 0.05 {
                changes.push(CategoryChange { label: labels.name.clone(), value: value.clone(), shares, is_new });
            }
        }
    }
    let moved = |change: &CategoryChange| (change.shares.1 - change.shares.0).abs();
    changes.sort_by(|a, b| moved(b).total_cmp(&moved(a)));
    changes
}

/// Half the sum of the absolute changes of share of a label: 0 = same mix, 1 = nothing in common. None without the label.
pub fn label_distance(
    window: &ServiceWindow,
    dimension: Dimension,
    before: &Range<usize>,
    after: &Range<usize>,
) -> Option<f64> {
    let labels = window.labels_of(dimension)?;
    let (old, new) = (shares(window, labels, before), shares(window, labels, after));
    let at = |side: &BTreeMap<usize, f64>, code: usize| side.get(&code).copied().unwrap_or(0.0);
    Some((0..labels.values.len()).map(|code| (at(&new, code) - at(&old, code)).abs()).sum::<f64>() / 2.0)
}

fn shares(window: &ServiceWindow, labels: &Labels, rows: &Range<usize>) -> BTreeMap<usize, f64> {
    let mut shares = BTreeMap::new();
    let total = window.request_count(rows) as f64;
    for row in rows.clone() {
        *shares.entry(usize::from(labels.codes[row])).or_insert(0.0) += window.weight(row) as f64 / total;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(codes: Vec<u16>) -> Labels {
        let values = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        Labels { dimension: Dimension::Tenant, name: "tenant".to_owned(), values, codes }
    }

    #[test]
    fn a_mean_that_moves_by_mix_alone_is_mix() {
        let mut window = ServiceWindow::default();
        window.labels.push(labels([vec![0; 8], vec![1; 2], vec![0; 2], vec![1; 8]].concat()));
        let values: Vec<f32> =
            window.labels[0].codes.iter().map(|&code| [10.0, 100.0, 0.0][usize::from(code)]).collect();
        let mix = mix_change(&window, &values, &(0..10), &(10..20)).unwrap();
        assert!((mix.mix_share - 1.0).abs() < 1e-9, "{mix:?}");
        assert_eq!(mix.segment.0, "b");
        // The same mix with longer inputs within each segment is no mix change.
        window.labels[0].codes = [[0; 5], [1; 5], [0; 5], [1; 5]].concat();
        let values: Vec<f32> = (0..20).map(|row| if row < 10 { 1.0 } else { 3.0 }).collect();
        assert_eq!(mix_change(&window, &values, &(0..10), &(10..20)), None);
    }

    #[test]
    fn images_that_are_no_longer_scaled_down_lose_their_cap() {
        let before: Vec<f64> = (0..100).map(|i| if i < 60 { 1.05 } else { 0.2 + 0.02 * f64::from(i - 60) }).collect();
        let after: Vec<f64> = (0..100).map(|i| if i < 60 { 12.2 } else { 0.5 }).collect();
        let lost = cap_lost(before.clone(), &after).unwrap();
        assert_eq!((lost.cap, lost.above), (1.05, (0.0, 0.6)));
        assert_eq!(cap_lost(before.clone(), &before), None);
        assert_eq!(cap_lost(vec![1.0; 50], &after), None, "one size only is no cap");
    }

    #[test]
    fn categories_that_come_and_go_are_named() {
        let mut window = ServiceWindow::default();
        window.labels.push(labels([vec![0; 50], vec![1; 50], vec![0; 50], vec![2; 50]].concat()));
        let changes = category_changes(&window, &(0..100), &(100..200));
        let names: Vec<(&str, bool)> = changes.iter().map(|c| (c.value.as_str(), c.is_new)).collect();
        assert_eq!(names, [("b", false), ("c", true)]);
        assert!((label_distance(&window, Dimension::Tenant, &(0..100), &(100..200)).unwrap() - 0.5).abs() < 1e-9);
        assert_eq!(label_distance(&window, Dimension::Version, &(0..100), &(100..200)), None);
    }
}
