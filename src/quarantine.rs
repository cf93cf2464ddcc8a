//! Where batches wait that may not be used.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use chrono::{DateTime, SecondsFormat, Utc};
use driftwatt_analyze::gates::{CheckedFile, ContractTag, DatasetRecord, content_digest};
use serde_json::{Value, json};

/// Moves `file`, which may be a folder, and its report into `folder`; nothing there is overwritten. Where it is now.
///
/// # Errors
/// The file system does not let it be moved; it is then where it was.
pub(crate) fn hold_back(
    file: &Path,
    folder: &Path,
    checked: &CheckedFile,
    contract: &ContractTag,
) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let named = |number: u32| folder.join(if number == 1 { name.clone() } else { format!("{number}-{name}") });
    // A file that was released left its report.
    let free = |path: &PathBuf| !path.exists() && !report_of(path).exists();
    let held = (1..).map(named).find(free).context("no free name")?;
    let mut report = checked.to_json();
    report["held_from"] = json!(absolute(file)?);
    report["record"] = json!(DatasetRecord::new(checked, contract, Some(held.display().to_string())));
    write_report(&held, &report)?;
    if let Err(error) = relocate(file, &held) {
        // The report would name a place where nothing is.
        let report = report_of(&held);
        fs::remove_file(&report).with_context(|| format!("remove {}", report.display()))?;
        return Err(error);
    }
    Ok(held)
}

/// A batch that is held back, with what its report says.
pub(crate) struct Held {
    place: PathBuf,
    report: Value,
    /// As it was recorded when it was checked.
    pub(crate) record: DatasetRecord,
    /// Where it was then.
    pub(crate) from: PathBuf,
}

impl Held {
    /// The batch at `place`.
    ///
    /// # Errors
    /// There is none, it has no report, or it is not what was checked.
    pub(crate) fn open(place: &Path) -> anyhow::Result<Self> {
        // A slash at the end of a folder's name would be one before that of its report.
        let place: PathBuf = place.components().collect();
        ensure!(place.exists(), "nothing is held back at {}", place.display());
        let path = report_of(&place);
        let text = fs::read_to_string(&path).with_context(|| {
            format!(
                "read {}: driftwatt check --quarantine writes it beside each batch that it holds back",
                path.display()
            )
        })?;
        let report: Value = serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))?;
        let by_hand = || format!("{} is no report of this version: move the batch back by hand", path.display());
        let record: DatasetRecord = serde_json::from_value(report["record"].clone()).with_context(by_hand)?;
        let from = PathBuf::from(report["held_from"].as_str().with_context(by_hand)?);
        let is_same = content_digest(&place, &from)? == record.digest;
        ensure!(
            is_same,
            "{} is not what was checked, its images included ({} in its report): move it away and check it anew",
            place.display(),
            record.digest
        );
        Ok(Self { place, report, record, from })
    }

    /// Moves it to `to`, where nothing may be, and writes why into its report, which stays.
    ///
    /// # Errors
    /// The file system does not let it be moved; it is then where it was.
    pub(crate) fn release(mut self, to: &Path, reason: &str, now: DateTime<Utc>) -> anyhow::Result<()> {
        relocate(&self.place, to)?;
        let time = now.to_rfc3339_opts(SecondsFormat::Secs, true);
        self.report["released"] = json!({ "time": time, "reason": reason, "to": absolute(to)? });
        write_report(&self.place, &self.report)
    }
}

/// The whole path, for a reader in another folder.
fn absolute(path: &Path) -> anyhow::Result<String> {
    let path = std::path::absolute(path).with_context(|| format!("find the whole path of {}", path.display()))?;
    Ok(path.display().to_string())
}

fn report_of(held: &Path) -> PathBuf {
    PathBuf::from(format!("{}.report.json", held.display()))
}

/// Written beside itself first, so that a report is never half of one.
fn write_report(held: &Path, report: &Value) -> anyhow::Result<()> {
    let (path, unfinished) = (report_of(held), PathBuf::from(format!("{}.report.json.new", held.display())));
    fs::write(&unfinished, serde_json::to_string_pretty(report)?)
        .with_context(|| format!("write {}", unfinished.display()))?;
    fs::rename(&unfinished, &path).with_context(|| format!("write {}", path.display()))
}

/// Moves a file, or a folder within its file system.
///
/// # Errors
/// The file system does not let it be moved; it is then where it was.
pub(crate) fn relocate(from: &Path, to: &Path) -> anyhow::Result<()> {
    let Err(error) = fs::rename(from, to) else { return Ok(()) };
    if from.is_dir() {
        return Err(error).context(format!("move to {}: choose a folder of the same file system", to.display()));
    }
    // Another file system takes a copy, which is whole before the original goes.
    let copied = || -> anyhow::Result<()> {
        fs::copy(from, to).with_context(|| format!("copy to {}", to.display()))?;
        fs::File::open(to)?.sync_all().with_context(|| format!("sync {}", to.display()))?;
        fs::remove_file(from).with_context(|| format!("remove {}", from.display()))
    };
    let result = copied();
    if result.is_err() && to.exists() {
        fs::remove_file(to)
            .with_context(|| format!("remove the copy {}, for {} stays", to.display(), from.display()))?;
    }
    result
}
