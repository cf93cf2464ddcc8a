//! The diagnosis of a service as an answer: what was asked, what was read, the verdict, and the evidence with its SQL.

mod earlier_weeks;
mod html;
mod minute_lines;
mod record;
mod request;
mod sql;
#[cfg(test)]
mod tests;
mod text;

use datafusion::prelude::SessionContext;
use driftwatt_store::Store;
use serde::Serialize;

use super::{
    Diagnosis, Rules, diagnose,
    reader::{self, Reading},
    sentence::{self, Evidence},
};
use crate::{error::Result, window::MINUTE_US};
pub use record::TABLE;
pub use request::DiagnoseRequest;

/// A finding with what shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShownEvidence {
    /// What was found, with its size.
    pub finding: String,
    /// Effect on the mean latency, milliseconds, where it has one.
    pub effect_ms: Option<f64>,
    /// Its 95 % interval.
    pub effect_interval_ms: Option<(f64, f64)>,
    /// When it began, UTC microseconds.
    pub onset_us: Option<i64>,
    /// What would show that it is wrong.
    pub falsified_by: &'static str,
    /// What a person checks next.
    pub next_check: &'static str,
    /// SQL that shows it; none where nothing stored does.
    pub sql: Option<String>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct DiagnosisReport {
    /// What was asked.
    pub request: DiagnoseRequest,
    /// What was read.
    pub reading: Reading,
    /// The verdict and its numbers; minutes count from the start of the reading's span.
    pub diagnosis: Diagnosis,
    /// It in one sentence.
    pub sentence: String,
    /// In the order in which to look: events, machines, inputs.
    pub evidence: Vec<ShownEvidence>,
}

/// Reads and diagnoses and, given a store, adds a row to `diagnoses`.
///
/// # Errors
/// Those of [`reader::read`] and of the store; [`crate::Error::Diagnosis`] where the time asked about does not fit.
pub async fn run(ctx: &SessionContext, store: Option<&Store>, request: &DiagnoseRequest) -> Result<DiagnosisReport> {
    let reading = reader::read(ctx, &request.subject, request.window, request.now_us).await?;
    let mut report = DiagnosisReport::new(request.clone(), reading)?;
    earlier_weeks::add(ctx, &mut report).await?;
    if let Some(store) = store {
        store.write_result(TABLE, report.to_batch()?).await?;
    }
    Ok(report)
}

impl DiagnosisReport {
    fn new(request: DiagnoseRequest, reading: Reading) -> Result<Self> {
        let question = request.question(&reading);
        let diagnosis = diagnose(&reading.window, &question, &Rules::default())?;
        let shown = |evidence: Evidence| ShownEvidence {
            sql: sql::of(&evidence.subject, &request.subject, &reading),
            finding: evidence.finding,
            effect_ms: evidence.effect_ms.map(|effect| effect.0),
            effect_interval_ms: evidence.effect_ms.map(|effect| effect.1),
            onset_us: evidence.onset_minute.map(|minute| time_of(&reading, minute)),
            falsified_by: evidence.falsified_by,
            next_check: evidence.next_check,
        };
        let evidence = sentence::evidence(&diagnosis).into_iter().map(shown).collect();
        let sentence = sentence::sentence(&diagnosis);
        Ok(Self { request, reading, diagnosis, sentence, evidence })
    }

    /// The time of a minute of the window, UTC microseconds.
    fn time(&self, minute: usize) -> i64 {
        time_of(&self.reading, minute)
    }

    /// When the latency changed, UTC microseconds.
    fn onset_us(&self) -> Option<i64> {
        self.diagnosis.onset.as_ref().map(|onset| self.time(onset.minute))
    }
}

fn time_of(reading: &Reading, minute: usize) -> i64 {
    reading.span.start_us + minute as i64 * MINUTE_US
}
