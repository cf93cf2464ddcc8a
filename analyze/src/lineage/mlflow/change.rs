//! What the registry holds at one moment, and what differs between two.

use std::collections::BTreeMap;

use super::answer::{ModelVersion, RegisteredModel};
use crate::window::MILLISECOND_US;

/// The registry at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// UTC microseconds at which the poll began: whatever changed later may or may not be in it.
    pub began_us: i64,
    /// UTC microseconds at which the poll ended: whatever is in it was so by then.
    pub ended_us: i64,
    /// Models by name.
    pub models: BTreeMap<String, RegisteredModel>,
    /// Versions by name of the model and version.
    pub versions: BTreeMap<(String, String), ModelVersion>,
}

/// One difference between two snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A version that was not there before.
    VersionAdded(Box<ModelVersion>),
    /// A version was deleted.
    VersionRemoved {
        /// Name of the model.
        model: String,
        /// Its version.
        version: String,
    },
    /// Tags, stage or status of a version differ.
    VersionUpdated(Box<ModelVersion>),
    /// Tags of a model differ.
    ModelTagsChanged {
        /// Name of the model.
        model: String,
        /// Its tags now.
        tags: BTreeMap<String, String>,
    },
    /// An alias names another version: a deployment, for services that follow it.
    AliasMoved {
        /// Name of the model.
        model: String,
        /// The alias.
        alias: String,
        /// Version before; `None` where the alias is new.
        from: Option<String>,
        /// Version now; `None` where the alias is gone.
        to: Option<String>,
        /// UTC microseconds after which it moved.
        not_before_us: i64,
        /// UTC microseconds at which the move was seen.
        seen_us: i64,
    },
}

/// Differences in a fixed order: versions, tags of models, aliases.
///
/// Without a `previous` snapshot every version is new, and an alias may have been set at any time since the version
/// that it names was registered.
pub fn changes(previous: Option<&Snapshot>, next: &Snapshot) -> Vec<Change> {
    let nothing = Snapshot::default();
    let before = previous.unwrap_or(&nothing);
    let mut changes = Vec::new();
    for (key, version) in &next.versions {
        match before.versions.get(key) {
            None => changes.push(Change::VersionAdded(Box::new(version.clone()))),
            Some(old) if differs(old, version) => changes.push(Change::VersionUpdated(Box::new(version.clone()))),
            Some(_) => {}
        }
    }
    for (model, version) in before.versions.keys().filter(|&key| !next.versions.contains_key(key)) {
        changes.push(Change::VersionRemoved { model: model.clone(), version: version.clone() });
    }
    for (name, model) in &next.models {
        let old = before.models.get(name).map(|old| &old.tags);
        if old.is_some_and(|old| *old != model.tags) || (old.is_none() && !model.tags.is_empty()) {
            changes.push(Change::ModelTagsChanged { model: name.clone(), tags: model.tags.clone() });
        }
    }
    changes.extend(alias_moves(previous, before, next));
    changes
}

/// What a person can change about a version; its time of update alone says nothing new.
fn differs(old: &ModelVersion, new: &ModelVersion) -> bool {
    (&old.tags, &old.current_stage, old.status) != (&new.tags, &new.current_stage, new.status)
}

fn alias_moves(previous: Option<&Snapshot>, before: &Snapshot, next: &Snapshot) -> Vec<Change> {
    let none = BTreeMap::new();
    let mut models: Vec<&String> = before.models.keys().chain(next.models.keys()).collect();
    models.sort();
    models.dedup();
    let mut moves = Vec::new();
    for model in models {
        let old = before.models.get(model).map_or(&none, |found| &found.aliases);
        let new = next.models.get(model).map_or(&none, |found| &found.aliases);
        let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
        names.sort();
        names.dedup();
        for alias in names.into_iter().filter(|&alias| old.get(alias) != new.get(alias)) {
            let to = new.get(alias).cloned();
            let registered_us = to.as_ref().and_then(|version| {
                let version = next.versions.get(&(model.clone(), version.clone()))?;
                version.creation_timestamp?.checked_mul(MILLISECOND_US)
            });
            let not_before_us = previous.map(|previous| previous.began_us).max(registered_us);
            moves.push(Change::AliasMoved {
                model: model.clone(),
                alias: alias.clone(),
                from: old.get(alias).cloned(),
                to,
                // Neither a poll nor a registration tells more than that it is so now.
                not_before_us: not_before_us.unwrap_or(next.ended_us).min(next.ended_us),
                seen_us: next.ended_us,
            });
        }
    }
    moves
}
