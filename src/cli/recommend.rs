//! `driftwatt recommend`: verdicts, the files that carry them out, and what people decide.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use driftwatt_analyze::ledger::Decision;
use serde_json::Value;

use super::{DecideArgs, RecommendArgs, RecommendDecision, read::answered};
use crate::{
    answers::{Desk, Format},
    terminal,
};

pub(super) async fn run(args: RecommendArgs) -> anyhow::Result<()> {
    match &args.decision {
        Some(RecommendDecision::Accept(decided)) => decide(&args, decided, "accept").await,
        Some(RecommendDecision::Reject(decided)) => decide(&args, decided, "reject").await,
        None => recommend(&args).await,
    }
}

async fn recommend(args: &RecommendArgs) -> anyhow::Result<()> {
    let mut question = args.question.clone();
    if let Some(folder) = &args.patches {
        // Files of an earlier run would look like those of this one.
        let is_empty = !folder.exists() || fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
        ensure!(is_empty, "{} holds files already; name a new or an empty folder", folder.display());
        (question.format, question.manifests) = (Format::Json, true);
    }
    let local = async |desk: Desk<'_>| desk.recommend(&question).await;
    let path = "/api/v1/recommendations";
    let answer = answered(&args.source, path, &question, args.prices.as_ref(), local).await?.text;
    let Some(folder) = &args.patches else {
        terminal::print(&answer);
        return Ok(());
    };
    let report: Value = serde_json::from_str(&answer).context("read the recommendations")?;
    let said = write(&report, folder)?;
    terminal::print(if args.question.format == Format::Json { &answer } else { &said });
    Ok(())
}

async fn decide(args: &RecommendArgs, decided: &DecideArgs, word: &str) -> anyhow::Result<()> {
    let decision = if word == "accept" { Decision::Accept } else { Decision::Reject };
    let (id, question) = (&decided.id, &decided.question);
    // It becomes a part of the address.
    ensure!(
        !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric()),
        "{id:?} is not the id of a recommendation"
    );
    let path = format!("/api/v1/recommendations/{id}/{word}");
    let local = async |desk: Desk<'_>| desk.decide(id, decision, question).await;
    terminal::print(&answered(&args.source, &path, question, None, local).await?.text);
    Ok(())
}

/// Writes the files of every service below `folder`; what was written, and what was not and why.
fn write(report: &Value, folder: &Path) -> anyhow::Result<String> {
    let empty = vec![];
    let list = |value: &'_ Value| value.as_array().cloned().unwrap_or_default();
    let mut said = String::new();
    let mut file_count = 0;
    for (index, service) in report["services"].as_array().unwrap_or(&empty).iter().enumerate() {
        let name = service["service"].as_str().unwrap_or_default();
        let mark = if service["simulated"] == true { " (SIMULATED)" } else { "" };
        let (verdict, why) = (service["verdict"].as_str().unwrap_or("unknown"), service["why"].as_str().unwrap_or(""));
        said += &format!("{}{mark}: {verdict}; {}\n", terminal::plain(name), terminal::plain(why));
        let of_service = folder.join(folder_name(name, service["simulated"] == true, index));
        for change in list(&service["manifests"]["folders"]) {
            let name = change["name"].as_str().context("a folder without a name")?;
            let is_plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric());
            ensure!(is_plain, "{name:?} is not the name of a folder of manifests");
            let at = of_service.join(name);
            write_file(&at, "README.txt", change["readme"].as_str().unwrap_or_default())?;
            for file in list(&change["change"]["files"]) {
                let file_name = file["name"].as_str().context("a file without a name")?;
                write_file(&at, file_name, file["text"].as_str().unwrap_or_default())?;
                file_count += 1;
            }
            said += &format!("  wrote {}\n", at.display());
        }
        for note in list(&service["manifests"]["notes"]) {
            said += &format!("  {}\n", terminal::plain(note.as_str().unwrap_or_default()));
        }
    }
    said += &format!(
        "{file_count} files. Nothing was applied: each folder has a README.txt with the commands, do and undo.\n"
    );
    Ok(said)
}

/// Names of services come from telemetry: in a path they are letters, digits and dashes.
fn folder_name(service: &str, simulated: bool, index: usize) -> PathBuf {
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
        let of = |name: &str| folder_name(name, false, 3).display().to_string();
        assert_eq!(of("chat-llm"), "chat-llm");
        assert_eq!(of("../../etc"), "------etc-3");
        assert_eq!(folder_name("chat", true, 0), PathBuf::from("SIMULATED-chat"));
        let dir = tempfile::tempdir().unwrap();
        assert!(write_file(dir.path(), "../x", "").is_err());
    }
}
