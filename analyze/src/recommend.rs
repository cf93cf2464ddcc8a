//! What to do about services that hold more GPUs than they use: from stored telemetry to a verdict on each, with its proof.
//!
//! The rules are in docs/idle.md. What the telemetry does not tell is named in the answer, and never taken for good news.

mod autoscalers;
mod containers;
mod evidence;
mod held;
mod manifests;
mod oom;
mod page;
mod parting;
mod rows;
#[cfg(test)]
mod tests;
mod text;
mod undo;
mod workload;

use std::collections::BTreeMap;

use chrono::NaiveDate;
use chrono_tz::Tz;
use datafusion::prelude::SessionContext;
use driftwatt_store::Store;

use crate::{
    PriceBook,
    demand::Calendar,
    error::Result,
    gpu_minutes::{Gpu, GpuMinutes},
    gpu_state::GpuState,
    hpa_advice::BoundsAdvice,
    ledger::{self, Entry, Open, Proposal},
    recommendation::{Recommendation, Saving, Verdict},
    veto::Veto,
    window::Window,
};
pub use autoscalers::Autoscaler;
use autoscalers::Autoscalers;
pub(crate) use containers::{ContainerName, Requested, requested};
pub use containers::{ContainerVerdict, Containers, QuotaAdvice, RequestChange, RequestVerdict};
pub(crate) use evidence::RequestCounts;
use evidence::Told;
use held::{Held, main_service};
pub use manifests::{ManifestRequest, ServiceManifests};
use oom::OomKills;
use parting::Places;
pub use undo::UndoAdvice;
use workload::Workloads;

/// Result table of this job.
pub const TABLE: &str = "recommendations";

/// What nothing that is stored can tell yet.
pub const NOT_KNOWN: &str = "not looked at: announced rollouts, throttled GPU clocks";

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
    /// Local days that stand for no usual week; the replay keeps them.
    pub holidays: Vec<NaiveDate>,
    /// Now, UTC microseconds.
    pub now_us: i64,
}

impl RecommendRequest {
    fn calendar(&self) -> Calendar {
        Calendar { holidays: self.holidays.clone(), deploys: vec![] }
    }
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
    /// The autoscaler that sets its replicas, if there is one.
    pub autoscaler: Option<Autoscaler>,
    /// What a replay says of the bounds of that, or why nothing; none where there is none, or it was not asked for.
    pub bounds: Option<std::result::Result<BoundsAdvice, String>>,
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
    /// Requests of containers; empty where they were not asked for.
    pub containers: Containers,
    /// GPUs that no service name is on.
    pub unnamed_gpu_count: usize,
    /// Points read.
    pub row_count: u64,
    /// The SQL that read them.
    pub queries: Vec<String>,
    /// What became of earlier recommendations, found by this run.
    pub settled: Vec<Entry>,
    /// What was accepted, measured, and should be taken back.
    pub undo: Vec<UndoAdvice>,
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
    let around = Surroundings::read(ctx, request, Depth::Replays, None).await?;
    let mut report = verdicts(&minutes, &around, request)?;
    drop(minutes);
    let Surroundings { workloads, autoscalers, oom, .. } = around;
    report.containers = Containers::read(ctx, request, &workloads, &autoscalers, &oom).await?;
    report.row_count += report.containers.row_count;
    report.renew(&ledger::open(ctx, request.now_us).await?);
    if let Some(store) = store {
        if !report.services.is_empty() || !report.containers.verdicts.is_empty() {
            store.write_result(TABLE, report.to_batch()?).await?;
        }
        report.settled = ledger::settle(ctx, store, request.now_us).await?;
    }
    report.undo = undo::advice(ctx, &report.settled, request, &workloads).await?;
    Ok(report)
}

/// The verdicts on services of `minutes` that were read before, of any window: those outside of the one asked for do not count, and
/// those inside that they do not have are without telemetry. `requests` are those of the window, where they were counted before.
/// Nothing is recorded or renewed, and no points of containers are read.
pub(crate) async fn recommend_of(
    ctx: &SessionContext,
    minutes: &GpuMinutes,
    request: &RecommendRequest,
    requests: Option<RequestCounts>,
) -> Result<RecommendReport> {
    verdicts(minutes, &Surroundings::read(ctx, request, Depth::Verdicts, requests).await?, request)
}

/// How much is asked for besides minutes.
#[derive(Clone, Copy, PartialEq)]
enum Depth {
    /// What verdicts on services need.
    Verdicts,
    /// Also what the replay of an autoscaler needs, where there is one.
    Replays,
}

/// What is told besides minutes.
struct Surroundings {
    told: Told,
    workloads: Workloads,
    places: Places,
    autoscalers: Autoscalers,
    oom: OomKills,
    replays: bool,
}

impl Surroundings {
    async fn read(
        ctx: &SessionContext,
        request: &RecommendRequest,
        depth: Depth,
        requests: Option<RequestCounts>,
    ) -> Result<Self> {
        let window = request.window;
        let autoscalers = Autoscalers::read(ctx, window).await?;
        let replays = depth == Depth::Replays && !autoscalers.is_empty();
        let wants_files = request.manifests.is_some();
        Ok(Self {
            told: Told::read(ctx, window, requests).await?,
            workloads: if wants_files || replays {
                Workloads::read(ctx, window).await?
            } else {
                Workloads::read_owners(ctx, window).await?
            },
            places: if wants_files { Places::read(ctx, window).await? } else { Places::default() },
            autoscalers,
            oom: OomKills::read(ctx, window).await?,
            replays,
        })
    }

    fn queries(&self) -> Vec<String> {
        let of_places = Some(self.places.query.clone()).filter(|query| !query.is_empty());
        let of_all = [&self.told.queries, &self.workloads.queries, &self.autoscalers.queries, &self.oom.queries];
        of_all.into_iter().flatten().cloned().chain(of_places).collect()
    }
}

fn verdicts(minutes: &GpuMinutes, around: &Surroundings, request: &RecommendRequest) -> Result<RecommendReport> {
    let window = request.window.whole_minutes()?;
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
        held.verdict(around, request)
    });
    let services = services.collect();
    Ok(RecommendReport {
        request: request.clone(),
        services,
        containers: Containers::default(),
        unnamed_gpu_count,
        row_count: minutes.row_count,
        queries: minutes.queries.iter().cloned().chain(around.queries()).collect(),
        settled: vec![],
        undo: vec![],
    })
}

impl RecommendReport {
    /// Gives what is proposed unchanged the id that it is `open` under.
    fn renew(&mut self, open: &[Open]) {
        for of in &mut self.containers.verdicts {
            let Some(change) = of.change() else { continue };
            let same = open.iter().find(|one| {
                let proposed = Proposal::Requests { from: of.today, to: change.to };
                (one.simulated, &one.subject) == (of.simulated, &of.subject) && one.proposal.is_as(&proposed)
            });
            if let Some(same) = same {
                of.id = Some(same.id.clone());
            }
        }
        for service in &mut self.services {
            let Some(proposed) = service.proposed() else { continue };
            let same = open.iter().find(|one| {
                let Proposal::Replicas { from, to, gpus_per_replica } = one.proposal else { return false };
                (one.simulated, &one.subject) == (service.simulated, &service.service)
                    && (from, to, gpus_per_replica) == (service.replica_count, proposed, service.gpus_per_replica)
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
    short_id(&identity)
}

/// What the ledger calls a change of this identity: short enough to type.
fn short_id(identity: &str) -> String {
    format!("r{:010x}", xxhash_rust::xxh3::xxh3_64(identity.as_bytes()) >> 24)
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
