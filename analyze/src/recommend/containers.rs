//! What containers should request, from what their pods used, with proof; and the quota of each namespace that follows.

mod quota;
mod requested;
mod show;
#[cfg(test)]
mod tests;
mod usage;

use datafusion::prelude::SessionContext;
use serde::Serialize;

use super::{
    RecommendRequest, autoscalers::Autoscalers, manifests::ServiceManifests, oom::OomKills, short_id,
    workload::Workloads,
};
use crate::{
    PriceBook,
    error::Result,
    manifest::{self, ContainerResources, Folder},
    recommendation::Saving,
    sizing::requests::{ContainerUse, Guard, Proposed, bytes_text, cores_text, propose},
    veto::Veto,
    window::{DAY_US, HOUR_US, local_hour_of_week, time_text},
};
pub use quota::QuotaAdvice;
pub(crate) use requested::{ContainerName, Requested, requested};
use usage::{ContainerKey, ContainerUsages, Usage};

const WEEK_HOURS: f64 = 168.0;
/// As for replicas: days of data, of which a few minutes may be lost, and the share of time measured.
const DAYS_MIN: f64 = 7.0;
const DAYS_SLACK: f64 = 0.05;
const DAYS_FULL: f64 = 14.0;
const COVERAGE_MIN: f64 = 0.90;
/// Days until a proposal expires, as for replicas.
const EXPIRES_DAYS: i64 = 14;
/// First hour of the week of Saturday.
const WEEKEND_HOUR: usize = 5 * 24;
const GB: f64 = 1e9;

/// Containers of all workloads.
#[derive(Debug, Clone, Default)]
pub struct Containers {
    /// Real ones first, by namespace, workload and name.
    pub verdicts: Vec<ContainerVerdict>,
    /// Of each namespace whose requests are known.
    pub quotas: Vec<QuotaAdvice>,
    /// Containers that no workload is told of and that ran for less than a day, as those of batch jobs do: they are not judged.
    pub short_lived_count: usize,
    /// Points read.
    pub row_count: u64,
    /// The SQL that read them.
    pub queries: Vec<String>,
}

/// One container of a workload, all its pods together.
#[derive(Debug, Clone)]
pub struct ContainerVerdict {
    /// What the ledger calls the change, if one is proposed.
    pub id: Option<String>,
    /// Namespace, workload and container, as people write it.
    pub subject: String,
    /// Namespace.
    pub namespace: Option<String>,
    /// Kind and name; none where it is not told.
    pub workload: Option<String>,
    /// Container.
    pub container: String,
    /// Service name, if its telemetry has one.
    pub service: Option<String>,
    /// Whether the data comes from a generator.
    pub simulated: bool,
    /// Most pods at once.
    pub pod_count: u32,
    /// Hours that its pods run in a week, together.
    pub pod_hours: f64,
    /// Requests and limits today.
    pub today: ContainerResources,
    /// What was used.
    pub used: ContainerUse,
    /// Share of its pods' time that was measured.
    pub coverage: f64,
    /// Days that were measured.
    pub days: f64,
    /// What to do.
    pub verdict: RequestVerdict,
    /// Files, if asked for.
    pub manifests: Option<ServiceManifests>,
}

/// What to do about the requests of a container.
#[derive(Debug, Clone, PartialEq)]
pub enum RequestVerdict {
    /// Nothing is concluded: what is missing.
    Unknown(String),
    /// Leave it: why.
    Keep(String),
    /// They look too large, but something forbids the change.
    Vetoed(Vec<Veto>),
    /// Set others.
    Change(Box<RequestChange>),
}

/// Other requests and limits, with their proof.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RequestChange {
    /// To set.
    pub to: ContainerResources,
    /// Whether something rises.
    pub raises: bool,
    /// Whether a request falls.
    pub lowers: bool,
    /// What is left as it is although it looks too large.
    pub held_back: Vec<Veto>,
    /// Least of data age, coverage and stability, 0 to 1.
    pub confidence: f64,
    /// vCPU-hours a week that are freed, negative where more are asked for; none where nothing is requested today.
    pub cpu_hours: Option<Saving>,
    /// Gigabyte-hours (1e9 bytes) a week, likewise.
    pub gb_hours: Option<Saving>,
    /// A week in money; none where a price is unknown.
    pub saving: Option<Saving>,
    /// The three numbers: CPU of the busiest hour (95th percentile, cores), peak of memory (bytes), share of replayed hours in which
    /// a point was above what is proposed to be requested, of CPU or of memory.
    pub numbers: [Option<f64>; 3],
    /// When it stops to hold, UTC microseconds.
    pub expires_us: i64,
    /// One sentence for people.
    pub explanation: String,
}

impl Containers {
    pub(super) async fn read(
        ctx: &SessionContext,
        request: &RecommendRequest,
        workloads: &Workloads,
        autoscalers: &Autoscalers,
        oom: &OomKills,
    ) -> Result<Self> {
        let usages = ContainerUsages::read(ctx, request.window, &workloads.owners(), oom).await?;
        let mut found = Self { row_count: usages.row_count, queries: usages.queries.clone(), ..Self::default() };
        // Of each verdict, in their order.
        let mut most_pods = Vec::new();
        for (key, usage) in &usages.by_container {
            if key.workload.is_err() && usage.days() < 1.0 {
                found.short_lived_count += 1;
                continue;
            }
            let workload = key.workload.as_ref().ok().map(|(_, name)| name.as_str());
            let names: Vec<&str> = workload.into_iter().chain(usage.service.as_deref()).collect();
            let autoscaler = autoscalers.of(key.simulated, key.namespace.as_deref(), &names);
            let scaled_by = autoscaler.map_or([false; 2], super::autoscalers::Autoscaler::scales_by);
            let most = autoscaler.and_then(|one| one.max_replicas).unwrap_or(0).max(usage.pod_count_max);
            most_pods.push(most);
            found.verdicts.push(Examined { key, usage, request, scaled_by }.verdict());
        }
        let (quotas, query) = quota::read(ctx, request, &found.verdicts, &most_pods).await?;
        found.quotas = quotas;
        found.queries.extend(query);
        Ok(found)
    }
}

/// A container and what is asked of it.
struct Examined<'a> {
    key: &'a ContainerKey,
    usage: &'a Usage,
    request: &'a RecommendRequest,
    scaled_by: [bool; 2],
}

impl Examined<'_> {
    fn verdict(&self) -> ContainerVerdict {
        let (key, usage) = (self.key, self.usage);
        let (coverage, days) = (usage.coverage(self.request.window), usage.days());
        let today = usage.resources();
        let guard = Guard { lowering: self.against_lowering(coverage, days), scaled_by: self.scaled_by };
        let proposed = propose(&usage.used, &today, &guard);
        let verdict = self.judged(&proposed, &today, coverage, days);
        let mut of = ContainerVerdict {
            id: None,
            subject: key.subject(),
            namespace: key.namespace.clone(),
            workload: key.workload.as_ref().ok().map(|(kind, name)| format!("{} {name}", kind.as_str())),
            container: key.container.clone(),
            service: usage.service.clone(),
            simulated: key.simulated,
            pod_count: usage.pod_count_max,
            pod_hours: self.pod_hours_a_week(),
            today,
            used: usage.used,
            coverage,
            days,
            verdict,
            manifests: None,
        };
        if let RequestVerdict::Change(change) = &of.verdict {
            of.id = Some(of.id_of(change, self.request));
            of.manifests = self.request.manifests.as_ref().map(|_| self.manifests(change, &today));
        }
        of
    }

    fn against_lowering(&self, coverage: f64, days: f64) -> Vec<Veto> {
        let criticality = self.usage.criticality.clone();
        let critical = criticality.filter(|level| matches!(level.to_lowercase().as_str(), "high" | "critical"));
        let hours = self.usage.hours.keys().filter_map(|hour| local_hour_of_week(hour * HOUR_US, self.request.zone));
        let weekend: std::collections::BTreeSet<usize> = hours.filter(|hour| *hour >= WEEKEND_HOUR).collect();
        [
            critical.map(Veto::Criticality),
            (coverage < COVERAGE_MIN).then_some(Veto::Coverage(coverage)),
            (days < DAYS_MIN * COVERAGE_MIN - DAYS_SLACK).then_some(Veto::LittleData(days)),
            (weekend.len() < 48).then_some(Veto::NoWeekend),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn judged(&self, proposed: &Proposed, today: &ContainerResources, coverage: f64, days: f64) -> RequestVerdict {
        let used = &self.usage.used;
        if proposed.raises || proposed.lowers {
            return RequestVerdict::Change(Box::new(self.change(proposed, today, coverage, days)));
        }
        if used.cores_needed().is_none() && used.memory_needed(None).is_none() {
            let points = used.cpu_point_count.max(used.memory_point_count);
            return RequestVerdict::Unknown(format!(
                "{points} points of CPU or memory, 100 are needed: send container.cpu.usage and container.memory.working_set"
            ));
        }
        if coverage < COVERAGE_MIN {
            return RequestVerdict::Unknown(format!(
                "only {:.0} % of the time of its pods was measured, 90 % is needed",
                coverage * 100.0
            ));
        }
        if proposed.held_back.is_empty() {
            let known = |value: Option<f64>, text: fn(f64) -> String| value.map_or_else(|| "unknown".to_owned(), text);
            RequestVerdict::Keep(format!(
                "its requests fit: the busiest hour uses {}, memory peaks at {}",
                known(used.cpu_p95, cores_text),
                known(used.memory_peak, bytes_text)
            ))
        } else {
            RequestVerdict::Vetoed(proposed.held_back.clone())
        }
    }

    fn pod_hours_a_week(&self) -> f64 {
        let window = self.request.window;
        let first_us =
            self.usage.hours.keys().next().map_or(window.start_us, |hour| (hour * HOUR_US).max(window.start_us));
        let hours = (window.end_us - first_us) as f64 / HOUR_US as f64;
        if hours > 0.0 { self.usage.pod_hours() / hours * WEEK_HOURS } else { 0.0 }
    }

    fn change(&self, proposed: &Proposed, today: &ContainerResources, coverage: f64, days: f64) -> RequestChange {
        let (used, to) = (&self.usage.used, proposed.to);
        let confidence = (days / DAYS_FULL).min(coverage).min(self.usage.stability()).clamp(0.0, 1.0);
        let pod_hours = self.pod_hours_a_week();
        let freed = |from: Option<f64>, to: Option<f64>, unit: f64| {
            let expected = (from? - to?) / unit * pod_hours;
            // What is not sure saves less; what has to be paid is paid in full.
            let low = if expected > 0.0 { expected * confidence } else { expected };
            Some(Saving { low, expected, high: expected })
        };
        let cpu_hours = freed(today.cpu_request, to.cpu_request, 1.0);
        let gb_hours = freed(today.memory_request, to.memory_request, GB);
        let over = self.hours_over(&to);
        let known = |value: Option<f64>, text: fn(f64) -> String| value.map_or_else(|| "unknown".to_owned(), text);
        let mut explanation = format!(
            "{}: {}; the busiest hour uses {} (95th percentile), memory peaks at {}",
            self.key.subject(),
            proposed.reasons.join(", "),
            known(used.cpu_p95, cores_text),
            known(used.memory_peak, bytes_text),
        );
        if let Some(over) = over {
            explanation += &format!("; replayed, {:.2} % of hours have a point above the new requests", over * 100.0);
        }
        if used.oom_count > 0 {
            explanation += &format!("; {} killed for lack of memory", times(used.oom_count));
        }
        if let Some(share) = used.throttled_share.filter(|_| used.is_throttled()) {
            explanation += &format!("; a CPU limit held it back {:.0} % of its worst hour", share * 100.0);
        }
        RequestChange {
            to,
            raises: proposed.raises,
            lowers: proposed.lowers,
            held_back: proposed.held_back.clone(),
            confidence,
            cpu_hours,
            gb_hours,
            saving: self.request.prices.as_ref().and_then(|prices| money(prices, cpu_hours, gb_hours)),
            numbers: [used.cpu_p95, used.memory_peak, over],
            expires_us: self.request.now_us + EXPIRES_DAYS * DAY_US,
            explanation,
        }
    }

    /// Share of the hours in which a point of any pod was above the requests `to`.
    fn hours_over(&self, to: &ContainerResources) -> Option<f64> {
        let over = |peak: f32, request: Option<f64>| request.is_some_and(|request| f64::from(peak) > request);
        let measured = self.usage.hours.values().filter(|hour| !hour.cpu_peak.is_nan() || !hour.memory_peak.is_nan());
        let (mut hours, mut over_count) = (0_u32, 0_u32);
        for hour in measured {
            hours += 1;
            over_count += u32::from(over(hour.cpu_peak, to.cpu_request) || over(hour.memory_peak, to.memory_request));
        }
        (hours > 0).then(|| f64::from(over_count) / f64::from(hours))
    }

    fn manifests(&self, change: &RequestChange, today: &ContainerResources) -> ServiceManifests {
        let mut made = ServiceManifests { folders: vec![], notes: vec![] };
        let comment = format!(
            "{}\nconfidence {:.2}; holds until {}",
            change.explanation,
            change.confidence,
            time_text(change.expires_us)
        );
        let written = self.key.target().and_then(|target| {
            manifest::resources(&target, &self.key.container, today, &change.to, &comment)
                .map_err(|error| error.to_string())
        });
        match written {
            Ok(change) => made.folders.push(Folder::new(
                "requests",
                "The pods are rolled out anew with other requests. A chart or an operator that owns the workload sets them back: change \
                 them there.\n\n",
                change,
            )),
            Err(reason) => made.notes.push(format!("no files: {reason}")),
        }
        made.notes.extend(change.held_back.iter().map(|veto| format!("not lowered: {}", veto.reason())));
        made
    }
}

/// Money of a week; none where a price of what changes is unknown.
fn money(prices: &PriceBook, cpu_hours: Option<Saving>, gb_hours: Option<Saving>) -> Option<Saving> {
    let part = |hours: Option<Saving>, price: Option<f64>| match hours {
        Some(hours) if hours.expected == 0.0 => Some(Saving { low: 0.0, expected: 0.0, high: 0.0 }),
        Some(hours) => price.map(|price| hours.times(price)),
        // Nothing is requested today: what it costs is unknown.
        None => None,
    };
    let (cpu, memory) = (part(cpu_hours, prices.vcpu())?, part(gb_hours, prices.gb())?);
    Some(Saving { low: cpu.low + memory.low, expected: cpu.expected + memory.expected, high: cpu.high + memory.high })
}

fn times(count: u32) -> String {
    if count == 1 { "one container was".to_owned() } else { format!("{count} containers were") }
}

impl ContainerVerdict {
    /// The same for the same question about the same container, another for another.
    fn id_of(&self, change: &RequestChange, request: &RecommendRequest) -> String {
        let identity = format!(
            "requests\0{}\0{}\0{:?}\0{}\0{}\0{}",
            self.subject, self.simulated, change.to, request.window.start_us, request.window.end_us, request.now_us
        );
        short_id(&identity)
    }

    /// `raise`, `shrink`, `change` (both), `keep`, `vetoed` or `unknown`.
    pub fn verdict_name(&self) -> &'static str {
        match &self.verdict {
            RequestVerdict::Unknown(_) => "unknown",
            RequestVerdict::Keep(_) => "keep",
            RequestVerdict::Vetoed(_) => "vetoed",
            RequestVerdict::Change(change) => match (change.raises, change.lowers) {
                (true, true) => "change",
                (true, false) => "raise",
                (false, _) => "shrink",
            },
        }
    }

    /// Why, as sentences.
    pub fn why(&self) -> String {
        let reasons = |vetoes: &[Veto]| vetoes.iter().map(Veto::reason).collect::<Vec<_>>().join("; ");
        match &self.verdict {
            RequestVerdict::Unknown(reason) | RequestVerdict::Keep(reason) => reason.clone(),
            RequestVerdict::Vetoed(vetoes) => reasons(vetoes),
            RequestVerdict::Change(change) if change.held_back.is_empty() => change.explanation.clone(),
            RequestVerdict::Change(change) => {
                format!("{}; not lowered further: {}", change.explanation, reasons(&change.held_back))
            }
        }
    }

    /// The change, if one is proposed.
    pub fn change(&self) -> Option<&RequestChange> {
        match &self.verdict {
            RequestVerdict::Change(change) => Some(change),
            _ => None,
        }
    }
}
