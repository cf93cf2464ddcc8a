//! `driftwatt check`: may this file be used?

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, ensure};
use chrono::Utc;
use driftwatt_analyze::gates::{CheckedFile, Contract, Import, Oddity, RuleResult, Table, check_file};
use serde_json::Value;

use super::{GateArgs, RuleFormat};
use crate::{cli::ReportFormat, exit, terminal};

pub(super) async fn run(args: GateArgs) -> ExitCode {
    match check(&args).await {
        Ok(checked) => {
            match args.format.unwrap_or_else(ReportFormat::usual) {
                ReportFormat::Text => terminal::print(&text(&checked)),
                ReportFormat::Json => terminal::print(&checked.to_json().to_string()),
            }
            ExitCode::from(checked.outcome.exit_code())
        }
        Err(error) => exit::unchecked(&error),
    }
}

async fn check(args: &GateArgs) -> anyhow::Result<CheckedFile> {
    let table = table(args)?;
    ensure!(args.file.is_file(), "there is no file {}", args.file.display());
    let checked = check_file(&args.file, &table, Utc::now()).await?;
    if let Some(folder) = args.quarantine.as_ref().filter(|_| !checked.outcome.accepts()) {
        let held = hold_back(&args.file, folder, &checked)?;
        eprintln!("driftwatt: moved to {}; move it back to release it", held.display());
    }
    Ok(checked)
}

/// The rules; what a document says beyond them is told on standard error.
fn table(args: &GateArgs) -> anyhow::Result<Table> {
    let file = args.contract.display().to_string();
    let text = fs::read_to_string(&args.contract).with_context(|| format!("read {file}"))?;
    let imported = match args.rules {
        RuleFormat::Odcs => {
            let contract = Contract::from_odcs(&file, &text)?;
            for note in &contract.notes {
                eprintln!("driftwatt: {}: {}", note.place, note.text);
            }
            return Ok(contract.table(args.table.as_deref())?.clone());
        }
        RuleFormat::GreatExpectations => Import::from_great_expectations(&file, &text)?,
        RuleFormat::Dbt => Import::from_dbt(&file, &text)?,
        RuleFormat::Sagemaker => Import::from_sagemaker(&file, &text)?,
    };
    for unmapped in &imported.unmapped {
        eprintln!("driftwatt: {}: {} is not checked: {}", unmapped.place, unmapped.what, unmapped.reason);
    }
    Ok(imported.table(args.table.as_deref())?.clone())
}

/// Moves `file` and its report into `folder`; nothing there is overwritten. Where it is now.
fn hold_back(file: &Path, folder: &Path, checked: &CheckedFile) -> anyhow::Result<PathBuf> {
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
    if fs::rename(file, &held).is_err() {
        fs::copy(file, &held).with_context(|| format!("copy to {}", held.display()))?;
        fs::File::open(&held)?.sync_all().with_context(|| format!("sync {}", held.display()))?;
        fs::remove_file(file).with_context(|| format!("remove {}", file.display()))?;
    }
    Ok(held)
}

fn text(checked: &CheckedFile) -> String {
    let outcome = &checked.outcome;
    let mut text = format!(
        "{}: {}\n{} rows against {}; rules: {} passed, {} warn, {} failed, {} errors, {} skipped\n",
        terminal::plain(&checked.file),
        outcome.status.as_str().to_uppercase(),
        checked.rows,
        terminal::plain(&checked.table),
        outcome.passed,
        outcome.warned,
        outcome.failed,
        outcome.errors,
        outcome.skipped
    );
    let odd: Vec<String> = checked.name.oddities.iter().map(Oddity::to_string).collect();
    if !odd.is_empty() {
        text += &format!("name: {}\n", odd.join("; "));
    }
    let cells = |result: &RuleResult| {
        let failed = result.rows_failed.map_or(Value::Null, Value::from);
        let [status, metric] = [result.status.as_str(), result.metric];
        let column = result.column.clone().unwrap_or_default();
        vec![
            status.into(),
            metric.into(),
            column.into(),
            result.expected.clone().into(),
            result.observed.clone().into(),
            failed,
        ]
    };
    let mut results: Vec<_> = checked.results.iter().collect();
    results.sort_by_key(|result| std::cmp::Reverse(result.status));
    text += "\n";
    let names = ["status", "rule", "column", "expected", "observed", "rows failed"];
    text += &terminal::table(&names, results.iter().map(|result| cells(result)).collect());
    for result in results.iter().filter(|result| result.reason.is_some() || !result.samples.is_empty()) {
        let rows: Vec<String> = result
            .samples
            .iter()
            .map(|sample| {
                sample.key.as_ref().map_or_else(|| sample.row.to_string(), |key| format!("{} ({key})", sample.row))
            })
            .collect();
        let rows = if rows.is_empty() { String::new() } else { format!(" rows {}", rows.join(", ")) };
        let line = format!("{}:{rows} {}", result.rule_id, result.reason.as_deref().unwrap_or_default());
        text += &format!("{}\n", terminal::plain(line.trim_end()));
    }
    text
}
