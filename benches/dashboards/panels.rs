//! One dashboard: four panels, asked one after the other, again and again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};

use crate::DASHBOARDS;

/// Between two refreshes, as people set it who watch something happen.
const REFRESH: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(60);

/// A dashboard of one host and of the fleet around it.
pub(crate) struct Dashboard {
    number: u64,
    url: String,
    http: reqwest::Client,
    /// Time of the newest points.
    now_ns: Arc<AtomicU64>,
}

impl Dashboard {
    /// Dashboard `number`, which asks the server at `http_url`.
    ///
    /// # Errors
    /// No HTTP client can be had.
    pub(crate) fn new(number: u64, http_url: &str, now_ns: Arc<AtomicU64>) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        Ok(Self { number, url: format!("{http_url}/api/v1/sql"), http, now_ns })
    }

    /// Draws its panels until `end`; how long each answer took.
    ///
    /// # Errors
    /// The first panel that gets anything but rows.
    pub(crate) async fn watch(self, end: Instant) -> anyhow::Result<Vec<Duration>> {
        // People do not open their dashboards all at once.
        let mut due = Instant::now()
            + REFRESH.mul_f64(self.number as f64 / DASHBOARDS as f64).min(end.duration_since(Instant::now()) / 2);
        let mut latencies = Vec::new();
        while due < end {
            tokio::time::sleep_until(due.into()).await;
            for query in self.panels() {
                let asked = Instant::now();
                let row_count = self.ask(&query).await.with_context(|| query.clone())?;
                ensure!(row_count > 0, "no rows: {query}");
                latencies.push(asked.elapsed());
            }
            due = (due + REFRESH).max(Instant::now());
        }
        Ok(latencies)
    }

    fn panels(&self) -> [String; 4] {
        let now_ns = self.now_ns.load(Ordering::Relaxed).cast_signed();
        let time = |minutes: i64| {
            let time = DateTime::from_timestamp_nanos(now_ns - minutes * 60_000_000_000);
            time.to_rfc3339_opts(SecondsFormat::Micros, true)
        };
        let last = |minutes| format!("time >= '{}' AND time < '{}'", time(minutes), time(0));
        let host = format!("gpu-{:02}-{:03}", self.number % 4, self.number % 100);
        let step = "date_bin(INTERVAL '1 minute', time)";
        [
            format!(
                "SELECT {step} AS time, gpu_id, avg(value) AS value FROM gpu WHERE role = 'gpu.utilization' \
                 AND host_name = '{host}' AND {} GROUP BY 1, 2 ORDER BY 1, 2",
                last(60)
            ),
            format!(
                "SELECT time, gpu_id, value FROM gpu WHERE role = 'gpu.memory.used' AND host_name = '{host}' AND {} \
                 ORDER BY time",
                last(15)
            ),
            format!(
                "SELECT host_name, avg(value) AS value FROM metrics WHERE metric = 'hw.gpu.utilization' AND {} \
                 GROUP BY host_name ORDER BY value DESC LIMIT 10",
                last(15)
            ),
            format!(
                "SELECT {step} AS time, sum(value) / 4 AS value FROM metrics WHERE metric = 'hw.power' AND {} \
                 GROUP BY 1 ORDER BY 1",
                last(60)
            ),
        ]
    }

    /// Rows of the answer.
    async fn ask(&self, query: &str) -> anyhow::Result<u64> {
        let answer = self.http.post(&self.url).json(&json!({ "query": query })).send().await?;
        let (status, body) = (answer.status(), answer.json::<Value>().await?);
        ensure!(status.is_success(), "{status}: {}", body["error"]["message"]);
        body["row_count"].as_u64().context("no row count")
    }
}
