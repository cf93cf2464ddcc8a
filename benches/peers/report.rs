//! What was measured, for people: a column for each product, peers with their ratio to Driftwatt.

use std::{fmt, time::Duration};

use crate::{client::Acknowledged, load::Kinds, product::Product, storage::Size};

/// Figures of one product.
pub(crate) struct Outcome {
    pub(crate) product: Product,
    /// Points sent as fast as they were taken, all of them found afterwards.
    pub(crate) points: u64,
    /// From the first request to the last acknowledgement.
    pub(crate) elapsed: Duration,
    pub(crate) acknowledged: Acknowledged,
    /// CPU seconds until the last acknowledgement.
    pub(crate) cpu_seconds: Option<f64>,
    /// CPU seconds until everything is on disk in its smallest form.
    pub(crate) cpu_seconds_merged: Option<f64>,
    pub(crate) peak_rss_bytes: Option<u64>,
    pub(crate) size: Size,
    /// Points sent after all that, whose last acknowledgement SIGKILL followed.
    pub(crate) points_before_kill: u64,
    /// Acknowledged points that are not there after a restart.
    pub(crate) points_lost: u64,
}

/// All products with one load.
pub(crate) struct Report {
    pub(crate) kinds: Kinds,
    pub(crate) outcomes: Vec<Outcome>,
}

/// A figure of one product; none where the system does not tell it.
type Figure = fn(&Outcome) -> Option<f64>;

/// What, how many decimals, and whether peers are put in proportion.
const FIGURES: [(&str, usize, bool, Figure); 12] = [
    ("CPU s per million points, to last ack", 2, true, |one| Some(one.cpu_seconds? * 1e6 / one.points as f64)),
    ("CPU s per million points, merged", 2, true, |one| Some(one.cpu_seconds_merged? * 1e6 / one.points as f64)),
    ("bytes per point on disk, merged", 2, true, |one| {
        Some((one.size.points_bytes + one.size.series_bytes) as f64 / one.points as f64)
    }),
    ("  of it points", 2, true, |one| Some(one.size.points_bytes as f64 / one.points as f64)),
    ("  of it series and their index", 2, true, |one| Some(one.size.series_bytes as f64 / one.points as f64)),
    ("peak RSS, MiB", 0, true, |one| Some(one.peak_rss_bytes? as f64 / f64::from(1 << 20))),
    ("points/s", 0, true, |one| Some(one.points as f64 / one.elapsed.as_secs_f64())),
    ("ack p50, ms", 1, true, |one| Some(one.acknowledged.latency_ms(0.5))),
    ("ack p99, ms", 1, true, |one| Some(one.acknowledged.latency_ms(0.99))),
    ("answered with \"come back later\"", 0, false, |one| Some(one.acknowledged.overloaded_count as f64)),
    ("sent, then SIGKILL at the last ack", 0, false, |one| Some(one.points_before_kill as f64)),
    ("acknowledged points lost by that", 0, false, |one| Some(one.points_lost as f64)),
];

impl Report {
    fn body_bytes(&self) -> u64 {
        let sent = self.outcomes.first().map(|one| &one.acknowledged);
        sent.map_or(0, |sent| sent.size_bytes / sent.latencies.len().max(1) as u64)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let points = self.outcomes.first().map_or(0, |one| one.points);
        writeln!(f, "peers: {}, {points} points, one product after the other", self.kinds.name())?;
        writeln!(f, "  {cores} cores shared with the clients, request bodies of {} bytes", self.body_bytes())?;
        write!(f, "{:40}", "")?;
        for outcome in &self.outcomes {
            let name = format!("{} {}", outcome.product.name(), outcome.product.version());
            write!(f, "{name:>26}")?;
        }
        writeln!(f)?;
        for (name, decimals, proportional, figure) in FIGURES {
            write!(f, "  {name:38}")?;
            let own = self.outcomes.first().and_then(figure);
            for (column, outcome) in self.outcomes.iter().enumerate() {
                let value = figure(outcome);
                let text = value.map_or_else(|| "not known".to_owned(), |value| format!("{value:.decimals$}"));
                let ratio = value.zip(own).filter(|_| proportional && column > 0).map(|(value, own)| value / own);
                let ratio = ratio.map_or_else(String::new, |ratio| format!(" ({ratio:.2} x)"));
                write!(f, "{:>26}", text + &ratio)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
