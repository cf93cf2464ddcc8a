//! The job `diagnose`: services whose latency is over a limit are diagnosed, and people are told what it is.

use driftwatt_analyze::{
    Error, Window,
    diagnosis::{
        reader::{self, Subject},
        report::{self, DiagnoseRequest, DiagnosisReport},
        verdict::Verdict,
    },
    page,
    schedule::DiagnoseJob,
};
use driftwatt_store::ErrorKind;
use serde_json::{Value, json};

use super::compose::{Composed, Forms, Sources};

/// What a look at one service came to.
enum Looked {
    /// Its latency is within the limit.
    Within,
    /// It was diagnosed.
    Diagnosed(Box<DiagnosisReport>),
    /// It could not be looked at, in words.
    Unknown(String),
}

impl Sources<'_> {
    /// Diagnoses, and tells of every service that is over its limit; without a limit of every one whose latency changed.
    pub(super) async fn diagnose(&self, job: &DiagnoseJob) -> anyhow::Result<Composed> {
        let (mut reports, mut unknown) = (Vec::new(), Vec::new());
        for service in &job.services {
            match self.look(job, service).await? {
                Looked::Within => {}
                Looked::Diagnosed(report) => reports.push(*report),
                Looked::Unknown(why) => unknown.push(format!("{service}: {why}")),
            }
        }
        let what = if job.p95_ms_max.is_some() { "over the limit" } else { "diagnosed" };
        let unknown_text = if unknown.is_empty() { String::new() } else { format!(", {} not known", unknown.len()) };
        let summary = format!("{} of {} services {what}{unknown_text}", reports.len(), job.services.len());
        let parameters = json!(self.schedule.job);
        // Whoever named no limit hears of changes only.
        let is_told = |report: &&DiagnosisReport| job.p95_ms_max.is_some() || report.diagnosis.verdict != Verdict::None;
        let told: Vec<&DiagnosisReport> = reports.iter().filter(is_told).collect();
        if told.is_empty() {
            let summary = if unknown.is_empty() { summary } else { format!("{summary}: {}", unknown.join("; ")) };
            return Ok(Composed { summary, parameters, letters: vec![], mails: vec![] });
        }
        let is_simulated = told.iter().any(|report| report.diagnosis.simulated);
        let mark = if is_simulated { "SIMULATED: " } else { "" };
        let names: Vec<&str> = told.iter().map(|report| report.diagnosis.service.as_str()).collect();
        let subject = format!("{mark}latency of {}", names.join(", ")).replace(char::is_control, " ");
        let mut text = told.iter().map(|report| report.to_text()).collect::<Vec<_>>().join("\n");
        unknown.iter().for_each(|why| text += &format!("\nnot looked at: {why}\n"));
        let html = match told[..] {
            [only] if unknown.is_empty() => only.to_html(),
            _ => page::of_text(&subject, &text),
        };
        let found =
            told.iter().map(|report| -> anyhow::Result<Value> { Ok(serde_json::from_str(&report.to_json()?)?) });
        let json = Value::Array(found.collect::<anyhow::Result<_>>()?).to_string();
        let letter = self.letter(Forms { subject, text, html, json, csv: None })?;
        Ok(Composed { summary, parameters, letters: vec![letter], mails: vec![] })
    }

    async fn look(&self, job: &DiagnoseJob, service: &str) -> anyhow::Result<Looked> {
        let now_us = self.scheduled.timestamp_micros();
        let subject = Subject { service: service.to_owned(), filters: vec![] };
        if let Some(limit_ms) = job.p95_ms_max {
            let window = Window::new(now_us - i64::from(job.hours) * 3_600_000_000, now_us)?;
            let reading = match reader::read(self.session, &subject, window, now_us).await {
                Ok(reading) => reading,
                Err(error) => return unknown(error),
            };
            match reading.p95_ms() {
                None => {
                    return Ok(Looked::Unknown(
                        "the p95 of its latency is not known: send a histogram with buckets".into(),
                    ));
                }
                Some(p95_ms) if p95_ms <= f64::from(limit_ms) => return Ok(Looked::Within),
                Some(_) => {}
            }
        }
        let request = DiagnoseRequest::new(subject, None, None, now_us)?;
        match report::run(self.session, Some(self.store), &request).await {
            Ok(report) => Ok(Looked::Diagnosed(Box::new(report))),
            Err(error) => unknown(error),
        }
    }
}

/// What is wrong with one service is told beside the others; what is wrong with the server ends the job.
fn unknown(error: Error) -> anyhow::Result<Looked> {
    if error.kind() == ErrorKind::Invalid { Ok(Looked::Unknown(error.to_string())) } else { Err(error.into()) }
}
