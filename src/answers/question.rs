//! What is asked, as flags of the command line and as parameters of a URL.

use anyhow::{Context as _, bail, ensure};
use chrono::{DateTime, NaiveDate, SecondsFormat};
use clap::{Args, ValueEnum};
use datafusion::prelude::SessionContext;
use driftwatt_analyze::{
    Tz, Window,
    drift::{
        self, Filter, OtherScore, RunRequest, Side, Source, Subject,
        decision::Thresholds,
        reference_window::{ReferenceKind, seasonal_windows, trailing_window},
    },
};
use serde::{Deserialize, Serialize};

use super::DriftSettings;

const HOUR_US: i64 = 3_600_000_000;

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
    /// The bill as CSV with the columns of FOCUS 1.2.
    Focus,
}

impl Format {
    /// Whether it is JSON, of an answer that has no other form but text; `what` is "a decision is".
    ///
    /// # Errors
    /// Another format, said before anything is computed or recorded.
    pub(super) fn is_json(self, what: &str) -> anyhow::Result<bool> {
        ensure!(matches!(self, Self::Text | Self::Json), "{what} written as text or json");
        Ok(self == Self::Json)
    }

    /// The same of an answer that is a page, too.
    ///
    /// # Errors
    /// Another format, said before anything is computed or recorded.
    pub(super) fn is_written(self, what: &str) -> anyhow::Result<()> {
        ensure!(matches!(self, Self::Text | Self::Json | Self::Html), "{what} written as text, json or html");
        Ok(())
    }

    /// Its media type.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Md => "text/markdown; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
            Self::Json => "application/json",
            Self::Csv | Self::Focus => "text/csv; charset=utf-8",
        }
    }
}

/// When: an ISO week, or a start and an end.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct When {
    /// ISO week, Monday to Monday, such as 2026-W47. Default: the last complete week
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
    /// The window; a week is one of `zone`.
    pub(super) fn window(&self, now_us: i64, zone: Tz) -> anyhow::Result<Window> {
        match (&self.week, &self.from, &self.to) {
            (Some(week), None, None) => Ok(Window::parse_week_in(week, zone)?),
            (None, Some(from), Some(to)) => window(from, to),
            (None, None, None) => Ok(Window::last_complete_week_in(now_us, zone)),
            _ => bail!("give either a week, or both from and to"),
        }
    }
}

pub(super) fn window(from: &str, to: &str) -> anyhow::Result<Window> {
    Ok(Window::new(parse_time(from)?, parse_time(to)?)?)
}

pub(super) fn parse_time(text: &str) -> anyhow::Result<i64> {
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
    /// Time zone in which weeks begin and days are named, such as Europe/Berlin [default: UTC]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time_zone: Option<String>,
    /// text, md, html, json, csv or focus
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
    /// text, json or html
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// Longest time to look back, days.
const DAYS_MAX: u32 = 365;

/// The last days, and the time zone of their hours.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LastDays {
    /// Days to look at; fewer than 7 give low confidence [default: 14]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(DAYS_MAX)))]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "number")]
    pub(crate) days: Option<u32>,
    /// End (not included), UTC, to repeat an earlier answer [default: now]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    /// Time zone of the users, such as Europe/Berlin, for the hours of their week [default: UTC]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time_zone: Option<String>,
}

/// A number of a URL: in a flattened struct it comes as a text.
fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let value = Option::<serde_json::Value>::deserialize(deserializer)?;
    let text = value.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
}

impl LastDays {
    pub(super) fn window(&self, now_us: i64) -> anyhow::Result<Window> {
        let days = self.days.unwrap_or(14);
        // A URL can ask for more than the command line lets through.
        ensure!((1..=DAYS_MAX).contains(&days), "ask for 1 to {DAYS_MAX} days, not {days}");
        let end_us = self.to.as_deref().map_or(Ok(now_us), parse_time)?;
        Ok(Window::new(end_us - i64::from(days) * 86_400_000_000, end_us)?)
    }
}

/// What is asked of the recommendations.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RecommendQuestion {
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) last: LastDays,
    /// Prometheus that KEDA can query, as seen from the cluster, for --patches
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prometheus: Option<String>,
    /// Whether files that carry the verdicts out are wanted, in JSON only
    #[arg(skip)]
    pub(crate) manifests: bool,
    /// text, json or html
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// What is asked about hours for training.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct OffPeakQuestion {
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) last: LastDays,
    /// GPUs that a job needs [default: 1]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gpus: Option<f64>,
    /// Hours in a row that a job needs [default: 2]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=168))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hours: Option<u32>,
    /// Whether files for the windows are wanted, in JSON only
    #[arg(skip)]
    pub(crate) manifests: bool,
    /// text, json or html
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
    /// Metric as it was sent, such as driftwatt.input.pixels; `NAME[key]` for the categories of a counter. Separate several
    /// with commas [default: all]
    #[arg(long, conflicts_with = "all")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metric: Option<String>,
    /// Every metric with values in the view inputs
    #[arg(long)]
    pub(crate) all: bool,
    /// Also by the values of a label: tenant, route, region, model_version or any other
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) by: Option<String>,
    /// Reference window, UTC: FROM/TO such as 2026-11-09/2026-11-16; the name of one in [drift.references]; or trailing (the
    /// seven days before), or seasonal (the same hours of the last four weeks), which else stands beside it [default: trailing]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reference: Option<String>,
    /// Current window, UTC: FROM/TO [default: the last whole hour]
    #[arg(long, default_value = "", hide_default_value = true)]
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
    /// auto (samples where there are any, else histograms), samples, histograms, or states: kept by the hour and brought up to
    /// date, so that a long reference is not read again; windows of whole hours [default: auto]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    /// Beside each score, for migration and never for the verdict: evidently-psi, nannyml-js, sagemaker-linf and others, and exact
    /// tests (docs/drift.md). Separate several with commas
    #[arg(long, default_value = "")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) also: String,
    /// PSI from which a change is a warning [default: 0.1]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) psi_warn: Option<f64>,
    /// PSI from which it is critical [default: 0.25]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) psi_critical: Option<f64>,
    /// Windows in a row, as long as the current one, that a warning needs [default: 2]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) persistence: Option<u32>,
    /// text, json or html
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

/// What is asked about lineage.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
pub(crate) struct LineageQuestion {
    /// Service, as its telemetry names it (service.name)
    pub(crate) service: String,
    /// The moment, UTC: 2026-11-16T09:00:00Z [default: now]
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<String>,
    /// Only evidence about this model, for a service that serves several
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    /// Days before the moment whose telemetry is read; marks and aliases of all time are [default: 30]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(DAYS_MAX)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) days: Option<u32>,
    /// text or json
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

pub(super) fn span(text: &str) -> anyhow::Result<Window> {
    let (from, to) =
        text.split_once('/').with_context(|| format!("{text:?} is not a window like 2026-11-09/2026-11-16"))?;
    window(from, to)
}

/// `FROM/TO`, as [`span`] reads it.
pub(super) fn span_text(window: Window) -> String {
    let text = |time_us| {
        let time = DateTime::from_timestamp_micros(time_us).unwrap_or_default();
        time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
    };
    format!("{}/{}", text(window.start_us), text(window.end_us))
}

fn side(window: Window, filters: &[&str]) -> anyhow::Result<Side> {
    let filters = filters.iter().flat_map(|list| list.split(',')).filter(|filter| !filter.is_empty());
    Ok(Side::new(window, filters.map(Filter::parse).collect::<Result<_, _>>()?))
}

impl DriftQuestion {
    /// The same with what it leaves open: of `now_us` the last whole hour, and every input.
    pub(super) fn settled(&self, now_us: i64) -> Self {
        let mut settled = self.clone();
        if settled.current.trim().is_empty() {
            let end_us = now_us.div_euclid(HOUR_US) * HOUR_US;
            settled.current = span_text(Window { start_us: end_us - HOUR_US, end_us });
        }
        settled.metric = settled.metric.filter(|names| !names.trim().is_empty());
        settled.all |= settled.metric.is_none();
        settled
    }

    pub(super) async fn request(
        &self,
        session: &SessionContext,
        settings: &DriftSettings,
    ) -> anyhow::Result<RunRequest> {
        let current = span(&self.current)?;
        let (reference_kind, windows) = match self.reference.as_deref() {
            None | Some("trailing") => (ReferenceKind::Trailing, vec![trailing_window(current)]),
            Some("seasonal") => (ReferenceKind::Seasonal, seasonal_windows(current)),
            Some(text) => (ReferenceKind::Pinned, vec![settings.reference(text)?]),
        };
        let own = |own: &str| side(current, &[&self.filter, own]);
        let subjects = match &self.metric {
            Some(names) => {
                let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
                names.map(Subject::parse).collect()
            }
            None => drift::features(session, current).await?,
        };
        ensure!(
            !subjects.is_empty(),
            "{:?} names no metric; without one all inputs are compared",
            self.metric.as_deref().unwrap_or_default()
        );
        Ok(RunRequest {
            subjects,
            by: self.by.clone(),
            reference: Side { windows, ..own(&self.reference_where)? },
            reference_kind,
            current: own(&self.current_where)?,
            source: self.source()?,
            also: self.also()?,
        })
    }

    /// The question as it is recorded: a reference that has a name is written down.
    pub(crate) fn written(&self, settings: &DriftSettings) -> Self {
        let reference = self.reference.as_deref().map(|reference| settings.written(reference));
        Self { reference, ..self.clone() }
    }

    fn also(&self) -> anyhow::Result<Vec<OtherScore>> {
        let names = self.also.split(',').map(str::trim).filter(|name| !name.is_empty());
        let parse = |name: &str| {
            let all = || OtherScore::ALL.map(OtherScore::as_str).join(", ");
            OtherScore::parse(name).with_context(|| format!("{name:?} is none of {}", all()))
        };
        names.map(parse).collect()
    }

    fn source(&self) -> anyhow::Result<Source> {
        let Some(text) = self.source.as_deref() else { return Ok(Source::Auto) };
        Source::parse(text).with_context(|| format!("{text:?} is no source: write auto, samples, histograms or states"))
    }

    pub(super) fn thresholds(&self) -> anyhow::Result<Thresholds> {
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
        let monday = when(Some("2026-W47"), None, None).window(0, Tz::UTC).unwrap();
        assert_eq!(monday, when(None, Some("2026-11-16"), Some("2026-11-23T00:00:00Z")).window(0, Tz::UTC).unwrap());
        assert!(when(None, Some("2026-11-16"), None).window(0, Tz::UTC).is_err());
        assert!(when(None, Some("yesterday"), Some("today")).window(0, Tz::UTC).is_err());
    }

    #[test]
    fn drift_without_a_word_is_of_all_inputs_in_the_last_whole_hour() {
        let settled = DriftQuestion::default().settled(1_795_752_000_000_000 + 59 * 60_000_000);
        assert_eq!(settled.current, "2026-11-27T03:00:00Z/2026-11-27T04:00:00Z");
        assert!(settled.all && span(&settled.current).is_ok());
        let own = DriftQuestion { metric: Some("a".into()), current: "b/c".into(), ..DriftQuestion::default() };
        let settled = own.settled(0);
        assert_eq!((settled.all, settled.current.as_str()), (false, "b/c"));
    }

    #[test]
    fn a_url_asks_for_days_as_the_command_line_does() {
        let asked = |url: &str| {
            axum::extract::Query::<RecommendQuestion>::try_from_uri(&url.parse().unwrap()).map(|question| question.0)
        };
        let week = asked("/?days=7&manifests=true").unwrap();
        assert_eq!((week.last.days, week.manifests), (Some(7), true));
        assert!(asked("/?days=4000000000").unwrap().last.window(0).is_err() && asked("/?days=x").is_err());
    }

    #[test]
    fn both_sides_get_the_shared_filter() {
        let window = span("2026-11-09/2026-11-16").unwrap();
        let side = side(window, &["service.name=chat", "model_version=2"]).unwrap();
        assert_eq!(side.filters.len(), 2);
        assert!(span("2026-11-09").is_err());
    }
}
