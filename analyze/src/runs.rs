//! The tables `runs` and `deliveries`: what ran, by a schedule, on arrival or by hand, what came of it, and who was told.
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
    rows::{Rows, has_result, literal},
    schedule::Schedule,
};

/// Result table of runs.
pub const RUNS: &str = "runs";
/// Result table of deliveries.
pub const DELIVERIES: &str = "deliveries";

/// Runs that one query asks for.
const IDS_MAX: usize = 500;

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
    /// Its data came.
    Arrival,
}

/// A run.
#[derive(Debug, Clone)]
pub struct Run {
    /// What no other run has, and `deliveries.run_id` refers to, such as `weekly@2026-11-23T06:00:00.000000Z`.
    pub id: String,
    /// Of this schedule or watched folder; none for a question by hand.
    pub name: Option<String>,
    /// What was run.
    pub job: &'static str,
    /// The expression and the zone of the schedule.
    pub cron: Option<(String, String)>,
    /// The time it was meant for, which the job takes for now.
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

    const ALL: [Self; 6] =
        [Self::Registered, Self::Started, Self::Delivering, Self::Succeeded, Self::Failed, Self::Interrupted];

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.as_str() == text)
    }
}

impl Trigger {
    fn as_str(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Hand => "hand",
            Self::Arrival => "arrival",
        }
    }
}

impl Run {
    /// A run of `schedule` that has not begun.
    pub fn new(schedule: &Schedule, scheduled: DateTime<Utc>, trigger: Trigger) -> Self {
        let id = format!("{}@{}", schedule.name, id_time(scheduled));
        Self {
            name: Some(schedule.name.clone()),
            cron: schedule.cron().map(|cron| (cron.to_owned(), schedule.time_zone().name().to_owned())),
            parameters: serde_json::json!(schedule.job),
            ..Self::bare(id, schedule.job.as_str(), scheduled, trigger)
        }
    }

    /// A run of `job` that answers what somebody asked at `asked`.
    pub fn of_question(job: &'static str, asked: DateTime<Utc>, parameters: Value) -> Self {
        Self { parameters, ..Self::bare(format!("{job}@{}", id_time(asked)), job, asked, Trigger::Hand) }
    }

    /// A run of `job` as of `scheduled` on `content`, which arrived for the schedule or folder `name`; the same content has the same id.
    pub fn on_arrival(name: &str, job: &'static str, content: &str, scheduled: DateTime<Utc>) -> Self {
        Self { name: Some(name.to_owned()), ..Self::bare(arrival_id(name, content), job, scheduled, Trigger::Arrival) }
    }

    fn bare(id: String, job: &'static str, scheduled: DateTime<Utc>, trigger: Trigger) -> Self {
        Self {
            id,
            name: None,
            job,
            cron: None,
            scheduled,
            trigger,
            started_us: None,
            parameters: Value::Null,
            table_versions: Value::Null,
            summary: None,
            note: None,
            error: None,
        }
    }

    /// The step that ends it: it failed if anything went wrong.
    pub fn last_step(&self) -> Step {
        if self.error.is_some() { Step::Failed } else { Step::Succeeded }
    }

    /// Notes when it begins and what it may read: the versions of the tables.
    pub fn begin(&mut self, store: &Store, now_us: i64) {
        self.started_us = Some(now_us);
        let versions = store.tables().into_iter().map(|table| (table.name, table.version.into()));
        self.table_versions = Value::Object(versions.collect());
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
            .text("run_id", &self.id)
            .texts("schedule", [self.name.clone()])
            .text("job", self.job)
            .texts("cron", [self.cron.as_ref().map(|(cron, _)| cron.clone())])
            .texts("time_zone", [self.cron.as_ref().map(|(_, zone)| zone.clone())])
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
            .text("run_id", &self.id)
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

/// What [`Run::on_arrival`] calls the run of `content` for `name`.
pub fn arrival_id(name: &str, content: &str) -> String {
    format!("{name}:{content}")
}

fn id_time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Since when `name` waits for what arrives; none where it never did.
///
/// # Errors
/// Those of the query.
pub async fn waits_since(ctx: &SessionContext, name: &str) -> Result<Option<DateTime<Utc>>> {
    if !has_result(ctx, RUNS) {
        return Ok(None);
    }
    let query = format!(
        "SELECT CAST(max(scheduled) AS BIGINT) AS since FROM reports.{RUNS} \
         WHERE schedule = {} AND started_by = 'arrival' AND outcome = 'registered'",
        literal(name)
    );
    let rows = Rows::query(ctx, &query).await?;
    Ok(rows.integers("since")?.into_iter().flatten().next().and_then(DateTime::from_timestamp_micros))
}

/// The runs of `job` on what arrived for `name` that began and did not end, from old to new.
///
/// # Errors
/// Those of the query.
pub async fn left_open(ctx: &SessionContext, name: &str, job: &'static str) -> Result<Vec<Run>> {
    if !has_result(ctx, RUNS) {
        return Ok(vec![]);
    }
    let query = format!(
        "SELECT run_id, CAST(max(scheduled) AS BIGINT) AS at, max(parameters) AS parameters FROM reports.{RUNS} \
         WHERE schedule = {} AND started_by = 'arrival' AND outcome <> 'registered' GROUP BY run_id HAVING max(step) < {} ORDER BY at",
        literal(name),
        Step::Succeeded as i64
    );
    let rows = Rows::query(ctx, &query).await?;
    let columns = rows.texts("run_id")?.into_iter().zip(rows.integers("at")?).zip(rows.texts("parameters")?);
    let runs = columns.filter_map(|((id, at), parameters)| {
        let scheduled = at.and_then(DateTime::from_timestamp_micros)?;
        let parameters = parameters.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        Some(Run { name: Some(name.to_owned()), parameters, ..Run::bare(id?, job, scheduled, Trigger::Arrival) })
    });
    Ok(runs.collect())
}

/// How far each of the runs `ids` came, and how often it was begun; those that never began are not in it.
///
/// # Errors
/// Those of the query.
pub async fn steps_of(ctx: &SessionContext, ids: &[String]) -> Result<HashMap<String, (Step, usize)>> {
    let mut steps = HashMap::new();
    if !has_result(ctx, RUNS) {
        return Ok(steps);
    }
    for ids in ids.chunks(IDS_MAX) {
        let ids: Vec<String> = ids.iter().map(|id| literal(id)).collect();
        let query = format!(
            "SELECT run_id, max(step) AS step, sum(CASE WHEN outcome = 'started' THEN 1 ELSE 0 END) AS starts \
             FROM reports.{RUNS} WHERE run_id IN ({}) GROUP BY run_id",
            ids.join(", ")
        );
        let rows = Rows::query(ctx, &query).await?;
        let columns = rows.texts("run_id")?.into_iter().zip(rows.integers("step")?).zip(rows.integers("starts")?);
        for ((id, step), starts) in columns {
            let step = step.and_then(|step| Step::ALL.into_iter().find(|known| *known as i64 == step));
            let (Some(id), Some(step)) = (id, step) else { continue };
            steps.insert(id, (step, starts.unwrap_or(0).unsigned_abs() as usize));
        }
    }
    Ok(steps)
}

/// The last run of every schedule that ever ran or was registered, those by hand left out.
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
                 FROM reports.runs WHERE started_by <> 'hand') WHERE place = 1";
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
