//! What was accepted and should be taken back, with the files that do it.

use datafusion::prelude::SessionContext;
use serde::Serialize;

use super::{RecommendRequest, ServiceManifests, workload::Workloads};
use crate::{
    error::Result,
    ledger::{self, Entry, Proposal, Undo},
    manifest::{self, Change, Folder, Target, WorkloadKind},
};

/// A measured recommendation to take back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UndoAdvice {
    /// As measured.
    pub entry: Entry,
    /// Files, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifests: Option<ServiceManifests>,
}

pub(super) async fn advice(
    ctx: &SessionContext,
    settled: &[Entry],
    request: &RecommendRequest,
    workloads: &Workloads,
) -> Result<Vec<UndoAdvice>> {
    let found = ledger::to_undo(ctx, settled, request.now_us).await?;
    let advice = found.into_iter().map(|undo| UndoAdvice {
        manifests: request.manifests.as_ref().map(|_| files(&undo, workloads)),
        entry: undo.entry,
    });
    Ok(advice.collect())
}

fn files(undo: &Undo, workloads: &Workloads) -> ServiceManifests {
    let mut made = ServiceManifests { folders: vec![], notes: vec![] };
    match change(undo, workloads) {
        Ok(change) => made.folders.push(Folder::new(
            "undo",
            "This takes back what was accepted; its own undo carries it out again.\n\n",
            change,
        )),
        Err(reason) => made.notes.push(format!("no files: {reason}")),
    }
    made
}

/// From what was proposed back to what was before.
fn change(undo: &Undo, workloads: &Workloads) -> std::result::Result<Change, String> {
    let comment = undo.entry.text();
    match (&undo.proposal, &undo.container) {
        (Proposal::Requests { from, to }, Some(name)) => {
            let target = target(name.namespace.as_deref(), name.workload.as_deref())?;
            manifest::resources(&target, &name.container, to, from, &comment).map_err(|error| error.to_string())
        }
        (Proposal::Replicas { from, to, .. }, _) => {
            let target = workloads.of(&undo.entry.service, undo.entry.simulated, &Default::default()).target?;
            Ok(manifest::replicas(&target, *to, *from, &comment))
        }
        (Proposal::Requests { .. }, None) => Err("its container is not known".into()),
    }
}

/// A workload from its namespace and `Kind name`.
fn target(namespace: Option<&str>, workload: Option<&str>) -> std::result::Result<Target, String> {
    let named = namespace.zip(workload.and_then(|workload| workload.split_once(' ')));
    let Some((namespace, (kind, name))) = named else { return Err("its workload is not known".into()) };
    let kinds = [WorkloadKind::Deployment, WorkloadKind::StatefulSet, WorkloadKind::DaemonSet];
    let kind = kinds.into_iter().find(|known| known.as_str() == kind).ok_or("the kind of its workload is not known")?;
    Target::new(namespace, kind, name).map_err(|error| error.to_string())
}
