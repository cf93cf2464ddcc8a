//! The answers, asked the same way from the command line and over HTTP.

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use chrono::{DateTime, NaiveDate, Utc};
use clap::{Args, ValueEnum};
use datafusion::prelude::SessionContext;
use driftwatt_analyze::{
    PriceBook, Window,
    diagnosis::{
        reader::Subject as Diagnosed,
        report::{self as diagnosis_report, DiagnoseRequest},
    },
    drift::{
        self, DriftRequest, Filter, Side, Source, Subject, decision::Thresholds, reference_window::trailing_window,
    },
    idle::{self, IdleRequest},
    lineage::deployment_mark::DeploymentMark,
    recommend::{self, RecommendRequest},
    report::{self, WeeklyRequest},
};
use driftwatt_store::Store;
use serde::{Deserialize, Serialize};

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Plain text that fits a terminal.
    #[default]
    Text,
    /// Markdown.
    Md,
    /// One self-contained page with charts.
    Html,
    /// JSON with everything.
    Json,
    /// One row per resource.
    Csv,
}

impl Format {
    /// Its media type.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Md => "text/markdown; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }
}

/// When: an ISO week, or a start and an end.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct When {
    /// ISO week, Monday to Monday UTC, such as 2026-W47. Default: the last complete week
    #[arg(long, conflicts_with_all = ["from", "to"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) week: Option<String>,
    /// Start, UTC: 2026-11-16 or 2026-11-16T09:00:00Z
    #[arg(long, requires = "to")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// End (not included), UTC
    #[arg(long, requires = "from")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
}

impl When {
    fn window(&self, now_us: i64) -> anyhow::Result<Window> {
        match (&self.week, &self.from, &self.to) {
            (Some(week), None, None) => Ok(Window::parse_week(week)?),
            (None, Some(from), Some(to)) => window(from, to),
            (None, None, None) => Ok(Window::last_complete_week(now_us)),
            _ => bail!("give either a week, or both from and to"),
        }
    }
}

fn window(from: &str, to: &str) -> anyhow::Result<Window> {
    Ok(Window::new(parse_time(from)?, parse_time(to)?)?)
}

fn parse_time(text: &str) -> anyhow::Result<i64> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.timestamp_micros());
    }
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().and_then(|date| date.and_hms_opt(0, 0, 0));
    let date = date.with_context(|| format!("{text:?} is not a UTC time like 2026-11-16 or 2026-11-16T09:00:00Z"))?;
    Ok(date.and_utc().timestamp_micros())
}

/// What is asked of the weekly report.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct WeeklyQuestion {
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) when: When,
    /// text, md, html, json or csv
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// What is asked of the idle examination.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct IdleQuestion {
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) when: When,
    /// text or json
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// What is asked of the recommendations.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RecommendQuestion {
    /// Days to look at, up to now; fewer than 7 give low confidence [default: 14]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=365))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) days: Option<u32>,
    /// End (not included), UTC, to repeat an earlier answer [default: now]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    /// Time zone of the users, such as Europe/Berlin, for the hours of their week [default: UTC]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time_zone: Option<String>,
    /// text or json
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// What is asked of the drift score.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DriftQuestion {
    /// Metric as it was sent, such as driftwatt.input.pixels
    #[arg(long)]
    pub(crate) metric: String,
    /// Reference window, UTC: FROM/TO such as 2026-11-09/2026-11-16 [default: the seven days before the current one]
    #[arg(long)]
    pub(crate) reference: Option<String>,
    /// Current window, UTC: FROM/TO
    #[arg(long)]
    pub(crate) current: String,
    /// Label that both sides must have: service.name=chat. Separate several with commas
    #[arg(long = "where", default_value = "")]
    pub(crate) filter: String,
    /// Labels of the reference side only
    #[arg(long, default_value = "")]
    pub(crate) reference_where: String,
    /// Labels of the current side only
    #[arg(long, default_value = "")]
    pub(crate) current_where: String,
    /// PSI from which a change is a warning [default: 0.1]
    #[arg(long)]
    pub(crate) psi_warn: Option<f64>,
    /// PSI from which it is critical [default: 0.25]
    #[arg(long)]
    pub(crate) psi_critical: Option<f64>,
    /// Windows in a row, as long as the current one, that a warning needs [default: 2]
    #[arg(long)]
    pub(crate) persistence: Option<u32>,
    /// text or json
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// What is asked of the diagnosis.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
pub(crate) struct DiagnoseQuestion {
    /// Service, as its telemetry names it (service.name)
    pub(crate) service: String,
    /// A moment at which latency was not as usual, UTC: the change is searched for in the hours around it. With --from and --to,
    /// the minute of the change, which is then believed
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<String>,
    /// Start, UTC: 2026-11-16T09:00:00Z; the first third of the time is taken for normal [default: six hours ago]
    #[arg(long, requires = "to")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// End, UTC [default: now]
    #[arg(long, requires = "from")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    /// Label that the requests must have: http.route=/v1/chat. Separate several with commas
    #[arg(long = "where", default_value = "")]
    #[serde(default)]
    pub(crate) filter: String,
    /// text, json, html or md
    #[arg(long, value_enum, default_value_t)]
    #[serde(default)]
    pub(crate) format: Format,
}

/// What was deployed.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
pub(crate) struct MarkQuestion {
    /// Service, as its telemetry names it (service.name)
    pub(crate) service: String,
    /// Version that is deployed
    pub(crate) version: String,
    /// When, UTC; may lie ahead [default: now]
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<String>,
    /// Environment, as its telemetry names it (deployment.environment.name) [default: all]
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) environment: Option<String>,
    /// Name of the model [default: what the telemetry says]
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
}

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

fn now_us() -> i64 {
    Utc::now().timestamp_micros()
}

impl Desk<'_> {
    /// Computes, records and renders the weekly report.
    ///
    /// # Errors
    /// An unreadable question, a failed query.
    pub(crate) async fn weekly(&self, question: &WeeklyQuestion) -> anyhow::Result<String> {
        let now_us = now_us();
        let window = question.when.window(now_us)?;
        let request = WeeklyRequest { window, prices: self.prices.clone(), now_us };
        let report = report::weekly(self.session, self.store, &request).await?;
        Ok(match question.format {
            Format::Text => report.to_text(),
            Format::Md => report.to_markdown(),
            Format::Html => report.to_html(),
            Format::Json => report.to_json()?,
            Format::Csv => report.to_csv(),
        })
    }

    /// Computes, records and renders the idle examination.
    ///
    /// # Errors
    /// An unreadable question, a format it does not have, a failed query.
    pub(crate) async fn idle(&self, question: &IdleQuestion) -> anyhow::Result<String> {
        let now_us = now_us();
        let request = IdleRequest::new(question.when.window(now_us)?);
        let report = idle::examine(self.session, self.store, &request, now_us).await?;
        match question.format {
            Format::Text => Ok(report.to_text()),
            Format::Json => Ok(report.to_json()?),
            _ => bail!("the idle examination is written as text or json"),
        }
    }

    /// Computes, records and renders what to do about services that hold more GPUs than they use.
    ///
    /// # Errors
    /// An unreadable question, a format it does not have, a failed query.
    pub(crate) async fn recommend(&self, question: &RecommendQuestion) -> anyhow::Result<String> {
        let now_us = now_us();
        let end_us = question.to.as_deref().map_or(Ok(now_us), parse_time)?;
        let days = i64::from(question.days.unwrap_or(14));
        let zone = question.time_zone.as_deref().unwrap_or("UTC");
        let zone = zone.parse().ok().with_context(|| format!("{zone:?} is no time zone like Europe/Berlin"))?;
        let window = Window::new(end_us - days * 86_400_000_000, end_us)?;
        let request = RecommendRequest { window, zone, prices: self.prices.clone(), now_us };
        let report = recommend::recommend(self.session, self.store, &request).await?;
        match question.format {
            Format::Text => Ok(report.to_text()),
            Format::Json => Ok(report.to_json()?),
            _ => bail!("recommendations are written as text or json"),
        }
    }

    /// Computes, records and renders why the latency of a service changed.
    ///
    /// # Errors
    /// An unreadable question, a service that is not there, a format it does not have, a failed query.
    pub(crate) async fn diagnose(&self, question: &DiagnoseQuestion) -> anyhow::Result<String> {
        let between = match (&question.from, &question.to) {
            (Some(from), Some(to)) => Some(window(from, to)?),
            (None, None) => None,
            _ => bail!("give both from and to, or only at"),
        };
        let at_us = question.at.as_deref().map(parse_time).transpose()?;
        let filters = question.filter.split(',').filter(|filter| !filter.is_empty());
        let filters = filters.map(Filter::parse).collect::<Result<_, _>>()?;
        let subject = Diagnosed { service: question.service.clone(), filters };
        let request = DiagnoseRequest::new(subject, between, at_us, now_us())?;
        let report = diagnosis_report::run(self.session, self.store, &request).await?;
        Ok(match question.format {
            Format::Text => report.to_text(),
            Format::Json => report.to_json()?,
            Format::Html => report.to_html(),
            Format::Md => report.to_markdown(),
            Format::Csv => bail!("a diagnosis is written as text, json, html or md"),
        })
    }

    /// Records a deployment.
    ///
    /// # Errors
    /// An unreadable time, a mark without service or version, no store to write to.
    pub(crate) async fn mark(&self, question: &MarkQuestion) -> anyhow::Result<String> {
        let now_us = now_us();
        let MarkQuestion { service, version, at, environment, model } = question.clone();
        let time_us = at.as_deref().map_or(Ok(now_us), parse_time)?;
        let mark = DeploymentMark { time_us, service, environment, model, version, received_us: now_us };
        mark.write(self.store.context("a deployment is recorded, so it is sent with POST")?).await?;
        let when = DateTime::from_timestamp_micros(time_us).unwrap_or_default().format("%Y-%m-%d %H:%M:%S UTC");
        Ok(format!("marked: {} {} at {when}\n", mark.service, mark.version))
    }

    /// Computes, records and renders a drift score.
    ///
    /// # Errors
    /// An unreadable question, a format it does not have, sides that cannot be compared, a failed query.
    pub(crate) async fn drift(&self, question: &DriftQuestion) -> anyhow::Result<Answer> {
        let side = |span: Window, own: &str| side(span, &[&question.filter, own]);
        let current = span(&question.current)?;
        let reference = question.reference.as_deref().map_or_else(|| Ok(trailing_window(current)), span)?;
        let request = DriftRequest {
            subject: Subject::Metric(question.metric.clone()),
            source: Source::Auto,
            reference: side(reference, &question.reference_where)?,
            current: side(current, &question.current_where)?,
        };
        let thresholds = question.thresholds()?;
        let score = drift::score(self.session, self.store, &request, &thresholds, now_us()).await?;
        let text = match question.format {
            Format::Text => score.to_text(),
            Format::Json => score.to_json()?,
            _ => bail!("a drift score is written as text or json"),
        };
        Ok(Answer { text, verdict: Some(score.decision.status.as_str().to_owned()) })
    }
}

fn span(text: &str) -> anyhow::Result<Window> {
    let (from, to) =
        text.split_once('/').with_context(|| format!("{text:?} is not a window like 2026-11-09/2026-11-16"))?;
    window(from, to)
}

fn side(window: Window, filters: &[&str]) -> anyhow::Result<Side> {
    let filters = filters.iter().flat_map(|list| list.split(',')).filter(|filter| !filter.is_empty());
    Ok(Side { window, filters: filters.map(Filter::parse).collect::<Result<_, _>>()? })
}

impl DriftQuestion {
    fn thresholds(&self) -> anyhow::Result<Thresholds> {
        let usual = Thresholds::default();
        let psi_warn = self.psi_warn.unwrap_or(usual.psi_warn);
        let psi_critical = self.psi_critical.unwrap_or(usual.psi_critical.max(psi_warn));
        ensure!(
            psi_warn > 0.0 && psi_warn <= psi_critical,
            "a PSI of {psi_warn} for warnings and {psi_critical} for what is critical: the first is above 0 and not above the second"
        );
        let persistence = self.persistence.unwrap_or(usual.persistence);
        ensure!((1..=24).contains(&persistence), "a warning needs 1 to 24 windows in a row, not {persistence}");
        Ok(Thresholds { psi_warn, psi_critical, persistence, ..usual })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_weeks_or_spans_but_not_half_of_one() {
        let when = |week: Option<&str>, from: Option<&str>, to: Option<&str>| When {
            week: week.map(str::to_owned),
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
        };
        let monday = when(Some("2026-W47"), None, None).window(0).unwrap();
        assert_eq!(monday, when(None, Some("2026-11-16"), Some("2026-11-23T00:00:00Z")).window(0).unwrap());
        assert!(when(None, Some("2026-11-16"), None).window(0).is_err());
        assert!(when(None, Some("yesterday"), Some("today")).window(0).is_err());
    }

    #[test]
    fn both_sides_get_the_shared_filter() {
        let window = span("2026-11-09/2026-11-16").unwrap();
        let side = side(window, &["service.name=chat", "model_version=2"]).unwrap();
        assert_eq!(side.filters.len(), 2);
        assert!(span("2026-11-09").is_err());
    }
}
