//! Weekly report: what a week cost, who paid for what, how much of it was used, and why it was more or less than the week
//! before.
//!
//! Two windows are read, each in one pass over the points of GPUs (`gpu_minutes`) and a few questions that the engine
//! aggregates; everything else, advice too, is computed from minutes. Real and simulated fleets have a bill each. Definitions
//! and units are in docs/cost.md. The same data, price book and request give the same figures; the same bytes, but for the
//! versions of the tables that a page and the JSON name, which rise with every write.

mod asker;
mod bill;
mod card_facts;
mod cards;
mod columns;
mod content;
mod distributed;
mod figures;
mod fleet;
mod focus_file;
mod functions;
#[cfg(test)]
mod golden_tests;
mod hosts;
mod json;
mod labels;
mod missing;
mod present;
mod risks;
mod rows;
#[cfg(test)]
mod scan_tests;
mod service_cost;
mod stints;
#[cfg(test)]
mod tests;
mod usage;
mod work;

use chrono::NaiveDate;
use chrono_tz::Tz;
use datafusion::prelude::SessionContext;
use driftwatt_store::Store;

pub use asker::Query;
pub use figures::Figures;
pub use functions::register;
pub use labels::Dimension;
pub use rows::Row;
pub(crate) use service_cost::service_cost;
pub use usage::Stats;

use crate::{
    PriceBook,
    error::Result,
    gpu_minutes::GpuMinutes,
    ledger,
    recommend::{RecommendReport, RecommendRequest, RequestCounts, recommend_of},
    window::{DAY_US, Window, time_text},
};
use fleet::{FleetWeek, Week};
use risks::Risk;

/// Result table of this job.
pub const TABLE: &str = "reports_weekly";

/// Longest time that advice is made of.
const ADVICE_US_MAX: i64 = 28 * DAY_US;

/// What to report.
#[derive(Debug, Clone, PartialEq)]
pub struct WeeklyRequest {
    /// When; compared with the week before, or else with the window of the same length before.
    pub window: Window,
    /// Time zone of the reader: a week from Monday to Monday there has the week before as its comparison, however long.
    pub zone: Tz,
    /// Prices; without, every cost is unknown.
    pub prices: Option<PriceBook>,
    /// Local days that stand for no usual week in what is advised.
    pub holidays: Vec<NaiveDate>,
    /// The time of the report, UTC microseconds.
    pub now_us: i64,
}

/// The report.
#[derive(Debug, Clone)]
pub struct WeeklyReport {
    /// What was asked.
    pub request: WeeklyRequest,
    /// What it is compared with.
    pub before: Window,
    /// The real fleet, then the simulated one; those that have telemetry.
    fleets: Vec<FleetReport>,
    /// Points read in both windows.
    pub row_count: u64,
    /// The SQL of this window.
    pub queries: Vec<Query>,
    /// Versions of the tables that were read, where the store is known.
    pub table_versions: Vec<(String, i64)>,
}

/// What is reported of one fleet.
#[derive(Debug, Clone)]
struct FleetReport {
    simulated: bool,
    week: FleetWeek,
    /// The window before; none where it has no telemetry.
    before: Option<FleetWeek>,
    rows: Vec<Row>,
    savings: Vec<Saving>,
    /// What was accepted, measured, and should be taken back, a line each.
    undo: Vec<String>,
    risks: Vec<Risk>,
}

/// What a recommendation would save.
#[derive(Debug, Clone, PartialEq)]
struct Saving {
    service: String,
    replicas: (u32, u32),
    /// GPU-hours a week.
    gpu_hours: f64,
    /// Money a week; none where the price is unknown.
    money: Option<f64>,
    confidence: f64,
    why: String,
}

/// Computes the report and, given a store, writes its rows to `reports_weekly`.
///
/// # Errors
/// Query and store errors.
pub async fn weekly(ctx: &SessionContext, store: Option<&Store>, request: &WeeklyRequest) -> Result<WeeklyReport> {
    let table_versions = store.map(table_versions).unwrap_or_default();
    let book = book_of(request)?;
    let (now, minutes) = Week::read(ctx, request.window, request.now_us, &book).await?;
    let advice = advice(ctx, &minutes, request, &now.requests).await?;
    // Those of the window before take as much memory.
    drop(minutes);
    let mut report = WeeklyReport { table_versions, ..compared(ctx, now, &book, request).await? };
    let undo = ledger::to_undo(ctx, &[], request.now_us).await?;
    for fleet in &mut report.fleets {
        let simulated = fleet.simulated;
        let of_fleet = undo.iter().filter(|undo| undo.entry.simulated == simulated);
        fleet.undo = of_fleet.map(|undo| undo.entry.text()).collect();
        fleet.savings = advice.as_ref().map(|advice| savings(advice, simulated)).unwrap_or_default();
        fleet.risks = risks::risks(advice.as_ref(), simulated, &fleet.rows);
    }
    if let Some(store) = store
        && !report.fleets.is_empty()
    {
        store.write_result(TABLE, report.to_batch(true)?).await?;
    }
    Ok(report)
}

/// Advice on the window until now, or on the last four weeks of it; none without a whole minute.
async fn advice(
    ctx: &SessionContext,
    minutes: &GpuMinutes,
    request: &WeeklyRequest,
    requests: &RequestCounts,
) -> Result<Option<RecommendReport>> {
    let Some(window) = advice_window(request) else { return Ok(None) };
    let (zone, prices) = (request.zone, request.prices.clone());
    // The report of a past week is always the same: its advice is that of its end.
    let asked = RecommendRequest {
        window,
        zone,
        prices,
        manifests: None,
        holidays: request.holidays.clone(),
        now_us: window.end_us,
    };
    // Counted for the bill already, unless that is of another time.
    let requests = (window == request.window).then(|| requests.clone());
    recommend_of(ctx, minutes, &asked, requests).await.map(Some)
}

fn advice_window(request: &WeeklyRequest) -> Option<Window> {
    let end_us = request.window.end_us.min(request.now_us);
    let window = Window::new(request.window.start_us.max(end_us - ADVICE_US_MAX), end_us);
    window.and_then(Window::whole_minutes).ok()
}

/// The report without advice.
async fn figures_of(ctx: &SessionContext, request: &WeeklyRequest) -> Result<WeeklyReport> {
    let book = book_of(request)?;
    let (now, _) = Week::read(ctx, request.window, request.now_us, &book).await?;
    compared(ctx, now, &book, request).await
}

fn book_of(request: &WeeklyRequest) -> Result<PriceBook> {
    match &request.prices {
        Some(book) => Ok(book.clone()),
        // All prices are unknown; the currency is not shown.
        None => Ok(PriceBook::parse("currency = \"USD\"")?),
    }
}

/// `now` beside the window before, without advice.
async fn compared(ctx: &SessionContext, now: Week, book: &PriceBook, request: &WeeklyRequest) -> Result<WeeklyReport> {
    let before_window = request.window.week_before(request.zone);
    let (mut before, _) = Week::read(ctx, before_window, request.now_us, book).await?;
    let (hours, digits) = (request.window.hours(), book.currency.digits());
    let fleets = now.fleets.into_iter().map(|(simulated, week)| {
        let before = before.fleets.remove(&simulated);
        let rows = rows::rows(simulated, &week, before.as_ref(), hours, digits);
        FleetReport { simulated, savings: vec![], undo: vec![], risks: vec![], rows, week, before }
    });
    Ok(WeeklyReport {
        request: request.clone(),
        before: before_window,
        fleets: fleets.collect(),
        row_count: now.row_count + before.row_count,
        queries: now.queries,
        table_versions: vec![],
    })
}

/// Delta versions of the tables that hold telemetry.
fn table_versions(store: &Store) -> Vec<(String, i64)> {
    let telemetry = ["samples", "histograms", "series"];
    let tables = store.tables().into_iter().filter(|table| telemetry.contains(&table.name.as_str()));
    tables.map(|table| (table.name, table.version)).collect()
}

/// What is advised, most saving first.
fn savings(advice: &RecommendReport, simulated: bool) -> Vec<Saving> {
    let own = advice.services.iter().filter(|service| service.simulated == simulated);
    let mut savings: Vec<Saving> = own
        .filter_map(|service| {
            let found = service.recommendation()?;
            Some(Saving {
                service: service.service.clone(),
                replicas: (service.replica_count, service.proposed()?),
                gpu_hours: found.gpu_hours.expected,
                money: service.saving().map(|saving| saving.expected),
                confidence: found.confidence,
                why: service.why(),
            })
        })
        .collect();
    savings.sort_by(|a, b| {
        b.money.unwrap_or(0.0).total_cmp(&a.money.unwrap_or(0.0)).then(b.gpu_hours.total_cmp(&a.gpu_hours))
    });
    savings
}

impl WeeklyReport {
    /// `real`, `simulated` or `real and simulated`.
    pub fn data(&self) -> &'static str {
        let has = |simulated| self.fleets.iter().any(|fleet| fleet.simulated == simulated);
        match (has(false), has(true)) {
            (true, true) => "real and simulated",
            (false, true) => "simulated",
            _ => "real",
        }
    }

    /// All rows: real ones first, by dimension, dearest first.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.fleets.iter().flat_map(|fleet| &fleet.rows)
    }

    pub(crate) fn title(&self) -> String {
        let mark = match self.data() {
            "real" => String::new(),
            data => format!(" – {} data", data.to_uppercase()),
        };
        format!("Weekly report {}{mark}", self.request.window.label_in(self.request.zone))
    }

    /// Currency of the price book; none without one.
    fn currency(&self) -> Option<&'static str> {
        self.request.prices.as_ref().map(|prices| prices.currency.as_str())
    }

    /// The two windows in words.
    fn windows(&self) -> String {
        let (window, before) = (self.request.window, self.before);
        format!(
            "{} to {} ({:.0} h), against {} to {} ({:.0} h).",
            time_text(window.start_us),
            time_text(window.end_us),
            window.hours(),
            time_text(before.start_us),
            time_text(before.end_us),
            before.hours()
        )
    }
}
