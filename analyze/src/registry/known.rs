//! What is known of the registry, in memory and read back from the tables after a restart.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::prelude::SessionContext;

use super::settings::{Follow, MlflowConfig};
use crate::{
    error::Result,
    lineage::{
        deployment::Target,
        mlflow::{Change, ModelVersion, RegisteredModel, Snapshot},
        records::{EventRecord, ModelVersionRecord, RunState, Statement},
    },
};

/// Model and version.
pub(super) type VersionKey = (String, String);

/// What was read and written so far.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The last complete reading; none before the first ever.
    pub(super) snapshot: Option<Snapshot>,
    /// The last move of each alias, by model and alias.
    pub(super) moves: BTreeMap<(String, String), Change>,
    /// The last statement by target, model and alias.
    pub(super) stated: BTreeMap<(Target, String, String), Statement>,
    /// Versions whose run is yet to be read.
    pub(super) pending: BTreeSet<VersionKey>,
    /// When everything was last read, UTC microseconds; none since the start of the process.
    pub(super) full_us: Option<i64>,
    /// Why the registry cannot be read now.
    pub(super) failure: Option<String>,
    /// Services whose intervals are not recorded yet.
    pub(super) unrecorded: BTreeSet<String>,
}

impl Known {
    /// What the tables say.
    pub(super) async fn load(ctx: &SessionContext, config: &MlflowConfig, now_us: i64) -> Result<Self> {
        let read = EventRecord::last_registry_read(ctx, now_us).await?;
        let failed = EventRecord::last_registry_failure(ctx, now_us).await?;
        let failure = failed.filter(|(time_us, _)| read.is_none_or(|(_, read_us)| *time_us > read_us));
        let mut known =
            Self { stated: Statement::last(ctx).await?, failure: failure.map(|(_, text)| text), ..Self::default() };
        let Some((began_us, ended_us)) = read else { return Ok(known) };
        let mut models: BTreeMap<String, RegisteredModel> = BTreeMap::new();
        let model = |name: &str| RegisteredModel {
            name: name.to_owned(),
            creation_timestamp: None,
            tags: BTreeMap::new(),
            aliases: BTreeMap::new(),
        };
        for (name, tags) in EventRecord::last_model_tags(ctx, config.versions_max).await? {
            models.entry(name.clone()).or_insert_with(|| model(&name)).tags = tags;
        }
        for change in EventRecord::last_alias_moves(ctx, config.versions_max).await? {
            let Change::AliasMoved { model: name, alias, to, .. } = &change else { continue };
            if let Some(to) = to {
                let entry = models.entry(name.clone()).or_insert_with(|| model(name));
                entry.aliases.insert(alias.clone(), to.clone());
            }
            known.moves.insert((name.clone(), alias.clone()), change);
        }
        let mut versions: BTreeMap<VersionKey, ModelVersion> = BTreeMap::new();
        for row in ModelVersionRecord::latest(ctx, now_us, config.versions_max).await? {
            let key = (row.model.clone(), row.version.clone());
            if row.run_state == RunState::Pending {
                known.pending.insert(key.clone());
            }
            versions.insert(key, row.to_mlflow());
        }
        known.snapshot = Some(Snapshot { began_us, ended_us, models, versions });
        Ok(known)
    }

    /// Takes up moves of aliases.
    pub(super) fn note_moves(&mut self, changes: &[Change]) {
        for change in changes {
            if let Change::AliasMoved { model, alias, .. } = change {
                self.moves.insert((model.clone(), alias.clone()), change.clone());
            }
        }
    }

    /// What is to be stated at `now_us`: of each service that follows an alias the last move of it, unless that was stated.
    pub(super) fn statements(&self, follows: &[Follow], snapshot: &Snapshot, now_us: i64) -> Vec<Statement> {
        let statement = |follow: &Follow| {
            let moved = self.moves.get(&(follow.model.clone(), follow.alias.clone()))?;
            let Change::AliasMoved { to, not_before_us, seen_us, .. } = moved else { return None };
            let key = (follow.target.clone(), follow.model.clone(), follow.alias.clone());
            if self.stated.get(&key).is_some_and(|stated| stated.seen_us >= *seen_us) {
                return None;
            }
            let (target, model, alias) = key;
            let version = to.as_ref().map(|version| follow.name_of(version, snapshot));
            let (not_before_us, seen_us) = (*not_before_us, *seen_us);
            Some(Statement { target, model, alias, version, not_before_us, seen_us, received_us: now_us })
        };
        follows.iter().filter_map(statement).collect()
    }
}

impl Follow {
    /// `version` in the words of the service: its tag where there is one.
    fn name_of(&self, version: &str, snapshot: &Snapshot) -> String {
        let key = (self.model.clone(), version.to_owned());
        let tag = self.version_tag.as_ref().and_then(|tag| snapshot.versions.get(&key)?.tags.get(tag));
        tag.cloned().unwrap_or_else(|| version.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(service: &str, version_tag: Option<&str>) -> Follow {
        Follow {
            target: Target { service: service.to_owned(), environment: None },
            model: "resnet".to_owned(),
            alias: "champion".to_owned(),
            version_tag: version_tag.map(str::to_owned),
        }
    }

    fn moved(to: Option<&str>, seen_us: i64) -> Change {
        Change::AliasMoved {
            model: "resnet".to_owned(),
            alias: "champion".to_owned(),
            from: None,
            to: to.map(str::to_owned),
            not_before_us: seen_us - 5,
            seen_us,
        }
    }

    fn snapshot() -> Snapshot {
        let version = ModelVersion {
            name: "resnet".to_owned(),
            version: "12".to_owned(),
            creation_timestamp: None,
            last_updated_timestamp: None,
            current_stage: None,
            source: None,
            run_id: None,
            status: None,
            tags: [("release".to_owned(), "2.1.0".to_owned())].into(),
        };
        let versions = [(("resnet".to_owned(), "12".to_owned()), version)].into();
        Snapshot { versions, ..Snapshot::default() }
    }

    /// Statements, which are then known.
    fn stated(known: &mut Known, follows: &[Follow], now_us: i64) -> Vec<(String, Option<String>, i64, i64)> {
        let found = known.statements(follows, &snapshot(), now_us);
        for one in &found {
            known.stated.insert((one.target.clone(), one.model.clone(), one.alias.clone()), one.clone());
        }
        found.into_iter().map(|one| (one.target.service, one.version, one.seen_us, one.received_us)).collect()
    }

    #[test]
    fn a_move_is_stated_once_for_each_service_that_follows() {
        let mut known = Known::default();
        let both = [follow("chat", None), follow("resize", Some("release"))];
        assert_eq!(stated(&mut known, &both, 10), []);
        known.note_moves(&[moved(Some("12"), 20)]);
        let said = |service: &str, version: Option<&str>, seen_us, received_us| {
            (service.to_owned(), version.map(str::to_owned), seen_us, received_us)
        };
        assert_eq!(stated(&mut known, &both[..1], 20), [said("chat", Some("12"), 20, 20)]);
        // A service that is said to follow it only later did so since it moved.
        assert_eq!(stated(&mut known, &both, 30), [said("resize", Some("2.1.0"), 20, 30)]);
        assert_eq!(stated(&mut known, &both, 40), []);
        known.note_moves(&[moved(None, 50)]);
        assert_eq!(stated(&mut known, &both, 50), [said("chat", None, 50, 50), said("resize", None, 50, 50)]);
        known.note_moves(&[moved(Some("9"), 60)]);
        // A version without the tag keeps its number.
        assert_eq!(stated(&mut known, &both[1..], 60), [said("resize", Some("9"), 60, 60)]);
    }
}
