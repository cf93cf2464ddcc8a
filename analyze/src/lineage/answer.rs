//! `driftwatt lineage SERVICE`: which data, parameters and code made what runs, now or at a moment before.

mod accuracy;
mod footprint;
mod json;
mod made;
mod move_card;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use datafusion::prelude::SessionContext;

use super::{
    checkpoint_alarm,
    deployment::Release,
    findings::{Finding, Fleet, findings},
    prediction_label,
    records::{EventRecord, ModelVersionRecord},
    service_timelines::{self, ServiceTimelines},
    timeline::Interval,
};
use crate::{
    PriceBook,
    error::{Error, Result},
    rows::Rows,
    window::{DAY_US, Window, time_literal},
};
use accuracy::Labelled;
pub use accuracy::VersionAccuracy;
pub use made::Made;
pub use move_card::MoveCard;
use move_card::Place;

/// Longest time whose telemetry is read, days.
pub const DAYS_MAX: u32 = 365;
/// Releases of a registry that findings are compared with.
const RELEASES_MAX: usize = 100_000;
/// Intervals before the moment that are shown.
const INTERVALS_SHOWN: usize = 12;
/// Services that an error names.
const SERVICES_SHOWN: usize = 20;

/// What the settings say of what is looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineageScope {
    /// Environments in which a release must be in the registry.
    pub production: BTreeSet<String>,
    /// The service that a folder of checkpoints belongs to; one that is missing is everybody's.
    pub checkpoint_services: BTreeMap<String, String>,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct LineageRequest {
    /// `service.name`.
    pub service: String,
    /// Only evidence about this model; none is all of it.
    pub model: Option<String>,
    /// The moment, UTC microseconds; none is now.
    pub at_us: Option<i64>,
    /// Days before the moment whose telemetry is read.
    pub days: u32,
    /// What the settings say.
    pub scope: LineageScope,
    /// Prices; without, what a release costs is unknown.
    pub prices: Option<PriceBook>,
    /// Present, UTC microseconds.
    pub now_us: i64,
}

/// What ran in one environment.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetLineage {
    /// The environment; none where nothing names one.
    pub environment: Option<String>,
    /// What ran at the moment; none before the first evidence.
    pub held: Option<Interval>,
    /// What made the release that ran, and the one that is claimed, where they are of different models or versions.
    pub made: Vec<Made>,
    /// Intervals up to the moment, the last ones.
    pub history: Vec<Interval>,
    /// Deployments that are stated for later, as sentences.
    pub planned: Vec<String>,
    /// Evidence that could not be used, as sentences.
    pub rejected: Vec<String>,
    /// How often predictions were right, by release; empty where nobody told.
    pub accuracy: Vec<VersionAccuracy>,
    /// The last move of versions before the moment; none where there was none.
    pub last_move: Option<MoveCard>,
}

/// The registry, as far as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RegistryState {
    /// When everything in it was last read, UTC microseconds; none where no registry ever was.
    pub read_us: Option<i64>,
    /// Since when and why it cannot be read; none where it can.
    pub failure: Option<(i64, String)>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct LineageReport {
    /// What was asked.
    pub request: LineageRequest,
    /// The moment, UTC microseconds.
    pub at_us: i64,
    /// Whether there was simulated telemetry, and real telemetry.
    pub data: (bool, bool),
    /// By environment.
    pub targets: Vec<TargetLineage>,
    /// The attribute that a reported version comes from, where it is not that of the model itself.
    pub indirect: BTreeMap<Release, &'static str>,
    /// What to look at.
    pub findings: Vec<Finding>,
    /// What findings are compared with.
    pub registry: RegistryState,
    /// What is missing or less exact than usual, as sentences.
    pub notes: Vec<String>,
}

/// Reads and puts together what is known.
///
/// # Errors
/// [`Error::UnknownLineage`] where nothing at all is known of the service, [`Error::LineageTime`] for a moment ahead; those of queries.
pub async fn run(ctx: &SessionContext, request: &LineageRequest) -> Result<LineageReport> {
    let at_us = request.at_us.unwrap_or(request.now_us);
    if at_us > request.now_us || !(1..=DAYS_MAX).contains(&request.days) {
        return Err(Error::LineageTime { days_max: DAYS_MAX });
    }
    let span_us = i64::from(request.days) * DAY_US;
    // What came after the moment also tells of it.
    let window = Window::new(at_us - span_us, request.now_us.min(at_us + span_us))?;
    let known = service_timelines::read(ctx, &request.service, request.model.as_deref(), window).await?;
    let has_telemetry = known.data != (false, false);
    if known.timelines.is_empty() && !has_telemetry {
        let known = services(ctx, window).await?;
        return Err(Error::UnknownLineage { service: request.service.clone(), days: request.days, known });
    }
    let registry = registry_state(ctx, request.now_us).await?;
    let counts =
        prediction_label::counts(ctx, &request.service, Window::new(window.start_us, window.end_us + 1)?).await?;
    let mut targets = Vec::new();
    for (target, timeline) in &known.timelines {
        let labels = Labelled::new(&counts, target, timeline, request.model.as_deref());
        let is_only = known.timelines.len() == 1;
        let place = Place { ctx, request, target, is_only, timeline, labels: &labels, at_us };
        targets.push(target_lineage(&place).await?);
    }
    let mut notes = known.notes.clone();
    notes.extend(missing(&targets, &registry));
    let findings = findings_at(ctx, request, &known, at_us).await?;
    let ServiceTimelines { data, indirect, .. } = known;
    Ok(LineageReport { request: request.clone(), at_us, data, targets, indirect, findings, registry, notes })
}

async fn services(ctx: &SessionContext, span: Window) -> Result<Vec<String>> {
    let (from, to) = (time_literal(span.start_us), time_literal(span.end_us));
    let query = format!(
        "SELECT DISTINCT service_name FROM raw.series WHERE service_name IS NOT NULL AND date >= CAST({from} AS DATE) \
         AND date <= CAST({to} AS DATE) ORDER BY 1 LIMIT {SERVICES_SHOWN}"
    );
    Ok(Rows::query(ctx, &query).await?.texts("service_name")?.into_iter().flatten().collect())
}

async fn registry_state(ctx: &SessionContext, now_us: i64) -> Result<RegistryState> {
    let read_us = EventRecord::last_registry_read(ctx, now_us).await?.map(|(_, ended_us)| ended_us);
    let failure = EventRecord::last_registry_failure(ctx, now_us).await?;
    Ok(RegistryState {
        read_us,
        failure: failure.filter(|(time_us, _)| read_us.is_none_or(|read_us| *time_us > read_us)),
    })
}

async fn target_lineage(place: &Place<'_>) -> Result<TargetLineage> {
    let &Place { ctx, request, target, timeline, at_us, .. } = place;
    let count = timeline.intervals.partition_point(|interval| interval.from_us <= at_us);
    let held = count.checked_sub(1).map(|index| timeline.intervals[index].clone());
    let mut releases: Vec<Release> = Vec::new();
    if let Some(interval) = &held {
        releases.extend(interval.status.candidates().iter().cloned());
        releases
            .extend(interval.claimed.iter().filter(|claimed| !releases.contains(claimed)).cloned().collect::<Vec<_>>());
    }
    let mut made = Vec::new();
    for release in releases {
        made.push(made::read(ctx, release, request.now_us).await?);
    }
    let last_move = timeline.moves().into_iter().rfind(|step| step.end_us <= at_us);
    let last_move = match last_move {
        Some(step) => Some(place.card(step).await?),
        None => None,
    };
    Ok(TargetLineage {
        environment: target.environment.clone(),
        held,
        made,
        history: timeline.intervals[count.saturating_sub(INTERVALS_SHOWN)..count].to_vec(),
        // What the timeline of a past moment takes for planned may have happened since.
        planned: timeline.planned.iter().filter(|one| one.time_us > request.now_us).map(text::planned).collect(),
        rejected: timeline.rejected.iter().map(|(_, error)| error.to_string()).collect(),
        accuracy: place.labels.by_version(),
        last_move,
    })
}

/// What is not known, and how to have it known.
fn missing(targets: &[TargetLineage], registry: &RegistryState) -> Vec<String> {
    let mut notes = Vec::new();
    if targets.is_empty() {
        notes.push(
            "its telemetry names no version: send driftwatt.model.version or service.version as resource attribute, mark \
             deployments (driftwatt deploy mark), or let it follow an alias of a registry"
                .to_owned(),
        );
    }
    if registry.read_us.is_none() && registry.failure.is_none() {
        notes.push(
            "no model registry is read: run, parameters, commit and data of a version come from [lineage.mlflow]"
                .to_owned(),
        );
    }
    notes
}

async fn findings_at(
    ctx: &SessionContext,
    request: &LineageRequest,
    known: &ServiceTimelines,
    at_us: i64,
) -> Result<Vec<Finding>> {
    let is_past = |interval: &&Interval| interval.from_us <= at_us;
    let held = known.timelines.values().filter_map(|timeline| timeline.intervals.iter().rfind(is_past));
    let models: BTreeSet<String> =
        held.flat_map(|interval| interval.status.candidates()).map(|release| release.model.clone()).collect();
    let registry = ModelVersionRecord::releases(ctx, &models, at_us, RELEASES_MAX).await?;
    let footprints = footprint::read(ctx, &request.service, &known.timelines, at_us).await?;
    let mut checkpoints = checkpoint_alarm::current(ctx, at_us).await?;
    let own = |folder: &String| request.scope.checkpoint_services.get(folder).is_none_or(|of| *of == request.service);
    checkpoints.retain(|folder, _| own(folder));
    // Names that try to follow the grammar; a registry's plain name with its number is none of them.
    let names = models.into_iter().filter(|name| name.starts_with("model_")).collect();
    Ok(findings(&Fleet {
        footprints,
        timelines: Some(&known.timelines),
        production: request.scope.production.clone(),
        checkpoints,
        at_us: Some(at_us),
        registry,
        names,
    }))
}
