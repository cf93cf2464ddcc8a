//! Weekly report: what was used, for how many GPU-hours, at what cost, against the week before.

mod csv;
mod html;
mod markdown;
mod read;
#[cfg(test)]
mod tests;

use datafusion::{arrow::array::RecordBatch, prelude::SessionContext};
use driftwatt_store::Store;
use serde::Serialize;

use crate::{PriceBook, error::Result, result_table::ResultTable, window::Window};

/// Result table of this job.
pub const TABLE: &str = "reports_weekly";

/// What to report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WeeklyRequest {
    /// When; compared with the window of the same length before it.
    pub window: Window,
    /// Prices; without, every cost is unknown.
    pub prices: Option<PriceBook>,
    /// The time of the report, UTC microseconds.
    pub now_us: i64,
}

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dimension {
    /// A service by name.
    Service,
    /// A model with its version.
    Model,
    /// A host by name.
    Host,
    /// A GPU as `host/id`.
    Gpu,
}

/// Average, 95th percentile and peak of the samples of one quantity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Mean.
    pub average: Option<f64>,
    /// 95th percentile.
    pub p95: Option<f64>,
    /// Largest.
    pub peak: Option<f64>,
    /// Samples.
    pub sample_count: u64,
}

/// One window of one row.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Usage {
    /// GPU utilisation, 0 to 1.
    pub gpu_utilization: Stats,
    /// GPU memory in use, bytes.
    pub gpu_memory: Stats,
    /// CPU utilisation, 0 to 1.
    pub cpu_utilization: Stats,
    /// Memory in use, bytes.
    pub memory: Stats,
    /// GPUs seen.
    pub gpu_count: u64,
    /// Hours with GPU telemetry, summed over GPUs.
    pub gpu_hours: f64,
    /// Cost of those hours; none when a price is unknown or there are none.
    pub gpu_cost: Option<f64>,
    /// Cost of the host's vCPUs for its hours with telemetry; hosts only; none when unknown.
    pub cpu_cost: Option<f64>,
    /// Samples received over samples expected from the observed median interval over the whole window.
    pub coverage: Option<f64>,
}

/// One row of the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UsageRow {
    /// What it is about.
    pub dimension: Dimension,
    /// Its name.
    pub name: String,
    /// Whether the data is simulated.
    pub simulated: bool,
    /// This window.
    pub usage: Usage,
    /// The window before; none when it has no data.
    pub before: Option<Usage>,
}

/// GPU and CPU utilisation in one hour, over everything real or everything simulated.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HourlyPoint {
    /// Hours since the window's start.
    pub hour: i64,
    /// Whether the data is simulated.
    pub simulated: bool,
    /// Mean GPU utilisation.
    pub gpu_utilization: Option<f64>,
    /// Mean CPU utilisation.
    pub cpu_utilization: Option<f64>,
}

/// The report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WeeklyReport {
    /// What was asked.
    pub request: WeeklyRequest,
    /// `real`, `simulated` or `real and simulated`.
    pub data: &'static str,
    /// Real rows first, by dimension and name.
    pub rows: Vec<UsageRow>,
    /// For the charts.
    pub hourly: Vec<HourlyPoint>,
    /// Samples read in both windows.
    pub row_count: u64,
    /// The SQL of this window.
    pub queries: Vec<String>,
}

/// Computes the report and, given a store, writes one row per resource to `reports_weekly`.
///
/// # Errors
/// Query and store errors.
pub async fn weekly(ctx: &SessionContext, store: Option<&Store>, request: &WeeklyRequest) -> Result<WeeklyReport> {
    let prices = request.prices.as_ref();
    let now = read::usage(ctx, request.window, prices).await?;
    let mut before = read::usage(ctx, request.window.before(), prices).await?;
    let row_count = now.row_count + before.row_count;
    let rows: Vec<UsageRow> = now
        .rows
        .into_iter()
        .map(|(key, usage)| {
            let before = before.rows.remove(&key);
            let (simulated, dimension, name) = key;
            UsageRow { dimension, name, simulated, usage, before }
        })
        .collect();
    let has = |simulated: bool| rows.iter().any(|row| row.simulated == simulated);
    let data = match (has(false), has(true)) {
        (true, true) => "real and simulated",
        (false, true) => "simulated",
        _ => "real",
    };
    let hourly = read::hourly(ctx, request.window).await?;
    let report = WeeklyReport { request: request.clone(), data, rows, hourly, row_count, queries: now.queries };
    if let Some(store) = store
        && !report.rows.is_empty()
    {
        store.write_result(TABLE, report.to_batch()?).await?;
    }
    Ok(report)
}

impl Dimension {
    /// `service`, `model`, `host` or `gpu`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Model => "model",
            Self::Host => "host",
            Self::Gpu => "gpu",
        }
    }
}

impl UsageRow {
    /// Change of mean GPU utilisation against the window before, as a difference of ratios.
    pub fn gpu_utilization_change(&self) -> Option<f64> {
        Some(self.usage.gpu_utilization.average? - self.before.as_ref()?.gpu_utilization.average?)
    }
}

impl WeeklyReport {
    pub(crate) fn title(&self) -> String {
        let mark = match self.data {
            "real" => String::new(),
            data => format!(" – {} data", data.to_uppercase()),
        };
        format!("Weekly report {}{mark}", self.request.window.label())
    }

    pub(crate) fn currency(&self) -> &str {
        self.request.prices.as_ref().map_or("no price book", |prices| prices.currency.as_str())
    }

    /// The report as JSON.
    ///
    /// # Errors
    /// [`crate::Error::Json`] if it cannot be written.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    fn to_batch(&self) -> Result<RecordBatch> {
        let rows = || self.rows.iter();
        let mut table = ResultTable::new(self.request.now_us, self.rows.len());
        table
            .time("window_from", self.request.window.start_us)
            .time("window_to", self.request.window.end_us)
            .texts("dimension", rows().map(|row| Some(row.dimension.as_str().to_owned())))
            .texts("name", rows().map(|row| Some(row.name.clone())))
            .flags("simulated", rows().map(|row| row.simulated));
        type Pick = fn(&Usage) -> Stats;
        let stats: [(&str, Pick); 4] = [
            ("gpu_utilization", |usage| usage.gpu_utilization),
            ("gpu_memory_bytes", |usage| usage.gpu_memory),
            ("cpu_utilization", |usage| usage.cpu_utilization),
            ("memory_bytes", |usage| usage.memory),
        ];
        for (name, of) in stats {
            table
                .numbers(&format!("{name}_average"), rows().map(|row| of(&row.usage).average))
                .numbers(&format!("{name}_p95"), rows().map(|row| of(&row.usage).p95))
                .numbers(&format!("{name}_peak"), rows().map(|row| of(&row.usage).peak))
                .numbers(&format!("{name}_average_before"), rows().map(|row| of(row.before.as_ref()?).average));
        }
        let parameters = serde_json::to_string(&self.request)?;
        table
            .numbers("gpu_hours", rows().map(|row| Some(row.usage.gpu_hours)))
            .numbers("gpu_hours_before", rows().map(|row| Some(row.before.as_ref()?.gpu_hours)))
            .numbers("gpu_cost", rows().map(|row| row.usage.gpu_cost))
            .numbers("gpu_cost_before", rows().map(|row| row.before.as_ref()?.gpu_cost))
            .numbers("cpu_cost", rows().map(|row| row.usage.cpu_cost))
            .text("currency", self.currency())
            .numbers("coverage", rows().map(|row| row.usage.coverage))
            .integers("row_count", rows().map(|row| i64::try_from(row.usage.sample_count()).ok()))
            .text("parameters", &parameters)
            .text("query", &self.queries.join(";\n"));
        table.finish()
    }
}

impl Usage {
    fn sample_count(&self) -> u64 {
        [self.gpu_utilization, self.gpu_memory, self.cpu_utilization, self.memory]
            .iter()
            .map(|stats| stats.sample_count)
            .sum()
    }
}
