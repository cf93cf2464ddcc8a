//! Off-peak hours from stored telemetry: what serving leaves by hour of the week, and the jobs that ran when it left little.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::NaiveDate;
use chrono_tz::Tz;
use datafusion::prelude::SessionContext;
use driftwatt_store::Store;
use serde::Serialize;

use super::{
    CronLine, HourlyEnergy, OffPeakFiles, OffPeakPlan, OffPeakRules, PeakJob, TrainingJob, cron_lines, files::CronJobs,
    peak_jobs, plan,
};
use crate::{
    PriceBook,
    demand::{Calendar, Demand, Envelope},
    error::Result,
    gpu_minutes::{Gpu, GpuMinutes, JOB, POD_JOB},
    gpu_state::{GpuSample, GpuUse, Interval, StateRules, Workload, classify},
    result_table::ResultTable,
    rows::{Rows, SIMULATED},
    window::{MINUTE_US, Window, time_literal},
};

/// Result table of this job.
pub const TABLE: &str = "off_peak_hours";
/// Share of GPU-minutes below which demand is not measured.
const COVERAGE_MIN: f64 = 0.90;

/// What to look at.
#[derive(Debug, Clone)]
pub struct OffPeakRequest {
    /// When; two weeks with their weekends tell more than one.
    pub window: Window,
    /// Time zone of the hours.
    pub zone: Tz,
    /// Prices and carbon of energy; unknown without.
    pub prices: Option<PriceBook>,
    /// Limits.
    pub rules: OffPeakRules,
    /// Whether files are wanted.
    pub files: bool,
    /// Local days that stand for no usual week.
    pub holidays: Vec<NaiveDate>,
    /// Now, UTC microseconds.
    pub now_us: i64,
}

/// The GPUs of one kind of data, real or simulated.
#[derive(Debug, Clone, Serialize)]
pub struct OffPeakFleet {
    /// Whether the data comes from a generator.
    pub simulated: bool,
    /// GPUs.
    pub gpu_count: usize,
    /// Share of GPU-minutes that were measured.
    pub coverage: f64,
    /// The hours and windows.
    pub plan: OffPeakPlan,
    /// Lines of a crontab for the windows.
    pub cron: Vec<CronLine>,
    /// Jobs that ran at peak.
    pub jobs: Vec<PeakJob>,
    /// Jobs seen in all.
    pub job_count: usize,
    /// Files, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifests: Option<OffPeakFiles>,
}

/// The answer.
#[derive(Debug, Clone)]
pub struct OffPeakReport {
    /// What was asked.
    pub request: OffPeakRequest,
    /// Real ones first; empty without a GPU.
    pub fleets: Vec<OffPeakFleet>,
    /// The SQL that was read.
    pub queries: Vec<String>,
}

/// A job on one card.
#[derive(Debug)]
struct JobOnCard {
    simulated: bool,
    host: String,
    gpu_id: String,
    job: String,
    from_us: i64,
    to_us: i64,
}

/// Examines the window and, given a store, writes 168 rows for each kind of data to `off_peak_hours`.
///
/// # Errors
/// Query and store errors, a window without a whole minute.
pub async fn examine(ctx: &SessionContext, store: Option<&Store>, request: &OffPeakRequest) -> Result<OffPeakReport> {
    let minutes = GpuMinutes::read(ctx, request.window).await?;
    let query = jobs_query(minutes.window);
    let jobs = jobs(&Rows::query(ctx, &query).await?, minutes.window)?;
    let kinds: BTreeSet<bool> = minutes.gpus.iter().map(|gpu| gpu.simulated).collect();
    let mut fleets: Vec<OffPeakFleet> =
        kinds.into_iter().map(|simulated| fleet(&minutes, &jobs, simulated, request)).collect();
    let mut queries: Vec<String> = minutes.queries.iter().cloned().chain([query]).collect();
    if request.files {
        let cron_jobs = CronJobs::read(ctx, minutes.window).await?;
        for fleet in &mut fleets {
            fleet.manifests = Some(cron_jobs.files(fleet.simulated, &fleet.plan, &fleet.jobs));
        }
        queries.extend(cron_jobs.queries);
    }
    let report = OffPeakReport { request: request.clone(), fleets, queries };
    if let Some(store) = store
        && !report.fleets.is_empty()
    {
        store.write_result(TABLE, report.to_batch()?).await?;
    }
    Ok(report)
}

/// Jobs by card and day, since the same name may come back: by the labels of the card's series, or by those of its pod.
fn jobs_query(window: Window) -> String {
    let alive =
        format!("last_time >= {} AND first_time < {}", time_literal(window.start_us), time_literal(window.end_us));
    format!(
        "SELECT s.simulated, s.host, s.gpu_id, coalesce(s.job, p.job) AS job, min(s.first_time) AS first_time, \
         max(s.last_time) AS last_time FROM (SELECT {SIMULATED} AS simulated, coalesce(host_name, '') AS host, gpu_id, k8s_pod, \
         {JOB} AS job, date, first_time, last_time FROM system.gpu_series WHERE gpu_id IS NOT NULL AND {alive}) s \
         LEFT JOIN (SELECT {SIMULATED} AS simulated, k8s_pod, max({POD_JOB}) AS job FROM raw.series WHERE {POD_JOB} IS NOT NULL \
         AND k8s_pod IS NOT NULL AND {alive} GROUP BY 1, 2) p ON s.k8s_pod = p.k8s_pod AND s.simulated = p.simulated \
         WHERE coalesce(s.job, p.job) IS NOT NULL AND coalesce(s.job, p.job) <> '' GROUP BY 1, 2, 3, 4, s.date ORDER BY 4, 2, 3, 5"
    )
}

fn jobs(rows: &Rows, window: Window) -> Result<Vec<JobOnCard>> {
    let (simulated, hosts, ids) = (rows.flags("simulated")?, rows.texts("host")?, rows.texts("gpu_id")?);
    let (names, first, last) = (rows.texts("job")?, rows.integers("first_time")?, rows.integers("last_time")?);
    let found = (0..rows.len()).filter_map(|row| {
        Some(JobOnCard {
            simulated: simulated[row],
            host: hosts[row].clone().unwrap_or_default(),
            gpu_id: ids[row].clone()?,
            job: names[row].clone()?,
            from_us: first[row]?.max(window.start_us),
            // The last point stands for its minute.
            to_us: (last[row]? + MINUTE_US).min(window.end_us),
        })
    });
    Ok(found.filter(|job| job.from_us < job.to_us).collect())
}

fn fleet(minutes: &GpuMinutes, jobs: &[JobOnCard], simulated: bool, request: &OffPeakRequest) -> OffPeakFleet {
    let window = minutes.window;
    let gpus: Vec<&Gpu> = minutes.gpus.iter().filter(|gpu| gpu.simulated == simulated).collect();
    let mut on_card: HashMap<(&str, &str), Vec<&JobOnCard>> = HashMap::new();
    for job in jobs.iter().filter(|job| job.simulated == simulated) {
        on_card.entry((job.host.as_str(), job.gpu_id.as_str())).or_default().push(job);
    }
    let mut demand = Demand::new(window.start_us, window.end_us);
    let mut trained: BTreeMap<&str, Trained> = BTreeMap::new();
    for gpu in &gpus {
        let here = on_card.get(&(gpu.host.as_str(), gpu.gpu_id.as_str())).map_or(&[][..], Vec::as_slice);
        demand.add_gpu(&serving(gpu, here, window));
        for job in here {
            trained.entry(&job.job).or_default().add(gpu, job, window);
        }
    }
    let coverage = demand.coverage();
    // Little telemetry would look like many free GPUs.
    let calendar = Calendar { holidays: request.holidays.clone(), deploys: vec![] };
    let envelope = (coverage >= COVERAGE_MIN).then(|| Envelope::new(&demand, request.zone, &calendar));
    let energy = energy(&gpus, request);
    let plan = plan(envelope.as_ref(), gpus.len() as f64, request.zone, &energy, &request.rules);
    let trained: Vec<TrainingJob> = trained.into_iter().map(|(name, job)| job.done(name)).collect();
    OffPeakFleet {
        simulated,
        gpu_count: gpus.len(),
        coverage,
        cron: cron_lines(&plan.windows, request.zone),
        jobs: peak_jobs(&plan, &trained),
        job_count: trained.len(),
        manifests: None,
        plan,
    }
}

/// What of `gpu` is work that cannot be moved: the time of a job counts as measured and free.
fn serving(gpu: &Gpu, jobs: &[&JobOnCard], window: Window) -> Vec<Interval> {
    let of = GpuUse { service: None, workload: Workload::Serving, shared: gpu.shared_by > 1 };
    let samples: Vec<GpuSample> = gpu.samples(window, |minute| !gpu.duty[minute].is_nan()).collect();
    let mut intervals = classify(&samples, &of, window.start_us, window.end_us, &StateRules::default());
    for interval in &mut intervals {
        if jobs.iter().any(|job| (job.from_us..job.to_us).contains(&interval.start_us)) {
            interval.duty = interval.duty.map(|_| 0.0);
        }
    }
    intervals
}

/// The price of energy where the cards are, if that is one region.
fn energy(gpus: &[&Gpu], request: &OffPeakRequest) -> HourlyEnergy {
    let Some(book) = &request.prices else { return HourlyEnergy::default() };
    let regions: BTreeSet<Option<&str>> =
        gpus.iter().map(|gpu| gpu.region.as_deref().or_else(|| book.region(&gpu.host))).collect();
    let mut regions = regions.into_iter();
    match (regions.next().flatten(), regions.next()) {
        (Some(region), None) => HourlyEnergy::from_book(book, region, request.zone, request.window.start_us),
        _ => HourlyEnergy::default(),
    }
}

/// A job over its cards.
#[derive(Debug, Default)]
struct Trained {
    from_us: Option<i64>,
    to_us: i64,
    card_us: i64,
    power_watt_minutes: f64,
    power_minutes: usize,
    minutes: usize,
}

impl Trained {
    fn add(&mut self, gpu: &Gpu, job: &JobOnCard, window: Window) {
        self.from_us = Some(self.from_us.map_or(job.from_us, |from_us| from_us.min(job.from_us)));
        self.to_us = self.to_us.max(job.to_us);
        self.card_us += job.to_us - job.from_us;
        let minute_of = |time_us: i64| ((time_us - window.start_us) / MINUTE_US) as usize;
        for power in gpu.power.iter().take(minute_of(job.to_us)).skip(minute_of(job.from_us)) {
            self.minutes += 1;
            if !power.is_nan() {
                self.power_minutes += 1;
                self.power_watt_minutes += f64::from(*power);
            }
        }
    }

    fn done(self, name: &str) -> TrainingJob {
        let start_us = self.from_us.unwrap_or(0);
        // Cards that came or went count for their time.
        let gpus = self.card_us as f64 / (self.to_us - start_us).max(1) as f64;
        let is_measured = self.power_minutes > 0 && self.power_minutes as f64 >= COVERAGE_MIN * self.minutes as f64;
        let per_card = self.power_watt_minutes / self.power_minutes.max(1) as f64;
        TrainingJob {
            name: name.to_owned(),
            start_us,
            end_us: self.to_us,
            gpus,
            power_watts: is_measured.then_some(per_card * gpus),
        }
    }
}

impl OffPeakReport {
    /// The report as JSON.
    ///
    /// # Errors
    /// [`crate::Error::Json`] if it cannot be written.
    pub fn to_json(&self) -> Result<String> {
        let currency = self.request.prices.as_ref().map(|prices| prices.currency.as_str());
        Ok(serde_json::to_string_pretty(&serde_json::json!({
            "window": self.request.window, "time_zone": self.request.zone.name(), "currency": currency,
            "rules": self.request.rules, "fleets": self.fleets, "queries": self.queries,
        }))?)
    }

    pub(super) fn to_batch(&self) -> Result<datafusion::arrow::array::RecordBatch> {
        let rows = || {
            self.fleets
                .iter()
                .flat_map(|fleet| fleet.plan.hours.iter().enumerate().map(move |(hour, of)| (fleet, hour, of)))
        };
        let mut table = ResultTable::new(self.request.now_us, rows().count());
        table
            .time("window_from", self.request.window.start_us)
            .time("window_to", self.request.window.end_us)
            .flags("simulated", rows().map(|(fleet, ..)| fleet.simulated))
            .integers("hour_of_week", rows().map(|(_, hour, _)| i64::try_from(hour).ok()))
            .integers("gpu_count", rows().map(|(fleet, ..)| i64::try_from(fleet.gpu_count).ok()))
            .numbers("free_gpus", rows().map(|(.., hour)| hour.free_gpus))
            .flags("is_off_peak", rows().map(|(.., hour)| hour.is_off_peak))
            .texts("source", rows().map(|(fleet, ..)| Some(fleet.plan.source.as_str().to_owned())))
            .numbers("price_per_kwh", rows().map(|(.., hour)| hour.price_per_kwh))
            .numbers("carbon_g_per_kwh", rows().map(|(.., hour)| hour.carbon_g_per_kwh))
            .numbers("coverage", rows().map(|(fleet, ..)| Some(fleet.coverage)))
            .text("time_zone", self.request.zone.name())
            .text("query", &self.queries.join(";\n"));
        table.finish()
    }
}
