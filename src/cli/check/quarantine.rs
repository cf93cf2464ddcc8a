//! Where batches wait that may not be used.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use driftwatt_analyze::gates::CheckedFile;

/// Moves `file`, which may be a folder, and its report into `quarantine`; nothing there is overwritten. Where it is now.
///
/// # Errors
/// The file system does not let it be moved; it is then where it was.
pub(super) fn hold_back(file: &Path, folder: &Path, checked: &CheckedFile) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let named = |number: u32| folder.join(if number == 1 { name.clone() } else { format!("{number}-{name}") });
    let report_of = |held: &Path| PathBuf::from(format!("{}.report.json", held.display()));
    // A file that was released left its report.
    let free = |path: &PathBuf| !path.exists() && !report_of(path).exists();
    let held = (1..).map(named).find(free).context("no free name")?;
    let report = report_of(&held);
    fs::write(&report, serde_json::to_string_pretty(&checked.to_json())?)
        .with_context(|| format!("write {}", report.display()))?;
    // Another file system takes a copy, which is whole before the original goes.
    if let Err(error) = fs::rename(file, &held) {
        if file.is_dir() {
            // Its report would name a place where nothing is.
            fs::remove_file(&report).with_context(|| format!("remove {}", report.display()))?;
            return Err(error).context(format!("move to {}: choose a folder of the same file system", held.display()));
        }
        fs::copy(file, &held).with_context(|| format!("copy to {}", held.display()))?;
        fs::File::open(&held)?.sync_all().with_context(|| format!("sync {}", held.display()))?;
        fs::remove_file(file).with_context(|| format!("remove {}", file.display()))?;
    }
    Ok(held)
}
