//! `driftwatt recommend`: verdicts, the files that carry them out, and what people decide.

use std::path::Path;

use anyhow::{Context as _, ensure};
use driftwatt_analyze::ledger::Decision;
use serde_json::Value;

use super::{
    DecideArgs, RecommendArgs, RecommendDecision, folders,
    read::{answered, write_to},
};
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
        folders::ensure_empty(folder)?;
        (question.format, question.manifests) = (Format::Json, true);
    }
    let local = async |desk: Desk<'_>| desk.recommend(&question).await;
    let path = "/api/v1/recommendations";
    let answer = answered(&args.source, path, &question, args.prices.as_ref(), local).await?.text;
    let Some(folder) = &args.patches else {
        return write_to(args.output.as_ref(), &answer);
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
    let mut said = String::new();
    let mut file_count = 0;
    for (index, service) in report["services"].as_array().unwrap_or(&empty).iter().enumerate() {
        let name = service["service"].as_str().unwrap_or_default();
        let is_simulated = service["simulated"] == true;
        let mark = if is_simulated { " (SIMULATED)" } else { "" };
        let (verdict, why) = (service["verdict"].as_str().unwrap_or("unknown"), service["why"].as_str().unwrap_or(""));
        said += &format!("{}{mark}: {verdict}; {}\n", terminal::plain(name), terminal::plain(why));
        let of_service = folder.join(folders::name(name, is_simulated, index));
        file_count += folders::write(&service["manifests"], &of_service, &mut said)?;
    }
    for (list, name, prefix) in [("containers", "container", ""), ("quotas", "namespace", ""), ("undo", "", "undo-")] {
        for (index, of) in report[list].as_array().unwrap_or(&empty).iter().enumerate() {
            let (entry, manifests) = (&of["entry"], &of["manifests"]);
            if manifests.is_null() {
                continue;
            }
            let (subject, why) = match list {
                "undo" => (&entry["service"], &entry["undo"]),
                _ => (&of[name], &of["why"]),
            };
            let (subject, why) = (subject.as_str().unwrap_or_default(), why.as_str().unwrap_or_default());
            let is_simulated = of["simulated"] == true || entry["simulated"] == true;
            let mark = if is_simulated { " (SIMULATED)" } else { "" };
            said += &format!("{prefix}{}{mark}: {}\n", terminal::plain(subject), terminal::plain(why));
            let at = folder.join(folders::name(&format!("{prefix}{subject}"), is_simulated, index));
            file_count += folders::write(manifests, &at, &mut said)?;
        }
    }
    Ok(said + &folders::summary(file_count))
}
