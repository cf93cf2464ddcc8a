//! `[[schedule]]`: a job, when it runs and who gets what it found, as written and checked.

use std::{path::PathBuf, time::Duration};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds, Year};
use serde::{Deserialize, Serialize};

use super::{Schedule, When};
use crate::{drift::Source, duration_setting::duration};

/// Longest window of a job, in hours: about a quarter.
const HOURS_MAX: u32 = 24 * 92;
/// Most services of one diagnosis job.
const SERVICES_MAX: usize = 100;
/// Longest window of the percentile that a diagnosis job looks at, in hours: what a diagnosis can read.
const DIAGNOSE_HOURS_MAX: u32 = 24 * 7;
/// For how long nothing may be written to an hour until it is looked at.
const QUIET_MIN: Duration = Duration::from_secs(1);
const QUIET_MAX: Duration = Duration::from_secs(86_400);
/// Longest window of recommendations, in days.
const DAYS_MAX: u32 = 365;

/// What can be wrong with a schedule.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// Logs, tables and commands call a schedule by its name.
    #[error("setting schedule.name: {0:?} is no name; write 1 to 64 letters, digits, '-' and '_', such as \"weekly\"")]
    Name(String),
    /// Two schedules of one name could not be told apart.
    #[error("setting schedule.name: {0:?} is used twice; rename one")]
    Twice(String),
    /// The expression is not one of five fields.
    #[error(
        "setting schedule.cron of {name:?}: {cron:?} is no cron expression ({reason}); write minute, hour, day of month, month \
         and day of week, such as \"0 7 * * MON\""
    )]
    Cron {
        /// Of this schedule.
        name: String,
        /// As written.
        cron: String,
        /// What the parser says.
        reason: String,
    },
    /// The zone is not in the IANA database.
    #[error(
        "setting schedule.time_zone of {name:?}: {time_zone:?} is no IANA time zone; write one such as \"Europe/Berlin\" or \"UTC\""
    )]
    TimeZone {
        /// Of this schedule.
        name: String,
        /// As written.
        time_zone: String,
    },
    /// A well-formed expression that no day meets, such as 31 February.
    #[error("setting schedule.cron of {name:?}: {cron:?} never comes true; check day of month against month")]
    Never {
        /// Of this schedule.
        name: String,
        /// As written.
        cron: String,
    },
    /// A setting that the job lacks, has no use for, or that is out of range.
    #[error("setting schedule.{key} of {name:?}: {reason}")]
    Setting {
        /// Of this schedule.
        name: String,
        /// Which.
        key: &'static str,
        /// What is wrong, and what to do.
        reason: String,
    },
}

/// The jobs, by the names that the configuration has for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum JobName {
    WeeklyReport,
    Recommend,
    IdleAlert,
    Drift,
    Check,
    Diagnose,
}

/// What is run, with what it needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "job", rename_all = "kebab-case")]
pub enum Job {
    /// The report of the last complete ISO week.
    WeeklyReport,
    /// Recommendations from the days before.
    Recommend {
        /// How many.
        days: u32,
    },
    /// One mail to each owner of idle GPUs.
    IdleAlert {
        /// Hours before the run that are looked at.
        hours: u32,
        /// Hours until the same GPU is told of again.
        repeat_hours: u32,
    },
    /// A drift score of the hours before; told only when it is no `ok`.
    Drift(DriftJob),
    /// The points of the hours before against a contract; told to the owner only when they may not be used.
    Check(CheckJob),
    /// A diagnosis of each service whose latency is over a limit, or of each.
    Diagnose(DiagnoseJob),
}

/// Whose latency is watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiagnoseJob {
    /// `service.name` of each.
    pub services: Vec<String>,
    /// Milliseconds above which the 95th percentile is diagnosed; none diagnoses always.
    pub p95_ms_max: Option<u32>,
    /// Hours before the run of which that percentile is.
    pub hours: u32,
}

/// What a scheduled drift score compares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DriftJob {
    /// Metric as it was sent.
    pub metric: String,
    /// Labels that both sides must have, `name=value`, separated by commas.
    pub filter: String,
    /// The label by whose values each metric is scored, too.
    pub by: Option<String>,
    /// What it is compared with: `trailing` (the seven days before, the default), `seasonal`, a window, or the name of one.
    pub reference: Option<String>,
    /// Hours before the run that are the current window.
    pub hours: u32,
    /// Where the values come from; of states the window ends with the last full hour before the run.
    pub source: Source,
}

/// What a scheduled check looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckJob {
    /// Metric as it was sent.
    pub metric: String,
    /// Labels that its series must have, `name=value`, separated by commas.
    pub filter: String,
    /// Hours before the run that are checked.
    pub hours: u32,
    /// File of the contract, read at each run.
    pub contract: PathBuf,
    /// The table of the contract, where it has several.
    pub table: Option<String>,
}

/// A form in which a result is attached to its mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attach {
    /// The HTML page.
    Html,
    /// JSON with everything.
    Json,
    /// One row per resource; the weekly report only.
    Csv,
}

/// `[[schedule]]` as written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSchedule {
    name: String,
    job: JobName,
    /// Minute, hour, day of month, month, day of week; or `@daily` and its like.
    cron: Option<String>,
    /// Instead of `cron`: when an hour of the metric is over and nothing was written to it for so long, such as `5m`.
    arrival: Option<String>,
    /// IANA name. Default `UTC`.
    time_zone: Option<String>,
    to: Option<Vec<String>>,
    #[serde(default)]
    webhooks: Vec<String>,
    #[serde(default)]
    attach: Vec<Attach>,
    days: Option<u32>,
    hours: Option<u32>,
    repeat_hours: Option<u32>,
    metric: Option<String>,
    source: Option<String>,
    by: Option<String>,
    reference: Option<String>,
    contract: Option<PathBuf>,
    table: Option<String>,
    #[serde(rename = "where")]
    filter: Option<String>,
    services: Option<Vec<String>>,
    p95_ms_max: Option<u32>,
}

impl RawSchedule {
    /// Checks all of it. `now` only proves that the expression comes true some day.
    ///
    /// # Errors
    /// [`ScheduleError`], which names the setting and what to write.
    pub fn validate(self, now: DateTime<Utc>) -> Result<Schedule, ScheduleError> {
        let job = self.job()?;
        let when = self.when()?;
        let Self { name, time_zone, to, webhooks, attach, .. } = self;
        let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if !(1..=64).contains(&name.len()) || !name.chars().all(is_inner) {
            return Err(ScheduleError::Name(name));
        }
        if !attach.is_empty() && matches!(job, Job::IdleAlert { .. } | Job::Check(_)) {
            let reason = "is no setting of this job, whose mails have the files that they need; remove it".into();
            return Err(ScheduleError::Setting { name, key: "attach", reason });
        }
        if attach.contains(&Attach::Csv) && job != Job::WeeklyReport {
            let reason = "csv is a form of the weekly report only; write html or json".into();
            return Err(ScheduleError::Setting { name, key: "attach", reason });
        }
        let zone_name = time_zone.unwrap_or_else(|| "UTC".into());
        let Ok(zone) = zone_name.parse::<Tz>() else {
            return Err(ScheduleError::TimeZone { name, time_zone: zone_name });
        };
        let schedule = Schedule { name, job, to, webhooks, attach, when, zone };
        match (&schedule.when, schedule.next_after(now)) {
            (When::Cron { text, .. }, None) => {
                Err(ScheduleError::Never { name: schedule.name.clone(), cron: text.clone() })
            }
            _ => Ok(schedule),
        }
    }

    fn when(&self) -> Result<When, ScheduleError> {
        let name = || self.name.clone();
        match (&self.cron, &self.arrival) {
            (Some(text), None) => {
                let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
                let unread = |error: croner::errors::CronError| ScheduleError::Cron {
                    name: name(),
                    cron: text.clone(),
                    reason: error.to_string(),
                };
                Ok(When::Cron { text: text.clone(), cron: Box::new(parser.parse(text).map_err(unread)?) })
            }
            (None, Some(text)) => {
                let quiet = duration("schedule.arrival", Some(text.as_str()), Duration::ZERO);
                let quiet = quiet.ok().filter(|quiet| (QUIET_MIN..=QUIET_MAX).contains(quiet));
                let Some(quiet) = quiet else {
                    let reason =
                        "is no time from \"1s\" to \"1d\"; write for how long nothing more may come, such as \"5m\"";
                    return self.refuse("arrival", format!("{text:?} {reason}"));
                };
                Ok(When::Arrival { quiet })
            }
            (Some(_), Some(_)) => self.refuse("arrival", "stands beside cron; write one of them"),
            (None, None) => self.refuse("cron", "is missing; write one such as \"0 7 * * MON\", or arrival = \"5m\""),
        }
    }

    fn refuse<T>(&self, key: &'static str, reason: impl Into<String>) -> Result<T, ScheduleError> {
        Err(ScheduleError::Setting { name: self.name.clone(), key, reason: reason.into() })
    }

    /// `value`, or `usual`, from 1 to `max`.
    fn number(&self, key: &'static str, value: Option<u32>, usual: u32, max: u32) -> Result<u32, ScheduleError> {
        match value.unwrap_or(usual) {
            value if (1..=max).contains(&value) => Ok(value),
            value => self.refuse(key, format!("is {value}; write 1 to {max}")),
        }
    }

    fn job(&self) -> Result<Job, ScheduleError> {
        let given = [
            ("days", self.days.is_some(), [JobName::Recommend].as_slice()),
            ("hours", self.hours.is_some(), &[JobName::IdleAlert, JobName::Drift, JobName::Check, JobName::Diagnose]),
            ("repeat_hours", self.repeat_hours.is_some(), &[JobName::IdleAlert]),
            ("metric", self.metric.is_some(), &[JobName::Drift, JobName::Check]),
            ("where", self.filter.is_some(), &[JobName::Drift, JobName::Check]),
            ("contract", self.contract.is_some(), &[JobName::Check]),
            ("table", self.table.is_some(), &[JobName::Check]),
            ("source", self.source.is_some(), &[JobName::Drift]),
            ("by", self.by.is_some(), &[JobName::Drift]),
            ("reference", self.reference.is_some(), &[JobName::Drift]),
            ("arrival", self.arrival.is_some(), &[JobName::Drift, JobName::Check]),
            ("services", self.services.is_some(), &[JobName::Diagnose]),
            ("p95_ms_max", self.p95_ms_max.is_some(), &[JobName::Diagnose]),
        ];
        if let Some((key, ..)) = given.iter().find(|(_, is_given, jobs)| *is_given && !jobs.contains(&self.job)) {
            return self.refuse(key, "is no setting of this job; remove it");
        }
        Ok(match self.job {
            JobName::WeeklyReport => Job::WeeklyReport,
            JobName::Recommend => Job::Recommend { days: self.number("days", self.days, 14, DAYS_MAX)? },
            JobName::IdleAlert => Job::IdleAlert {
                hours: self.number("hours", self.hours, 24, HOURS_MAX)?,
                repeat_hours: self.number("repeat_hours", self.repeat_hours, 24, HOURS_MAX)?,
            },
            JobName::Check => {
                let Some(metric) = self.metric.clone() else {
                    return self.refuse("metric", "is missing; name the metric whose points are checked");
                };
                let Some(contract) = self.contract.clone() else {
                    return self.refuse("contract", "is missing; name the file of the rules");
                };
                let filter = self.filter.clone().unwrap_or_default();
                let hours = self.number("hours", self.hours, 1, HOURS_MAX)?;
                Job::Check(CheckJob { metric, filter, hours, contract, table: self.table.clone() })
            }
            JobName::Drift => {
                let Some(metric) = self.metric.clone() else {
                    return self.refuse("metric", "is missing; name the metric whose values are compared");
                };
                let filter = self.filter.clone().unwrap_or_default();
                let source = self.source.as_deref().unwrap_or("auto");
                let Some(source) = Source::parse(source) else {
                    return self.refuse("source", format!("is {source:?}; write auto, samples, histograms or states"));
                };
                // What arrives is an hour.
                let usual = if self.arrival.is_some() { 1 } else { 24 };
                Job::Drift(DriftJob {
                    metric,
                    filter,
                    by: self.by.clone(),
                    reference: self.reference.clone(),
                    hours: self.number("hours", self.hours, usual, HOURS_MAX)?,
                    source,
                })
            }
            JobName::Diagnose => Job::Diagnose(self.diagnose_job()?),
        })
    }
}

impl RawSchedule {
    fn diagnose_job(&self) -> Result<DiagnoseJob, ScheduleError> {
        let services = self.services.clone().unwrap_or_default();
        if services.is_empty() || services.len() > SERVICES_MAX || services.iter().any(|name| name.trim().is_empty()) {
            let reason = format!("names {} services; name 1 to {SERVICES_MAX}, such as [\"chat\"]", services.len());
            return self.refuse("services", reason);
        }
        if self.p95_ms_max == Some(0) {
            return self.refuse("p95_ms_max", "is 0; write milliseconds, or leave it out to diagnose always");
        }
        let hours = self.number("hours", self.hours, 1, DIAGNOSE_HOURS_MAX)?;
        Ok(DiagnoseJob { services, p95_ms_max: self.p95_ms_max, hours })
    }
}

impl Job {
    /// As the configuration calls it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::WeeklyReport => "weekly-report",
            Self::Recommend { .. } => "recommend",
            Self::IdleAlert { .. } => "idle-alert",
            Self::Drift(_) => "drift",
            Self::Check(_) => "check",
            Self::Diagnose(_) => "diagnose",
        }
    }
}

impl Schedule {
    /// Checks `[[schedule]]`, each and together.
    ///
    /// # Errors
    /// [`ScheduleError`] of the first that is wrong.
    pub fn all(raw: &[RawSchedule], now: DateTime<Utc>) -> Result<Vec<Self>, ScheduleError> {
        let mut schedules: Vec<Self> = Vec::new();
        for raw in raw {
            let schedule = raw.clone().validate(now)?;
            if schedules.iter().any(|other| other.name == schedule.name) {
                return Err(ScheduleError::Twice(schedule.name));
            }
            schedules.push(schedule);
        }
        Ok(schedules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<Schedule, ScheduleError> {
        toml::from_str::<RawSchedule>(text).unwrap().validate("2026-01-01T00:00:00Z".parse().unwrap())
    }

    fn refused(rest: &str) -> String {
        checked(rest).unwrap_err().to_string()
    }

    #[test]
    fn a_bad_schedule_says_what_to_write() {
        let with = |cron: &str, zone: &str| {
            format!("name = \"a\"\njob = \"weekly-report\"\ncron = \"{cron}\"\ntime_zone = \"{zone}\"")
        };
        assert!(refused(&with("0 7 * *", "UTC")).contains("day of week"));
        assert!(refused(&with("0 0 7 * * MON", "UTC")).contains("day of week"), "seconds are no field");
        assert!(refused(&with("61 7 * * *", "UTC")).contains("61 7"));
        assert!(refused(&with("0 7 * * *", "Berlin")).contains("Europe/Berlin"));
        assert!(refused(&with("0 0 31 2 *", "UTC")).contains("never comes true"));
        for name in ["", "a b", "../a", &"x".repeat(65)] {
            let text = format!("name = {name:?}\njob = \"recommend\"\ncron = \"@daily\"");
            assert!(refused(&text).contains("schedule.name"), "{name}");
        }
        assert!(toml::from_str::<RawSchedule>("name = \"a\"\njob = \"report\"\ncron = \"@daily\"").is_err());
        assert!(
            toml::from_str::<RawSchedule>("name = \"a\"\njob = \"drift\"\ncron = \"@daily\"\nzone = \"UTC\"").is_err()
        );
    }

    #[test]
    fn a_job_takes_its_own_settings_only() {
        let of = |job: &str, rest: &str| checked(&format!("name = \"a\"\njob = \"{job}\"\ncron = \"@daily\"\n{rest}"));
        assert_eq!(of("recommend", "days = 7").unwrap().job, Job::Recommend { days: 7 });
        assert_eq!(of("idle-alert", "").unwrap().job, Job::IdleAlert { hours: 24, repeat_hours: 24 });
        let (metric, filter) = ("pixels".into(), String::new());
        let drift = DriftJob { metric, filter, by: None, reference: None, hours: 24, source: Source::Auto };
        assert_eq!(of("drift", "metric = \"pixels\"").unwrap().job, Job::Drift(drift.clone()));
        let states = of("drift", "metric = \"pixels\"\nsource = \"states\"").unwrap().job;
        assert_eq!(states, Job::Drift(DriftJob { source: Source::States, ..drift.clone() }));
        let split = of("drift", "metric = \"pixels\"\nby = \"region\"\nreference = \"seasonal\"").unwrap().job;
        let (by, reference) = (Some("region".into()), Some("seasonal".into()));
        assert_eq!(split, Job::Drift(DriftJob { by, reference, ..drift }));
        let diagnose = DiagnoseJob { services: vec!["chat".into()], p95_ms_max: Some(800), hours: 1 };
        let job = of("diagnose", "services = [\"chat\"]\np95_ms_max = 800").unwrap().job;
        assert_eq!(job, Job::Diagnose(diagnose));
        assert_eq!(of("weekly-report", "").unwrap().time_zone(), Tz::UTC);
        for (job, rest, key) in [
            ("weekly-report", "days = 7", "days"),
            ("idle-alert", "hours = 0", "hours"),
            ("drift", "", "metric"),
            ("drift", "metric = \"a\"\nsource = \"rows\"", "source"),
            ("recommend", "source = \"states\"", "source"),
            ("check", "metric = \"a\"\ncontract = \"c.yaml\"\nby = \"region\"", "by"),
            ("check", "contract = \"c.yaml\"", "metric"),
            ("check", "metric = \"a\"", "contract"),
            ("drift", "metric = \"a\"\ncontract = \"c.yaml\"", "contract"),
            ("check", "metric = \"a\"\ncontract = \"c.yaml\"\nattach = [\"html\"]", "attach"),
            ("diagnose", "", "services"),
            ("diagnose", "services = [\"\"]", "services"),
            ("diagnose", "services = [\"chat\"]\np95_ms_max = 0", "p95_ms_max"),
            ("drift", "metric = \"pixels\"\nservices = [\"chat\"]", "services"),
            ("recommend", "attach = [\"csv\"]", "attach"),
            ("drift", "metric = \"a\"\narrival = \"5m\"", "arrival"),
            ("idle-alert", "attach = [\"json\"]", "attach"),
        ] {
            let error = of(job, rest).unwrap_err().to_string();
            assert!(error.contains(&format!("schedule.{key} of \"a\"")), "{error}");
        }
    }

    #[test]
    fn a_job_runs_at_its_times_or_on_arrival() {
        let of = |job: &str, rest: &str| checked(&format!("name = \"a\"\njob = \"{job}\"\n{rest}"));
        let arrival = of("drift", "metric = \"pixels\"\narrival = \"5m\"").unwrap();
        assert_eq!((arrival.arrival(), arrival.cron()), (Some(Duration::from_secs(300)), None));
        assert!(matches!(&arrival.job, Job::Drift(drift) if drift.hours == 1));
        assert_eq!(arrival.due(DateTime::UNIX_EPOCH, "2026-01-01T00:00:00Z".parse().unwrap()), None);
        for (job, rest, words) in [
            ("drift", "metric = \"pixels\"", "arrival = \"5m\""),
            ("drift", "metric = \"pixels\"\narrival = \"soon\"", "nothing more may come"),
            ("drift", "metric = \"pixels\"\narrival = \"2d\"", "nothing more may come"),
            ("weekly-report", "arrival = \"5m\"", "no setting of this job"),
        ] {
            let error = of(job, rest).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn two_of_one_name_are_refused() {
        let raw: RawSchedule = toml::from_str("name = \"a\"\njob = \"recommend\"\ncron = \"@daily\"").unwrap();
        let error = Schedule::all(&[raw.clone(), raw], "2026-01-01T00:00:00Z".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("twice"), "{error}");
    }
}
