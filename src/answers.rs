//! The answers, asked the same way from the command line and over HTTP.

mod drift_settings;
mod hand_run;
mod question;
mod report_text;
mod stream_check;

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use chrono::{DateTime, NaiveDate};
use datafusion::prelude::SessionContext;
use driftwatt_analyze::{
    PriceBook, Tz,
    diagnosis::{
        reader::Subject as Diagnosed,
        report::{self as diagnosis_report, DiagnoseRequest},
    },
    drift::{self, DriftRun, Filter, decision::Thresholds},
    idle::{self, IdleRequest},
    ledger::{self, Decision},
    lineage::{
        answer::{self as lineage_answer, LineageRequest, LineageScope},
        deployment_mark::DeploymentMark,
        service_timelines,
    },
    off_peak::{self, OffPeakRequest, OffPeakRules},
    recommend::{self, ManifestRequest, RecommendReport, RecommendRequest},
    report::{self, WeeklyReport, WeeklyRequest},
};
use driftwatt_store::Store;

pub(crate) use drift_settings::{DriftSection, DriftSettings};
pub(crate) use hand_run::record_batch;
pub(crate) use question::{
    DecideQuestion, DiagnoseQuestion, DriftQuestion, Format, IdleQuestion, LastDays, LineageQuestion, MarkQuestion,
    OffPeakQuestion, RecommendQuestion, WeeklyQuestion, When,
};
use question::{parse_time, window};
pub(crate) use report_text::report_text;
pub(crate) use stream_check::{StreamQuestion, past_batches_of};

/// A rendered answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    /// Of a drift score: its status, such as `ok` or `critical`.
    pub(crate) verdict: Option<String>,
}

/// The HTTP header that carries [`Answer::verdict`].
pub(crate) const VERDICT_HEADER: &str = "driftwatt-verdict";

impl From<String> for Answer {
    fn from(text: String) -> Self {
        Self { text, verdict: None }
    }
}

/// What the jobs read and write.
pub(crate) struct Desk<'a> {
    pub(crate) session: &'a SessionContext,
    /// Where results are recorded; `None` computes without a trace.
    pub(crate) store: Option<&'a Store>,
    pub(crate) prices: Option<PriceBook>,
    /// Days that stand for no usual week.
    pub(crate) holidays: Vec<NaiveDate>,
    /// What answers about lineage look at.
    pub(crate) scope: LineageScope,
    /// What features weigh, and windows that have a name.
    pub(crate) drift: &'a DriftSettings,
    /// The time of the answer, UTC microseconds.
    pub(crate) now_us: i64,
}

/// Reads the price book at `path`, if there is one.
///
/// # Errors
/// A file that cannot be read or is not a price book.
pub(crate) fn read_prices(path: Option<&PathBuf>) -> anyhow::Result<Option<PriceBook>> {
    let Some(path) = path else { return Ok(None) };
    let text = std::fs::read_to_string(path).with_context(|| format!("read price book {}", path.display()))?;
    Ok(Some(PriceBook::parse(&text).with_context(|| format!("read price book {}", path.display()))?))
}

impl Desk<'_> {
    /// Computes and records the weekly report.
    ///
    /// # Errors
    /// An unreadable question, a failed query.
    pub(crate) async fn weekly_report(&self, question: &WeeklyQuestion) -> anyhow::Result<WeeklyReport> {
        let zone = zone(question.time_zone.as_deref())?;
        let window = question.when.window(self.now_us, zone)?;
        let request = WeeklyRequest {
            window,
            zone,
            prices: self.prices.clone(),
            holidays: self.holidays.clone(),
            now_us: self.now_us,
        };
        Ok(report::weekly(self.session, self.store, &request).await?)
    }

    /// The weekly report, rendered.
    ///
    /// # Errors
    /// An unreadable question, a failed query.
    pub(crate) async fn weekly(&self, question: &WeeklyQuestion) -> anyhow::Result<String> {
        let report = self.weekly_report(question).await?;
        Ok(match question.format {
            Format::Text => report.to_text(),
            Format::Md => report.to_markdown(),
            Format::Html => report.to_html(),
            Format::Json => report.to_json()?,
            Format::Csv => report.to_csv(),
            Format::Focus => report.to_focus()?,
        })
    }

    /// Computes, records and renders the idle examination.
    ///
    /// # Errors
    /// An unreadable question, a format it does not have, a failed query.
    pub(crate) async fn idle(&self, question: &IdleQuestion) -> anyhow::Result<String> {
        question.format.is_written("the idle examination is")?;
        let request = IdleRequest::new(question.when.window(self.now_us, Tz::UTC)?);
        let report = idle::examine(self.session, self.store, &request, self.now_us).await?;
        Ok(match question.format {
            Format::Json => report.to_json()?,
            Format::Html => report.to_html(),
            _ => report.to_text(),
        })
    }

    /// Computes and records what to do about services that hold more GPUs than they use.
    ///
    /// # Errors
    /// An unreadable question, a failed query.
    pub(crate) async fn recommend_report(&self, question: &RecommendQuestion) -> anyhow::Result<RecommendReport> {
        let (window, zone) = (question.last.window(self.now_us)?, zone(question.last.time_zone.as_deref())?);
        let manifests = question.manifests.then(|| ManifestRequest { prometheus: question.prometheus.clone() });
        let request = RecommendRequest {
            window,
            zone,
            prices: self.prices.clone(),
            manifests,
            holidays: self.holidays.clone(),
            now_us: self.now_us,
        };
        Ok(recommend::recommend(self.session, self.store, &request).await?)
    }

    /// The recommendations, rendered.
    ///
    /// # Errors
    /// An unreadable question, a format it does not have, a failed query.
    pub(crate) async fn recommend(&self, question: &RecommendQuestion) -> anyhow::Result<String> {
        question.format.is_written("recommendations are")?;
        let report = self.recommend_report(question).await?;
        Ok(match question.format {
            Format::Json => report.to_json()?,
            Format::Html => report.to_html(),
            _ => report.to_text(),
        })
    }

    /// Computes, records and renders why the latency of a service changed.
    ///
    /// # Errors
    /// An unreadable question, a service that is not there, a format it does not have, a failed query.
    pub(crate) async fn diagnose(&self, question: &DiagnoseQuestion) -> anyhow::Result<String> {
        ensure!(
            !matches!(question.format, Format::Csv | Format::Focus),
            "a diagnosis is written as text, json, html or md"
        );
        let between = match (&question.from, &question.to) {
            (Some(from), Some(to)) => Some(window(from, to)?),
            (None, None) => None,
            _ => bail!("give both from and to, or only at"),
        };
        let at_us = question.at.as_deref().filter(|at| !at.is_empty()).map(parse_time).transpose()?;
        let filters = question.filter.split(',').filter(|filter| !filter.is_empty());
        let filters = filters.map(Filter::parse).collect::<Result<_, _>>()?;
        let subject = Diagnosed { service: question.service.clone(), filters };
        let request = DiagnoseRequest::new(subject, between, at_us, self.now_us)?;
        let report = diagnosis_report::run(self.session, self.store, &request).await?;
        Ok(match question.format {
            Format::Json => report.to_json()?,
            Format::Html => report.to_html(),
            Format::Md => report.to_markdown(),
            Format::Text | Format::Csv | Format::Focus => report.to_text(),
        })
    }

    /// Puts together and renders what made what ran. Nothing is recorded.
    ///
    /// # Errors
    /// An unreadable question, a service of which nothing is known, a format it does not have, a failed query.
    pub(crate) async fn lineage(&self, question: &LineageQuestion) -> anyhow::Result<String> {
        let is_json = question.format.is_json("lineage is")?;
        let request = LineageRequest {
            service: question.service.clone(),
            model: question.model.clone(),
            at_us: question.at.as_deref().filter(|at| !at.is_empty()).map(parse_time).transpose()?,
            days: question.days.unwrap_or(service_timelines::DAYS_USUAL),
            scope: self.scope.clone(),
            prices: self.prices.clone(),
            now_us: self.now_us,
        };
        let report = lineage_answer::run(self.session, &request).await?;
        Ok(if is_json { report.to_json()? } else { report.to_text() })
    }

    /// Records a deployment.
    ///
    /// # Errors
    /// An unreadable time, a mark without service or version, no store to write to.
    pub(crate) async fn mark(&self, question: &MarkQuestion) -> anyhow::Result<String> {
        let now_us = self.now_us;
        let MarkQuestion { service, version, at, environment, model } = question.clone();
        let time_us = at.as_deref().map_or(Ok(now_us), parse_time)?;
        let mark = DeploymentMark { time_us, service, environment, model, version, received_us: now_us };
        let store = self.store.context("a deployment is recorded, so it is sent with POST")?;
        mark.write(store).await?;
        // The mark is kept; what follows from it can be written again at any time.
        if let Err(error) = service_timelines::record(self.session, store, mark.service.trim(), now_us).await {
            tracing::warn!(service = mark.service, %error, "a deployment is marked, but reports.deployments could not be brought up to it");
        }
        let when = DateTime::from_timestamp_micros(time_us).unwrap_or_default().format("%Y-%m-%d %H:%M:%S UTC");
        Ok(format!("marked: {} {} at {when}\n", mark.service, mark.version))
    }

    /// Computes, records and renders when training may run.
    ///
    /// # Errors
    /// An unreadable question, a format it does not have, a failed query.
    pub(crate) async fn off_peak(&self, question: &OffPeakQuestion) -> anyhow::Result<String> {
        question.format.is_written("off-peak hours are")?;
        let usual = OffPeakRules::default();
        let gpus_needed = question.gpus.unwrap_or(usual.gpus_needed);
        ensure!(gpus_needed.is_finite() && gpus_needed > 0.0, "a job needs more than 0 GPUs, not {gpus_needed}");
        let hours_min = question.hours.unwrap_or(usual.hours_min);
        ensure!((1..=168).contains(&hours_min), "a job needs 1 to 168 hours in a row, not {hours_min}");
        let request = OffPeakRequest {
            window: question.last.window(self.now_us)?,
            zone: zone(question.last.time_zone.as_deref())?,
            prices: self.prices.clone(),
            rules: OffPeakRules { gpus_needed, hours_min, ..usual },
            files: question.manifests,
            holidays: self.holidays.clone(),
            now_us: self.now_us,
        };
        let report = off_peak::examine(self.session, self.store, &request).await?;
        Ok(match question.format {
            Format::Json => report.to_json()?,
            Format::Html => report.to_html(),
            _ => report.to_text(),
        })
    }

    /// Records what somebody says to a recommendation; the answer is the row of the ledger, as text or as JSON.
    ///
    /// # Errors
    /// No such recommendation, or it was decided before; a failed query.
    pub(crate) async fn decide(
        &self,
        id: &str,
        decision: Decision,
        question: &DecideQuestion,
    ) -> anyhow::Result<String> {
        let store = self.store.context("a decision is recorded: ask by POST")?;
        let is_json = question.format.is_json("a decision is")?;
        let note = question.note.as_deref();
        let entry = ledger::decide(self.session, store, id, decision, note, self.now_us).await?;
        Ok(if is_json { serde_json::to_string(&entry)? } else { entry.text() + "\n" })
    }

    /// Computes and records drift scores.
    ///
    /// # Errors
    /// An unreadable question, sides that cannot be compared, a failed query.
    pub(crate) async fn drift_run(&self, question: &DriftQuestion) -> anyhow::Result<DriftRun> {
        ensure!(
            matches!(question.format, Format::Text | Format::Json | Format::Html),
            "drift scores are written as text, json or html"
        );
        let request = question.request(self.session, self.drift).await?;
        let run = drift::run(self.session, self.store, &request, &self.thresholds(question)?, self.now_us).await?;
        // The only feature has no score, so the run is a question without an answer.
        if let ([_], true, Some(refused)) = (request.subjects.as_slice(), run.scores.is_empty(), run.refused.first()) {
            bail!("{}", refused.reason);
        }
        Ok(run)
    }

    fn thresholds(&self, question: &DriftQuestion) -> anyhow::Result<Thresholds> {
        Ok(Thresholds { weights: self.drift.weights.clone(), ..question.thresholds()? })
    }

    /// Renders drift scores.
    ///
    /// # Errors
    /// A failed query.
    pub(crate) async fn drift_answer(&self, run: &DriftRun, question: &DriftQuestion) -> anyhow::Result<Answer> {
        // One feature is explained, many are listed.
        let alone = run.scores.first().filter(|_| run.request.subjects.len() == 1 && run.request.by.is_none());
        let text = match (question.format, alone) {
            (Format::Html, _) => {
                let timelines = drift::timelines(self.session, &run.scores).await?;
                run.to_page(&timelines, &self.thresholds(question)?, self.now_us).to_html()
            }
            (Format::Json, None) => run.to_json()?,
            (Format::Json, Some(score)) => score.to_json_beside(run.season_of(score))?,
            (_, None) => run.to_text(),
            (_, Some(score)) => score.to_text_beside(run.season_of(score)),
        };
        Ok(Answer { text, verdict: Some(run.status().as_str().to_owned()) })
    }

    /// Computes, records and renders drift scores that somebody asked for.
    ///
    /// # Errors
    /// See [`Self::drift_by_hand`] and [`Self::drift_answer`].
    pub(crate) async fn drift(&self, question: &DriftQuestion) -> anyhow::Result<Answer> {
        let run = self.drift_by_hand(question).await?;
        self.drift_answer(&run, question).await
    }
}

/// What a run found, in a line.
pub(crate) fn drift_summary(what: &str, run: &DriftRun) -> String {
    let is_simulated = run.scores.iter().any(|score| score.simulated());
    let mark = if is_simulated { "SIMULATED: " } else { "" };
    format!("{mark}drift of {what}: {}", run.status().as_str())
}

fn zone(name: Option<&str>) -> anyhow::Result<Tz> {
    let name = name.unwrap_or("UTC");
    name.parse().ok().with_context(|| format!("{name:?} is no time zone like Europe/Berlin"))
}
