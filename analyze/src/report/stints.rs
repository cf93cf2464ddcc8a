//! Who had which card when, with labels and a share of the card's energy.

use crate::{
    allocation::Labels,
    energy::{Energy, Footprint, NoFootprint},
    gpu_minutes::GpuMinutes,
    money::Money,
};

use super::{
    cards::{Card, Run, Who},
    labels::{self, NO_TELEMETRY, UNNAMED},
};

/// A stretch of one card and one holder.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stint {
    /// Index of the card in the minutes.
    pub(super) gpu: usize,
    /// First minute.
    pub(super) from: usize,
    /// First minute after.
    pub(super) until: usize,
    pub(super) is_measured: bool,
    /// Labels of card and holder.
    pub(super) labels: Labels,
    /// Part of the bill.
    pub(super) part: &'static str,
    /// Hours times duty.
    pub(super) busy_hours: f64,
    /// Its energy, by its share of the power.
    pub(super) energy: Option<Share>,
}

/// A share of the energy of a card.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Share {
    pub(super) kwh: f64,
    /// Grams; none where unknown.
    pub(super) carbon_g: Option<f64>,
    /// Cost; none where unknown.
    pub(super) cost: Option<Money>,
    /// Hours whose energy is known.
    pub(super) hours: f64,
}

/// Energy of a card and what it makes of the book.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CardEnergy {
    pub(super) energy: Energy,
    pub(super) footprint: Footprint,
}

impl CardEnergy {
    /// Why something is not known.
    pub(super) fn unknown(&self) -> impl Iterator<Item = &NoFootprint> {
        [self.footprint.carbon_g.as_ref().err(), self.footprint.cost.as_ref().err()].into_iter().flatten()
    }

    fn share(&self, share: f64, hours: f64) -> Share {
        Share {
            kwh: self.footprint.kwh * share,
            carbon_g: self.footprint.carbon_g.as_ref().ok().map(|grams| grams * share),
            cost: self.footprint.cost.as_ref().ok().map(|cost| cost.scaled(share)),
            hours: hours * self.energy.coverage,
        }
    }
}

/// The stretches of `card`.
pub(super) fn of_card(
    card: &Card,
    minutes: &GpuMinutes,
    region: Option<&str>,
    energy: Option<&CardEnergy>,
) -> Vec<Stint> {
    let gpu = &minutes.gpus[card.index];
    let of_card = labels::of_card(gpu, &card.asset, region);
    let watts: f64 = card.runs.iter().map(|run| run.watt_minutes).sum();
    let length = |run: &Run| (run.until - run.from) as f64 / 60.0;
    let here = card.here.hours();
    let stint = |run: &Run| {
        let holder = match run.who {
            Who::Holder(index) => minutes.holders.get(usize::from(index)),
            _ => None,
        };
        let mut labels = of_card.clone();
        labels.extend(holder.map(labels::of).unwrap_or_default());
        let part = match run.who {
            Who::Holder(_) if labels::is_shared(labels.get("namespace").map(String::as_str)) => "shared",
            Who::Holder(_) | Who::Several => "workload",
            Who::Unnamed => UNNAMED,
            Who::Nobody => "idle",
            Who::NoTelemetry => NO_TELEMETRY,
        };
        // Without power in any minute the counter's joules are spread over the time.
        let share = if watts > 0.0 { run.watt_minutes / watts } else { length(run) / here };
        Stint {
            gpu: card.index,
            from: run.from,
            until: run.until,
            is_measured: run.is_measured,
            labels,
            part,
            busy_hours: run.duty.unwrap_or(0.0) * length(run),
            energy: energy.map(|energy| energy.share(share, length(run))),
        }
    };
    card.runs.iter().map(stint).collect()
}
