//! The figures of a week by every dimension: use, hours, cost, work, energy.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    bill::Bill,
    fleet::Telemetry,
    labels::{self, Dimension},
    stints::Stint,
    usage::{self, Stats},
    work::{Counts, WorkDone},
};
use crate::{
    allocation::{Resource, UNALLOCATED},
    change::{Bought, Week},
    money::Money,
    price_book::Cost,
    unit_cost::{Basis, Phases, UnitCost, Work, unit_cost},
};

/// One row of one window.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Duty of GPUs by the minute, 0 to 1.
    pub gpu: Stats,
    /// Memory of GPUs by the minute, bytes.
    pub gpu_memory: Stats,
    /// Utilisation of CPUs, 0 to 1; of hosts only.
    pub cpu: Stats,
    /// Memory in use, bytes; of hosts only.
    pub memory: Stats,
    /// GPUs.
    pub gpu_count: u64,
    /// GPU-hours on the bill.
    pub gpu_hours: f64,
    /// GPU-hours that the minutes of cards give it by name, which is not so where several share a card.
    pub(super) named_gpu_hours: f64,
    /// Of them those that were measured.
    pub measured_gpu_hours: f64,
    /// Measured hours times duty.
    pub busy_gpu_hours: f64,
    /// What GPUs cost.
    pub gpu_cost: Cost,
    /// What everything else costs: CPUs, memory, overhead.
    pub other_cost: Cost,
    /// GPU-hours and their cost by model.
    pub(super) bought: BTreeMap<String, (f64, Cost)>,
    /// Requests and tokens.
    pub(super) counts: Counts,
    /// Energy of GPUs, kWh; none where nothing measures it.
    pub energy_kwh: Option<f64>,
    /// GPU-hours whose energy is known.
    pub energy_hours: f64,
    /// Grams of CO2 equivalent of that energy; none where unknown.
    pub carbon_g: Option<f64>,
    /// Cost of that energy; none where unknown.
    pub energy_cost: Option<Money>,
}

/// What figures are made of.
pub(super) struct Parts<'a> {
    pub(super) telemetry: &'a Telemetry,
    pub(super) simulated: bool,
    pub(super) bill: &'a Bill,
    pub(super) stints: &'a [Stint],
    pub(super) work: &'a WorkDone,
}

/// All rows of all dimensions.
pub(super) fn by_dimension(parts: &Parts<'_>) -> BTreeMap<(Dimension, String), Figures> {
    let mut all = BTreeMap::new();
    // Without a training job there is nothing to tell apart.
    let has_job = parts.stints.iter().any(|stint| stint.labels.contains_key(Dimension::Job.as_str()));
    for dimension in Dimension::ALL.into_iter().filter(|dimension| has_job || *dimension != Dimension::Job) {
        let mut rows: BTreeMap<String, Figures> = BTreeMap::new();
        add_costs(&mut rows, dimension, parts);
        add_stints(&mut rows, dimension, parts);
        for (name, [gpu, gpu_memory]) in usage::by(dimension, parts.stints, &parts.telemetry.minutes) {
            let row = rows.entry(name).or_default();
            (row.gpu, row.gpu_memory) = (gpu, gpu_memory);
        }
        if dimension.is_of_work() {
            add_work(&mut rows, dimension, parts);
        }
        if dimension == Dimension::Host {
            add_hosts(&mut rows, parts);
        }
        all.extend(rows.into_iter().map(|(name, row)| ((dimension, name), row)));
    }
    all
}

fn add_costs(rows: &mut BTreeMap<String, Figures>, dimension: Dimension, parts: &Parts<'_>) {
    let mut gpus: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in &parts.bill.allocation.lines {
        let name = dimension.value(&line.labels, labels::part(line)).unwrap_or(UNALLOCATED);
        let row = rows.entry(name.to_owned()).or_default();
        if line.resource == Some(Resource::Gpu) {
            row.gpu_hours += line.hours;
            row.gpu_cost += line.cost;
            let model = line.labels.get("gpu_model").map_or("GPU of an unknown model", String::as_str);
            let bought = row.bought.entry(model.to_owned()).or_default();
            *bought = (bought.0 + line.hours, bought.1 + line.cost);
            gpus.entry(name).or_default().extend(line.asset.as_deref());
        } else {
            row.other_cost += line.cost;
        }
    }
    // A line of idle cost that was given to others names no card.
    for stint in parts.stints.iter().filter(|stint| stint.part == "idle") {
        let name = dimension.value(&stint.labels, stint.part).unwrap_or(UNALLOCATED);
        gpus.entry(name).or_default().extend(stint.labels.get("gpu").map(String::as_str));
    }
    for (name, gpus) in gpus {
        if let Some(row) = rows.get_mut(name) {
            row.gpu_count = gpus.len() as u64;
        }
    }
}

fn add_stints(rows: &mut BTreeMap<String, Figures>, dimension: Dimension, parts: &Parts<'_>) {
    let mut unknown: BTreeSet<(&str, &str)> = BTreeSet::new();
    for stint in parts.stints {
        let name = dimension.value(&stint.labels, stint.part).unwrap_or(UNALLOCATED);
        let row = rows.entry(name.to_owned()).or_default();
        let hours = (stint.until - stint.from) as f64 / 60.0;
        row.named_gpu_hours += hours;
        if stint.is_measured {
            row.measured_gpu_hours += hours;
            row.busy_gpu_hours += stint.busy_hours;
        }
        let Some(energy) = stint.energy else { continue };
        *row.energy_kwh.get_or_insert(0.0) += energy.kwh;
        row.energy_hours += energy.hours;
        match energy.carbon_g {
            Some(grams) => *row.carbon_g.get_or_insert(0.0) += grams,
            None => {
                unknown.insert((name, "carbon"));
            }
        }
        match energy.cost {
            Some(cost) => *row.energy_cost.get_or_insert(Money::ZERO) += cost,
            None => {
                unknown.insert((name, "cost"));
            }
        }
    }
    // A sum with an unknown part is unknown.
    for (name, what) in unknown {
        if let Some(row) = rows.get_mut(name) {
            match what {
                "carbon" => row.carbon_g = None,
                _ => row.energy_cost = None,
            }
        }
    }
}

fn add_work(rows: &mut BTreeMap<String, Figures>, dimension: Dimension, parts: &Parts<'_>) {
    for (_, labels, counts) in parts.work.rows.iter().filter(|(simulated, ..)| *simulated == parts.simulated) {
        let Some(name) = dimension.value(labels, "workload") else { continue };
        let row = rows.entry(name.to_owned()).or_default();
        row.counts = row.counts.plus(*counts);
    }
}

fn add_hosts(rows: &mut BTreeMap<String, Figures>, parts: &Parts<'_>) {
    for ((_, name), host) in parts.telemetry.hosts.by_name.iter().filter(|(key, _)| key.0 == parts.simulated) {
        let row = rows.entry(name.clone()).or_default();
        (row.cpu, row.memory) = (host.cpu, host.memory);
    }
}

impl Figures {
    /// Everything it costs.
    pub fn cost(&self) -> Cost {
        self.gpu_cost + self.other_cost
    }

    /// Measured part of the GPU-hours on the bill, but for those that are shared; none without any that could have been.
    pub fn coverage(&self) -> Option<f64> {
        (self.named_gpu_hours > 0.0).then(|| self.measured_gpu_hours / self.named_gpu_hours)
    }

    /// Busy GPU-hours; none where nothing was measured.
    pub fn busy(&self) -> Option<f64> {
        (self.measured_gpu_hours > 0.0).then_some(self.busy_gpu_hours)
    }

    /// Cost per request and token on `basis`, in a window of `hours`.
    pub fn unit_cost(&self, basis: Basis, hours: f64) -> UnitCost {
        let work = Work {
            hours,
            gpu_cost: self.gpu_cost,
            other_cost: self.other_cost,
            gpu_hours: self.gpu_hours,
            // What was measured stands for what was not: a silent exporter does not make work cheap.
            busy_gpu_hours: self.busy().map(|busy| busy / self.measured_gpu_hours * self.gpu_hours),
            requests: self.counts.requests,
            input_tokens: self.counts.input_tokens,
            output_tokens: self.counts.output_tokens,
            phases: Phases::Unknown,
        };
        unit_cost(&work, basis)
    }

    /// Requests; none where not counted.
    pub fn requests(&self) -> Option<f64> {
        self.counts.requests
    }

    /// Tokens read and written; none where not counted.
    pub fn tokens(&self) -> [Option<f64>; 2] {
        [self.counts.input_tokens, self.counts.output_tokens]
    }

    /// What the comparison of two weeks needs. The work is requests, or tokens where those are not counted.
    pub(super) fn week(&self) -> Week {
        let bought = self.bought.iter().map(|(model, (hours, cost))| {
            let cost = cost.total();
            (model.clone(), Bought { hours: *hours, cost })
        });
        Week { bought: bought.collect(), work: self.counts.requests }
    }
}
