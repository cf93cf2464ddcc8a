//! What made a release: its row of the registry, the run, the code, and the data that went in.

use datafusion::prelude::SessionContext;

use crate::{
    error::Result,
    lineage::{
        deployment::Release,
        records::{DatasetPlace, ModelVersionRecord, RunState, Side},
    },
};

/// Runs of one release whose data is read.
const RUNS_MAX: usize = 50;

/// What made a release, as far as it is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// The release.
    pub release: Release,
    /// What a registry says of it; none where none has it.
    pub version: Option<ModelVersionRecord>,
    /// When the registry was seen not to have it any more, UTC microseconds.
    pub deleted_us: Option<i64>,
    /// Data that its runs read and wrote, as OpenLineage told, and the places of the data that the registry's run names.
    pub data: Vec<DatasetPlace>,
    /// What the DVC files of the commit name beyond that: of the whole work tree, so not all of it went into this release.
    pub at_commit: Vec<DatasetPlace>,
    /// What is missing, as sentences.
    pub missing: Vec<String>,
}

impl Made {
    /// The commit of the code, from the registry's run or from the runs of OpenLineage; none where they say none or several.
    pub fn commit_id(&self) -> Option<&str> {
        let own = self.version.as_ref().and_then(|version| version.commit_id.as_deref());
        let mut told: Vec<&str> = self
            .data
            .iter()
            .filter(|place| place.run_id.is_some())
            .filter_map(|place| place.commit_id.as_deref())
            .collect();
        told.sort_unstable();
        told.dedup();
        own.or(match told[..] {
            [only] => Some(only),
            _ => None,
        })
    }
}

/// Reads what made `release`, as it is known at `now_us`.
pub(super) async fn read(ctx: &SessionContext, release: Release, now_us: i64) -> Result<Made> {
    let newest = ModelVersionRecord::of_release(ctx, &release, now_us).await?;
    let (version, deleted_us) = match newest {
        Some(gone) if gone.is_deleted() => {
            (ModelVersionRecord::of_release(ctx, &release, gone.time_us - 1).await?, Some(gone.time_us))
        }
        other => (other, None),
    };
    let written = DatasetPlace::written_as(ctx, &release.model, &release.version, now_us).await?;
    let mut run_ids: Vec<String> = written.iter().filter_map(|place| place.run_id.clone()).collect();
    // A run of MLflow may carry its id as the UUID of OpenLineage.
    run_ids.extend(version.iter().filter_map(|version| uuid(version.run_id.as_deref()?)));
    run_ids.sort();
    run_ids.dedup();
    run_ids.truncate(RUNS_MAX);
    let mut data = DatasetPlace::of_runs(ctx, &run_ids, now_us).await?;
    let digests: Vec<String> = version.iter().flat_map(digests).collect();
    let places = DatasetPlace::of_digests(ctx, &digests, now_us).await?;
    data.extend(places.into_iter().filter(|place| !data.contains(place)).collect::<Vec<_>>());
    let mut made = Made { release, version, deleted_us, data, at_commit: Vec::new(), missing: Vec::new() };
    if let Some(commit_id) = made.commit_id() {
        let named = DatasetPlace::of_commit(ctx, commit_id, now_us).await?;
        let is_known =
            |place: &DatasetPlace| place.digest.is_some() && made.data.iter().any(|other| other.digest == place.digest);
        made.at_commit = named.into_iter().filter(|place| !is_known(place)).collect();
    }
    made.missing = missing(&made);
    Ok(made)
}

/// Contents that the registry names: digests of the data of the run, and parameters and tags that are one.
fn digests(version: &ModelVersionRecord) -> Vec<String> {
    let told = version.params.values().chain(version.tags.values());
    let of_values = told.filter_map(|value| dvc_digest(value));
    version.datasets.iter().map(|dataset| dataset.digest.clone()).chain(of_values).collect()
}

/// A value that is the MD5 of a file, or of a folder, as DVC writes it, as the tables have it.
fn dvc_digest(value: &str) -> Option<String> {
    let digest = value.trim();
    let digest = digest.strip_prefix("md5:").unwrap_or(digest);
    let hash = digest.strip_suffix(".dir").unwrap_or(digest);
    let is_md5 = hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_md5.then(|| format!("md5:{}", digest.to_ascii_lowercase()))
}

/// 32 hex digits as a UUID.
fn uuid(text: &str) -> Option<String> {
    let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts = || [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]];
    is_hex.then(|| parts().join("-").to_ascii_lowercase())
}

fn missing(made: &Made) -> Vec<String> {
    let mut missing = Vec::new();
    match &made.version {
        None => missing.push("no registry that was read has this version".to_owned()),
        Some(version) => match version.run_state {
            RunState::None => missing.push("the registry names no run that made it".to_owned()),
            RunState::Pending => missing.push("its run is not read yet: ask again in a few minutes".to_owned()),
            RunState::Absent => missing.push("the registry does not have its run any more".to_owned()),
            RunState::Read => {}
        },
    }
    let is_read = made.version.as_ref().is_some_and(|version| version.run_state == RunState::Read);
    if is_read && made.commit_id().is_none() {
        missing.push("its run names no commit: start it from a git work tree".to_owned());
    }
    let has_inputs = made.data.iter().any(|place| place.side == Some(Side::Input));
    if !has_inputs
        && made.at_commit.is_empty()
        && made.version.as_ref().is_none_or(|version| version.datasets.is_empty())
    {
        missing.push(
            "its data is not known: log it in the run (mlflow.log_input), send OpenLineage events with the model as a \
             versioned output, or tell what the DVC files of its commit name (driftwatt dvc DIR)"
                .to_owned(),
        );
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::{dvc_digest, uuid};

    #[test]
    fn an_id_of_mlflow_is_a_uuid_without_dashes() {
        let id = "01941f297c007087894042B2DBD2B4EA";
        assert_eq!(uuid(id).as_deref(), Some("01941f29-7c00-7087-8940-42b2dbd2b4ea"));
        assert_eq!((uuid("r1"), uuid(&"ü".repeat(16))), (None, None));
    }

    #[test]
    fn a_parameter_that_is_a_digest_of_dvc_names_data() {
        let hash = "22a1a2931c8370d3aeedd7183606fd7f";
        for (value, expected) in [
            (hash.to_owned(), Some(format!("md5:{hash}"))),
            (format!("md5:{hash}.dir"), Some(format!("md5:{hash}.dir"))),
            (hash.to_ascii_uppercase(), Some(format!("md5:{hash}"))),
            ("0.1".to_owned(), None),
            (format!("{hash}00"), None),
        ] {
            assert_eq!(dvc_digest(&value), expected, "{value}");
        }
    }
}
