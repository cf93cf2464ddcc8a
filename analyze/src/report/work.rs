//! What services did: requests, and tokens read and written.

use std::collections::BTreeMap;

use super::{asker::Asker, present::Present};
use crate::{allocation::Labels, error::Result, recommend::RequestCounts, rows::SIMULATED};

/// Counts of a window; `None` is not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) requests: Option<f64>,
    pub(super) input_tokens: Option<f64>,
    pub(super) output_tokens: Option<f64>,
}

impl Counts {
    /// Both together; what neither counts stays unknown.
    pub(super) fn plus(self, other: Self) -> Self {
        let sum = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
        Self {
            requests: sum(self.requests, other.requests),
            input_tokens: sum(self.input_tokens, other.input_tokens),
            output_tokens: sum(self.output_tokens, other.output_tokens),
        }
    }
}

/// Counts by whether they are simulated and the labels that the bill has.
#[derive(Debug, Clone, Default)]
pub(super) struct WorkDone {
    pub(super) rows: Vec<(bool, Labels, Counts)>,
}

/// Whether it is simulated, and service, team, namespace, model, model version.
type Key = (bool, [Option<String>; 5]);
const LABELS: &str = "service_name AS service, team, k8s_namespace AS namespace, model_name AS model, model_version";

/// Requests, tokens read, tokens written.
const QUANTITIES: usize = 3;

/// What one metric counts of one quantity under one set of labels.
#[derive(Debug, Clone, PartialEq)]
struct Counted {
    key: Key,
    /// Which of them.
    quantity: usize,
    metric: String,
    /// Whether a histogram counts; else the gains of a counter do.
    by_histogram: bool,
    count: f64,
}

impl WorkDone {
    pub(super) async fn read(asker: &mut Asker<'_>, present: &Present) -> Result<Self> {
        let mut counted = Vec::new();
        if present.has(&["latency.e2e", "time.request"]) {
            let query = histogram_query(asker, "latency", "count", &["latency.e2e"]);
            counted.extend(read(asker, "requests", query, true).await?);
        }
        if present.has(&["input.tokens", "output.tokens"]) {
            let query = histogram_query(asker, "inputs", "sum", &["input.tokens", "output.tokens"]);
            counted.extend(read(asker, "tokens", query, true).await?);
        }
        if present.has(&["requests.rate", "requests.count"]) {
            let query = rate_query(asker, "latency", &["requests.rate"]);
            counted.extend(read(asker, "requests by counters", query, false).await?);
        }
        if present.has(&["input.tokens.rate", "input.tokens.total", "output.tokens.rate", "output.tokens.total"]) {
            let query = rate_query(asker, "inputs", &["input.tokens.rate", "output.tokens.rate"]);
            counted.extend(read(asker, "tokens by counters", query, false).await?);
        }
        let rows = once(&counted).into_iter().map(|((simulated, labels), [requests, input_tokens, output_tokens])| {
            let [service, team, namespace, model, version] = labels;
            let labels = super::labels::of_holder(service, team, namespace, None, model, version);
            (simulated, labels, Counts { requests, input_tokens, output_tokens })
        });
        Ok(Self { rows: rows.collect() })
    }

    /// Requests by whether they are simulated, and service.
    pub(super) fn requests(&self) -> RequestCounts {
        let mut counts = RequestCounts::new();
        for (simulated, labels, of) in &self.rows {
            if let (Some(service), Some(requests)) = (labels.get("service"), of.requests) {
                *counts.entry((*simulated, service.clone())).or_default() += requests;
            }
        }
        counts
    }
}

/// What each metric counts, by whether it is a histogram, and name.
type ByMetric<'a> = BTreeMap<(bool, &'a str), f64>;

/// Each piece of work once: several metrics count the same requests (a gateway's, a server's, one of each version of the
/// conventions), and so do a histogram and a counter. Of the histograms of a service that which counts most is taken, and
/// of its counters only where there is none.
fn once(counted: &[Counted]) -> BTreeMap<Key, [Option<f64>; QUANTITIES]> {
    // A service is one whatever its versions; without a name all labels are needed to tell two apart.
    let whose = |one: &Counted| match &one.key {
        (simulated, [Some(service), ..]) => (*simulated, [Some(service.clone()), None, None, None, None]),
        unnamed => unnamed.clone(),
    };
    let mut totals: BTreeMap<(Key, usize), ByMetric<'_>> = BTreeMap::new();
    for one in counted {
        let of_service = totals.entry((whose(one), one.quantity)).or_default();
        *of_service.entry((one.by_histogram, &one.metric)).or_default() += one.count;
    }
    let mut counts: BTreeMap<Key, [Option<f64>; QUANTITIES]> = BTreeMap::new();
    for one in counted {
        let totals = &totals[&(whose(one), one.quantity)];
        let most = totals.iter().max_by(|(a, a_count), (b, b_count)| {
            // Of two that count the same the first by name.
            a.0.cmp(&b.0).then(a_count.total_cmp(b_count)).then(b.1.cmp(a.1))
        });
        if most.is_some_and(|(taken, _)| *taken == (one.by_histogram, one.metric.as_str())) {
            *counts.entry(one.key.clone()).or_default()[one.quantity].get_or_insert(0.0) += one.count;
        }
    }
    counts
}

fn quoted(roles: &[&str]) -> String {
    roles.iter().map(|role| format!("'{role}'")).collect::<Vec<_>>().join(", ")
}

/// SQL for what histograms count: their points, or the sum of what they measure.
fn histogram_query(asker: &Asker<'_>, view: &str, column: &str, roles: &[&str]) -> String {
    format!(
        "SELECT {SIMULATED} AS simulated, {LABELS}, role, metric, sum(CAST({column} AS DOUBLE)) AS amount FROM {view} \
         WHERE role IN ({}) AND {} GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8",
        quoted(roles),
        asker.window.condition("time")
    )
}

/// SQL for rates times the time since the point before, where that is no gap.
fn rate_query(asker: &Asker<'_>, view: &str, roles: &[&str]) -> String {
    format!(
        "SELECT simulated, service, team, namespace, model, model_version, role, metric, sum(value * seconds) AS amount \
         FROM (SELECT {SIMULATED} AS simulated, {LABELS}, role, metric, value, (CAST(time AS BIGINT) - \
         lag(CAST(time AS BIGINT)) OVER (PARTITION BY series_id, role ORDER BY time)) / 1e6 AS seconds FROM {view} \
         WHERE role IN ({}) AND {}) WHERE seconds <= 600 GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 \
         ORDER BY 1, 2, 3, 4, 5, 6, 7, 8",
        quoted(roles),
        asker.points()
    )
}

async fn read(asker: &mut Asker<'_>, what: &'static str, query: String, by_histogram: bool) -> Result<Vec<Counted>> {
    let rows = asker.rows(what, query).await?;
    let simulated = rows.flags("simulated")?;
    let labels = ["service", "team", "namespace", "model", "model_version"].map(|name| rows.texts(name));
    let [services, teams, namespaces, models, versions] = labels;
    let labels = [services?, teams?, namespaces?, models?, versions?];
    let (roles, metrics, amounts) = (rows.texts("role")?, rows.texts("metric")?, rows.numbers("amount")?);
    let counted = (0..rows.len()).filter_map(|row| {
        let quantity = match roles[row].as_deref()? {
            role if role.starts_with("input.") => 1,
            role if role.starts_with("output.") => 2,
            _ => 0,
        };
        let key = (simulated[row], [0, 1, 2, 3, 4].map(|label| labels[label][row].clone()));
        let metric = metrics[row].clone().unwrap_or_default();
        Some(Counted { key, quantity, metric, by_histogram, count: amounts[row]? })
    });
    Ok(counted.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(service: Option<&str>, version: &str, metric: &str, by_histogram: bool, count: f64) -> Counted {
        let labels = [service.map(str::to_owned), None, None, None, Some(version.to_owned())];
        Counted { key: (false, labels), quantity: 0, metric: metric.to_owned(), by_histogram, count }
    }

    fn requests(counted: &[Counted]) -> Vec<(String, f64)> {
        let known = once(counted).into_iter();
        known.filter_map(|((_, labels), counts)| Some((labels[4].clone()?, counts[0]?))).collect()
    }

    #[test]
    fn one_request_of_two_metrics_is_one() {
        let chat = |version, metric, by_histogram, count| counted(Some("chat"), version, metric, by_histogram, count);
        // The server's histogram counts 300 under both versions, the gateway's 200 without a version of its own.
        let all = [
            chat("1", "server", true, 100.0),
            chat("2", "server", true, 200.0),
            chat("gateway", "gateway", true, 200.0),
            chat("2", "total", false, 290.0),
        ];
        assert_eq!(requests(&all), [("1".into(), 100.0), ("2".into(), 200.0)]);
        // Counters count where no histogram does.
        let counters = [chat("1", "deployment", false, 90.0), chat("1", "http", false, 95.0)];
        assert_eq!(requests(&counters), [("1".into(), 95.0)]);
        // Of work without a service nothing is known to be the same.
        let unnamed = [counted(None, "1", "server", true, 5.0), counted(None, "2", "gateway", true, 3.0)];
        assert_eq!(requests(&unnamed), [("1".into(), 5.0), ("2".into(), 3.0)]);
    }
}
