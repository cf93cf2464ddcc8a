//! `driftwatt check`: may this batch be used?

mod args;
mod batch_log;
mod notify;
mod stream;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail, ensure};
use chrono::Utc;
use driftwatt_analyze::gates::{
    BatchPlace, CheckInputs, CheckedFile, Contract, ContractTag, DatasetRecord, Import, Notice, References, Table,
    batch_name, check_file, read_reference,
};

pub(super) use self::args::{GateArgs, ReleaseArgs};
use self::{
    args::{GateFormat, RuleFormat},
    batch_log::BatchLog,
    notify::Notifier,
};
use super::read::write_to;
use crate::{
    answers::report_text,
    exit,
    quarantine::{self, Held},
};

pub(super) async fn run(args: GateArgs) -> ExitCode {
    if args.metric.is_some() {
        return stream::run(&args).await;
    }
    let log = match BatchLog::open(&args.log).await {
        Ok(log) => log,
        Err(error) => return exit::unchecked(&error),
    };
    let checked = check(&args, log.as_ref()).await;
    match closed(checked, log).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => exit::unchecked(&error),
    }
}

/// Lets a batch be used that is held back: records it as usable, with the reason, and moves it back.
///
/// # Errors
/// No such batch or another content than was checked, something in the place it goes to, no server.
pub(super) async fn release(args: ReleaseArgs) -> anyhow::Result<()> {
    let log = BatchLog::open(&args.log).await?;
    let released = release_held(&args, log.as_ref()).await;
    closed(released, log).await
}

/// `result`, and what went wrong when the log was let go.
async fn closed<T>(result: anyhow::Result<T>, log: Option<BatchLog>) -> anyhow::Result<T> {
    let closed = match log {
        Some(log) => log.close().await,
        None => Ok(()),
    };
    match (result, closed) {
        (Ok(value), Ok(())) => Ok(value),
        (Ok(_), Err(error)) | (Err(error), Ok(())) => Err(error),
        (Err(error), Err(closed)) => bail!("{error:#}; {closed:#}"),
    }
}

async fn release_held(args: &ReleaseArgs, log: Option<&BatchLog>) -> anyhow::Result<()> {
    let reason = args.reason.trim();
    ensure!(!reason.is_empty(), "--reason is empty: say why the batch may be used");
    let held = Held::open(&args.held)?;
    let to = args.to.clone().unwrap_or_else(|| held.from.clone());
    ensure!(!to.exists(), "{} is there already: nothing is overwritten, name another place with --to", to.display());
    let now = Utc::now();
    // Before it is moved: what is in use is in the table.
    if let Some(log) = log {
        let record = held.record.clone().released(reason);
        log.record(&record, now.timestamp_micros()).await.context("the batch is still held back")?;
    }
    held.release(&to, reason, now).context("the batch is not moved, or its report does not say so")?;
    eprintln!("driftwatt: released to {}", to.display());
    Ok(())
}

/// The exit code. Of what follows from a verdict each part is tried, whatever became of the others: a full disk keeps nobody from
/// being told, and a table that takes no row hides no verdict.
async fn check(args: &GateArgs, log: Option<&BatchLog>) -> anyhow::Result<u8> {
    let (table, contract) = rules(args)?;
    let notifier = Notifier::new(args)?;
    let file = args.file.as_deref().context("name a file, a folder, or a metric with --metric")?;
    ensure!(file.exists(), "there is no file or folder {}", file.display());
    let history = match log {
        Some(log) => log.past_batches(&batch_name(file), &table.name).await?,
        None => Vec::new(),
    };
    let inputs = CheckInputs { now: Utc::now(), history, references: references(args, &table).await? };
    let checked = check_file(file, &table, &inputs).await?;
    let now_us = inputs.now.timestamp_micros();
    let mut failures = Vec::new();
    let place = held_back(file, args, &checked, &contract, &mut failures);
    failures.extend(show(args, &checked, &contract, &place, now_us).err());
    if let Some(log) = log {
        let record = DatasetRecord::new(&checked, &contract, place.held_at().map(str::to_owned));
        let record = DatasetRecord { started_us: Some(now_us), ..record };
        failures.extend(
            log.record(&record, Utc::now().timestamp_micros())
                .await
                .context("the batch was checked, and not recorded")
                .err(),
        );
    }
    if let Some(notifier) = notifier.filter(|_| !checked.accepts()) {
        let notice = Notice { checked: &checked, contract: &contract, place: &place, now_us };
        failures.extend(notifier.tell(&notice).await.context("the batch was checked").err());
    }
    if failures.is_empty() {
        return Ok(checked.outcome.exit_code());
    }
    bail!("{}", failures.iter().map(|failure| format!("{failure:#}")).collect::<Vec<_>>().join("; "))
}

/// Where the batch is, after it was moved if it may not be used.
fn held_back(
    file: &Path,
    args: &GateArgs,
    checked: &CheckedFile,
    contract: &ContractTag,
    failures: &mut Vec<anyhow::Error>,
) -> BatchPlace {
    let Some(folder) = args.quarantine.as_ref().filter(|_| !checked.accepts()) else { return BatchPlace::Left };
    match quarantine::hold_back(file, folder, checked, contract) {
        Ok(held) => {
            let held = held.display().to_string();
            eprintln!("driftwatt: moved to {held}; driftwatt release moves it back");
            BatchPlace::Held(held)
        }
        Err(error) => {
            let why = format!("{error:#}");
            failures.push(error.context("the batch may not be used, and is still where it was"));
            BatchPlace::NotMoved(why)
        }
    }
}

fn show(
    args: &GateArgs,
    checked: &CheckedFile,
    contract: &ContractTag,
    place: &BatchPlace,
    now_us: i64,
) -> anyhow::Result<()> {
    let text = match args.format.unwrap_or_else(GateFormat::usual) {
        GateFormat::Text => report_text(checked),
        GateFormat::Json => checked.to_json().to_string(),
        GateFormat::Html => checked.to_page(contract, place, now_us).to_html(),
    };
    write_to(args.output.as_ref(), &text)
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
