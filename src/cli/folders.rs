//! Folders of Kubernetes and cron files that an answer carries as JSON: a `README.txt` and files in each.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::terminal;

/// # Errors
/// A folder with something in it: files of an earlier run would look like those of this one.
pub(super) fn ensure_empty(folder: &Path) -> anyhow::Result<()> {
    let is_empty = !folder.exists() || fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    ensure!(is_empty, "{} holds files already; name a new or an empty folder", folder.display());
    Ok(())
}

/// Writes the folders of `manifests` below `at`, says so, and says its notes; how many files there are.
///
/// # Errors
/// Names that would leave the folder, files that cannot be written.
pub(super) fn write(manifests: &Value, at: &Path, said: &mut String) -> anyhow::Result<usize> {
    let empty = vec![];
    let list = |value: &'_ Value| value.as_array().unwrap_or(&empty).clone();
    let mut file_count = 0;
    for folder in list(&manifests["folders"]) {
        let name = folder["name"].as_str().context("a folder without a name")?;
        let is_plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric());
        ensure!(is_plain, "{name:?} is not the name of a folder of manifests");
        let at = at.join(name);
        write_file(&at, "README.txt", folder["readme"].as_str().unwrap_or_default())?;
        for file in list(&folder["change"]["files"]) {
            let file_name = file["name"].as_str().context("a file without a name")?;
            write_file(&at, file_name, file["text"].as_str().unwrap_or_default())?;
            file_count += 1;
        }
        *said += &format!("  wrote {}\n", at.display());
    }
    for note in list(&manifests["notes"]) {
        *said += &format!("  {}\n", terminal::plain(note.as_str().unwrap_or_default()));
    }
    Ok(file_count)
}

/// The last line of what is said.
pub(super) fn summary(file_count: usize) -> String {
    format!("{file_count} files. Nothing was applied: each folder has a README.txt with the commands, do and undo.\n")
}

/// Names of services come from telemetry: in a path they are letters, digits and dashes.
pub(super) fn name(service: &str, simulated: bool, index: usize) -> PathBuf {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' };
    let name: String = service.chars().take(60).map(safe).collect();
    // Two names may become one.
    let number = if name == service { String::new() } else { format!("-{index}") };
    format!("{}{name}{number}", if simulated { "SIMULATED-" } else { "" }).into()
}

fn write_file(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    ensure!(!name.contains(['/', '\\']) && !name.starts_with('.'), "{name:?} is not the name of a file of a manifest");
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_of_any_name_stays_in_its_folder() {
        let of = |text: &str| name(text, false, 3).display().to_string();
        assert_eq!(of("chat-llm"), "chat-llm");
        assert_eq!(of("../../etc"), "------etc-3");
        assert_eq!(name("chat", true, 0), PathBuf::from("SIMULATED-chat"));
        let dir = tempfile::tempdir().unwrap();
        assert!(write_file(dir.path(), "../x", "").is_err());
    }
}
