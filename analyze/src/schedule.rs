//! When a job runs: a cron expression read in a time zone, or when its data came.
//!
//! Daylight saving follows Vixie cron, as `croner` computes it: a job at a fixed time that the clock skips runs at the
//! first moment after the skip, and one at a time that the clock repeats runs at the earlier of the two; both run exactly
//! once that day. A job with `*` or a step in its minutes or hours runs in real time: not in the skipped hour, and twice
//! through the repeated one.

mod settings;

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use chrono_tz::Tz;
use croner::Cron;

pub use settings::{Attach, CheckJob, DiagnoseJob, DriftJob, Job, RawSchedule, ScheduleError};

/// Missed runs are counted up to here; beyond it "at least" is said.
const MISSED_COUNT_MAX: usize = 1_000;

/// A checked schedule.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Its name, which no other has.
    pub name: String,
    /// What is run.
    pub job: Job,
    /// Who gets the result by mail; none is those of `delivery.mail.to`.
    pub to: Option<Vec<String>>,
    /// Webhooks that get the result, by name.
    pub webhooks: Vec<String>,
    /// Files of the mail.
    pub attach: Vec<Attach>,
    when: When,
    zone: Tz,
}

/// What a schedule waits for.
#[derive(Debug, Clone)]
enum When {
    /// The next time of an expression.
    Cron { text: String, cron: Box<Cron> },
    /// An hour of its metric that is over, and to which nothing was written for so long.
    Arrival { quiet: Duration },
}

/// A run that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRun {
    /// The time it was meant for; the job gets this time, not the present one, so that it gives what it would have given.
    pub scheduled: DateTime<Utc>,
    /// Earlier runs that were missed and are left out, at most 1 000.
    pub skipped_count: usize,
    /// Whether more were missed than are counted.
    pub skipped_more: bool,
}

impl DueRun {
    /// One sentence for the log and the report's notes; none when nothing was missed.
    pub fn note(&self) -> Option<String> {
        let at_least = if self.skipped_more { "at least " } else { "" };
        let scheduled = self.scheduled.to_rfc3339_opts(SecondsFormat::Secs, true);
        (self.skipped_count > 0).then(|| {
            format!(
                "{at_least}{} earlier runs were missed and left out; this is the one of {scheduled}",
                self.skipped_count
            )
        })
    }
}

impl Schedule {
    /// The expression as written; none where it runs on arrival.
    pub fn cron(&self) -> Option<&str> {
        match &self.when {
            When::Cron { text, .. } => Some(text),
            When::Arrival { .. } => None,
        }
    }

    /// Where it runs on arrival: for how long nothing must have been written to an hour.
    pub fn arrival(&self) -> Option<Duration> {
        match self.when {
            When::Cron { .. } => None,
            When::Arrival { quiet } => Some(quiet),
        }
    }

    fn expression(&self) -> Option<&Cron> {
        match &self.when {
            When::Cron { cron, .. } => Some(cron),
            When::Arrival { .. } => None,
        }
    }

    /// The time zone that the expression is read in.
    pub fn time_zone(&self) -> Tz {
        self.zone
    }

    /// The first run after `time`, itself excluded; none if there is no more, or if it runs on arrival.
    pub fn next_after(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = time.with_timezone(&self.zone);
        self.expression()?.find_next_occurrence(&local, false).ok().map(|next| next.with_timezone(&Utc))
    }

    /// The run to start at `now` when `last` was the last scheduled time that ran (or the time the schedule was set up).
    ///
    /// Runs missed in between, as while the process was down, are not made up for one by one: the latest is run once, and
    /// [`DueRun::note`] says how many were left out.
    pub fn due(&self, last: DateTime<Utc>, now: DateTime<Utc>) -> Option<DueRun> {
        let first = self.next_after(last).filter(|first| *first <= now)?;
        // Searched backwards from now: after a year of downtime a schedule by the minute is half a million steps away.
        let after_now = now + chrono::TimeDelta::seconds(1);
        let local = after_now.with_timezone(&self.zone);
        let previous = self.expression()?.find_previous_occurrence(&local, false).ok()?.with_timezone(&Utc);
        let scheduled = previous.max(first);
        let (mut skipped_count, mut at) = (0, first);
        while at < scheduled && skipped_count < MISSED_COUNT_MAX {
            skipped_count += 1;
            at = self.next_after(at)?;
        }
        Some(DueRun { scheduled, skipped_count, skipped_more: at < scheduled })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn raw(cron: &str, time_zone: &str) -> RawSchedule {
        let text =
            format!("name = \"weekly\"\njob = \"weekly-report\"\ncron = \"{cron}\"\ntime_zone = \"{time_zone}\"");
        toml::from_str(&text).unwrap()
    }

    fn schedule(cron: &str, time_zone: &str) -> Schedule {
        raw(cron, time_zone).validate(at("2026-01-01T00:00:00Z")).unwrap()
    }

    /// All runs from `from` up to `until`.
    fn runs(schedule: &Schedule, from: &str, until: &str) -> Vec<String> {
        let (mut time, until, mut found) = (at(from), at(until), Vec::new());
        while let Some(next) = schedule.next_after(time).filter(|next| *next < until) {
            found.push(next.to_rfc3339_opts(SecondsFormat::Secs, true));
            time = next;
        }
        found
    }

    #[test]
    fn monday_at_seven_follows_the_clock_of_berlin() {
        let weekly = schedule("0 7 * * MON", "Europe/Berlin");
        // Summer time ends on Sunday 2026-10-25: 07:00 is 05:00 UTC before and 06:00 UTC after.
        assert_eq!(
            runs(&weekly, "2026-10-18T00:00:00Z", "2026-10-27T00:00:00Z"),
            ["2026-10-19T05:00:00Z", "2026-10-26T06:00:00Z"]
        );
        assert_eq!(weekly.next_after(at("2026-10-19T05:00:00Z")), Some(at("2026-10-26T06:00:00Z")), "itself excluded");
    }

    #[test]
    fn a_job_in_the_skipped_hour_runs_once() {
        // 2026-03-29: 02:00 becomes 03:00 in Berlin, at 01:00 UTC.
        let nightly = schedule("30 2 * * *", "Europe/Berlin");
        assert_eq!(
            runs(&nightly, "2026-03-27T23:00:00Z", "2026-03-30T22:00:00Z"),
            ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
    }

    #[test]
    fn a_job_in_the_repeated_hour_runs_once() {
        // 2026-10-25: 03:00 becomes 02:00 in Berlin, at 01:00 UTC; 02:30 is at 00:30 and at 01:30 UTC.
        let nightly = schedule("30 2 * * *", "Europe/Berlin");
        assert_eq!(
            runs(&nightly, "2026-10-23T22:00:00Z", "2026-10-26T22:00:00Z"),
            ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
        // Asked between the two, and at the second.
        for time in ["2026-10-25T00:30:01Z", "2026-10-25T01:10:00Z", "2026-10-25T01:30:00Z"] {
            assert_eq!(nightly.next_after(at(time)), Some(at("2026-10-26T01:30:00Z")), "{time}");
        }
        // A process that starts between the two finds the run done, not due again.
        assert_eq!(nightly.due(at("2026-10-25T00:30:00Z"), at("2026-10-25T01:45:00Z")), None);
    }

    #[test]
    fn a_job_every_hour_runs_in_real_time_through_both_changes() {
        let hourly = schedule("0 * * * *", "Europe/Berlin");
        for (from, until) in
            [("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"), ("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z")]
        {
            let found = runs(&hourly, from, until);
            let hours = (at(until) - at(from)).num_hours() - 1;
            assert_eq!(found.len() as i64, hours, "{found:?}");
        }
    }

    #[test]
    fn of_the_missed_runs_the_latest_is_run_and_the_others_are_counted() {
        let daily = schedule("0 6 * * *", "UTC");
        let last = at("2026-11-01T06:00:00Z");
        assert_eq!(daily.due(last, at("2026-11-02T05:59:59Z")), None);
        let on_time = daily.due(last, at("2026-11-02T06:00:00Z")).unwrap();
        assert_eq!((on_time.scheduled, on_time.skipped_count), (at("2026-11-02T06:00:00Z"), 0));
        assert_eq!(on_time.note(), None);
        let late = daily.due(last, at("2026-11-05T12:00:00Z")).unwrap();
        assert_eq!(late, DueRun { scheduled: at("2026-11-05T06:00:00Z"), skipped_count: 3, skipped_more: false });
        assert!(late.note().unwrap().starts_with("3 earlier runs were missed"));
        let minutely = schedule("* * * * *", "UTC").due(last, at("2026-11-05T12:00:30Z")).unwrap();
        assert_eq!(minutely.scheduled, at("2026-11-05T12:00:00Z"));
        assert!(minutely.skipped_more && minutely.note().unwrap().starts_with("at least 1000 "));
    }

    #[test]
    fn a_run_missed_over_the_skipped_hour_is_found() {
        let nightly = schedule("30 2 * * *", "Europe/Berlin");
        let due = nightly.due(at("2026-03-28T01:30:00Z"), at("2026-03-29T09:00:00Z")).unwrap();
        assert_eq!((due.scheduled, due.skipped_count), (at("2026-03-29T01:00:00Z"), 0));
    }

    #[test]
    fn a_clock_set_back_runs_nothing_twice() {
        let daily = schedule("0 6 * * *", "UTC");
        assert_eq!(daily.due(at("2026-11-05T06:00:00Z"), at("2026-11-04T06:00:00Z")), None);
    }
}
