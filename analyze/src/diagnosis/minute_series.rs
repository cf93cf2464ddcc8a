//! One number a minute, NaN where too few requests say anything.

use crate::demand::HOUR_OF_WEEK_COUNT;

use super::{
    cost_model::CostModel,
    robust,
    service_window::{Dimension, HourOfWeek, ServiceWindow},
};

/// Fewest requests of a minute whose median is taken.
const ROWS_MIN: usize = 5;

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
            let rows = window.rows(minute, minute + 1);
            let season = window.hour_of_week.as_ref().map_or(0.0, |hours| seasonal(hours, minute));
            let mut logs: Vec<f64> = rows.clone().map(|row| f64::from(window.latency_ms[row]).ln()).collect();
            logs.sort_unstable_by(f64::total_cmp);
            let enough = logs.len() >= ROWS_MIN;
            let level =
                |level| robust::quantile_of_sorted(&logs, level).filter(|_| enough).map_or(f64::NAN, |x| x - season);
            series.log_p50.push(level(0.5));
            series.log_p95.push(level(0.95));
            let Some(model) = model else { continue };
            let (mut cost, mut residual, mut count) = (0.0, 0.0, 0usize);
            for row in rows {
                if model.columns(window, row, &mut columns) {
                    let predicted = model.predicted_ms(&columns).ln();
                    cost += predicted;
                    residual += f64::from(window.latency_ms[row]).ln() - predicted;
                    count += 1;
                }
            }
            let mean = |sum: f64| if count >= ROWS_MIN { sum / count as f64 } else { f64::NAN };
            series.log_cost.push(mean(cost));
            series.residual.push(mean(residual));
        }
        series
    }
}

/// Residual by minute of the requests that one container served; all requests for none. NaN in minutes without.
pub fn container_residual(
    window: &ServiceWindow,
    model: &CostModel,
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
    let mut sums = vec![(0.0, 0u32); window.minute_count];
    let mut columns = Vec::new();
    for (row, &minute) in window.minutes.iter().enumerate() {
        let ours = picked.is_none_or(|(labels, code)| usize::from(labels.codes[row]) == code);
        if ours && model.columns(window, row, &mut columns) {
            let (sum, count) = &mut sums[minute as usize];
            *sum += f64::from(window.latency_ms[row]).ln() - model.predicted_ms(&columns).ln();
            *count += 1;
        }
    }
    Some(sums.into_iter().map(|(sum, count)| if count > 0 { sum / f64::from(count) } else { f64::NAN }).collect())
}

/// Usual level of a minute; NaN, so that the minute is unknown, where its hour is.
fn seasonal(hours: &HourOfWeek, minute: usize) -> f64 {
    hours.log_latency_medians[(hours.start_minute_of_week + minute) / 60 % HOUR_OF_WEEK_COUNT]
}
