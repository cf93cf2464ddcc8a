//! Idle, shared and overhead cost given to the workloads.

use std::collections::BTreeMap;

use super::{Allocation, Fleet, Labels, Line, LineKind, Notice, Resource};
use crate::price_book::Cost;

/// How a cost that nobody holds is given to those who hold something.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Distribution {
    /// It stays lines of its own.
    #[default]
    None,
    /// The same to each holder.
    Uniform,
    /// By what each holder pays for the same resource; by what it pays in all where nobody holds that resource, and
    /// for overhead.
    ByShare,
    /// By a metric of the holders, such as bytes sent; who has none gets nothing.
    ByMetric(BTreeMap<String, f64>),
}

/// One for each kind of line.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Distributions {
    /// Of what nobody held.
    pub idle: Distribution,
    /// Of what shared workloads held.
    pub shared: Distribution,
    /// Of what is not an asset.
    pub overhead: Distribution,
}

/// What is given as one: a resource, of GPUs by model, which has a price of its own.
type Pool = (Option<Resource>, Option<String>);

/// Label that a given line keeps of its asset.
const GPU_MODEL: &str = "gpu_model";

/// Replaces the lines of each kind that is distributed by one line per holder, resource and model of GPU.
///
/// Such a line has the labels of the holder, its part of the hours, and no asset: the cost has left the host it came from.
/// Weights are those of the workload lines, so that the order of the kinds does not matter. A holder that nothing is known of
/// gets nothing.
pub(super) fn distribute(allocation: &mut Allocation, fleet: &Fleet, distributions: &Distributions) {
    let workload_cost = workload_cost(&allocation.lines, fleet);
    for (kind, distribution) in [
        (LineKind::Idle, &distributions.idle),
        (LineKind::Shared, &distributions.shared),
        (LineKind::Overhead, &distributions.overhead),
    ] {
        if *distribution == Distribution::None {
            continue;
        }
        let (given, kept): (Vec<Line>, Vec<Line>) =
            std::mem::take(&mut allocation.lines).into_iter().partition(|line| line.kind == kind);
        allocation.lines = kept;
        let mut pools: BTreeMap<Pool, Vec<Line>> = BTreeMap::new();
        for line in given {
            pools.entry((line.resource, line.labels.get(GPU_MODEL).cloned())).or_default().push(line);
        }
        let mut is_given = true;
        for ((resource, model), lines) in pools {
            let weights = weights(distribution, &workload_cost, resource);
            let values: Vec<f64> = weights.values().copied().collect();
            let cost: Cost = lines.iter().map(|line| line.cost).sum();
            let Some(parts) = cost.split(&values) else {
                allocation.lines.extend(lines);
                is_given = false;
                continue;
            };
            let (hours, sum): (f64, f64) = (lines.iter().map(|line| line.hours).sum(), values.iter().sum());
            for ((holder, weight), cost) in weights.iter().zip(parts).filter(|((_, weight), _)| **weight > 0.0) {
                let mut labels: Labels =
                    fleet.holders.get(*holder).map(|known| known.labels.clone()).unwrap_or_default();
                labels.extend(model.clone().map(|model| (GPU_MODEL.to_owned(), model)));
                let line = Line::without_asset(kind, Some((*holder).to_owned()), resource, labels, cost);
                allocation.lines.push(Line { hours: hours * weight / sum, ..line });
            }
        }
        if !is_given {
            allocation.notices.push(Notice::NotDistributed { kind });
        }
    }
}

/// Paid by each workload, by resource. In micro-units: what has no price has no weight.
fn workload_cost(lines: &[Line], fleet: &Fleet) -> BTreeMap<String, BTreeMap<Option<Resource>, f64>> {
    let mut by_holder: BTreeMap<String, BTreeMap<Option<Resource>, f64>> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.kind == LineKind::Workload) {
        if let Some(holder) = line.holder.as_ref().filter(|holder| fleet.holders.contains_key(*holder)) {
            let paid = by_holder.entry(holder.clone()).or_default().entry(line.resource).or_default();
            *paid += line.cost.effective.micros() as f64;
        }
    }
    by_holder
}

fn weights<'a>(
    distribution: &Distribution,
    workload_cost: &'a BTreeMap<String, BTreeMap<Option<Resource>, f64>>,
    resource: Option<Resource>,
) -> BTreeMap<&'a str, f64> {
    let of_resource = |paid: &BTreeMap<Option<Resource>, f64>| paid.get(&resource).copied().unwrap_or(0.0);
    let anybody = workload_cost.values().any(|paid| of_resource(paid) > 0.0);
    let weight = |holder: &str, paid: &BTreeMap<Option<Resource>, f64>| match distribution {
        Distribution::None => 0.0,
        Distribution::Uniform => 1.0,
        Distribution::ByShare if anybody => of_resource(paid),
        Distribution::ByShare => paid.values().sum(),
        Distribution::ByMetric(metric) => metric.get(holder).copied().unwrap_or(0.0),
    };
    workload_cost.iter().map(|(holder, paid)| (holder.as_str(), weight(holder, paid))).collect()
}
