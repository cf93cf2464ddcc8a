//! The tables `runs` and `deliveries`: what was scheduled, what came of it, and who was told.
//!
//! `runs` is appended to, a row for each step of a run. A run whose last step is `delivering` may have reached somebody, so it is
//! never begun again; one that ended before is.

use std::collections::HashMap;

use chrono::{DateTime, SecondsFormat, Utc};
use datafusion::prelude::SessionContext;
use driftwatt_store::Store;
use serde_json::Value;

use crate::{
    delivery::DeliveryAttempt,
    error::Result,
    result_table::ResultTable,
    rows::{Rows, has_result},
    schedule::Schedule,
};

/// Result table of runs.
pub const RUNS: &str = "runs";
/// Result table of deliveries.
pub const DELIVERIES: &str = "deliveries";

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// No run yet: the schedule is new, or its time was changed. Runs are due from then on.
    Registered,
    /// The job reads.
    Started,
    /// The result is on its way.
    Delivering,
    /// Done, and everybody was told.
    Succeeded,
    /// The job failed, or somebody was not reached.
    Failed,
    /// The process ended in the middle, and it was not begun again.
    Interrupted,
}

/// What started a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// Its time came.
    Clock,
    /// Somebody asked.
    Hand,
}

/// A run.
#[derive(Debug, Clone)]
pub struct Run<'a> {
    /// Of this schedule.
    pub schedule: &'a Schedule,
    /// The time it was meant for.
    pub scheduled: DateTime<Utc>,
    /// Why it runs.
    pub trigger: Trigger,
    /// When it began, UTC microseconds.
    pub started_us: Option<i64>,
    /// What it was asked, as JSON.
    pub parameters: Value,
    /// Versions of the tables when it began, as JSON.
    pub table_versions: Value,
    /// What it found, in a line.
    pub summary: Option<String>,
    /// Missed runs, interruptions.
    pub note: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
}

/// The last that is known of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRun {
    /// The time it was meant for, or when the schedule was registered.
    pub scheduled: DateTime<Utc>,
    /// How far it came.
    pub step: Step,
    /// How often it was begun.
    pub start_count: usize,
    /// The expression and the zone it ran by.
    pub cron: String,
    /// See `cron`.
    pub time_zone: String,
    /// What went wrong.
    pub error: Option<String>,
}

impl Step {
    /// The word in the column `outcome`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Started => "started",
            Self::Delivering => "delivering",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether nothing follows.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Started | Self::Delivering)
    }

    fn parse(text: &str) -> Option<Self> {
        use Step as S;
        let all = [S::Registered, S::Started, S::Delivering, S::Succeeded, S::Failed, S::Interrupted];
        all.into_iter().find(|step| step.as_str() == text)
    }
}

impl Trigger {
    fn as_str(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Hand => "hand",
        }
    }
}

impl<'a> Run<'a> {
    /// A run of `schedule` that has not begun.
    pub fn new(schedule: &'a Schedule, scheduled: DateTime<Utc>, trigger: Trigger) -> Self {
        Self {
            schedule,
            scheduled,
            trigger,
            started_us: None,
            parameters: serde_json::json!(schedule.job),
            table_versions: Value::Null,
            summary: None,
            note: None,
            error: None,
        }
    }

    /// What `deliveries.run_id` refers to, such as `weekly@2026-11-23T06:00:00.000000Z`.
    pub fn id(&self) -> String {
        format!("{}@{}", self.schedule.name, self.scheduled.to_rfc3339_opts(SecondsFormat::Micros, true))
    }

    /// Appends a row that says `step` at `now_us`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn record(&self, store: &Store, step: Step, now_us: i64) -> Result<()> {
        let finished_us = (step.is_final() && step != Step::Registered).then_some(now_us);
        let json = |value: &Value| (!value.is_null()).then(|| value.to_string());
        let mut table = ResultTable::new(now_us, 1);
        table
            .texts("run_id", [Some(self.id())])
            .text("schedule", &self.schedule.name)
            .text("job", self.schedule.job.as_str())
            .text("cron", self.schedule.cron())
            .text("time_zone", self.schedule.time_zone().name())
            .text("started_by", self.trigger.as_str())
            .moments("scheduled", [Some(self.scheduled.timestamp_micros())])
            .moments("started", [self.started_us])
            .moments("finished", [finished_us])
            .text("outcome", step.as_str())
            .integers("step", [Some(step as i64)])
            .texts("summary", [self.summary.clone()])
            .texts("note", [self.note.clone()])
            .texts("error", [self.error.clone()])
            .texts("parameters", [json(&self.parameters)])
            .texts("table_versions", [json(&self.table_versions)]);
        store.write_result(RUNS, table.finish()?).await?;
        Ok(())
    }

    /// Appends every try of `attempts`; recipients are masked, in errors too.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn record_deliveries(&self, store: &Store, attempts: &[DeliveryAttempt], now_us: i64) -> Result<()> {
        if attempts.is_empty() {
            return Ok(());
        }
        let rows = || attempts.iter();
        let mut table = ResultTable::new(now_us, attempts.len());
        table
            .text("run_id", &self.id())
            .moments("tried", rows().map(|row| Some(row.time_unix_us)))
            .texts("channel", rows().map(|row| Some(row.channel.to_owned())))
            .texts("recipient", rows().map(|row| Some(row.masked_recipient())))
            .texts("subject", rows().map(|row| Some(row.subject.clone())))
            .integers("attempt", rows().map(|row| Some(i64::from(row.attempt))))
            .texts("outcome", rows().map(|row| Some(row.outcome.as_str().to_owned())))
            .texts("error", rows().map(DeliveryAttempt::masked_error));
        store.write_result(DELIVERIES, table.finish()?).await?;
        Ok(())
    }
}

/// The last run by the clock of every schedule that ever ran or was registered.
///
/// # Errors
/// Those of the query.
pub async fn last_runs(ctx: &SessionContext) -> Result<HashMap<String, LastRun>> {
    if !has_result(ctx, RUNS) {
        return Ok(HashMap::new());
    }
    let query = "SELECT schedule, scheduled, outcome, starts, cron, time_zone, error FROM (SELECT *, \
                 sum(CASE WHEN outcome = 'started' THEN 1 ELSE 0 END) OVER (PARTITION BY run_id) AS starts, \
                 row_number() OVER (PARTITION BY schedule ORDER BY scheduled DESC, time DESC, step DESC) AS place \
                 FROM reports.runs WHERE started_by = 'clock') WHERE place = 1";
    let rows = Rows::query(ctx, query).await?;
    let (names, outcomes, errors) = (rows.texts("schedule")?, rows.texts("outcome")?, rows.texts("error")?);
    let (crons, zones) = (rows.texts("cron")?, rows.texts("time_zone")?);
    let (scheduled, starts) = (rows.integers("scheduled")?, rows.integers("starts")?);
    let mut last = HashMap::new();
    for row in 0..rows.len() {
        let step = outcomes[row].as_deref().and_then(Step::parse);
        let at = scheduled[row].and_then(DateTime::from_timestamp_micros);
        let (Some(name), Some(step), Some(scheduled)) = (names[row].clone(), step, at) else { continue };
        let run = LastRun {
            scheduled,
            step,
            start_count: starts[row].unwrap_or(0).unsigned_abs() as usize,
            cron: crons[row].clone().unwrap_or_default(),
            time_zone: zones[row].clone().unwrap_or_default(),
            error: errors[row].clone(),
        };
        last.insert(name, run);
    }
    Ok(last)
}
