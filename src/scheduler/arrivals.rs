//! Schedules that run when the points of an hour are there, instead of at times.
//!
//! An hour is looked at once it is over. It is judged when its points are what they were for as long as the schedule says, and
//! judged again when late ones came. Runs are named by the content of their hour, so that a restart, a merge of files or a point that is
//! sent again begins none that was ended before.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use driftwatt_analyze::{
    Window,
    drift::{Filter, Subject},
    points_content::PointsContent,
    runs::{Run, Step, Trigger, arrival_id, steps_of, waits_since},
    schedule::{Job, Schedule},
};
use serde_json::json;

use super::{LOOK_MAX, Scheduler, compose::time_text};

/// Hours before now whose points are waited for; what comes later still is stored, and found by whoever asks.
const HOURS_BACK: i64 = 24;
const HOUR_US: i64 = 3_600_000_000;

/// An hour that is over.
#[derive(Debug, Clone, Copy, Default)]
struct WaitedHour {
    /// Up to which log position something may have been written there, when its points were last read.
    written: Option<u64>,
    content: PointsContent,
    /// Since when its points are these.
    since_us: i64,
    /// Whether these were judged.
    is_done: bool,
}

/// Which points a schedule waits for.
struct Waited {
    metrics: Vec<String>,
    filters: Vec<Filter>,
}

impl Waited {
    fn of(schedule: &Schedule) -> anyhow::Result<Self> {
        let (metrics, filter) = match &schedule.job {
            Job::Drift(job) => (job.metric.split(',').map(str::trim).collect(), &job.filter),
            Job::Check(job) => (vec![job.metric.as_str()], &job.filter),
            _ => anyhow::bail!("this job reads no metric of its own"),
        };
        let filters = filter.split(',').filter(|filter| !filter.is_empty()).map(Filter::parse);
        let metrics = metrics.into_iter().map(|name| Subject::parse(name).name().to_owned());
        Ok(Self { metrics: metrics.collect(), filters: filters.collect::<Result<_, _>>()? })
    }
}

/// How far a run on what arrived came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// It never began.
    New,
    /// It broke off before anybody was told.
    BrokeOff,
    /// It broke off at this step, and is not begun again.
    Left(Step),
    /// It ended.
    Ended,
}

impl Scheduler {
    /// Runs `schedule` for every hour whose points are there and rest for `quiet`. Never ends by itself.
    pub(super) async fn keep_arrivals(&self, schedule: &Schedule, quiet: Duration) {
        let since = loop {
            match self.waits_since(schedule).await {
                Ok(since) => break since,
                Err(error) => self.wait_after(&schedule.name, &error).await,
            }
        };
        let mut hours = BTreeMap::new();
        loop {
            if let Err(error) = self.look_at_hours(schedule, quiet, since, &mut hours).await {
                self.wait_after(&schedule.name, &error).await;
            }
            self.clock.sleep(quiet.min(LOOK_MAX)).await;
        }
    }

    /// When `schedule` was set up: hours that ended before are not its business.
    async fn waits_since(&self, schedule: &Schedule) -> anyhow::Result<DateTime<Utc>> {
        if let Some(since) = waits_since(&self.session, &schedule.name).await? {
            return Ok(since);
        }
        let now = self.now();
        Run::new(schedule, now, Trigger::Arrival).record(&self.store, Step::Registered, self.clock.unix_us()).await?;
        Ok(now)
    }

    async fn look_at_hours(
        &self,
        schedule: &Schedule,
        quiet: Duration,
        since: DateTime<Utc>,
        hours: &mut BTreeMap<i64, WaitedHour>,
    ) -> anyhow::Result<()> {
        let waited = Waited::of(schedule)?;
        let now_us = self.clock.unix_us();
        let this_hour = now_us.div_euclid(HOUR_US);
        // The hour in which it was set up ends after that.
        let first = (this_hour - HOURS_BACK).max(since.timestamp_micros().div_euclid(HOUR_US));
        let starts: Vec<i64> = (first..this_hour).map(|hour| hour * HOUR_US).collect();
        hours.retain(|start_us, _| starts.contains(start_us));
        let written = self.last_writes(&waited, &starts).await?;
        for (start_us, written) in starts.into_iter().zip(written) {
            if written == Some(0) {
                continue;
            }
            let hour = hours.entry(start_us).or_insert(WaitedHour { since_us: now_us, ..WaitedHour::default() });
            // Where files do not say when they were written, only reading tells.
            if written.is_none() || hour.written != written {
                let window = Window::new(start_us, start_us + HOUR_US)?;
                let content = {
                    let _reading = self.reading.acquire().await.context("the scheduler ends")?;
                    PointsContent::read(&self.session, &waited.metrics, &waited.filters, window).await?
                };
                if content != hour.content {
                    *hour = WaitedHour { content, since_us: now_us, ..WaitedHour::default() };
                }
                hour.written = written;
            }
            let rests = Duration::from_micros((now_us - hour.since_us).max(0).unsigned_abs()) >= quiet;
            if hour.content.count > 0 && rests && !hour.is_done {
                self.judge(schedule, start_us, hour.content).await?;
                hour.is_done = true;
            }
        }
        Ok(())
    }

    /// For each hour the log position up to which something may have been written there, of any of the metrics.
    async fn last_writes(&self, waited: &Waited, starts: &[i64]) -> anyhow::Result<Vec<Option<u64>>> {
        let mut last = vec![Some(0); starts.len()];
        for metric in &waited.metrics {
            let windows = starts.iter().map(|start_us| *start_us..start_us + HOUR_US).collect();
            for (last, of_metric) in last.iter_mut().zip(self.store.last_writes(metric, windows).await?) {
                *last = last.zip(of_metric).map(|(last, other)| last.max(other));
            }
        }
        Ok(last)
    }

    /// Runs the job for the hour from `start_us`, unless it ran for the same points.
    async fn judge(&self, schedule: &Schedule, start_us: i64, content: PointsContent) -> anyhow::Result<()> {
        let time = |time_us: i64| DateTime::from_timestamp_micros(time_us).context("the hour is out of range");
        let (from, until) = (time(start_us)?, time(start_us + HOUR_US)?);
        let arrived = format!("{} {content}", time_text(from));
        let mut run = Run::on_arrival(&schedule.name, schedule.job.as_str(), &arrived, until);
        run.parameters = json!({ "job": schedule.job, "arrived": { "hour": time_text(from), "points": content.count,
            "content": content.to_string() } });
        match self.before(&schedule.name, &arrived).await? {
            Before::Ended => return Ok(()),
            Before::Left(step) => return self.leave(run, step).await,
            Before::BrokeOff => run.note = Some("the run before broke off in the middle".to_owned()),
            Before::New => {}
        }
        let late = self.clock.unix_us() - until.timestamp_micros();
        if late > HOUR_US {
            let late = TimeDelta::microseconds(late).num_minutes();
            let note = format!("of points that were there {late} minutes after their hour");
            run.note = Some(run.note.map_or_else(|| note.clone(), |before| format!("{before}; {note}")));
        }
        self.execute(schedule, run).await.map(drop)
    }

    /// How far the run on `content`, which arrived for `name`, came.
    pub(super) async fn before(&self, name: &str, content: &str) -> anyhow::Result<Before> {
        let id = arrival_id(name, content);
        Ok(match steps_of(&self.session, std::slice::from_ref(&id)).await?.get(&id) {
            None => Before::New,
            Some((step, _)) if step.is_final() => Before::Ended,
            // A run that ends the process each time must not be begun for ever.
            Some((Step::Started, starts)) if *starts < 2 => Before::BrokeOff,
            Some((step, _)) => Before::Left(*step),
        })
    }

    /// Records that `run` broke off for good at `step`.
    pub(super) async fn leave(&self, mut run: Run, step: Step) -> anyhow::Result<()> {
        run.error = Some(Self::why_left(step).to_owned());
        self.end(&run, Step::Interrupted, vec![]).await.map(drop)
    }
}
