//! Who holds how much of one asset, moment by moment.

use std::collections::{BTreeMap, BTreeSet};

use super::{Asset, Claim, Holding, Notice, Resource};
use crate::price_book::Period;

/// What one holder has of one asset, unit-hours.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Held {
    pub(super) hours: f64,
    pub(super) used_hours: f64,
    /// Of `hours` those whose use is known.
    pub(super) used_known_hours: f64,
}

/// What one holder claims at one moment; of several sources the larger.
#[derive(Debug, Clone, Copy, Default)]
struct Demand {
    /// Units of CPU or memory, or a fixed part of a card.
    units: f64,
    /// Weight in what is left of a card.
    weight: f64,
    /// Units in use.
    used: Option<f64>,
}

/// Unit-hours of `asset` by holder; they sum to no more than it has.
///
/// The period of the asset is cut wherever a holding starts or ends. In each part slices and amounts come first, scaled
/// down together where they exceed the asset, and what is left of a card goes to its sharers by weight.
pub(super) fn shares<'a>(
    asset: &Asset,
    holdings: &[&'a Holding],
    notices: &mut Vec<Notice>,
) -> BTreeMap<&'a str, Held> {
    let mut held: BTreeMap<&'a str, Held> = BTreeMap::new();
    let inside: Vec<(Period, &'a Holding)> =
        holdings.iter().filter_map(|one| Some((one.period.intersect(asset.period)?, *one))).collect();
    note_lost_hours(asset, holdings, notices);
    let mut bounds: Vec<(i64, bool, usize)> = Vec::with_capacity(2 * inside.len());
    for (at, (period, _)) in inside.iter().enumerate() {
        bounds.extend([(period.start_us, true, at), (period.end_us, false, at)]);
    }
    bounds.sort_unstable();
    let mut active: BTreeSet<usize> = BTreeSet::new();
    let mut overcommitted_hours = 0.0;
    for (order, (time_us, starts, at)) in bounds.iter().enumerate() {
        if *starts {
            active.insert(*at)
        } else {
            active.remove(at)
        };
        let Some((next_us, ..)) = bounds.get(order + 1).filter(|(next_us, ..)| next_us > time_us) else { continue };
        let hours = Period { start_us: *time_us, end_us: *next_us }.hours();
        let demands = demands(active.iter().map(|at| inside[*at].1));
        let (parts, overcommitted) = parts(asset, &demands);
        if overcommitted {
            overcommitted_hours += hours;
        }
        for ((holder, demand), units) in demands.iter().zip(parts) {
            let held = held.entry(holder).or_default();
            held.hours += units * hours;
            if let Some(used) = demand.used {
                held.used_hours += used.min(units) * hours;
                held.used_known_hours += units * hours;
            }
        }
    }
    if overcommitted_hours > 0.0 {
        notices.push(Notice::Overcommitted { asset: asset.name.clone(), hours: overcommitted_hours });
    }
    held
}

/// Says which holdings are not charged in full: outside of the asset's period, or of an unknown amount.
fn note_lost_hours(asset: &Asset, holdings: &[&Holding], notices: &mut Vec<Notice>) {
    let mut outside: BTreeMap<&str, f64> = BTreeMap::new();
    let mut unknown: BTreeMap<&str, f64> = BTreeMap::new();
    for holding in holdings {
        let inside = holding.period.intersect(asset.period).map_or(0.0, Period::hours);
        // Differences below a second come from sampling.
        if holding.period.hours() - inside > 1.0 / 3600.0 {
            *outside.entry(&holding.holder).or_default() += holding.period.hours() - inside;
        }
        if matches!(holding.claim, Claim::Amount { request: None, usage: None }) {
            *unknown.entry(&holding.holder).or_default() += inside;
        }
    }
    let named = |holder: &str| (holder.to_owned(), asset.name.clone());
    notices.extend(outside.into_iter().map(|(holder, hours)| {
        let (holder, asset) = named(holder);
        Notice::Outside { holder, asset, hours }
    }));
    notices.extend(unknown.into_iter().map(|(holder, hours)| {
        let (holder, asset) = named(holder);
        Notice::UnknownAmount { holder, asset, hours }
    }));
}

/// One demand per holder: claims of one source add up, sources do not.
fn demands<'a>(active: impl Iterator<Item = &'a Holding>) -> BTreeMap<&'a str, Demand> {
    let mut by_source: BTreeMap<(&str, &str), Demand> = BTreeMap::new();
    for holding in active {
        let demand = by_source.entry((&holding.holder, &holding.source)).or_default();
        let used = match holding.claim {
            Claim::Amount { request, usage } => {
                demand.units += request.unwrap_or(0.0).max(usage.unwrap_or(0.0));
                usage
            }
            Claim::Slice { fraction, busy } => {
                demand.units += fraction;
                busy.map(|busy| busy * fraction)
            }
            Claim::Shared { weight, busy } => {
                demand.weight += weight;
                busy
            }
        };
        if let Some(used) = used {
            *demand.used.get_or_insert(0.0) += used;
        }
    }
    let mut by_holder: BTreeMap<&str, Demand> = BTreeMap::new();
    for ((holder, _), demand) in by_source {
        let Some(all) = by_holder.get_mut(holder) else {
            by_holder.insert(holder, demand);
            continue;
        };
        all.units = all.units.max(demand.units);
        // Where one source knows the slice, the share that another sees is the same thing.
        all.weight = if all.units > 0.0 { 0.0 } else { all.weight.max(demand.weight) };
        all.used = match (all.used, demand.used) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
    }
    by_holder
}

/// Units of `asset` for each demand, and whether they had to be scaled down.
fn parts(asset: &Asset, demands: &BTreeMap<&str, Demand>) -> (Vec<f64>, bool) {
    let fixed: f64 = demands.values().map(|demand| demand.units).sum();
    // Seven slices of 1/7 are a whole card.
    let overcommitted = fixed > asset.capacity * (1.0 + 1e-9);
    let scale = if fixed > asset.capacity { asset.capacity / fixed } else { 1.0 };
    let left = if asset.resource == Resource::Gpu { (asset.capacity - fixed * scale).max(0.0) } else { 0.0 };
    let weights: f64 = demands.values().map(|demand| demand.weight).sum();
    let share = |weight: f64| if weights > 0.0 { left * (weight / weights) } else { 0.0 };
    (demands.values().map(|demand| demand.units * scale + share(demand.weight)).collect(), overcommitted)
}
