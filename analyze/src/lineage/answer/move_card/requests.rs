//! How many requests a service had in each minute, and how many of them failed.
//!
//! By the status that the points of its latency carry, else by counters of failed requests. Series that never carry a status say
//! nothing of errors, which is not none.

use std::collections::BTreeMap;

use datafusion::prelude::SessionContext;

use crate::{
    diagnosis::reader::LATENCIES,
    error::Result,
    lineage::version_card::MinuteSums,
    rows::{Rows, literal},
    window::{MINUTE_US, Window, time_literal},
};

/// Attributes that say how a request ended, whatever it ended as.
const STATUSES: [&str; 6] = [
    "error.type",
    "http.response.status_code",
    "http.status_code",
    "rpc.response.status_code",
    "rpc.grpc.status_code",
    "grpc.status_code",
];
/// Codes of gRPC that are the server's failure, by number and by name.
///
/// Source: OpenTelemetry semantic conventions for gRPC, server spans.
const GRPC_FAILED: &str = "'2', '4', '12', '13', '14', '15', 'UNKNOWN', 'DEADLINE_EXCEEDED', 'UNIMPLEMENTED', 'INTERNAL', \
                           'UNAVAILABLE', 'DATA_LOSS'";
/// Two points of a counter further apart say nothing of the time between them, seconds.
const GAP_S: u32 = 600;
/// What to send.
const SEND: &str =
    "send error.type or http.response.status_code with the duration of requests, or a counter of failed requests";

/// Requests by minute since the epoch: all, and failed ones.
type ByMinute = BTreeMap<i64, (f64, f64)>;

/// What was counted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RequestCounts {
    /// All requests and failed ones; where errors are not known the latter mean nothing.
    by_minute: ByMinute,
    /// Why it is not known which failed; none where it is.
    pub(super) unknown: Option<String>,
}

impl RequestCounts {
    /// Reads them in `span` of the series that the condition `whose` selects; `latency` is the metric that says how long they took,
    /// none where its points are no requests.
    pub(super) async fn read(ctx: &SessionContext, whose: &str, latency: Option<&str>, span: Window) -> Result<Self> {
        let mut requests = ByMinute::new();
        if let Some(metric) = latency {
            let (found, has_status) = by_status(ctx, whose, metric, span).await?;
            if has_status {
                return Ok(Self { by_minute: found, unknown: None });
            }
            requests = found;
        }
        let counters = by_counters(ctx, whose, span).await?;
        if counters.iter().any(|(role, _)| *role == Counter::Failed) {
            return Ok(Self { by_minute: joined(counters), unknown: None });
        }
        if requests.is_empty() {
            requests = joined(counters);
        }
        Ok(Self { by_minute: requests, unknown: Some(format!("no request carries a status: {SEND}")) })
    }

    /// Failed requests of `side` and how many there were.
    pub(super) fn errors(&self, side: Window) -> MinuteSums {
        let mut sums = MinuteSums::default();
        if self.unknown.is_none() {
            self.within(side).for_each(|(_, (all, failed))| sums.add_minute(*failed, all.round() as u64));
        }
        sums
    }

    /// `cost` of `side` spread evenly over blocks of `block_minutes`, which is how often requests are told of.
    pub(super) fn cost(&self, side: Window, cost: f64, block_minutes: i64) -> MinuteSums {
        let first = side.start_us / MINUTE_US;
        let count = (side.end_us / MINUTE_US - first + block_minutes - 1) / block_minutes;
        let mut blocks = vec![0.0; usize::try_from(count).unwrap_or(0)];
        for (minute, (all, _)) in self.within(side) {
            let block = usize::try_from((minute - first) / block_minutes).unwrap_or(0);
            if let Some(requests) = blocks.get_mut(block) {
                *requests += all;
            }
        }
        let mut sums = MinuteSums::default();
        let minutes = (side.end_us / MINUTE_US - first) as f64;
        for (block, requests) in blocks.iter().enumerate() {
            let length = (minutes - (block as i64 * block_minutes) as f64).min(block_minutes as f64);
            sums.add_minute(cost * length / minutes, requests.round() as u64);
        }
        sums
    }

    fn within(&self, side: Window) -> impl Iterator<Item = (&i64, &(f64, f64))> {
        self.by_minute.range(side.start_us / MINUTE_US..side.end_us / MINUTE_US)
    }
}

/// SQL of the minute that a point speaks of: one at the end of a minute is of that minute.
const MINUTE: &str = "(CAST(time AS BIGINT) - 1) / 60000000";

fn condition(span: Window, from_us: i64) -> String {
    format!("time > {} AND time <= {}", time_literal(from_us), time_literal(span.end_us))
}

/// By the status of the points of latency, and whether any of them carries one.
async fn by_status(ctx: &SessionContext, whose: &str, metric: &str, span: Window) -> Result<(ByMinute, bool)> {
    let attribute = |key: &str| format!("attributes['{key}']");
    let [error, http, http_before, rpc, grpc, grpc_before] = STATUSES.map(attribute);
    let roles = LATENCIES.map(literal).join(", ");
    let query = format!(
        "SELECT {MINUTE} AS minute, sum(requests) AS requests, sum(CASE WHEN failed THEN requests ELSE 0.0 END) AS errors, \
         bool_or(has_status) AS has_status FROM (SELECT time, coalesce(CAST(count AS DOUBLE), 1.0) AS requests, \
         coalesce({error} IS NOT NULL OR try_cast(coalesce({http}, {http_before}) AS INT) >= 500 \
         OR upper(coalesce({rpc}, {grpc}, {grpc_before})) IN ({GRPC_FAILED}), false) AS failed, \
         coalesce({error}, {http}, {http_before}, {rpc}, {grpc}, {grpc_before}) IS NOT NULL AS has_status FROM latency \
         WHERE role IN ({roles}) AND metric = {} AND {} AND {whose} AND value IS NOT NULL) GROUP BY 1 ORDER BY 1",
        literal(metric),
        condition(span, span.start_us)
    );
    let rows = Rows::query(ctx, &query).await?;
    let (minutes, requests, errors) = (rows.integers("minute")?, rows.numbers("requests")?, rows.numbers("errors")?);
    let has_status = rows.flags("has_status")?.contains(&true);
    let of_row = |row: usize| Some((minutes[row]?, (requests[row]?, errors[row]?)));
    Ok(((0..rows.len()).filter_map(of_row).collect(), has_status))
}

/// What a counter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counter {
    All,
    Succeeded,
    Failed,
}

/// What counters of requests counted in each minute, from their rates and the time since the point before.
async fn by_counters(ctx: &SessionContext, whose: &str, span: Window) -> Result<Vec<(Counter, BTreeMap<i64, f64>)>> {
    let query = format!(
        "SELECT role, {MINUTE} AS minute, sum(value * seconds) AS requests FROM (SELECT role, time, value, (CAST(time AS BIGINT) - \
         lag(CAST(time AS BIGINT)) OVER (PARTITION BY series_id, role ORDER BY time)) / 1e6 AS seconds FROM latency \
         WHERE role IN ('requests.rate', 'requests.succeeded.rate', 'requests.failed.rate') AND {} AND {whose} \
         AND value IS NOT NULL AND NOT isnan(value)) WHERE seconds <= {GAP_S} AND time > {} GROUP BY 1, 2 ORDER BY 1, 2",
        // The point before the window begins the first rate in it.
        condition(span, span.start_us - i64::from(GAP_S) * 1_000_000),
        time_literal(span.start_us)
    );
    let rows = Rows::query(ctx, &query).await?;
    let (roles, minutes, requests) = (rows.texts("role")?, rows.integers("minute")?, rows.numbers("requests")?);
    let mut found: Vec<(Counter, BTreeMap<i64, f64>)> = Vec::new();
    for row in 0..rows.len() {
        let (Some(role), Some(minute), Some(requests)) = (&roles[row], minutes[row], requests[row]) else { continue };
        let counter = match role.as_str() {
            "requests.rate" => Counter::All,
            "requests.succeeded.rate" => Counter::Succeeded,
            _ => Counter::Failed,
        };
        match found.last_mut().filter(|(known, _)| *known == counter) {
            Some((_, by_minute)) => _ = by_minute.insert(minute, requests),
            None => found.push((counter, BTreeMap::from([(minute, requests)]))),
        }
    }
    Ok(found)
}

/// All and failed requests of each minute; where nothing counts all of them, those that succeeded and those that failed are all.
fn joined(counters: Vec<(Counter, BTreeMap<i64, f64>)>) -> ByMinute {
    let counts_all = counters.iter().any(|(counter, _)| *counter == Counter::All);
    let mut by_minute = ByMinute::new();
    for (counter, minutes) in counters {
        for (minute, requests) in minutes {
            let (all, failed) = by_minute.entry(minute).or_default();
            match counter {
                Counter::All => *all += requests,
                Counter::Succeeded if !counts_all => *all += requests,
                Counter::Succeeded => {}
                Counter::Failed => {
                    *failed += requests;
                    *all += if counts_all { 0.0 } else { requests };
                }
            }
        }
    }
    // Counters that are read at different moments may count a failure before its request.
    by_minute.values_mut().for_each(|(all, failed)| *all = all.max(*failed));
    by_minute
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(by_minute: &[(i64, (f64, f64))]) -> RequestCounts {
        RequestCounts { by_minute: by_minute.iter().copied().collect(), unknown: None }
    }

    #[test]
    fn errors_are_those_of_the_minutes_of_a_side() {
        let found = counts(&[(9, (50.0, 50.0)), (10, (100.0, 1.0)), (11, (300.0, 7.0)), (12, (50.0, 50.0))]);
        let side = Window { start_us: 10 * MINUTE_US, end_us: 12 * MINUTE_US };
        let errors = found.errors(side);
        assert_eq!((errors.minutes, errors.n, errors.x), (2, 400.0, 8.0));
        let unknown = RequestCounts { unknown: Some("not sent".into()), ..found };
        assert_eq!(unknown.errors(side), MinuteSums::default());
    }

    #[test]
    fn cost_is_spread_over_the_minutes_also_those_without_requests() {
        // 1.20 over four minutes is 0.30 each; of 30 + 0 + 60 + 10 requests 0.012 each.
        let found = counts(&[(10, (30.0, 0.0)), (12, (60.0, 0.0)), (13, (10.0, 0.0))]);
        let side = Window { start_us: 10 * MINUTE_US, end_us: 14 * MINUTE_US };
        let sums = found.cost(side, 1.2, 1);
        assert_eq!((sums.minutes, sums.n), (4, 100.0));
        assert!((sums.mean().unwrap().value - 0.012).abs() < 1e-12);
        // Told of every three minutes: a block of three and a rest of one.
        let sums = found.cost(side, 1.2, 3);
        assert_eq!((sums.minutes, sums.n), (2, 100.0));
        assert!((sums.x - 1.2).abs() < 1e-12 && (sums.xn - (0.9 * 90.0 + 0.3 * 10.0)).abs() < 1e-12);
    }

    #[test]
    fn without_a_count_of_all_requests_are_those_that_succeeded_and_those_that_failed() {
        let of = |counter: Counter, requests: f64| (counter, BTreeMap::from([(1, requests)]));
        let of_counters = |counters: &[(Counter, f64)]| {
            joined(counters.iter().map(|(counter, requests)| of(*counter, *requests)).collect())[&1]
        };
        assert_eq!(of_counters(&[(Counter::Succeeded, 90.0), (Counter::Failed, 10.0)]), (100.0, 10.0));
        assert_eq!(
            of_counters(&[(Counter::All, 100.0), (Counter::Succeeded, 90.0), (Counter::Failed, 10.0)]),
            (100.0, 10.0)
        );
        assert_eq!(of_counters(&[(Counter::All, 3.0), (Counter::Failed, 4.0)]), (4.0, 4.0));
    }
}
