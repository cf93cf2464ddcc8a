//! What is not known of a week, as sentences that say what to do.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    bill::Bill,
    fleet::{Cards, Telemetry},
    stints::CardEnergy,
};
use crate::{
    allocation::Notice,
    energy::EnergySource,
    waterfall::{Rung, Waterfall},
    window::{MINUTE_US, time_text},
};

/// A silence at the end that is not worth a word.
const SILENCE_US: i64 = 15 * MINUTE_US;
/// Names in a sentence.
const NAMES_SHOWN: usize = 5;

/// What is known.
pub(super) struct Known<'a> {
    pub(super) telemetry: &'a Telemetry,
    pub(super) simulated: bool,
    /// Until when anything can have been heard.
    pub(super) heard_us: i64,
    pub(super) any_named: bool,
    pub(super) found: &'a Cards,
    /// Of each card.
    pub(super) energies: &'a [Option<CardEnergy>],
}

/// All that a reader must know before believing a figure.
pub(super) fn sentences(known: &Known<'_>, bill: &Bill, waterfall: &Waterfall) -> Vec<String> {
    let mut said = Vec::new();
    for (name, (period, hours)) in &bill.unpriced {
        said.push(format!(
            "No price for {name} in [{period}]: the cost of {hours:.1} unit-hours is unknown. Add it to the price book."
        ));
    }
    said.extend(bill.left_out.iter().map(|what| format!("Not in the bill: {what}.")));
    known.say_who_is_gone(&mut said);
    known.say_what_is_not_measured(&mut said, waterfall);
    known.say_energy(&mut said);
    for (card, kept, dropped) in &known.found.twice {
        said.push(format!("{card} is reported by hosts {kept} and {dropped}; it is charged once, to {kept}."));
    }
    said.extend(bill.allocation.notices.iter().filter_map(notice));
    said
}

impl Known<'_> {
    /// Hosts and cards that fell silent: nothing is charged after their last point.
    fn say_who_is_gone(&self, said: &mut Vec<String>) {
        let end_us = self.telemetry.window.end_us.min(self.heard_us);
        let mut hosts: BTreeMap<&str, i64> = BTreeMap::new();
        let own = self.telemetry.hosts.by_name.iter().filter(|(key, _)| key.0 == self.simulated);
        let of_hosts = own.filter_map(|((_, name), host)| Some((name.as_str(), host.here?)));
        let cards = || {
            let gpus = &self.telemetry.minutes.gpus;
            self.found.cards.iter().map(move |card| (gpus[card.index].host.as_str(), card))
        };
        for (host, here) in of_hosts.chain(cards().map(|(host, card)| (host, card.here))) {
            let last = hosts.entry(host).or_insert(here.end_us);
            *last = here.end_us.max(*last);
        }
        let is_gone = |last_us: i64| end_us - last_us > SILENCE_US;
        for (host, last_us) in &hosts {
            if is_gone(*last_us) {
                let time = time_text(*last_us);
                said.push(format!("{host} was last heard of at {time}; nothing of it is charged after that."));
            }
        }
        let gone: Vec<String> = cards()
            .filter(|(host, card)| is_gone(card.here.end_us) && !hosts.get(host).is_some_and(|last| is_gone(*last)))
            .map(|(_, card)| format!("{} ({})", card.asset, time_text(card.here.end_us)))
            .collect();
        if !gone.is_empty() {
            said.push(format!(
                "GPUs that fell silent while their host went on, and are not charged after that: {}.",
                some_of(&gone)
            ));
        }
    }

    fn say_what_is_not_measured(&self, said: &mut Vec<String>, waterfall: &Waterfall) {
        let unmeasured = &self.found.unmeasured;
        if !unmeasured.is_empty() {
            said.push(format!(
                "GPUs that series name without one usable value, and that are not charged: {}: {}.",
                unmeasured.len(),
                some_of(unmeasured)
            ));
        }
        if self.found.cards.is_empty() {
            return;
        }
        if waterfall.no_telemetry_hours > 0.005 {
            said.push(format!(
                "{:.1} of {:.1} paid GPU-hours have no telemetry; they are in no verdict on use.",
                waterfall.no_telemetry_hours,
                waterfall.step(Rung::Paid).hours.unwrap_or(0.0)
            ));
        }
        if !self.any_named {
            said.push(
                "No series of a GPU says whose work it does: who had the cards is unknown. Send service.name, or the pod labels \
                 of the exporter."
                    .to_owned(),
            );
        }
        let is_unknown = |rung| waterfall.step(rung).hours.is_none();
        if is_unknown(Rung::Held) {
            said.push("Memory of GPUs is not measured: whether idle cards were held is unknown.".to_owned());
        }
        if is_unknown(Rung::Productive) {
            said.push(
                "Nothing measures SM activity (DCGM_FI_PROF_SM_ACTIVE): how much of the busy time was productive is unknown."
                    .to_owned(),
            );
        }
    }

    fn say_energy(&self, said: &mut Vec<String>) {
        let without = self.energies.iter().filter(|energy| energy.is_none()).count();
        if without > 0 {
            said.push(format!(
                "GPUs that tell neither power nor energy: {without}. Their energy is unknown and in no sum."
            ));
        }
        let known = || self.energies.iter().flatten();
        let by_power = known().filter(|energy| energy.energy.source == EnergySource::MeanPower).count();
        if by_power > 0 {
            said.push(format!("GPUs without an energy counter: {by_power}. Their energy is power times time."));
        }
        let resets: u32 = known().map(|energy| energy.energy.reset_count).sum();
        if resets > 0 {
            said.push(format!("Resets of energy counters: {resets}. What they had not told before is missing."));
        }
        let reasons: BTreeSet<String> = known().flat_map(CardEnergy::unknown).map(ToString::to_string).collect();
        said.extend(reasons.into_iter().map(|reason| format!("Carbon or cost of energy: {reason}.")));
    }
}

/// The first few, and how many more there are.
fn some_of(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES_SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn notice(notice: &Notice) -> Option<String> {
    Some(match notice {
        Notice::TwoSources { asset, kept, dropped } => {
            format!("{asset} is reported by {kept} and {dropped}; {kept} counts.")
        }
        Notice::Overcommitted { asset, hours } => {
            format!("More of {asset} was held than it has, for {hours:.1} h; the parts are scaled down to it.")
        }
        Notice::UnknownAmount { holder, asset, hours } => {
            format!(
                "{holder} had {asset} for {hours:.1} h, and neither request nor use is known: nothing is charged to it."
            )
        }
        Notice::NotDistributed { kind } => format!(
            "Nobody can be charged a share of what is {}: nobody named holds anything, or no service has the metric of \
             [distribute].",
            kind.as_str()
        ),
        // Points of pods and of their hosts do not begin and end at one moment.
        Notice::Outside { hours, .. } if *hours < 1.0 => return None,
        Notice::Outside { holder, asset, hours } => {
            format!("{holder} had {asset} for {hours:.1} h in which it was not heard of; those are not charged.")
        }
    })
}
