//! What an accepted recommendation came to in the week after.

use super::{Entry, MEASURED_DAYS, Proposal, Recorded};
use crate::{
    error::Result,
    gpu_minutes::GpuMinutes,
    gpu_state::{GpuSample, GpuState, GpuUse, StateRules, Workload, classify},
    recommend::Requested,
    recommendation::LedgerState,
    window::{DAY_US, MINUTE_US, Window},
};

const WEEK_HOURS: f64 = 168.0;
/// Share of the minutes of that week in which the service has to be seen.
const COVERAGE_MIN: f64 = 0.90;

/// What `recorded` came to in the week `window`.
pub(super) fn realised(minutes: &GpuMinutes, recorded: &Recorded, window: Window) -> Result<Entry> {
    let Proposal::Replicas { from, gpus_per_replica, .. } = recorded.proposal else {
        return Ok(recorded.entry.clone());
    };
    let gpu_count = f64::from(from) * f64::from(gpus_per_replica);
    let minute_count = (MEASURED_DAYS * DAY_US / MINUTE_US) as usize;
    let held = held(minutes, recorded, window, minute_count);
    let seen: Vec<f64> = held.into_iter().filter(|count| *count > 0).map(f64::from).collect();
    let coverage = seen.len() as f64 / minute_count as f64;
    // A service that is not seen is not one that holds nothing.
    let held_mean = (coverage >= COVERAGE_MIN).then(|| seen.iter().sum::<f64>() / seen.len() as f64);
    let predicted = recorded.entry.predicted_gpu_hours;
    let realised = held_mean.map(|held| (gpu_count - held) * WEEK_HOURS);
    let share = realised.zip(predicted.filter(|hours| *hours > 0.0)).map(|(came, promised)| came / promised);
    let note = match held_mean {
        Some(held) => format!("{held:.2} GPUs held on average, {gpu_count} before"),
        None => format!("not measured: the service was seen in {:.0} % of the week, 90 % are needed", coverage * 100.0),
    };
    let to = LedgerState::Realised { predicted: predicted.unwrap_or(f64::NAN), realised: realised.unwrap_or(f64::NAN) };
    Ok(Entry {
        state: recorded.entry.state.advanced(to, recorded.expires_us)?,
        realised_gpu_hours: realised,
        realised_saving: recorded.entry.predicted_saving.zip(share).map(|(saving, share)| saving * share),
        note: Some(note),
        ..recorded.entry.clone()
    })
}

/// GPUs that the service of `recorded` held in each of the first `minute_count` minutes of `window`.
fn held(minutes: &GpuMinutes, recorded: &Recorded, window: Window, minute_count: usize) -> Vec<u32> {
    let (service, simulated) = (&recorded.entry.service, recorded.entry.simulated);
    let mut held = vec![0_u32; minute_count];
    for gpu in minutes.gpus.iter().filter(|gpu| gpu.simulated == simulated) {
        let is_its = |minute: usize| {
            let holder = gpu.holder.get(minute).and_then(|holder| minutes.holders.get(usize::from(*holder)));
            holder.is_some_and(|holder| holder.service.as_ref() == Some(service))
        };
        let of = GpuUse { service: Some(service.clone()), workload: Workload::Serving, shared: gpu.shared_by > 1 };
        let samples: Vec<GpuSample> = gpu.samples(minutes.window, is_its).collect();
        // Intervals, since a source may send less often than every minute.
        for interval in classify(&samples, &of, window.start_us, window.end_us, &StateRules::default()) {
            let at = |time_us: i64| ((time_us - window.start_us) / MINUTE_US) as usize;
            if interval.state != GpuState::NoTelemetry {
                held.iter_mut().take(at(interval.end_us)).skip(at(interval.start_us)).for_each(|count| *count += 1);
            }
        }
    }
    held
}

/// What `recorded` came to, by what its pods requested in the week after: the requests of before, for as many pod-hours, less those.
pub(super) fn realised_requests(recorded: &Recorded, requested: &Requested) -> Result<Entry> {
    let Proposal::Requests { from, .. } = &recorded.proposal else { return Ok(recorded.entry.clone()) };
    let is_measured = requested.coverage >= COVERAGE_MIN;
    // Hours that were not seen are taken to be like those that were.
    let week = if is_measured { 1.0 / requested.coverage } else { f64::NAN };
    let fell = |before: Option<f64>, unit: f64, hours: f64| {
        before.filter(|_| is_measured).map(|before| (before / unit * requested.pod_hours - hours) * week)
    };
    let cpu = fell(from.cpu_request, 1.0, requested.cpu_hours);
    let gb = fell(from.memory_request, 1e9, requested.gb_hours);
    let entry = &recorded.entry;
    let part = |came: Option<f64>, promised: Option<f64>| {
        came.zip(promised.filter(|hours| *hours > 0.0)).map(|(came, promised)| came / promised)
    };
    // Money was promised for both together: the part of it that came is that of the resource that fell short more.
    let shares = [part(cpu, entry.predicted_cpu_hours), part(gb, entry.predicted_gb_hours)];
    let share = shares.into_iter().flatten().reduce(f64::min);
    let mean = |hours: f64| hours / requested.pod_hours;
    let note = if is_measured {
        format!(
            "a pod requested {:.3} CPUs and {:.3} GB on average",
            mean(requested.cpu_hours),
            mean(requested.gb_hours)
        )
    } else {
        format!("not measured: requests were told in {:.0} % of the week, 90 % are needed", requested.coverage * 100.0)
    };
    let to = LedgerState::Realised { predicted: f64::NAN, realised: f64::NAN };
    Ok(Entry {
        state: entry.state.advanced(to, recorded.expires_us)?,
        realised_cpu_hours: cpu,
        realised_gb_hours: gb,
        realised_saving: entry.predicted_saving.zip(share).map(|(saving, share)| saving * share),
        note: Some(note),
        ..entry.clone()
    })
}
