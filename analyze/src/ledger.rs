//! What became of recommendations: the table `recommendation_ledger`, which is only ever appended to.
//!
//! Without a row a recommendation is proposed. People accept or reject it; later runs of the job renew it while they propose the
//! same, and find what expired, what another one of the same service superseded, and what an accepted one came to in the week that
//! begins a day after it was accepted, and whether it should be taken back.
//!
//! Invariant: of a service, and of the requests of a container, at most one recommendation is open, the newest, and at most one is accepted and not yet measured.
//! Else a daily run would offer the same saving every day, to be counted each time.

mod measured;
mod table;
#[cfg(test)]
mod tests;
mod undo;

use std::collections::{BTreeMap, HashMap};

use datafusion::prelude::SessionContext;
use driftwatt_store::Store;
use serde::Serialize;

use crate::{
    error::{Error, Result},
    gpu_minutes::GpuMinutes,
    manifest::ContainerResources,
    recommend::{self, ContainerName},
    recommendation::LedgerState,
    rows::{Rows, has_result},
    window::{DAY_US, Window, time_literal},
};
use measured::{realised, realised_requests};
use table::{append, recorded};
use undo::Latencies;

/// Result table.
pub const TABLE: &str = "recommendation_ledger";

/// Days of the week that a saving is measured in.
const MEASURED_DAYS: i64 = 7;
/// Days for which it is said that a measured one should be taken back.
const UNDO_DAYS: i64 = 14;
/// Requests that differ by less than this are the same proposal: a peak moves a little every day.
const SAME_SHARE: f64 = 0.10;

/// What people say to a recommendation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// It is, or will be, carried out.
    Accept,
    /// It is not.
    Reject,
}

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Of this recommendation.
    pub id: String,
    /// What it changes.
    pub kind: Kind,
    /// Service; namespace, workload and container for requests.
    pub service: String,
    /// Whether the data comes from a generator.
    pub simulated: bool,
    /// What became of it.
    #[serde(serialize_with = "name_of")]
    pub state: LedgerState,
    /// GPU-hours a week that were promised.
    pub predicted_gpu_hours: Option<f64>,
    /// GPU-hours of the week after that were not held any more, negative where more were; none where not measured.
    pub realised_gpu_hours: Option<f64>,
    /// vCPU-hours a week by which the requests were promised to fall.
    pub predicted_cpu_hours: Option<f64>,
    /// By which they fell.
    pub realised_cpu_hours: Option<f64>,
    /// Gigabyte-hours (1e9 bytes) a week, likewise.
    pub predicted_gb_hours: Option<f64>,
    /// By which they fell.
    pub realised_gb_hours: Option<f64>,
    /// Money a week that was promised.
    pub predicted_saving: Option<f64>,
    /// The same part of it as of the hours.
    pub realised_saving: Option<f64>,
    /// Currency of both; empty without prices.
    pub currency: String,
    /// Why, in somebody's words.
    pub note: Option<String>,
    /// Why it should be taken back, found when it was measured; none where nothing says so.
    pub undo: Option<String>,
}

/// What a recommendation changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The number of replicas of a service.
    Replicas,
    /// Requests and limits of a container.
    Requests,
}

fn name_of<S: serde::Serializer>(state: &LedgerState, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(state.as_str())
}

/// What to change, before and after.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Proposal {
    /// Replicas of a service.
    Replicas { from: u32, to: u32, gpus_per_replica: u32 },
    /// Requests of a container.
    Requests { from: ContainerResources, to: ContainerResources },
}

/// A recommendation as it was recorded, with its state.
#[derive(Debug, Clone)]
struct Recorded {
    entry: Entry,
    /// When it was made.
    made_us: i64,
    expires_us: i64,
    proposal: Proposal,
    /// For latency; none where the container has no service.
    service: Option<String>,
    /// The container, for requests.
    container: Option<ContainerName>,
}

/// A recommendation that waits for somebody to decide.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Open {
    pub(crate) id: String,
    pub(crate) subject: String,
    pub(crate) simulated: bool,
    pub(crate) proposal: Proposal,
}

/// A measured recommendation that should be taken back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Undo {
    pub(crate) entry: Entry,
    pub(crate) proposal: Proposal,
    pub(crate) container: Option<ContainerName>,
}

impl Proposal {
    fn kind(&self) -> Kind {
        match self {
            Self::Replicas { .. } => Kind::Replicas,
            Self::Requests { .. } => Kind::Requests,
        }
    }

    /// Whether it is the same as `other` but for the noise of a day.
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        let near = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() <= a.abs() * SAME_SHARE,
            (a, b) => a.is_none() && b.is_none(),
        };
        match (self, other) {
            (Self::Requests { from, to }, Self::Requests { from: other_from, to: other_to }) => {
                from == other_from
                    && near(to.cpu_request, other_to.cpu_request)
                    && near(to.memory_request, other_to.memory_request)
                    && near(to.cpu_limit, other_to.cpu_limit)
                    && near(to.memory_limit, other_to.memory_limit)
            }
            (one, other) => one == other,
        }
    }
}

/// Simulated or not, what is changed, and of what.
type Subject<'a> = (bool, Kind, &'a str);

impl Entry {
    fn subject(&self) -> Subject<'_> {
        (self.simulated, self.kind, self.service.as_str())
    }
}

/// The newest recommendation of each subject.
struct Newest<'a>(HashMap<Subject<'a>, &'a Recorded>);

impl<'a> Newest<'a> {
    fn of(all: &'a [Recorded]) -> Self {
        let mut newest: HashMap<Subject<'_>, &Recorded> = HashMap::new();
        for recorded in all {
            let known = newest.entry(recorded.entry.subject()).or_insert(recorded);
            // Of two of one moment the last by id, so that one is open.
            if (known.made_us, &known.entry.id) < (recorded.made_us, &recorded.entry.id) {
                *known = recorded;
            }
        }
        Self(newest)
    }

    /// The id of that of the same subject, unless it is this one.
    fn instead_of(&self, entry: &Entry) -> Option<&'a str> {
        let newest = self.0.get(&entry.subject())?;
        Some(newest.entry.id.as_str()).filter(|id| *id != entry.id)
    }
}

/// Records what somebody says to the recommendation `id`.
///
/// # Errors
/// [`Error::UnknownRecommendation`]; [`Error::Ledger`] where it was decided before, has expired or is superseded;
/// [`Error::RecommendationWaits`] where another of the service was accepted and is not measured yet; those of query and store.
pub async fn decide(
    ctx: &SessionContext,
    store: &Store,
    id: &str,
    decision: Decision,
    note: Option<&str>,
    now_us: i64,
) -> Result<Entry> {
    let all = recorded(ctx).await?;
    let recorded = all.iter().find(|recorded| recorded.entry.id == id);
    let recorded = recorded.ok_or_else(|| Error::UnknownRecommendation { id: id.to_owned() })?.clone();
    let to = match decision {
        Decision::Accept => LedgerState::Accepted(now_us),
        Decision::Reject => LedgerState::Rejected(now_us),
    };
    let known = match recorded.entry.state {
        LedgerState::Proposed if Newest::of(&all).instead_of(&recorded.entry).is_some() => LedgerState::Superseded,
        known => known,
    };
    let state = known.advanced(to, recorded.expires_us)?;
    let is_waited_for = |other: &&Recorded| {
        matches!(other.entry.state, LedgerState::Accepted(_)) && other.entry.subject() == recorded.entry.subject()
    };
    if decision == Decision::Accept
        && let Some(other) = all.iter().find(is_waited_for)
    {
        return Err(Error::RecommendationWaits { id: id.to_owned(), other: other.entry.id.clone() });
    }
    let entry = Entry { state, note: note.map(str::to_owned), ..recorded.entry };
    append(store, std::slice::from_ref(&entry), now_us).await?;
    Ok(entry)
}

/// What waits for somebody to decide at `now_us`, one of a service.
///
/// # Errors
/// Those of queries.
pub(crate) async fn open(ctx: &SessionContext, now_us: i64) -> Result<Vec<Open>> {
    let all = recorded(ctx).await?;
    let newest = Newest::of(&all);
    let is_open = |one: &&Recorded| {
        one.entry.state == LedgerState::Proposed && now_us < one.expires_us && newest.instead_of(&one.entry).is_none()
    };
    let open = |one: &Recorded| Open {
        id: one.entry.id.clone(),
        subject: one.entry.service.clone(),
        simulated: one.entry.simulated,
        proposal: one.proposal.clone(),
    };
    Ok(all.iter().filter(is_open).map(open).collect())
}

/// Finds and records what expired, what was superseded, and what accepted recommendations came to.
///
/// # Errors
/// Those of query and store.
pub async fn settle(ctx: &SessionContext, store: &Store, now_us: i64) -> Result<Vec<Entry>> {
    let mut settled = Vec::new();
    let mut due: BTreeMap<i64, Vec<(Recorded, Window)>> = BTreeMap::new();
    let all = recorded(ctx).await?;
    let newest = Newest::of(&all);
    for recorded in all.iter().cloned() {
        match (recorded.entry.state, newest.instead_of(&recorded.entry)) {
            (LedgerState::Proposed, Some(newer)) => {
                let state = recorded.entry.state.advanced(LedgerState::Superseded, recorded.expires_us)?;
                settled.push(Entry { state, note: Some(format!("by {newer}")), ..recorded.entry });
            }
            (LedgerState::Proposed, None) if now_us >= recorded.expires_us => {
                let state = recorded.entry.state.advanced(LedgerState::Expired, recorded.expires_us)?;
                settled.push(Entry { state, ..recorded.entry });
            }
            (LedgerState::Accepted(at_us), _) if now_us >= at_us + (1 + MEASURED_DAYS) * DAY_US => {
                let window = Window::new(at_us + DAY_US, at_us + (1 + MEASURED_DAYS) * DAY_US)?;
                due.entry(window.start_us.div_euclid(DAY_US)).or_default().push((recorded, window));
            }
            _ => {}
        }
    }
    // What was accepted on one day is measured in one read of its weeks.
    for (day, accepted) in due {
        let week = Window::new(day * DAY_US, (day + 1 + MEASURED_DAYS) * DAY_US)?;
        let of_replicas = accepted.iter().any(|(one, _)| one.entry.kind == Kind::Replicas);
        let minutes = if of_replicas { Some(GpuMinutes::read(ctx, week).await?) } else { None };
        // The week that ends with the acceptance, which is a day before the measured one.
        let before = Window::new((day - 1 - MEASURED_DAYS) * DAY_US, (day - 1) * DAY_US)?;
        let latencies = (Latencies::read(ctx, before).await?, Latencies::read(ctx, week).await?);
        for (recorded, window) in accepted {
            let service = recorded.service.clone().unwrap_or_default();
            let simulated = recorded.entry.simulated;
            let latency = (latencies.0.of(simulated, &service), latencies.1.of(simulated, &service));
            let (mut entry, oom_count) = match (&recorded.container, &minutes) {
                (Some(container), _) => {
                    let requested = recommend::requested(ctx, container, window).await?;
                    (realised_requests(&recorded, &requested)?, requested.oom_count)
                }
                (None, Some(minutes)) => (realised(minutes, &recorded, window)?, 0),
                (None, None) => continue,
            };
            let (predicted, came) = entry.promise();
            entry.undo = undo::reason(predicted, came, latency, oom_count);
            settled.push(entry);
        }
    }
    append(store, &settled, now_us).await?;
    Ok(settled)
}

/// What was measured in the last two weeks, should be taken back, and was not followed by another recommendation that was accepted.
///
/// # Errors
/// Those of queries.
pub(crate) async fn to_undo(ctx: &SessionContext, settled: &[Entry], now_us: i64) -> Result<Vec<Undo>> {
    let all = recorded(ctx).await?;
    let mut suggested: BTreeMap<String, Entry> = BTreeMap::new();
    if has_result(ctx, TABLE) {
        let query = format!(
            "SELECT id, undo, realised_gpu_hours, realised_cpu_hours, realised_gb_hours, realised_saving, note FROM reports.{TABLE} \
             WHERE undo IS NOT NULL AND time > {} AND time <= {}",
            time_literal(now_us - UNDO_DAYS * DAY_US),
            time_literal(now_us)
        );
        let rows = Rows::query(ctx, &query).await?;
        let (ids, reasons, notes) = (rows.texts("id")?, rows.texts("undo")?, rows.texts("note")?);
        let numbers = ["realised_gpu_hours", "realised_cpu_hours", "realised_gb_hours", "realised_saving"];
        let [gpu, cpu, gb, saving] = numbers.map(|name| rows.numbers(name));
        let (gpu, cpu, gb, saving) = (gpu?, cpu?, gb?, saving?);
        for row in 0..rows.len() {
            let found = all.iter().find(|one| Some(&one.entry.id) == ids[row].as_ref());
            let Some(found) = found else { continue };
            let entry = Entry {
                realised_gpu_hours: gpu[row],
                realised_cpu_hours: cpu[row],
                realised_gb_hours: gb[row],
                realised_saving: saving[row],
                note: notes[row].clone(),
                undo: reasons[row].clone(),
                ..found.entry.clone()
            };
            suggested.insert(entry.id.clone(), entry);
        }
    }
    let now = settled.iter().filter(|entry| entry.undo.is_some());
    suggested.extend(now.map(|entry| (entry.id.clone(), entry.clone())));
    let is_followed = |of: &Entry| {
        all.iter().any(|other| {
            matches!(other.entry.state, LedgerState::Accepted(_))
                && other.entry.id != of.id
                && other.entry.subject() == of.subject()
        })
    };
    let undo = suggested.into_values().filter(|entry| !is_followed(entry)).filter_map(|entry| {
        let recorded = all.iter().find(|one| one.entry.id == entry.id)?;
        Some(Undo { proposal: recorded.proposal.clone(), container: recorded.container.clone(), entry })
    });
    Ok(undo.collect())
}

impl Entry {
    /// Hours that were promised and that came: of GPUs, or of the resource of a container of which more was promised.
    fn promise(&self) -> (Option<f64>, Option<f64>) {
        match self.kind {
            Kind::Replicas => (self.predicted_gpu_hours, self.realised_gpu_hours),
            Kind::Requests if self.predicted_cpu_hours.is_some_and(|hours| hours > 0.0) => {
                (self.predicted_cpu_hours, self.realised_cpu_hours)
            }
            Kind::Requests => (self.predicted_gb_hours, self.realised_gb_hours),
        }
    }

    /// Hours for people.
    fn hours(&self, gpu: Option<f64>, cpu: Option<f64>, gb: Option<f64>) -> String {
        let hours = |hours: Option<f64>, unit: &str| hours.map(|hours| format!("{hours:.0} {unit}"));
        let parts = match self.kind {
            Kind::Replicas => vec![hours(gpu, "GPU-h")],
            Kind::Requests => vec![hours(cpu, "vCPU-h"), hours(gb, "GB-h")],
        };
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() { "unknown".to_owned() } else { parts.join(" and ") }
    }

    /// One line for people.
    pub fn text(&self) -> String {
        let mark = if self.simulated { "simulated " } else { "" };
        let came = match self.state {
            LedgerState::Realised { .. } => {
                let came = self.hours(self.realised_gpu_hours, self.realised_cpu_hours, self.realised_gb_hours);
                format!(", {came} came of it")
            }
            _ => String::new(),
        };
        let note = self.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
        let undo = self.undo.as_ref().map(|why| format!("; take it back: {why}")).unwrap_or_default();
        let promised = self.hours(self.predicted_gpu_hours, self.predicted_cpu_hours, self.predicted_gb_hours);
        format!(
            "{} {mark}{}: {}, {promised} a week promised{came}{note}{undo}",
            self.id,
            self.service,
            self.state.as_str()
        )
    }
}
