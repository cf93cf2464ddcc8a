//! When what was accepted should be taken back: less was saved than promised, or what it is of got worse.

use std::collections::HashMap;

use datafusion::prelude::SessionContext;

use crate::{
    error::Result,
    rows::{Rows, SIMULATED, literal},
    window::Window,
};

/// Part of what was promised below which it fell short.
const CAME_SHARE_MIN: f64 = 0.5;
/// Rise of the 95th percentile of latency that is a regression: more than the two weeks differ by themselves.
const LATENCY_RISE_MAX: f64 = 0.10;
/// Requests of a week below which its percentile says nothing.
const REQUEST_COUNT_MIN: f64 = 100.0;

/// Latency of services in a week.
#[derive(Debug, Default)]
pub(super) struct Latencies(HashMap<(bool, String), Latency>);

/// Of one service: requests, and their 95th percentile in the unit of the source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Latency {
    pub(super) request_count: f64,
    pub(super) p95: f64,
}

impl Latencies {
    /// Of all services in `window`, from the histogram of each that counts most.
    pub(super) async fn read(ctx: &SessionContext, window: Window) -> Result<Self> {
        let mut found = Self::default();
        let condition = window.condition("time");
        let named = format!(
            "SELECT DISTINCT metric FROM latency WHERE role = 'latency.e2e' AND service_name IS NOT NULL AND {condition}"
        );
        let metrics: Vec<String> =
            Rows::query(ctx, &named).await?.texts("metric")?.into_iter().flatten().map(|name| literal(&name)).collect();
        // A session that the query crate did not make has no functions of histograms.
        if metrics.is_empty() || !ctx.state().scalar_functions().contains_key("histogram_quantile") {
            return Ok(found);
        }
        // Of a cumulative series only what it gained counts.
        let query = format!(
            "SELECT simulated, service, histogram_count(counted) AS requests, histogram_quantile(0.95, counted) AS p95 FROM \
             (SELECT simulated, service, metric, histogram_merge(gained) AS counted FROM \
             (SELECT {SIMULATED} AS simulated, service_name AS service, metric, series_id, \
             histogram_increase(histogram(), time, temporality, start_time) AS gained FROM histograms WHERE metric IN ({}) \
             AND service_name IS NOT NULL AND {condition} GROUP BY 1, 2, 3, 4) GROUP BY 1, 2, 3) ORDER BY 1, 2, 3",
            metrics.join(", ")
        );
        let rows = Rows::query(ctx, &query).await?;
        let (simulated, services) = (rows.flags("simulated")?, rows.texts("service")?);
        let (requests, p95s) = (rows.numbers("requests")?, rows.numbers("p95")?);
        for row in 0..rows.len() {
            let (Some(service), Some(request_count), Some(p95)) = (services[row].clone(), requests[row], p95s[row])
            else {
                continue;
            };
            let of = Latency { request_count, p95 };
            let known = found.0.entry((simulated[row], service)).or_insert(of);
            if known.request_count < request_count {
                *known = of;
            }
        }
        Ok(found)
    }

    pub(super) fn of(&self, simulated: bool, service: &str) -> Option<Latency> {
        self.0.get(&(simulated, service.to_owned())).copied()
    }
}

/// Why a change should be taken back; none where nothing says so.
pub(super) fn reason(
    predicted: Option<f64>,
    realised: Option<f64>,
    latency: (Option<Latency>, Option<Latency>),
    oom_count: u32,
) -> Option<String> {
    let mut reasons = Vec::new();
    if let (Some(predicted), Some(realised)) = (predicted.filter(|hours| *hours > 0.0), realised)
        && realised < predicted * CAME_SHARE_MIN
    {
        let share = realised / predicted * 100.0;
        reasons.push(format!("{share:.0} % of what was promised came, less than half"));
    }
    let usable = |of: Latency| of.request_count >= REQUEST_COUNT_MIN && of.p95 > 0.0;
    if let (Some(before), Some(after)) = (latency.0.filter(|of| usable(*of)), latency.1.filter(|of| usable(*of)))
        && after.p95 > before.p95 * (1.0 + LATENCY_RISE_MAX)
    {
        let rise = (after.p95 / before.p95 - 1.0) * 100.0;
        reasons.push(format!("the 95th percentile of latency is {rise:.0} % above that of the week before"));
    }
    if oom_count > 0 {
        reasons.push(format!("{oom_count} containers were killed for lack of memory since"));
    }
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_half_a_slower_service_or_a_kill_is_a_reason() {
        let of = |request_count, p95| Some(Latency { request_count, p95 });
        assert_eq!(reason(Some(336.0), Some(168.0), (of(1e4, 1.0), of(1e4, 1.1)), 0), None, "half, and a tenth");
        let short = reason(Some(336.0), Some(-168.0), (None, None), 0).unwrap();
        assert_eq!(short, "-50 % of what was promised came, less than half");
        let slow = reason(Some(336.0), Some(336.0), (of(1e4, 1.0), of(1e4, 1.2)), 0).unwrap();
        assert!(slow.contains("is 20 % above"), "{slow}");
        assert_eq!(reason(Some(336.0), Some(336.0), (of(99.0, 1.0), of(1e4, 1.2)), 0), None, "too few requests");
        assert_eq!(reason(Some(336.0), None, (None, None), 0), None, "not measured is not short");
        assert!(reason(None, None, (None, None), 2).unwrap().starts_with("2 containers"));
        // A raise promises no saving, so it cannot fall short of one.
        assert_eq!(reason(Some(-20.0), Some(-25.0), (None, None), 0), None);
    }
}
