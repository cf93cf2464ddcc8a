//! `driftwatt dvc DIR`: which data the DVC files of a work tree name, and its commit.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use chrono::Utc;
use clap::Args;
use driftwatt_analyze::lineage::work_tree::{self, WorkTree};
use serde_json::json;

use super::{ReportFormat, Source, SourceArgs, read::sent};
use crate::{
    exit,
    terminal::{self, plain},
};

#[derive(Debug, Args)]
pub(crate) struct DvcArgs {
    /// A folder of a git work tree with dvc.lock or .dvc files, which are looked for down to its leaves
    folder: PathBuf,
    /// What the tree is called [default: the name of the folder]
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    source: SourceArgs,
    /// [default: text on a terminal, json in a pipe]
    #[arg(long)]
    format: Option<ReportFormat>,
}

pub(super) async fn run(args: DvcArgs) -> ExitCode {
    match record(&args).await {
        Ok(tree) => {
            match args.format.unwrap_or_else(ReportFormat::usual) {
                ReportFormat::Text => terminal::print(&text(&tree)),
                ReportFormat::Json => terminal::print(&json!(tree).to_string()),
            }
            if tree.problems.is_empty() { exit::SOUND } else { exit::faults() }
        }
        Err(error) => exit::unchecked(&error),
    }
}

fn text(tree: &WorkTree) -> String {
    let commit = tree.commit_id.as_ref().map_or_else(|| "no known commit".to_owned(), |id| format!("commit {id}"));
    let branch = tree.branch.as_ref().map_or(String::new(), |branch| format!(" of {}", plain(branch)));
    let mut text = format!(
        "{} at {commit}{branch}: {} data sets and {} stages recorded\n",
        plain(&tree.name),
        tree.data.len(),
        tree.stages.len()
    );
    tree.problems.iter().for_each(|problem| text += &format!("odd: {}\n", plain(problem)));
    text
}

async fn record(args: &DvcArgs) -> anyhow::Result<WorkTree> {
    let (folder, name) = (args.folder.clone(), args.name.clone());
    let looked = tokio::task::spawn_blocking(move || work_tree::look(&folder, name.as_deref())).await?;
    let tree = looked.with_context(|| format!("look at {}", args.folder.display()))?;
    let source = Source::open(&args.source).await?;
    let recorded = tell(&tree, &source).await;
    let closed = source.close().await;
    recorded?;
    closed.map(|()| tree)
}

async fn tell(tree: &WorkTree, source: &Source) -> anyhow::Result<()> {
    match source {
        Source::Directory(opened) => Ok(tree.record(&opened.store, Utc::now().timestamp_micros()).await?),
        Source::Server { url, client } => {
            let path = format!("{url}/api/v1/lineage/work-trees");
            sent(client.post(&path).json(tree), url, &path).await.map(|_taken| ())
        }
    }
}
