//! What to do about services that hold more GPUs than they use: from stored telemetry to a verdict on each, with its proof.
//!
//! The rules are in docs/idle.md. What the telemetry does not tell is named in the answer, and never taken for good news.

mod evidence;
mod manifests;
mod page;
mod parting;
mod rows;
#[cfg(test)]
mod tests;
mod text;
mod workload;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
};

use chrono_tz::Tz;
use datafusion::prelude::SessionContext;
use driftwatt_store::Store;

use crate::{
    PriceBook,
    demand::{Calendar, Demand},
    error::Result,
    gpu_minutes::{Gpu, GpuMinutes, Holder},
    gpu_state::{GpuSample, GpuState, GpuUse, StateRules, Workload, classify, hours},
    ledger::{self, Entry, Open},
    recommendation::{Examination, GpuPrice, Recommendation, Saving, SecondSignals, Verdict, VerdictRules, examine},
    sizing::ServiceShape,
    veto::{Evidence, Veto},
    window::{DAY_US, MINUTE_US, Window},
};
use evidence::Told;
use manifests::Made;
pub use manifests::{ManifestRequest, ServiceManifests};
use parting::Places;
use workload::{PodName, Workloads};

/// Result table of this job.
pub const TABLE: &str = "recommendations";

/// What nothing that is stored can tell yet.
pub const NOT_KNOWN: &str =
    "not looked at: restarts for lack of memory, whether replicas keep state, announced holidays and rollouts";

/// What to examine.
#[derive(Debug, Clone)]
pub struct RecommendRequest {
    /// When; two weeks with their weekends tell more than one.
    pub window: Window,
    /// Time zone of the users, which makes the hours of a week.
    pub zone: Tz,
    /// Prices; without, savings are in GPU-hours only.
    pub prices: Option<PriceBook>,
    /// Files that carry the verdicts out, and advice on autoscalers; none makes neither, since the replays take a while.
    pub manifests: Option<ManifestRequest>,
    /// Now, UTC microseconds.
    pub now_us: i64,
}

/// One service.
#[derive(Debug, Clone)]
pub struct ServiceVerdict {
    /// What the ledger calls the change, if one is proposed.
    pub id: Option<String>,
    /// Service name.
    pub service: String,
    /// Whether the data comes from a generator.
    pub simulated: bool,
    /// GPUs it held most of the time.
    pub gpu_count: usize,
    /// Pods on the last day, or GPUs where no pod is named.
    pub replica_count: u32,
    /// GPUs of each.
    pub gpus_per_replica: u32,
    /// Mean share of its GPUs that was busy.
    pub mean: Option<f64>,
    /// Share of GPU-minutes that were measured.
    pub coverage: f64,
    /// GPU-hours by state.
    pub hours: BTreeMap<GpuState, f64>,
    /// What to do.
    pub verdict: Verdict,
    /// Files, if asked for.
    pub manifests: Option<ServiceManifests>,
}

/// All services.
#[derive(Debug, Clone)]
pub struct RecommendReport {
    /// What was asked.
    pub request: RecommendRequest,
    /// Real ones first, by name.
    pub services: Vec<ServiceVerdict>,
    /// GPUs that no service name is on.
    pub unnamed_gpu_count: usize,
    /// Points read.
    pub row_count: u64,
    /// The SQL that read them.
    pub queries: Vec<String>,
    /// What became of earlier recommendations, found by this run.
    pub settled: Vec<Entry>,
}

/// Examines every service that held a GPU in the window and, given a store, writes one row each to `recommendations`.
///
/// What is proposed as it was before, and nobody has decided on, is that recommendation renewed: same id, new expiry.
///
/// # Errors
/// Query and store errors, a window without a whole minute.
pub async fn recommend(
    ctx: &SessionContext,
    store: Option<&Store>,
    request: &RecommendRequest,
) -> Result<RecommendReport> {
    let minutes = GpuMinutes::read(ctx, request.window).await?;
    let mut report = recommend_of(ctx, &minutes, request).await?;
    drop(minutes);
    report.renew(&ledger::open(ctx, request.now_us).await?);
    if let Some(store) = store {
        if !report.services.is_empty() {
            store.write_result(TABLE, report.to_batch()?).await?;
        }
        report.settled = ledger::settle(ctx, store, request.now_us).await?;
    }
    Ok(report)
}

/// The same of `minutes` that were read before, of any window: those outside of the one asked for do not count, and those
/// inside that they do not have are without telemetry. Nothing is recorded or renewed.
pub(crate) async fn recommend_of(
    ctx: &SessionContext,
    minutes: &GpuMinutes,
    request: &RecommendRequest,
) -> Result<RecommendReport> {
    let window = request.window.whole_minutes()?;
    let told = Told::read(ctx, request.window).await?;
    let (workloads, places) = match &request.manifests {
        Some(_) => (Workloads::read(ctx, request.window).await?, Places::read(ctx, request.window).await?),
        None => (Workloads::default(), Places::default()),
    };
    let mut by_service: BTreeMap<(bool, String), Vec<&Gpu>> = BTreeMap::new();
    let mut unnamed_gpu_count = 0;
    let inside = minutes.inside(window);
    for gpu in &minutes.gpus {
        match main_service(&gpu.holder[inside.clone()], &minutes.holders) {
            Some(service) => by_service.entry((gpu.simulated, service.to_owned())).or_default().push(gpu),
            None => unnamed_gpu_count += 1,
        }
    }
    let services = by_service.into_iter().map(|((simulated, service), gpus)| {
        let held = Held { service: &service, simulated, gpus, minutes, window, inside: inside.clone() };
        held.verdict(&told, &workloads, &places, request)
    });
    let services = services.collect();
    let of_places = Some(places.query).filter(|query| !query.is_empty());
    let queries =
        minutes.queries.iter().cloned().chain(told.queries).chain(workloads.queries).chain(of_places).collect();
    Ok(RecommendReport {
        request: request.clone(),
        services,
        unnamed_gpu_count,
        row_count: minutes.row_count,
        queries,
        settled: vec![],
    })
}

impl RecommendReport {
    /// Gives what is proposed unchanged the id that it is `open` under.
    fn renew(&mut self, open: &[Open]) {
        for service in &mut self.services {
            let Some(proposed) = service.proposed() else { continue };
            let same = open.iter().find(|one| {
                (one.simulated, &one.service) == (service.simulated, &service.service)
                    && (one.replicas, one.gpus_per_replica)
                        == ((service.replica_count, proposed), service.gpus_per_replica)
            });
            if let Some(same) = same {
                service.id = Some(same.id.clone());
            }
        }
    }
}

/// The same for the same question about the same service, another for another.
fn id_of(service: &str, simulated: bool, found: &Recommendation, request: &RecommendRequest) -> String {
    let identity = format!(
        "{service}\0{simulated}\0{}\0{}\0{}\0{}\0{}",
        found.current, found.proposed, request.window.start_us, request.window.end_us, request.now_us
    );
    format!("r{:010x}", xxhash_rust::xxh3::xxh3_64(identity.as_bytes()) >> 24)
}

/// The service that most of the minutes `of_gpu` are of.
fn main_service<'a>(of_gpu: &[u16], holders: &'a [Holder]) -> Option<&'a str> {
    let mut minutes: HashMap<&str, usize> = HashMap::new();
    for holder in of_gpu {
        if let Some(service) = holders.get(usize::from(*holder)).and_then(|holder| holder.service.as_deref()) {
            *minutes.entry(service).or_default() += 1;
        }
    }
    minutes.into_iter().max_by_key(|(service, count)| (*count, std::cmp::Reverse(*service))).map(|(service, _)| service)
}

/// A service with its GPUs.
struct Held<'a> {
    service: &'a str,
    simulated: bool,
    gpus: Vec<&'a Gpu>,
    minutes: &'a GpuMinutes,
    /// The whole minutes that are asked for.
    window: Window,
    /// Which of the minutes those are.
    inside: Range<usize>,
}

impl Held<'_> {
    fn verdict(
        &self,
        told: &Told,
        workloads: &Workloads,
        places: &Places,
        request: &RecommendRequest,
    ) -> ServiceVerdict {
        let window = self.window;
        let mut demand = Demand::new(window.start_us, window.end_us);
        let mut by_state: BTreeMap<GpuState, f64> = BTreeMap::new();
        for gpu in &self.gpus {
            let of = GpuUse {
                service: Some(self.service.to_owned()),
                workload: Workload::Serving,
                shared: gpu.shared_by > 1,
            };
            let intervals = classify(&self.samples(gpu), &of, window.start_us, window.end_us, &StateRules::default());
            for (state, _, hours) in hours(&intervals) {
                *by_state.entry(state).or_default() += hours;
            }
            demand.add_gpu(&intervals);
        }
        let shape = self.shape(told);
        let examination = Examination {
            shape: &shape,
            demand: &demand,
            evidence: self.evidence(told),
            signals: self.signals(told),
            zone: request.zone,
            calendar: &Calendar::default(),
            price: self.price(request.prices.as_ref()),
            now_us: request.now_us,
        };
        let verdict = examine(&examination, &VerdictRules::default());
        let manifests = request.manifests.as_ref().map(|wanted| {
            let made = Made {
                shape: &shape,
                demand: &demand,
                verdict: &verdict,
                workload: workloads.of(self.service, self.simulated, &self.pods().into_keys().collect()),
                placement: places.of(self),
                has_hpa: told.has_hpa(self.service),
                request,
            };
            made.manifests(wanted)
        });
        let id = match &verdict {
            Verdict::Shrink(found) => Some(id_of(self.service, self.simulated, found, request)),
            _ => None,
        };
        ServiceVerdict {
            id,
            service: self.service.to_owned(),
            simulated: self.simulated,
            gpu_count: self.gpus.len(),
            replica_count: shape.replica_count,
            gpus_per_replica: shape.gpus_per_replica,
            mean: demand.mean_share(),
            coverage: demand.coverage(),
            hours: by_state,
            verdict,
            manifests,
        }
    }

    /// What `gpu` did in the minutes in which the service held it.
    fn samples(&self, gpu: &Gpu) -> Vec<GpuSample> {
        gpu.samples(self.minutes.window, |minute| self.inside.contains(&minute) && self.is_mine(gpu, minute)).collect()
    }

    fn holder(&self, gpu: &Gpu, minute: usize) -> Option<&Holder> {
        self.minutes.holders.get(usize::from(gpu.holder[minute]))
    }

    fn is_mine(&self, gpu: &Gpu, minute: usize) -> bool {
        self.holder(gpu, minute).is_some_and(|holder| holder.service.as_deref() == Some(self.service))
    }

    /// Its pods on the last day, with the number of cards of each.
    fn pods(&self) -> BTreeMap<PodName, usize> {
        let last_day = Window { start_us: self.window.start_us.max(self.window.end_us - DAY_US), ..self.window };
        let of_cards: Vec<BTreeSet<PodName>> = self
            .gpus
            .iter()
            .map(|gpu| {
                let mine = self.minutes.inside(last_day).filter(|minute| self.is_mine(gpu, *minute));
                mine.filter_map(|minute| PodName::of(self.holder(gpu, minute)?)).collect()
            })
            .collect();
        let all: BTreeSet<PodName> = of_cards.iter().flatten().cloned().collect();
        let mut pods: BTreeMap<PodName, usize> = BTreeMap::new();
        for here in of_cards {
            let here: BTreeSet<PodName> = here.into_iter().map(|pod| pod.among(&all)).collect();
            for pod in here {
                *pods.entry(pod).or_default() += 1;
            }
        }
        pods
    }

    fn shape(&self, told: &Told) -> ServiceShape {
        let pods = self.pods();
        let gpu_count = self.gpus.len();
        // Several cards in one pod are one replica; without pods each card is one.
        let replica_count = if pods.is_empty() { gpu_count } else { pods.len().min(gpu_count) };
        // The cards of the window are more than those of a moment where a pod moved: the middle pod has not.
        let mut cards: Vec<usize> = pods.values().copied().collect();
        cards.sort_unstable();
        let gpus_per_replica = cards.get(cards.len() / 2).copied().unwrap_or(1);
        let memory = self.gpus.iter().flat_map(|gpu| &gpu.memory[self.inside.clone()]);
        let most_memory = memory.copied().filter(|bytes| !bytes.is_nan());
        let totals = self.gpus.iter().filter_map(|gpu| told.memory_total(gpu));
        ServiceShape {
            service: self.service.to_owned(),
            replica_count: replica_count as u32,
            gpus_per_replica: gpus_per_replica as u32,
            gpu_model: self.gpus.iter().find_map(|gpu| gpu.model.clone()),
            gpu_memory_bytes: totals.reduce(f64::min),
            memory_bytes_per_gpu: most_memory.reduce(f32::max).map(f64::from),
        }
    }

    fn evidence(&self, told: &Told) -> Evidence {
        Evidence {
            criticality: told.criticality(self.service),
            hpa_owns: told.has_hpa(self.service),
            xid_count: self.gpus.iter().filter(|gpu| told.has_new_xid(gpu)).count() as u32,
            version_age_days: self.version_age_days(),
            device_copy: self.gpus.iter().any(|gpu| gpu.shared_by > 1),
            ..Evidence::default()
        }
    }

    /// Age of the youngest version that came in the window; none if all were there on its first day.
    fn version_age_days(&self) -> Option<f64> {
        let mut first: HashMap<&str, usize> = HashMap::new();
        for gpu in &self.gpus {
            for minute in self.inside.clone().filter(|minute| self.is_mine(gpu, *minute)) {
                let Some(version) = self.holder(gpu, minute).and_then(|holder| holder.model_version.as_deref()) else {
                    continue;
                };
                let seen = first.entry(version).or_insert(minute);
                *seen = minute.min(*seen);
            }
        }
        let youngest_us = self.minutes.window.start_us + first.into_values().max()? as i64 * MINUTE_US;
        let is_new = youngest_us - self.window.start_us > DAY_US;
        is_new.then(|| (self.window.end_us - youngest_us) as f64 / DAY_US as f64)
    }

    fn signals(&self, told: &Told) -> SecondSignals {
        let known = |values: &[f32]| {
            let values = &values[self.inside.clone()];
            let known: Vec<f64> =
                values.iter().filter(|value| !value.is_nan()).map(|value| f64::from(*value)).collect();
            (!known.is_empty()).then(|| {
                (known.iter().sum::<f64>() / known.len() as f64, known.iter().copied().fold(f64::INFINITY, f64::min))
            })
        };
        let mean = |shares: Vec<f64>| (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64);
        let memory = self.gpus.iter().filter_map(|gpu| Some(known(&gpu.memory)?.0 / told.memory_total(gpu)?));
        // What a card draws at rest is the least it drew.
        let power = self.gpus.iter().filter_map(|gpu| {
            let ((mean, rest), limit) = (known(&gpu.power)?, told.power_limit(gpu)?);
            (limit > rest).then(|| (mean - rest) / (limit - rest))
        });
        let window = self.window;
        SecondSignals {
            requests_per_second: told
                .requests(self.service, self.simulated)
                .map(|count| count / (window.hours() * 3600.0)),
            queue_p95: told.queue_p95(self.service, self.simulated),
            memory_share: mean(memory.collect()),
            power_share: mean(power.collect()),
        }
    }

    /// The price of its cards, if all have the same.
    fn price(&self, prices: Option<&PriceBook>) -> GpuPrice {
        let mut of_cards = self.gpus.iter().map(|gpu| prices?.gpu(gpu.model.as_deref()?));
        let first = of_cards.next().flatten();
        let list = first.filter(|_| of_cards.all(|price| price == first));
        GpuPrice { list, effective: list }
    }
}

impl ServiceVerdict {
    /// `shrink`, `keep`, `vetoed` or `unknown`.
    pub fn verdict_name(&self) -> &'static str {
        match &self.verdict {
            Verdict::Shrink(_) => "shrink",
            Verdict::Keep(_) => "keep",
            Verdict::Vetoed(_) => "vetoed",
            Verdict::Unknown(_) => "unknown",
        }
    }

    /// Why, as sentences.
    pub fn why(&self) -> String {
        let reasons = |vetoes: &[Veto]| vetoes.iter().map(Veto::reason).collect::<Vec<_>>().join("; ");
        match &self.verdict {
            Verdict::Shrink(recommendation) => recommendation.explanation.clone(),
            Verdict::Keep(reason) => reason.clone(),
            Verdict::Vetoed(vetoes) | Verdict::Unknown(vetoes) => reasons(vetoes),
        }
    }

    /// The change, if one is proposed.
    pub fn recommendation(&self) -> Option<&Recommendation> {
        match &self.verdict {
            Verdict::Shrink(recommendation) => Some(recommendation),
            _ => None,
        }
    }

    /// Replicas proposed.
    pub fn proposed(&self) -> Option<u32> {
        self.recommendation().map(|found| found.proposed)
    }

    /// What a week of it saves, in money where there is a price, else nothing.
    pub fn saving(&self) -> Option<Saving> {
        self.recommendation()?.saving_effective
    }
}
