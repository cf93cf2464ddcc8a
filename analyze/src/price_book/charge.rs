//! From metered hours to charges: price periods, commitments, and node prices split over what the node is made of.

use std::collections::{BTreeMap, BTreeSet};

use super::{Commitment, Cost, Item, Period, Price, PriceBook};
use crate::money::Money;

/// OpenCost's default prices (`configs/default.json`): only their ratio is used, and only to split a node price.
const DEFAULT_VCPU_HOUR: f64 = 0.031611;
const DEFAULT_GB_HOUR: f64 = 0.004237;
const DEFAULT_GPU_HOUR: f64 = 0.95;

/// A quantity that was there for a period.
#[derive(Debug, Clone, PartialEq)]
pub struct Metered {
    /// What it is.
    pub item: Item,
    /// Host that it is a part of.
    pub host: Option<String>,
    /// Units: GPUs, vCPUs or gigabytes.
    pub quantity: f64,
    /// When it was there.
    pub period: Period,
}

/// The charge for one [`Metered`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Charge {
    /// Its cost.
    pub cost: Cost,
    /// When it has no price, in order.
    pub unknown: Vec<Period>,
}

/// What was paid for and not used.
#[derive(Debug, Clone, PartialEq)]
pub struct UnusedCommitment {
    /// Name of the commitment.
    pub name: String,
    /// Unit-hours not used.
    pub unit_hours: f64,
    /// Paid for them; at list they cost nothing, because without the commitment nobody would have paid.
    pub cost: Cost,
}

/// The bill.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Charges {
    /// One per metered quantity, in their order.
    pub charges: Vec<Charge>,
    /// Commitments that were not used up.
    pub unused: Vec<UnusedCommitment>,
}

/// The price of a unit in one part of time; none where unknown.
type Piece = (Period, Option<Price>);

impl PriceBook {
    /// Charges `metered` within `window`.
    ///
    /// - A host with a price of its own: every hour of it is split over what was metered there then, in the ratio of
    ///   the book's prices, or of OpenCost's defaults where the book does not price all of it (OpenCost specification,
    ///   appendix A).
    /// - Everything else by item. What commitments cover at a moment is shared evenly by all units running then, the
    ///   cheapest commitment first; the rest is charged at list. Commitments do not cover hosts with their own price.
    ///
    /// Each charge is rounded once, to a micro-unit.
    pub fn charge(&self, metered: &[Metered], window: Period) -> Charges {
        let mut nodes: BTreeMap<&str, Vec<&Metered>> = BTreeMap::new();
        let mut items: BTreeMap<Item, Vec<&Metered>> = BTreeMap::new();
        for commitment in &self.commitments {
            items.entry(commitment.covers.clone()).or_default();
        }
        for one in metered {
            match one.host.as_deref().filter(|host| self.node(host).is_some()) {
                Some(host) => nodes.entry(host).or_default().push(one),
                None => items.entry(folded(&one.item)).or_default().push(one),
            }
        }
        let mut unused = Vec::new();
        let by_item: BTreeMap<Item, Vec<Piece>> = items
            .into_iter()
            .map(|(item, members)| {
                let pieces = self.item_pieces(&item, &members, window, &mut unused);
                (item, pieces)
            })
            .collect();
        let by_node: BTreeMap<&str, BTreeMap<Item, Vec<Piece>>> =
            nodes.into_iter().map(|(host, members)| (host, self.node_pieces(host, &members, window))).collect();
        let charges = metered
            .iter()
            .map(|one| {
                let item = folded(&one.item);
                let node = one.host.as_deref().and_then(|host| by_node.get(host));
                let pieces = node.unwrap_or(&by_item).get(&item).map_or(&[][..], Vec::as_slice);
                integrate(one, pieces, window)
            })
            .collect();
        Charges { charges, unused }
    }

    fn item_pieces(
        &self,
        item: &Item,
        members: &[&Metered],
        window: Period,
        unused: &mut Vec<UnusedCommitment>,
    ) -> Vec<Piece> {
        let prices = self.prices(item, window);
        let mut commitments: Vec<&Commitment> =
            self.commitments.iter().filter(|commitment| commitment.covers == *item).collect();
        if commitments.is_empty() {
            return prices;
        }
        commitments.sort_by(|a, b| a.hour.total_cmp(&b.hour));
        let mut unused_hours = vec![0.0; commitments.len()];
        let bounds = prices.iter().map(|(period, _)| *period).chain(commitments.iter().map(|one| one.period));
        let mut pieces = Vec::new();
        for (period, units) in running(members, bounds, window) {
            let price = self.prices(item, period).first().and_then(|(_, price)| *price);
            let (mut left, mut paid) = (units, 0.0);
            for (commitment, unused_hours) in commitments.iter().zip(&mut unused_hours) {
                if commitment.period.contains(period.start_us) {
                    let covered = commitment.quantity.min(left);
                    left -= covered;
                    paid += covered * commitment.hour;
                    *unused_hours += (commitment.quantity - covered) * period.hours();
                }
            }
            // Where a commitment holds, the book has one price for list and effective: what is above it is at list.
            let blended = price
                .filter(|_| units > 0.0)
                .map(|price| Price { list: price.list, effective: (paid + left * price.effective) / units });
            pieces.push((period, blended));
        }
        for (commitment, unit_hours) in commitments.iter().zip(unused_hours) {
            if unit_hours > 0.0 {
                let effective = Money::from_units(unit_hours * commitment.hour);
                let cost = Cost { effective, ..Cost::ZERO };
                unused.push(UnusedCommitment { name: commitment.name.clone(), unit_hours, cost });
            }
        }
        pieces
    }

    fn node_pieces(&self, host: &str, members: &[&Metered], window: Period) -> BTreeMap<Item, Vec<Piece>> {
        let Some(node) = self.node(host) else { return BTreeMap::new() };
        let items: BTreeSet<Item> = members.iter().map(|one| folded(&one.item)).collect();
        let own: Vec<Period> =
            items.iter().flat_map(|item| self.prices(item, window)).map(|(period, _)| period).collect();
        let bounds = node.over(window).into_iter().map(|(period, _)| period).chain(own);
        let mut by_item: BTreeMap<Item, Vec<Piece>> = BTreeMap::new();
        for (period, _) in running(members, bounds, window) {
            let there: Vec<&&Metered> = members.iter().filter(|one| one.period.contains(period.start_us)).collect();
            let booked = |item: &Item| self.prices(item, period).first().and_then(|(_, price)| *price);
            let all_booked = there.iter().all(|one| booked(&one.item).is_some());
            let base = |item: &Item| match booked(item) {
                Some(price) if all_booked => price.effective,
                _ => default_price(item),
            };
            let sum: f64 = there.iter().map(|one| one.quantity * base(&one.item)).sum();
            for item in &items {
                // Base prices of 0 give no ratio to split by.
                let price = node.at(period.start_us).filter(|_| sum > 0.0).map(|whole| {
                    let share = base(item) / sum;
                    Price { list: whole.list * share, effective: whole.effective * share }
                });
                by_item.entry(item.clone()).or_default().push((period, price));
            }
        }
        by_item
    }
}

/// `window` cut at every start and end, with the units that run in each part.
fn running(members: &[&Metered], bounds: impl Iterator<Item = Period>, window: Period) -> Vec<(Period, f64)> {
    let mut changes: BTreeMap<i64, f64> = BTreeMap::from([(window.start_us, 0.0), (window.end_us, 0.0)]);
    for part in members.iter().filter_map(|one| Some((one.period.intersect(window)?, one.quantity))) {
        *changes.entry(part.0.start_us).or_default() += part.1;
        *changes.entry(part.0.end_us).or_default() -= part.1;
    }
    for bound in bounds.filter_map(|bound| bound.intersect(window)) {
        changes.entry(bound.start_us).or_default();
        changes.entry(bound.end_us).or_default();
    }
    let times: Vec<(i64, f64)> = changes.into_iter().collect();
    let mut units = 0.0;
    times
        .windows(2)
        .map(|pair| {
            units += pair[0].1;
            // What adding and subtracting leaves of quantities that are no integers is nothing.
            let running = if units > 1e-9 { units } else { 0.0 };
            (Period { start_us: pair[0].0, end_us: pair[1].0 }, running)
        })
        .collect()
}

fn integrate(one: &Metered, pieces: &[Piece], window: Period) -> Charge {
    let Some(there) = one.period.intersect(window) else { return Charge::default() };
    let (mut list, mut effective, mut unpriced_hours) = (0.0, 0.0, 0.0);
    let mut unknown: Vec<Period> = Vec::new();
    let first = pieces.partition_point(|(period, _)| period.end_us <= there.start_us);
    for (period, price) in &pieces[first..] {
        let Some(part) = period.intersect(there) else { break };
        let unit_hours = one.quantity * part.hours();
        match price {
            Some(price) => {
                list += unit_hours * price.list;
                effective += unit_hours * price.effective;
            }
            None => {
                unpriced_hours += unit_hours;
                match unknown.last_mut() {
                    Some(last) if last.end_us == part.start_us => last.end_us = part.end_us,
                    _ => unknown.push(part),
                }
            }
        }
    }
    let cost = Cost { list: Money::from_units(list), effective: Money::from_units(effective), unpriced_hours };
    Charge { cost, unknown }
}

fn folded(item: &Item) -> Item {
    match item {
        Item::Gpu(model) => Item::Gpu(model.to_lowercase()),
        other => other.clone(),
    }
}

fn default_price(item: &Item) -> f64 {
    match item {
        Item::Gpu(_) => DEFAULT_GPU_HOUR,
        Item::Vcpu => DEFAULT_VCPU_HOUR,
        Item::Gb => DEFAULT_GB_HOUR,
    }
}
