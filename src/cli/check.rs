//! `driftwatt check`: may this batch be used?

mod batch_log;
mod notify;
mod quarantine;
mod text;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, ensure};
use chrono::Utc;
use driftwatt_analyze::gates::{
    CheckInputs, CheckedFile, Contract, ContractTag, DatasetRecord, Import, Notice, References, Table, batch_name,
    check_file, read_reference,
};

use self::{batch_log::BatchLog, notify::Notifier};
use super::{GateArgs, GateFormat, RuleFormat};
use crate::{exit, terminal};

pub(super) async fn run(args: GateArgs) -> ExitCode {
    let log = match BatchLog::open(&args).await {
        Ok(log) => log,
        Err(error) => return exit::unchecked(&error),
    };
    let checked = check(&args, log.as_ref()).await;
    let closed = match log {
        Some(log) => log.close().await,
        None => Ok(()),
    };
    match checked.and_then(|code| closed.map(|()| code)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => exit::unchecked(&error),
    }
}

/// The exit code. What was found is printed before it is recorded: a server that is away hides no verdict.
async fn check(args: &GateArgs, log: Option<&BatchLog>) -> anyhow::Result<u8> {
    let (table, contract) = rules(args)?;
    let notifier = Notifier::new(args)?;
    ensure!(args.file.exists(), "there is no file or folder {}", args.file.display());
    let history = match log {
        Some(log) => log.past_batches(&batch_name(&args.file), &table.name).await?,
        None => Vec::new(),
    };
    let inputs = CheckInputs { now: Utc::now(), history, references: references(args, &table).await? };
    let checked = check_file(&args.file, &table, &inputs).await?;
    let now_us = inputs.now.timestamp_micros();
    let held = args.quarantine.as_ref().filter(|_| !checked.accepts());
    let held = held.map(|folder| quarantine::hold_back(&args.file, folder, &checked)).transpose()?;
    let held_at = held.as_ref().map(|held| held.display().to_string());
    if let Some(held) = &held_at {
        eprintln!("driftwatt: moved to {held}; move it back to release it");
    }
    show(args, &checked, &contract, held_at.as_deref(), now_us)?;
    if let Some(log) = log {
        let record = DatasetRecord::new(&checked, &contract, held_at.clone());
        log.record(&record, now_us).await.context("the batch was checked, and not recorded")?;
    }
    if let Some(notifier) = notifier.filter(|_| !checked.accepts()) {
        let notice = Notice { checked: &checked, contract: &contract, held_at: held_at.as_deref(), now_us };
        notifier.tell(&notice).await.context("the batch was checked")?;
    }
    Ok(checked.outcome.exit_code())
}

fn show(
    args: &GateArgs,
    checked: &CheckedFile,
    contract: &ContractTag,
    held_at: Option<&str>,
    now_us: i64,
) -> anyhow::Result<()> {
    let text = match args.format.unwrap_or_else(GateFormat::usual) {
        GateFormat::Text => text::text(checked),
        GateFormat::Json => checked.to_json().to_string(),
        GateFormat::Html => checked.to_page(contract, held_at, now_us).to_html(),
    };
    match &args.output {
        Some(path) => fs::write(path, text).with_context(|| format!("write {}", path.display())),
        None => {
            terminal::print(&text);
            Ok(())
        }
    }
}

/// The rules, and what names them; what a document says beyond them is told on standard error.
fn rules(args: &GateArgs) -> anyhow::Result<(Table, ContractTag)> {
    let file = args.contract.display().to_string();
    let text = fs::read_to_string(&args.contract).with_context(|| format!("read {file}"))?;
    let imported = match args.rules {
        RuleFormat::Odcs => {
            let contract = Contract::from_odcs(&file, &text)?;
            for note in &contract.notes {
                eprintln!("driftwatt: {}: {}", note.place, note.text);
            }
            let table = contract.table(args.table.as_deref())?.clone();
            let Contract { id, version, owner, .. } = contract;
            return Ok((table, ContractTag { id, version: Some(version), owner }));
        }
        RuleFormat::GreatExpectations => Import::from_great_expectations(&file, &text)?,
        RuleFormat::Dbt => Import::from_dbt(&file, &text)?,
        RuleFormat::Sagemaker => Import::from_sagemaker(&file, &text)?,
    };
    for unmapped in &imported.unmapped {
        eprintln!("driftwatt: {}: {} is not checked: {}", unmapped.place, unmapped.what, unmapped.reason);
    }
    let id = args.contract.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok((imported.table(args.table.as_deref())?.clone(), ContractTag { id, ..ContractTag::default() }))
}

/// The columns of other tables that `--reference` gives.
async fn references(args: &GateArgs, table: &Table) -> anyhow::Result<References> {
    let mut references = References::new();
    for given in &args.reference {
        let (name, file) =
            given.split_once('=').filter(|(name, file)| !name.is_empty() && !file.is_empty()).with_context(|| {
                format!("{given:?} is no reference: write --reference TABLE=FILE, as users=users.parquet")
            })?;
        let file = PathBuf::from(file);
        ensure!(file.is_file(), "there is no file {}", file.display());
        references.extend(read_reference(name, &file, table).await?);
    }
    Ok(references)
}
