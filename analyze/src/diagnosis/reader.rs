//! Fills a [`ServiceWindow`] from the views `latency`, `inputs`, `gpu`, `system` and `models`, and from marked deployments.
//!
//! Only metrics are stored, so requests come in one of two ways, and the reading says which ([`RowSource`]):
//!
//! 1. *Single requests*: a service that sends a point per request as a gauge. Points of one request have the same time and the same
//!    attributes; the values of different metrics are joined by both.
//! 2. *Means of intervals*: histograms, and sums with counts. Every series and export interval gives a number of requests, their
//!    mean latency and their mean inputs, all exact; latency quantiles come from the buckets, off by at most one bucket. Series of
//!    different metrics are joined by the attributes that both have, over the longest interval of those that are joined.
//!
//! A gauge that is sampled at a fixed interval says nothing of requests and is refused with what to send instead.

mod bucket_counts;
mod events;
mod groups;
mod kept;
mod labels;
pub(super) mod latency_points;
pub(super) mod machine_signals;
mod points;
mod rows;
pub(super) mod series;
mod signal_values;

use datafusion::prelude::SessionContext;
use serde::Serialize;

use super::service_window::{MINUTES_MAX, Role, ServiceWindow};
use crate::{
    drift::{Filter, Side},
    error::{Error, Result},
    rows::literal,
    window::{MINUTE_US, Window},
};
pub(crate) use latency_points::LATENCIES;
use series::Series;

/// The 95th percentile.
const P95: f64 = 0.95;

/// Whose telemetry is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    /// `service.name`.
    pub service: String,
    /// Labels that its requests must have, such as a route or a model.
    pub filters: Vec<Filter>,
}

/// What a row of the window is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum RowSource {
    /// One request.
    SingleRequests {
        /// Requests before sampling.
        requests: u64,
        /// Rows that stand for them.
        rows: usize,
    },
    /// The means of the requests of one series over some minutes.
    IntervalMeans {
        /// Requests.
        requests: u64,
        /// Rows.
        rows: usize,
        /// Minutes of a row.
        interval_minutes: u32,
        /// Whether quantiles of latency are known, from buckets.
        has_buckets: bool,
    },
    /// No request.
    Nothing,
}

impl RowSource {
    /// One sentence on what it is and how sure it can be.
    pub fn text(&self) -> String {
        match self {
            Self::SingleRequests { requests, rows } if *rows as u64 == *requests => {
                format!("{requests} single requests (a point per request)")
            }
            Self::SingleRequests { requests, rows } => {
                format!("{rows} single requests (a point per request), picked by hash from {requests}")
            }
            Self::IntervalMeans { requests, rows, interval_minutes, has_buckets } => {
                let minutes =
                    if *interval_minutes == 1 { "minute".to_owned() } else { format!("{interval_minutes} minutes") };
                let quantiles = match has_buckets {
                    true => "quantiles are from buckets, off by at most one bucket",
                    false => "quantiles are unknown, for no buckets were sent",
                };
                format!(
                    "{requests} requests as {rows} means of one series over a {minutes} (histograms): parts in milliseconds are those \
                     of means, the cost of inputs is taken to be linear, and {quantiles}"
                )
            }
            Self::Nothing => "no request".to_owned(),
        }
    }
}

/// What was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// For the diagnosis.
    pub window: ServiceWindow,
    /// The minutes that were read: `window` widened to whole ones.
    pub span: Window,
    /// What its rows are.
    pub source: RowSource,
    /// Metric of the latency.
    pub latency_metric: Option<String>,
    /// Metric of each input.
    pub input_metrics: Vec<(Role, String)>,
    /// Hosts, nodes and pods that served.
    pub machines: Vec<String>,
    /// What the reader left out or found odd, as sentences.
    pub notes: Vec<String>,
    /// Points read.
    pub point_count: u64,
    /// The SQL that read them.
    pub queries: Vec<String>,
}

impl Reading {
    /// The 95th percentile of latency, milliseconds; none where nothing was read, or only means without buckets.
    pub fn p95_ms(&self) -> Option<f64> {
        let window = &self.window;
        if window.is_aggregated() {
            return window.buckets.as_ref()?.quantile_ms(0..window.minute_count, P95);
        }
        let mut sorted = window.latency_ms.clone();
        sorted.sort_by(f32::total_cmp);
        // The smallest value that at least so many requests do not exceed.
        let rank = (P95 * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.checked_sub(1)?).map(|ms| f64::from(*ms))
    }
}

/// What is known while reading.
struct Desk<'a> {
    ctx: &'a SessionContext,
    span: Window,
    minute_count: usize,
    /// SQL that selects the requests of the subject in a view.
    whose: String,
    notes: Vec<String>,
    queries: Vec<String>,
    point_count: u64,
}

/// Reads the minutes that touch `window`. `now_us` is the present: what ran where is known up to it.
///
/// # Errors
/// [`Error::DiagnosisWindow`] if it is empty or longer than a week, [`Error::UnknownService`] where nothing was ever sent of it in
/// the window, [`Error::MixedService`] where it has simulated and real telemetry; those of queries.
pub async fn read(ctx: &SessionContext, subject: &Subject, window: Window, now_us: i64) -> Result<Reading> {
    let start_us = window.start_us.div_euclid(MINUTE_US) * MINUTE_US;
    let end_us = (window.end_us + MINUTE_US - 1).div_euclid(MINUTE_US) * MINUTE_US;
    let span = Window::new(start_us, end_us)?;
    let minute_count = usize::try_from((end_us - start_us) / MINUTE_US).unwrap_or(usize::MAX);
    if minute_count > MINUTES_MAX {
        return Err(Error::DiagnosisWindow { minutes: minute_count, minutes_max: MINUTES_MAX });
    }
    let side = Side { windows: vec![span], filters: subject.filters.clone() };
    let whose = format!("service_name = {}{}", literal(&subject.service), side.filter_sql());
    let mut desk = Desk { ctx, span, minute_count, whose, notes: Vec::new(), queries: Vec::new(), point_count: 0 };
    let requests = latency_points::series(&mut desk).await?;
    if requests.is_empty() {
        return Err(Error::UnknownService {
            service: subject.service.clone(),
            known: series::services(ctx, span).await?,
        });
    }
    let simulated = simulated(&subject.service, &requests)?;
    let chosen = latency_points::choose(&requests);
    let mut rows = rows::read(&mut desk, &requests, &chosen).await?;
    let (machines, signals) = machine_signals::read(&mut desk, &subject.service, simulated, &requests, &rows).await?;
    let (events, timeline) = events::read(&mut desk, &subject.service, &requests, now_us).await?;
    rows.add_versions(timeline.as_ref(), span);
    let window = ServiceWindow {
        service: subject.service.clone(),
        simulated,
        minute_count,
        minutes: rows.minutes,
        latency_ms: rows.latency_ms,
        weights: rows.weights,
        buckets: rows.buckets,
        features: rows.features,
        labels: rows.labels,
        arrivals: rows.arrivals,
        signals,
        events,
        // Medians of earlier weeks are not read, and whose clock is ahead is not stored.
        hour_of_week: None,
        clock_skew_s: None,
    };
    let input_metrics = chosen.inputs.iter().map(|input| (input.role, input.metric.clone())).collect();
    let latency_metric = chosen.latency.as_ref().map(|latency| latency.metric.clone());
    let Desk { notes, queries, point_count, .. } = desk;
    Ok(Reading {
        window,
        span,
        source: rows.source,
        latency_metric,
        input_metrics,
        machines,
        notes,
        point_count,
        queries,
    })
}

/// Whether the service is simulated.
fn simulated(service: &str, series: &[Series]) -> Result<bool> {
    let simulated = series.iter().filter(|series| series.simulated).count();
    match simulated {
        0 => Ok(false),
        count if count == series.len() => Ok(true),
        _ => Err(Error::MixedService { service: service.to_owned() }),
    }
}
