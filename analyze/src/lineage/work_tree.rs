//! A work tree at one look: the commit, and the data and stages that its DVC files name.
//!
//! Only `dvc.lock` and `*.dvc` files are opened, and the refs of git. Links are not followed; hidden folders are passed over.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use driftwatt_store::Store;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    artifact_name::ArtifactName,
    dvc::{self, Artifact},
    git_commit,
    records::{DatasetPlace, EventRecord, Side},
};
use crate::{
    delivery::DeliveryError,
    duration_setting::duration,
    error::{Error, Result},
};

/// Bytes of one DVC file.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Folders below the tree that are entered.
const DEPTH_MAX: usize = 16;
/// Files and folders that are looked at.
const ENTRIES_MAX: usize = 1_000_000;
/// Data of one look.
pub const DATA_MAX: usize = 20_000;
/// Bytes of a text.
const TEXT_BYTES_MAX: usize = 4_096;
/// Bytes of the commands and parameters that are kept of one look.
const DETAIL_BYTES_MAX: usize = 256 << 10;

/// `[[lineage.work_trees]]` as written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawWorkTree {
    /// Path of the folder.
    pub folder: PathBuf,
    /// What the tree is called. Default the name of the folder.
    pub name: Option<String>,
    /// Time from one look to the next. Default `10m`.
    pub interval: Option<String>,
}

/// A work tree that is looked at again and again.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchedTree {
    /// Path of the folder.
    pub folder: PathBuf,
    /// Time from one look to the next.
    pub interval: Duration,
    name: Option<String>,
}

impl RawWorkTree {
    /// Checks the settings; the folder may come later.
    ///
    /// # Errors
    /// [`DeliveryError::Setting`], which names the setting and what to do.
    pub fn validate(self) -> std::result::Result<WatchedTree, DeliveryError> {
        let refuse = |key: &str, reason: &str| {
            Err(DeliveryError::Setting { setting: format!("lineage.work_trees.{key}"), reason: reason.to_owned() })
        };
        if self.folder.as_os_str().is_empty() {
            return refuse("folder", "is empty; name the folder with the DVC files");
        }
        let interval = duration("lineage.work_trees.interval", self.interval.as_deref(), Duration::from_secs(600))?;
        if interval < Duration::from_secs(1) {
            return refuse("interval", "is below 1s; each look lists the whole folder");
        }
        Ok(WatchedTree { folder: self.folder, interval, name: self.name })
    }
}

impl WatchedTree {
    /// See [`look`].
    ///
    /// # Errors
    /// Those of [`look`].
    pub fn look(&self) -> io::Result<WorkTree> {
        look(&self.folder, self.name.as_deref())
    }
}

/// Data that a DVC file names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeData {
    /// The DVC file, below the tree.
    pub file: String,
    /// The data, relative to that file as DVC writes it.
    pub path: String,
    /// Digest with its algorithm; none for what DVC did not hash.
    pub digest: Option<String>,
    /// Bytes.
    pub size_bytes: Option<u64>,
    /// Files of a folder.
    pub file_count: Option<u64>,
    /// The stage that read or wrote it; none for data that was added by hand.
    pub stage: Option<String>,
    /// Whether that stage wrote it.
    #[serde(default)]
    pub is_output: bool,
}

/// A stage of a pipeline at its last run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeStage {
    /// The DVC file, below the tree.
    pub file: String,
    /// Name.
    pub name: String,
    /// Command.
    pub command: String,
    /// Parameters by file, then by name; the value is JSON text.
    pub params: BTreeMap<String, BTreeMap<String, String>>,
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkTree {
    /// What the tree is called.
    pub name: String,
    /// The commit; none outside of git.
    pub commit_id: Option<String>,
    /// The branch; none for a detached head.
    pub branch: Option<String>,
    /// Tags that point to the commit, as far as they are known.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Data.
    pub data: Vec<TreeData>,
    /// Stages.
    #[serde(default)]
    pub stages: Vec<TreeStage>,
    /// What could not be read, and names that are odd, as sentences.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// Looks at the tree in `folder`. Blocks while the file system answers.
///
/// # Errors
/// The folder itself cannot be listed, or it holds more than can be looked at. What is wrong with one file is in the answer.
pub fn look(folder: &Path, name: Option<&str>) -> io::Result<WorkTree> {
    let own = || fs::canonicalize(folder).ok()?.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.map(str::to_owned).or_else(own).unwrap_or_else(|| folder.display().to_string());
    let mut tree = WorkTree { name, ..WorkTree::default() };
    match git_commit::read_head(folder) {
        Ok(head) => (tree.commit_id, tree.branch, tree.tags) = (Some(head.commit_id), head.branch, head.tags),
        Err(error) => tree.problems.push(format!("the commit is not known: {error}")),
    }
    for path in dvc_files(folder)? {
        let below = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        if let Err(reason) = tree.add(&path, &below) {
            tree.problems.push(format!("{below}: {reason}"));
        }
    }
    if tree.data.len() > DATA_MAX {
        return Err(io::Error::other(format!("more than {DATA_MAX} data sets: name a folder further down")));
    }
    Ok(tree)
}

/// All DVC files below `folder`, in the order of their paths.
fn dvc_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut found, mut open, mut seen) = (Vec::new(), vec![(folder.to_owned(), 0)], 0);
    while let Some((inner, depth)) = open.pop() {
        let entries = match fs::read_dir(&inner) {
            Ok(entries) => entries,
            Err(_) if depth > 0 => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            seen += 1;
            if seen > ENTRIES_MAX {
                return Err(io::Error::other(format!("more than {ENTRIES_MAX} files: name a folder further down")));
            }
            let (kind, name) = (entry.file_type()?, entry.file_name());
            let name = name.to_string_lossy();
            // `.dvc` is both the ending of a file and the folder of DVC's own settings and cache.
            if kind.is_dir() && depth < DEPTH_MAX && !name.starts_with('.') {
                open.push((entry.path(), depth + 1));
            } else if kind.is_file() && (name == "dvc.lock" || name.ends_with(".dvc")) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

impl WorkTree {
    fn add(&mut self, path: &Path, below: &str) -> std::result::Result<(), String> {
        let bytes = fs::metadata(path).map_err(|error| error.to_string())?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(format!("{bytes} bytes, more than 8 MiB: is this the data itself and not its .dvc file?"));
        }
        let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
        if below.ends_with("dvc.lock") {
            for stage in dvc::read_lock(&text).map_err(|error| error.to_string())? {
                let sides = [(&stage.deps, false), (&stage.outs, true)];
                for (artifacts, is_output) in sides {
                    artifacts.iter().for_each(|one| self.add_data(below, one, Some(&stage.name), is_output));
                }
                let (name, command) = (stage.name, stage.command);
                self.stages.push(TreeStage { file: below.to_owned(), name, command, params: stage.params });
            }
        } else {
            let tracked = dvc::read_tracked(&text).map_err(|error| error.to_string())?;
            tracked.outs.iter().for_each(|one| self.add_data(below, one, None, false));
        }
        Ok(())
    }

    fn add_data(&mut self, file: &str, artifact: &Artifact, stage: Option<&str>, is_output: bool) {
        let own_name = artifact.path.rsplit('/').next().unwrap_or(&artifact.path);
        if own_name.starts_with("model_") {
            let odd: Vec<String> = ArtifactName::parse(own_name).oddities.iter().map(ToString::to_string).collect();
            let problem = format!("{}: {}", artifact.path, odd.join("; "));
            if !odd.is_empty() && !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
        if artifact.digest.is_none() {
            self.problems.push(format!("{file}: {} has no digest: run dvc commit", artifact.path));
        }
        self.data.push(TreeData {
            file: file.to_owned(),
            path: artifact.path.clone(),
            digest: artifact.digest.clone(),
            size_bytes: artifact.size_bytes,
            file_count: artifact.file_count,
            stage: stage.map(str::to_owned),
            is_output,
        });
    }

    /// Writes what the tree holds to `dataset_places`, and that it was looked at to `events`. Told again it says the same.
    ///
    /// # Errors
    /// [`Error::WorkTree`] for texts or lists that are too long; those of the store.
    pub async fn record(&self, store: &Store, now_us: i64) -> Result<()> {
        self.check()?;
        let places: Vec<DatasetPlace> = self.data.iter().map(|data| self.place(data, now_us)).collect();
        if !places.is_empty() {
            store.write_result(DatasetPlace::TABLE, DatasetPlace::to_batch(&places)?).await?;
        }
        store.write_result(EventRecord::TABLE, EventRecord::to_batch(&[self.event(now_us)])?).await?;
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let refuse = |reason: String| Err(Error::WorkTree { reason });
        if self.name.trim().is_empty() {
            return refuse("the tree has no name".to_owned());
        }
        if self.data.len() > DATA_MAX || self.stages.len() > DATA_MAX {
            return refuse(format!("more than {DATA_MAX} data sets or stages: tell of a folder further down"));
        }
        let of_data = self.data.iter().flat_map(|data| [&data.file, &data.path]);
        let texts = [&self.name].into_iter().chain(&self.commit_id).chain(&self.branch).chain(of_data);
        match texts.into_iter().find(|text| text.len() > TEXT_BYTES_MAX) {
            Some(_) => refuse(format!("a name of more than {TEXT_BYTES_MAX} bytes")),
            None => Ok(()),
        }
    }

    fn place(&self, data: &TreeData, now_us: i64) -> DatasetPlace {
        let side = if data.is_output { Side::Output } else { Side::Input };
        DatasetPlace {
            time_us: now_us,
            source: DatasetPlace::DVC.to_owned(),
            side: data.stage.as_ref().map(|_| side),
            name: data.path.clone(),
            namespace: format!("{}/{}", self.name, data.file),
            digest: data.digest.clone(),
            size_bytes: data.size_bytes,
            row_count: None,
            file_count: data.file_count,
            commit_id: self.commit_id.clone(),
            run_id: None,
            job: data.stage.as_ref().map(|stage| format!("{}/{stage}", self.name)),
        }
    }

    fn event(&self, now_us: i64) -> EventRecord {
        let commit = self.commit_id.as_ref().map_or_else(|| "no known commit".to_owned(), |id| format!("commit {id}"));
        let text =
            format!("{} at {commit}: {} data sets of DVC, {} stages", self.name, self.data.len(), self.stages.len());
        let of_stage = |stage: &TreeStage| json!({ "file": stage.file, "name": stage.name, "command": stage.command, "params": stage.params });
        let mut detail = json!({
            "commit_id": self.commit_id, "branch": self.branch, "tags": self.tags,
            "stages": self.stages.iter().map(of_stage).collect::<Vec<_>>(), "problems": self.problems,
        });
        if detail.to_string().len() > DETAIL_BYTES_MAX {
            detail = json!({ "commit_id": self.commit_id, "stages_left_out": self.stages.len() });
        }
        EventRecord {
            time_us: now_us,
            not_before_us: now_us,
            received_us: now_us,
            source: DatasetPlace::DVC,
            kind: "work_tree_read",
            subject: self.name.clone(),
            text,
            detail: Some(detail.to_string()),
            ..EventRecord::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_its_commit_and_what_its_dvc_files_name() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let commit = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";
        write(".git/HEAD", "ref: refs/heads/main\n");
        write(".git/refs/heads/main", &format!("{commit}\n"));
        // What lies in hidden folders is DVC's and git's own.
        write(".dvc/cache/x.dvc", "no file of DVC");
        write(
            "data/train.csv.dvc",
            "outs:\n- md5: 22a1a2931c8370d3aeedd7183606fd7f\n  size: 14445097\n  path: train.csv\n",
        );
        write(
            "dvc.lock",
            "schema: '2.0'\nstages:\n  train:\n    cmd: python train.py\n    deps:\n    - path: data/train.csv\n      md5: \
             22a1a2931c8370d3aeedd7183606fd7f\n    params:\n      params.yaml:\n        lr: 0.1\n    outs:\n    - path: model_a_2.1.pt\n",
        );
        write("broken/dvc.lock", "<<<<<<< HEAD\n");
        let tree = look(dir.path(), Some("ranker")).unwrap();
        assert_eq!((tree.commit_id.as_deref(), tree.branch.as_deref()), (Some(commit), Some("main")));
        let data: Vec<_> =
            tree.data.iter().map(|one| (one.path.as_str(), one.stage.as_deref(), one.digest.is_some())).collect();
        assert_eq!(
            data,
            [
                ("train.csv", None, true),
                ("data/train.csv", Some("train"), true),
                ("model_a_2.1.pt", Some("train"), false)
            ]
        );
        assert_eq!(tree.stages[0].params["params.yaml"]["lr"], "0.1");
        let problems = tree.problems.join("\n");
        for words in ["broken/dvc.lock: line 1 is a conflict mark", "write v2.1", "has no digest: run dvc commit"] {
            assert!(problems.contains(words), "{problems}");
        }
        assert_eq!(tree.problems.len(), 3, "{problems}");
        let place = tree.place(&tree.data[1], 5);
        assert_eq!((place.namespace.as_str(), place.job.as_deref()), ("ranker/dvc.lock", Some("ranker/train")));
        assert_eq!((place.side, place.commit_id.as_deref()), (Some(Side::Input), Some(commit)));
    }
}
