//! Rows of the report: one window beside the one before, with money rounded so that the rows of a dimension sum to the bill.

use std::collections::BTreeSet;

use super::{figures::Figures, fleet::FleetWeek, labels::Dimension};
use crate::{
    change::{Change, NoChange, Week, change},
    money::{Money, round_parts},
    unit_cost::{Basis, UnitCost},
};

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Whether the data is simulated.
    pub simulated: bool,
    /// What it is about.
    pub dimension: Dimension,
    /// Its name.
    pub name: String,
    /// This window.
    pub now: Figures,
    /// The window before; none where that has no telemetry at all.
    pub before: Option<Figures>,
    /// Its cost rounded to the smallest unit of the currency: those of a dimension sum to the rounded bill. None where a part
    /// has no price.
    pub cost: Option<Money>,
    /// Cost per request and token of all that was held.
    pub unit: UnitCost,
    /// The same of what was busy.
    pub unit_used: UnitCost,
    /// Why its GPUs cost more or less than before.
    pub change: Result<Change, NoChange>,
}

/// All rows of a fleet, by dimension, dearest first; the window has `hours`.
pub(super) fn rows(simulated: bool, week: &FleetWeek, before: Option<&FleetWeek>, hours: f64, digits: u32) -> Vec<Row> {
    let mut rows = Vec::new();
    let nothing = Figures::default();
    for dimension in Dimension::ALL {
        let of = |week: &FleetWeek| -> Vec<String> {
            let own = week.figures.keys().filter(|(of, _)| *of == dimension);
            own.map(|(_, name)| name.clone()).collect()
        };
        // What is gone is a difference, too.
        let names: BTreeSet<String> = of(week).into_iter().chain(before.map(of).unwrap_or_default()).collect();
        let figures =
            |week: &FleetWeek, name: &String| week.figures.get(&(dimension, name.clone())).unwrap_or(&nothing).clone();
        let own: Vec<Figures> = names.iter().map(|name| figures(week, name)).collect();
        let paid: Vec<Money> = own.iter().map(|now| now.cost().effective).collect();
        let mut of_dimension: Vec<Row> = names
            .into_iter()
            .zip(own)
            .zip(round_parts(&paid, digits))
            .map(|((name, now), rounded)| {
                let before = before.map(|before| figures(before, &name));
                Row {
                    simulated,
                    dimension,
                    cost: now.cost().total().map(|_| rounded),
                    unit: now.unit_cost(Basis::Allocation, hours),
                    unit_used: now.unit_cost(Basis::Usage, hours),
                    change: change(&now.week(), &before.as_ref().map_or_else(Week::default, Figures::week)),
                    name,
                    before,
                    now,
                }
            })
            .collect();
        of_dimension.sort_by(|a, b| b.now.cost().effective.cmp(&a.now.cost().effective).then(a.name.cmp(&b.name)));
        rows.extend(of_dimension);
    }
    rows
}

impl Row {
    /// Change of the cost against the window before; none where one of the two is unknown.
    pub fn cost_change(&self) -> Option<Money> {
        Some(self.now.cost().total()? - self.before.as_ref()?.cost().total()?)
    }

    /// Change of mean duty, as a difference of ratios.
    pub fn duty_change(&self) -> Option<f64> {
        Some(self.now.gpu.average? - self.before.as_ref()?.gpu.average?)
    }
}
