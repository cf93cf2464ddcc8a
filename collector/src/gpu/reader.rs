//! GPUs read by a process of their own, so that a driver call that never returns costs that process only.
//!
//! Invariants:
//! - One sample takes no longer than the timeout.
//! - Without an answer the last good readings are handed over with their age until they are too old, then none: never a
//!   value that nobody read. `driftwatt.collector.gpu.stuck` says which of the two an absent value is.
//! - A process that does not answer is killed. In an uninterruptible driver call it stays; at most [`LEAVING_MAX`] such
//!   processes are left behind before no more are started.

use std::{
    process::Child,
    thread,
    time::{Duration, Instant},
};

use super::{
    counts::Counts,
    process::{GpuProcess, Loss, Process},
};
use crate::{
    proc_stat,
    reading::{Reading, Sample},
};

/// Killed processes that have not ended, above which no other is started.
const LEAVING_MAX: usize = 4;

const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Longest wait for an answer while the one before is missing, so that a hung driver does not delay every collection.
const PROBE_MAX: Duration = Duration::from_secs(1);

/// The GPUs of this machine, read by another process.
pub(crate) struct GpuReader {
    command: GpuProcess,
    timeout: Duration,
    age_max: Duration,
    process: Option<Process>,
    leaving: Vec<Child>,
    backoff: Duration,
    start_after: Instant,
    last_good: Option<(Instant, Vec<Reading>)>,
    counts: Counts,
    created_at: Instant,
    stuck: bool,
}

impl GpuReader {
    /// Allows `timeout` for a sample and hands over readings up to an age of `age_max`. Nothing is started before the
    /// first sample.
    pub(crate) fn new(command: GpuProcess, timeout: Duration, age_max: Duration) -> Self {
        let created_at = Instant::now();
        Self {
            command,
            timeout,
            age_max,
            process: None,
            leaving: Vec::new(),
            backoff: BACKOFF_MIN,
            start_after: created_at,
            last_good: None,
            counts: Counts::default(),
            created_at,
            stuck: false,
        }
    }

    pub(crate) fn sample(&mut self) -> Sample {
        let mut sample = match self.ask() {
            Ok(Some(sample)) => self.good(sample),
            Ok(None) => self.without_answer(),
            Err(loss) => {
                self.lost(loss);
                let mut sample = self.without_answer();
                sample.fail("snapshot", loss.error_type());
                sample
            }
        };
        if let Some(cost) = self.process.as_ref().and_then(|process| proc_stat::process_cost(process.id())) {
            cost.push("gpu", &mut sample);
        }
        sample
    }

    /// A sample, or `None` if there is none yet.
    fn ask(&mut self) -> Result<Option<Sample>, Loss> {
        if self.process.is_none() {
            if !self.may_start() {
                return Ok(None);
            }
            self.process = Some(self.start()?);
        }
        let Some(process) = &mut self.process else { return Ok(None) };
        let wait = if self.stuck { self.timeout.min(PROBE_MAX) } else { self.timeout };
        process.sample(wait, self.timeout)
    }

    fn start(&self) -> Result<Process, Loss> {
        Process::start(&self.command).map_err(|error| {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, program = ?self.command.program, "the process that reads GPUs did not start");
            Loss::NotStarted
        })
    }

    fn may_start(&mut self) -> bool {
        reap(&mut self.leaving);
        self.leaving.len() < LEAVING_MAX && Instant::now() >= self.start_after
    }

    fn good(&mut self, mut sample: Sample) -> Sample {
        if self.stuck {
            tracing::info!("GPUs answer again");
        }
        self.stuck = false;
        self.backoff = BACKOFF_MIN;
        self.counts.go_on(&mut sample);
        self.last_good = Some((Instant::now(), sample.readings.clone()));
        sample.push("driftwatt.collector.gpu.stuck", 0.0, &[]);
        sample
    }

    fn lost(&mut self, loss: Loss) {
        if !self.stuck {
            tracing::warn!(reason = loss.error_type(), "GPUs do not answer: the process that reads them is replaced");
        }
        self.stuck = true;
        self.counts.begin_again();
        self.leaving.extend(self.process.take().map(Process::kill));
        self.start_after = Instant::now() + self.backoff;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }

    fn without_answer(&self) -> Sample {
        let mut sample = Sample::default();
        if let Some((at, readings)) = &self.last_good
            && at.elapsed() <= self.age_max
        {
            sample.readings.clone_from(readings);
        }
        sample.held = self.last_good.as_ref().map_or(self.created_at, |(at, _)| *at).elapsed();
        if self.stuck {
            sample.push("driftwatt.collector.gpu.stuck", 1.0, &[]);
        }
        sample
    }
}

/// Ends the process. One that cannot be killed is not waited for: it ends by itself once its driver call returns.
impl Drop for GpuReader {
    fn drop(&mut self) {
        self.leaving.extend(self.process.take().map(Process::kill));
        let killed_at = Instant::now();
        while !self.leaving.is_empty() && killed_at.elapsed() < Duration::from_millis(200) {
            reap(&mut self.leaving);
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Forgets the processes that have ended.
fn reap(leaving: &mut Vec<Child>) {
    leaving.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
}

#[cfg(all(test, unix))]
#[path = "reader_tests.rs"]
mod tests;
