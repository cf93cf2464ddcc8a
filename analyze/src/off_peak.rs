//! When training may run: hours of the week that serving leaves GPUs free, what each costs in money and carbon, and the jobs that
//! ran at other times.
//!
//! Where demand is not known the windows are a rule of thumb and say so; free GPUs, prices and carbon stay unknown, never 0.

mod energy;
mod files;
mod jobs;
mod page;
mod report;
#[cfg(test)]
mod tests;
mod text;
mod window;

use chrono_tz::Tz;
use serde::Serialize;

use crate::demand::{Envelope, HOUR_OF_WEEK_COUNT};
pub use energy::HourlyEnergy;
pub use files::OffPeakFiles;
pub use jobs::{PeakJob, TrainingJob, peak_jobs};
pub use report::{OffPeakFleet, OffPeakReport, OffPeakRequest, TABLE, examine};
pub use window::{CronLine, TrainingWindow, WindowSource, cron_lines};

/// Limits of a window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OffPeakRules {
    /// GPUs that a job needs. Default 1.
    pub gpus_needed: f64,
    /// Share of the GPUs kept free beside the demand. Default 0.10.
    pub headroom_share: f64,
    /// Shortest window, hours. Default 2.
    pub hours_min: u32,
    /// Known hours of the week from which demand decides instead of the clock. Default 167.
    pub known_hours_min: usize,
    /// First local hour of the rule of thumb's peak. Default 9.
    pub peak_from_hour: u32,
    /// First local hour after it. Default 18.
    pub peak_to_hour: u32,
    /// Money per tonne of CO2 equivalent that a ranking counts beside the price. Default 0: carbon then only breaks ties.
    pub carbon_price_per_tonne: f64,
}

/// One hour of the week.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct HourCapacity {
    /// GPUs held less the 95th percentile of the demand and the headroom; none without demand.
    pub free_gpus: Option<f64>,
    /// Whether training may run.
    pub is_off_peak: bool,
    /// Money per kWh at the meter of the building.
    pub price_per_kwh: Option<f64>,
    /// Grams of CO2 equivalent per kWh at the meter of the building.
    pub carbon_g_per_kwh: Option<f64>,
}

/// The week, and where training fits.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OffPeakPlan {
    /// Time zone of the hours.
    #[serde(serialize_with = "crate::window::serialize_zone")]
    pub zone: Tz,
    /// 168 hours from Monday 00:00 local time.
    pub hours: Vec<HourCapacity>,
    /// What the windows rest on.
    pub source: WindowSource,
    /// Windows, best first.
    pub windows: Vec<TrainingWindow>,
}

impl Default for OffPeakRules {
    fn default() -> Self {
        Self {
            gpus_needed: 1.0,
            headroom_share: 0.10,
            hours_min: 2,
            // A week in which the clock is put forward lacks one.
            known_hours_min: HOUR_OF_WEEK_COUNT - 1,
            peak_from_hour: 9,
            peak_to_hour: 18,
            carbon_price_per_tonne: 0.0,
        }
    }
}

/// The plan for GPUs that serve the demand of `envelope`, of which `gpu_count` are held.
///
/// `envelope` is that of the work which cannot be moved, in local time of `zone`; without it, or with too few known hours, the rule
/// of thumb holds. `energy` prices the hours.
pub fn plan(
    envelope: Option<&Envelope>,
    gpu_count: f64,
    zone: Tz,
    energy: &HourlyEnergy,
    rules: &OffPeakRules,
) -> OffPeakPlan {
    let known = |envelope: &&Envelope| {
        HOUR_OF_WEEK_COUNT.saturating_sub(envelope.unknown_hour_count()) >= rules.known_hours_min
    };
    let envelope = envelope.filter(known);
    let source = if envelope.is_some() { WindowSource::Measured } else { WindowSource::RuleOfThumb };
    let hours: Vec<HourCapacity> = (0..HOUR_OF_WEEK_COUNT)
        .map(|hour| {
            let demand = envelope.and_then(|envelope| envelope.buckets.get(hour)).and_then(|bucket| bucket.p95);
            let free_gpus = demand.map(|demand| (gpu_count * (1.0 - rules.headroom_share) - demand).max(0.0));
            let hour_of_day = (hour % 24) as u32;
            let is_off_peak = match (source, free_gpus) {
                (WindowSource::Measured, free_gpus) => free_gpus.is_some_and(|free| free >= rules.gpus_needed),
                (WindowSource::RuleOfThumb, _) => !(rules.peak_from_hour..rules.peak_to_hour).contains(&hour_of_day),
            };
            HourCapacity {
                free_gpus,
                is_off_peak,
                price_per_kwh: energy.price_per_kwh(hour),
                carbon_g_per_kwh: energy.carbon_g_per_kwh(hour),
            }
        })
        .collect();
    let windows = window::ranked(&hours, rules);
    OffPeakPlan { zone, hours, source, windows }
}
