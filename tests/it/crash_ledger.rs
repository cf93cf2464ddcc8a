//! Requests that are recognisable in the tables, and what must be found of them.
//!
//! Request `k` has samples and histogram points, all of value or sum `k`, at times that no other request uses. It brings a
//! new series now and then, so that a crash also meets definitions of series.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;

use crate::{
    otlp::{gauge, label, now_nanos, point, request},
    points::{distribution, histogram},
    server::Server,
};

/// Samples of one request.
const SAMPLES: u64 = 20;
/// Histogram points of one request.
const HISTOGRAMS: u64 = 3;
/// Requests that share their series.
const REQUESTS_PER_SERIES: u64 = 8;

/// Which requests were sent and which of them acknowledged.
#[derive(Debug, Default, Clone)]
pub(crate) struct Ledger {
    pub(crate) sent: BTreeSet<u64>,
    pub(crate) acknowledged: BTreeSet<u64>,
}

/// Makes the requests of one test.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Requests {
    base_unix_nano: u64,
}

impl Requests {
    pub(crate) fn new() -> Self {
        // An hour ago leaves room for a millisecond per request before the limit on future times.
        Self { base_unix_nano: now_nanos() - 3_600_000_000_000 }
    }

    /// The body of request `k`.
    pub(crate) fn body(self, k: u64) -> Vec<u8> {
        let block = (k / REQUESTS_PER_SERIES).to_string();
        let time = |index: u64| self.base_unix_nano + k * 1_000_000 + index * 1000;
        let sample = |index| point(time(index), k as f64, vec![label("block", &block)]);
        let spread = |index| {
            let mut point = distribution(time(index), k as f64, &[1.0, 2.0], &[1, 0, 2]);
            point.attributes = vec![label("block", &block)];
            point
        };
        request(vec![
            gauge("crash.sample", (0..SAMPLES).map(sample).collect()),
            histogram("crash.histogram", (0..HISTOGRAMS).map(spread).collect()),
        ])
        .encode_to_vec()
    }
}

/// Points found per request: rows, and rows of different identity.
async fn found(server: &Server, table: &str, metric: &str, value: &str) -> BTreeMap<u64, (u64, u64)> {
    let query = format!(
        "SELECT CAST({value} AS BIGINT), sum(n), count(*) FROM (SELECT {value}, series_id, start_time, time, count(*) AS n \
         FROM raw.{table} WHERE metric = '{metric}' GROUP BY {value}, series_id, start_time, time) GROUP BY 1"
    );
    let rows = server.rows(&query).await;
    rows.iter().map(|row| (row[0].as_u64().unwrap(), (row[1].as_u64().unwrap(), row[2].as_u64().unwrap()))).collect()
}

/// The requests that are there. Each is there whole, in both tables, once, with its series; everything else is absent.
pub(crate) async fn stored_requests(server: &Server) -> BTreeSet<u64> {
    let samples = found(server, "samples", "crash.sample", "value").await;
    let histograms = found(server, "histograms", "crash.histogram", "sum").await;
    let keys = |found: &BTreeMap<u64, _>| found.keys().copied().collect::<BTreeSet<_>>();
    assert_eq!(keys(&samples), keys(&histograms), "a request is in one table only");
    for (k, points) in &samples {
        assert_eq!(*points, (SAMPLES, SAMPLES), "samples (rows, identities) of request {k}");
        assert_eq!(histograms[k], (HISTOGRAMS, HISTOGRAMS), "histograms (rows, identities) of request {k}");
    }
    let joined = |table: &str, metric: &str| {
        format!(
            "SELECT count(*) FROM raw.{table} p JOIN (SELECT DISTINCT series_id, metric, date FROM raw.series) d \
             ON p.series_id = d.series_id AND p.metric = d.metric AND p.date = d.date WHERE p.metric = '{metric}'"
        )
    };
    let count = samples.len() as u64;
    let with_series = server.rows(&joined("samples", "crash.sample")).await;
    assert_eq!(with_series[0][0], count * SAMPLES, "a sample lost its series");
    let with_series = server.rows(&joined("histograms", "crash.histogram")).await;
    assert_eq!(with_series[0][0], count * HISTOGRAMS, "a histogram lost its series");
    keys(&samples)
}

/// Every acknowledged request is there exactly once, every other one whole or absent, and nothing that was not sent.
/// Returns the requests that are there.
pub(crate) async fn check(server: &Server, ledger: &Ledger) -> BTreeSet<u64> {
    let stored = stored_requests(server).await;
    let lost: Vec<_> = ledger.acknowledged.difference(&stored).collect();
    assert!(lost.is_empty(), "acknowledged requests are missing: {lost:?}");
    let invented: Vec<_> = stored.difference(&ledger.sent).collect();
    assert!(invented.is_empty(), "requests that were never sent: {invented:?}");
    stored
}
