//! The answers, asked the same way from the command line and over HTTP.

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use chrono::{DateTime, NaiveDate};
use clap::{Args, ValueEnum};
use datafusion::prelude::SessionContext;
use driftwatt_analyze::{
    PriceBook, Window,
    drift::{
        self, DriftRequest, DriftScore, Filter, Side, Source, Subject, decision::Thresholds,
        reference_window::trailing_window,
    },
    idle::{self, IdleRequest},
    ledger::{self, Decision},
    off_peak::{self, OffPeakRequest, OffPeakRules, Zone},
    recommend::{self, ManifestRequest, RecommendReport, RecommendRequest},
    report::{self, WeeklyReport, WeeklyRequest},
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
    /// Prometheus that KEDA can query, as seen from the cluster, for --patches
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prometheus: Option<String>,
    /// Whether files that carry the verdicts out are wanted, in JSON only
    #[arg(skip)]
    pub(crate) manifests: bool,
    /// text or json
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// What is asked about hours for training.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct OffPeakQuestion {
    /// Days to look at, up to now [default: 14]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=365))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) days: Option<u32>,
    /// End (not included), UTC, to repeat an earlier answer [default: now]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    /// Time zone of the hours, such as Europe/Berlin [default: UTC]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time_zone: Option<String>,
    /// GPUs that a job needs [default: 1]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gpus: Option<f64>,
    /// Hours in a row that a job needs [default: 2]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=168))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hours: Option<u32>,
    /// text or json
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// What is said with a decision on a recommendation.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DecideQuestion {
    /// Why, for the ledger
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
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
        let window = question.when.window(self.now_us)?;
        let request = WeeklyRequest { window, prices: self.prices.clone(), now_us: self.now_us };
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
        })
    }

    /// Computes, records and renders the idle examination.
    ///
    /// # Errors
    /// An unreadable question, a format it does not have, a failed query.
    pub(crate) async fn idle(&self, question: &IdleQuestion) -> anyhow::Result<String> {
        let request = IdleRequest::new(question.when.window(self.now_us)?);
        let report = idle::examine(self.session, self.store, &request, self.now_us).await?;
        match question.format {
            Format::Text => Ok(report.to_text()),
            Format::Json => Ok(report.to_json()?),
            _ => bail!("the idle examination is written as text or json"),
        }
    }

    /// Computes and records what to do about services that hold more GPUs than they use.
    ///
    /// # Errors
    /// An unreadable question, a failed query.
    pub(crate) async fn recommend_report(&self, question: &RecommendQuestion) -> anyhow::Result<RecommendReport> {
        let (window, zone) = (self.days(question.days, question.to.as_deref())?, zone(question.time_zone.as_deref())?);
        let manifests = question.manifests.then(|| ManifestRequest { prometheus: question.prometheus.clone() });
        let request = RecommendRequest { window, zone, prices: self.prices.clone(), manifests, now_us: self.now_us };
        Ok(recommend::recommend(self.session, self.store, &request).await?)
    }

    /// The recommendations, rendered.
    ///
    /// # Errors
    /// An unreadable question, a format it does not have, a failed query.
    pub(crate) async fn recommend(&self, question: &RecommendQuestion) -> anyhow::Result<String> {
        let report = self.recommend_report(question).await?;
        match question.format {
            Format::Text => Ok(report.to_text()),
            Format::Json => Ok(report.to_json()?),
            _ => bail!("recommendations are written as text or json"),
        }
    }

    /// The days up to `to`, or now.
    fn days(&self, days: Option<u32>, to: Option<&str>) -> anyhow::Result<Window> {
        let end_us = to.map_or(Ok(self.now_us), parse_time)?;
        Ok(Window::new(end_us - i64::from(days.unwrap_or(14)) * 86_400_000_000, end_us)?)
    }

    /// Computes, records and renders when training may run.
    ///
    /// # Errors
    /// An unreadable question, a format it does not have, a failed query.
    pub(crate) async fn off_peak(&self, question: &OffPeakQuestion) -> anyhow::Result<String> {
        let usual = OffPeakRules::default();
        let gpus_needed = question.gpus.unwrap_or(usual.gpus_needed);
        ensure!(gpus_needed.is_finite() && gpus_needed > 0.0, "a job needs more than 0 GPUs, not {gpus_needed}");
        let request = OffPeakRequest {
            window: self.days(question.days, question.to.as_deref())?,
            zone: zone(question.time_zone.as_deref())?,
            prices: self.prices.clone(),
            rules: OffPeakRules { gpus_needed, hours_min: question.hours.unwrap_or(usual.hours_min), ..usual },
            now_us: self.now_us,
        };
        let report = off_peak::examine(self.session, self.store, &request).await?;
        match question.format {
            Format::Text => Ok(report.to_text()),
            Format::Json => Ok(report.to_json()?),
            _ => bail!("off-peak hours are written as text or json"),
        }
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
        let note = question.note.as_deref();
        let entry = ledger::decide(self.session, store, id, decision, note, self.now_us).await?;
        match question.format {
            Format::Text => Ok(entry.text() + "\n"),
            Format::Json => Ok(serde_json::to_string(&entry)?),
            _ => bail!("a decision is written as text or json"),
        }
    }

    /// Computes and records a drift score.
    ///
    /// # Errors
    /// An unreadable question, sides that cannot be compared, a failed query.
    pub(crate) async fn drift_score(&self, question: &DriftQuestion) -> anyhow::Result<DriftScore> {
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
        Ok(drift::score(self.session, self.store, &request, &thresholds, self.now_us).await?)
    }

    /// A drift score, rendered.
    ///
    /// # Errors
    /// An unreadable question, a format it does not have, sides that cannot be compared, a failed query.
    pub(crate) async fn drift(&self, question: &DriftQuestion) -> anyhow::Result<Answer> {
        let score = self.drift_score(question).await?;
        let text = match question.format {
            Format::Text => score.to_text(),
            Format::Json => score.to_json()?,
            _ => bail!("a drift score is written as text or json"),
        };
        Ok(Answer { text, verdict: Some(score.decision.status.as_str().to_owned()) })
    }
}

fn zone(name: Option<&str>) -> anyhow::Result<Zone> {
    let name = name.unwrap_or("UTC");
    name.parse().ok().with_context(|| format!("{name:?} is no time zone like Europe/Berlin"))
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
