//! The answers, asked the same way from the command line and over HTTP.

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use chrono::{DateTime, NaiveDate, Utc};
use clap::{Args, ValueEnum};
use datafusion::prelude::SessionContext;
use driftwatt_analyze::{
    PriceBook, Window,
    drift::{
        self, DriftRun, Filter, RunRequest, Side, Subject,
        decision::Thresholds,
        reference_window::{ReferenceKind, seasonal_windows, trailing_window},
    },
    idle::{self, IdleRequest},
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
    /// Metric as it was sent, such as driftwatt.input.pixels; NAME[key] for the categories of a counter. Separate several
    /// with commas
    #[arg(long, required_unless_present = "all", conflicts_with = "all")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metric: Option<String>,
    /// Every metric with values in the view inputs
    #[arg(long)]
    pub(crate) all: bool,
    /// Also by the values of a label: tenant, route, region, model_version or any other
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) by: Option<String>,
    /// Reference window, UTC: FROM/TO such as 2026-11-09/2026-11-16; or trailing (the seven days before), or seasonal (the same
    /// hours of the last four weeks), which else stands beside it [default: trailing]
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
    /// text, json or html
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
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

    /// Computes and records drift scores.
    ///
    /// # Errors
    /// An unreadable question, sides that cannot be compared, a failed query.
    pub(crate) async fn drift_run(&self, question: &DriftQuestion) -> anyhow::Result<DriftRun> {
        ensure!(
            matches!(question.format, Format::Text | Format::Json | Format::Html),
            "drift scores are written as text, json or html"
        );
        let request = question.request(self.session).await?;
        let run = drift::run(self.session, self.store, &request, &question.thresholds()?, now_us()).await?;
        if let ([_], [refused]) = (request.subjects.as_slice(), run.refused.as_slice()) {
            bail!("{}", refused.reason);
        }
        Ok(run)
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
                run.to_page(&timelines, &question.thresholds()?, now_us()).to_html()
            }
            (Format::Json, None) => run.to_json()?,
            (Format::Json, Some(score)) => score.to_json_beside(run.season_of(score))?,
            (_, None) => run.to_text(),
            (_, Some(score)) => score.to_text_beside(run.season_of(score)),
        };
        Ok(Answer { text, verdict: Some(run.status().as_str().to_owned()) })
    }

    /// Computes, records and renders drift scores.
    ///
    /// # Errors
    /// See [`Self::drift_run`] and [`Self::drift_answer`].
    pub(crate) async fn drift(&self, question: &DriftQuestion) -> anyhow::Result<Answer> {
        let run = self.drift_run(question).await?;
        self.drift_answer(&run, question).await
    }
}

fn span(text: &str) -> anyhow::Result<Window> {
    let (from, to) =
        text.split_once('/').with_context(|| format!("{text:?} is not a window like 2026-11-09/2026-11-16"))?;
    window(from, to)
}

fn side(window: Window, filters: &[&str]) -> anyhow::Result<Side> {
    let filters = filters.iter().flat_map(|list| list.split(',')).filter(|filter| !filter.is_empty());
    Ok(Side::new(window, filters.map(Filter::parse).collect::<Result<_, _>>()?))
}

impl DriftQuestion {
    async fn request(&self, session: &SessionContext) -> anyhow::Result<RunRequest> {
        let current = span(&self.current)?;
        let (reference_kind, windows) = match self.reference.as_deref() {
            None | Some("trailing") => (ReferenceKind::Trailing, vec![trailing_window(current)]),
            Some("seasonal") => (ReferenceKind::Seasonal, seasonal_windows(current)),
            Some(text) => (ReferenceKind::Pinned, vec![span(text)?]),
        };
        let own = |own: &str| side(current, &[&self.filter, own]);
        let subjects = match &self.metric {
            Some(names) => {
                let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
                names.map(Subject::parse).collect()
            }
            None if self.all => drift::features(session, current).await?,
            None => Vec::new(),
        };
        ensure!(!subjects.is_empty(), "name a metric, or ask for all");
        Ok(RunRequest {
            subjects,
            by: self.by.clone(),
            reference: Side { windows, ..own(&self.reference_where)? },
            reference_kind,
            current: own(&self.current_where)?,
        })
    }

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
