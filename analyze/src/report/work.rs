//! What services did: requests, and tokens read and written.

use std::collections::BTreeMap;

use super::{asker::Asker, present::Present};
use crate::{allocation::Labels, error::Result, rows::SIMULATED};

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

type Key = (bool, [Option<String>; 5]);
const LABELS: &str = "service_name AS service, team, k8s_namespace AS namespace, model_name AS model, model_version";

impl WorkDone {
    pub(super) async fn read(asker: &mut Asker<'_>, present: &Present) -> Result<Self> {
        let mut found: BTreeMap<Key, [Option<f64>; 6]> = BTreeMap::new();
        if present.has(&["latency.e2e", "time.request"]) {
            let requests = [counted("latency.e2e", "count"), NOTHING.to_owned(), NOTHING.to_owned()];
            let query = count_query(asker, "latency", "'latency.e2e'", &requests);
            add(asker, &mut found, "requests", query, 0).await?;
        }
        if present.has(&["input.tokens", "output.tokens"]) {
            let tokens = [NOTHING.to_owned(), counted("input.tokens", "sum"), counted("output.tokens", "sum")];
            let query = count_query(asker, "inputs", "'input.tokens', 'output.tokens'", &tokens);
            add(asker, &mut found, "tokens", query, 0).await?;
        }
        if present.has(&["requests.rate", "requests.count"]) {
            let query = rate_query(asker, "latency", "'requests.rate'");
            add(asker, &mut found, "requests by counters", query, 3).await?;
        }
        if present.has(&["input.tokens.rate", "input.tokens.total", "output.tokens.rate", "output.tokens.total"]) {
            let query = rate_query(asker, "inputs", "'input.tokens.rate', 'output.tokens.rate'");
            add(asker, &mut found, "tokens by counters", query, 3).await?;
        }
        let rows = found.into_iter().map(|((simulated, labels), counts)| {
            let [service, team, namespace, model, version] = labels;
            let labels = super::labels::of_holder(service, team, namespace, None, model, version);
            // Where a histogram counts, its counter would count the same once more.
            let either = |at: usize| counts[at].or(counts[at + 3]);
            (simulated, labels, Counts { requests: either(0), input_tokens: either(1), output_tokens: either(2) })
        });
        Ok(Self { rows: rows.collect() })
    }
}

/// A count that a question does not have.
const NOTHING: &str = "NULL";

fn counted(role: &str, column: &str) -> String {
    format!("sum(CASE role WHEN '{role}' THEN CAST({column} AS DOUBLE) END)")
}

/// SQL for what histograms count.
fn count_query(asker: &Asker<'_>, view: &str, roles: &str, [requests, input, output]: &[String; 3]) -> String {
    format!(
        "SELECT {SIMULATED} AS simulated, {LABELS}, CAST({requests} AS DOUBLE) AS requests, \
         CAST({input} AS DOUBLE) AS input_tokens, CAST({output} AS DOUBLE) AS output_tokens FROM {view} \
         WHERE role IN ({roles}) AND {} GROUP BY 1, 2, 3, 4, 5, 6",
        asker.window.condition("time")
    )
}

/// SQL for rates times the time since the point before, where that is no gap.
fn rate_query(asker: &Asker<'_>, view: &str, roles: &str) -> String {
    let gained = |role: &str| format!("sum(CASE role WHEN '{role}' THEN value * seconds END)");
    format!(
        "SELECT simulated, service, team, namespace, model, model_version, {} AS requests, {} AS input_tokens, \
         {} AS output_tokens FROM (SELECT {SIMULATED} AS simulated, {LABELS}, role, value, (CAST(time AS BIGINT) - \
         lag(CAST(time AS BIGINT)) OVER (PARTITION BY series_id, role ORDER BY time)) / 1e6 AS seconds FROM {view} \
         WHERE role IN ({roles}) AND {}) WHERE seconds <= 600 GROUP BY 1, 2, 3, 4, 5, 6",
        gained("requests.rate"),
        gained("input.tokens.rate"),
        gained("output.tokens.rate"),
        asker.points()
    )
}

/// Puts the three counts of each row at `at` of its six.
async fn add(
    asker: &mut Asker<'_>,
    found: &mut BTreeMap<Key, [Option<f64>; 6]>,
    what: &'static str,
    query: String,
    at: usize,
) -> Result<()> {
    let rows = asker.rows(what, query).await?;
    let simulated = rows.flags("simulated")?;
    let labels = ["service", "team", "namespace", "model", "model_version"].map(|name| rows.texts(name));
    let [services, teams, namespaces, models, versions] = labels;
    let labels = [services?, teams?, namespaces?, models?, versions?];
    let counts = ["requests", "input_tokens", "output_tokens"].map(|name| rows.numbers(name));
    let [requests, input, output] = counts;
    let counts = [requests?, input?, output?];
    for row in 0..rows.len() {
        let key = (simulated[row], [0, 1, 2, 3, 4].map(|label| labels[label][row].clone()));
        let known = found.entry(key).or_default();
        for (count, column) in counts.iter().enumerate() {
            known[at + count] = known[at + count].or(column[row]);
        }
    }
    Ok(())
}
