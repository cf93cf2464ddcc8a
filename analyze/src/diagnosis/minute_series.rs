//! One number a minute, NaN where too few requests say anything.

use crate::demand::HOUR_OF_WEEK_COUNT;

use super::{
    cost_model::CostModel,
    robust,
    service_window::{Dimension, HourOfWeek, ServiceWindow},
};

/// Fewest requests of a minute whose median is taken.
const REQUESTS_MIN: u64 = 5;

/// How a service behaved, minute by minute.
#[derive(Debug, Clone, PartialEq)]
pub struct MinuteSeries {
    /// Median of ln latency (ms), hour of the week removed.
    pub log_p50: Vec<f64>,
    /// 95th percentile of ln latency, hour of the week removed.
    pub log_p95: Vec<f64>,
    /// Mean log predicted cost: what was asked. Empty without inputs.
    pub log_cost: Vec<f64>,
    /// Mean of log latency less log predicted cost: how fast it was answered. Empty without inputs.
    pub residual: Vec<f64>,
}

impl MinuteSeries {
    /// Series of all minutes; `model` predicts the cost.
    pub fn new(window: &ServiceWindow, model: Option<&CostModel>) -> Self {
        let mut series = Self { log_p50: Vec::new(), log_p95: Vec::new(), log_cost: Vec::new(), residual: Vec::new() };
        let mut columns = Vec::new();
        for minute in 0..window.minute_count {
            let season = window.hour_of_week.as_ref().map_or(0.0, |hours| seasonal(hours, minute));
            let [p50, p95] = log_quantiles(window, minute, [0.5, 0.95]);
            series.log_p50.push(p50 - season);
            series.log_p95.push(p95 - season);
            let Some(model) = model else { continue };
            let (mut cost, mut residual, mut count) = (0.0, 0.0, 0);
            for row in window.rows(minute, minute + 1) {
                if model.columns(window, row, &mut columns) {
                    let (predicted, requests) = (model.predicted_ms(&columns).ln(), window.weight(row));
                    cost += predicted * requests as f64;
                    residual += (f64::from(window.latency_ms[row]).ln() - predicted) * requests as f64;
                    count += requests;
                }
            }
            let mean = |sum: f64| if count >= REQUESTS_MIN { sum / count as f64 } else { f64::NAN };
            series.log_cost.push(mean(cost));
            series.residual.push(mean(residual));
        }
        series
    }
}

/// Quantiles of the log latency (ms) of a minute; NaN where too few requests say anything.
fn log_quantiles(window: &ServiceWindow, minute: usize, levels: [f64; 2]) -> [f64; 2] {
    if let Some(buckets) = &window.buckets {
        let enough = buckets.count(minute..minute + 1) >= REQUESTS_MIN as f64;
        let of = |level| buckets.quantile_ms(minute..minute + 1, level).filter(|_| enough);
        return levels.map(|level| of(level).map_or(f64::NAN, f64::ln));
    }
    let rows = window.rows(minute, minute + 1);
    if window.is_aggregated() {
        // Means of several requests have a mean, and no quantile.
        let sum: f64 = rows.clone().map(|row| f64::from(window.latency_ms[row]) * window.weight(row) as f64).sum();
        let count = window.request_count(&rows);
        return [if count >= REQUESTS_MIN { (sum / count as f64).ln() } else { f64::NAN }, f64::NAN];
    }
    let enough = window.request_count(&rows) >= REQUESTS_MIN;
    let mut logs: Vec<f64> = rows.map(|row| f64::from(window.latency_ms[row]).ln()).collect();
    logs.sort_unstable_by(f64::total_cmp);
    levels.map(|level| robust::quantile_of_sorted(&logs, level).filter(|_| enough).unwrap_or(f64::NAN))
}

/// Log latency less log predicted cost of each row; NaN where an input is unknown.
pub fn row_residuals(window: &ServiceWindow, model: &CostModel) -> Vec<f64> {
    let mut columns = Vec::new();
    let residual = |row: usize| match model.columns(window, row, &mut columns) {
        true => f64::from(window.latency_ms[row]).ln() - model.predicted_ms(&columns).ln(),
        false => f64::NAN,
    };
    (0..window.latency_ms.len()).map(residual).collect()
}

/// Mean of `residuals` (one a row) by minute over the requests that one container served; all requests for none. NaN in minutes
/// without.
pub fn container_residual(
    window: &ServiceWindow,
    residuals: &[f64],
    container: Option<&(Dimension, String)>,
) -> Option<Vec<f64>> {
    let picked = match container {
        None => None,
        Some((dimension, value)) => {
            let labels = window.labels_of(*dimension)?;
            let code = labels.values.iter().position(|other| other == value)?;
            Some((labels, code))
        }
    };
    let mut sums = vec![(0.0, 0u64); window.minute_count];
    for (row, (&minute, residual)) in window.minutes.iter().zip(residuals).enumerate() {
        let ours = picked.is_none_or(|(labels, code)| usize::from(labels.codes[row]) == code);
        if ours && residual.is_finite() {
            let (sum, count) = &mut sums[minute as usize];
            *sum += residual * window.weight(row) as f64;
            *count += window.weight(row);
        }
    }
    Some(sums.into_iter().map(|(sum, count)| if count > 0 { sum / count as f64 } else { f64::NAN }).collect())
}

/// Usual level of a minute; NaN, so that the minute is unknown, where its hour is.
fn seasonal(hours: &HourOfWeek, minute: usize) -> f64 {
    hours.log_latency_medians[(hours.start_minute_of_week + minute) / 60 % HOUR_OF_WEEK_COUNT]
}
