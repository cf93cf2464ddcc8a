//! DVC files: which data, parameters and command made an output.
//!
//! A digest identifies content, so two files with one digest are one data set, wherever they lie.
//!
//! Source: DVC's `dvc/schema.py`, and the pages on `.dvc` files and `dvc.lock` of its user guide.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Bytes of one file; a `dvc.lock` of thousands of stages stays below it.
const FILE_BYTES_MAX: usize = 8 << 20;

/// Why a file is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DvcError {
    /// Larger than any hand or tool makes it.
    #[error("{bytes} bytes, more than 8 MiB: is this the data itself and not its .dvc file?")]
    TooLarge {
        /// Bytes of the file.
        bytes: usize,
    },
    /// No YAML, or not the documented fields.
    #[error("not a file of DVC: {reason}")]
    Shape {
        /// What the parser says, with line and column.
        reason: String,
    },
    /// A schema that this code does not know.
    #[error("dvc.lock of schema {schema:?}; only 2.0 is read: update the lock with dvc 2 or later")]
    Schema {
        /// The schema that the file names.
        schema: String,
    },
    /// Marks of a merge that was not finished.
    #[error("line {line} is a conflict mark of git: finish the merge")]
    Conflict {
        /// Line, from 1.
        line: usize,
    },
}

/// A file or folder at a known content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Path as written, relative to the DVC file.
    pub path: String,
    /// Digest with its algorithm, as in `md5:22a1…`; `None` for what DVC did not hash.
    pub digest: Option<String>,
    /// Whether it is a folder; its digest is then that of the list of its files.
    pub folder: bool,
    /// Bytes; `None` where the file does not say.
    pub size_bytes: Option<u64>,
    /// Files in the folder; `None` for single files, or where the file does not say.
    pub file_count: Option<u64>,
}

/// One stage of a pipeline at its last run.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Name, as in `train` or `train@uk`.
    pub name: String,
    /// Command; several are joined by ` && `.
    pub command: String,
    /// What it read.
    pub deps: Vec<Artifact>,
    /// What it wrote.
    pub outs: Vec<Artifact>,
    /// Parameters by file, then by name; the value is JSON text.
    pub params: BTreeMap<String, BTreeMap<String, String>>,
}

/// Data that a `.dvc` file tracks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackedData {
    /// The data.
    pub outs: Vec<Artifact>,
    /// Where imported data came from; empty for data that was added by hand.
    pub deps: Vec<Artifact>,
    /// Folder that paths are relative to, from the place of the file; `None` for that place itself.
    pub working_folder: Option<String>,
    /// Free text of the person who added it.
    pub description: Option<String>,
}

/// Reads `dvc.lock`; stages come in order of their name.
///
/// # Errors
/// [`DvcError`] with what is wrong and where.
pub fn read_lock(text: &str) -> Result<Vec<Stage>, DvcError> {
    #[derive(Deserialize)]
    struct Lock {
        schema: Option<String>,
        #[serde(default)]
        stages: BTreeMap<String, RawStage>,
    }
    check_text(text)?;
    let lock: Lock = parse(text)?;
    // Without it the stages stand at the top, where they would be read as none.
    if lock.schema.as_deref() != Some("2.0") {
        return Err(DvcError::Schema { schema: lock.schema.unwrap_or_else(|| "1.0 (none named)".to_owned()) });
    }
    Ok(lock.stages.into_iter().map(|(name, stage)| stage.into_stage(name)).collect())
}

/// Reads a `.dvc` file.
///
/// # Errors
/// [`DvcError`] with what is wrong and where.
pub fn read_tracked(text: &str) -> Result<TrackedData, DvcError> {
    #[derive(Deserialize)]
    struct Tracked {
        outs: Vec<RawArtifact>,
        #[serde(default)]
        deps: Vec<RawArtifact>,
        wdir: Option<String>,
        desc: Option<String>,
    }
    check_text(text)?;
    let tracked: Tracked = parse(text)?;
    let all = |artifacts: Vec<RawArtifact>| artifacts.into_iter().map(RawArtifact::into_artifact).collect();
    Ok(TrackedData {
        outs: all(tracked.outs),
        deps: all(tracked.deps),
        working_folder: tracked.wdir,
        description: tracked.desc,
    })
}

fn check_text(text: &str) -> Result<(), DvcError> {
    if text.len() > FILE_BYTES_MAX {
        return Err(DvcError::TooLarge { bytes: text.len() });
    }
    let mark = |line: &str| ["<<<<<<< ", ">>>>>>> "].iter().any(|mark| line.starts_with(mark));
    match text.lines().position(mark) {
        Some(index) => Err(DvcError::Conflict { line: index + 1 }),
        None => Ok(()),
    }
}

fn parse<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, DvcError> {
    serde_saphyr::from_str(text).map_err(|error| DvcError::Shape { reason: error.to_string() })
}

/// Fields of a stage that matter here; those of later versions are passed over.
#[derive(Deserialize)]
struct RawStage {
    cmd: Command,
    #[serde(default)]
    deps: Vec<RawArtifact>,
    #[serde(default)]
    outs: Vec<RawArtifact>,
    #[serde(default)]
    params: BTreeMap<String, BTreeMap<String, serde_json::Value>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Command {
    One(String),
    Several(Vec<String>),
}

impl RawStage {
    fn into_stage(self, name: String) -> Stage {
        let values = |values: BTreeMap<String, serde_json::Value>| {
            values.into_iter().map(|(key, value)| (key, value.to_string())).collect()
        };
        Stage {
            name,
            command: match self.cmd {
                Command::One(command) => command,
                Command::Several(commands) => commands.join(" && "),
            },
            deps: self.deps.into_iter().map(RawArtifact::into_artifact).collect(),
            outs: self.outs.into_iter().map(RawArtifact::into_artifact).collect(),
            params: self.params.into_iter().map(|(file, found)| (file, values(found))).collect(),
        }
    }
}

#[derive(Deserialize)]
struct RawArtifact {
    path: String,
    md5: Option<String>,
    etag: Option<String>,
    checksum: Option<String>,
    size: Option<u64>,
    nfiles: Option<u64>,
}

impl RawArtifact {
    fn into_artifact(self) -> Artifact {
        // Local data has an MD5, data of object stores an entity tag, of HDFS a checksum.
        let digest = [("md5", self.md5), ("etag", self.etag), ("checksum", self.checksum)]
            .into_iter()
            .find_map(|(algorithm, digest)| digest.map(|digest| format!("{algorithm}:{}", digest.trim_matches('"'))));
        let folder = digest.as_ref().is_some_and(|digest| digest.ends_with(".dir")) || self.nfiles.is_some();
        Artifact { path: self.path, digest, folder, size_bytes: self.size, file_count: self.nfiles }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "schema: '2.0'
stages:
  train:
    cmd:
    - python prepare.py
    - python train.py
    deps:
    - path: data/images
      hash: md5
      md5: 22a1a2931c8370d3aeedd7183606fd7f.dir
      size: 4700000000
      nfiles: 9000
    - path: train.py
      md5: 8f0e1d2c3b4a59687786958473625140
      size: 812
    params:
      params.yaml:
        train.lr: 0.01
        train.layers: [2, 3]
        train.name: 'yes'
    outs:
    - path: model.pt
      hash: md5
      md5: 1b0e5d4f3c2a19887766554433221100
      size: 46800000
  evaluate:
    cmd: python evaluate.py
    outs:
    - path: scores.json
";

    #[test]
    fn a_lock_tells_what_made_each_output() {
        let stages = read_lock(LOCK).unwrap();
        assert_eq!(stages.iter().map(|stage| stage.name.as_str()).collect::<Vec<_>>(), ["evaluate", "train"]);
        assert_eq!(stages[0].outs[0].digest, None);
        let train = &stages[1];
        assert_eq!(train.command, "python prepare.py && python train.py");
        let images = Artifact {
            path: "data/images".to_owned(),
            digest: Some("md5:22a1a2931c8370d3aeedd7183606fd7f.dir".to_owned()),
            folder: true,
            size_bytes: Some(4_700_000_000),
            file_count: Some(9_000),
        };
        assert_eq!(train.deps[0], images);
        assert!(!train.deps[1].folder);
        let params = &train.params["params.yaml"];
        assert_eq!((params["train.lr"].as_str(), params["train.layers"].as_str()), ("0.01", "[2,3]"));
        assert_eq!(params["train.name"], "\"yes\"");
    }

    #[test]
    fn a_tracked_file_tells_digest_and_origin() {
        let text = "outs:\n- md5: a304afb96060aad90176268345e10355\n  path: data.xml\n  desc: cats\nwdir: ../data\nfrozen: true\n\
                    deps:\n- path: s3://bucket/data.xml\n  etag: '\"b2\"'\n  size: 5\nmeta:\n  owner: {name: x}\n";
        let tracked = read_tracked(text).unwrap();
        assert_eq!(tracked.outs[0].digest.as_deref(), Some("md5:a304afb96060aad90176268345e10355"));
        assert_eq!((tracked.deps[0].digest.as_deref(), tracked.deps[0].size_bytes), (Some("etag:b2"), Some(5)));
        assert_eq!(tracked.working_folder.as_deref(), Some("../data"));
    }

    #[test]
    fn digits_alone_stay_a_digest() {
        let tracked = read_tracked("outs:\n- md5: 12345678901234567890123456789012\n  path: 2024\n").unwrap();
        assert_eq!(tracked.outs[0].digest.as_deref(), Some("md5:12345678901234567890123456789012"));
        assert_eq!(tracked.outs[0].path, "2024");
    }

    #[test]
    fn a_file_that_is_wrong_says_where() {
        for (text, expected) in [
            ("schema: '3.0'\nstages: {}\n", "schema \"3.0\""),
            ("stages:\n  a: {deps: []}\n", "cmd"),
            ("stages: [", "not a file of DVC"),
            ("schema: '2.0'\n<<<<<<< HEAD\nstages: {}\n", "line 2 is a conflict mark"),
            ("stages:\n  a: {cmd: x}\n  a: {cmd: y}\n", "not a file of DVC"),
            ("stages:\n  a: {cmd: x, outs: [{path: y, size: -1}]}\n", "not a file of DVC"),
        ] {
            let error = read_lock(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        assert!(read_tracked("").is_err());
        assert!(read_tracked("deps: []\n").unwrap_err().to_string().contains("outs"));
        assert!(matches!(read_tracked(&" ".repeat(FILE_BYTES_MAX + 1)), Err(DvcError::TooLarge { .. })));
    }

    #[test]
    fn aliases_are_followed_but_not_where_they_multiply() {
        let text = |levels: usize| {
            let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
            for level in 1..=levels {
                let below = vec![format!("*a{}", level - 1); 10].join(",");
                text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
            }
            text + "schema: '2.0'\nstages: {}\n"
        };
        assert_eq!(read_lock(&text(1)), Ok(vec![]));
        // DVC 1 had the stages at the top.
        let old = read_lock("train:\n  cmd: python train.py\n").unwrap_err().to_string();
        assert!(old.contains("1.0") && old.contains("update the lock"), "{old}");
        assert!(matches!(read_lock(&text(8)), Err(DvcError::Shape { .. })));
    }
}
