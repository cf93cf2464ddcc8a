//! One week of one fleet, real or simulated: its cards, its bill and its figures by every dimension.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::prelude::SessionContext;

use super::{
    asker::{Asker, Query},
    bill::{Bill, Meters},
    card_facts::CardFacts,
    cards::{Card, Who},
    distributed::ServiceMetrics,
    figures::{self, Figures},
    hosts::Hosts,
    labels::Dimension,
    missing::{self, Known},
    present::Present,
    stints::{self, CardEnergy, Stint},
    work::WorkDone,
};
use crate::{
    energy::{energy, footprint},
    error::Result,
    gpu_minutes::GpuMinutes,
    gpu_state::GpuState,
    price_book::{Cost, PriceBook},
    recommend::RequestCounts,
    waterfall::{CardHours, Waterfall, waterfall},
    window::{HOUR_US, MINUTE_US, Window},
};

/// Two readings of power further apart say nothing of the time between them.
const POWER_GAP_US: i64 = 10 * MINUTE_US;

/// One fleet in one window.
#[derive(Debug, Clone)]
pub(super) struct FleetWeek {
    pub(super) bill: Bill,
    pub(super) waterfall: Waterfall,
    pub(super) figures: BTreeMap<(Dimension, String), Figures>,
    /// Mean duty of all cards in each hour since the start.
    pub(super) hourly: Vec<Option<f64>>,
    /// What is not known, and what a reader must know, as sentences.
    pub(super) missing: Vec<String>,
}

/// Both fleets in one window.
pub(super) struct Week {
    /// By whether they are simulated; one without any card or host is not there.
    pub(super) fleets: BTreeMap<bool, FleetWeek>,
    pub(super) row_count: u64,
    pub(super) queries: Vec<Query>,
    /// Requests by service.
    pub(super) requests: RequestCounts,
}

/// What was read of a window.
pub(super) struct Telemetry {
    pub(super) window: Window,
    pub(super) minutes: GpuMinutes,
    pub(super) facts: CardFacts,
    pub(super) hosts: Hosts,
    pub(super) work: WorkDone,
    pub(super) service_metrics: ServiceMetrics,
}

impl Week {
    /// Reads and computes a window, and gives what its GPUs did. Until when things may have been heard of is `heard_us`,
    /// where that is before its end.
    pub(super) async fn read(
        ctx: &SessionContext,
        window: Window,
        heard_us: i64,
        book: &PriceBook,
    ) -> Result<(Self, GpuMinutes)> {
        let mut asker = Asker { ctx, window, queries: vec![] };
        let present = Present::read(&mut asker).await?;
        let minutes = match present.gpu_span(window) {
            Some(span) => GpuMinutes::read(ctx, span).await?,
            None => {
                let (gpus, holders) = (vec![], vec![]);
                GpuMinutes { window, gpus, holders, row_count: 0, queries: vec![] }
            }
        };
        let facts = CardFacts::read(&mut asker, &present).await?;
        let hosts = Hosts::read(&mut asker, &present).await?;
        let work = WorkDone::read(&mut asker, &present).await?;
        let service_metrics = ServiceMetrics::read(&mut asker, book.distribute()).await?;
        let row_count = minutes.row_count + hosts.row_count;
        let mut queries: Vec<Query> = ["series of GPUs", "points of GPUs", "who shares a card"]
            .into_iter()
            .zip(&minutes.queries)
            .map(|(what, sql)| Query { what, sql: sql.clone() })
            .collect();
        queries.append(&mut asker.queries);
        let telemetry = Telemetry { window, minutes, facts, hosts, work, service_metrics };
        let mut fleets = BTreeMap::new();
        for simulated in [false, true] {
            let has_gpu = telemetry.minutes.gpus.iter().any(|gpu| gpu.simulated == simulated);
            if has_gpu || telemetry.hosts.by_name.keys().any(|key| key.0 == simulated) {
                fleets.insert(simulated, FleetWeek::new(&telemetry, simulated, heard_us, book)?);
            }
        }
        let requests = telemetry.work.requests();
        Ok((Self { fleets, row_count, queries, requests }, telemetry.minutes))
    }
}

impl FleetWeek {
    fn new(telemetry: &Telemetry, simulated: bool, heard_us: i64, book: &PriceBook) -> Result<Self> {
        let Telemetry { window, minutes, facts, hosts, work, service_metrics } = telemetry;
        let found = Cards::of(minutes, simulated);
        let cards = &found.cards;
        let meters = Meters { simulated, window: *window, book, minutes, cards, hosts, service_metrics };
        let bill = meters.bill()?;
        let mut energies: Vec<Option<CardEnergy>> = Vec::with_capacity(found.cards.len());
        let mut stints: Vec<Stint> = Vec::new();
        for card in &found.cards {
            let gpu = &minutes.gpus[card.index];
            let region = gpu.region.as_deref().or(book.region(&gpu.host));
            let key = (simulated, gpu.host.clone(), gpu.gpu_id.clone());
            let energy = card_energy(card, minutes, facts.energy.get(&key), region, book);
            stints.extend(stints::of_card(card, minutes, region, energy.as_ref()));
            energies.push(energy);
        }
        let any_named = found.cards.iter().any(|card| card.runs.iter().any(|run| is_named(run.who)));
        let hours: Vec<CardHours> = found
            .cards
            .iter()
            .zip(&bill.card_costs)
            .map(|(card, cost)| card_hours(card, *cost, any_named, minutes, facts, simulated))
            .collect();
        let waterfall = waterfall(&hours);
        let parts = figures::Parts { telemetry, simulated, bill: &bill, stints: &stints, work };
        let figures = figures::by_dimension(&parts);
        let known = Known { telemetry, simulated, heard_us, any_named, found: &found, energies: &energies };
        let missing = missing::sentences(&known, &bill, &waterfall);
        Ok(Self { waterfall, figures, hourly: hourly(&stints, minutes, *window), missing, bill })
    }
}

fn is_named(who: Who) -> bool {
    matches!(who, Who::Holder(_) | Who::Several)
}

/// The cards of a fleet, each once.
pub(super) struct Cards {
    pub(super) cards: Vec<Card>,
    /// Names of cards of which nothing was measured.
    pub(super) unmeasured: Vec<String>,
    /// Cards that are reported under two hosts: the card, the host that counts, and the one that does not.
    pub(super) twice: Vec<(String, String, String)>,
}

impl Cards {
    fn of(minutes: &GpuMinutes, simulated: bool) -> Self {
        let mut by_asset: BTreeMap<String, Card> = BTreeMap::new();
        let (mut unmeasured, mut twice) = (BTreeSet::new(), Vec::new());
        for (index, gpu) in minutes.gpus.iter().enumerate().filter(|(_, gpu)| gpu.simulated == simulated) {
            let Some(mut card) = Card::new(index, gpu, minutes.window) else {
                unmeasured.insert(super::cards::asset_name(gpu));
                continue;
            };
            let Some(known) = by_asset.get_mut(&card.asset) else {
                by_asset.insert(card.asset.clone(), card);
                continue;
            };
            // One card under the names of two hosts: the longer series counts, once.
            if card.measured_hours() > known.measured_hours() {
                std::mem::swap(known, &mut card);
            }
            let host = |card: &Card| minutes.gpus[card.index].host.clone();
            twice.push((card.asset.clone(), host(known), host(&card)));
        }
        unmeasured.retain(|name| !by_asset.contains_key(name));
        Self { cards: by_asset.into_values().collect(), unmeasured: unmeasured.into_iter().collect(), twice }
    }
}

fn card_energy(
    card: &Card,
    minutes: &GpuMinutes,
    counter: Option<&Vec<crate::energy::Sample>>,
    region: Option<&str>,
    book: &PriceBook,
) -> Option<CardEnergy> {
    let gpu = &minutes.gpus[card.index];
    let at = |minute: usize| minutes.window.start_us + minute as i64 * MINUTE_US;
    let power: Vec<crate::energy::Sample> = gpu
        .power
        .iter()
        .enumerate()
        .filter(|(_, watts)| !watts.is_nan())
        .map(|(minute, watts)| (at(minute), f64::from(*watts)))
        .collect();
    let found = energy(counter.map_or(&[], Vec::as_slice), &power, card.here, POWER_GAP_US)?;
    Some(CardEnergy { energy: found, footprint: footprint(&found, book, region, card.here) })
}

fn card_hours(
    card: &Card,
    cost: Cost,
    any_named: bool,
    minutes: &GpuMinutes,
    facts: &CardFacts,
    simulated: bool,
) -> CardHours {
    let gpu = &minutes.gpus[card.index];
    let telemetry = card.measured_hours();
    let had = |who: Who| is_named(who) || who == Who::Unnamed;
    let allocated = card.runs.iter().filter(|run| had(run.who)).map(|run| (run.until - run.from) as f64 / 60.0);
    let active = facts.sm_active.get(&(simulated, gpu.host.clone(), gpu.gpu_id.clone()));
    let measured = telemetry > 0.0;
    CardHours {
        paid: card.here.hours(),
        telemetry,
        // Where nobody is ever named, nobody says who has a card.
        allocated: any_named.then(|| allocated.sum()),
        held: (measured && card.is_memory_known).then(|| card.hours(&[GpuState::Busy, GpuState::IdleHeld])),
        busy: measured.then_some(card.busy_hours),
        productive: active.filter(|_| measured).map(|active| active.clamp(0.0, 1.0) * telemetry),
        cost,
    }
}

/// Mean duty of all measured minutes of each hour since the start of `window`, up to the last that has one.
fn hourly(stints: &[Stint], minutes: &GpuMinutes, window: Window) -> Vec<Option<f64>> {
    let mut sums: Vec<(f64, u64)> = Vec::new();
    let first_us = minutes.window.start_us - window.start_us;
    for stint in stints.iter().filter(|stint| stint.is_measured) {
        let duty = &minutes.gpus[stint.gpu].duty;
        for minute in (stint.from..stint.until).filter(|minute| !duty[*minute].is_nan()) {
            let hour = ((first_us + minute as i64 * MINUTE_US) / HOUR_US) as usize;
            if sums.len() <= hour {
                sums.resize(hour + 1, (0.0, 0));
            }
            sums[hour] = (sums[hour].0 + f64::from(duty[minute]), sums[hour].1 + 1);
        }
    }
    sums.into_iter().map(|(sum, count)| (count > 0).then(|| sum / count as f64)).collect()
}
