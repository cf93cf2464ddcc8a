//! Work trees whose DVC files are read again and again while the server runs; what changed is recorded.

use anyhow::Context as _;
use driftwatt_analyze::{
    delivery::Clock,
    lineage::work_tree::{RawWorkTree, WatchedTree, WorkTree},
};
use driftwatt_store::Store;
use futures::future::join_all;

/// Watches work trees.
pub(crate) struct WorkTreeWatch {
    trees: Vec<WatchedTree>,
}

impl WorkTreeWatch {
    /// The watch of `[[lineage.work_trees]]`; none where there is no tree.
    ///
    /// # Errors
    /// Settings that cannot be used.
    pub(crate) fn new(raw: &[RawWorkTree]) -> anyhow::Result<Option<Self>> {
        let trees = raw.iter().cloned().map(RawWorkTree::validate).collect::<Result<Vec<_>, _>>()?;
        Ok((!trees.is_empty()).then_some(Self { trees }))
    }

    /// Looks at every tree at its interval. Never ends by itself.
    pub(crate) async fn watch(self, store: &Store, clock: &dyn Clock) {
        join_all(self.trees.iter().map(|tree| keep(tree, store, clock))).await;
    }
}

async fn keep(tree: &WatchedTree, store: &Store, clock: &dyn Clock) {
    let (mut recorded, mut told): (Option<WorkTree>, Vec<String>) = (None, Vec::new());
    loop {
        let problems = match look(tree, &mut recorded, store, clock).await {
            Ok(problems) => problems,
            Err(error) => vec![format!("{error:#}")],
        };
        // Once for each state: a folder that is away for a day says so once.
        if problems != told && !problems.is_empty() {
            tracing::warn!(folder = %tree.folder.display(), problems = problems.join("; "), "a work tree is not in order");
        }
        told = problems;
        clock.sleep(tree.interval).await;
    }
}

/// Looks, and records what is not as it was; what is odd.
async fn look(
    tree: &WatchedTree,
    recorded: &mut Option<WorkTree>,
    store: &Store,
    clock: &dyn Clock,
) -> anyhow::Result<Vec<String>> {
    let looking = tree.clone();
    let found = tokio::task::spawn_blocking(move || looking.look()).await.context("list the folder")?;
    let found = found.context("the folder cannot be read")?;
    if recorded.as_ref() != Some(&found) {
        found.record(store, clock.unix_us()).await?;
        *recorded = Some(found.clone());
    }
    Ok(found.problems)
}
