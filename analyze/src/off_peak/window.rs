//! Runs of hours that training may use, in order of merit, and their lines for a cron.

use std::cmp::Ordering;

use chrono_tz::Tz;
use serde::Serialize;

use super::{HourCapacity, OffPeakRules};
use crate::demand::HOUR_OF_WEEK_COUNT;

/// Grams of a tonne.
const TONNE_G: f64 = 1e6;
/// Price and carbon apart by less than this are the same.
const SAME: f64 = 1e-9;

/// What a window rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WindowSource {
    /// Measured demand.
    Measured,
    /// Hours outside the usual working day: nothing was measured.
    RuleOfThumb,
}

/// Hours in a row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TrainingWindow {
    /// First hour of the week, 0 = Monday 00:00 local.
    pub from_hour: usize,
    /// Hours; a window may run over the end of the week. 168 is always.
    pub hour_count: usize,
    /// Fewest GPUs free in it; none without demand.
    pub free_gpus: Option<f64>,
    /// Mean money per kWh; none where an hour's is unknown.
    pub price_per_kwh: Option<f64>,
    /// Mean grams of CO2 equivalent per kWh; none where an hour's is unknown.
    pub carbon_g_per_kwh: Option<f64>,
}

/// A line of a crontab, or `schedule` and `timeZone` of a `CronJob`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CronLine {
    /// Minute, hour, day of month, month, day of week (0 = Sunday).
    pub schedule: String,
    /// IANA name.
    pub time_zone: String,
    /// Hours that the window is open.
    pub hour_count: usize,
}

/// Windows of `hours`: cheapest first (price plus carbon at its price; unknown last), then cleanest, widest, longest, earliest.
pub(super) fn ranked(hours: &[HourCapacity], rules: &OffPeakRules) -> Vec<TrainingWindow> {
    let mut found = runs(hours, rules.hours_min as usize);
    let cost = |window: &TrainingWindow| {
        let carbon = window.carbon_g_per_kwh.map(|grams| grams / TONNE_G * rules.carbon_price_per_tonne);
        // Carbon that costs nothing need not be known.
        let carbon = if rules.carbon_price_per_tonne > 0.0 { carbon } else { Some(0.0) };
        Some(window.price_per_kwh? + carbon?)
    };
    found.sort_by(|a, b| {
        least_first(cost(a), cost(b))
            .then_with(|| least_first(a.carbon_g_per_kwh, b.carbon_g_per_kwh))
            .then_with(|| least_first(a.free_gpus.map(|gpus| -gpus), b.free_gpus.map(|gpus| -gpus)))
            .then(b.hour_count.cmp(&a.hour_count))
            .then(a.from_hour.cmp(&b.from_hour))
    });
    found
}

fn runs(hours: &[HourCapacity], hours_min: usize) -> Vec<TrainingWindow> {
    let is_open = |hour: usize| hours[hour % hours.len()].is_off_peak;
    let Some(first_peak) = (0..hours.len()).find(|hour| !is_open(*hour)) else {
        return if hours.is_empty() { Vec::new() } else { vec![TrainingWindow::new(hours, 0, hours.len())] };
    };
    // From one peak hour around the week to the next, so that Sunday night and Monday morning are one window.
    let mut found = Vec::new();
    let mut open_since = None;
    for hour in first_peak..=first_peak + hours.len() {
        match (is_open(hour), open_since) {
            (true, None) => open_since = Some(hour),
            (false, Some(since)) => {
                if hour - since >= hours_min {
                    found.push(TrainingWindow::new(hours, since % hours.len(), hour - since));
                }
                open_since = None;
            }
            _ => {}
        }
    }
    found
}

/// Unknown values last; what differs by rounding alone is equal.
fn least_first(a: Option<f64>, b: Option<f64>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => (a / SAME).round().total_cmp(&(b / SAME).round()),
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

impl TrainingWindow {
    fn new(hours: &[HourCapacity], from_hour: usize, hour_count: usize) -> Self {
        let of = |value: fn(&HourCapacity) -> Option<f64>| -> Option<Vec<f64>> {
            (from_hour..from_hour + hour_count).map(|hour| value(&hours[hour % hours.len()])).collect()
        };
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        Self {
            from_hour,
            hour_count,
            free_gpus: of(|hour| hour.free_gpus).and_then(|gpus| gpus.into_iter().reduce(f64::min)),
            price_per_kwh: of(|hour| hour.price_per_kwh).map(mean),
            carbon_g_per_kwh: of(|hour| hour.carbon_g_per_kwh).map(mean),
        }
    }

    /// Whether the hour of the week is in it.
    pub fn contains(&self, hour: usize) -> bool {
        (hour + HOUR_OF_WEEK_COUNT - self.from_hour) % HOUR_OF_WEEK_COUNT < self.hour_count
    }
}

/// One line for the windows that begin at the same hour of a day and are equally long.
pub fn cron_lines(windows: &[TrainingWindow], zone: Tz) -> Vec<CronLine> {
    let mut groups: Vec<(usize, usize, Vec<usize>)> = Vec::new();
    for window in windows {
        let (day, hour) = (window.from_hour / 24, window.from_hour % 24);
        match groups.iter_mut().find(|(at, count, _)| (*at, *count) == (hour, window.hour_count)) {
            Some((_, _, days)) => days.push(day),
            None => groups.push((hour, window.hour_count, vec![day])),
        }
    }
    let line = |(hour, hour_count, days): (usize, usize, Vec<usize>)| CronLine {
        schedule: format!("0 {hour} * * {}", weekdays(&days)),
        time_zone: zone.name().to_owned(),
        hour_count,
    };
    groups.into_iter().map(line).collect()
}

/// Days from 0 = Monday as cron writes them, 0 = Sunday.
fn weekdays(days: &[usize]) -> String {
    if days.len() == 7 {
        return "*".into();
    }
    let mut days: Vec<usize> = days.iter().map(|day| (day + 1) % 7).collect();
    days.sort_unstable();
    days.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

impl CronLine {
    /// The lines of a crontab for `command`: the zone, then the time. cronie and Debian's cron read `CRON_TZ`.
    pub fn crontab(&self, command: &str) -> String {
        // A crontab ends the command at a bare %.
        format!("CRON_TZ={}\n{} {}\n", self.time_zone, self.schedule, command.replace('%', "\\%"))
    }
}
