//! Who pays for what: assets, holdings of them, and the lines that sum to the bill.
//!
//! A workload is charged the larger of what it requested and what it used, at every moment; what nobody holds is idle
//! (OpenCost specification 01). GPUs are charged by what is allocated: a busy card costs as much as a held one.
//!
//! Invariant (COST-1): the lines sum to the cost of the assets plus the overhead, to the micro-unit, whatever is
//! distributed and however it is grouped.

mod distribute;
mod error;
#[cfg(test)]
mod golden_tests;
mod group;
#[cfg(test)]
mod properties;
mod share;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use distribute::{Distribution, Distributions};
pub use error::AllocationError;
pub use group::{Group, UNALLOCATED, group_by, round_groups};

use crate::price_book::{Cost, Period};
use share::Held;

/// Labels of a holder or an asset: `service`, `team`, `namespace`, `host`, `gpu_model`, `model_version`, `job`, …
pub type Labels = BTreeMap<String, String>;

/// What an asset is an amount of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// GPUs; one asset per card, capacity 1.
    Gpu,
    /// vCPUs of a host.
    Cpu,
    /// Memory of a host, gigabytes.
    Memory,
}

/// Something that is paid for.
#[derive(Debug, Clone, PartialEq)]
pub struct Asset {
    /// Its name, one per thing whoever reports it, such as the UUID of a card.
    pub name: String,
    /// What it is.
    pub resource: Resource,
    /// Units: 1 for a card, vCPUs, gigabytes.
    pub capacity: f64,
    /// When it was there.
    pub period: Period,
    /// Its cost for that period.
    pub cost: Cost,
    /// `host`, `gpu_model`, `region`, …
    pub labels: Labels,
    /// Who reports it, such as `dcgm`.
    pub source: String,
}

/// Part of an asset that somebody has for a while.
#[derive(Debug, Clone, PartialEq)]
pub struct Holding {
    /// Name of the holder, the smallest thing known: a container, a Slurm job, a process.
    pub holder: String,
    /// Name of the asset.
    pub asset: String,
    /// Of which resource.
    pub resource: Resource,
    /// When.
    pub period: Period,
    /// How much.
    pub claim: Claim,
    /// Who reports it. Of two sources for one holder, asset and moment the larger amount counts, once.
    pub source: String,
}

/// How much of an asset a holding is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Claim {
    /// Units of CPU or memory: the larger of both is charged. `None` is unknown.
    Amount {
        /// Requested units.
        request: Option<f64>,
        /// Mean units in use.
        usage: Option<f64>,
    },
    /// A fixed part of a card, 0 to 1, such as a MIG slice.
    Slice {
        /// The part.
        fraction: f64,
        /// Mean busy part of that slice, 0 to 1; `None` is unknown.
        busy: Option<f64>,
    },
    /// What is left of a card beside its slices, shared by weight with the others that have it then (time slicing, MPS).
    /// Alone it is the whole card.
    Shared {
        /// Relative weight, above 0.
        weight: f64,
        /// Mean busy part of the card by this holder, 0 to 1; `None` is unknown.
        busy: Option<f64>,
    },
}

/// Who holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Holder {
    /// `service`, `team`, `namespace`, `pod`, `model`, `model_version`, `job`, …
    pub labels: Labels,
    /// Whether it serves all others (`kube-system`, a gateway, monitoring).
    pub shared: bool,
}

/// What is paid without an asset: a control plane, a licence, a commitment that was not used up.
#[derive(Debug, Clone, PartialEq)]
pub struct Overhead {
    /// What it is.
    pub name: String,
    /// Its cost.
    pub cost: Cost,
}

/// Everything that is to be allocated.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fleet {
    /// What is paid for.
    pub assets: Vec<Asset>,
    /// Who has it.
    pub holdings: Vec<Holding>,
    /// Holders by name; one that is missing has no labels and is not shared.
    pub holders: BTreeMap<String, Holder>,
    /// What is paid without an asset.
    pub overhead: Vec<Overhead>,
}

/// Where the cost of a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LineKind {
    /// Held by a workload.
    Workload,
    /// Held by a workload that serves the others.
    Shared,
    /// Held by nobody.
    Idle,
    /// Not an asset.
    Overhead,
}

/// A part of the bill.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Where it comes from.
    pub kind: LineKind,
    /// Who pays; none where nobody was found.
    pub holder: Option<String>,
    /// The asset; none for overhead and for what was distributed.
    pub asset: Option<String>,
    /// Its resource; none for overhead.
    pub resource: Option<Resource>,
    /// Labels of asset and holder; the holder's win.
    pub labels: Labels,
    /// Unit-hours allocated, or the part of those whose cost was distributed.
    pub hours: f64,
    /// Unit-hours in use.
    pub used_hours: f64,
    /// Of the hours allocated those whose use is known.
    pub used_known_hours: f64,
    /// Cost.
    pub cost: Cost,
}

/// What a reader must know about an allocation.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// Two sources report one asset; it is charged once.
    TwoSources {
        /// The asset.
        asset: String,
        /// The source that counts.
        kept: String,
        /// The source that does not.
        dropped: String,
    },
    /// More was held than is there; the parts are scaled to it.
    Overcommitted {
        /// The asset.
        asset: String,
        /// For how many hours.
        hours: f64,
    },
    /// A holding with neither request nor usage: its cost is in idle.
    UnknownAmount {
        /// Who holds.
        holder: String,
        /// The asset.
        asset: String,
        /// For how many hours.
        hours: f64,
    },
    /// A holding outside the period of its asset, or of an asset that is not there.
    Outside {
        /// Who holds.
        holder: String,
        /// The asset.
        asset: String,
        /// For how many hours.
        hours: f64,
    },
    /// Nobody could be charged a share, so that it stays a line of its own.
    NotDistributed {
        /// Of what.
        kind: LineKind,
    },
}

/// The lines of the bill.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Allocation {
    /// Their costs sum to the bill.
    pub lines: Vec<Line>,
    /// The bill: assets, each once, and overhead.
    pub bill: Cost,
    /// What a reader must know.
    pub notices: Vec<Notice>,
}

/// Allocates the cost of a fleet.
///
/// # Errors
/// [`AllocationError`] for amounts that cannot be, naming holder and asset.
pub fn allocate(fleet: &Fleet, distributions: &Distributions) -> Result<Allocation, AllocationError> {
    error::check(fleet)?;
    let mut allocation = Allocation::default();
    let assets = once_each(&fleet.assets, &mut allocation.notices);
    let mut holdings: BTreeMap<(&str, Resource), Vec<&Holding>> = BTreeMap::new();
    for holding in &fleet.holdings {
        holdings.entry((&holding.asset, holding.resource)).or_default().push(holding);
    }
    for asset in &assets {
        allocation.bill += asset.cost;
        let of_asset = holdings.get(&(asset.name.as_str(), asset.resource)).map_or(&[][..], Vec::as_slice);
        let held = share::shares(asset, of_asset, &mut allocation.notices);
        add_lines(&mut allocation.lines, fleet, asset, held);
    }
    let there: BTreeSet<(&str, Resource)> = assets.iter().map(|asset| (asset.name.as_str(), asset.resource)).collect();
    for holding in fleet.holdings.iter().filter(|one| !there.contains(&(one.asset.as_str(), one.resource))) {
        allocation.notices.push(Notice::Outside {
            holder: holding.holder.clone(),
            asset: holding.asset.clone(),
            hours: holding.period.hours(),
        });
    }
    for overhead in &fleet.overhead {
        allocation.bill += overhead.cost;
        let labels = Labels::from([("overhead".to_owned(), overhead.name.clone())]);
        allocation.lines.push(Line::without_asset(LineKind::Overhead, None, None, labels, overhead.cost));
    }
    distribute::distribute(&mut allocation, fleet, distributions);
    Ok(allocation)
}

/// Each asset once: of two sources for one the longest period counts, then the first by name.
fn once_each<'a>(assets: &'a [Asset], notices: &mut Vec<Notice>) -> Vec<&'a Asset> {
    let mut by_name: BTreeMap<(&str, Resource), Vec<&Asset>> = BTreeMap::new();
    for asset in assets {
        by_name.entry((&asset.name, asset.resource)).or_default().push(asset);
    }
    let mut kept = Vec::with_capacity(by_name.len());
    for (_, mut same) in by_name {
        same.sort_by(|a, b| b.period.hours().total_cmp(&a.period.hours()).then(a.source.cmp(&b.source)));
        for dropped in &same[1..] {
            notices.push(Notice::TwoSources {
                asset: dropped.name.clone(),
                kept: same[0].source.clone(),
                dropped: dropped.source.clone(),
            });
        }
        kept.push(same[0]);
    }
    kept
}

/// One line per holder of `asset` and one for what nobody held.
fn add_lines(lines: &mut Vec<Line>, fleet: &Fleet, asset: &Asset, held: BTreeMap<&str, Held>) {
    let total = asset.capacity * asset.period.hours();
    let idle = (total - held.values().map(|held| held.hours).sum::<f64>()).max(0.0);
    // Rounding in the last place must not make a line of a fully held asset.
    let idle = if idle > total * 1e-12 { idle } else { 0.0 };
    let weights: Vec<f64> = held.values().map(|held| held.hours).chain([idle]).collect();
    // An asset without hours or capacity can still have a cost; nobody held it.
    let whole_is_idle = || {
        weights
            .iter()
            .enumerate()
            .map(|(at, _)| if at + 1 == weights.len() { asset.cost } else { Cost::ZERO })
            .collect()
    };
    let mut costs = asset.cost.split(&weights).unwrap_or_else(whole_is_idle).into_iter();
    for ((holder, held), cost) in held.iter().zip(costs.by_ref()) {
        let known = fleet.holders.get(*holder);
        let mut labels = asset.labels.clone();
        labels.extend(known.map(|known| known.labels.clone()).unwrap_or_default());
        let shared = known.is_some_and(|known| known.shared);
        lines.push(Line {
            kind: if shared { LineKind::Shared } else { LineKind::Workload },
            holder: Some((*holder).to_owned()),
            asset: Some(asset.name.clone()),
            resource: Some(asset.resource),
            labels,
            hours: held.hours,
            used_hours: held.used_hours,
            used_known_hours: held.used_known_hours,
            cost,
        });
    }
    let cost = costs.next().unwrap_or_default();
    if idle > 0.0 || !cost.is_zero() {
        lines.push(Line {
            kind: LineKind::Idle,
            holder: None,
            asset: Some(asset.name.clone()),
            resource: Some(asset.resource),
            labels: asset.labels.clone(),
            hours: idle,
            used_hours: 0.0,
            used_known_hours: idle,
            cost,
        });
    }
}

impl LineKind {
    /// `workload`, `shared`, `idle` or `overhead`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::Shared => "shared",
            Self::Idle => "idle",
            Self::Overhead => "overhead",
        }
    }
}

impl Line {
    fn without_asset(
        kind: LineKind,
        holder: Option<String>,
        resource: Option<Resource>,
        labels: Labels,
        cost: Cost,
    ) -> Self {
        let none = 0.0;
        Self {
            kind,
            holder,
            asset: None,
            resource,
            labels,
            hours: none,
            used_hours: none,
            used_known_hours: none,
            cost,
        }
    }
}
