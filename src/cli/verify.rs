//! `driftwatt verify`: is everything in a data directory what was written?

use std::{
    collections::BTreeMap,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::bail;
use driftwatt_store::{Fault, Note, VerifyReport};
use serde_json::{Value, json};

use super::{CheckArgs, ReportFormat};
use crate::{config::RawConfig, exit, terminal};

/// Work that takes less shows no progress.
const QUIET: Duration = Duration::from_secs(1);
/// Paths of one kind of note that are printed; JSON has all.
const NOTE_PATHS_MAX: usize = 5;

pub(super) async fn run(args: CheckArgs) -> ExitCode {
    match check(&args).await {
        Ok(report) => {
            match args.format() {
                ReportFormat::Text => terminal::print(&text(&args.data, &report)),
                ReportFormat::Json => terminal::print(&json(&report).to_string()),
            }
            if report.is_sound() { exit::SOUND } else { exit::faults() }
        }
        Err(error) => exit::unchecked(&error),
    }
}

async fn check(args: &CheckArgs) -> anyhow::Result<VerifyReport> {
    read_directory(args, "bytes checked", driftwatt_store::verify).await
}

/// Runs `read` on a thread for blocking work, with progress on standard error once it takes long.
pub(super) async fn read_directory<T: Send + 'static>(
    args: &CheckArgs,
    label: &'static str,
    read: impl FnOnce(&driftwatt_store::Config, &mut dyn FnMut(u64, u64)) -> driftwatt_store::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    if !args.data.join("tables").is_dir() {
        bail!("{} is not a Driftwatt data directory (it has no folder `tables`)", args.data.display());
    }
    let mut raw = RawConfig::read(args.config.as_ref())?;
    raw.server.data_dir = Some(args.data.clone());
    let config = raw.validate()?.store;
    let work = tokio::task::spawn_blocking(move || {
        let started = Instant::now();
        let mut shown: Option<terminal::Progress> = None;
        read(&config, &mut |done, total| {
            let progress = shown.get_or_insert_with(|| terminal::Progress::new(label, total));
            if started.elapsed() >= QUIET {
                progress.show(done.min(total));
            }
        })
    });
    Ok(work.await??)
}

fn text(data: &Path, report: &VerifyReport) -> String {
    let count = |count: u64| json!(count);
    let mut rows: Vec<Vec<Value>> = report
        .tables
        .iter()
        .map(|table| {
            let size = json!(terminal::size_text(table.size_bytes));
            vec![json!(table.name), count(table.file_count), count(table.row_count), size, count(table.fault_count)]
        })
        .collect();
    let wal = &report.wal;
    let size = json!(terminal::size_text(wal.size_bytes));
    rows.push(vec![json!("(log)"), count(wal.segment_count), count(wal.record_count), size, count(wal.fault_count)]);
    let mut text = terminal::table(&["table", "files", "rows", "size", "faults"], rows);
    for fault in &report.faults {
        text += &format!("\n{}\n", fault_text(fault));
    }
    for (kind, notes) in notes_by_kind(&report.notes) {
        let size = terminal::size_text(notes.iter().map(|note| note.size_bytes).sum());
        text += &format!("\n{}: {}, {size}, no fault\n", kind, notes.len());
        for note in notes.iter().take(NOTE_PATHS_MAX) {
            text += &format!("  {}\n", terminal::plain(&note.path.to_string_lossy()));
        }
        if notes.len() > NOTE_PATHS_MAX {
            text += &format!("  and {} more (all of them with --format json)\n", notes.len() - NOTE_PATHS_MAX);
        }
    }
    let data = data.display();
    text + &match report.faults.len() {
        0 => format!("\n{data} is sound\n"),
        1 => format!("\n{data} has 1 fault\n"),
        faults => format!("\n{data} has {faults} faults\n"),
    }
}

fn fault_text(fault: &Fault) -> String {
    let path = terminal::plain(&fault.path.to_string_lossy());
    let place = match (fault.offset, fault.row) {
        (Some(offset), _) => format!(" at byte {offset}"),
        (None, Some(row)) => format!(" at row {row}"),
        (None, None) => String::new(),
    };
    let message = terminal::plain(&fault.message);
    format!("{}: {path}{place}\n  {message}\n  to do: {}", fault.kind.as_str(), fault.kind.remedy())
}

fn notes_by_kind(notes: &[Note]) -> BTreeMap<&'static str, Vec<&Note>> {
    let mut kinds: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for note in notes {
        kinds.entry(note.kind.as_str()).or_default().push(note);
    }
    kinds
}

fn json(report: &VerifyReport) -> Value {
    let tables = report.tables.iter().map(|table| {
        json!({
            "name": table.name, "version": table.version, "files": table.file_count, "rows": table.row_count,
            "size_bytes": table.size_bytes, "faults": table.fault_count,
        })
    });
    let faults = report.faults.iter().map(|fault| {
        json!({
            "kind": fault.kind.as_str(), "path": fault.path.to_string_lossy(), "offset": fault.offset,
            "row": fault.row, "message": fault.message, "remedy": fault.kind.remedy(),
        })
    });
    let notes = report.notes.iter().map(|note| {
        json!({
            "kind": note.kind.as_str(), "path": note.path.to_string_lossy(), "size_bytes": note.size_bytes,
        })
    });
    json!({
        "sound": report.is_sound(),
        "wal": {
            "segments": report.wal.segment_count, "records": report.wal.record_count,
            "size_bytes": report.wal.size_bytes, "faults": report.wal.fault_count,
        },
        "tables": tables.collect::<Vec<_>>(),
        "faults": faults.collect::<Vec<_>>(),
        "notes": notes.collect::<Vec<_>>(),
    })
}
