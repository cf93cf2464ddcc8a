//! What is recorded: recommendations with their state, and the rows of the ledger.

use std::collections::HashMap;

use datafusion::{arrow::array::RecordBatch, prelude::SessionContext};
use driftwatt_store::Store;

use super::{Entry, Kind, Proposal, Recorded, TABLE};
use crate::{
    error::Result,
    manifest::ContainerResources,
    recommend::{self, ContainerName},
    recommendation::LedgerState,
    result_table::ResultTable,
    rows::{Rows, has_result},
};

/// All proposals, each with the state that its last row gives it.
pub(super) async fn recorded(ctx: &SessionContext) -> Result<Vec<Recorded>> {
    if !has_result(ctx, recommend::TABLE) {
        return Ok(vec![]);
    }
    // Of one that was renewed the last row counts.
    let query = format!(
        "SELECT *, CAST(time AS BIGINT) AS made FROM (SELECT *, \
         row_number() OVER (PARTITION BY id ORDER BY time DESC) AS newest FROM reports.{} WHERE id IS NOT NULL) \
         WHERE newest = 1 ORDER BY id",
        recommend::TABLE
    );
    let rows = Rows::query(ctx, &query).await?;
    let states = states(ctx).await?;
    let (ids, subjects, simulated) = (rows.texts("id")?, rows.texts("subject")?, rows.flags("simulated")?);
    let (services, currencies) = (rows.texts("service_name")?, rows.texts("currency")?);
    let (expires, made, savings) =
        (rows.integers("expires")?, rows.integers("made")?, rows.numbers("saving_expected")?);
    let hours = ["gpu_hours_saved", "cpu_hours_saved", "gb_hours_saved"].map(|name| rows.numbers(name));
    let [gpu, cpu, gb] = hours;
    let (gpu, cpu, gb) = (gpu?, cpu?, gb?);
    let proposals = proposals(&rows)?;
    let names = container_names(&rows)?;
    let recorded = proposals.into_iter().enumerate().filter_map(|(row, proposal)| {
        let (id, subject, proposal) = (ids[row].clone()?, subjects[row].clone()?, proposal?);
        let entry = Entry {
            state: states.get(&id).copied().unwrap_or(LedgerState::Proposed),
            id,
            kind: proposal.kind(),
            service: subject,
            simulated: simulated[row],
            predicted_gpu_hours: gpu[row],
            realised_gpu_hours: None,
            predicted_cpu_hours: cpu[row],
            realised_cpu_hours: None,
            predicted_gb_hours: gb[row],
            realised_gb_hours: None,
            predicted_saving: savings[row],
            realised_saving: None,
            currency: currencies[row].clone().unwrap_or_default(),
            note: None,
            undo: None,
        };
        Some(Recorded {
            entry,
            made_us: made[row]?,
            expires_us: expires[row]?,
            proposal,
            service: services[row].clone(),
            container: names[row].clone(),
        })
    });
    Ok(recorded.collect())
}

/// What each row proposes.
fn proposals(rows: &Rows) -> Result<Vec<Option<Proposal>>> {
    let kinds = rows.texts("kind")?;
    let counts = ["replica_count", "proposed_count", "gpus_per_replica"].map(|name| rows.integers(name));
    let [before, after, per_replica] = counts;
    let (before, after, per_replica) = (before?, after?, per_replica?);
    let resources = |of: &str| -> Result<Vec<ContainerResources>> {
        let column = |name: &str| rows.numbers(&format!("{name}{of}"));
        let (cpu, memory) = (column("cpu_request")?, column("memory_request")?);
        let (cpu_limit, memory_limit) = (column("cpu_limit")?, column("memory_limit")?);
        let all = (0..rows.len()).map(|row| ContainerResources {
            cpu_request: cpu[row],
            memory_request: memory[row],
            cpu_limit: cpu_limit[row],
            memory_limit: memory_limit[row],
        });
        Ok(all.collect())
    };
    let (from, to) = (resources("")?, resources("_proposed")?);
    let count = |count: Option<i64>| count.and_then(|count| u32::try_from(count).ok());
    let proposal = |row: usize| match kinds[row].as_deref()? {
        "requests" => Some(Proposal::Requests { from: from[row], to: to[row] }),
        _ => Some(Proposal::Replicas {
            from: count(before[row])?,
            to: count(after[row])?,
            gpus_per_replica: count(per_replica[row])?,
        }),
    };
    Ok((0..rows.len()).map(proposal).collect())
}

/// The container of each row that is of one.
fn container_names(rows: &Rows) -> Result<Vec<Option<ContainerName>>> {
    let simulated = rows.flags("simulated")?;
    let (namespaces, workloads, containers) =
        (rows.texts("k8s_namespace")?, rows.texts("workload")?, rows.texts("k8s_container")?);
    let name = |row: usize| {
        Some(ContainerName {
            simulated: simulated[row],
            namespace: namespaces[row].clone(),
            workload: workloads[row].clone(),
            container: containers[row].clone()?,
        })
    };
    Ok((0..rows.len()).map(name).collect())
}

/// The state that the last row of each recommendation gives.
async fn states(ctx: &SessionContext) -> Result<HashMap<String, LedgerState>> {
    if !has_result(ctx, TABLE) {
        return Ok(HashMap::new());
    }
    let query = format!(
        "SELECT id, state, CAST(time AS BIGINT) AS at, predicted_gpu_hours, realised_gpu_hours FROM (SELECT *, \
         row_number() OVER (PARTITION BY id ORDER BY time DESC, place DESC) AS newest FROM reports.{TABLE}) \
         WHERE newest = 1"
    );
    let rows = Rows::query(ctx, &query).await?;
    let (ids, names, times) = (rows.texts("id")?, rows.texts("state")?, rows.integers("at")?);
    let (predicted, realised) = (rows.numbers("predicted_gpu_hours")?, rows.numbers("realised_gpu_hours")?);
    let known = (0..rows.len()).filter_map(|row| {
        let at_us = times[row]?;
        let hours = |hours: Option<f64>| hours.unwrap_or(f64::NAN);
        let state = match names[row].as_deref()? {
            "accepted" => LedgerState::Accepted(at_us),
            "rejected" => LedgerState::Rejected(at_us),
            "expired" => LedgerState::Expired,
            "superseded" => LedgerState::Superseded,
            "realised" => LedgerState::Realised { predicted: hours(predicted[row]), realised: hours(realised[row]) },
            _ => return None,
        };
        Some((ids[row].clone()?, state))
    });
    Ok(known.collect())
}

pub(super) async fn append(store: &Store, entries: &[Entry], now_us: i64) -> Result<()> {
    if !entries.is_empty() {
        store.write_result(TABLE, to_batch(entries, now_us)?).await?;
    }
    Ok(())
}

pub(super) fn to_batch(entries: &[Entry], now_us: i64) -> Result<RecordBatch> {
    let rows = || entries.iter();
    // Rows of one moment are told apart by how far they are.
    let place = |state: LedgerState| match state {
        LedgerState::Proposed => 0,
        LedgerState::Accepted(_) | LedgerState::Rejected(_) | LedgerState::Expired | LedgerState::Superseded => 1,
        LedgerState::Realised { .. } => 2,
    };
    let mut table = ResultTable::new(now_us, entries.len());
    table
        .texts("id", rows().map(|row| Some(row.id.clone())))
        .texts(
            "kind",
            rows().map(|row| Some(if row.kind == Kind::Replicas { "replicas" } else { "requests" }.to_owned())),
        )
        .texts("subject", rows().map(|row| Some(row.service.clone())))
        .flags("simulated", rows().map(|row| row.simulated))
        .texts("state", rows().map(|row| Some(row.state.as_str().to_owned())))
        .integers("place", rows().map(|row| Some(place(row.state))))
        .numbers("predicted_gpu_hours", rows().map(|row| row.predicted_gpu_hours))
        .numbers("realised_gpu_hours", rows().map(|row| row.realised_gpu_hours))
        .numbers("predicted_cpu_hours", rows().map(|row| row.predicted_cpu_hours))
        .numbers("realised_cpu_hours", rows().map(|row| row.realised_cpu_hours))
        .numbers("predicted_gb_hours", rows().map(|row| row.predicted_gb_hours))
        .numbers("realised_gb_hours", rows().map(|row| row.realised_gb_hours))
        .numbers("predicted_saving", rows().map(|row| row.predicted_saving))
        .numbers("realised_saving", rows().map(|row| row.realised_saving))
        .texts("currency", rows().map(|row| Some(row.currency.clone())))
        .texts("note", rows().map(|row| row.note.clone()))
        .texts("undo", rows().map(|row| row.undo.clone()));
    table.finish()
}
