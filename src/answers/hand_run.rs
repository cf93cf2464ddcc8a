//! Questions that somebody asks by hand, as rows of `runs`: of drift and of checks, where results are recorded.

use anyhow::Context as _;
use chrono::DateTime;
use driftwatt_analyze::{
    Error,
    delivery::Clock as _,
    drift::DriftRun,
    gates::{DatasetRecord, TABLE},
    runs::{Run, Step},
};
use driftwatt_store::{ErrorKind, Store};
use serde_json::{Value, json};

use super::{Desk, DriftQuestion, StreamQuestion, drift_summary, stream_check::CheckedStream};
use crate::clock::SystemClock;

/// A run that began; nothing is recorded until it ended, for whoever asked waits, and asks again.
struct HandRun<'a> {
    store: &'a Store,
    run: Run,
}

impl<'a> HandRun<'a> {
    /// A run of `job` as of `asked_us`; none where results are not recorded.
    fn begin(store: Option<&'a Store>, job: &'static str, asked_us: i64, parameters: Value) -> Option<Self> {
        let (store, asked) = (store?, DateTime::from_timestamp_micros(asked_us)?);
        let mut run = Run::of_question(job, asked, parameters);
        run.begin(store, SystemClock.unix_us());
        Some(Self { store, run })
    }

    /// Records what it came to. A question that was wrong is no run.
    async fn end<T>(mut self, result: anyhow::Result<T>, summary: impl FnOnce(&T) -> String) -> anyhow::Result<T> {
        let step = match &result {
            Ok(found) => {
                self.run.summary = Some(summary(found));
                Step::Succeeded
            }
            Err(error) => {
                let kind = error.downcast_ref::<Error>().map(Error::kind);
                if matches!(kind, None | Some(ErrorKind::Invalid)) {
                    return result;
                }
                self.run.error = Some(format!("{error:#}"));
                Step::Failed
            }
        };
        let recorded = self.run.record(self.store, step, SystemClock.unix_us()).await;
        let found = result?;
        recorded.context("the result is recorded, and the run that made it is not")?;
        Ok(found)
    }
}

impl Desk<'_> {
    /// Computes and records drift scores, and that they were asked for.
    ///
    /// # Errors
    /// See [`Self::drift_run`]; the run cannot be recorded.
    pub(crate) async fn drift_by_hand(&self, question: &DriftQuestion) -> anyhow::Result<DriftRun> {
        // As a row of `runs` it can be asked again.
        let question = &question.settled(self.now_us);
        let parameters = json!({ "job": "drift", "question": question.written(self.drift) });
        let hand_run = HandRun::begin(self.store, "drift", self.now_us, parameters);
        let result = self.drift_run(question).await;
        let Some(hand_run) = hand_run else { return result };
        hand_run.end(result, |run| drift_summary(question.metric.as_deref().unwrap_or("all inputs"), run)).await
    }

    /// Checks points and records them as a batch, and that it was asked for.
    ///
    /// # Errors
    /// See [`Self::check_stream`]; the run cannot be recorded.
    pub(crate) async fn check_by_hand(&self, question: &StreamQuestion) -> anyhow::Result<CheckedStream> {
        let parameters = json!({ "job": "check", "question": question });
        let hand_run = HandRun::begin(self.store, "check", self.now_us, parameters);
        let result = self.check_stream(question).await;
        let Some(hand_run) = hand_run else { return result };
        hand_run.end(result, |checked| checked.summary(&question.metric)).await
    }
}

/// Records a batch that was judged beside its data, and the run of the check that began at `record.started_us`; a batch that is released
/// was not checked again.
///
/// # Errors
/// A record that no check makes; those of the store.
pub(crate) async fn record_batch(store: &Store, record: &DatasetRecord, now_us: i64) -> Result<i64, Error> {
    let version = store.write_result(TABLE, record.to_batch(now_us)?).await?;
    let asked = record.started_us.filter(|_| record.release_reason.is_none());
    if let Some(asked) = asked.and_then(DateTime::from_timestamp_micros) {
        let mut run = Run::of_question("check", asked, record.parameters());
        run.begin(store, asked.timestamp_micros());
        run.summary = Some(record.summary());
        run.record(store, Step::Succeeded, now_us).await?;
    }
    Ok(version)
}
