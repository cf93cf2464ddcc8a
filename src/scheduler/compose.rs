//! What each job finds, and the letters that tell it.

use anyhow::Context as _;
use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use datafusion::prelude::SessionContext;
use driftwatt_analyze::{
    PriceBook, Window,
    delivery::{Attachment, DeliveryAttempt, Letter, Outbox, Outcome},
    drift::{Source, decision::Status},
    gates::Notice,
    idle::alert::{self, AlertRequest},
    lineage::answer::LineageScope,
    owner_mail::OwnerMail,
    page,
    schedule::{Attach, CheckJob, DriftJob, Job, Schedule},
};
use driftwatt_ingest::Ingest;
use driftwatt_store::Store;
use serde_json::{Value, json};

use crate::{
    answers::{
        Desk, DriftQuestion, DriftSettings, Format, LastDays, RecommendQuestion, StreamQuestion, WeeklyQuestion,
        drift_summary,
    },
    drift_gauges,
};

/// What a job reads and knows.
pub(super) struct Sources<'a> {
    pub(super) session: &'a SessionContext,
    pub(super) store: &'a Store,
    pub(super) prices: Option<PriceBook>,
    pub(super) drift: &'a DriftSettings,
    pub(super) holidays: &'a [NaiveDate],
    pub(super) outbox: &'a Outbox,
    pub(super) ingest: Option<&'a Ingest>,
    pub(super) schedule: &'a Schedule,
    /// Who gets the result by mail.
    pub(super) to: Vec<String>,
    /// The time that the job takes for now.
    pub(super) scheduled: DateTime<Utc>,
    /// What the reader has to know of the run.
    pub(super) note: Option<&'a str>,
}

/// What a job found.
pub(super) struct Composed {
    /// In a line, for the table `runs`.
    pub(super) summary: String,
    /// The whole question, so that it can be asked again.
    pub(super) parameters: Value,
    pub(super) letters: Vec<Letter>,
    /// Of the idle alert: what to remember once it arrived.
    pub(super) mails: Vec<OwnerMail>,
}

/// A result in every form.
pub(super) struct Forms {
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) html: String,
    pub(super) json: String,
    pub(super) csv: Option<String>,
}

/// Runs the job.
///
/// # Errors
/// Those of the job.
pub(super) async fn compose(sources: &Sources<'_>) -> anyhow::Result<Composed> {
    match &sources.schedule.job {
        Job::WeeklyReport => sources.weekly().await,
        Job::Recommend { days } => sources.recommend(*days).await,
        Job::IdleAlert { hours, repeat_hours } => sources.idle(*hours, *repeat_hours).await,
        Job::Drift(drift) => sources.drift(drift).await,
        Job::Check(check) => sources.check(check).await,
        Job::Diagnose(job) => sources.diagnose(job).await,
    }
}

/// Records what must not be told again, of those who were reached.
///
/// # Errors
/// Those of the store.
pub(super) async fn remember(
    sources: &Sources<'_>,
    composed: &Composed,
    attempts: &[DeliveryAttempt],
) -> anyhow::Result<()> {
    let reached = |mail: &&OwnerMail| {
        let mut delivered = attempts.iter().filter(|attempt| attempt.outcome == Outcome::Delivered);
        // A webhook tells of all of them.
        delivered.any(|attempt| {
            attempt.channel == "webhook"
                || (attempt.recipient.eq_ignore_ascii_case(&mail.to) && attempt.subject == mail.subject)
        })
    };
    let told: Vec<&OwnerMail> = composed.mails.iter().filter(reached).collect();
    Ok(alert::record_told(sources.store, &told, sources.scheduled.timestamp_micros()).await?)
}

/// Who is told of a batch that may not be used: whoever the settings name, else the owner of its contract, else whoever is told by default.
pub(super) fn told(notice: &Notice<'_>, outbox: &Outbox, named: Option<&[String]>) -> Vec<String> {
    if let Some(named) = named {
        return Outbox::addresses(named);
    }
    let owner = notice.owner().and_then(|owner| outbox.address_of(owner));
    owner.map_or_else(|| outbox.usual_recipients(), |owner| vec![owner])
}

/// `2026-11-23T06:00:00Z`.
pub(super) fn time_text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

impl Sources<'_> {
    fn desk(&self) -> Desk<'_> {
        Desk {
            session: self.session,
            store: Some(self.store),
            prices: self.prices.clone(),
            holidays: self.holidays.to_vec(),
            scope: LineageScope::default(),
            drift: self.drift,
            now_us: self.scheduled.timestamp_micros(),
        }
    }

    /// One letter to everybody of the schedule.
    pub(super) fn letter(&self, forms: Forms) -> anyhow::Result<Letter> {
        let name = format!("{}-{}", self.schedule.name, self.scheduled.format("%Y-%m-%d"));
        let attached = self.schedule.attach.iter().filter_map(|attach| {
            let (extension, content_type, content) = match attach {
                Attach::Html => ("html", "text/html; charset=utf-8", Some(&forms.html)),
                Attach::Json => ("json", "application/json", Some(&forms.json)),
                Attach::Csv => ("csv", "text/csv; charset=utf-8", forms.csv.as_ref()),
            };
            Some(Attachment {
                file_name: format!("{name}.{extension}"),
                content_type: content_type.into(),
                content: content?.clone().into_bytes(),
            })
        });
        let attachments = attached.collect();
        let note = self.note.map(|note| format!("Note: {note}."));
        let (text, html) = match &note {
            Some(note) => (format!("{note}\n\n{}", forms.text), page::noted(&forms.html, note)),
            None => (forms.text, forms.html),
        };
        Ok(Letter {
            to: self.to.clone(),
            webhooks: self.schedule.webhooks.clone(),
            event: self.schedule.job.as_str(),
            subject: forms.subject,
            text,
            html,
            attachments,
            result: self.result(serde_json::from_str(&forms.json).context("the result as JSON")?),
        })
    }

    fn result(&self, found: Value) -> Value {
        json!({ "schedule": self.schedule.name, "scheduled": time_text(self.scheduled), "note": self.note, "found": found })
    }

    async fn weekly(&self) -> anyhow::Result<Composed> {
        let question = WeeklyQuestion {
            time_zone: Some(self.schedule.time_zone().name().to_owned()),
            ..WeeklyQuestion::default()
        };
        let report = self.desk().weekly_report(&question).await?;
        let label = report.request.window.label_in(self.schedule.time_zone());
        let mark =
            if report.data() == "real" { String::new() } else { format!(" ({} data)", report.data().to_uppercase()) };
        let summary = match report.rows().count() {
            0 => format!("{label}: no telemetry"),
            count => format!("{label}: {count} rows from {} samples{mark}", report.row_count),
        };
        let letter = self.letter(Forms {
            subject: format!("Weekly report {label}{mark}"),
            text: report.to_text(),
            html: report.to_html(),
            json: report.to_json()?,
            csv: Some(report.to_csv()),
        })?;
        let parameters = json!({ "job": "weekly-report", "week": label });
        Ok(Composed { summary, parameters, letters: vec![letter], mails: vec![] })
    }

    async fn recommend(&self, days: u32) -> anyhow::Result<Composed> {
        let last = LastDays {
            days: Some(days),
            to: Some(time_text(self.scheduled)),
            time_zone: Some(self.schedule.time_zone().name().to_owned()),
        };
        let question = RecommendQuestion { last, ..RecommendQuestion::default() };
        let report = self.desk().recommend_report(&question).await?;
        let shrink = report.services.iter().filter(|service| service.recommendation().is_some()).count();
        let mut summary = format!("{shrink} of {} services can do with fewer GPUs", report.services.len());
        let containers = &report.containers.verdicts;
        for (count, what) in [
            (containers.iter().filter(|of| of.change().is_some()).count(), "containers need other requests"),
            (report.undo.len(), "changes should be taken back"),
        ] {
            if count > 0 {
                summary += &format!(", {count} {what}");
            }
        }
        let is_simulated = report.services.iter().any(|of| of.simulated) || containers.iter().any(|of| of.simulated);
        let subject = format!("{summary}{}", if is_simulated { " (SIMULATED data among them)" } else { "" });
        let (text, json) = (report.to_text(), report.to_json()?);
        let html = page::of_text(&subject, &text);
        let parameters = json!({ "job": "recommend", "question": question });
        let letter = self.letter(Forms { subject, text, html, json, csv: None })?;
        Ok(Composed { summary, parameters, letters: vec![letter], mails: vec![] })
    }

    async fn idle(&self, hours: u32, repeat_hours: u32) -> anyhow::Result<Composed> {
        let end_us = self.scheduled.timestamp_micros();
        let request = AlertRequest {
            window: Window::new(end_us - i64::from(hours) * 3_600_000_000, end_us)?,
            prices: self.prices.clone(),
            now_us: end_us,
            repeat_hours,
            default_owner: self.to.first().cloned().unwrap_or_else(|| "nobody".into()),
        };
        let found = alert::check(self.session, &request, |owner| self.outbox.address_of(owner)).await?;
        let new = found.mails.iter().map(|mail| mail.gpus.len()).sum::<usize>();
        let summary = format!(
            "{} GPUs, {} idle, {new} of {} owners to tell",
            found.report.gpus.len(),
            found.idle_count,
            found.mails.len()
        );
        let is_usual = |mail: &OwnerMail| self.to.first().is_some_and(|to| to.eq_ignore_ascii_case(&mail.to));
        let by_mail = found.mails.iter().filter(|_| !self.to.is_empty()).map(|mail| Letter {
            to: if is_usual(mail) { self.to.clone() } else { vec![mail.to.clone()] },
            webhooks: vec![],
            event: self.schedule.job.as_str(),
            subject: mail.subject.clone(),
            text: mail.text.clone(),
            html: mail.html.clone(),
            attachments: vec![],
            result: Value::Null,
        });
        let mut letters: Vec<Letter> = by_mail.collect();
        if !found.mails.is_empty() && !self.schedule.webhooks.is_empty() {
            let texts: Vec<&str> = found.mails.iter().map(|mail| mail.text.as_str()).collect();
            letters.push(Letter {
                to: vec![],
                webhooks: self.schedule.webhooks.clone(),
                event: self.schedule.job.as_str(),
                subject: format!("{new} idle GPUs"),
                text: texts.join("\n"),
                html: String::new(),
                attachments: vec![],
                result: self.result(serde_json::from_str(&found.report.to_json()?)?),
            });
        }
        let mut parameters = json!(self.schedule.job);
        parameters["window"] = json!(request.window);
        Ok(Composed { summary, parameters, letters, mails: found.mails })
    }

    async fn check(&self, job: &CheckJob) -> anyhow::Result<Composed> {
        let from = self.scheduled - chrono::TimeDelta::hours(i64::from(job.hours));
        let file = job.contract.display().to_string();
        let question = StreamQuestion {
            metric: job.metric.clone(),
            filter: job.filter.clone(),
            window: format!("{}/{}", time_text(from), time_text(self.scheduled)),
            contract: std::fs::read_to_string(&job.contract).with_context(|| format!("read {file}"))?,
            contract_file: file,
            table: job.table.clone(),
            format: Format::Text,
        };
        let checked = self.desk().check_stream(&question).await?;
        let summary = checked.summary(&job.metric);
        let parameters = json!({ "job": "check", "question": question });
        if checked.checked.accepts() {
            return Ok(Composed { summary, parameters, letters: vec![], mails: vec![] });
        }
        let notice = checked.notice();
        let to = told(&notice, self.outbox, self.schedule.to.as_deref());
        let letter = notice.letter(to, self.schedule.webhooks.clone());
        Ok(Composed { summary, parameters, letters: vec![letter], mails: vec![] })
    }

    async fn drift(&self, job: &DriftJob) -> anyhow::Result<Composed> {
        // States are of whole hours of UTC, which are not those of every time zone.
        let past_hour = match job.source {
            Source::States => {
                chrono::TimeDelta::microseconds(self.scheduled.timestamp_micros().rem_euclid(3_600_000_000))
            }
            _ => chrono::TimeDelta::zero(),
        };
        let until = self.scheduled - past_hour;
        let from = until - chrono::TimeDelta::hours(i64::from(job.hours));
        let question = DriftQuestion {
            metric: Some(job.metric.clone()),
            current: format!("{}/{}", time_text(from), time_text(until)),
            filter: job.filter.clone(),
            by: job.by.clone(),
            reference: job.reference.clone(),
            source: (job.source != Source::Auto).then(|| job.source.as_str().to_owned()),
            ..DriftQuestion::default()
        };
        let desk = self.desk();
        let run = desk.drift_run(&question).await?;
        if let Some(ingest) = self.ingest {
            drift_gauges::store(&run, ingest).await;
        }
        let summary = drift_summary(&job.metric, &run);
        let parameters = json!({ "job": "drift", "question": question.written(self.drift) });
        if run.status() == Status::Ok {
            return Ok(Composed { summary, parameters, letters: vec![], mails: vec![] });
        }
        let written = async |format| {
            Ok::<_, anyhow::Error>(desk.drift_answer(&run, &DriftQuestion { format, ..question.clone() }).await?.text)
        };
        let (text, json, html) =
            (written(Format::Text).await?, written(Format::Json).await?, written(Format::Html).await?);
        let subject = summary.replace(char::is_control, " ");
        let letter = self.letter(Forms { subject, text, html, json, csv: None })?;
        Ok(Composed { summary, parameters, letters: vec![letter], mails: vec![] })
    }
}
