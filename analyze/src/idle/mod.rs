//! Idle examination: which GPUs did little, and what is known about them.
//!
//! "Idle" and "no telemetry" never look alike: a GPU without enough samples has no other state.

pub mod alert;
mod page;
#[cfg(test)]
mod tests;
mod text;

use datafusion::{arrow::array::RecordBatch, prelude::SessionContext};
use driftwatt_store::Store;
use serde::Serialize;

use crate::{
    error::Result,
    result_table::ResultTable,
    rows::{Rows, SIMULATED},
    window::{DAY_US, Window, time_literal},
};

/// Result table of this job.
pub const TABLE: &str = "idle_examinations";

/// What to examine, and the limits.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IdleRequest {
    /// When.
    pub window: Window,
    /// A mean utilisation below this opens an examination. Default 0.30.
    pub mean_below: f64,
    /// A 95th percentile from here on means bursts of work, not idleness. Default 0.60.
    pub p95_below: f64,
    /// Mean memory in use above which an idle GPU counts as held, bytes. Default 1 GiB.
    pub held_above_bytes: f64,
    /// Share of expected samples below which nothing is concluded. Default 0.50.
    pub coverage_min: f64,
}

/// What a GPU or service did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Little work while memory is held.
    IdleHeld,
    /// Little work, no memory held.
    Free,
    /// Work, steady or in bursts.
    Busy,
    /// Too few samples to say.
    NoTelemetry,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GpuExamination {
    /// Host name; empty when not sent.
    pub host: String,
    /// GPU id.
    pub gpu_id: String,
    /// GPU model.
    pub gpu_model: Option<String>,
    /// Service that ran on it.
    pub service: Option<String>,
    /// Team or owner.
    pub team: Option<String>,
    /// Whether the data is simulated.
    pub simulated: bool,
    /// Mean utilisation, 0 to 1.
    pub mean: Option<f64>,
    /// 95th percentile of utilisation.
    pub p95: Option<f64>,
    /// Largest utilisation.
    pub peak: Option<f64>,
    /// Mean memory in use, bytes.
    pub memory_bytes: Option<f64>,
    /// Samples received.
    pub received_count: u64,
    /// Samples received over samples expected from the observed median interval.
    pub coverage: f64,
    /// Whether the mean opened an examination.
    pub examined: bool,
    /// What it did.
    pub state: State,
    /// What qualifies the state.
    pub note: String,
}

/// One service, from its GPUs with enough telemetry.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceExamination {
    /// Service name.
    pub service: String,
    /// Whether the data is simulated.
    pub simulated: bool,
    /// Its GPUs.
    pub gpu_count: usize,
    /// Those with enough telemetry.
    pub measured_count: usize,
    /// Mean of their means.
    pub mean: Option<f64>,
    /// Largest 95th percentile among them.
    pub p95: Option<f64>,
    /// Largest utilisation among them.
    pub peak: Option<f64>,
    /// Their memory in use, bytes.
    pub memory_bytes: f64,
    /// Mean coverage over all its GPUs.
    pub coverage: f64,
    /// Whether the mean opened an examination.
    pub examined: bool,
    /// What it did.
    pub state: State,
}

/// The examination of all GPUs and services.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IdleReport {
    /// What was asked.
    pub request: IdleRequest,
    /// By state, least used first.
    pub gpus: Vec<GpuExamination>,
    /// By state, least used first.
    pub services: Vec<ServiceExamination>,
    /// Samples read.
    pub row_count: u64,
    /// The SQL that read utilisation.
    pub query: String,
}

impl IdleRequest {
    /// The default limits over `window`.
    pub fn new(window: Window) -> Self {
        Self { window, mean_below: 0.30, p95_below: 0.60, held_above_bytes: f64::from(1 << 30), coverage_min: 0.50 }
    }
}

impl State {
    /// `idle-held`, `free`, `busy` or `no-telemetry`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IdleHeld => "idle-held",
            Self::Free => "free",
            Self::Busy => "busy",
            Self::NoTelemetry => "no-telemetry",
        }
    }
}

/// Examines every GPU known in the window or the 7 days before and, given a store, writes one row per GPU to
/// `idle_examinations`.
///
/// # Errors
/// Query and store errors.
pub async fn examine(
    ctx: &SessionContext,
    store: Option<&Store>,
    request: &IdleRequest,
    now_us: i64,
) -> Result<IdleReport> {
    let window = request.window;
    let mut gpus = known(ctx, window).await?;
    let query = utilization_query(window);
    let usage = Rows::query(ctx, &query).await?;
    add_usage(&mut gpus, &usage, window)?;
    add_memory(&mut gpus, &Rows::query(ctx, &memory_query(window)).await?)?;
    for gpu in &mut gpus {
        conclude(gpu, request);
    }
    gpus.sort_by(|a, b| {
        let key = |gpu: &GpuExamination| (gpu.simulated, gpu.state, gpu.mean.map_or(0, |mean| (mean * 1e6) as i64));
        key(a).cmp(&key(b)).then_with(|| (&a.host, &a.gpu_id).cmp(&(&b.host, &b.gpu_id)))
    });
    let services = services(&gpus, request);
    let row_count = gpus.iter().map(|gpu| gpu.received_count).sum();
    let report = IdleReport { request: request.clone(), gpus, services, row_count, query };
    if let Some(store) = store
        && !report.gpus.is_empty()
    {
        store.write_result(TABLE, report.to_batch(now_us)?).await?;
    }
    Ok(report)
}

const KEY: &str = "coalesce(host_name, '') AS host, gpu_id";

// `hw.id` also names CPUs, disks and fans; only what does not say otherwise is a GPU.
async fn known(ctx: &SessionContext, window: Window) -> Result<Vec<GpuExamination>> {
    let query = format!(
        "SELECT simulated, host, gpu_id, max(gpu_model) AS gpu_model, max(service_name) AS service, max(team) AS team FROM \
         (SELECT {SIMULATED} AS simulated, {KEY}, gpu_model, service_name, team FROM raw.series WHERE gpu_id IS NOT NULL \
         AND coalesce(attributes['hw.type'], 'gpu') = 'gpu' \
         AND last_time >= {} AND first_time < {}) GROUP BY simulated, host, gpu_id",
        time_literal(window.start_us - 7 * DAY_US),
        time_literal(window.end_us)
    );
    let rows = Rows::query(ctx, &query).await?;
    let (simulated, hosts, ids) = (rows.flags("simulated")?, rows.texts("host")?, rows.texts("gpu_id")?);
    let (models, services, teams) = (rows.texts("gpu_model")?, rows.texts("service")?, rows.texts("team")?);
    Ok((0..rows.len())
        .map(|row| GpuExamination {
            gpu_model: models[row].clone(),
            service: services[row].clone(),
            team: teams[row].clone(),
            ..GpuExamination::unseen(hosts[row].clone(), ids[row].clone(), simulated[row])
        })
        .collect())
}

/// Use of a card: what its MIG slices say, each over the time, adds up by their shares. Of the 95th percentile and the peak that
/// is the most that it can have been. A slice of unknown size leaves the card unknown.
fn utilization_query(window: Window) -> String {
    let sum = |what: &str| format!("CASE WHEN count(share) = count(*) THEN sum({what} * share) END AS {what}");
    format!(
        "SELECT simulated, host, gpu_id, max(gpu_model) AS gpu_model, max(service) AS service, {}, {}, {}, \
         sum(row_count) AS row_count, sum(received) AS received, max(received * step_us) AS seen_us FROM \
         (SELECT simulated, host, gpu_id, max(share) AS share, max(gpu_model) AS gpu_model, max(service_name) AS service, \
         avg(value) AS mean, percentile_cont(value, 0.95) AS p95, max(value) AS peak, count(*) AS row_count, \
         sum(CASE WHEN step IS NULL OR step > 0 THEN 1 ELSE 0 END) AS received, \
         median(CASE WHEN step > 0 THEN CAST(step AS DOUBLE) END) AS step_us FROM (SELECT *, CAST(time AS BIGINT) - \
         lag(CAST(time AS BIGINT)) OVER (PARTITION BY simulated, host, gpu_id, mig_id ORDER BY time) AS step FROM \
         (SELECT {SIMULATED} AS simulated, {KEY}, mig_id, share, gpu_model, service_name, time, value FROM gpu \
         WHERE role = 'gpu.utilization' AND {} AND value IS NOT NULL AND NOT isnan(value) AND gpu_id IS NOT NULL)) \
         GROUP BY simulated, host, gpu_id, mig_id) GROUP BY simulated, host, gpu_id",
        sum("mean"),
        sum("p95"),
        sum("peak"),
        window.condition("time")
    )
}

/// Memory of a card; MIG slices, each by its mean, add up to theirs.
fn memory_query(window: Window) -> String {
    format!(
        "SELECT simulated, host, gpu_id, sum(mean) AS mean FROM (SELECT simulated, host, gpu_id, mig_id, avg(value) AS mean \
         FROM (SELECT {SIMULATED} AS simulated, {KEY}, mig_id, value \
         FROM gpu WHERE role = 'gpu.memory.used' AND {} AND value IS NOT NULL AND gpu_id IS NOT NULL) \
         GROUP BY simulated, host, gpu_id, mig_id) GROUP BY simulated, host, gpu_id",
        window.condition("time")
    )
}

fn position(gpus: &mut Vec<GpuExamination>, host: Option<String>, id: Option<String>, simulated: bool) -> usize {
    let (host_name, gpu_id) = (host.as_deref().unwrap_or_default(), id.as_deref().unwrap_or_default());
    let found = gpus.iter().position(|gpu| gpu.simulated == simulated && gpu.host == host_name && gpu.gpu_id == gpu_id);
    found.unwrap_or_else(|| {
        gpus.push(GpuExamination::unseen(host, id, simulated));
        gpus.len() - 1
    })
}

fn add_usage(gpus: &mut Vec<GpuExamination>, rows: &Rows, window: Window) -> Result<()> {
    let (simulated, hosts, ids) = (rows.flags("simulated")?, rows.texts("host")?, rows.texts("gpu_id")?);
    let (models, services) = (rows.texts("gpu_model")?, rows.texts("service")?);
    let (means, p95s, peaks) = (rows.numbers("mean")?, rows.numbers("p95")?, rows.numbers("peak")?);
    let (received, seen_us) = (rows.integers("received")?, rows.numbers("seen_us")?);
    for row in 0..rows.len() {
        let at = position(gpus, hosts[row].clone(), ids[row].clone(), simulated[row]);
        let gpu = &mut gpus[at];
        gpu.gpu_model = models[row].clone().or(gpu.gpu_model.take());
        gpu.service = services[row].clone().or(gpu.service.take());
        (gpu.mean, gpu.p95, gpu.peak) = (means[row], p95s[row], peaks[row]);
        gpu.received_count = received[row].unwrap_or(0).unsigned_abs();
        // One sample has no interval, so nothing is known about how many were expected.
        gpu.coverage = (seen_us[row].unwrap_or(0.0) / (window.end_us - window.start_us) as f64).min(1.0);
    }
    Ok(())
}

fn add_memory(gpus: &mut Vec<GpuExamination>, rows: &Rows) -> Result<()> {
    let (simulated, hosts, ids) = (rows.flags("simulated")?, rows.texts("host")?, rows.texts("gpu_id")?);
    let means = rows.numbers("mean")?;
    for row in 0..rows.len() {
        let at = position(gpus, hosts[row].clone(), ids[row].clone(), simulated[row]);
        gpus[at].memory_bytes = means[row];
    }
    Ok(())
}

fn conclude(gpu: &mut GpuExamination, request: &IdleRequest) {
    let known = gpu.mean.filter(|_| gpu.coverage >= request.coverage_min);
    let Some(mean) = known else {
        gpu.state = State::NoTelemetry;
        gpu.note = if gpu.received_count == 0 { "no samples".into() } else { "insufficient telemetry".into() };
        return;
    };
    gpu.examined = mean < request.mean_below;
    let bursts = gpu.p95.is_some_and(|p95| p95 >= request.p95_below);
    (gpu.state, gpu.note) = match gpu.memory_bytes {
        _ if !gpu.examined => (State::Busy, String::new()),
        _ if bursts => (State::Busy, "low mean, works in bursts".into()),
        Some(bytes) if bytes > request.held_above_bytes => (State::IdleHeld, String::new()),
        Some(_) => (State::Free, String::new()),
        // Without memory telemetry nobody can say that nothing is held.
        None => (State::IdleHeld, "memory unknown, taken as held".into()),
    };
}

fn services(gpus: &[GpuExamination], request: &IdleRequest) -> Vec<ServiceExamination> {
    let mut names: Vec<(bool, &String)> =
        gpus.iter().filter_map(|gpu| Some((gpu.simulated, gpu.service.as_ref()?))).collect();
    names.sort();
    names.dedup();
    let of = |(simulated, name): (bool, &String)| {
        let mine: Vec<&GpuExamination> =
            gpus.iter().filter(|gpu| gpu.simulated == simulated && gpu.service.as_ref() == Some(name)).collect();
        let measured: Vec<&&GpuExamination> = mine.iter().filter(|gpu| gpu.state != State::NoTelemetry).collect();
        let means: Vec<f64> = measured.iter().filter_map(|gpu| gpu.mean).collect();
        let mean = (!means.is_empty()).then(|| means.iter().sum::<f64>() / means.len() as f64);
        let examined = mean.is_some_and(|mean| mean < request.mean_below);
        let held = measured.iter().any(|gpu| gpu.state == State::IdleHeld);
        let busy = measured.iter().any(|gpu| gpu.state == State::Busy);
        ServiceExamination {
            service: name.clone(),
            simulated,
            gpu_count: mine.len(),
            measured_count: measured.len(),
            mean,
            p95: measured.iter().filter_map(|gpu| gpu.p95).reduce(f64::max),
            peak: measured.iter().filter_map(|gpu| gpu.peak).reduce(f64::max),
            memory_bytes: measured.iter().filter_map(|gpu| gpu.memory_bytes).sum(),
            coverage: mine.iter().map(|gpu| gpu.coverage).sum::<f64>() / mine.len().max(1) as f64,
            examined,
            state: match (measured.is_empty(), busy, held) {
                (true, ..) => State::NoTelemetry,
                (_, true, _) => State::Busy,
                (_, _, true) => State::IdleHeld,
                _ => State::Free,
            },
        }
    };
    let mut services: Vec<ServiceExamination> = names.into_iter().map(of).collect();
    services.sort_by_key(|service| (service.simulated, service.state));
    services
}

impl GpuExamination {
    fn unseen(host: Option<String>, gpu_id: Option<String>, simulated: bool) -> Self {
        Self {
            host: host.unwrap_or_default(),
            gpu_id: gpu_id.unwrap_or_default(),
            gpu_model: None,
            service: None,
            team: None,
            simulated,
            mean: None,
            p95: None,
            peak: None,
            memory_bytes: None,
            received_count: 0,
            coverage: 0.0,
            examined: false,
            state: State::NoTelemetry,
            note: String::new(),
        }
    }
}

impl IdleReport {
    fn to_batch(&self, now_us: i64) -> Result<RecordBatch> {
        let gpus = || self.gpus.iter();
        let mut table = ResultTable::new(now_us, self.gpus.len());
        table
            .time("window_from", self.request.window.start_us)
            .time("window_to", self.request.window.end_us)
            .texts("host_name", gpus().map(|gpu| Some(gpu.host.clone())))
            .texts("gpu_id", gpus().map(|gpu| Some(gpu.gpu_id.clone())))
            .texts("gpu_model", gpus().map(|gpu| gpu.gpu_model.clone()))
            .texts("service_name", gpus().map(|gpu| gpu.service.clone()))
            .flags("simulated", gpus().map(|gpu| gpu.simulated))
            .texts("state", gpus().map(|gpu| Some(gpu.state.as_str().to_owned())))
            .flags("examined", gpus().map(|gpu| gpu.examined))
            .texts("note", gpus().map(|gpu| Some(gpu.note.clone())))
            .numbers("utilization_mean", gpus().map(|gpu| gpu.mean))
            .numbers("utilization_p95", gpus().map(|gpu| gpu.p95))
            .numbers("utilization_peak", gpus().map(|gpu| gpu.peak))
            .numbers("memory_used_mean_bytes", gpus().map(|gpu| gpu.memory_bytes))
            .numbers("coverage", gpus().map(|gpu| Some(gpu.coverage)))
            .integers("row_count", gpus().map(|gpu| i64::try_from(gpu.received_count).ok()))
            .text("parameters", &serde_json::to_string(&self.request)?)
            .text("query", &self.query);
        table.finish()
    }
}
