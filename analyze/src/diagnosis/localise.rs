//! Where a slowdown sits: how much of it goes away when one host, GPU, zone, version or tenant is left out.

use std::ops::Range;

use super::{
    cost_model::CostModel,
    service_window::{Dimension, ServiceWindow},
    split::{SideSums, merged, split},
};

/// Share of the slowdown from which it sits in one group.
pub const LOCAL_SHARE_MIN: f64 = 0.6;
/// Fewest requests of a side without the group.
const REST_ROWS_MIN: u64 = 100;
/// Change of the mean log latency below which there is nothing to localise.
const CHANGE_MIN: f64 = 0.02;
/// Groups of one dimension that are examined, largest first.
const GROUPS_MAX: usize = 64;

/// The group that holds most of the change at equal inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Localised {
    /// Dimension.
    pub dimension: Dimension,
    /// Group.
    pub value: String,
    /// Share of the change that goes away without it; 1 = all. May pass 1 where the others moved the other way.
    pub share_removed: f64,
    /// Its share of the requests after the change.
    pub request_share: f64,
    /// Factor by which its own requests slowed at equal inputs.
    pub factor: f64,
}

impl Localised {
    /// Whether most of the change sits there and far more than its share of the requests would carry.
    pub fn is_local(&self) -> bool {
        self.share_removed >= LOCAL_SHARE_MIN && self.share_removed >= self.request_share + 0.25
    }
}

/// The strongest group of each dimension, by share removed; dimensions with fewer than two comparable groups are left out.
///
/// The change at equal inputs is that of the log latency: a factor, which does not depend on how costly a group's requests are.
pub fn localise(
    model: &CostModel,
    window: &ServiceWindow,
    before: &Range<usize>,
    after: &Range<usize>,
) -> Vec<Localised> {
    let dimensions = [Dimension::Host, Dimension::Gpu, Dimension::Zone, Dimension::Version, Dimension::Tenant];
    let mut found: Vec<Localised> =
        dimensions.into_iter().filter_map(|dimension| strongest(model, window, dimension, before, after)).collect();
    found.sort_by(|a, b| b.share_removed.total_cmp(&a.share_removed));
    found
}

fn strongest(
    model: &CostModel,
    window: &ServiceWindow,
    dimension: Dimension,
    before: &Range<usize>,
    after: &Range<usize>,
) -> Option<Localised> {
    let labels = window.labels_of(dimension)?;
    let mut counts = vec![0u64; labels.values.len()];
    after.clone().for_each(|row| counts[usize::from(labels.codes[row])] += window.weight(row));
    let mut largest: Vec<usize> = (0..counts.len()).filter(|&code| counts[code] > 0).collect();
    largest.sort_by_key(|&code| std::cmp::Reverse(counts[code]));
    largest.truncate(GROUPS_MAX);
    // Groups that are not examined share the last place.
    let mut places = vec![largest.len(); counts.len()];
    for (place, &code) in largest.iter().enumerate() {
        places[code] = place;
    }
    let by_group = |rows: &Range<usize>| {
        let mut groups = vec![SideSums::new(model); largest.len() + 1];
        let mut columns = Vec::new();
        for row in rows.clone() {
            groups[places[usize::from(labels.codes[row])]].add(model, window, row, &mut columns);
        }
        groups
    };
    let (old, new) = (by_group(before), by_group(after));
    let whole = split(model, &merged(model, &old), &merged(model, &new))?.log_system;
    if whole.abs() < CHANGE_MIN {
        return None;
    }
    let total: u64 = new.iter().map(SideSums::count).sum();
    let candidates = largest.iter().enumerate().filter_map(|(place, &code)| {
        let without = |side: &[SideSums]| {
            merged(model, side.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, sums)| sums))
        };
        let (rest_old, rest_new) = (without(&old), without(&new));
        if rest_old.count().min(rest_new.count()) < REST_ROWS_MIN {
            return None;
        }
        let rest = split(model, &rest_old, &rest_new)?.log_system;
        Some(Localised {
            dimension,
            value: labels.values[code].clone(),
            share_removed: 1.0 - rest / whole,
            request_share: new[place].count() as f64 / total as f64,
            factor: split(model, &old[place], &new[place]).map_or(f64::NAN, |split| split.log_system.exp()),
        })
    });
    candidates.max_by(|a, b| a.share_removed.total_cmp(&b.share_removed))
}
