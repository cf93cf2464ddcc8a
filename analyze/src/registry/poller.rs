//! One poll after the other: ask, compare, write.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::prelude::SessionContext;
use driftwatt_store::Store;

use super::{
    client::Client,
    known::{Known, VersionKey},
    settings::MlflowConfig,
};
use crate::{
    delivery::Clock,
    lineage::{
        mlflow::{self, AnswerError, Change, Poll, PollError, PollOptions, Remedy, Request, Run, Snapshot, read_run},
        records::{EventRecord, ModelVersionRecord, RunState},
        service_timelines,
    },
};

/// Runs that one poll asks for; the others wait for the next.
const RUNS_MAX: usize = 200;
/// Versions of the smallest page that a registry may send.
const PAGE_ROWS_MIN: usize = 100;

/// Why a poll came to nothing. What was known stays known, and the next poll covers the gap.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No answer.
    #[error("the registry does not answer: {reason}")]
    Unreachable {
        /// With all its causes.
        reason: String,
    },
    /// An answer of no use.
    #[error(transparent)]
    Poll(#[from] PollError),
    /// An answer without end.
    #[error("{path}: an answer of more than {bytes_max} bytes: does something else answer at this address?")]
    TooLarge {
        /// What was asked.
        path: &'static str,
        /// The limit.
        bytes_max: usize,
    },
    /// More than may be held.
    #[error(
        "the registry has more than {limit} versions or models: raise lineage.mlflow.versions_max (about 1 KiB of memory each)"
    )]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// It was read, but what was found could not be written, or what was known not be read.
    #[error("what the registry says could not be recorded: {0}")]
    Record(Box<crate::Error>),
}

impl From<crate::Error> for RegistryError {
    fn from(error: crate::Error) -> Self {
        Self::Record(Box::new(error))
    }
}

impl RegistryError {
    /// What it is called in metrics: `unreachable`, `unavailable`, `refused`, `unusable` or `not_recorded`.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Poll(PollError::Answer { source: AnswerError::Refused { .. }, .. }) => "refused",
            Self::Poll(PollError::Answer { source, .. }) if source.remedy() == Remedy::Retry => "unavailable",
            Self::Poll(_) | Self::TooLarge { .. } | Self::TooMany { .. } => "unusable",
            Self::Record(_) => "not_recorded",
        }
    }
}

/// What a poll found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PollReport {
    /// Whether everything was read, and not only what changed.
    pub full: bool,
    /// Models and versions that the registry has.
    pub models: usize,
    /// See `models`.
    pub versions: usize,
    /// Changes since the poll before.
    pub changes: usize,
    /// Statements about services that followed from them.
    pub statements: usize,
    /// Versions whose run is yet to be read.
    pub runs_pending: usize,
    /// Aliases that a service follows and that the registry does not have, as `model@alias`.
    pub aliases_missing: Vec<String>,
}

/// Polls one registry.
#[derive(Debug)]
pub struct RegistryPoller {
    config: MlflowConfig,
    client: Client,
    known: Option<Known>,
}

/// What one poll read.
struct Reading {
    snapshot: Snapshot,
    changes: Vec<Change>,
    /// By version: the run, or none where the registry does not have it.
    runs: BTreeMap<VersionKey, Option<Run>>,
    full: bool,
}

impl RegistryPoller {
    /// A poller of `config`; nothing is asked yet.
    ///
    /// # Errors
    /// [`RegistryError::Unreachable`] if TLS cannot be set up.
    pub fn new(config: MlflowConfig) -> Result<Self, RegistryError> {
        Ok(Self { client: Client::new(&config)?, config, known: None })
    }

    /// Reads the registry once, and writes what is new.
    ///
    /// # Errors
    /// [`RegistryError`]; then nothing that is known has changed, and the next poll tries again.
    pub async fn poll(
        &mut self,
        ctx: &SessionContext,
        store: &Store,
        clock: &dyn Clock,
    ) -> Result<PollReport, RegistryError> {
        let mut known = match self.known.take() {
            Some(known) => known,
            None => Known::load(ctx, &self.config, clock.unix_us()).await?,
        };
        let result = match self.read(&mut known, clock).await {
            Ok(reading) => self.take_up(&mut known, reading, ctx, store, clock).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &result {
            self.note_failure(&mut known, error, store, clock).await;
        }
        self.known = Some(known);
        result
    }

    /// Writes why the registry cannot be read, once for each reason.
    async fn note_failure(&self, known: &mut Known, error: &RegistryError, store: &Store, clock: &dyn Clock) {
        if matches!(error, RegistryError::Record(_)) {
            return;
        }
        let row = EventRecord::registry_failed(&error.to_string(), clock.unix_us());
        if known.failure.as_ref() == Some(&row.text) {
            return;
        }
        match write_events(store, std::slice::from_ref(&row)).await {
            Ok(()) => known.failure = Some(row.text),
            Err(error) => tracing::warn!(%error, "that the registry cannot be read could not be recorded"),
        }
    }

    /// Asks until a snapshot is complete, then for runs.
    async fn read(&self, known: &mut Known, clock: &dyn Clock) -> Result<Reading, RegistryError> {
        let full_interval_us = i64::try_from(self.config.full_interval.as_micros()).unwrap_or(i64::MAX);
        let mut full = known.full_us.is_none_or(|full_us| clock.unix_us() - full_us >= full_interval_us);
        let mut snapshot = self.ask(known.snapshot.as_ref(), full, clock).await?;
        let mut changes = mlflow::changes(known.snapshot.as_ref(), &snapshot);
        // A tag is set without a new time of update, so only a full poll surely has the one that names the version.
        if !full && changes.iter().any(|change| self.needs_tag(change)) {
            full = true;
            snapshot = self.ask(known.snapshot.as_ref(), full, clock).await?;
            changes = mlflow::changes(known.snapshot.as_ref(), &snapshot);
        }
        let runs = self.read_runs(&mut known.pending, &snapshot, &changes).await;
        Ok(Reading { snapshot, changes, runs, full })
    }

    /// Whether an alias moved that a service follows in words of its own.
    fn needs_tag(&self, change: &Change) -> bool {
        let Change::AliasMoved { model, alias, .. } = change else { return false };
        let follows = self.config.follows.iter().filter(|follow| follow.version_tag.is_some());
        follows.into_iter().any(|follow| follow.model == *model && follow.alias == *alias)
    }

    async fn ask(&self, previous: Option<&Snapshot>, full: bool, clock: &dyn Clock) -> Result<Snapshot, RegistryError> {
        let asked = self.config.follows.iter().filter(|_| self.config.ask_aliases);
        let options = PollOptions {
            full,
            aliases_asked: asked.map(|follow| (follow.model.clone(), follow.alias.clone())).collect(),
            pages_max: self.config.versions_max / PAGE_ROWS_MIN + 10,
        };
        let mut poll = Poll::start(previous, options, clock.unix_us());
        while let Some(request) = poll.request() {
            let (status, body) = self.client.get(&request).await?;
            poll.accept(status, &body)?;
            if poll.rows_held() > self.config.versions_max {
                return Err(RegistryError::TooMany { limit: self.config.versions_max });
            }
        }
        Ok(poll.finish(clock.unix_us()).map_err(|_open| PollError::NotAsked)?)
    }

    /// Runs of new and changed versions, those that an alias names first, then the newest. One that cannot be read now is asked for
    /// again by the next poll.
    async fn read_runs(
        &self,
        pending: &mut BTreeSet<VersionKey>,
        snapshot: &Snapshot,
        changes: &[Change],
    ) -> BTreeMap<VersionKey, Option<Run>> {
        for change in changes {
            if let Change::VersionAdded(version) | Change::VersionUpdated(version) = change {
                pending.insert((version.name.clone(), version.version.clone()));
            }
        }
        let run_id = |key: &VersionKey| snapshot.versions.get(key)?.run_id.clone().filter(|id| !id.is_empty());
        pending.retain(|key| run_id(key).is_some());
        let aliased: BTreeSet<VersionKey> = snapshot
            .models
            .values()
            .flat_map(|model| model.aliases.values().map(|version| (model.name.clone(), version.clone())))
            .collect();
        let mut wanted: Vec<&VersionKey> = pending.iter().collect();
        let created = |key: &VersionKey| snapshot.versions.get(key).and_then(|version| version.creation_timestamp);
        wanted.sort_by_key(|key| (!aliased.contains(*key), std::cmp::Reverse(created(key))));
        let wanted: Vec<VersionKey> = wanted.into_iter().take(RUNS_MAX).cloned().collect();
        let mut runs = BTreeMap::new();
        for key in wanted {
            let Some(id) = run_id(&key) else { continue };
            let answered = match self.client.get(&Request::run(&id)).await {
                Ok((status, body)) => read_run(status, &body).map_err(RunError::Answer),
                Err(error) => Err(RunError::Registry(error)),
            };
            match answered {
                Ok(run) => runs.insert(key, Some(run)),
                Err(RunError::Answer(AnswerError::Absent { .. })) => runs.insert(key, None),
                Err(error) => {
                    tracing::warn!(run = id, %error, "a run of the registry could not be read; the next poll asks again");
                    break;
                }
            };
        }
        runs
    }

    /// Writes what was read, and only then knows it.
    async fn take_up(
        &self,
        known: &mut Known,
        reading: Reading,
        ctx: &SessionContext,
        store: &Store,
        clock: &dyn Clock,
    ) -> Result<PollReport, RegistryError> {
        let Reading { snapshot, changes, runs, full } = reading;
        let now_us = clock.unix_us();
        write_versions(store, &snapshot, &changes, &runs).await?;
        known.note_moves(&changes);
        let statements = known.statements(&self.config.follows, &snapshot, now_us);
        let is_first = known.snapshot.is_none();
        let previous_us = known.snapshot.as_ref().map(|previous| previous.began_us);
        // What a registry held when it was first read is in `model_versions` with its own times.
        let is_told = |change: &&Change| !(is_first && matches!(change, Change::VersionAdded(_)));
        let mut events: Vec<EventRecord> = changes
            .iter()
            .filter(is_told)
            .map(|change| EventRecord::of_change(change, previous_us, snapshot.ended_us))
            .collect();
        events.extend(statements.iter().map(EventRecord::of_statement));
        let (models, versions) = (snapshot.models.len(), snapshot.versions.len());
        // Up to when everything is known, for the next start.
        if full || known.failure.is_some() || !events.is_empty() {
            events.push(EventRecord::registry_read(snapshot.began_us, snapshot.ended_us, models, versions));
        }
        write_events(store, &events).await?;
        known.pending.retain(|key| !runs.contains_key(key));
        known.unrecorded.extend(statements.iter().map(|statement| statement.target.service.clone()));
        let report = PollReport {
            full,
            models,
            versions,
            changes: changes.len(),
            statements: statements.len(),
            runs_pending: known.pending.len(),
            aliases_missing: self.aliases_missing(&snapshot),
        };
        for statement in statements {
            let key = (statement.target.clone(), statement.model.clone(), statement.alias.clone());
            known.stated.insert(key, statement);
        }
        if full {
            known.full_us = Some(snapshot.began_us);
        }
        known.failure = None;
        known.snapshot = Some(snapshot);
        record_intervals(known, ctx, store, clock.unix_us()).await;
        Ok(report)
    }

    fn aliases_missing(&self, snapshot: &Snapshot) -> Vec<String> {
        let is_there = |model: &str, alias: &str| {
            snapshot.models.get(model).is_some_and(|model| model.aliases.contains_key(alias))
        };
        let missing = self.config.follows.iter().filter(|follow| !is_there(&follow.model, &follow.alias));
        missing.map(|follow| format!("{}@{}", follow.model, follow.alias)).collect()
    }
}

/// Why a run was not read.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Answer(AnswerError),
    #[error(transparent)]
    Registry(RegistryError),
}

/// Rows of versions that are new, changed or gone, or whose run was read.
async fn write_versions(
    store: &Store,
    snapshot: &Snapshot,
    changes: &[Change],
    runs: &BTreeMap<VersionKey, Option<Run>>,
) -> Result<(), RegistryError> {
    let time_us = snapshot.ended_us;
    let mut keys: BTreeSet<VersionKey> = runs.keys().cloned().collect();
    let mut rows = Vec::new();
    for change in changes {
        match change {
            Change::VersionAdded(version) | Change::VersionUpdated(version) => {
                keys.insert((version.name.clone(), version.version.clone()));
            }
            Change::VersionRemoved { model, version } => {
                rows.push(ModelVersionRecord::deleted(model, version, time_us));
            }
            Change::ModelTagsChanged { .. } | Change::AliasMoved { .. } => {}
        }
    }
    for key in keys {
        let Some(version) = snapshot.versions.get(&key) else { continue };
        let run = runs.get(&key);
        let mut row = ModelVersionRecord::of_mlflow(version, run.and_then(Option::as_ref), time_us);
        if run.is_some_and(Option::is_none) {
            row.run_state = RunState::Absent;
        }
        rows.push(row);
    }
    if !rows.is_empty() {
        let batch = ModelVersionRecord::to_batch(&rows)?;
        store.write_result(ModelVersionRecord::TABLE, batch).await.map_err(crate::Error::from)?;
    }
    Ok(())
}

async fn write_events(store: &Store, events: &[EventRecord]) -> Result<(), RegistryError> {
    if !events.is_empty() {
        let batch = EventRecord::to_batch(events)?;
        store.write_result(EventRecord::TABLE, batch).await.map_err(crate::Error::from)?;
    }
    Ok(())
}

/// Intervals of services about which something was stated; those that fail are tried again by the next poll.
async fn record_intervals(known: &mut Known, ctx: &SessionContext, store: &Store, now_us: i64) {
    for service in std::mem::take(&mut known.unrecorded) {
        if let Err(error) = service_timelines::record(ctx, store, &service, now_us).await {
            tracing::warn!(service, %error, "what runs could not be recorded; the next poll tries again");
            known.unrecorded.insert(service);
        }
    }
}
