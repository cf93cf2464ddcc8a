//! The week as text: free GPUs by hour, windows with their lines for a cron, and jobs that ran at peak.

use std::fmt::Write as _;

use super::{OffPeakFleet, OffPeakReport, PeakJob, TrainingWindow, WindowSource};
use crate::{
    format::{percent, shorten, text_table},
    window::time_text,
};

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
/// Windows that are listed; all are in the JSON.
const SHOWN_MAX: usize = 10;

/// `Mon 09:00` of an hour of the week.
pub(super) fn hour_text(hour: usize) -> String {
    format!("{} {:02}:00", DAYS[hour / 24 % 7], hour % 24)
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "unknown".into(), |value| format!("{value:.digits$}"))
}

impl OffPeakReport {
    /// The report as plain text.
    pub fn to_text(&self) -> String {
        let window = self.request.window;
        let mut text = format!(
            "When training may run, from {} to {}, hours of {}\n",
            time_text(window.start_us),
            time_text(window.end_us),
            self.request.zone.name()
        );
        if self.fleets.is_empty() {
            text += "\nNo GPU reported in this window. The rule of thumb without telemetry: outside 9:00–18:00.\n";
        }
        if let Some(line) = crate::demand::holidays_text(&self.request.holidays) {
            let _infallible = writeln!(text, "{line}");
        }
        let currency = self.request.prices.as_ref().map_or("", |prices| prices.currency.as_str());
        for fleet in &self.fleets {
            self.fleet_text(&mut text, fleet, currency);
        }
        text
    }

    fn fleet_text(&self, text: &mut String, fleet: &OffPeakFleet, currency: &str) {
        let mark = if fleet.simulated { "SIMULATED: " } else { "" };
        let _infallible = write!(
            text,
            "\n{mark}{} GPUs, {} of their time measured. ",
            fleet.gpu_count,
            percent(Some(fleet.coverage))
        );
        *text += match fleet.plan.source {
            WindowSource::Measured => {
                "Free: GPUs less 10 % headroom less the 95th percentile of the demand of what cannot be moved.\n\n"
            }
            WindowSource::RuleOfThumb => {
                "Too little was measured for free GPUs (90 % of the time and 167 hours of the week are needed): the rule of \
                 thumb holds, outside 9:00–18:00.\n\n"
            }
        };
        if fleet.plan.source == WindowSource::Measured {
            let rows: Vec<Vec<String>> = (0..24)
                .map(|hour| {
                    let cell = |day: usize| {
                        let of = fleet.plan.hours[day * 24 + hour];
                        format!("{}{}", number(of.free_gpus, 1), if of.is_off_peak { "" } else { " *" })
                    };
                    [format!("{hour:02}:00")].into_iter().chain((0..7).map(cell)).collect()
                })
                .collect();
            *text += &text_table(&["free", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"], 1, &rows);
            let needed = self.request.rules.gpus_needed;
            let _infallible = writeln!(text, "* peak: fewer than the {needed} GPUs that a job needs are free");
        }
        if fleet.plan.windows.is_empty() {
            *text += "\nNo hours in a row leave enough GPUs for a job.\n";
        } else {
            let rows: Vec<Vec<String>> =
                fleet.plan.windows.iter().take(SHOWN_MAX).map(|window| window_cells(window, currency)).collect();
            *text += "\nWindows, best first\n";
            *text += &text_table(&["from", "hours", "free GPUs", "price/kWh", "g CO2e/kWh"], 1, &rows);
            *text += "\nCrontab (put your command at the end), or `schedule` and `timeZone` of a CronJob\n";
            for line in &fleet.cron {
                let command = format!("YOUR-TRAINING-COMMAND   # {} hours", line.hour_count);
                *text += &line.crontab(&command);
            }
        }
        jobs_text(text, fleet, currency);
    }
}

fn window_cells(window: &TrainingWindow, currency: &str) -> Vec<String> {
    let price = window.price_per_kwh.map(|price| format!("{price:.4} {currency}"));
    vec![
        hour_text(window.from_hour),
        window.hour_count.to_string(),
        number(window.free_gpus, 1),
        price.unwrap_or_else(|| "unknown".into()),
        number(window.carbon_g_per_kwh, 0),
    ]
}

fn jobs_text(text: &mut String, fleet: &OffPeakFleet, currency: &str) {
    if fleet.job_count == 0 {
        *text += "\nNo job named itself on the telemetry of a GPU (k8s.job.name, hpc_job or slurm.job.id).\n";
        return;
    }
    let _infallible = writeln!(text, "\n{} of {} jobs ran at peak", fleet.jobs.len(), fleet.job_count);
    if fleet.jobs.is_empty() {
        return;
    }
    let cells = |found: &PeakJob| {
        let tightest = found.tightest.map(|(hour, free)| format!("{} ({free:.1} free)", hour_text(hour)));
        let window = found.window.map(|window| hour_text(window.from_hour));
        let saving = found.saving.map(|saving| format!("{saving:.2} {currency}"));
        vec![
            shorten(&found.job.name, 30),
            format!("{:.1}", found.job.gpus),
            format!("{:.1}", found.peak_gpu_hours),
            percent(Some(found.peak_share)),
            tightest.unwrap_or_else(|| "unknown".into()),
            window.unwrap_or_else(|| "none is long enough".into()),
            saving.unwrap_or_else(|| "unknown".into()),
        ]
    };
    let rows: Vec<Vec<String>> = fleet.jobs.iter().take(SHOWN_MAX).map(cells).collect();
    *text +=
        &text_table(&["job", "GPUs", "GPU-h at peak", "of it", "tightest hour", "move to", "energy saved"], 1, &rows);
}

impl WindowSource {
    /// `measured` or `rule-of-thumb`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::RuleOfThumb => "rule-of-thumb",
        }
    }
}
