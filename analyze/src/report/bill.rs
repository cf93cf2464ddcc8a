//! What a week costs and who pays it: cards, CPUs and memory metered, charged by the book and allocated.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    cards::{Card, Who},
    distributed::ServiceMetrics,
    hosts::{Host, HostKey, Hosts},
    labels::{self, NO_TELEMETRY, UNNAMED},
};
use crate::{
    allocation::{Allocation, Asset, Claim, Fleet, Holder, Holding, Overhead, Resource, allocate},
    error::Result,
    gpu_minutes::{GpuMinutes, sharers::Sharer},
    price_book::{Charge, Cost, Item, Metered, Period, PriceBook},
    window::{MINUTE_US, Window},
};

/// The bill of one fleet.
#[derive(Debug, Clone)]
pub(super) struct Bill {
    pub(super) allocation: Allocation,
    /// Cost of each card, in their order.
    pub(super) card_costs: Vec<Cost>,
    /// What has no price, when, and how many unit-hours that are.
    pub(super) unpriced: BTreeMap<String, (Period, f64)>,
    /// What is not in the bill although it is there.
    pub(super) left_out: BTreeSet<String>,
    /// What monitoring itself takes of it; none where nothing tells.
    pub(super) monitoring: Option<Cost>,
}

/// Everything that a bill is made of.
pub(super) struct Meters<'a> {
    pub(super) simulated: bool,
    pub(super) window: Window,
    pub(super) book: &'a PriceBook,
    pub(super) minutes: &'a GpuMinutes,
    pub(super) cards: &'a [Card],
    pub(super) hosts: &'a Hosts,
    pub(super) service_metrics: &'a ServiceMetrics,
}

/// A thing to be paid for, before its price.
struct Unpriced {
    asset: Asset,
    item: Item,
    host: String,
}

impl Meters<'_> {
    pub(super) fn bill(&self) -> Result<Bill> {
        let mut left_out = BTreeSet::new();
        let mut there: Vec<Unpriced> = self.cards.iter().map(|card| self.card_asset(card)).collect();
        there.extend(self.host_assets(&mut left_out));
        let window = Period { start_us: self.window.start_us, end_us: self.window.end_us };
        let metered: Vec<Metered> = there.iter().map(Unpriced::metered).collect();
        let charged = self.book.charge(&metered, window);
        let mut unpriced = BTreeMap::new();
        for (thing, charge) in there.iter_mut().zip(&charged.charges) {
            thing.asset.cost = charge.cost;
            note_unpriced(&mut unpriced, thing, charge);
        }
        let card_costs = there[..self.cards.len()].iter().map(|thing| thing.asset.cost).collect();
        let overhead = charged.unused.into_iter().map(|unused| Overhead { name: unused.name, cost: unused.cost });
        let mut fleet = Fleet { overhead: overhead.collect(), ..Fleet::default() };
        self.hold_cards(&mut fleet);
        self.hold_hosts(&mut fleet, &there);
        fleet.assets = there.into_iter().map(|thing| thing.asset).collect();
        let distributions = self.service_metrics.distributions(self.book.distribute(), self.simulated, &fleet);
        let allocation = allocate(&fleet, &distributions)?;
        Ok(Bill { allocation, card_costs, unpriced, left_out, monitoring: self.monitoring() })
    }

    fn card_asset(&self, card: &Card) -> Unpriced {
        let gpu = &self.minutes.gpus[card.index];
        let model = gpu.model.clone().unwrap_or_else(|| "GPU of an unknown model".to_owned());
        let region = gpu.region.as_deref().or(self.book.region(&gpu.host));
        Unpriced {
            asset: Asset {
                name: card.asset.clone(),
                resource: Resource::Gpu,
                capacity: 1.0,
                period: card.here,
                cost: Cost::ZERO,
                labels: labels::of_card(gpu, &card.asset, region),
                source: gpu.host.clone(),
            },
            item: Item::Gpu(model),
            host: gpu.host.clone(),
        }
    }

    /// CPUs and memory of hosts, where the book has a price for them.
    fn host_assets(&self, left_out: &mut BTreeSet<String>) -> Vec<Unpriced> {
        let mut assets = Vec::new();
        for (key, host) in self.hosts.by_name.iter().filter(|(key, _)| key.0 == self.simulated) {
            let Some(here) = host.here.and_then(|here| here.intersect(self.period())) else { continue };
            let sizes = [
                (Resource::Cpu, Item::Vcpu, self.vcpus(key, host), "vCPUs", "vcpu_hour"),
                (Resource::Memory, Item::Gb, self.memory_gb(key, host), "memory", "gb_hour"),
            ];
            let node = self.book.node(&key.1).is_some();
            let has_card = || self.cards.iter().any(|card| self.minutes.gpus[card.index].host == key.1);
            if node && sizes.iter().all(|(_, _, capacity, ..)| capacity.is_none()) && !has_card() {
                left_out.insert(format!(
                    "{}: it has a node_hour, and nothing says how many vCPUs or how much memory that pays for; add `vcpus` or \
                     `memory_gb` to the price book",
                    key.1
                ));
            }
            for (resource, item, capacity, what, price) in sizes {
                let has_price = self.book.prices(&item, self.period()).iter().any(|(_, price)| price.is_some());
                match capacity {
                    _ if !has_price && !node => {
                        left_out.insert(format!("{what} of hosts: the price book has no {price}"));
                    }
                    None if node => {}
                    None => {
                        left_out.insert(format!(
                            "{what} of {}: neither its telemetry nor the price book says how much it has",
                            key.1
                        ));
                    }
                    Some(capacity) => assets.push(Unpriced {
                        asset: Asset {
                            name: key.1.clone(),
                            resource,
                            capacity,
                            period: here,
                            cost: Cost::ZERO,
                            labels: labels::of_host(&key.1, self.book.region(&key.1)),
                            source: String::new(),
                        },
                        item,
                        host: key.1.clone(),
                    }),
                }
            }
        }
        assets
    }

    fn period(&self) -> Period {
        Period { start_us: self.window.start_us, end_us: self.window.end_us }
    }

    fn vcpus(&self, key: &HostKey, host: &Host) -> Option<f64> {
        self.book.vcpus(&key.1).or(host.vcpus)
    }

    fn memory_gb(&self, key: &HostKey, host: &Host) -> Option<f64> {
        self.book.memory_gb(&key.1).or(host.memory_gb)
    }

    /// Who had which card.
    fn hold_cards(&self, fleet: &mut Fleet) {
        for card in self.cards {
            for run in &card.runs {
                let at = |minute: usize| self.minutes.window.start_us + minute as i64 * MINUTE_US;
                let period = Period { start_us: at(run.from), end_us: at(run.until) };
                if run.who == Who::Several {
                    hold_shared(fleet, card, &self.minutes.gpus[card.index].sharers, period);
                } else if let Some(holder) = self.holder(fleet, run.who) {
                    let claim = Claim::Shared { weight: 1.0, busy: run.duty };
                    fleet.holdings.push(of_card(card, holder, period, claim));
                }
            }
        }
    }

    /// The name of `who`, known to `fleet`; none where nobody or others hold.
    fn holder(&self, fleet: &mut Fleet, who: Who) -> Option<String> {
        match who {
            Who::Nobody | Who::Several => None,
            Who::Unnamed => Some(UNNAMED.to_owned()),
            Who::NoTelemetry => Some(NO_TELEMETRY.to_owned()),
            Who::Holder(index) => {
                let holder = self.minutes.holders.get(usize::from(index))?;
                let name = labels::name(holder);
                fleet.holders.entry(name.clone()).or_insert_with(|| known(labels::of(holder)));
                Some(name)
            }
        }
    }

    /// Who had CPUs and memory: pods, where they say so; else whoever has the cards of the host; else nobody knows.
    fn hold_hosts(&self, fleet: &mut Fleet, there: &[Unpriced]) {
        let with_pods = self.hosts.with_pods();
        let mut cards: BTreeMap<&str, Vec<&Card>> = BTreeMap::new();
        let mut sharers: BTreeMap<&str, &[Sharer]> = BTreeMap::new();
        for card in self.cards {
            sharers.insert(&card.asset, &self.minutes.gpus[card.index].sharers);
            cards.entry(&self.minutes.gpus[card.index].host).or_default().push(card);
        }
        for thing in there.iter().filter(|thing| thing.asset.resource != Resource::Gpu) {
            if with_pods.contains(&(self.simulated, thing.host.clone())) {
                continue;
            }
            let Some(cards) = cards.get(thing.host.as_str()) else {
                let all = Claim::Amount { request: Some(thing.asset.capacity), usage: None };
                fleet.holdings.push(holding(UNNAMED, thing, thing.asset.period, all));
                continue;
            };
            let of_a_card = thing.asset.capacity / cards.len() as f64;
            let names: BTreeSet<&str> = cards.iter().map(|card| card.asset.as_str()).collect();
            let of_cards: Vec<Holding> = fleet
                .holdings
                .iter()
                .filter(|one| one.resource == Resource::Gpu && names.contains(one.asset.as_str()))
                .filter_map(|one| {
                    let part = match one.claim {
                        Claim::Slice { fraction, .. } => fraction,
                        _ => {
                            let sharers = sharers.get(one.asset.as_str()).copied().unwrap_or_default();
                            1.0 / at_once(sharers, &one.holder, one.period) as f64
                        }
                    };
                    let claim = Claim::Amount { request: Some(of_a_card * part), usage: None };
                    Some(holding(&one.holder, thing, one.period.intersect(thing.asset.period)?, claim))
                })
                .collect();
            fleet.holdings.extend(of_cards);
        }
        self.hold_pods(fleet, there);
    }

    fn hold_pods(&self, fleet: &mut Fleet, there: &[Unpriced]) {
        let assets: BTreeMap<(&str, Resource), &Unpriced> =
            there.iter().map(|thing| ((thing.host.as_str(), thing.asset.resource), thing)).collect();
        let jobs: BTreeMap<(Option<&str>, &str), &String> = self
            .minutes
            .holders
            .iter()
            .filter_map(|holder| Some(((holder.namespace.as_deref(), holder.pod.as_deref()?), holder.job.as_ref()?)))
            .collect();
        for pod in self.hosts.pods.iter().filter(|pod| pod.host.0 == self.simulated) {
            let name = pod.namespace.as_ref().map_or_else(|| pod.pod.clone(), |space| format!("{space}/{}", pod.pod));
            let mut labels = labels::of_holder(
                pod.service.clone(),
                pod.team.clone(),
                pod.namespace.clone(),
                Some(pod.pod.clone()),
                None,
                None,
            );
            // The job whose cards it has pays for its CPUs and memory, too.
            let job = jobs.get(&(pod.namespace.as_deref(), pod.pod.as_str()));
            labels.extend(job.map(|job| ("job".to_owned(), (*job).clone())));
            for (resource, request, usage) in [
                (Resource::Cpu, pod.cpu_request, pod.cpu_usage),
                (Resource::Memory, pod.memory_request, pod.memory_usage),
            ] {
                let Some(thing) = assets.get(&(pod.host.1.as_str(), resource)) else { continue };
                if let Some(period) = pod.period.intersect(thing.asset.period) {
                    fleet.holders.entry(name.clone()).or_insert_with(|| known(labels.clone()));
                    let claim = Claim::Amount { request, usage };
                    fleet.holdings.push(Holding { source: pod.scope.clone(), ..holding(&name, thing, period, claim) });
                }
            }
        }
    }

    /// What collectors cost at the book's prices of CPUs and memory.
    fn monitoring(&self) -> Option<Cost> {
        let mut metered = Vec::new();
        for (_, host) in self.hosts.by_name.iter().filter(|(key, _)| key.0 == self.simulated) {
            let period = host.here.unwrap_or_else(|| self.period());
            let own = [(Item::Vcpu, host.collector_cpus), (Item::Gb, host.collector_gb)];
            metered.extend(own.into_iter().filter_map(|(item, quantity)| {
                let has_price = self.book.prices(&item, self.period()).iter().any(|(_, price)| price.is_some());
                // Memory without a price is in no bill; the CPUs of a collector are what matters.
                let is_wanted = item == Item::Vcpu || has_price;
                Some(Metered { item, host: None, quantity: quantity.filter(|_| is_wanted)?, period })
            }));
        }
        let charges = self.book.charge(&metered, self.period()).charges;
        (!metered.is_empty()).then(|| charges.into_iter().map(|charge| charge.cost).sum())
    }
}

impl Unpriced {
    fn metered(&self) -> Metered {
        Metered {
            item: self.item.clone(),
            host: Some(self.host.clone()),
            quantity: self.asset.capacity,
            period: self.asset.period,
        }
    }
}

/// A claim on `card`.
fn of_card(card: &Card, holder: String, period: Period, claim: Claim) -> Holding {
    Holding { holder, asset: card.asset.clone(), resource: Resource::Gpu, period, claim, source: String::new() }
}

/// Gives `period` of `card` to whoever shares it then, cut where one of them comes or goes.
fn hold_shared(fleet: &mut Fleet, card: &Card, sharers: &[Sharer], period: Period) {
    let inside: Vec<(Period, &Sharer)> =
        sharers.iter().filter_map(|sharer| Some((sharer.period.intersect(period)?, sharer))).collect();
    let cuts: BTreeSet<i64> = inside.iter().flat_map(|(here, _)| [here.start_us, here.end_us]).collect();
    for (start_us, end_us) in cuts.iter().zip(cuts.iter().skip(1)) {
        let piece = Period { start_us: *start_us, end_us: *end_us };
        for (_, sharer) in inside.iter().filter(|(here, _)| here.intersect(piece).is_some()) {
            let holder = labels::name(&sharer.holder);
            fleet.holders.entry(holder.clone()).or_insert_with(|| known(labels::of(&sharer.holder)));
            let claim = match sharer.fraction {
                Some(fraction) => Claim::Slice { fraction, busy: None },
                None => Claim::Shared { weight: 1.0, busy: None },
            };
            fleet.holdings.push(of_card(card, holder, piece, claim));
        }
    }
}

/// How many have a card in `period`, in which none of them comes or goes, with `holder`, who may be none of them.
fn at_once(sharers: &[Sharer], holder: &str, period: Period) -> usize {
    let here = sharers.iter().filter(|sharer| sharer.period.intersect(period).is_some());
    let names: BTreeSet<String> = here.map(|sharer| labels::name(&sharer.holder)).collect();
    if names.contains(holder) { names.len() } else { 1 }
}

fn known(labels: crate::allocation::Labels) -> Holder {
    let shared = labels::is_shared(labels.get("namespace").map(String::as_str));
    Holder { labels, shared }
}

fn holding(holder: &str, thing: &Unpriced, period: Period, claim: Claim) -> Holding {
    Holding {
        holder: holder.to_owned(),
        asset: thing.asset.name.clone(),
        resource: thing.asset.resource,
        period,
        claim,
        source: String::new(),
    }
}

fn note_unpriced(unpriced: &mut BTreeMap<String, (Period, f64)>, thing: &Unpriced, charge: &Charge) {
    let (Some(first), Some(last)) = (charge.unknown.first(), charge.unknown.last()) else { return };
    let name = match &thing.item {
        Item::Gpu(model) => model.clone(),
        Item::Vcpu => format!("vCPUs of {}", thing.host),
        Item::Gb => format!("memory of {}", thing.host),
    };
    let (known, hours) = unpriced.entry(name).or_insert((*first, 0.0));
    known.start_us = known.start_us.min(first.start_us);
    known.end_us = known.end_us.max(last.end_us);
    *hours += charge.cost.unpriced_hours;
}
