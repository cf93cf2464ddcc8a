//! Costs that nobody holds, given to the workloads as the price book says.

use std::collections::BTreeMap;

use super::asker::Asker;
use crate::{
    allocation::{Distribution, Distributions, Fleet},
    error::Result,
    price_book::{Distribute, DistributeBy},
    rows::{SIMULATED, literal},
};

/// Of each metric that costs are given by, what it says of services, simulated or not.
#[derive(Debug, Clone, Default)]
pub(super) struct ServiceMetrics(BTreeMap<String, BTreeMap<(bool, String), f64>>);

impl ServiceMetrics {
    /// Reads the metrics that `distribute` names: what counters gained in the window, means of all else, summed over the series
    /// of a service.
    pub(super) async fn read(asker: &mut Asker<'_>, distribute: &Distribute) -> Result<Self> {
        let mut found = Self::default();
        for metric in distribute.metrics() {
            if found.0.contains_key(metric) {
                continue;
            }
            let query = query(asker, metric);
            let rows = asker.rows("metric that costs are given by", query).await?;
            let (simulated, services) = (rows.flags("simulated")?, rows.texts("service")?);
            let amounts = simulated.into_iter().zip(services).zip(rows.numbers("amount")?);
            let known = amounts.filter_map(|((simulated, service), amount)| {
                // What went down is no share of anything.
                Some(((simulated, service?), amount.filter(|amount| amount.is_finite() && *amount > 0.0)?))
            });
            found.0.insert(metric.to_owned(), known.collect());
        }
        Ok(found)
    }

    /// What `distribute` means for `fleet`, which is simulated or not.
    pub(super) fn distributions(&self, distribute: &Distribute, simulated: bool, fleet: &Fleet) -> Distributions {
        let of = |by: &Option<DistributeBy>| match by {
            None => Distribution::None,
            Some(DistributeBy::Uniform) => Distribution::Uniform,
            Some(DistributeBy::Share) => Distribution::ByShare,
            Some(DistributeBy::Metric(metric)) => Distribution::ByMetric(self.by_holder(metric, simulated, fleet)),
        };
        Distributions { idle: of(&distribute.idle), shared: of(&distribute.shared), overhead: of(&distribute.overhead) }
    }

    /// The amount of each service over its holders, by the hours for which they had anything.
    fn by_holder(&self, metric: &str, simulated: bool, fleet: &Fleet) -> BTreeMap<String, f64> {
        let mut hours: BTreeMap<&str, BTreeMap<&str, f64>> = BTreeMap::new();
        for holding in &fleet.holdings {
            let known = fleet.holders.get(&holding.holder).filter(|known| !known.shared);
            if let Some(service) = known.and_then(|known| known.labels.get("service")) {
                let of_holder = hours.entry(service).or_default().entry(&holding.holder).or_default();
                *of_holder += holding.period.hours();
            }
        }
        let amount = |service: &str| self.0.get(metric)?.get(&(simulated, service.to_owned())).copied();
        let mut weights = BTreeMap::new();
        for (service, holders) in hours {
            let Some(amount) = amount(service) else { continue };
            let all: f64 = holders.values().sum();
            weights.extend(holders.into_iter().map(|(holder, hours)| (holder.to_owned(), amount * hours / all)));
        }
        weights
    }
}

fn query(asker: &Asker<'_>, metric: &str) -> String {
    let metric = literal(metric);
    format!(
        "SELECT simulated, service, sum(CASE WHEN is_counter THEN gained ELSE mean END) AS amount FROM (SELECT s.simulated, \
         s.service, p.series_id, bool_or(s.kind = 'sum' AND s.monotonic) AS is_counter, avg(p.value) AS mean, \
         sum(CASE WHEN s.temporality = 'delta' THEN p.value ELSE p.increase END) AS gained FROM raw.increases p JOIN \
         (SELECT series_id, date, kind, temporality, monotonic, service_name AS service, {SIMULATED} AS simulated FROM raw.series \
         WHERE metric = {metric} AND service_name IS NOT NULL) s ON s.series_id = p.series_id AND s.date = p.date \
         WHERE p.metric = {metric} AND {} AND p.value IS NOT NULL GROUP BY 1, 2, 3) GROUP BY 1, 2 ORDER BY 1, 2",
        asker.window.condition("p.time")
    )
}
