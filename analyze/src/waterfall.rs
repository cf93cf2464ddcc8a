//! GPU-hours from what is paid to what produces, with the money at each step.
//!
//! paid → allocated (somebody has the card) → held (its memory is in use) → busy (duty cycle) → productive (SM or tensor
//! activity). Invariant: no step is larger than one above it; a step that no card knows is none, never 0.

#[cfg(test)]
mod tests;

use crate::{money::Money, price_book::Cost};

/// A step of the waterfall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// The card is paid for.
    Paid,
    /// Somebody has it, by the scheduler.
    Allocated,
    /// Memory of it is held.
    Held,
    /// It computes: duty cycle.
    Busy,
    /// Its units compute: SM or tensor activity.
    Productive,
}

/// The hours of one card in the window; `None` is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CardHours {
    /// Hours that are paid.
    pub paid: f64,
    /// Of them those with telemetry.
    pub telemetry: f64,
    /// Hours somebody had it.
    pub allocated: Option<f64>,
    /// Hours its memory was held.
    pub held: Option<f64>,
    /// Hours times duty cycle.
    pub busy: Option<f64>,
    /// Hours times SM or tensor activity.
    pub productive: Option<f64>,
    /// Cost of the paid hours.
    pub cost: Cost,
}

/// One step over all cards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Which.
    pub rung: Rung,
    /// GPU-hours; none where no card knows them. Below full coverage they are at least this many: a card that does not
    /// know this step counts with the deepest step it knows.
    pub hours: Option<f64>,
    /// Cost of those hours; none where they are unknown or a card that has some has no price.
    pub cost: Option<Money>,
    /// Paid hours of the cards that know this step over all paid hours; none where nothing is paid.
    pub coverage: Option<f64>,
}

/// The whole waterfall.
#[derive(Debug, Clone, PartialEq)]
pub struct Waterfall {
    /// In the order of [`Rung`].
    pub steps: [Step; 5],
    /// Paid hours without telemetry, of which nothing is concluded: they are in no verdict on use.
    pub no_telemetry_hours: f64,
    /// Their cost; none where a card has no price.
    pub no_telemetry_cost: Option<Money>,
    /// Hours that a card reported at a step beyond the step above it, and that were cut.
    pub cut_hours: f64,
}

/// Hours of one card by rung: what is known, and a lower bound for what is not.
struct Ladder {
    known: [bool; 5],
    hours: [f64; 5],
    cut: f64,
}

/// Adds up `cards`.
///
/// Money follows the hours of each card at its own price, rounded once per card and step.
pub fn waterfall(cards: &[CardHours]) -> Waterfall {
    let ladders: Vec<Ladder> = cards.iter().map(ladder).collect();
    let paid: f64 = ladders.iter().map(|ladder| ladder.hours[0]).sum();
    let rungs = [Rung::Paid, Rung::Allocated, Rung::Held, Rung::Busy, Rung::Productive];
    let step = |(at, rung): (usize, Rung)| {
        let known = |ladder: &&Ladder| ladder.known[at];
        let covered: f64 = ladders.iter().filter(known).map(|ladder| ladder.hours[0]).sum();
        let coverage = (paid > 0.0).then(|| covered / paid);
        if !ladders.iter().any(|ladder| ladder.known[at]) {
            return Step { rung, hours: None, cost: None, coverage };
        }
        let hours = ladders.iter().map(|ladder| ladder.hours[at]).sum();
        let costs = cards.iter().zip(&ladders).map(|(card, ladder)| cost_of(card, ladder.hours[at]));
        Step { rung, hours: Some(hours), cost: costs.sum(), coverage }
    };
    let unseen = |card: &CardHours| (sane(card.paid) - sane(card.telemetry)).max(0.0);
    Waterfall {
        steps: [0, 1, 2, 3, 4].map(|at| step((at, rungs[at]))),
        no_telemetry_hours: cards.iter().map(unseen).sum(),
        no_telemetry_cost: cards.iter().map(|card| cost_of(card, unseen(card))).sum(),
        cut_hours: ladders.iter().map(|ladder| ladder.cut).sum(),
    }
}

fn ladder(card: &CardHours) -> Ladder {
    let reported =
        [Some(card.paid), card.allocated, card.held, card.busy, card.productive].map(|hours| hours.map(sane));
    let (mut hours, mut cut, mut most) = ([0.0; 5], 0.0, f64::INFINITY);
    for (at, reported) in reported.iter().enumerate() {
        let Some(reported) = reported else { continue };
        // Sources sample at different moments: a step may seem to exceed the one above by a few samples.
        hours[at] = reported.min(most);
        cut += reported - hours[at];
        most = hours[at];
    }
    for at in (0..4).rev() {
        if reported[at].is_none() {
            hours[at] = hours[at + 1];
        }
    }
    Ladder { known: reported.map(|reported| reported.is_some()), hours, cut }
}

fn cost_of(card: &CardHours, hours: f64) -> Option<Money> {
    if hours <= 0.0 {
        return Some(Money::ZERO);
    }
    Some(card.cost.total()?.scaled((hours / card.paid).min(1.0)))
}

/// What is not a number is no hour.
fn sane(hours: f64) -> f64 {
    if hours.is_finite() { hours.max(0.0) } else { 0.0 }
}

impl Waterfall {
    /// The step of `rung`.
    pub fn step(&self, rung: Rung) -> &Step {
        &self.steps[rung as usize]
    }

    /// Hours that get lost between `rung` and the next known step above it; none where it is unknown or the first.
    pub fn lost_hours(&self, rung: Rung) -> Option<f64> {
        let above = self.steps[..rung as usize].iter().rev().find_map(|step| step.hours)?;
        Some(above - self.step(rung).hours?)
    }
}
