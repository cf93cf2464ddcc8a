//! Files for off-peak windows: lines of a crontab, and other schedules for the `CronJob`s that ran at peak.

use std::collections::HashMap;

use datafusion::prelude::SessionContext;
use serde::Serialize;

use super::{CronLine, OffPeakPlan, PeakJob, TrainingWindow, cron_lines};
use crate::{
    error::Result,
    manifest::{self, Folder},
    rows::{Rows, SIMULATED},
    window::{HOUR_US, Window, time_literal},
};

/// What stands for the command, which no telemetry tells.
const COMMAND: &str = "YOUR-TRAINING-COMMAND";

/// Files of one kind of data, and what keeps others from being written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OffPeakFiles {
    /// Changes.
    pub folders: Vec<Folder>,
    /// What the telemetry does not tell.
    pub notes: Vec<String>,
}

/// A `CronJob` with its schedule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct CronJob {
    namespace: String,
    name: String,
}

/// `CronJob`s by the jobs that they started, and their schedules.
#[derive(Debug, Default)]
pub(super) struct CronJobs {
    of_job: HashMap<(bool, String), CronJob>,
    /// Schedule and time zone.
    schedules: HashMap<(bool, CronJob), (String, Option<String>)>,
    pub(super) queries: Vec<String>,
}

impl CronJobs {
    pub(super) async fn read(ctx: &SessionContext, window: Window) -> Result<Self> {
        let alive =
            format!("last_time >= {} AND first_time < {}", time_literal(window.start_us), time_literal(window.end_us));
        let mut found = Self::default();
        let query = format!(
            "SELECT DISTINCT {SIMULATED} AS simulated, attributes['k8s.job.name'] AS job, k8s_namespace AS namespace, \
             attributes['k8s.cronjob.name'] AS cron_job FROM raw.series WHERE attributes['k8s.job.name'] IS NOT NULL \
             AND attributes['k8s.cronjob.name'] IS NOT NULL AND k8s_namespace IS NOT NULL AND {alive}"
        );
        let rows = Rows::query(ctx, &query).await?;
        found.queries.push(query);
        let (simulated, jobs) = (rows.flags("simulated")?, rows.texts("job")?);
        let (namespaces, names) = (rows.texts("namespace")?, rows.texts("cron_job")?);
        for row in 0..rows.len() {
            let (Some(job), Some(namespace), Some(name)) =
                (jobs[row].clone(), namespaces[row].clone(), names[row].clone())
            else {
                continue;
            };
            found.of_job.insert((simulated[row], job), CronJob { namespace, name });
        }
        // Of a schedule that changed the last is what is there.
        let query = format!(
            "SELECT {SIMULATED} AS simulated, k8s_namespace AS namespace, attributes['cronjob'] AS cron_job, \
             attributes['schedule'] AS schedule, attributes['timezone'] AS zone FROM raw.series \
             WHERE metric = 'kube_cronjob_info' AND {alive} ORDER BY last_time"
        );
        let rows = Rows::query(ctx, &query).await?;
        found.queries.push(query);
        let (simulated, namespaces, names) =
            (rows.flags("simulated")?, rows.texts("namespace")?, rows.texts("cron_job")?);
        let (schedules, zones) = (rows.texts("schedule")?, rows.texts("zone")?);
        for row in 0..rows.len() {
            let (Some(namespace), Some(name), Some(schedule)) =
                (namespaces[row].clone(), names[row].clone(), schedules[row].clone())
            else {
                continue;
            };
            let zone = zones[row].clone().filter(|zone| !zone.is_empty());
            found.schedules.insert((simulated[row], CronJob { namespace, name }), (schedule, zone));
        }
        Ok(found)
    }

    /// The files for `plan` and the jobs that ran at peak, of simulated data or not.
    pub(super) fn files(&self, simulated: bool, plan: &OffPeakPlan, jobs: &[PeakJob]) -> OffPeakFiles {
        let mut made = OffPeakFiles { folders: vec![], notes: vec![] };
        let lines = cron_lines(&plan.windows, plan.zone);
        if lines.is_empty() {
            made.notes.push("no crontab: no hours in a row leave enough GPUs for a job".to_owned());
        } else {
            let before = format!("Put your command in the place of {COMMAND} first.\n\n");
            made.folders.push(Folder::new("crontab", &before, manifest::crontab(&lines, COMMAND)));
        }
        // Each run is a job of its own; the schedule is moved once, for the run that was longest.
        let mut longest: Vec<(&CronJob, &PeakJob)> = Vec::new();
        for job in jobs {
            let Some(cron_job) = self.of_job.get(&(simulated, job.job.name.clone())) else {
                made.notes.push(format!(
                    "no schedule for job {}: no series names its CronJob (k8s.cronjob.name, with k8s.namespace.name)",
                    job.job.name
                ));
                continue;
            };
            match longest.iter_mut().find(|(known, _)| *known == cron_job) {
                Some((_, known)) if length_us(known) < length_us(job) => *known = job,
                Some(_) => {}
                None => longest.push((cron_job, job)),
            }
        }
        for (cron_job, job) in longest {
            let number = made.folders.len();
            match self.moved(simulated, plan, cron_job, job) {
                Ok(change) => made.folders.push(Folder::new(&format!("schedule{number}"), "", change)),
                Err(reason) => {
                    made.notes.push(format!("no schedule for {}/{}: {reason}", cron_job.namespace, cron_job.name))
                }
            }
        }
        made
    }

    fn moved(
        &self,
        simulated: bool,
        plan: &OffPeakPlan,
        cron_job: &CronJob,
        job: &PeakJob,
    ) -> std::result::Result<manifest::Change, String> {
        let (former, zone) = self.schedules.get(&(simulated, cron_job.clone())).ok_or_else(|| {
            "its present schedule, which the undo needs, is not told (kube_cronjob_info of kube-state-metrics)"
                .to_owned()
        })?;
        let hours = length_us(job) as f64 / HOUR_US as f64;
        let fits = |window: &&TrainingWindow| {
            window.hour_count as f64 >= hours && window.free_gpus.is_none_or(|free| free >= job.job.gpus)
        };
        let windows: Vec<TrainingWindow> = plan.windows.iter().filter(fits).copied().collect();
        let moved = cron_lines(&windows, plan.zone).into_iter().find_map(|line| {
            let schedule = on_the_same_days(former, &line.schedule)?;
            Some(CronLine { schedule, ..line })
        });
        let moved = moved.ok_or_else(|| {
            format!("no window of {hours:.1} hours opens on all days of {former:?}, or that is not one time of a day")
        })?;
        let comment = format!(
            "{} ran at peak for {:.1} GPU-hours; it takes {hours:.1} hours on {:.1} GPUs\nthe window is open for {} hours",
            job.job.name, job.peak_gpu_hours, job.job.gpus, moved.hour_count
        );
        let (namespace, name) = (&cron_job.namespace, &cron_job.name);
        manifest::cron_job(namespace, name, (former, zone.as_deref()), &moved, &comment)
            .map_err(|error| error.to_string())
    }
}

fn length_us(job: &PeakJob) -> i64 {
    job.job.end_us - job.job.start_us
}

/// `former` at the time of day of `line`, whose days must have all of its days: how often it runs does not change. None where
/// `former` is not one time of a day.
fn on_the_same_days(former: &str, line: &str) -> Option<String> {
    let former: Vec<&str> = former.split_whitespace().collect();
    let line: Vec<&str> = line.split(' ').collect();
    let ([minute, hour, day, month, weekdays], [_, at, _, _, open]) = (former.as_slice(), line.as_slice()) else {
        return None;
    };
    let is_number = |text: &str| text.parse::<u32>().is_ok();
    if !is_number(minute) || !is_number(hour) {
        return None;
    }
    let is_open = match *open {
        "*" => true,
        // By the day of the month it may be any day of the week.
        open if *day == "*" => {
            let open = days(open)?;
            days(weekdays)?.iter().all(|day| open.contains(day))
        }
        _ => false,
    };
    is_open.then(|| format!("0 {at} {day} {month} {weekdays}"))
}

/// Days of a field of days of the week, 0 = Sunday; none where it is written otherwise.
fn days(field: &str) -> Option<Vec<u32>> {
    const NAMES: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
    if field == "*" || field == "?" {
        return Some((0..7).collect());
    }
    let day = |text: &str| {
        let named = NAMES.iter().position(|name| text.eq_ignore_ascii_case(name)).map(|at| at as u32);
        named.or_else(|| text.parse().ok().filter(|day| *day <= 7))
    };
    let mut all = Vec::new();
    for part in field.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (day(from)?, day(to)?);
        all.extend((from <= to).then_some(from..=to)?.map(|day| day % 7));
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_keeps_its_days() {
        let check = |former: &str, line: &str, expected: Option<&str>| {
            assert_eq!(on_the_same_days(former, line).as_deref(), expected, "{former} {line}");
        };
        check("30 9 * * *", "0 18 * * *", Some("0 18 * * *"));
        check("30 9 * * 1-3", "0 18 * * 1,2,3,4", Some("0 18 * * 1-3"));
        check("30 9 * * MON,fri", "0 18 * * 1,5", Some("0 18 * * MON,fri"));
        check("30 9 * * 7", "0 18 * * 0", Some("0 18 * * 7"));
        check("30 9 * * *", "0 18 * * 1,2,3,4", None);
        check("30 9 1 * *", "0 18 * * 5", None);
        check("30 9 1 * *", "0 18 * * *", Some("0 18 1 * *"));
        for former in ["@daily", "*/5 * * * *", "0 9,12 * * *", "0 9 * * 5-1", "0 9 * * x"] {
            check(former, "0 18 * * 1,2", None);
        }
    }
}
