//! Jobs that ran while serving needed its GPUs, and what moving them would have freed.

use chrono_tz::Tz;
use serde::Serialize;

use super::{OffPeakPlan, TrainingWindow};
use crate::window::{HOUR_US, local_hour_of_week};

/// A quarter of an hour: every time zone is a multiple of it from UTC.
const SLICE_US: i64 = HOUR_US / 4;

/// A job that ran.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainingJob {
    /// Its name.
    pub name: String,
    /// Start, UTC microseconds.
    pub start_us: i64,
    /// End, excluded.
    pub end_us: i64,
    /// GPUs it held.
    pub gpus: f64,
    /// Mean power of all of them, watts.
    pub power_watts: Option<f64>,
}

/// A job of which a part ran at peak.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PeakJob {
    /// The job.
    pub job: TrainingJob,
    /// GPU-hours at peak: what moving it would have freed.
    pub peak_gpu_hours: f64,
    /// Share of its GPU-hours at peak.
    pub peak_share: f64,
    /// Peak hour of the week in which it held most, 0 = Monday 00:00 local, and the GPUs free for serving without it; none where
    /// demand is not known.
    pub tightest: Option<(usize, f64)>,
    /// The best window that is long and wide enough; none where none is, or where it has to be split.
    pub window: Option<TrainingWindow>,
    /// Money saved by the energy at the window's price; none without power or prices.
    pub saving: Option<f64>,
    /// Grams of CO2 equivalent avoided.
    pub carbon_g: Option<f64>,
}

/// The jobs of `jobs` that ran at peak by `plan`, most peak GPU-hours first.
pub fn peak_jobs(plan: &OffPeakPlan, jobs: &[TrainingJob]) -> Vec<PeakJob> {
    let mut found: Vec<PeakJob> = jobs.iter().filter_map(|job| examine(plan, job)).collect();
    found.sort_by(|a, b| b.peak_gpu_hours.total_cmp(&a.peak_gpu_hours).then_with(|| a.job.name.cmp(&b.job.name)));
    found
}

fn examine(plan: &OffPeakPlan, job: &TrainingJob) -> Option<PeakJob> {
    let hours = hours_by_hour_of_week(job, plan.zone);
    let all: f64 = hours.iter().sum();
    let is_peak = |hour: &usize| !plan.hours[*hour].is_off_peak && hours[*hour] > 0.0;
    let peak: f64 = (0..hours.len()).filter(is_peak).map(|hour| hours[hour]).sum();
    if peak <= 0.0 {
        return None;
    }
    let tightest = (0..hours.len()).filter(is_peak).filter_map(|hour| Some((hour, plan.hours[hour].free_gpus?)));
    let window = plan.windows.iter().copied().find(|window| {
        let wide = window.free_gpus.is_none_or(|free| free >= job.gpus);
        wide && window.hour_count as f64 >= all
    });
    let kilowatts = job.power_watts.map(|watts| watts / 1_000.0);
    // What it cost at the hours it ran, less the same energy at the window's mean; unknown if one hour is.
    let difference = |of: fn(&super::HourCapacity) -> Option<f64>, in_window: Option<f64>| {
        let ran = (0..hours.len())
            .filter(|hour| hours[*hour] > 0.0)
            .map(|hour| of(&plan.hours[hour]).map(|price| price * hours[hour]))
            .sum::<Option<f64>>()?;
        Some((ran - in_window? * all) * kilowatts?)
    };
    Some(PeakJob {
        job: job.clone(),
        peak_gpu_hours: peak * job.gpus,
        peak_share: peak / all,
        tightest: tightest.min_by(|a, b| a.1.total_cmp(&b.1)),
        window,
        saving: difference(|hour| hour.price_per_kwh, window.and_then(|window| window.price_per_kwh)),
        carbon_g: difference(|hour| hour.carbon_g_per_kwh, window.and_then(|window| window.carbon_g_per_kwh)),
    })
}

/// Hours that it ran in each hour of the week.
fn hours_by_hour_of_week(job: &TrainingJob, zone: Tz) -> Vec<f64> {
    let mut hours = vec![0.0; crate::demand::HOUR_OF_WEEK_COUNT];
    let mut from_us = job.start_us;
    while from_us < job.end_us {
        let to_us = ((from_us.div_euclid(SLICE_US) + 1) * SLICE_US).min(job.end_us);
        if let Some(hour) = local_hour_of_week(from_us, zone) {
            hours[hour] += (to_us - from_us) as f64 / HOUR_US as f64;
        }
        from_us = to_us;
    }
    hours
}
